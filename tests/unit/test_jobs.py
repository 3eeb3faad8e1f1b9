"""JobTracker with births: which job each record belongs to, what is missing, and what is summed."""

import gc
import sys
import threading
import tracemalloc
from collections.abc import Callable
from itertools import pairwise, permutations
from typing import Any

import pytest
from support import wire
from support.machine import MS, Machine, Proc, S, counts

import taskstats
from taskstats import Batch, ExitListener, FieldUnavailable, alive
from taskstats.emulator import EmulatedKernel
from taskstats.jobs import OTHERS, JobTracker

EMPTY = Batch(b"")


@pytest.fixture
def machine() -> Machine:
    return Machine()


def begun(machine: Machine, **options: Any) -> tuple[JobTracker, Proc]:
    """A tracker, and the root of its job "a"."""
    tracker = machine.tracker(**options)
    root = machine.fork(machine.daemon)
    tracker.start(root.pid, "a")
    return tracker, root


def processes(tracker: JobTracker, job: str = "a") -> int:
    return tracker.usage(job).total.processes


# ---- the job of a process --------------------------------------------------------------------


@pytest.mark.parametrize("order", [*permutations(range(4))])
def test_descendants_belong_to_the_job_in_any_order(
    machine: Machine, order: tuple[int, ...]
) -> None:
    tracker, root = begun(machine)
    child = machine.fork(root)
    grandchild = machine.fork(child)
    stranger = machine.fork(machine.daemon)
    for one, comm in ((grandchild, "x"), (child, "y"), (root, "y"), (stranger, "z")):
        machine.end(one, comm=comm)
    tracker.feed(machine.read(order=order))
    assert counts(tracker) == {"attributed": 3, "outside": 1}
    usage = tracker.close("a")
    assert {comm: one.processes for comm, one in usage.commands.items()} == {"x": 1, "y": 2}
    assert usage.complete


def test_orphans_stay_in_the_job_whoever_inherits_them(machine: Machine) -> None:
    tracker, root = begun(machine)
    child = machine.fork(root)
    daemonized = machine.fork(child)
    machine.end(child)
    machine.end(root)
    tracker.feed(machine.read())
    late = machine.fork(daemonized)
    machine.end(daemonized)
    machine.end(late)
    tracker.feed(machine.read())
    assert late.parent is machine.init
    assert counts(tracker) == {"attributed": 4}


def test_the_maker_counts_where_the_parent_is_another(machine: Machine) -> None:
    """CLONE_PARENT: the parent is the maker's own."""
    tracker, root = begun(machine)
    inside = machine.fork(root, parent=machine.daemon)
    outside = machine.fork(machine.daemon, parent=root)
    machine.end(inside)
    machine.end(outside)
    tracker.feed(machine.read())
    assert counts(tracker) == {"attributed": 1, "outside": 1}


@pytest.mark.parametrize("read", [True, False])
def test_owners_of_one_pid_are_told_apart(machine: Machine, read: bool) -> None:
    """Whether the first one's record was read before the pid is given again, or not."""
    tracker, root = begun(machine)
    for maker in (root, machine.daemon, root):
        one = machine.fork(maker, 77)
        machine.end(machine.fork(one))
        machine.end(one)
        if read:
            tracker.feed(machine.read())
    tracker.feed(machine.read())
    assert counts(tracker) == {"attributed": 4, "outside": 2}
    assert tracker.usage("a").complete


def test_the_next_owner_of_a_roots_pid_is_not_of_the_job(machine: Machine) -> None:
    tracker, root = begun(machine)
    machine.end(root)
    again = machine.fork(machine.daemon, root.pid)
    machine.end(machine.fork(again))
    machine.end(again)
    tracker.feed(machine.read())
    assert counts(tracker) == {"attributed": 1, "outside": 2}


def test_a_root_from_before_the_births_is_known_by_its_start(machine: Machine) -> None:
    root = machine.fork(machine.daemon)
    machine.read()
    machine.now += S
    tracker = machine.tracker(remember=9)
    tracker.start(root.pid, "a")
    child = machine.fork(root)
    machine.end(child)
    machine.end(root)
    tracker.feed(machine.read())
    ended = tracker.close("a").processes
    assert [(one.start_ns, one.maker_pid, one.maker_start_ns) for one in ended] == [
        (child.start_ns, root.pid, root.start_ns),
        (root.start_ns, None, None),
    ]


