"""ExitListener in storms of real exits: each is heard, once."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

import pytest
from support import child
from support.reference import FITS, between, roomy, streams, waiting
from support.scale import scaled
from support.storm import CPUS, Storm, everywhere, exits_in

from taskstats import ExitListener, host


def heard_and_made(listener: ExitListener, storms: list[Storm]) -> tuple[int, int]:
    """Reads until the storms are over; how many of their exits came, and how many there were."""
    with ThreadPoolExecutor(1) as pool:
        ends = pool.submit(lambda: sum(storm.finish() for storm in storms))
        heard = 0
        for batch in listener.batches(timeout=0.1):
            heard += exits_in([batch], storms)
            if not batch and ends.done():
                break
        heard += exits_in(waiting(listener), storms)  # what came since that was empty
        return heard, ends.result()


def test_in_storms_on_all_cpus_none_is_lost() -> None:
    """In rounds that fit into the queues, so that a slow machine loses nothing either."""
    rounds = -(-scaled(300_000) // (len(CPUS) * FITS))
    heard = made = 0
    books = host.exits_by_the_books()
    with roomy() as listener:
        for _ in range(rounds):
            with everywhere("threads", exits=FITS) as storms:
                of_this_round = heard_and_made(listener, storms)
            heard, made = heard + of_this_round[0], made + of_this_round[1]
        listener.stop()
        stats = listener.stats()
    assert heard == made == rounds * len(CPUS) * FITS
    assert (stats.lost, stats.malformed, stats.foreign, stats.truncated) == (0, 0, 0, 0)
    others = stats.received - made
    assert 0 <= stats.unexplained <= others, "only a task that migrates may leave a number out"
    # The books are read in two steps: they are off by the tasks that begin between the two.
    books = host.exits_by_the_books() - books
    assert stats.witness is not None
    assert made - made // 1000 <= stats.witness <= books + made // 1000


@pytest.fixture
def pinned() -> Iterator[int]:
    """The one CPU that this process may use."""
    with child.only_on(CPUS[0]):
        yield CPUS[0]


@pytest.mark.parametrize("max_latency", [0, 0.005])
@pytest.mark.usefixtures("pinned")
def test_a_reader_in_the_storm_on_its_own_cpu_hears_all_cpus(max_latency: float) -> None:
    with (
        roomy(max_latency=max_latency) as listener,
        everywhere("processes", exits=scaled(FITS // 5)) as storms,
    ):
        heard, made = heard_and_made(listener, storms)
        stats = listener.stats()
    assert heard == made == len(CPUS) * scaled(FITS // 5)
    assert stats.lost == 0
    assert stats.unexplained <= stats.received - made


def test_many_listeners_come_and_go_in_a_storm() -> None:
    with roomy() as reference, everywhere("threads", rate=5_000) as storms:
        for _ in range(scaled(400)):
            waiting(reference)  # what came before
            with roomy() as listener:
                own = {child.run_true() for _ in range(3)}
                listener.stop()
                batches = list(listener.batches())
                stats = listener.stats()
            truth, found = streams(waiting(reference)), streams(batches)
            for cpu, heard in found.items():
                assert sorted(heard) == sorted(between(truth[cpu], heard))
            assert own <= {pid for _, pid in chain(*found.values())}
            assert {one.cpu: one.received for one in stats.cpus if one.received} == {
                cpu: len(heard) for cpu, heard in found.items()
            }
            assert stats.lost == 0
        made = [storm.finish() for storm in storms]
        assert reference.stats().lost == 0
    assert all(made)
