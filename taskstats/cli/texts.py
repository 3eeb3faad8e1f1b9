"""Figures as people read them: times, sizes, statuses, names."""

import pwd
import re
import signal
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import cache
from typing import Any

from rich.cells import cell_len

from taskstats.cgroups import cgroup_identity
from taskstats.fields import DELAY_FIELDS, DELAYS, FIELDS
from taskstats.processes import PROCESS_KEYS
from taskstats.totals import TOTALS_KEYS

ABSENT = "-"
NOT_MEASURED = "n/m"

Row = Mapping[str, Any]


def printable(name: str) -> str:
    r"""The name with control characters as \xNN: a task may call itself anything.

    So are bytes of an argument that are no text, which Python has as surrogates.
    """
    return "".join(c if c.isprintable() else f"\\x{_code(c):02x}" for c in name)


def printable_lines(text: str) -> str:
    """Return the text with control characters escaped as in `printable`, but for its newlines.

    It is for texts with paths and names in them that nobody has checked.
    """
    return "\n".join(map(printable, text.split("\n")))


def _code(character: str) -> int:
    code = ord(character)
    return code - 0xDC00 if 0xDC80 <= code <= 0xDCFF else code


def three_digits(value: float) -> str:
    """Three digits that count: 1.23, 12.3, 123."""
    return f"{value:.{0 if value >= 99.95 else 1 if value >= 9.995 else 2}f}"


def duration(ns: float) -> str:
    """A time, at most seven characters."""
    if ns < 999.5:
        return f"{ns:.0f} ns"
    for unit, size in (("us", 1e3), ("ms", 1e6), ("s", 1e9)):
        if ns < 999.5 * size and (unit != "s" or ns < 99.95e9):
            return f"{three_digits(ns / size)} {unit}"
    minutes, seconds = divmod(round(ns / 1e9), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d {hours:02}h"
    return f"{hours}h {minutes:02}m" if hours else f"{minutes}m {seconds:02}s"


def size(count: float) -> str:
    """Bytes in binary units."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if count < 1023.5:
            return f"{count:.0f} B" if unit == "B" else f"{three_digits(count)} {unit}"
        count /= 1024
    return f"{three_digits(count)} PiB"


def clock(ns: int) -> str:
    """The local time of day, to the millisecond."""
    return datetime.fromtimestamp(ns / 1e9).isoformat(timespec="milliseconds")[11:]


def moment(seconds: float) -> str:
    """The local date and time, to the second; the bare number if no calendar has it."""
    try:
        return datetime.fromtimestamp(seconds).isoformat(" ", "seconds")
    except (ValueError, OverflowError, OSError):
        return f"{seconds} s?"


@cache
def user(uid: int) -> str:
    """The user's name, or the number where it has none."""
    try:
        return printable(pwd.getpwuid(uid).pw_name)
    except (KeyError, OverflowError):
        return str(uid)


def status(code: int | None, number: int | None, certain: bool = True) -> str:
    """How it ended: 0, FAIL 1, KILL (9); "?" behind what another thread contradicts."""
    if number is not None:
        try:
            text = f"{signal.Signals(number).name.removeprefix('SIG')} ({number})"
        except ValueError:
            text = f"SIG ({number})"
    elif code is None:
        return ABSENT
    else:
        text = f"FAIL {code}" if code else "0"
    return text if certain else f"{text}?"


# ---- cgroups ---------------------------------------------------------------------------------

_LONG_ID = re.compile(r"([0-9a-f]{12})[0-9a-f]{52}(?![0-9a-f])")
_CUT = "…"


def short_cgroup(path: str, width: int) -> str:
    """The path of a cgroup in so many cells, with its innermost names.

    "…" replaces the outer cgroups, and what follows the first 12 digits of a container id. If the
    name of the container or unit still does not fit, its middle is cut.
    """
    return next(text for text in _shorter(path, width) if cell_len(text) <= width)


def _shorter(path: str, width: int) -> Iterator[str]:
    """The path, shorter each time; the last one fits."""
    yield path
    identity = cgroup_identity(path)
    name = identity.container or identity.machine or identity.user_unit or identity.unit
    name = _LONG_ID.sub(r"\1", name or path.rpartition("/")[2])
    path = _LONG_ID.sub(rf"\1{_CUT}", path)
    yield path
    for at, character in enumerate(path):
        if at and character == "/" and name in path[at:]:
            yield _CUT + path[at:]
    yield name
    for kept in range(width - 1, -1, -1):
        yield name[: kept - kept // 2] + _CUT + name[len(name) - kept // 2 :]


# ---- any key of a row ------------------------------------------------------------------------

#: key -> unit, of the kernel's fields and of what a process's line has besides.
UNITS = {name: field.unit for name, field in FIELDS.items()}
UNITS |= {name: unit for name, (unit, _) in {**TOTALS_KEYS, **PROCESS_KEYS}.items()}

_OF_UNIT = {
    "ns": duration,
    "us": lambda us: duration(us * 1e3),
    "s": lambda seconds: duration(seconds * 1e9),
    "bytes": size,
    "KiB": lambda kib: size(kib * 1024),
    "s since epoch": moment,
    "ns since epoch": lambda ns: moment(ns / 1e9) if ns else ABSENT,
    "text": printable,
}

_DELAY_TOTALS = {f"{name}_delay_total" for name in DELAYS}

#: Where 0 means that the kernel does not know.
_UNKNOWN_AT_0 = {"cpu_run_virtual_total", "hiwater_rss", "hiwater_vm"}


def is_unmeasured(row: Row, name: str) -> bool:
    """Whether the field is of a delay that was not measured for this row: 0 would be false."""
    return name in DELAY_FIELDS and name in row and not row[name] and not row["delays_measured"]


def is_doubtful(row: Row, name: str) -> bool:
    """Whether the field is a delay that may be longer than its task has lived.

    Of a process with several threads that cannot be told from the sums: each is in doubt.
    """
    if name not in _DELAY_TOTALS or not row.get("delay_exceeds_elapsed") or not row.get(name):
        return False
    if row["kind"] == "process" and not (row["threads"] == 1 and row.get("complete", True)):
        return True
    elapsed = row["elapsed_seconds"] * 1e6 if row["kind"] == "process" else row["ac_etime"]
    return bool(row[name] > (round(elapsed) + 1) * 1000)  # rounded down to microseconds


def without_unmeasured(row: dict[str, Any]) -> dict[str, Any]:
    """The row with None for every delay that was not measured."""
    row.update((name, None) for name in DELAY_FIELDS if is_unmeasured(row, name))
    return row


def of(row: Row, name: str) -> str:
    """The row's value as people read it."""
    if is_unmeasured(row, name):
        return NOT_MEASURED
    value = row.get(name)
    if value is None or (value == 0 and name in _UNKNOWN_AT_0):
        return ABSENT
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = _OF_UNIT.get(UNITS.get(name, ""), str)(value)
    return f"{text}?" if is_doubtful(row, name) else text