def test_a_process_from_before_the_births_is_outside(machine: Machine) -> None:
    tracker, _ = begun(machine)
    other = machine.thread(machine.daemon)
    machine.end(machine.daemon, other)
    machine.end(machine.daemon)
    tracker.feed(machine.read())
    assert counts(tracker) == {"outside": 2}
    assert tracker.usage("a").complete


# ---- jobs within jobs ------------------------------------------------------------------------


@pytest.mark.parametrize("known", [True, False])
def test_a_job_within_a_job_is_part_of_it(machine: Machine, known: bool) -> None:
    """Whether the births were read before it begins, or are still in the ring."""
    tracker, outer = begun(machine)
    inner = machine.fork(machine.fork(outer))
    if known:
        tracker.feed(machine.read())
    tracker.start(inner.pid, "inner")
    machine.end(machine.fork(inner))
    machine.end(machine.fork(outer))
    tracker.feed(machine.read())
    assert (processes(tracker), processes(tracker, "inner")) == (2, 1)
    tracker.close("inner")
    machine.end(machine.fork(inner))
    tracker.feed(machine.read())
    assert processes(tracker) == 3
    assert tracker.close("a").complete


def test_what_a_closed_job_leaves_is_of_none(machine: Machine) -> None:
    tracker, root = begun(machine)
    child = machine.fork(root)
    tracker.feed(machine.read())
    tracker.close("a")
    machine.end(machine.fork(child))
    machine.end(child)
    tracker.feed(machine.read())
    assert counts(tracker) == {"outside": 2}


def test_a_closed_middle_job_leaves_its_inner_one_to_the_outer(machine: Machine) -> None:
    tracker, outer = begun(machine)
    middle = machine.fork(outer)
    tracker.start(middle.pid, "middle")
    inner = machine.fork(middle)
    tracker.start(inner.pid, "inner")
    machine.end(machine.fork(inner))
    tracker.feed(machine.read())
    assert tracker.close("middle").total.processes == 1
    machine.end(inner)
    machine.end(middle)
    tracker.feed(machine.read())
    assert (processes(tracker), processes(tracker, "inner")) == (3, 2)


def test_a_new_job_inherits_nothing_of_a_closed_ones_number(machine: Machine) -> None:
    tracker, root = begun(machine)
    child = machine.fork(root)
    tracker.feed(machine.read())
    tracker.close("a")
    other = machine.fork(machine.daemon)
    tracker.start(other.pid, "b")
    machine.end(child)
    machine.end(other)
    tracker.feed(machine.read())
    assert processes(tracker, "b") == 1
    assert tracker.close("b").complete


def test_jobs_that_come_and_go_leave_nothing(machine: Machine) -> None:
    tracker = machine.tracker(remember=3)

    def one_job() -> None:
        root = machine.fork(machine.daemon)
        tracker.start(root.pid, "a")
        machine.end(machine.fork(root))
        machine.end(root)
        tracker.feed(machine.read())
        tracker.close("a")
        machine.daemon.children.clear()
        machine.looks.clear()

    one_job()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for _ in range(1000):
        one_job()
    gc.collect()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 10_000
    assert tracker._engine.counts.processes == 0
    assert tracker._engine.start(0, (0, 0), 0) == 0  # the numbers are given again


def test_what_was_remembered_is_bounded_over_jobs_within(machine: Machine) -> None:
    tracker, outer = begun(machine, remember=3)
    for number in range(5):
        root = machine.fork(outer)
        tracker.start(root.pid, number)
        machine.end(machine.fork(root))
        machine.end(root)
        tracker.feed(machine.read())
        tracker.close(number)
    usage = tracker.close("a")
    assert (len(usage.processes), usage.forgotten, usage.total.processes) == (3, 7, 10)


# ---- a running tree --------------------------------------------------------------------------


def test_attached_jobs_have_the_living_descendants(machine: Machine) -> None:
    root = machine.fork(machine.daemon)
    child = machine.fork(machine.fork(root))
    stranger = machine.fork(machine.daemon)
    machine.read()
    machine.now += S
    tracker = machine.tracker()
    tracker.attach(root.pid, "a")
    for one in (child, stranger):
        machine.end(machine.fork(one))
        machine.end(one)
    tracker.feed(machine.read())
    assert counts(tracker) == {"attributed": 2, "outside": 2}
    usage = tracker.close("a")
    assert (usage.attached, usage.complete) == (True, False)


