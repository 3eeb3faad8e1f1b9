r"""The format of GNU time's --format (time(1)): parsed before the command runs, rendered after.

Units and digits are GNU's, with four differences. What GNU time does not know (it writes `?` and
goes on), and what Linux never counts (it writes 0), is refused by `parse`. A figure that is not to
be had is written `?`, and so is the exit status of a command that a signal ended (it writes 0). In
the command (%C), control characters and bytes that are not UTF-8 are escaped as \xNN, in a file
too: an argument can neither write escape sequences to a terminal nor begin a line.
"""

import os
import resource
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from taskstats.cli import texts
from taskstats.cost import Cost

_UNKNOWN = "?"


@dataclass(frozen=True, slots=True)
class Values:
    """What a command cost. None stands for what is not to be had.

    Attributes:
        wall_seconds: From its start to its end.
        user_seconds: CPU time in user mode.
        system_seconds: CPU time in the kernel.
        max_rss_bytes: The largest resident set that one of its processes had.
        status: Its wait status, as waitpid(2) gives it.
        minor_faults: Page faults without I/O.
        major_faults: Those with I/O.
        voluntary_switches: Context switches because it waited.
        involuntary_switches: Those because its time was up, or another was more urgent.
        block_inputs: Blocks of 512 bytes read from storage.
        block_outputs: Those written.
        words: The command.
    """

    wall_seconds: float
    user_seconds: float
    system_seconds: float
    max_rss_bytes: int | None
    status: int
    minor_faults: int | None
    major_faults: int | None
    voluntary_switches: int | None
    involuntary_switches: int | None
    block_inputs: int | None
    block_outputs: int | None
    words: tuple[str, ...]

    @classmethod
    def of(cls, cost: Cost) -> "Values":
        """The figures of a command: wait4's, and the largest resident size that is known."""
        used = cost.ended.usage
        peaks = used.max_rss_bytes or 0, cost.usage.total.peak_rss_bytes or 0
        return cls(
            wall_seconds=cost.ended.wall_ns / 1e9,
            user_seconds=used.user_ns / 1e9,
            system_seconds=used.system_ns / 1e9,
            max_rss_bytes=max(peaks) or None,
            status=cost.ended.status,
            minor_faults=used.minor_faults,
            major_faults=used.major_faults,
            voluntary_switches=used.voluntary_switches,
            involuntary_switches=used.involuntary_switches,
            block_inputs=used.block_inputs,
            block_outputs=used.block_outputs,
            words=tuple(cost.words),
        )


#: Literal text, or what writes a figure.
Part = str | Callable[[Values], str]


def parse(text: str) -> tuple[Part, ...]:
    """The parts of a format.

    Raises:
        ValueError: It has a specifier or an escape that there is not, or one of a figure that
            Linux does not count; the message is for people.
    """
    return tuple(_parts(text))


def render(parts: tuple[Part, ...], values: Values) -> str:
    """The line that GNU time would write, without the newline at its end."""
    return "".join(part if isinstance(part, str) else part(values) for part in parts)


def _parts(text: str) -> Iterator[Part]:
    characters = iter(text)
    for character in characters:
        if character == "%":
            yield _specified(next(characters, ""))
        elif character == "\\":
            yield _escaped(next(characters, ""))
        else:
            yield character


def _specified(name: str) -> Part:
    if name in SPECIFIERS:
        return SPECIFIERS[name]
    known = f"known are {' '.join(f'%{one}' for one in SPECIFIERS)}"
    if name in UNCOUNTED:
        raise ValueError(f"%{name} is {UNCOUNTED[name]}, which Linux does not count; {known}")
    if not name:
        raise ValueError(f"a % stands at the end (%% writes one); {known}")
    raise ValueError(f"there is no %{name}; {known}")


def _escaped(name: str) -> str:
    if name in _ESCAPES:
        return _ESCAPES[name]
    known = r"known are \t \n \\"
    if not name:
        raise ValueError(f"a \\ stands at the end (\\\\ writes one); {known}")
    raise ValueError(f"there is no \\{name}; {known}")


_ESCAPES = {"t": "\t", "n": "\n", "\\": "\\"}


# ---- figures: summarize in time.c of GNU time 1.9 --------------------------------------------


def _microseconds(seconds: float) -> int:
    return round(seconds * 1_000_000)


def _in_hundredths(seconds: float) -> str:
    hundredths = _microseconds(seconds) // 10_000
    return f"{hundredths // 100}.{hundredths % 100:02}"


def _on_the_clock(values: Values) -> str:
    hundredths = _microseconds(values.wall_seconds) // 10_000
    minutes, seconds = divmod(hundredths // 100, 60)
    if minutes >= 60:
        return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
    return f"{minutes}:{seconds:02}.{hundredths % 100:02}"


def _cpu_share(values: Values) -> str:
    """Percent; of times cut to milliseconds each, unless it took less than one."""
    unit = 1000 if _microseconds(values.wall_seconds) >= 1000 else 1
    wall, user, system = (
        _microseconds(seconds) // unit
        for seconds in (values.wall_seconds, values.user_seconds, values.system_seconds)
    )
    return f"{(user + system) * 100 // wall}%" if wall else f"{_UNKNOWN}%"


def _kilobytes(values: Values) -> str:
    return _UNKNOWN if values.max_rss_bytes is None else str(values.max_rss_bytes // 1024)


def _exit_status(values: Values) -> str:
    return str(os.WEXITSTATUS(values.status)) if os.WIFEXITED(values.status) else _UNKNOWN


def _count(number: int | None) -> str:
    return _UNKNOWN if number is None else str(number)


#: What there is, in the order in which messages list it.
SPECIFIERS: Mapping[str, Part] = MappingProxyType(
    {
        "e": lambda values: _in_hundredths(values.wall_seconds),
        "E": _on_the_clock,
        "U": lambda values: _in_hundredths(values.user_seconds),
        "S": lambda values: _in_hundredths(values.system_seconds),
        "P": _cpu_share,
        "M": _kilobytes,
        "F": lambda values: _count(values.major_faults),
        "R": lambda values: _count(values.minor_faults),
        "c": lambda values: _count(values.involuntary_switches),
        "w": lambda values: _count(values.voluntary_switches),
        "I": lambda values: _count(values.block_inputs),
        "O": lambda values: _count(values.block_outputs),
        "x": _exit_status,
        "C": lambda values: texts.printable(" ".join(values.words)),
        "Z": lambda _: str(resource.getpagesize()),
        "%": "%",
    }
)

#: What GNU time has besides. No kernel fills these members of struct rusage (getrusage(2)).
UNCOUNTED: Mapping[str, str] = MappingProxyType(
    {
        "D": "the average size of unshared data",
        "K": "the average memory use",
        "p": "the average size of unshared stacks",
        "t": "the average resident set",
        "X": "the average size of shared text",
        "r": "the number of socket messages received",
        "s": "the number of socket messages sent",
        "k": "the number of signals delivered",
        "W": "the number of times it was swapped out",
    }
)
