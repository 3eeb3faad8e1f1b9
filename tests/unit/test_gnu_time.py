"""--format as GNU time has it: against GNU time itself, and what is refused."""

import os
import random
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from support import compiled

from taskstats.cli import gnu_time
from taskstats.cli.gnu_time import SPECIFIERS, UNCOUNTED, Values

GNU_TIME = shutil.which("time") or "time"
EVERY = "|".join(f"%{name}" for name in SPECIFIERS)
WORDS = ("/bin/true", "two  words", "50%")

SOME = Values(
    wall_seconds=1.25,
    user_seconds=0.75,
    system_seconds=0.5,
    max_rss_bytes=3_000_000,
    status=3 << 8,
    minor_faults=11,
    major_faults=12,
    voluntary_switches=13,
    involuntary_switches=14,
    block_inputs=15,
    block_outputs=16,
    words=WORDS,
)


def rendered(text: str, values: Values = SOME) -> str:
    return gnu_time.render(gnu_time.parse(text), values)


def test_a_command_writes_no_escape_sequence() -> None:
    values = replace(SOME, words=("a\x1b[2J", "b\nc", "\udcff"))
    assert rendered("%C\\n", values) == "a\\x1b[2J b\\x0ac \\xff\n"


# ---- beside GNU time -------------------------------------------------------------------------


def is_gnu_time() -> bool:
    """Busybox has a `time` too, which does not say so."""
    try:
        told = subprocess.run([GNU_TIME, "--version"], capture_output=True, text=True)
    except FileNotFoundError:
        return False
    return "GNU" in told.stdout


@pytest.fixture(scope="module")
def preloaded() -> Path:
    if not is_gnu_time():
        pytest.skip("GNU time is not installed (Debian: time)")
    return compiled.program("same_usage", Path(compiled.__file__).parent, "-shared", "-fPIC")


def told_by_gnu_time(preloaded: Path, text: str, values: Values) -> str:
    """What GNU time writes on exactly these values, without what it says of the status."""
    times = (values.wall_seconds, values.user_seconds, values.system_seconds)
    counts = (
        values.status,
        (values.max_rss_bytes or 0) // 1024,
        values.minor_faults,
        values.major_faults,
        values.voluntary_switches,
        values.involuntary_switches,
        values.block_inputs,
        values.block_outputs,
    )
    usage = [*(round(seconds * 1_000_000) for seconds in times), *counts]
    told = subprocess.run(
        [GNU_TIME, "-q", "-f", text, *values.words],
        env={"LD_PRELOAD": str(preloaded), "USAGE": " ".join(map(str, usage))},
        stderr=subprocess.PIPE,
        text=True,
    )
    return told.stderr.removesuffix("\n")


@pytest.mark.parametrize(
    ("wall", "user", "system"),
    [
        (0, 0, 0),
        (0, 5, 5),  # no share can be told
        (0.000_999, 0.000_998, 0.5),  # of less than a millisecond, to the microsecond
        (0.001, 0.001_999, 0.000_999),
        (0.29, 0.57, 1.13),  # * 100 is less than a whole number
        (0.009_999, 0.009_999, 0.01),
        (59.999_999, 30, 29.999_999),
        (60, 60, 60),
        (3599.999_999, 1, 1),
        (3600, 7200, 0.5),
        (360_000.25, 1, 1),
    ],
)
def test_times_as_gnu_time_writes_them(
    preloaded: Path, wall: float, user: float, system: float
) -> None:
    values = replace(SOME, wall_seconds=wall, user_seconds=user, system_seconds=system)
    assert rendered(EVERY, values) == told_by_gnu_time(preloaded, EVERY, values)


def test_any_values_as_gnu_time_writes_them(preloaded: Path) -> None:
    chosen = random.Random(1)
    for _ in range(100):
        wall, user, system = (chosen.randrange(10 ** chosen.randrange(1, 12)) for _ in range(3))
        if wall < 1000:  # there GNU time leaves out whole seconds of CPU time
            user, system = user % 1_000_000, system % 1_000_000
        counts = [chosen.randrange(10 ** chosen.randrange(1, 12)) for _ in range(7)]
        values = Values(
            wall / 1e6,
            user / 1e6,
            system / 1e6,
            counts[0],
            chosen.randrange(256) << 8,
            *counts[1:],
            words=WORDS,
        )
        assert rendered(EVERY, values) == told_by_gnu_time(preloaded, EVERY, values)


def test_text_as_gnu_time_writes_it(preloaded: Path) -> None:
    text = r"a\tb\nc\\n%%e %e%%\\"
    assert rendered(text) == told_by_gnu_time(preloaded, text, SOME)


def test_a_signal_leaves_no_exit_status(preloaded: Path) -> None:
    killed = replace(SOME, status=9)
    assert told_by_gnu_time(preloaded, "%x", killed) == "0"
    assert rendered("%x", killed) == "?"


def test_gnu_time_has_these_besides_and_writes_0(preloaded: Path) -> None:
    text = "".join(f"%{name}" for name in UNCOUNTED)
    assert told_by_gnu_time(preloaded, text, SOME) == "0" * len(UNCOUNTED)


# ---- by itself -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("%e %U %S %M", "1.25 0.75 0.50 2929"),
        ("%E %P", "0:01.25 100%"),
        ("%F %R %w %c %I %O %x", "12 11 13 14 15 16 3"),
        ("%C", "/bin/true two  words 50%"),
        ("%Z", str(os.sysconf("SC_PAGE_SIZE"))),
        ("", ""),
        (r"%%\t\n\\é", "%\t\n\\é"),
    ],
)
def test_rendered(text: str, expected: str) -> None:
    assert rendered(text) == expected


def test_a_command_is_never_read_as_a_format() -> None:
    assert rendered("%C", replace(SOME, words=("%e", r"\n"))) == r"%e \n"


def test_what_is_not_to_be_had_is_no_0() -> None:
    nothing = replace(
        SOME,
        max_rss_bytes=None,
        minor_faults=None,
        major_faults=None,
        voluntary_switches=None,
        involuntary_switches=None,
        block_inputs=None,
        block_outputs=None,
    )
    assert rendered("%M %R %F %w %c %I %O", nothing) == "? ? ? ? ? ? ?"
    assert rendered("%M %R", replace(nothing, max_rss_bytes=0, minor_faults=0)) == "0 0"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("%e %q", "there is no %q; known are %e %E "),
        ("%e %", "a % stands at the end (%% writes one); known are %e "),
        ("%%%", "a % stands at the end (%% writes one); known are %e "),
        ("% e", "there is no % ; known are %e "),
        (r"\a", r"there is no \a; known are \t \n \\"),
        ("%e\\", r"a \ stands at the end (\\ writes one); known are \t \n \\"),
        ("%K", "%K is the average memory use, which Linux does not count; known are %e "),
    ],
)
def test_refused_before_anything_runs(text: str, told: str) -> None:
    with pytest.raises(ValueError, match="known are") as refused:
        gnu_time.parse(text)
    assert str(refused.value).startswith(told)


@pytest.mark.parametrize("name", UNCOUNTED)
def test_what_linux_never_counts_is_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match=f"^%{name} is .*, which Linux does not count"):
        gnu_time.parse(f"%e %{name}")