def test_attaching_around_a_job_puts_it_within(machine: Machine) -> None:
    root = machine.fork(machine.daemon)
    inner = machine.fork(root)
    machine.read()
    machine.now += S
    tracker = machine.tracker()
    tracker.start(inner.pid, "inner")
    tracker.attach(root.pid, "a")
    machine.end(machine.fork(inner))
    tracker.feed(machine.read())
    assert (processes(tracker, "inner"), processes(tracker)) == (1, 1)


def test_attaching_around_two_jobs_keeps_the_inner_one_within(machine: Machine) -> None:
    """No birth was read before: that the inner root is of the middle job is still to come."""
    tracker = machine.tracker()
    outer = machine.fork(machine.daemon)
    middle = machine.fork(outer)
    tracker.start(middle.pid, "middle")
    inner = machine.fork(machine.fork(middle))
    tracker.attach(inner.pid, "inner")
    tracker.attach(outer.pid, "outer")
    machine.end(machine.fork(inner))
    tracker.feed(machine.read())
    assert [processes(tracker, job) for job in ("inner", "middle", "outer")] == [1, 1, 1]


# ---- threads ---------------------------------------------------------------------------------


def test_threads_are_added_as_one_process(machine: Machine) -> None:
    tracker, root = begun(machine)
    child = machine.fork(root)
    tids = [machine.thread(child) for _ in range(3)]
    machine.end(child, tids[0])
    machine.end(child, comm="leader")
    machine.end(child, tids[1])
    tracker.feed(machine.read(emptied=True))
    assert counts(tracker) == {"waiting": 3}
    assert tracker.settled_until is None  # the process lives
    machine.end(child, tids[2], "other", ac_exitcode=9)
    tracker.feed(machine.read(emptied=False))
    total = tracker.usage("a").commands["leader"]
    assert (total.processes, total.threads, total.signals) == (1, 4, {9: 1})
    assert total.cpu_ns == 4000


@pytest.mark.parametrize("flushed", [True, False])
def test_threads_read_after_the_last_one_are_added(machine: Machine, flushed: bool) -> None:
    """Whether the process was added meanwhile, or waits for them."""
    tracker, root = begun(machine)
    child = machine.fork(root)
    tid = machine.thread(child)
    machine.end(child, tid)
    late = machine.read(emptied=False)
    machine.end(child)
    tracker.feed(late[:0])
    tracker.feed(Batch(b"", births=late.births.data))
    tracker.feed(machine.read(emptied=False))
    if flushed:
        tracker.flush()
    assert counts(tracker) == ({"attributed": 1} if flushed else {"waiting": 1})
    assert (tracker.settled_until is None) == flushed
    tracker.feed(late[:])
    assert counts(tracker) == {"attributed": 2}
    total = tracker.usage("a").total
    assert (total.processes, total.threads, total.cpu_ns) == (1, 2, 2000)


def test_a_thread_that_execs_takes_the_leaders_place(machine: Machine) -> None:
    """Two records have the leader's pid and start: kernel/exec.c:de_thread."""
    tracker, root = begun(machine)
    child = machine.fork(root)
    tid = machine.thread(child)
    machine.end(child, comm="before")
    child.tids = {child.pid: child.tids[tid]}
    machine.end(machine.fork(child))
    machine.end(child, comm="after")
    tracker.feed(machine.read())
    total = tracker.usage("a").commands["after"]
    assert (total.processes, total.threads) == (1, 2)
    assert counts(tracker) == {"attributed": 3}


def test_a_job_ends_with_a_thread_unheard(machine: Machine) -> None:
    """The kernel's own sums are larger: they are taken once the queues were read to the end."""
    tracker, root = begun(machine)
    child = machine.fork(root)
    tid = machine.thread(child)
    machine.end(child, tid, heard=False, cpu_count=5)
    machine.end(child)
    tracker.feed(machine.read())
    tracker.feed(machine.read())
    usage = tracker.usage("a")
    assert (usage.total.threads, usage.total.sums["cpu_count"], usage.lost) == (1, 6, 1)


# ---- records without identity ----------------------------------------------------------------


def test_an_unsettled_record_is_of_the_only_process_that_fits(machine: Machine) -> None:
    tracker, root = begun(machine)
    for maker in (root, machine.daemon):
        machine.now += 4 * S
        machine.end(machine.fork(maker, 77), settled=False)
    tracker.feed(machine.read())
    assert counts(tracker) == {"attributed": 1, "outside": 1}
    usage = tracker.usage("a")
    assert (usage.total.unsettled, usage.complete) == (1, True)


