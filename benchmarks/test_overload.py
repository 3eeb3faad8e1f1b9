"""More exits than can be heard: what each loses, what the kernel counts, and what it says itself.

Everybody as it is by default, queues too, beside storms on every CPU; who is told ENOBUFS goes on.
The truth is the storms' own count.
"""

import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from consumers import SOCKETS, Consumer, Heard, floor, rival
from figures import Figures
from floors import Floors
from support.storm import CPUS, Storm

from taskstats import ExitListener
from taskstats.host import exits_by_the_books

SMALL = 1 << 20  # bytes of all queues of a consumer
RECORD = 1280  # bytes of a queue that one takes, at least
ROOM = 1 << 30
STOPPED = 0.5


@dataclass(frozen=True)
class Case:
    """What a consumer is put through.

    Attributes:
        exits: Of all storms together; None if it is stopped for a while, and they blow meanwhile.
        rate: Of all storms together; None for as many as can be.
        queue: Bytes of all its queues together; None for its default.
        rounds: How often.
    """

    exits: int | None = None
    rate: int | None = None
    queue: int | None = None
    rounds: int = 5


AS_MANY = "as many exits as can be"
SMALL_QUEUES = "stopped for half a second, all with 1 MiB to queue"

CASES = {
    "5,000 exits/s": Case(exits=5_000, rate=5_000),
    "20,000 exits/s": Case(exits=20_000, rate=20_000),
    AS_MANY: Case(exits=200_000 * SOCKETS, rounds=3),  # a queue of ours holds 79,000 at most
    "stopped for half a second": Case(),
    SMALL_QUEUES: Case(queue=SMALL),
}


