"""JobTracker without births: only what records and the living prove, and nothing false."""

import errno
from collections.abc import Iterable
from typing import Any

import pytest
from support.machine import MS, Machine, Proc, S, counts

from taskstats import Batch
from taskstats.alive import Alive
from taskstats.jobs import JobTracker


@pytest.fixture
def machine() -> Machine:
    return Machine()


def begun(machine: Machine, **options: Any) -> tuple[JobTracker, Proc]:
    """A tracker, and the root of its job "a"."""
    tracker = machine.tracker(births=False, **options)
    root = machine.fork(machine.daemon)
    tracker.start(root.pid, "a")
    return tracker, root


def fed(machine: Machine, tracker: JobTracker) -> dict[str, int]:
    """What became of the records, when the queues were found empty after the living were asked."""
    tracker.feed(machine.read())
    for _ in range(2):
        machine.now += MS
        tracker.feed(machine.read())
    return counts(tracker)


# ---- what is proven --------------------------------------------------------------------------


def test_descendants_of_the_living_root_belong_to_the_job(machine: Machine) -> None:
    tracker, root = begun(machine)
    child = machine.fork(root)
    grandchild = machine.fork(child)
    stranger = machine.fork(machine.other)
    for one in (grandchild, child, stranger):
        machine.end(one)
    assert fed(machine, tracker) == {"attributed": 2, "outside": 1}
    machine.end(root)
    assert fed(machine, tracker) == {"attributed": 3, "outside": 1}
    usage = tracker.close("a")
    assert (usage.total.processes, usage.complete) == (3, True)


def test_a_parents_record_may_be_read_first_or_last(machine: Machine) -> None:
    tracker, root = begun(machine)
    for order in ((0, 1), (1, 0)):
        child = machine.fork(root)
        machine.end(machine.fork(child))
        machine.end(child)
        tracker.feed(machine.read(order=order))
    assert fed(machine, tracker) == {"attributed": 4}


def test_a_verdict_waits_for_all_earlier_records(machine: Machine) -> None:
    """Those queued before the living were looked at: a later drain finds all queues empty."""
    tracker, root = begun(machine)
    machine.end(machine.fork(root))
    tracker.feed(machine.read(emptied=False))
    asked_ns = machine.now
    assert tracker.settled_until == machine.clock().real
    machine.now += MS
    tracker.feed(Batch(b"", emptied_ns=asked_ns - 1))
    assert counts(tracker) == {"waiting": 1}
    tracker.feed(Batch(b"", emptied_ns=asked_ns))
    assert counts(tracker) == {"attributed": 1}
    assert tracker.settled_until is None


def test_a_late_reading_proves_as_much(machine: Machine) -> None:
    """Everything ended long before the first record is read."""
    tracker, root = begun(machine)
    for _ in range(3):
        child = machine.fork(root)
        machine.end(machine.fork(child))
        machine.end(child)
        machine.now += 5 * S
    machine.end(root)
    machine.now += 60 * S
    assert fed(machine, tracker) == {"attributed": 7}
    assert tracker.close("a").complete


def test_threads_are_added_as_one_process(machine: Machine) -> None:
    tracker, root = begun(machine)
    child = machine.fork(root)
    tid = machine.thread(child)
    machine.end(machine.fork(child))
    machine.end(child, comm="leader")
    tracker.feed(machine.read())
    machine.end(child, tid)
    assert fed(machine, tracker) == {"attributed": 3}
    total = tracker.usage("a").commands["leader"]
    assert (total.processes, total.threads, total.cpu_ns) == (1, 2, 2000)


# ---- who inherits ----------------------------------------------------------------------------


def test_an_orphan_that_init_inherited_is_undecided(machine: Machine) -> None:
    tracker, root = begun(machine)
    child = machine.fork(root)
    orphan = machine.fork(child)
    machine.end(child)
    machine.end(orphan)
    assert fed(machine, tracker) == {"attributed": 1, "undecided": 1}
    usage = tracker.usage("a")
    assert (usage.undecided, usage.complete) == (1, False)


def test_a_child_of_init_from_before_the_job_is_outside(machine: Machine) -> None:
    other = machine.fork(machine.init)
    machine.now += 10 * S
    tracker, _ = begun(machine)
    machine.end(other)
    assert fed(machine, tracker) == {"outside": 1}
    assert tracker.usage("a").complete