def test_an_unsettled_record_of_a_late_tick_is_found(machine: Machine) -> None:
    """The kernel's second is that of its last tick, which may come most of a second late."""
    tracker, root = begun(machine)
    machine.now += 10 * S - machine.clock().real % S + 900 * MS
    one = machine.fork(root, 77)
    machine.end(one, settled=False, ac_btime64=machine.clock().real // S - 1)
    tracker.feed(machine.read())
    assert counts(tracker) == {"attributed": 1}


def test_an_unsettled_record_that_fits_none_is_outside(machine: Machine) -> None:
    tracker, root = begun(machine)
    machine.end(machine.fork(root), settled=False, ac_tgid=4242, ac_pid=4242)
    tracker.feed(machine.read())
    assert counts(tracker) == {"outside": 1}


def test_an_unsettled_record_that_fits_two_is_undecided(machine: Machine) -> None:
    tracker, root = begun(machine)
    other = machine.fork(machine.daemon)
    tracker.start(other.pid, "b")
    machine.now += 2 * S
    for maker in (root, machine.daemon):
        machine.end(machine.fork(maker, 77), settled=False)
    tracker.feed(machine.read())
    usage = tracker.usage("a")
    assert (usage.total.processes, usage.complete) == (0, False)
    assert usage.undecided == tracker.undecided > 0
    assert tracker.usage("b").complete


def test_an_unsettled_record_may_be_of_an_owner_from_before(machine: Machine) -> None:
    """It may have ended just before the listening began: a second is all that the record says."""
    tracker, root = begun(machine)
    machine.end(machine.fork(root, 77), settled=False)
    tracker.feed(machine.read())
    usage = tracker.usage("a")
    assert (usage.total.processes, usage.undecided, usage.complete) == (0, 1, False)


# ---- losses ----------------------------------------------------------------------------------


def test_a_lost_record_makes_every_open_job_incomplete(machine: Machine) -> None:
    tracker, root = begun(machine)
    for _ in range(7):
        machine.end(machine.fork(root), heard=False)
    machine.end(machine.fork(root))
    tracker.feed(machine.read())
    tracker.note_lost(9)
    tracker.note_lost(9)
    later = machine.fork(machine.daemon)
    tracker.start(later.pid, "later")
    assert (tracker.usage("a").lost, tracker.usage("a").complete) == (9, False)
    assert tracker.usage("later").complete


def test_lost_births_mark_the_jobs_with_living_processes(machine: Machine) -> None:
    tracker, root = begun(machine)
    over = machine.fork(machine.daemon)
    tracker.start(over.pid, "over")
    machine.end(over)
    tracker.feed(machine.read())
    machine.end(machine.fork(root, lost=True))
    tracker.feed(machine.read())
    later = machine.fork(machine.daemon)
    tracker.start(later.pid, "later")
    tracker.feed(machine.read())
    marked = {job: tracker.usage(job).births_lost for job in ("a", "over", "later")}
    assert marked == {"a": True, "over": False, "later": False}
    assert not tracker.usage("a").complete
    assert tracker.usage("over").complete


def test_records_without_a_birth_are_undecided_for_marked_jobs(machine: Machine) -> None:
    """They are in no sum, nor are the processes that they have made."""
    tracker, root = begun(machine)
    before = machine.fork(machine.daemon, lost=True)
    lost = machine.fork(root, lost=True)
    machine.end(machine.fork(lost))
    machine.end(lost)
    machine.end(before)
    machine.end(machine.daemon)  # older than the job
    tracker.feed(machine.read())
    later = machine.fork(machine.daemon)
    tracker.start(later.pid, "later")
    machine.end(machine.fork(root))
    tracker.feed(machine.read())
    assert counts(tracker) == {"attributed": 1, "undecided": 3, "outside": 1}
    assert (tracker.usage("a").undecided, tracker.usage("later").undecided) == (3, 0)
    assert processes(tracker) == 1


def test_an_unsettled_record_after_lost_births_is_undecided(machine: Machine) -> None:
    """Another process may have had the pid."""
    tracker, root = begun(machine)
    child = machine.fork(root)
    machine.fork(machine.daemon, lost=True)
    machine.end(child, settled=False)
    tracker.feed(machine.read())
    assert counts(tracker) == {"undecided": 1}
    assert tracker.usage("a").undecided == 1


def test_slices_of_a_batch_may_be_fed(machine: Machine) -> None:
    """They have no births; that they tell of no lost ones marks no job."""
    tracker = machine.tracker()
    machine.fork(machine.daemon, lost=True)
    tracker.feed(machine.read())
    root = machine.fork(machine.daemon)
    tracker.start(root.pid, "a")
    for _ in range(3):
        child = machine.fork(root)
        machine.end(child, machine.thread(child))
        machine.end(child)
    whole = machine.read()
    tracker.feed(Batch(b"", births=whole.births.data, births_lost=whole.births.lost))
    for row in range(len(whole)):
        tracker.feed(whole[row : row + 1])
    tracker.feed(machine.read())
    usage = tracker.usage("a")
    assert (usage.total.processes, usage.total.threads, usage.complete) == (3, 6, True)


def test_a_full_table_marks_the_jobs_that_may_lack_a_process(machine: Machine) -> None:
    tracker, root = begun(machine, capacity=100)
    for _ in range(150):
        machine.fork(root)
    tracker.feed(machine.read())
    assert tracker._engine.counts.processes == 100
    usage = tracker.usage("a")
    assert (usage.births_lost, usage.complete) == (True, False)


def test_a_full_table_gives_no_job_the_threads_of_another_process(machine: Machine) -> None:
    """The birth of the next owner of a pid finds no room; then its thread ends."""
    tracker, root = begun(machine, capacity=2)
    machine.fork(root, 77)
    tracker.feed(machine.read())
    machine.end(machine.living[77])
    stranger = machine.fork(machine.daemon, 77)
    machine.end(stranger, machine.thread(stranger))
    machine.end(stranger)
    tracker.feed(machine.read(order=(1, 2, 0)))
    usage = tracker.usage("a")
    assert (usage.total.threads, usage.complete) == (0, False)


def test_the_ended_make_room_before_a_job_is_marked(machine: Machine) -> None:
    """A pid that was given again: its owner of before has ended unheard."""
    tracker, root = begun(machine, capacity=10)
    for _ in range(100):
        machine.end(machine.fork(machine.daemon, 77), heard=False)
    machine.end(machine.fork(root))
    tracker.feed(machine.read())
    usage = tracker.usage("a")
    assert (usage.total.processes, usage.births_lost) == (1, False)
    assert tracker._engine.counts.processes <= 10


def test_waiting_threads_of_the_lost_stay_within_bounds(machine: Machine) -> None:
    """The last threads' records are lost: what waits is given up as the pids are given again."""
    tracker, root = begun(machine, capacity=10)
    for _ in range(100):
        child = machine.fork(root, 77)
        tid = machine.thread(child)
        machine.end(child, tid)
        machine.end(child, heard=False)
        tracker.feed(machine.read())
    machine.end(machine.fork(root))
    tracker.feed(machine.read())
    usage = tracker.usage("a")
    assert tracker.waiting < 10
    assert tracker.waiting + tracker.evicted + tracker.attributed == 101
    assert (usage.evicted, usage.complete) == (tracker.evicted, False)


# ---- jobs by cgroup --------------------------------------------------------------------------


@pytest.fixture
def cgroups(machine: Machine) -> Machine:
    machine.paths |= {5: "/a", 6: "/a/b", 7: "/ab", 8: "/a/b/c"}
    return machine


def in_cgroups(machine: Machine, *ids: int) -> Batch:
    for id_ in ids:
        machine.end(machine.fork(machine.daemon, cgroup=id_))
    return machine.read()


@pytest.mark.parametrize("cgroup", ["/a", "/a/", 5])
def test_a_job_by_cgroup_has_what_ends_in_it_or_below(cgroups: Machine, cgroup: str | int) -> None:
    tracker = cgroups.tracker()
    tracker.start_cgroup(cgroup, "a")
    tracker.feed(in_cgroups(cgroups, 5, 6, 7, 8))
    assert counts(tracker) == {"attributed": 3, "outside": 1}
    usage = tracker.close("a")
    assert (usage.root, usage.total.processes, usage.complete) == (None, 3, True)


def test_jobs_by_cgroup_are_nested_as_their_paths_are(cgroups: Machine) -> None:
    tracker = cgroups.tracker()
    for cgroup, job in ((8, "c"), ("/a", "a"), ("/a/b", "b")):
        tracker.start_cgroup(cgroup, job)
    tracker.feed(in_cgroups(cgroups, 5, 6, 7, 8))
    assert [processes(tracker, job) for job in "abc"] == [3, 2, 1]
    assert tracker.close("b").total.processes == 2
    tracker.feed(in_cgroups(cgroups, 6, 8))
    assert [processes(tracker, job) for job in "ac"] == [5, 2]


@pytest.mark.parametrize(("id_", "undecided"), [(99, 1), (0, 1), (7, 0)])
def test_a_record_of_an_unknown_cgroup_is_undecided(
    cgroups: Machine, id_: int, undecided: int
) -> None:
    tracker = cgroups.tracker()
    tracker.start_cgroup("/a", "a")
    tracker.feed(in_cgroups(cgroups, id_))
    usage = tracker.usage("a")
    assert (usage.total.processes, usage.undecided) == (0, undecided)
    assert tracker.outside == 1 - undecided


def test_the_records_of_a_removed_cgroup_belong_to_its_job(cgroups: Machine) -> None:
    """Its directory is gone when its records are read; its id still is the job's."""
    tracker = cgroups.tracker()
    tracker.start_cgroup(5, "a")
    del cgroups.paths[5]
    tracker.feed(in_cgroups(cgroups, 5, 5))
    usage = tracker.usage("a")
    assert (usage.total.processes, usage.complete) == (2, True)


@pytest.mark.parametrize("order", [("/a", 5), (5, "/a")])
def test_two_jobs_of_one_cgroup_are_one_within_the_other(
    cgroups: Machine, order: tuple[str | int, str | int]
) -> None:
    cgroups.paths[5] = "/a"
    tracker = cgroups.tracker()
    for name, cgroup in zip(("outer", "inner"), order, strict=True):
        tracker.start_cgroup(cgroup, name)
    tracker.feed(in_cgroups(cgroups, 5))
    assert [tracker.usage(name).total.processes for name in ("outer", "inner")] == [1, 1]


def test_a_closed_jobs_waiting_process_is_not_the_next_jobs(cgroups: Machine) -> None:
    """It waits for a thread's record while its job is closed, and the number is given again."""
    tracker = cgroups.tracker()
    tracker.start_cgroup("/", "root")
    tracker.start_cgroup("/a", "a")
    child = cgroups.fork(cgroups.daemon, cgroup=5)
    tid = cgroups.thread(child)
    cgroups.end(child, tid, heard=False)
    cgroups.end(child)
    tracker.feed(cgroups.read(emptied=False))
    tracker.close("a")
    tracker.start_cgroup("/ab", "ab")
    tracker.flush()
    assert (processes(tracker, "ab"), processes(tracker, "root")) == (0, 1)


def test_a_process_is_of_a_job_by_root_and_of_one_by_cgroup(cgroups: Machine) -> None:
    tracker, root = begun(cgroups)
    tracker.start_cgroup("/a", "c")
    cgroups.end(cgroups.fork(root, cgroup=5))
    child = cgroups.fork(root, cgroup=5)
    tid = cgroups.thread(child)
    cgroups.end(child, tid)
    cgroups.end(child)
    tracker.feed(cgroups.read())
    for job in ("a", "c"):
        total = tracker.usage(job).total
        assert (total.processes, total.threads) == (2, 3)
    assert counts(tracker) == {"attributed": 3}


# ---- living processes ------------------------------------------------------------------------


def test_living_processes_are_assigned_by_pid_and_start(machine: Machine) -> None:
    tracker, root = begun(machine)
    child = machine.fork(root)
    tid, ended = machine.thread(child), machine.thread(child)
    machine.end(child, ended)
    machine.end(machine.fork(root, 77))
    machine.fork(machine.daemon, 77)
    tracker.feed(machine.read())
    usage = tracker.usage("a", [root.pid, child.pid, tid, 77, machine.daemon.pid, 4242])
    assert [(one.pid, one.ppid, one.threads, one.cpu_ns) for one in usage.living] == [
        (root.pid, machine.daemon.pid, 1, 500),
        (child.pid, root.pid, 2, 2000),
    ]
    assert usage.living[1].start_ns == child.start_ns
    assert usage.unclear == 0


def test_living_processes_whose_birth_was_lost_are_unclear(machine: Machine) -> None:
    tracker, root = begun(machine)
    lost = machine.fork(root, lost=True)
    tracker.feed(machine.read())
    usage = tracker.usage("a", [root.pid, lost.pid, machine.daemon.pid])
    assert ([one.pid for one in usage.living], usage.unclear) == ([root.pid], 1)


# ---- what cannot be --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda t, root, _: t.start(root, "b"), ValueError),
        (lambda t, _, other: t.start(other, "a"), ValueError),
        (lambda t, root, _: t.attach(root, "b"), ValueError),
        (lambda t, _, __: t.start(4242, "b"), ValueError),
        (lambda t, _, __: t.start_cgroup("/a", "a"), ValueError),
        (lambda t, _, __: t.start_cgroup("/x/", "b"), ValueError),
        (lambda t, _, __: t.usage("b"), KeyError),
        (lambda t, _, __: t.close("b"), KeyError),
        (lambda _, __, ___: JobTracker().usage("a", [1]), KeyError),
        (lambda _, __, ___: JobTracker(births=True, capacity=0), ValueError),
        (lambda _, __, ___: JobTracker().start_cgroup("/a", "a"), ValueError),
    ],
)
def test_impossible_calls_change_nothing(
    machine: Machine, call: Callable[[JobTracker, int, int], Any], error: type[Exception]
) -> None:
    tracker, root = begun(machine)
    tracker.start_cgroup("/x", "x")
    other = machine.fork(machine.daemon)
    with pytest.raises(error):
        call(tracker, root.pid, other.pid)
    machine.end(machine.fork(root))
    machine.end(machine.fork(other))
    tracker.feed(machine.read())
    assert counts(tracker) == {"attributed": 1, "outside": 1}