def commands(floors: Floors, case: Case) -> dict[str, Sequence[str]]:
    """Those that hear, and one that looks."""
    options = {"rcvbuf": case.queue} if case.queue else {}
    each = {"rcvbuf": case.queue // SOCKETS} if case.queue else {}
    return {
        "ours": rival("ours", **each),
        "eager": floor(floors.program("eager"), case.queue or 0),
        "sockets": rival("sockets", **options),
        "pyroute2": rival("pyroute2", **options),
        "psutil": rival("psutil"),
    }


def storms_of(case: Case) -> Iterator[Storm]:
    """One on each CPU."""
    share = len(CPUS)
    exits, rate = case.exits and case.exits // share, case.rate and case.rate / share
    return (Storm("processes", cpu=cpu, exits=exits, rate=rate) for cpu in CPUS)


def blow(storms: Sequence[Storm], consumer: Consumer, case: Case) -> tuple[int, float]:
    """How many exits the storms made, and how many a second.

    The consumer has read what it will then.
    """
    start = time.perf_counter()
    for storm in storms:
        storm.begin()
    if case.exits is None:
        os.kill(consumer.pid, signal.SIGSTOP)
        time.sleep(STOPPED)
        os.kill(consumer.pid, signal.SIGCONT)
    made = sum(storm.finish() for storm in storms)
    rate = made / (time.perf_counter() - start)
    consumer.settle()
    return made, rate


# ---- everybody -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """The exits that were made, and what a consumer has of them.

    Attributes:
        made: By the storms.
        rate: Of them, a second.
        others: Exits of others meanwhile, by the kernel's books.
        heard: What the consumer says.
    """

    made: int
    rate: float
    others: int
    heard: Heard

    @property
    def lost(self) -> int:
        """The truth."""
        return self.made - self.heard.records

    def said(self) -> str:
        if self.heard.lost is not None:
            return f"{self.heard.lost:,} lost"
        return f"ENOBUFS x {self.heard.overruns:,}" if self.heard.overruns else "nothing"

    def knew(self) -> str:
        """Its own number may have others' exits in it, as the kernel's has, but no more."""
        if self.heard.lost is not None:
            if self.heard.lost > self.lost + self.others:
                return "too many"
            return "exactly" if self.lost <= self.heard.lost == self.heard.dropped else "too few"
        if self.heard.overruns:
            return "that some"
        return "no" if self.lost else "-"


def undergo(command: Sequence[str], case: Case) -> Outcome:
    with ExitStack() as stack:
        storms = [stack.enter_context(storm) for storm in storms_of(case)]
        before = exits_by_the_books()
        consumer = stack.enter_context(Consumer(command, *storms, cpus=CPUS))
        made, rate = blow(storms, consumer, case)
        heard = consumer.finish()
        return Outcome(made, rate, exits_by_the_books() - before - made, heard)


def row(tool: str, outcomes: Sequence[Outcome]) -> Mapping[str, Any]:
    """The round with the median of losses."""
    ordered = sorted(outcomes, key=lambda outcome: outcome.lost)
    one = ordered[len(ordered) // 2]
    return {
        "tool": tool,
        "queue": one.heard.queue or "-",
        "exits": one.made,
        "exits/s": round(one.rate),
        "seen": one.heard.records,
        "lost": one.lost,
        "lost in all rounds": f"{ordered[0].lost:,} to {ordered[-1].lost:,}",
        "dropped by the kernel": "-" if tool == "psutil" else one.heard.dropped,
        "exits of others": one.others,
        "it said": one.said(),
        "it knew": one.knew(),
    }


@pytest.mark.parametrize("what", CASES)
def test_overload(figures: Figures, floors: Floors, what: str) -> None:
    case = CASES[what]
    seen = figures.turns(
        {tool: partial(undergo, command, case) for tool, command in commands(floors, case).items()},
        rounds=case.rounds,
        warm_up=0,
    )
    everything = [outcome for outcomes in seen.values() for outcome in outcomes]
    for outcome in seen["ours"]:
        assert outcome.knew() == "exactly", outcome
    if case.queue:
        assert all(outcome.lost for outcome in seen["ours"]), "nothing was overloaded"
        queues = {one.heard.queue for one in everything if one.heard.queue}
        assert case.queue - 2 * SOCKETS < min(queues) <= max(queues) == case.queue
    if what == AS_MANY:
        assert all(one.made * RECORD > 2 * one.heard.queue for one in everything), "it all fits"
    figures.rows(f"overload: {what}", [row(tool, outcomes) for tool, outcomes in seen.items()])


# ---- ours, to the last exit ------------------------------------------------------------------


def witness() -> ExitListener:
    """Hears all the same exits, and has room for them."""
    return ExitListener(rcvbuf=ROOM, rcvbuf_total=ROOM * SOCKETS)


def count(listener: ExitListener) -> int:
    """Stops it. How many exits there were since it was opened."""
    listener.close()
    stats = listener.stats()
    assert (stats.lost, stats.unexplained) == (0, 0)
    return stats.received


@pytest.mark.parametrize("what", [AS_MANY, SMALL_QUEUES])
def test_every_exit_is_counted(figures: Figures, floors: Floors, what: str) -> None:
    """One witness listens somewhat longer than ours, and another somewhat shorter."""
    case = CASES[what]

    def ours() -> tuple[Heard, int, int]:
        with ExitStack() as stack:
            storms = [stack.enter_context(storm) for storm in storms_of(case)]
            longer = stack.enter_context(witness())
            consumer = stack.enter_context(
                Consumer(commands(floors, case)["ours"], *storms, cpus=CPUS)
            )
            shorter = stack.enter_context(witness())
            blow(storms, consumer, case)
            least = count(shorter)
            heard = consumer.finish()
            most = count(longer)
        assert heard.received is not None
        assert heard.lost is not None
        assert least <= heard.received + heard.lost <= most
        return heard, least, most

    seen = figures.turns({"ours": ours}, rounds=case.rounds, warm_up=0)["ours"]
    figures.rows(
        f"every exit is counted: {what}",
        [
            {
                "received": heard.received,
                "lost": heard.lost,
                "at least, by a witness": least,
                "received + lost": (heard.received or 0) + (heard.lost or 0),
                "at most, by another": most,
            }
            for heard, least, most in seen
        ],
    )
