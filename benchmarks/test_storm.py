"""A storm of exits on one CPU, and what hearing it on the other costs."""

import os
import signal
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
from consumers import CONSUMER_CPU, OURS, STORM_CPU, Blown, Consumer, Heard, blow, script
from figures import Figures
from floors import Floors
from support.storm import Storm

ROUNDS = 5
STOPPED = 0.5

pytestmark = pytest.mark.skipif(STORM_CPU == CONSUMER_CPU, reason="needs two CPUs")


def hear(
    command: Sequence[Any] | None, exits: int, rate: int | None, may_lose: bool = False
) -> tuple[Blown, Heard]:
    """A storm beside a consumer, or alone."""
    with Storm("threads", cpu=STORM_CPU, exits=exits, rate=rate) as storm:
        if command is None:
            return blow(storm), Heard(exits, 0, 0)
        with Consumer(command, storm) as consumer:
            blown = blow(storm)
            heard = consumer.finish()
    assert blown.exits == exits
    assert may_lose or (heard.records, heard.lost) == (exits, 0)
    return blown, heard


@pytest.mark.parametrize(("exits", "rate"), [(50_000, None), (20_000, 20_000)])
def test_storm(figures: Figures, floors: Floors, exits: int, rate: int | None) -> None:
    commands: dict[str, Sequence[Any] | None] = {
        "nobody": None,
        "ours": OURS,
        "coalesced": [floors.program("coalesced")],
        "eager": [floors.program("eager")],
        "pyroute2": script("pyroute2_exits"),
    }
    seen = figures.turns(
        {
            name: partial(hear, command, exits, rate, may_lose=name == "pyroute2")
            for name, command in commands.items()
        },
        rounds=ROUNDS,
        warm_up=0,
    )
    storm = "a paced storm" if rate else "a storm"
    rates = [blown.rate for blown, _ in seen["nobody"]]
    figures.value(f"{storm}, alone", rates, "exits/s")

    heard = {name: [one.cpu_ns / one.records for _, one in both] for name, both in seen.items()}
    del heard["nobody"]
    figures.compare(
        f"{storm}, CPU a record",
        heard,
        targets={"coalesced": 1.3, "eager": 1 / 4, "pyroute2": 1 / 40},
    )
    made = {name: [one.cpu_ns for one, _ in both] for name, both in seen.items()}
    figures.compare(f"{storm}, its own CPU an exit, beside", made)
    gathered = [one.records / one.wakeups for _, one in seen["ours"]]
    figures.value(f"{storm}, records a wakeup of ours", gathered, "")
    missed = [exits - one.records for _, one in seen["pyroute2"]]
    figures.value(f"{storm}, missed by pyroute2", missed, f"of {exits:,}")


def test_a_stopped_listener(figures: Figures) -> None:
    def stopped() -> tuple[int, int]:
        with (
            Storm("threads", cpu=STORM_CPU) as storm,
            Consumer(OURS, storm) as consumer,
        ):
            storm.begin()
            os.kill(consumer.pid, signal.SIGSTOP)
            time.sleep(STOPPED)
            queued = consumer.queued()
            os.kill(consumer.pid, signal.SIGCONT)
            made = storm.finish()
            heard = consumer.finish()
        assert heard.records <= made <= heard.records + heard.lost
        return heard.lost, queued

    seen = figures.turns({"ours": stopped}, rounds=ROUNDS, warm_up=0)["ours"]
    figures.value("a storm, stopped for half a second: lost", [n for n, _ in seen], "", at_most=0)
    figures.value("a storm, stopped for half a second: queued", [n for _, n in seen], "bytes")