def test_the_orphans_of_a_named_subreaper_are_the_jobs(machine: Machine) -> None:
    machine.daemon.subreaper = True
    tracker = machine.tracker(births=False)
    root = machine.fork(machine.daemon)
    tracker.start(root.pid, "a", subreaper=machine.daemon.pid)
    child = machine.fork(root)
    orphan = machine.fork(child)
    machine.end(child)
    machine.end(orphan)
    machine.end(machine.fork(machine.init))
    assert fed(machine, tracker) == {"attributed": 2, "outside": 1}
    assert tracker.close("a").complete


def test_orphans_of_two_jobs_of_one_subreaper_are_undecided(machine: Machine) -> None:
    machine.daemon.subreaper = True
    tracker = machine.tracker(births=False)
    roots = [machine.fork(machine.daemon) for _ in range(2)]
    for job, root in zip("ab", roots, strict=True):
        tracker.start(root.pid, job, subreaper=machine.daemon.pid)
    child = machine.fork(roots[0])
    orphan = machine.fork(child)
    machine.end(child)
    machine.end(orphan)
    assert fed(machine, tracker) == {"attributed": 1, "undecided": 1}
    assert [tracker.usage(job).undecided for job in "ab"] == [1, 1]


def test_orphans_of_a_closed_job_are_not_the_next_ones(machine: Machine) -> None:
    """A closed inner job had the same subreaper."""
    machine.daemon.subreaper = True
    tracker = machine.tracker(births=False)
    first = machine.fork(machine.daemon)
    tracker.start(first.pid, "first", subreaper=machine.daemon.pid)
    child = machine.fork(first)
    machine.end(first)
    fed(machine, tracker)
    tracker.close("first")
    machine.now += 5 * S
    root = machine.fork(machine.daemon)
    tracker.start(root.pid, "a", subreaper=machine.daemon.pid)
    late = machine.fork(child)
    machine.end(child)
    machine.end(late)
    fed(machine, tracker)
    usage = tracker.usage("a")
    assert usage.total.processes == 0
    assert usage.undecided == 1


def test_a_closed_inner_job_leaves_its_processes_to_the_outer(machine: Machine) -> None:
    machine.daemon.subreaper = True
    tracker, outer = begun(machine)
    reaper = machine.fork(outer, subreaper=True)
    inner = machine.fork(reaper)
    tracker.start(inner.pid, "inner", subreaper=reaper.pid)
    child = machine.fork(inner)
    orphan = machine.fork(child)
    machine.end(child)
    fed(machine, tracker)
    assert tracker.close("inner").total.processes == 1
    machine.end(orphan)
    machine.end(inner)
    fed(machine, tracker)
    usage = tracker.usage("a")
    assert (usage.total.processes, usage.complete) == (3, True)


def test_what_may_be_a_closed_inner_jobs_may_be_the_outers(machine: Machine) -> None:
    tracker, outer = begun(machine)
    inner = machine.fork(outer)
    tracker.start(inner.pid, "inner")
    machine.end(machine.fork(inner, 77))
    parent = machine.fork(machine.fork(machine.other, 77))
    machine.end(machine.fork(parent))
    machine.end(parent)
    batch = machine.read(emptied=False)
    tracker.feed(batch[::2])
    fed(machine, tracker)
    assert tracker.close("inner").undecided == tracker.usage("a").undecided == 1
    tracker.feed(batch[1:2])
    fed(machine, tracker)
    assert tracker.usage("a").undecided == 2


# ---- pids that are given again ---------------------------------------------------------------


@pytest.mark.parametrize("apart", [True, False])
def test_an_earlier_owner_of_the_roots_pid_is_not_of_the_job(machine: Machine, apart: bool) -> None:
    """Its record is read after the job has begun; so is that of its child."""
    tracker = machine.tracker(births=False)
    earlier = machine.fork(machine.other, 77)
    machine.end(machine.fork(earlier))
    machine.end(earlier)
    machine.now += 3 * S * apart
    root = machine.fork(machine.daemon, 77)
    tracker.start(77, "a")
    fed(machine, tracker)
    assert tracker.usage("a").total.processes == 0
    machine.now += 3 * S
    machine.end(machine.fork(root))
    fed(machine, tracker)
    usage = tracker.usage("a")
    assert (usage.total.processes, usage.complete) == (apart, apart)


