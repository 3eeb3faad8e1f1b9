"""From an exit to its record in the reader's hands.

Each exiting process takes its moment and calls prctl and _exit; the reader takes its own as soon as
it has the record's parent and name as values of its language. Both clocks are CLOCK_MONOTONIC.
"""

import statistics
from collections.abc import Sequence
from functools import partial

import pytest
from consumers import RCVBUF, ROOMY, STORM_CPU, Consumer, blow, floor, needs_two_cpus, rival
from figures import Figures
from floors import Floors
from support.storm import Storm

#: Exits a second -> how many.
STORMS = {200: 400, 5_000: 5_000}
MAX_LATENCIES_MS = (0, 1, 5, 20)
ROUNDS = 5


def hear(command: Sequence[str], exits: int, rate: int) -> tuple[float, float]:
    """The median of all exits, and what 1 in 100 exceeds, us."""
    with (
        Storm("moments", cpu=STORM_CPU, exits=exits, rate=rate) as storm,
        Consumer(command, storm, mode="time") as consumer,
    ):
        assert blow(storm).exits == exits
        consumer.settle()
        heard = consumer.finish()
    assert len(heard.late_ns) == exits
    assert min(heard.late_ns) > 0
    percent = statistics.quantiles(heard.late_ns, n=100)
    return percent[49] / 1000, percent[98] / 1000


@pytest.mark.parametrize("rate", STORMS)
def test_latency(figures: Figures, floors: Floors, rate: int) -> None:
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
            name: partial(hear, command, STORMS[rate], rate)
            for name, command in (ours | others).items()
        },
        rounds=ROUNDS,
        warm_up=0,
    )
    for i, what in enumerate(("latency, p50", "latency, p99")):
        by_name = {name: [both[i] for both in values] for name, values in seen.items()}
        for ms in MAX_LATENCIES_MS:
            sides = {name: by_name[name] for name in others if ms == 5 or name != "coalesced"}
            figures.compare(
                what,
                {"ours": by_name[f"ours {ms}"], **sides},
                "us",
                at={"exits/s": rate, "max_latency_ms": ms},
            )
