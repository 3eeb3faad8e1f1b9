"""The kernel-side filter on the real kernel: what is heard, and the exact count of the rest."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support import child, compiled, task
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
    witness = ExitListener(where=Where(min_elapsed=1e9))
    small = ExitListener(rcvbuf=64 << 10, where=Where(failed=True))
    # All exit on one CPU: the next record there reports the loss.
    with witness, small as listener, child.only_on(CPUS[0]):
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
    assert failing + others + 1 <= exits(stats) <= exits(witness.stats())


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


#: Opens and stops a listener whose filter lets everything in. The preloaded library around.c makes
#: exits right before and after one of the listener's requests. Prints how many exits the listener
#: counts as filtered. The witness lets nothing in and counts every exit on the CPU: if others
#: exited during `stop`, the program tries again.
AROUND = """
import ctypes, os, sys, time
from taskstats import ExitListener, Where

library, CPU, attribute, skip, before, after = sys.argv[1], *map(int, sys.argv[2:])
os.sched_setaffinity(0, [CPU])
library = ctypes.CDLL(library)
stopping = attribute == 4  # DEREGISTER
end = time.monotonic() + 60
while time.monotonic() < end:
    with ExitListener([CPU], where=Where(min_elapsed=1e9)) as witness:
        library.around(0 if stopping else attribute, skip, before, after)
        with ExitListener([CPU], where=Where(uid=range(2**32))) as listener:
            assert not library.is_pending()
            library.around(attribute if stopping else 0, skip, before, after)
            earlier = witness.stats().filtered
            listener.stop()
            assert not library.is_pending()
            meanwhile = witness.stats().filtered - earlier
    if meanwhile == (before + after if stopping else 0):
        print(listener.stats().filtered)
        break
"""

REGISTER, DEREGISTER = 3, 4
METER, SOCKET = 0, 1  # the meter registers first


@pytest.mark.parametrize(
    ("attribute", "skip", "before", "after", "most"),
    [
        (REGISTER, METER, 3, 0, 0),
        (REGISTER, METER, 0, 3, 0),
        (REGISTER, SOCKET, 3, 0, 0),
        (REGISTER, SOCKET, 0, 3, 0),
        (REGISTER, SOCKET, 3, 3, 0),
        (DEREGISTER, 0, 3, 0, 0),
        (DEREGISTER, 0, 0, 3, 0),
        (DEREGISTER, 0, 1, 3, 3),
        (DEREGISTER, 1, 0, 3, 0),
    ],
)
def test_exits_around_a_request_are_not_counted_as_filtered(
    attribute: int, skip: int, before: int, after: int, most: int
) -> None:
    """At the end the listener deregisters its socket, then the meter.

    It may count exits between the two as filtered, but only if another exit came right before.
    """
    library = compiled.program("around", Path(compiled.__file__).parent, "-shared", "-fPIC")
    numbers = (CPUS[0], attribute, skip, before, after)
    counted = subprocess.check_output(
        [sys.executable, "-c", AROUND, library, *map(str, numbers)],
        env={**os.environ, "LD_PRELOAD": str(library)},
    )
    assert 0 <= int(counted) <= most


def states_of(pid: int) -> set[str]:
    return {task.state_of(pid, int(tid)) for tid in os.listdir(f"/proc/{pid}/task")}


@pytest.mark.parametrize("quiet", [True, False], ids=["storm pauses", "storm goes on"])
def test_a_filter_that_lets_everything_in_has_kept_nothing_out(quiet: bool) -> None:
    """The listener is opened in a storm, and stopped while the storm pauses or goes on.

    `stop` may count exits as filtered, but only if another exit came to the queue during `stop`.
    So the count is less than the number of exits during `stop`. The witness counts those. It is
    opened first: the kernel sends each record to the newest listener first, so the witness counts
    every record that the other listener was sent during `stop`.
    """
    nothing = Where(min_elapsed=1e9)
    everything = Where(uid=range(2**32))
    with Storm("threads", cpu=0) as storm:
        storm.begin()
        for _ in range(scaled(100, least=20)):
            with (
                ExitListener([0], where=nothing) as witness,
                ExitListener([0], where=everything) as listener,
            ):
                next(listener.batches())
                if quiet:
                    os.kill(storm.pid, signal.SIGSTOP)
                    task.until(lambda: states_of(storm.pid) == {"T"})
                before = exits(witness.stats())
                listener.stop()
                meanwhile = exits(witness.stats()) - before
                os.kill(storm.pid, signal.SIGCONT)
            filtered = listener.stats().filtered
            assert filtered is not None
            assert filtered == 0 or filtered < meanwhile
        storm.finish()


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