def test_an_earlier_owner_of_the_subreapers_pid_inherits_nothing(machine: Machine) -> None:
    tracker = machine.tracker(births=False)
    earlier = machine.fork(machine.daemon, 77)
    machine.end(machine.fork(earlier))
    machine.end(earlier)
    subreaper = machine.fork(machine.daemon, 77, subreaper=True)
    root = machine.fork(subreaper)
    tracker.start(root.pid, "a", subreaper=77)
    fed(machine, tracker)
    assert tracker.usage("a").total.processes == 0


@pytest.mark.parametrize("seconds", [0, 5])
def test_owners_of_one_pid_within_a_second_are_undecided(machine: Machine, seconds: int) -> None:
    """Later ones are told apart by their starts."""
    tracker, root = begun(machine)
    machine.now += 3 * S
    for maker in (root, machine.other):
        one = machine.fork(maker, 77)
        machine.now += seconds * S
        machine.end(machine.fork(one))
        machine.now += seconds * S
        machine.end(one)
    fed(machine, tracker)
    usage = tracker.usage("a")
    if seconds:
        assert counts(tracker) == {"attributed": 2, "outside": 2}
    else:
        assert usage.total.processes == 1
        assert (tracker.undecided, usage.complete) == (2, False)


def test_the_second_of_an_exit_may_be_that_of_the_last_tick(machine: Machine) -> None:
    """An exit soon after a second's begin counts as one of the second before."""
    tracker, root = begun(machine)
    machine.now += 3 * S
    earlier = machine.fork(machine.other, 77)
    machine.now += 4 * S - machine.clock().real % S + MS
    machine.end(machine.fork(earlier))
    machine.end(earlier)
    one = machine.fork(root, 77)
    machine.now += 3 * S + MS // 2
    machine.end(one, ac_btime64=machine.clock().real // S - 4)  # it lived for 3 seconds
    fed(machine, tracker)
    usage = tracker.usage("a")
    assert usage.total.processes == 1
    assert (tracker.undecided, usage.complete) == (1, False)


def test_that_tick_may_be_most_of_a_second_late(machine: Machine) -> None:
    tracker, root = begun(machine)
    machine.now += 10 * S - machine.clock().real % S + 450 * MS
    machine.end(machine.fork(root, 77))
    machine.now += 50 * MS
    child = machine.fork(machine.fork(machine.other, 77))
    machine.now += 400 * MS
    machine.end(child, ac_btime64=machine.clock().real // S - 1)
    fed(machine, tracker)
    assert tracker.attributed == 1


def test_a_parent_whose_threads_are_late_counts_as_an_owner(machine: Machine) -> None:
    """Its last thread's record is read, another thread's is not: it waits to be added up."""
    tracker, root = begun(machine)
    machine.end(machine.fork(root, 77))
    fed(machine, tracker)
    stranger = machine.fork(machine.other, 77)
    tid = machine.thread(stranger)
    machine.end(machine.fork(stranger))
    stranger.tids.pop(tid)
    stranger.cpu_count += 1  # of the thread that is late
    machine.end(stranger)
    for _ in range(3):
        tracker.feed(machine.read())
        machine.now += MS
        machine.end(machine.fork(root))
    fed(machine, tracker)
    assert tracker.usage("a").total.processes == 4


def test_a_living_process_that_was_missed_has_no_earlier_owners_record(machine: Machine) -> None:
    tracker, root = begun(machine)
    stranger = machine.fork(machine.other)
    machine.end(stranger)
    member = machine.fork(root, pid=stranger.pid)
    machine.end(machine.fork(member))
    tracker.feed(machine.read(emptied=False))
    asked_ns = machine.now
    machine.end(member)
    machine.now += 20 * MS
    tracker.start(machine.fork(machine.daemon, pid=member.pid).pid, "b")
    tracker.feed(Batch(b"", emptied_ns=asked_ns))
    assert tracker.attributed <= 1  # the child's record; the member's is not read yet
    assert tracker.outside == 1
    fed(machine, tracker)
    assert tracker.usage("a").total.processes <= 2


def test_a_parent_is_looked_at_after_its_child(machine: Machine) -> None:
    """Before, its pid may have been another process's, of the job."""
    inner_look = machine.look
    parents: list[Proc] = []
    strangers: list[Proc] = []

    def look(pids: Iterable[int] | None) -> list[Alive]:
        wanted = list(pids or ())
        if strangers or not parents or parents[0].pid not in wanted:
            return inner_look(wanted)
        at = wanted.index(parents[0].pid) + 1
        found = inner_look(wanted[:at])
        machine.end(parents[0])
        machine.now += 20 * MS
        strangers.append(machine.fork(machine.other, pid=parents[0].pid))
        strangers.append(machine.fork(strangers[0], pid=parents[1].pid))
        machine.now += 20 * MS
        return found + inner_look(wanted[at:])

    machine.look = look  # type: ignore[method-assign]
    tracker, root = begun(machine)
    parents += machine.fork(root), machine.fork(root)
    for parent in parents:
        machine.end(machine.fork(parent))
    machine.end(parents[1])
    fed(machine, tracker)
    before = tracker.attributed
    machine.end(machine.fork(strangers[1]))
    fed(machine, tracker)
    assert tracker.attributed == before


def test_the_next_owner_of_a_living_parents_pid_is_another(machine: Machine) -> None:
    """Pid 77 was seen alive in the job; it ends, and is given to a process outside."""
    tracker, root = begun(machine)
    inside = machine.fork(root, 77)
    machine.end(machine.fork(inside))
    assert fed(machine, tracker) == {"attributed": 1}
    machine.now += 3 * S
    machine.end(inside)
    machine.now += 3 * S
    outside = machine.fork(machine.other, 77)
    machine.now += 3 * S
    machine.end(machine.fork(outside))
    assert fed(machine, tracker) == {"attributed": 2, "outside": 1}


# ---- PID namespaces --------------------------------------------------------------------------


def namespaced(machine: Machine, **options: Any) -> tuple[JobTracker, Proc, Proc]:
    """An init of a PID namespace within the job, and a process that has entered from outside."""
    tracker, root = begun(machine, **options)
    init = machine.fork(root, nested=True)
    entered = machine.fork(machine.daemon, parent=init, nested=True)
    return tracker, init, entered


def test_the_init_of_a_pid_namespace_decides_nothing(machine: Machine) -> None:
    """It adopts whatever enters it and is orphaned there."""
    tracker, init, entered = namespaced(machine, may_nest=lambda: True)
    machine.end(entered)
    fed(machine, tracker)
    machine.end(init)
    fed(machine, tracker)
    usage = tracker.usage("a")
    assert (usage.total.processes, usage.undecided) == (1, 1)


def test_a_parent_never_seen_alive_may_be_such_an_init(machine: Machine) -> None:
    tracker, root = begun(machine, may_nest=lambda: True)
    unseen = machine.fork(root)
    machine.end(machine.fork(unseen))
    machine.end(unseen)
    seen = machine.fork(root)
    machine.end(machine.fork(seen))
    assert fed(machine, tracker) == {"attributed": 2, "undecided": 1}


# ---- losses ----------------------------------------------------------------------------------


def test_after_a_loss_only_living_parents_decide(machine: Machine) -> None:
    tracker, root = begun(machine)
    machine.now += 3 * S
    machine.end(machine.fork(machine.daemon), heard=False)
    child = machine.fork(root)
    machine.end(machine.fork(child))
    machine.end(child)
    fed(machine, tracker)
    usage = tracker.usage("a")
    assert (usage.total.processes, usage.undecided) == (1, 1)
    assert (usage.lost, usage.complete) == (1, False)


def test_a_lost_record_of_a_pids_owner_makes_nothing_false(machine: Machine) -> None:
    """Pid 77 is of the job, then of another process, whose record is lost."""
    tracker, root = begun(machine)
    machine.now += 3 * S
    machine.end(machine.fork(root, 77))
    stranger = machine.fork(machine.daemon, 77)
    machine.end(machine.fork(stranger))
    machine.end(stranger, heard=False)
    machine.end(machine.fork(root))
    fed(machine, tracker)
    assert tracker.usage("a").total.processes == 2


# ---- bounds, calls ---------------------------------------------------------------------------


def test_a_flush_decides_or_gives_up(machine: Machine) -> None:
    """What needs more records is undecided."""
    tracker, root = begun(machine)
    machine.now += 3 * S
    child = machine.fork(root)
    machine.end(machine.fork(child))
    machine.end(child)
    machine.end(machine.fork(root))
    tracker.feed(machine.read(emptied=False))
    tracker.flush()
    assert counts(tracker) == {"attributed": 2, "undecided": 1}


def test_what_waits_and_is_remembered_is_bounded(machine: Machine) -> None:
    tracker, root = begun(machine, capacity=100)
    machine.now += 3 * S
    for _ in range(2000):
        machine.end(machine.fork(root))
        tracker.feed(machine.read(emptied=False))
        assert tracker.waiting <= 101
    assert fed(machine, tracker) == {"attributed": 2000}
    assert tracker._records is not None
    assert tracker._records.parents.counts.remembered <= 126


@pytest.fixture
def unreadable(machine: Machine) -> list[bool]:
    """Whether /proc cannot be read: that is so while the list is not empty."""
    failing: list[bool] = []
    inner_look = machine.look

    def look(pids: Iterable[int] | None) -> list[Alive]:
        if failing:
            raise OSError(errno.EMFILE, "too many open files")
        return inner_look(pids)

    machine.look = look  # type: ignore[method-assign]
    return failing


def test_records_wait_while_proc_cannot_be_read(machine: Machine, unreadable: list[bool]) -> None:
    tracker, root = begun(machine)
    machine.end(machine.fork(root))
    unreadable.append(True)
    for _ in range(3):
        machine.now += MS
        with pytest.raises(OSError, match="open files"):
            tracker.feed(machine.read())
    assert counts(tracker) == {"waiting": 1}
    unreadable.clear()
    assert fed(machine, tracker) == {"attributed": 1}


def test_a_job_that_could_not_begin_may_begin_later(
    machine: Machine, unreadable: list[bool]
) -> None:
    tracker, root = begun(machine)
    child = machine.fork(root)
    inner_look = machine.look
    looks = iter([False, True])

    def look(pids: Iterable[int] | None) -> list[Alive]:
        unreadable[:] = [True] * next(looks, False)
        return inner_look(pids)

    tracker._look = tracker._records.parents._look = look  # type: ignore[union-attr]
    with pytest.raises(OSError, match="open files"):
        tracker.start(child.pid, "b")
    tracker.start(child.pid, "b")
    machine.end(child)
    assert fed(machine, tracker) == {"attributed": 1}
    assert tracker.close("b").total.processes == 1


def test_a_job_within_a_job_is_part_of_it(machine: Machine) -> None:
    tracker, outer = begun(machine)
    inner = machine.fork(machine.fork(outer))
    tracker.start(inner.pid, "inner")
    machine.end(machine.fork(inner))
    machine.end(machine.fork(outer))
    fed(machine, tracker)
    assert tracker.usage("a").total.processes == 2
    assert tracker.close("inner").total.processes == 1
    machine.end(inner)
    fed(machine, tracker)
    assert tracker.close("a").total.processes == 3


def test_attached_jobs_have_the_living_descendants(machine: Machine) -> None:
    root = machine.fork(machine.daemon)
    child = machine.fork(root)
    tracker = machine.tracker(births=False)
    tracker.attach(root.pid, "a")
    machine.now += 3 * S
    machine.end(root)
    machine.end(machine.fork(child))
    machine.end(child)
    assert fed(machine, tracker) == {"attributed": 3}
    assert not tracker.usage("a").complete


def test_living_processes_are_assigned_by_their_parents(machine: Machine) -> None:
    tracker, root = begun(machine)
    child = machine.fork(root)
    gone = machine.fork(root)
    orphan = machine.fork(gone)
    machine.end(gone)
    tasks = [root.pid, child.pid, orphan.pid, machine.daemon.pid]
    usage = tracker.usage("a", tasks)
    assert [one.pid for one in usage.living] == [root.pid, child.pid]
    assert usage.unclear == 1
