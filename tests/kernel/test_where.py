"""The kernel-side filter on the real kernel: what is heard, and the exact count of the rest."""

import os
import resource
import signal
from collections.abc import Callable

import pytest
from support import child, task
from support.descriptors import leave_free
from support.requirements import needs_processes
from support.scale import scaled
from support.storm import CPUS, Storm

from taskstats import ExitListener, ExitStats, Record, TaskstatsError, Where
from taskstats.exits import DESCRIPTORS


def heard(listener: ExitListener) -> list[Record]:
    """Stops the listener; every record that it took."""
    listener.stop()
    return [record for batch in listener.batches() for record in batch]


def exits(stats: ExitStats) -> int:
    """All that there were: nobody may be reading, and other storms may rage."""
    return stats.received + stats.lost + (stats.filtered or 0)


def made(number: int) -> dict[int, tuple[int, int]]:
    """Children that have exited: pid -> uid, status."""
    children = {}
    for i in range(number):
        uid, status = (child.NOBODY if i % 4 == 0 else 0), int(i % 5 == 0)
        children[child.spawn_and_reap(status, uid)] = (uid, status)
    return children


CASES: dict[str, tuple[Where, Callable[[int, int], bool]]] = {
    "failed": (Where(failed=True), lambda _, status: status != 0),
    "uid": (Where(uid=child.NOBODY), lambda uid, _: uid == child.NOBODY),
    "uids": (Where(uid=range(1, 70_000)), lambda uid, _: uid == child.NOBODY),
    "last": (Where(last=True), lambda *_: True),
    "elapsed": (Where(min_elapsed=3600), lambda *_: False),
    "both": (Where(uid=0, failed=True), lambda uid, status: uid == 0 and status != 0),
}


@pytest.mark.parametrize("case", CASES)
def test_hears_what_is_asked_for_and_counts_the_rest(case: str) -> None:
    """Beside it a listener without a filter: what that hears, this one heard or kept out."""
    if case == "last":
        needs_processes()
    where, wanted = CASES[case]
    with ExitListener() as everything, ExitListener(where=where) as listener:
        children = made(100)
        records = heard(listener)
        stats = listener.stats()
        heard(everything)
        all_of_them = exits(everything.stats())
    mine = {r.ac_pid for r in records if r.ac_pid in children}
    assert mine == {pid for pid, made_so in children.items() if wanted(*made_so)}
    assert stats.filtered is not None
    assert (stats.received, stats.lost) == (len(records), 0)
    # Others may exit between the two listeners' ends; ours are all in between.
    assert 100 <= exits(stats) <= all_of_them
    assert stats.unexplained is None


def test_the_count_is_up_to_date_where_nothing_is_let_in() -> None:
    """Nothing wakes the reader, and no record tells the number."""
    with ExitListener(where=Where(min_elapsed=1e9)) as listener:
        for number in (1, 10, 100):
            before = exits(listener.stats())
            for _ in range(number):
                child.spawn_and_reap()
            assert exits(listener.stats()) - before >= number
        assert len(next(listener.batches(timeout=0))) == 0
        assert listener.stats().wakeups == 0


@pytest.mark.parametrize("one_in", [1, 3])
def test_exact_in_a_storm_on_one_cpu(one_in: int) -> None:
    """Of 20,000 processes every tenth fails; a filter on status, and at random besides."""
    total, every = scaled(20_000, least=2_000), 10
    with (
        Storm("processes", cpu=0, exits=total, failing_every=every) as storm,
        ExitListener([0]) as everything,
        ExitListener([0], where=Where(failed=True, one_in=one_in)) as listener,
    ):
        storm.begin()
        assert storm.finish() == total
        records = [r for r in heard(listener) if r.ac_ppid == storm.pid]
        stats = listener.stats()
        heard(everything)
        all_of_them = exits(everything.stats())
    assert stats.lost == 0
    assert {r.exit_code for r in records} == {1}
    assert len(records) == total // every if one_in == 1 else 0 < len(records) < total // every
    assert total <= exits(stats) <= all_of_them


