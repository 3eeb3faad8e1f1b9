"""A filter that keeps few exits, against a listener that takes all, and against none."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
from consumers import ROOMY, STORM_CPU, Blown, assert_kept_up, blow, hear, needs_two_cpus, rival
from figures import Figures
from support.storm import Storm

EXITS = 20_000
KEPT = (1, 10, 100, 1_000, 10_000)  # one in so many
ROUNDS = 5


def storm_of(rate: int | None, one_in: int) -> Storm:
    """Of which one exit in so many fails."""
    return Storm("processes", cpu=STORM_CPU, exits=EXITS, rate=rate, failing_every=one_in)


def hear_kept(
    command: Sequence[str], rate: int | None, one_in: int, expected: int
) -> tuple[Blown, float]:
    """The storm, and the listener's ns of CPU an exit."""
    blown, heard = hear(storm_of(rate, one_in), command)
    assert (blown.exits, heard.records, heard.lost) == (EXITS, expected, 0)
    return blown, heard.cpu_ns / EXITS


def alone(rate: int | None) -> tuple[Blown, float]:
    with storm_of(rate, one_in=100) as storm:
        return blow(storm), 0.0


# Those that 1 in 100 lets in are about as many a second as there are wakeups in the default
# latency; with ten times that, what is left is not waking up.
@pytest.mark.parametrize("latency_ms", [5, 50])
@pytest.mark.parametrize("rate", [20_000, None])
def test_where_failed(figures: Figures, benchmark: Any, latency_ms: int, rate: int | None) -> None:
    needs_two_cpus()
    options = {"max_latency": latency_ms / 1000, **ROOMY}
    kept = KEPT if latency_ms == 5 else (100,)
    filtered = rival("ours", failed=True, **options)
    seen = figures.turns(
        {
            "nobody": partial(alone, rate),
            "all": partial(hear_kept, rival("ours", **options), rate, 100, EXITS),
        }
        | {str(n): partial(hear_kept, filtered, rate, n, EXITS // n) for n in kept},
        rounds=ROUNDS,
        warm_up=0,
    )
    assert_kept_up(seen, rate or 0, benchmark)
    used = {name: [cpu for _, cpu in both] for name, both in seen.items()}
    own = {name: [blown.cpu_ns for blown, _ in both] for name, both in seen.items()}
    for n in kept:
        at = {
            "exits/s": rate or "as many as can be",
            "latency_ms": latency_ms,
            "one_in": n,
        }
        figures.compare(
            "CPU of the listener an exit",
            {"ours": used[str(n)], "ours, without a filter": used["all"]},
            at=at,
            targets={"ours, without a filter": 1 / 10} if n == 100 else None,
        )
        figures.compare(
            "the storm's own CPU an exit, beside",
            {"ours": own[str(n)], "ours, without a filter": own["all"], "nobody": own["nobody"]},
            at=at,
        )
