"""`--format`: GNU time's figures, in its digits."""

import dataclasses
import re
import shutil
import subprocess
from typing import Any

import pytest
from support.costs import costs

from taskstats import launch
from taskstats.cli import gnu_time

MS = 1_000_000


def written(text: str, **usage: Any) -> str:
    made = costs()
    wall = usage.pop("wall_ns", 2000 * MS)
    status = usage.pop("status", 0)
    ended = launch.Ended(status, wall, launch.Usage(**usage), launch.Usage())
    return gnu_time.line(gnu_time.parse(text), dataclasses.replace(made, ended=ended))


@pytest.mark.parametrize(
    ("text", "usage", "line"),
    [
        ("%e", {"wall_ns": 1_239_999_999}, "1.23"),
        ("%E", {"wall_ns": 61_050 * MS}, "1:01.05"),
        ("%E", {"wall_ns": 3_661_900 * MS}, "1:01:01"),
        ("%U %S", {"user_ns": 10 * MS, "system_ns": 1_509 * MS}, "0.01 1.50"),
        ("%P", {"user_ns": 999 * MS, "wall_ns": 2000 * MS}, "49%"),
        ("%P", {"wall_ns": 999_999}, "?%"),
        ("%M", {"max_rss_bytes": 5 << 20}, "5120"),
        ("%M", {"max_rss_bytes": None}, "2048"),  # the records' own
        ("%F %R %w %c", {"major_faults": 1, "minor_faults": 2, "voluntary_switches": 3}, "1 2 3 0"),
        ("%I %O", {"block_inputs": 8, "block_outputs": 16}, "8 16"),
        ("%x", {"status": 0x300}, "3"),
        ("%x", {"status": 9}, "137"),
        ("%C|100%%", {}, "make -j4|100%"),
        (r"a\tb\nc\\d\e", {}, "a\tb\nc\\d\\e"),
    ],
)
def test_figures(text: str, usage: dict[str, Any], line: str) -> None:
    assert written(text, **usage) == line


@pytest.mark.parametrize("letter", gnu_time._UNCOUNTED)
def test_what_linux_does_not_count_is_no_zero(letter: str) -> None:
    with pytest.raises(ValueError, match=f"%{letter} is counted nowhere"):
        gnu_time.parse(f"%e %{letter}")


@pytest.mark.parametrize("text", ["%", "%e %y", "100%", "%é"])
def test_what_there_is_not(text: str) -> None:
    with pytest.raises(ValueError, match="no figure"):
        gnu_time.parse(text)


@pytest.mark.skipif(not shutil.which("time"), reason="GNU time is not here")
def test_gnu_time_has_the_same_shape() -> None:
    """All figures that both have, for a command of which most are the same each time."""
    text = "%e|%E|%U|%S|%P|%F|%R|%c|%w|%x|%C|%Z|%%"
    command = ["sh", "-c", "exit 3"]
    path = shutil.which("time")
    done = subprocess.run([path, "-f", text, *command], capture_output=True, text=True)  # type: ignore[list-item]
    theirs = done.stderr.splitlines()[-1]
    made = dataclasses.replace(costs(status=0x300), words=command)
    ours = gnu_time.line(gnu_time.parse(text), made)
    assert re.sub(r"\d+", "0", ours) == re.sub(r"\d+", "0", theirs)
    assert ours.split("|")[9:] == theirs.split("|")[9:]
