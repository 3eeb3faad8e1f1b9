"""A filter that keeps 1 exit in 100, against a listener that takes all."""

from functools import partial

import pytest
from consumers import CONSUMER_CPU, OURS, STORM_CPU, Consumer, blow
from figures import Figures
from support.storm import Storm

KEPT_OF = 100
SECONDS = 2
ROUNDS = 5

pytestmark = pytest.mark.skipif(STORM_CPU == CONSUMER_CPU, reason="needs two CPUs")


def cpu_time(option: str, rate: int) -> float:
    """ns of CPU an exit, of a listener that takes all, or those that failed."""
    exits = rate * SECONDS
    with (
        Storm("processes", cpu=STORM_CPU, exits=exits, rate=rate, failing_every=KEPT_OF) as storm,
        Consumer(OURS, storm, option) as consumer,
    ):
        assert blow(storm).exits == exits
        heard = consumer.finish()
    kept = exits if option == "all" else exits // KEPT_OF
    assert (heard.records, heard.lost) == (kept, 0)
    return heard.cpu_ns / exits


# Above some 2,000 exits/s those that are kept are as many a second as there are wakeups.
@pytest.mark.parametrize("rate", [2_000, 10_000])
def test_where_failed(figures: Figures, rate: int) -> None:
    seen = figures.turns(
        {option: partial(cpu_time, option, rate) for option in ("all", "failed")},
        rounds=ROUNDS,
        warm_up=0,
    )
    what = f"{rate:,} exits/s, CPU an exit, 1 in {KEPT_OF} kept"
    figures.ratio(what, seen["failed"], seen["all"], to="of all", at_most=1 / 10)
