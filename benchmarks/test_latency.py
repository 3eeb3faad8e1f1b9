"""From an exit to its record in the reader's hands.

Each exiting process takes its moment and calls prctl and _exit; the reader takes its own as soon as
it has the record's parent and name as values of its language. Both clocks are CLOCK_MONOTONIC.
"""

import statistics
from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
from consumers import (
    RCVBUF,
    ROOMY,
    STORM_CPU,
    Blown,
    assert_kept_up,
    floor,
    hear,
    needs_two_cpus,
    rival,
)
from figures import Figures
from floors import Floors
from support.storm import Storm

#: Exits a second -> how many.
STORMS = {200: 300, 5_000: 5_000, 20_000: 20_000}
MAX_LATENCIES_MS = (0, 1, 5, 20)
ROUNDS = 5


def hear_late(command: Sequence[str], exits: int, rate: int) -> tuple[Blown, float, float]:
    """The storm, the median of all exits, and what 1 in 100 exceeds, us."""
    storm = Storm("moments", cpu=STORM_CPU, exits=exits, rate=rate)
    blown, heard = hear(storm, command, mode="time")
    assert (blown.exits, len(heard.late_ns)) == (exits, exits)
    assert min(heard.late_ns) > 0
    percent = statistics.quantiles(heard.late_ns, n=100)
    return blown, percent[49] / 1000, percent[98] / 1000


@pytest.mark.parametrize("rate", STORMS)
def test_latency(figures: Figures, floors: Floors, benchmark: Any, rate: int) -> None:
    needs_two_cpus()
    ours = {f"ours {ms}": rival("ours", max_latency=ms / 1000, **ROOMY) for ms in MAX_LATENCIES_MS}
    others = {
        "coalesced": floor(floors.program("coalesced"), RCVBUF),  # for 5 ms
        "eager": floor(floors.program("eager"), RCVBUF),
        "sockets": rival("sockets", rcvbuf=RCVBUF),
        "pyroute2": rival("pyroute2", rcvbuf=RCVBUF),
    }
    seen = figures.turns(
        {
            name: partial(hear_late, command, STORMS[rate], rate)
            for name, command in (ours | others).items()
        },
        rounds=ROUNDS,
        warm_up=0,
    )
    assert_kept_up(seen, rate, benchmark)
    for i, what in enumerate(("latency, p50", "latency, p99"), start=1):
        by_name = {name: [one[i] for one in values] for name, values in seen.items()}
        for ms in MAX_LATENCIES_MS:
            sides = {name: by_name[name] for name in others if ms == 5 or name != "coalesced"}
            figures.compare(
                what,
                {"ours": by_name[f"ours {ms}"], **sides},
                "us",
                at={"exits/s": rate, "max_latency_ms": ms},
            )
