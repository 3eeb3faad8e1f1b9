"""A filter that keeps 1 exit in 100, against a listener that takes all."""

from functools import partial

import pytest
from consumers import CONSUMER_CPU, OURS, STORM_CPU, Consumer, blow
from figures import Figures
from support.storm import Storm

KEPT_OF = 100
EXITS = 60_000
ROUNDS = 5

pytestmark = pytest.mark.skipif(STORM_CPU == CONSUMER_CPU, reason="needs two CPUs")


def cpu_time(option: str, latency_ms: int, rate: int | None) -> float:
    """ns of CPU an exit, of a listener that takes all, or those that failed."""
    with (
        Storm("processes", cpu=STORM_CPU, exits=EXITS, rate=rate, failing_every=KEPT_OF) as storm,
        Consumer(OURS, storm, option, str(latency_ms)) as consumer,
    ):
        assert blow(storm).exits == EXITS
        heard = consumer.finish()
    kept = EXITS if option == "all" else EXITS // KEPT_OF
    assert (heard.records, heard.lost) == (kept, 0)
    return heard.cpu_ns / EXITS


# Those that are kept are about as many a second as there are wakeups in the default latency.
@pytest.mark.parametrize("latency_ms", [5, 50])
@pytest.mark.parametrize("rate", [20_000, None])
def test_where_failed(figures: Figures, latency_ms: int, rate: int | None) -> None:
    seen = figures.turns(
        {option: partial(cpu_time, option, latency_ms, rate) for option in ("all", "failed")},
        rounds=ROUNDS,
        warm_up=0,
    )
    storm = f"{rate:,} exits/s" if rate else "as many exits as can be"
    figures.compare(
        f"{storm}, CPU an exit, 1 in {KEPT_OF} kept",
        {"ours": seen["failed"], "without a filter": seen["all"]},
        at={"latency_ms": latency_ms},
        targets={"without a filter": 1 / 10},
    )