def test_losses_stay_exact_with_a_filter() -> None:
    """Nobody reads, and the queue is small: of those let in some are lost, none of the rest."""
    failing, others = 300, 200
    small = ExitListener(rcvbuf=64 << 10, where=Where(failed=True))
    with small as listener, child.only_on(CPUS[0]):  # where it lost some, the next one comes
        for i in range(failing):
            child.spawn_and_reap(1)
            if i < others:
                child.spawn_and_reap(0)
        middle = listener.stats()
        assert middle.lost > 0
        first = next(listener.batches())
        after = child.spawn_and_reap(1)
        second = heard(listener)
        stats = listener.stats()
    assert [r.lost_before for r in first] == [0] * len(first)
    assert after in {r.ac_pid for r in second}
    assert sum(r.lost_before for r in second) > 0, "the next record after the loss tells it"
    assert sum(r.lost_before for r in second) <= stats.lost
    assert stats.received + stats.lost >= failing + 1
    assert stats.filtered is not None
    assert stats.filtered >= others
    # Processes of others succeed, but for a chance; each exit here is counted once.
    assert exits(stats) >= failing + others + 1


def test_opening_and_stopping_in_a_storm() -> None:
    """Each time: between what was heard by one opened before it and by one opened after it."""
    with Storm("threads") as storm:
        storm.begin()
        for _ in range(scaled(200, least=50)):
            with (
                ExitListener() as longer,
                ExitListener(where=Where(failed=True)) as listener,
                ExitListener() as shorter,
            ):
                failing = {child.spawn_and_reap(status) for status in (1, 0, 1, 0)}
                heard(shorter)
                records = heard(listener)
                heard(longer)
                least, here, most = (exits(one.stats()) for one in (shorter, listener, longer))
                assert listener.stats().lost == 0
            mine = {r.ac_pid: r.exit_code for r in records if r.ac_pid in failing}
            assert list(mine.values()) == [1, 1]
            assert least <= here <= most
        storm.finish()


def states_of(pid: int) -> set[str]:
    return {task.state_of(pid, int(tid)) for tid in os.listdir(f"/proc/{pid}/task")}


def kept_out_of_all(storm: Storm, *, until_quiet: bool) -> int:
    """How many exits it says were kept out that lets everything in, stopped in the storm or not."""
    with ExitListener([0], where=Where(uid=range(2**32))) as listener:
        next(listener.batches())
        if until_quiet:
            os.kill(storm.pid, signal.SIGSTOP)
            task.until(lambda: states_of(storm.pid) == {"T"})
    if until_quiet:
        os.kill(storm.pid, signal.SIGCONT)
    stats = listener.stats()
    assert stats.lost == 0
    assert stats.filtered is not None
    return stats.filtered


def test_what_lets_everything_in_has_kept_nothing_out() -> None:
    """Opened in a storm: the count begins where the stream does."""
    with Storm("threads", cpu=0) as storm:
        storm.begin()
        for _ in range(scaled(100, least=20)):
            assert kept_out_of_all(storm, until_quiet=True) == 0
        storm.finish()


def test_what_lets_everything_in_has_kept_hardly_anything_out_when_it_stops_in_a_storm() -> None:
    """The count ends where the stream does, but for an exit right before that and one right after.

    500 stops have counted 0 to 5 of these; with a count that always ends after the stream, 17 to
    213.
    """
    stops = scaled(500, least=100)
    with Storm("threads", cpu=0) as storm:
        storm.begin()
        wrong = sum(kept_out_of_all(storm, until_quiet=False) for _ in range(stops))
        storm.finish()
    assert wrong <= stops // 50


def test_without_the_capability_it_stops_and_has_counted() -> None:
    def drop_and_stop() -> tuple[int, int, int]:
        with ExitListener(where=Where(failed=True)) as listener:
            for status in (0, 1, 0):
                child.spawn_and_reap(status)
            os.setuid(child.NOBODY)
            listener.stop()
            stopped = listener.stats()
            for status in (0, 1, 0):
                child.spawn_and_reap(status)
            received = sum(len(batch) for batch in listener.batches())
            stats = listener.stats()
        assert stats.filtered is not None
        return received, stats.filtered, stopped.lost

    received, filtered, lost = child.run(drop_and_stop)
    assert received >= 1
    assert filtered >= 2
    assert lost == 0


def test_descriptors_for_the_counting_sockets_are_looked_for_before_opening() -> None:
    cpus = os.cpu_count() or 1

    def too_few() -> None:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64 + 2 * cpus, 64 + 2 * cpus))
        leave_free(2 * cpus + DESCRIPTORS - 1)
        ExitListener(range(cpus)).close()
        ExitListener(range(cpus), where=Where(failed=True))

    with pytest.raises(TaskstatsError, match=rf"on {cpus} CPUs: too few file descriptors"):
        child.run(too_few)


def test_a_signal_ends_what_failed() -> None:
    with ExitListener(where=Where(failed=True)) as listener:
        pid = os.fork()
        if pid == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        os.waitpid(pid, 0)
        (record,) = [r for r in heard(listener) if r.ac_pid == pid]
    assert record.exit_signal == signal.SIGKILL
