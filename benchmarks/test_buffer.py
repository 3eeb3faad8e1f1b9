"""A listener with a buffer: what a record costs, and what is lost while its reader sleeps."""

import os
import signal
import time
from functools import partial
from typing import Any

import pytest
from consumers import (
    ROOM,
    ROOMY,
    STORM_CPU,
    Blown,
    Consumer,
    Heard,
    assert_kept_up,
    blow,
    needs_two_cpus,
    rival,
)
from figures import Figures
from support.storm import Storm

ROUNDS = 5
STOPPED = 0.5  # seconds
PASSED_ON = 0.1  # seconds for the last records to come from the thread to the reader
QUEUE = 8 << 20  # bytes of a CPU's queue: the exits of some 50 ms

#: Exits a second (None: as many as can be) -> how many.
STORMS = {1_000: 1_000, 5_000: 5_000, 20_000: 20_000, None: ROOM}

WAYS: dict[str, dict[str, Any]] = {"ours": {"buffer": None}, "ours, without a buffer": {}}


def hear_all(options: dict[str, Any], exits: int, rate: int | None) -> tuple[Blown, Heard]:
    with (
        Storm("threads", cpu=STORM_CPU, exits=exits, rate=rate) as storm,
        Consumer(rival("ours", **ROOMY, **options), storm) as consumer,
    ):
        blown = blow(storm)
        time.sleep(PASSED_ON)
        consumer.settle()
        heard = consumer.finish()
    assert (blown.exits, heard.records, heard.lost) == (exits, exits, 0)
    return blown, heard


@pytest.mark.parametrize("rate", STORMS)
def test_cpu_of_a_record(figures: Figures, benchmark: Any, rate: int | None) -> None:
    needs_two_cpus()
    exits = STORMS[rate]
    seen = figures.turns(
        {name: partial(hear_all, options, exits, rate) for name, options in WAYS.items()},
        rounds=ROUNDS,
        warm_up=0,
    )
    assert_kept_up(seen, rate or 0, benchmark)
    at = {"exits/s": rate or "as many as can be"}
    used = {name: [heard.cpu_ns / exits for _, heard in both] for name, both in seen.items()}
    figures.compare("CPU a record", used, at=at)
    own = {name: [blown.cpu_ns for blown, _ in both] for name, both in seen.items()}
    figures.compare("the storm's own CPU an exit, beside", own, at=at)


@pytest.mark.parametrize("name", WAYS)
def test_a_reader_that_sleeps(figures: Figures, name: str) -> None:
    """In a storm as fast as can be; the queues are too small for that time."""
    needs_two_cpus()
    queue = {"rcvbuf": QUEUE, "rcvbuf_total": 1 << 40}
    command = rival("ours", sleeps=STOPPED, **queue, **WAYS[name])

    def slept() -> tuple[int, int]:
        with Storm("threads", cpu=STORM_CPU) as storm, Consumer(command, storm) as consumer:
            storm.begin()
            os.kill(consumer.pid, signal.SIGUSR1)
            time.sleep(STOPPED)
            made = storm.finish()
            time.sleep(STOPPED)  # it has woken up
            consumer.settle()
            heard = consumer.finish()
        assert heard.lost == heard.dropped
        assert heard.records <= made <= heard.records + heard.lost
        return heard.lost, made

    seen = figures.turns({"ours": slept}, rounds=ROUNDS, warm_up=0)["ours"]
    at = {"listener": name}
    at_most = 0 if name == "ours" else None
    figures.value(
        "a reader that sleeps for half a second: lost", [n for n, _ in seen], at=at, at_most=at_most
    )
    figures.value("a reader that sleeps for half a second: exits", [n for _, n in seen], at=at)
