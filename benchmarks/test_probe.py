"""What complete records cost: the one who hears them, those who exit, and those who switch."""

import subprocess
from functools import partial
from pathlib import Path
from typing import Literal

import pytest
from consumers import (
    ROOM,
    ROOMY,
    STORM_CPU,
    Blown,
    Consumer,
    Heard,
    hear,
    needs_two_cpus,
    rival,
)
from figures import Figures
from support import compiled
from support.requirements import needs_probe
from support.storm import Storm

ROUNDS = 9
MOST_OF_HEARING = 1.25
MOST_OF_THE_WORKLOAD = 1.05

SIDES = {
    "ours": rival("ours", probe="require", **ROOMY),
    "ours, without a probe": rival("ours", **ROOMY),
}

#: Exits a second (None: as many as can be) -> how many.
STORMS: dict[int | None, int] = {20_000: 20_000, None: ROOM}

#: Tasks on one CPU that switch in turn, as many times as this.
TASKS = (2, 64)
SWITCHES = 1_000_000


def hear_all(
    command: list[str], kind: Literal["threads", "processes"], exits: int, rate: int | None
) -> tuple[Blown, Heard]:
    """A storm beside a listener that hears all of it."""
    blown, heard = hear(Storm(kind, cpu=STORM_CPU, exits=exits, rate=rate), command)
    assert (blown.exits, heard.records, heard.lost) == (exits, exits, 0)
    return blown, heard


@pytest.mark.parametrize("kind", ["threads", "processes"])
@pytest.mark.parametrize("rate", STORMS)
def test_hearing(figures: Figures, rate: int | None, kind: Literal["threads", "processes"]) -> None:
    needs_two_cpus()
    needs_probe()
    exits = STORMS[rate]
    seen = figures.turns(
        {name: partial(hear_all, command, kind, exits, rate) for name, command in SIDES.items()},
        rounds=ROUNDS,
    )
    at = {"exits/s": rate or "as many as can be", "of": kind}
    used = {name: [heard.cpu_ns / exits for _, heard in both] for name, both in seen.items()}
    targets = {"ours, without a probe": MOST_OF_HEARING}
    figures.compare("CPU a record", used, at=at, targets=targets)
    own = {name: [blown.cpu_ns for blown, _ in both] for name, both in seen.items()}
    targets = {"ours, without a probe": MOST_OF_THE_WORKLOAD}
    figures.compare("the storm's own CPU an exit, beside", own, at=at, targets=targets)


def switch(command: list[str], tasks: int) -> float:
    """ns a switch of tasks that hand a byte round, beside a listener."""
    program = compiled.program("switches", Path(__file__).parent)
    with Consumer(command):
        words = [program, str(STORM_CPU), str(tasks), str(SWITCHES)]
        printed = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    took, counted = map(int, printed.split())
    assert counted >= SWITCHES
    return took / SWITCHES


@pytest.mark.parametrize("tasks", TASKS)
def test_switching(figures: Figures, tasks: int) -> None:
    needs_two_cpus()
    needs_probe()
    seen = figures.turns(
        {name: partial(switch, command, tasks) for name, command in SIDES.items()}, rounds=ROUNDS
    )
    targets = {"ours, without a probe": MOST_OF_THE_WORKLOAD}
    figures.compare("a switch, beside", seen, at={"tasks": tasks}, targets=targets)