def test_tasks_need_a_query(machine: Machine) -> None:
    tracker = JobTracker(None, machine.look, births=True, clock=machine.clock)
    tracker.start(machine.daemon.pid, "a")
    with pytest.raises(ValueError, match="query"):
        tracker.usage("a", [1])


def test_other_batches_are_refused(machine: Machine) -> None:
    """Each time, whatever was fed before."""
    tracker = machine.tracker()
    stats = wire.pack(11, wire.SIZES[11], wire.SAMPLE, fill=0)
    for _ in range(3):
        with pytest.raises(FieldUnavailable):
            tracker.feed(taskstats.decode(wire.message(wire.aggregate("task", 1, stats))))
        with pytest.raises(ValueError, match="exit"):
            tracker.feed(machine.query([1]))
        with pytest.raises(ValueError, match="exit"):
            tracker.feed(Batch(bytes(machine.query([1]).data), kind="group"))
        machine.end(machine.fork(machine.other))
        tracker.feed(machine.read())
    assert counts(tracker) == {"outside": 3}


def test_an_older_struct_among_the_records_leaves_its_fields_out(machine: Machine) -> None:
    tracker, root = begun(machine)
    for version in (16, 12, 16):
        machine.end(machine.fork(root), version=version, size=wire.SIZES[version])
        tracker.feed(machine.read())
    assert "wpcopy_count" not in tracker.usage("a").total.sums


