"""A storm of exits on one CPU, and what hearing it on the other costs."""

import os
import signal
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
from consumers import (
    RCVBUF,
    ROOM,
    ROOMY,
    STORM_CPU,
    Blown,
    Consumer,
    Heard,
    assert_kept_up,
    blow,
    floor,
    hear,
    needs_two_cpus,
    rival,
)
from figures import Figures
from floors import Floors
from support.storm import Storm

ROUNDS = 5
STOPPED = 0.5

#: Exits a second (None: as many as can be) -> how many, what the CPU of a record is to be.
STORMS: dict[int | None, tuple[int, dict[str, float]]] = {
    1_000: (1_000, {}),
    5_000: (5_000, {}),
    20_000: (20_000, {"coalesced": 1.3, "eager": 1 / 4, "pyroute2": 1 / 40}),
    None: (ROOM, {"coalesced": 1.3, "eager": 1 / 4, "pyroute2": 1 / 40}),
}


def hear_all(command: Sequence[str], exits: int, rate: int | None) -> tuple[Blown, Heard]:
    """A storm beside a consumer that has room for all of it, and so hears all of it."""
    blown, heard = hear(Storm("threads", cpu=STORM_CPU, exits=exits, rate=rate), command)
    assert (blown.exits, heard.records, heard.dropped) == (exits, exits, 0)
    assert heard.lost in (0, None)
    return blown, heard


def alone(exits: int, rate: int | None) -> tuple[Blown, None]:
    with Storm("threads", cpu=STORM_CPU, exits=exits, rate=rate) as storm:
        return blow(storm), None


@pytest.mark.parametrize("rate", STORMS)
def test_storm(figures: Figures, floors: Floors, benchmark: Any, rate: int | None) -> None:
    needs_two_cpus()
    exits, targets = STORMS[rate]
    commands = {
        "ours": rival("ours", **ROOMY),
        "ours, record by record": rival("ours", by_record=True, **ROOMY),
        "coalesced": floor(floors.program("coalesced"), RCVBUF),
        "eager": floor(floors.program("eager"), RCVBUF),
        "sockets": rival("sockets", rcvbuf=RCVBUF),
        "pyroute2": rival("pyroute2", rcvbuf=RCVBUF),
    }
    seen = figures.turns(
        {"nobody": partial(alone, exits, rate)}
        | {name: partial(hear_all, command, exits, rate) for name, command in commands.items()},
        rounds=ROUNDS,
        warm_up=0,
    )
    assert_kept_up(seen, rate or 0, benchmark)
    at = {"exits/s": rate or "as many as can be"}
    used = {name: [heard.cpu_ns / exits for _, heard in seen[name] if heard] for name in commands}
    figures.compare("CPU a record", used, at=at, targets=targets)
    own = {name: [blown.cpu_ns for blown, _ in both] for name, both in seen.items()}
    figures.compare("the storm's own CPU an exit, beside", own, at=at)
    if rate is None:  # with a pace it is the pace's
        took = {name: [1e9 / blown.rate for blown, _ in both] for name, both in seen.items()}
        figures.compare("the storm's own time an exit, beside", took, at=at)
    figures.value("made alone", [blown.rate for blown, _ in seen["nobody"]], "exits/s", at=at)
    gathered = [exits / heard.wakeups for _, heard in seen["ours"] if heard]
    figures.value("records a wakeup of ours", gathered, at=at)


def test_a_stopped_listener(figures: Figures) -> None:
    needs_two_cpus()

    def stopped() -> tuple[int, int]:
        with (
            Storm("threads", cpu=STORM_CPU) as storm,
            Consumer(rival("ours", **ROOMY), storm) as consumer,
        ):
            storm.begin()
            os.kill(consumer.pid, signal.SIGSTOP)
            time.sleep(STOPPED)
            queued = consumer.queued()
            os.kill(consumer.pid, signal.SIGCONT)
            made = storm.finish()
            consumer.settle()
            heard = consumer.finish()
        assert heard.lost == heard.dropped
        assert heard.records <= made <= heard.records + heard.lost
        return heard.lost, queued

    seen = figures.turns({"ours": stopped}, rounds=ROUNDS, warm_up=0)["ours"]
    figures.value("a storm, stopped for half a second: lost", [n for n, _ in seen], "", at_most=0)
    figures.value("a storm, stopped for half a second: queued", [n for _, n in seen], "bytes")
