"""Several listeners at once in a storm: what one more costs the storm and the others.

The storm has one CPU and all listeners together another, so that several eager ones queue up. They
may cost the storm so much that it falls behind its pace: what it made is told.
"""

import statistics
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial

from consumers import (
    RCVBUF,
    ROOMY,
    STORM_CPU,
    Blown,
    Consumer,
    blow,
    floor,
    needs_two_cpus,
    rival,
)
from figures import Figures
from floors import Floors
from support.storm import Storm

EXITS = RATE = 20_000
LISTENERS = (1, 2, 4, 8)
ROUNDS = 5


def hear(command: Sequence[str], listeners: int) -> tuple[Blown, float]:
    """The storm, and the ns of CPU a record of one listener; each hears all of it."""
    with ExitStack() as stack:
        storm = stack.enter_context(Storm("threads", cpu=STORM_CPU, exits=EXITS, rate=RATE))
        consumers = [stack.enter_context(Consumer(command, storm)) for _ in range(listeners)]
        blown = blow(storm)
        for consumer in consumers:
            consumer.settle()
        heard = [consumer.finish() for consumer in consumers]
    assert blown.exits == EXITS
    for one in heard:
        assert (one.records, one.dropped) == (EXITS, 0)
        assert one.lost in (0, None)
    return blown, statistics.mean([one.cpu_ns for one in heard] or [0]) / EXITS


def test_listeners(figures: Figures, floors: Floors) -> None:
    needs_two_cpus()
    ours = rival("ours", **ROOMY)
    eager = floor(floors.program("eager"), RCVBUF)
    seen = figures.turns(
        {"nobody": partial(hear, (), 0)}
        | {f"ours {n}": partial(hear, ours, n) for n in LISTENERS}
        | {f"eager {n}": partial(hear, eager, n) for n in LISTENERS},
        rounds=ROUNDS,
        warm_up=0,
    )
    own = {name: [blown.cpu_ns for blown, _ in both] for name, both in seen.items()}
    made = {name: [blown.rate for blown, _ in both] for name, both in seen.items()}
    used = {name: [cpu for _, cpu in both] for name, both in seen.items()}
    for n in LISTENERS:
        figures.compare(
            "the storm's own CPU an exit, beside",
            {"ours": own[f"ours {n}"], "nobody": own["nobody"], "eager": own[f"eager {n}"]},
            at={"listeners": n},
        )
        figures.compare(
            "CPU a record of each listener",
            {
                "ours": used[f"ours {n}"],
                "ours, a single listener": used["ours 1"],
                "eager": used[f"eager {n}"],
            },
            at={"listeners": n},
        )
        for name in ("ours", "eager"):
            figures.value(
                f"made beside {name}", made[f"{name} {n}"], "exits/s", at={"listeners": n}
            )