def test_the_memory_taken_is_told(machine: Machine) -> None:
    tracker, root = begun(machine, remember=1000)
    told = [tracker.memory_bytes]
    several = machine.fork(root)
    tid = machine.thread(several)
    many = [machine.fork(root) for _ in range(3000)]
    tracker.feed(machine.read())
    told.append(tracker.memory_bytes)
    machine.end(several, tid)
    tracker.feed(machine.read())
    told.append(tracker.memory_bytes)
    machine.end(several)
    for number, one in enumerate(many):
        machine.end(one, comm=f"command {number % 10}")
    tracker.feed(machine.read())
    told.append(tracker.memory_bytes)
    tracker.close("a")
    told.append(tracker.memory_bytes)
    processes, threads, ended, closed = (b - a for a, b in pairwise(told))
    assert processes >= 3000 * 64
    assert threads > 1000
    assert ended >= 1000 * 104 + 10 * 3616
    assert closed < 0


# ---- sums ------------------------------------------------------------------------------------


def test_totals_are_sums_and_extremes(machine: Machine) -> None:
    tracker, root = begun(machine, remember=1)
    ends: list[dict[str, Any]] = [
        {"comm": "x", "hiwater_rss": 5, "nvcsw": 2, "ac_exitcode": 0x100, "ac_exe_inode": 1},
        {"comm": "x", "hiwater_rss": 7, "nvcsw": 3, "ac_exitcode": 9, "ac_exe_inode": 2},
        {"comm": "y", "ac_exe_inode": 2, "settled": False},
    ]
    for values in ends:
        one = machine.fork(root)
        machine.now += 3 * S
        machine.end(one, **values)
    tracker.feed(machine.read())
    usage = tracker.close("a")
    x = usage.commands["x"]
    assert (x.processes, x.threads, x.failed) == (2, 2, 2)
    assert (x.statuses, x.signals) == ({1: 1}, {9: 1})
    assert (x.peak_rss_bytes, x.sums["nvcsw"]) == (7 * 1024, 5)
    assert usage.commands["y"].longest_seconds == 3.00001
    assert (usage.total.failed, usage.total.statuses) == (2, {0: 1, 1: 1})
    assert (usage.total.cpu_seconds, usage.total.unsettled) == (3e-6, 1)
    by_inode = {inode: one.processes for (_, inode), one in usage.executables.items()}
    assert by_inode == {1: 1, 2: 2}
    (first,) = usage.processes
    assert (first.comm, first.ppid, first.cpu_ns, first.status) == ("x", root.pid, 1000, 0x100)
    assert usage.forgotten == 2


