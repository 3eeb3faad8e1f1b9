"""What `taskstats run` adds to a command that makes many processes, beside others that account."""

import json
import resource
import subprocess
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pytest
from figures import Figures, nanoseconds
from rivals import ours, perf, strace, time

ROUNDS = 5

#: Side -> what stands before the command.
COMMANDS: dict[str, Sequence[str]] = {
    "nobody": (),
    "ours": ours.COMMAND,
    "time": time.COMMAND,
    "perf": perf.COMMAND,
    "strace": strace.COMMAND,
}


def making(children: int) -> list[str]:
    """A command with so many short-lived children, one after the other."""
    return ["sh", "-c", f"i=0; while [ $i -lt {children} ]; do /bin/true; i=$((i+1)); done"]


def used_ns() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (usage.ru_utime + usage.ru_stime) * 1e9


def costs(before: Sequence[str], children: int) -> tuple[float, float]:
    """ns of wall time, and of CPU time of all processes."""
    cpu = used_ns()
    wall = nanoseconds(partial(subprocess.run, [*before, *making(children)], check=True))
    return wall, used_ns() - cpu


def our_costs(report: Path, children: int) -> tuple[float, float]:
    """The same; each process must have been accounted for."""
    found = costs([*ours.COMMAND, "--json", str(report)], children)
    told = json.loads(report.read_text())
    assert (told["total"]["processes"], told["complete"]) == (children + 1, True)
    return found


@pytest.mark.parametrize("children", [1, 2_000])
def test_a_command(figures: Figures, tmp_path: Path, children: int) -> None:
    sides = {name: partial(costs, before, children) for name, before in COMMANDS.items()}
    sides["ours"] = partial(our_costs, tmp_path / "report", children)
    seen = figures.turns(sides, rounds=ROUNDS)
    for at, what in enumerate(("wall time of a command", "CPU time of a command")):
        figures.compare(
            what,
            {name: [both[at] for both in times] for name, times in seen.items()},
            at={"children": children},
        )