def test_delays_that_were_not_measured_have_no_total(machine: Machine) -> None:
    tracker, root = begun(machine)
    machine.end(machine.fork(root))
    tracker.feed(machine.read())
    total = tracker.usage("a").total
    assert (total.delays_measured, [*total.delays]) == (None, ["cpu"])
    machine.end(machine.fork(root), wpcopy_count=3)
    tracker.feed(machine.read())
    total = tracker.usage("a").total
    assert (total.delays_measured, total.delays["wpcopy"].count) == (True, 3)
    assert total.delays["blkio"].measured is True
    assert total.delays["blkio"].max_ns is None


def test_the_names_of_a_job_are_bounded(machine: Machine) -> None:
    tracker, root = begun(machine)
    for n in range(1100):
        machine.end(machine.fork(root), comm=f"name{n}")
    tracker.feed(machine.read())
    usage = tracker.close("a")
    assert len(usage.commands) == 1025
    assert usage.commands[OTHERS].processes == 76
    assert usage.total.processes == 1100


# ---- many threads ----------------------------------------------------------------------------


def test_any_thread_may_call_anything(machine: Machine) -> None:
    tracker, root = begun(machine, remember=10)
    tracker.feed(machine.read())
    batches = []
    for n in range(200):
        for _ in range(5):
            machine.end(machine.fork(root), comm=f"name{n % 7}")
        batches.append(machine.read())
    failures: list[BaseException] = []

    def feed(mine: list[Batch]) -> None:
        try:
            for one in mine:
                tracker.feed(one)
                usage = tracker.usage("a")
                assert usage.total.processes == sum(
                    one.processes for one in usage.commands.values()
                )
        except BaseException as error:
            failures.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=feed, args=(batches[n::8],)) for n in range(8)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
    finally:
        sys.setswitchinterval(interval)
    assert not failures
    assert counts(tracker) == {"attributed": 1000}
    assert tracker.close("a").complete


# ---- a real listener -------------------------------------------------------------------------


def test_a_listener_on_the_emulated_kernel_feeds_it(taskstats_kernel: EmulatedKernel) -> None:
    kernel = taskstats_kernel
    with ExitListener(endpoint=kernel.endpoint, probe="require") as listener:
        now = kernel.init.start_ns
        tracker = JobTracker(
            None,
            lambda pids: [
                alive.Alive(pid, 1, daemon.start_ns - daemon.start_ns % (10 * MS), False)
                for pid in pids or ()
            ],
            births=True,
            remember=10,
            clock=lambda: alive.Moment(now, now, now),
        )
        daemon = kernel.spawn("stepd")
        tracker.start(daemon.pid, 1)
        shell = kernel.spawn("sh", parent=daemon)
        program = kernel.spawn("solver", parent=shell, cpu=1)
        worker = kernel.spawn("worker", group=program, cpu=2)
        stranger = kernel.spawn("other")
        kernel.advance(1.0, program, worker)
        for one in (worker, shell, stranger):
            kernel.exit(one)
        kernel.exit(program, signal=9)
        listener.stop()
        for batch in listener.batches(timeout=0.1):
            tracker.feed(batch)
        tracker.feed(EMPTY)
    usage = tracker.close(1)
    assert {comm: one.threads for comm, one in usage.commands.items()} == {"sh": 1, "solver": 2}
    assert usage.commands["solver"].cpu_seconds == 2.0
    assert usage.commands["solver"].signals == {9: 1}
    assert usage.complete
    assert tracker.outside == 1
