"""A listener with a probe, on the emulated kernel: records with their ends, births and cgroups."""

import asyncio
import errno
import gc
import itertools
import signal
import threading
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import FrameType
from typing import Any

import pytest
from support.child import run as in_child
from support.task import until

from taskstats import Batch, ExitListener, FieldUnavailable, Record, TaskstatsError, Where
from taskstats._native import ffi
from taskstats.births import Birth
from taskstats.emulator import EmulatedKernel, Task, Teardown
from taskstats.endpoint import Endpoint
from taskstats.exit_stats import ProbeStats

FOREVER = 1e6  # seconds: whatever is held is released by its end alone
SMALLEST_RING = 4096
AT_ONCE = 100  # records for which any receive buffer has room
END, BIRTH, CHANGE = 72, 48, 1048  # bytes of each event in the ring


@pytest.fixture
def kernel() -> Iterator[EmulatedKernel]:
    with EmulatedKernel() as made:
        yield made


@contextmanager
def listening(
    kernel: EmulatedKernel, cpus: str | None = None, *, settle: float = FOREVER, **how: Any
) -> Iterator[ExitListener]:
    """A listener with a probe, which must account for every record that it has received."""
    wanted = {"max_latency": 0, "settle": settle, "endpoint": kernel.endpoint} | how
    with ExitListener(cpus, probe="require", **wanted) as made:
        yield made
        kernel.release_ends()
    rest = list(made.batches())
    assert_all_accounted(made)
    assert probe(made).waiting == 0, rest


def with_ring(kernel: EmulatedKernel, size: int) -> Endpoint:
    """The kernel's endpoint, where rings have so many bytes."""
    make = kernel.endpoint.open_ring
    assert make is not None
    return replace(kernel.endpoint, open_ring=lambda _: make(size))


def probe(listener: ExitListener) -> ProbeStats:
    found = listener.stats().probe
    assert found is not None
    return found


def assert_all_accounted(listener: ExitListener) -> None:
    seen = probe(listener)
    assert listener.stats().received == seen.settled + seen.unsettled + seen.waiting


def now(listener: ExitListener) -> Batch:
    """What can be had without waiting."""
    return next(listener.batches(timeout=0))


def read(listener: ExitListener, count: int) -> list[Record]:
    """The next records, waited for."""
    found: list[Record] = []
    for batch in listener.batches(timeout=60):
        found += batch
        if len(found) >= count:
            break
        assert batch, "no record came"
    assert len(found) == count
    return found


def many(kernel: EmulatedKernel, listener: ExitListener, count: int) -> Iterator[Batch]:
    """So many processes of one CPU exit, and what comes of them without waiting."""
    for done in range(0, count, AT_ONCE):
        kernel.storm(min(AT_ONCE, count - done))
        yield now(listener)


def rest(listener: ExitListener) -> list[Record]:
    """All records that are left after a stop."""
    listener.stop()
    return [record for batch in listener.batches() for record in batch]


def ids(records: Iterable[Record]) -> list[int]:
    return [record.id for record in records]


def unsettled(records: Iterable[Record]) -> list[int]:
    return [record.id for record in records if not record.is_settled]


def born(batches: Iterable[Batch]) -> list[Birth]:
    return [birth for batch in batches for birth in batch.births]


# ---- what a settled record says --------------------------------------------------------------


def test_a_settled_record_has_the_figures_of_its_end(kernel: EmulatedKernel) -> None:
    build = kernel.make_cgroup("/build")
    with listening(kernel) as listener:
        task = kernel.spawn("cc1", cgroup=build)
        kernel.advance(2.5, task)
        kernel.exit(task, teardown=Teardown(cpu_ns=3_000_001))
        (record,) = read(listener, 1)
    assert record.is_settled
    assert record.cpu_run_virtual_total == 2_500_000_000
    assert record.final_cpu_ns == 2_503_000_001
    assert record.cpu_seconds == 2.503000001
    assert (record.start_ns, record.cgroup_id) == (task.start_ns, build.id)
    assert record.cgroup == "/build"


def test_an_unsettled_record_has_no_such_figures(kernel: EmulatedKernel) -> None:
    with listening(kernel, settle=0) as listener:
        task = kernel.spawn()
        kernel.advance(1, task)
        kernel.exit(task, teardown=Teardown(ends=False))
        (record,) = read(listener, 1)
    assert not record.is_settled
    assert record.cpu_seconds == 1.0
    for name in ("final_cpu_ns", "start_ns", "cgroup_id", "cgroup"):
        with pytest.raises(FieldUnavailable):
            getattr(record, name)


def test_each_thread_has_its_own_end(kernel: EmulatedKernel) -> None:
    with listening(kernel) as listener:
        leader = kernel.spawn(teardown=Teardown(cpu_ns=1))
        kernel.advance(0.5)
        thread = kernel.spawn(group=leader, cpu=3, teardown=Teardown(cpu_ns=2))
        kernel.exit_group(leader)
        records = {record.id: record for record in read(listener, 2)}
    assert records[leader.pid].start_ns == leader.start_ns
    assert records[thread.pid].start_ns == leader.start_ns + 500_000_000
    assert (records[leader.pid].final_cpu_ns, records[thread.pid].final_cpu_ns) == (1, 2)


def test_an_exec_by_a_thread_ends_two_tasks_of_one_pid(kernel: EmulatedKernel) -> None:
    """The thread takes the pid and the start of the leader, whose figures stay its own."""
    with listening(kernel) as listener:
        leader = kernel.spawn(teardown=Teardown(cpu_ns=10))
        kernel.advance(1, leader)
        thread = kernel.spawn(group=leader, cpu_delay_total=7)
        kernel.exec(thread, "new")
        kernel.advance(2, thread)
        kernel.exit(thread, teardown=Teardown(cpu_ns=20))
        old, new = read(listener, 2)
    assert (old.id, new.id) == (leader.pid, leader.pid)
    assert (old.start_ns, new.start_ns) == (leader.start_ns, leader.start_ns)
    assert (old.final_cpu_ns, new.final_cpu_ns) == (1_000_000_010, 2_000_000_020)


def test_the_cgroup_is_that_at_the_end(kernel: EmulatedKernel) -> None:
    first, second = kernel.make_cgroup("/first"), kernel.make_cgroup("/second")
    with listening(kernel) as listener:
        leader = kernel.spawn(cgroup=first)
        thread = kernel.spawn(group=leader)
        child = kernel.spawn(parent=leader)
        kernel.move(leader, second)
        for task in (child, thread, leader):
            kernel.exit(task)
        records = read(listener, 3)
    assert [record.cgroup for record in records] == ["/first", "/second", "/second"]


@pytest.mark.parametrize("version", [4, 10, 12, 15, 17])
def test_records_of_any_version_are_settled(version: int) -> None:
    with EmulatedKernel(version=version) as kernel, listening(kernel) as listener:
        task = kernel.spawn(cpu_delay_total=9, teardown=Teardown(cpu_ns=5))
        kernel.exit(task)
        (record,) = read(listener, 1)
        assert (record.final_cpu_ns, record.start_ns) == (5, task.start_ns)


# ---- waiting ---------------------------------------------------------------------------------


def test_a_record_waits_for_its_end(kernel: EmulatedKernel) -> None:
    with listening(kernel) as listener:
        with kernel.hold_ends():
            task = kernel.spawn()
            kernel.exit(task)
            assert len(now(listener)) == 0
            assert (probe(listener).waiting, listener.stats().received) == (1, 1)
        (record,) = read(listener, 1)
        assert record.is_settled
        assert (probe(listener).waiting, probe(listener).settled) == (0, 1)


def test_what_comes_after_a_waiting_record_waits_too(kernel: EmulatedKernel) -> None:
    """The stream is delayed, never reordered."""
    with listening(kernel, "0") as listener:
        tasks = [kernel.spawn() for _ in range(5)]
        with kernel.hold_ends():
            kernel.exit(tasks[0])
            kernel.exit(tasks[1])
            assert len(now(listener)) == 0
            kernel.release_ends(tasks[1])
            assert len(now(listener)) == 0
        for task in tasks[2:]:
            kernel.exit(task)
        records = read(listener, 5)
    assert ids(records) == [task.pid for task in tasks]
    assert unsettled(records) == []


def test_ends_may_come_in_another_order_than_records(kernel: EmulatedKernel) -> None:
    tasks = [kernel.spawn(teardown=Teardown(cpu_ns=n)) for n in range(50)]
    with listening(kernel, "0") as listener, kernel.hold_ends():
        for task in tasks:
            kernel.exit(task)
        now(listener)
        for task in reversed(tasks):
            kernel.release_ends(task)
        records = read(listener, 50)
    assert [record.final_cpu_ns for record in records] == list(range(50))


def test_groups_stay_with_their_records(kernel: EmulatedKernel) -> None:
    """Groups that were held, groups behind them, and processes of one thread between."""
    with listening(kernel, "0") as listener:
        tgids: list[int | None] = []
        with kernel.hold_ends():
            for n in range(40):
                leader = kernel.spawn()
                if n % 3:
                    kernel.exit(kernel.spawn(group=leader, nvcsw=n))
                    tgids.append(None)
                kernel.exit(leader)
                tgids.append(leader.tgid if n % 3 else None)
                if n % 7 == 0:
                    now(listener)
        assert [record.group and record.group.id for record in read(listener, len(tgids))] == tgids


def test_a_record_whose_end_never_comes_is_handed_out_after_settle(kernel: EmulatedKernel) -> None:
    with listening(kernel, "0", settle=0.02) as listener:
        hangs = kernel.spawn(teardown=Teardown(ends=False))
        others = [kernel.spawn(teardown=Teardown(cpu_ns=n)) for n in range(3)]
        for task in (hangs, *others):
            kernel.exit(task)
        records = read(listener, 4)
        assert ids(records) == [hangs.pid, *(task.pid for task in others)]
        assert unsettled(records) == [hangs.pid]
        assert [record.final_cpu_ns for record in records[1:]] == [0, 1, 2]
        assert (probe(listener).settled, probe(listener).unsettled) == (3, 1)


def test_an_end_that_comes_too_late_settles_nothing_else(kernel: EmulatedKernel) -> None:
    with listening(kernel, settle=0) as listener:
        with kernel.hold_ends():
            late = kernel.spawn(teardown=Teardown(cpu_ns=1))
            kernel.exit(late)
            assert unsettled(read(listener, 1)) == [late.pid]
        again = kernel.spawn(pid=late.pid, cpu_delay_total=4, teardown=Teardown(cpu_ns=2))
        kernel.exit(again)
        (record,) = read(listener, 1)
    assert (record.start_ns, record.final_cpu_ns) == (again.start_ns, 2)


def test_more_records_than_can_be_held(kernel: EmulatedKernel) -> None:
    """The oldest are handed out before their time; none is lost, and the order stays."""
    count = 16_384 + 3_000
    with listening(kernel, "0", endpoint=with_ring(kernel, 1 << 22)) as listener:
        with kernel.hold_ends():
            early = [record for batch in many(kernel, listener, count) for record in batch]
            assert len(early) == 3_000
            assert unsettled(early) == ids(early)
            assert probe(listener).waiting == 16_384
        later = read(listener, 16_384)
        assert unsettled(later) == []
        pids = ids(early + later)
        assert pids == list(range(pids[0], pids[0] + count))


# ---- whose end it is -------------------------------------------------------------------------


def test_two_tasks_of_one_pid_each_get_their_own_end(kernel: EmulatedKernel) -> None:
    with listening(kernel) as listener:
        first = kernel.spawn(cpu_delay_total=10, teardown=Teardown(cpu_ns=1))
        kernel.exit(first)
        second = kernel.spawn(pid=first.pid, cpu_delay_total=20, teardown=Teardown(cpu_ns=2))
        kernel.exit(second)
        records = read(listener, 2)
    assert [(record.start_ns, record.final_cpu_ns) for record in records] == [
        (first.start_ns, 1),
        (second.start_ns, 2),
    ]


def test_a_task_that_had_to_wait_again_gets_its_end(kernel: EmulatedKernel) -> None:
    after = Teardown(cpu_ns=5, runs=3, waited_ns=4_000)
    with listening(kernel) as listener:
        task = kernel.spawn(cpu_count=2, cpu_delay_total=10, teardown=after)
        kernel.advance(3)
        kernel.exit(task)
        (record,) = read(listener, 1)
    assert (record.cpu_count, record.final_cpu_ns, record.start_ns) == (2, 5, task.start_ns)


def test_two_ends_that_may_be_of_one_record_settle_none(kernel: EmulatedKernel) -> None:
    """Both tasks had to wait again, and had the same pid within a moment."""
    after = Teardown(cpu_ns=5, runs=1, waited_ns=1_000)
    with listening(kernel, "0", settle=0) as listener:
        first = kernel.spawn(teardown=after)
        kernel.exit(first)
        kernel.exit(kernel.spawn(pid=first.pid, teardown=after))
        records = read(listener, 2)
        assert unsettled(records) == [first.pid] * 2
        assert probe(listener).unsettled == 2


def test_equal_tasks_of_one_pid_are_not_told_apart(kernel: EmulatedKernel) -> None:
    with listening(kernel, settle=0) as listener:
        first = kernel.spawn(teardown=Teardown(cpu_ns=1))
        kernel.exit(first)
        kernel.exit(kernel.spawn(pid=first.pid, teardown=Teardown(cpu_ns=2)))
        assert unsettled(read(listener, 2)) == [first.pid] * 2


def test_many_that_had_to_wait_again_at_once(kernel: EmulatedKernel) -> None:
    """Of one CPU, ten milliseconds apart, read together."""
    with listening(kernel, "0", settle=0) as listener:
        for n in range(10):
            kernel.advance(0.01)
            kernel.exit(kernel.spawn(teardown=Teardown(cpu_ns=n, runs=1, waited_ns=5)))
        records = read(listener, 10)
    assert unsettled(records) == []
    assert [record.final_cpu_ns for record in records] == list(range(10))


def test_an_end_of_a_later_task_of_the_pid_settles_nothing(kernel: EmulatedKernel) -> None:
    """The end of the first was lost. The second began after the record of the first was read."""
    with listening(kernel, "0", settle=0.2) as listener:
        first = kernel.spawn()
        kernel.lose_events()
        kernel.exit(first)
        assert len(now(listener)) == 0
        kernel.advance(0.1)
        second = kernel.spawn(pid=first.pid, cpu=1, teardown=Teardown(runs=1, waited_ns=5))
        kernel.advance(0.1)
        kernel.exit(second)  # nobody listens there
        assert unsettled(read(listener, 1)) == [first.pid]


def test_after_a_lost_end_no_other_is_taken_for_it(kernel: EmulatedKernel) -> None:
    """A thread calls exec, and has the pid and the start of the leader whose end was lost."""
    with listening(kernel, "0", settle=0.2) as listener:
        leader = kernel.spawn()
        thread = kernel.spawn(group=leader, cpu=1, teardown=Teardown(runs=1, waited_ns=5))
        kernel.lose_events()
        kernel.exec(thread, "new")
        kernel.exit(thread)  # nobody listens there
        assert unsettled(read(listener, 1)) == [leader.pid]


def test_a_task_that_nobody_waited_for_is_settled(kernel: EmulatedKernel) -> None:
    with listening(kernel) as listener:
        zombie = kernel.spawn(teardown=Teardown(cpu_ns=1))
        kernel.exit(zombie, zombie=True)
        (record,) = read(listener, 1)
    assert (record.id, record.final_cpu_ns) == (zombie.pid, 1)


# ---- births ----------------------------------------------------------------------------------


def test_a_birth_names_child_maker_and_cgroup(kernel: EmulatedKernel) -> None:
    build = kernel.make_cgroup("/build")
    make = kernel.spawn("make", cgroup=build)
    with listening(kernel) as listener:
        kernel.advance(0.25)
        cc = kernel.spawn("cc", parent=make)
        kernel.exit(cc)
        batch = next(listener.batches(timeout=60))
    assert list(batch.births) == [
        Birth(cc.pid, cc.start_ns, make.pid, make.start_ns, build.id, "/build")
    ]
    assert cc.start_ns == make.start_ns + 250_000_000


def test_a_thread_is_no_birth_and_makes_some(kernel: EmulatedKernel) -> None:
    """The maker is the process, whichever thread called fork."""
    with listening(kernel) as listener:
        leader = kernel.spawn()
        thread = kernel.spawn(group=leader)
        child = kernel.spawn(parent=thread)
        kernel.exit(child)
        births = list(next(listener.batches(timeout=60)).births)
    assert [(one.pid, one.maker_pid) for one in births] == [
        (leader.pid, 1),
        (child.pid, leader.pid),
    ]
    assert births[1].maker_start_ns == births[0].start_ns


def test_the_maker_is_not_always_the_parent(kernel: EmulatedKernel) -> None:
    """CLONE_PARENT; and a double fork, after which init is the parent."""
    with listening(kernel) as listener:
        shell = kernel.spawn("sh")
        helper = kernel.spawn("helper", parent=shell)
        sibling = kernel.spawn("sibling", parent=shell, maker=helper)
        middle = kernel.spawn("middle", parent=shell)
        orphan = kernel.spawn("daemon", parent=middle)
        for task in (sibling, middle, orphan):
            kernel.exit(task)
        records = read(listener, 3)
        births = {one.pid: one.maker_pid for one in records[0]._batch.births}
    assert [record.ac_ppid for record in records] == [shell.pid, shell.pid, 1]
    assert (births[sibling.pid], births[orphan.pid]) == (helper.pid, middle.pid)


def test_births_come_in_order_and_before_their_records(kernel: EmulatedKernel) -> None:
    """The birth of a process comes with the batch of its record, or with an earlier one."""
    count = 5_000
    with listening(kernel, "0") as listener:
        births: list[int] = []
        records = 0
        for batch in many(kernel, listener, count):
            births += batch.births.column("pid")
            assert set(births).issuperset(record.id for record in batch)
            records += len(batch)
        assert records == count
    assert births == list(range(births[0], births[0] + count))


def test_a_child_is_born_before_its_own_children(kernel: EmulatedKernel) -> None:
    with listening(kernel) as listener:
        tasks = [kernel.init]
        for _ in range(100):
            tasks.append(kernel.spawn(parent=tasks[-1]))
        for task in tasks[:0:-1]:
            kernel.exit(task)
        births = born([next(listener.batches(timeout=60))])
    pairs = [(tasks[n].pid, tasks[n + 1].pid) for n in range(100)]
    assert [(one.maker_pid, one.pid) for one in births] == pairs


def test_births_without_records_come_with_an_empty_batch(kernel: EmulatedKernel) -> None:
    with listening(kernel) as listener:
        task = kernel.spawn()
        until(lambda: [one.pid for one in now(listener).births] == [task.pid])


def births_after_stop(listener: ExitListener) -> list[Batch]:
    listener.stop()
    return list(listener.batches())


def births_after_close(listener: ExitListener) -> list[Batch]:
    listener.close()
    return list(listener.batches())


def births_after_stop_in_a_loop(listener: ExitListener) -> list[Batch]:
    async def rest() -> list[Batch]:
        return [batch async for batch in listener.batches()]

    listener.stop()
    return asyncio.run(rest())


@pytest.mark.parametrize(
    "ending", [births_after_stop, births_after_close, births_after_stop_in_a_loop]
)
def test_births_and_cgroups_of_the_last_drain_come_too(
    kernel: EmulatedKernel,
    ending: Callable[[ExitListener], list[Batch]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where a batch has no room for all of them."""
    monkeypatch.setattr("taskstats.exits._BIRTHS", 1_000)
    with listening(kernel) as listener:
        tasks = [kernel.spawn() for _ in range(2_500)]
        last = kernel.make_cgroup("/last")
        tasks.append(kernel.spawn(cgroup=last))
        births = [birth for batch in ending(listener) for birth in batch.births]
    assert [one.pid for one in births] == [task.pid for task in tasks]
    assert births[-1].cgroup == "/last"


def test_births_stay_with_what_a_loop_over_records_has_left(kernel: EmulatedKernel) -> None:
    with listening(kernel) as listener:
        tasks = [kernel.spawn() for _ in range(3)]
        for task in tasks:
            kernel.exit(task)
        first = next(iter(listener))
        assert first.id == tasks[0].pid
        rest = now(listener)
        assert ids(rest) == [task.pid for task in tasks[1:]]
        assert [one.pid for one in rest.births] == [task.pid for task in tasks]


# ---- paths of cgroups ------------------------------------------------------------------------


def cgroups_of(kernel: EmulatedKernel, listener: ExitListener, *tasks: Task) -> list[str | None]:
    """The paths that the records of these tasks name, once they have exited."""
    for task in tasks:
        kernel.exit(task)
    return [record.cgroup for record in read(listener, len(tasks))]


def test_cgroups_that_exist_at_the_start_have_paths(kernel: EmulatedKernel) -> None:
    kernel.make_cgroup("/a")
    inner = kernel.make_cgroup("/a/b")
    with listening(kernel) as listener:
        tasks = kernel.spawn(cgroup=inner), kernel.spawn()
        assert cgroups_of(kernel, listener, *tasks) == ["/a/b", "/"]


def test_a_cgroup_made_used_and_removed_keeps_its_path(kernel: EmulatedKernel) -> None:
    """All of it before the listener reads."""
    with listening(kernel) as listener:
        made = kernel.make_cgroup("/brief")
        task = kernel.spawn(cgroup=made)
        kernel.exit(task)
        kernel.remove_cgroup(made)
        again = kernel.make_cgroup("/brief")
        other = kernel.spawn(cgroup=again)
        kernel.exit(other)
        first, second = read(listener, 2)
    assert (first.cgroup, second.cgroup) == ("/brief", "/brief")
    assert (first.cgroup_id, second.cgroup_id) == (made.id, again.id)
    assert made.id != again.id


def test_a_removed_cgroup_keeps_its_path_for_late_ends(kernel: EmulatedKernel) -> None:
    with listening(kernel) as listener:
        made = kernel.make_cgroup("/late")
        with kernel.hold_ends():
            kernel.exit(kernel.spawn(cgroup=made))
            kernel.remove_cgroup(made)
            assert len(now(listener)) == 0
        (record,) = read(listener, 1)
        assert record.cgroup == "/late"


def test_a_renamed_cgroup_and_those_below_have_new_paths(kernel: EmulatedKernel) -> None:
    outer = kernel.make_cgroup("/outer")
    inner = kernel.make_cgroup("/outer/inner")
    kernel.make_cgroup("/outermost")
    with listening(kernel) as listener:
        tasks = kernel.spawn(cgroup=outer), kernel.spawn(cgroup=inner)
        kernel.rename_cgroup(outer, "new")
        below = kernel.make_cgroup("/new/inner/below")
        assert cgroups_of(kernel, listener, *tasks, kernel.spawn(cgroup=below)) == [
            "/new",
            "/new/inner",
            "/new/inner/below",
        ]


def test_a_lost_change_makes_the_cgroups_be_listed_again(kernel: EmulatedKernel) -> None:
    with listening(kernel) as listener:
        kernel.lose_events(kind="cgroup")
        unheard = kernel.make_cgroup("/unheard")
        assert cgroups_of(kernel, listener, kernel.spawn(cgroup=unheard)) == ["/unheard"]
        assert probe(listener).changes_lost == 1


def test_a_path_too_long_to_be_told_is_none(kernel: EmulatedKernel) -> None:
    with listening(kernel) as listener:
        outer = kernel.make_cgroup("/" + "a" * 800)
        inner = kernel.make_cgroup(f"{outer.path}/{'b' * 400}")
        kernel.exit(kernel.spawn(cgroup=inner))
        (record,) = read(listener, 1)
        assert record.cgroup_id == inner.id
        with pytest.raises(FieldUnavailable):
            _ = record.cgroup


def test_a_hierarchy_without_a_probe_is_wrong() -> None:
    with pytest.raises(ValueError, match="cgroup_hierarchy is for the probe"):
        ExitListener(cgroup_hierarchy="unified")


# ---- events that the ring had no room for ----------------------------------------------------


def test_lost_events_are_counted_by_kind(kernel: EmulatedKernel) -> None:
    with listening(kernel, "0", settle=0) as listener:
        kernel.lose_events(2, "end")
        kernel.lose_events(3, "birth")
        kernel.lose_events(4, "cgroup")
        tasks = [kernel.spawn() for _ in range(5)]
        for n in range(5):
            kernel.make_cgroup(f"/{n}")
        for task in tasks:
            kernel.exit(task)
        batch = next(listener.batches(timeout=60))
        seen = probe(listener)
        assert (seen.ends_lost, seen.births_lost, seen.changes_lost) == (2, 3, 4)
        assert seen.lost == 9
    assert [one.pid for one in batch.births] == [task.pid for task in tasks[3:]]
    assert unsettled(batch) == ids(batch) == [task.pid for task in tasks]


def test_after_a_loss_records_are_soon_settled_again(kernel: EmulatedKernel) -> None:
    """Not those of the same drain: each may be one whose end was lost."""
    with listening(kernel, settle=0) as listener:
        kernel.lose_events(1, "end")
        first, second, third = (kernel.spawn() for _ in range(3))
        kernel.exit(first)
        kernel.exit(second)
        assert unsettled(next(listener.batches(timeout=60))) == [first.pid, second.pid]
        kernel.advance(1)
        next(listener.batches(timeout=0.3))  # it looks into the ring at least every 100 ms
        kernel.exit(third)
        assert unsettled(next(listener.batches(timeout=60))) == []


def test_a_ring_without_room_counts_each_event(kernel: EmulatedKernel) -> None:
    """And is written again once it has been read, across its end too."""
    small = with_ring(kernel, SMALLEST_RING)
    with listening(kernel, "0", settle=0, endpoint=small) as listener:
        written, lost = Counter[int](), Counter[int]()
        births = 0
        for count in (1, 30, 34, 35, AT_ONCE, 34):
            kernel.storm(count)
            used = 0
            for size in [BIRTH, END] * count:
                fits = used + size < SMALLEST_RING
                used += size * fits
                (written if fits else lost)[size] += 1
            batch = next(listener.batches(timeout=60))
            assert len(batch) == count
            births += len(batch.births)
            seen = probe(listener)
            assert (births, seen.births_lost) == (written[BIRTH], lost[BIRTH])
            assert seen.ends_lost == lost[END]
            assert (seen.settled == written[END]) is (lost[END] == 0)
        assert lost.total() > AT_ONCE


def test_a_change_that_finds_no_room_is_counted(kernel: EmulatedKernel) -> None:
    with listening(kernel, endpoint=with_ring(kernel, SMALLEST_RING)) as listener:
        for n in range(5):
            kernel.make_cgroup(f"/{n}")
        assert probe(listener).changes_lost == 5 - SMALLEST_RING // CHANGE


# ---- the end of the stream -------------------------------------------------------------------


def test_after_a_stop_all_comes_settled(kernel: EmulatedKernel) -> None:
    with listening(kernel) as listener:
        kernel.storm(AT_ONCE)
        records = rest(listener)
        assert len(records) == AT_ONCE
        assert unsettled(records) == []
        assert next(listener.batches(), None) is None


def test_after_a_stop_late_ends_are_waited_for(kernel: EmulatedKernel) -> None:
    with listening(kernel) as listener:
        with kernel.hold_ends():
            task = kernel.spawn()
            kernel.exit(task)
            listener.stop()
            assert [len(now(listener)) for _ in range(3)] == [0, 0, 0]
        assert [record.is_settled for record in rest(listener)] == [True]


def test_without_waiting_a_stopped_listener_comes_to_its_end(kernel: EmulatedKernel) -> None:
    with listening(kernel, settle=0) as listener:
        kernel.storm(AT_ONCE)
        kernel.exit(kernel.spawn(teardown=Teardown(ends=False)))
        listener.stop()
        batches = list(itertools.islice(listener.batches(timeout=0), 100))
        assert sum(map(len, batches)) == AT_ONCE + 1
        assert len(batches) < 100


def test_what_a_close_takes_is_settled(kernel: EmulatedKernel) -> None:
    listener = ExitListener(probe="require", settle=FOREVER, endpoint=kernel.endpoint)
    kernel.storm(AT_ONCE)
    held = threading.Timer(0.01, kernel.release_ends)
    with kernel.hold_ends():
        kernel.exit(kernel.spawn(cgroup=kernel.make_cgroup("/last")))
        held.start()
        listener.close()
    held.join()
    records = [record for batch in listener.batches() for record in batch]
    assert len(records) == AT_ONCE + 1
    assert unsettled(records) == []
    assert records[-1].cgroup == "/last"
    assert_all_accounted(listener)


def test_a_closed_listener_has_its_last_counters(kernel: EmulatedKernel) -> None:
    listener = ExitListener(probe="require", settle=0, endpoint=kernel.endpoint)
    kernel.lose_events(2)
    kernel.storm(5)
    listener.close()
    kernel.storm(5)
    seen = probe(listener)
    assert (seen.settled, seen.unsettled, seen.waiting, seen.ends_lost) == (0, 5, 0, 2)


# ---- other processes and other listeners -----------------------------------------------------


def test_a_child_of_fork_cannot_read_and_does_no_harm(kernel: EmulatedKernel) -> None:
    with listening(kernel) as listener:
        kernel.exit(kernel.spawn())

        def in_the_child() -> list[int | None]:
            codes: list[int | None] = []
            for attempt in (lambda: now(listener), listener.stats):
                try:
                    attempt()
                except TaskstatsError as error:
                    codes.append(error.errno)
            listener.close()
            gc.collect()
            return codes

        assert in_child(in_the_child) == [errno.EOWNERDEAD] * 2
        kernel.exit(kernel.spawn())
        records = read(listener, 2)
    assert unsettled(records) == []


def test_a_child_of_fork_has_no_ring_of_the_emulated_kernel(kernel: EmulatedKernel) -> None:
    def in_the_child() -> tuple[bool, int | None]:
        with ExitListener(probe="auto", endpoint=kernel.endpoint) as listener:
            error = listener.probe_error
            return listener.stats().probe is None, error.errno if error else None

    assert in_child(in_the_child) == (True, errno.EOPNOTSUPP)


def test_an_endpoint_without_a_ring_is_refused(kernel: EmulatedKernel) -> None:
    endpoint = replace(kernel.endpoint, open_ring=None)
    with pytest.raises(TaskstatsError) as refused:
        ExitListener(probe="require", endpoint=endpoint)
    assert refused.value.errno == errno.EOPNOTSUPP
    with ExitListener(probe="auto", endpoint=endpoint) as listener:
        assert listener.probe_error is not None
        kernel.exit(kernel.spawn())
        assert not next(listener.batches(timeout=60))[0].is_settled


def test_each_listener_has_a_ring_of_its_own(kernel: EmulatedKernel) -> None:
    with listening(kernel) as one, listening(kernel, "0") as other:
        kernel.storm(AT_ONCE)
        kernel.exit(kernel.spawn(cpu=1))
        assert unsettled(read(one, AT_ONCE + 1)) == []
        with listening(kernel) as late:
            kernel.storm(10)
            assert unsettled(read(late, 10)) == []
            assert unsettled(read(other, AT_ONCE + 10)) == []
            assert unsettled(read(one, 10)) == []
        kernel.storm(10)
        assert unsettled(read(one, 10)) == []


def test_a_closed_listener_gives_its_ring_back(kernel: EmulatedKernel) -> None:
    listener = ExitListener(probe="require", endpoint=kernel.endpoint)
    assert listener._probe is not None
    ring = weakref.ref(listener._probe._ring)
    kernel.storm(10)
    listener.close()
    gc.collect()
    assert ring() is None
    kernel.storm(10)


def test_a_listener_outlives_its_kernel() -> None:
    with EmulatedKernel() as kernel:
        listener = ExitListener(probe="require", settle=0, endpoint=kernel.endpoint)
        kernel.storm(AT_ONCE)
    del kernel
    gc.collect()
    with listener:
        records = rest(listener)
    assert len(records) == AT_ONCE
    assert unsettled(records) == []


def test_filtered_exits_settle_nothing_and_disturb_nothing(kernel: EmulatedKernel) -> None:
    """Their ends are in the ring all the same."""
    with listening(kernel, where=Where(failed=True)) as listener:
        failed = []
        for n in range(150):
            task = kernel.spawn(teardown=Teardown(cpu_ns=n))
            kernel.exit(task, code=n % 3)
            if n % 3:
                failed.append((task.pid, n))
        records = rest(listener)
        assert [(record.id, record.final_cpu_ns) for record in records] == failed
        assert listener.stats().filtered == 50
        assert probe(listener).settled == 100


def test_ends_on_other_cpus_disturb_nothing(kernel: EmulatedKernel) -> None:
    """More of them than are kept."""
    with listening(kernel, "1", endpoint=with_ring(kernel, 1 << 22)) as listener:
        with ExitListener("0", endpoint=kernel.endpoint):
            for _ in range(4):
                kernel.storm(18_000, cpu=0)
                task = kernel.spawn(cpu=1, teardown=Teardown(cpu_ns=7))
                kernel.exit(task)
                (record,) = read(listener, 1)
                assert (record.id, record.final_cpu_ns) == (task.pid, 7)


# ---- waiting for batches ---------------------------------------------------------------------


def test_no_empty_batch_comes_while_records_are_held(kernel: EmulatedKernel) -> None:
    with listening(kernel) as listener, kernel.hold_ends():
        kernel.exit(kernel.spawn())
        assert len(now(listener)) == 0
        release = threading.Timer(0.05, kernel.release_ends)
        release.start()
        batch = next(listener.batches(timeout=0.001))
        release.join()
        assert [record.is_settled for record in batch] == [True]
        assert len(next(listener.batches(timeout=0.001))) == 0


@pytest.mark.parametrize("stops", [False, True])
def test_records_and_batches_by_async_for(kernel: EmulatedKernel, stops: bool) -> None:
    async def main(listener: ExitListener) -> list[Record]:
        kernel.hold_ends()
        tasks = [kernel.spawn() for _ in range(20)]
        for task in tasks:
            kernel.exit(task)
        if stops:
            listener.stop()
        asyncio.get_running_loop().call_later(0.02, kernel.release_ends)
        found: list[Record] = []
        async for record in listener:
            found.append(record)
            if len(found) == 20:
                break
        assert ids(found) == [task.pid for task in tasks]
        async for batch in listener.batches(timeout=0.001):
            assert not batch
            break
        return found

    with listening(kernel) as listener:
        assert unsettled(asyncio.run(main(listener))) == []


def test_a_signal_is_handled_while_records_are_held(kernel: EmulatedKernel) -> None:
    """What its handler raises loses no record."""
    main = threading.get_ident()

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    with listening(kernel) as listener, kernel.hold_ends():
        tasks = [kernel.spawn() for _ in range(3)]
        for task in tasks:
            kernel.exit(task)
        assert len(now(listener)) == 0
        before = signal.signal(signal.SIGUSR1, interrupt)
        try:
            with pytest.raises(KeyboardInterrupt):
                threading.Timer(0.02, signal.pthread_kill, (main, signal.SIGUSR1)).start()
                next(listener.batches())
        finally:
            signal.signal(signal.SIGUSR1, before)
        assert probe(listener).waiting == 3
        kernel.release_ends()
        assert ids(read(listener, 3)) == [task.pid for task in tasks]


def test_a_stop_from_another_thread_ends_the_reading(kernel: EmulatedKernel) -> None:
    with listening(kernel, settle=0.01) as listener:
        kernel.exit(kernel.spawn(teardown=Teardown(ends=False)))
        stop = threading.Timer(0.02, listener.stop)
        stop.start()
        assert [record.is_settled for record in listener] == [False]
        stop.join()


# ---- a damaged ring --------------------------------------------------------------------------


def memory(listener: ExitListener, part: str) -> Any:
    """A part of the ring that the listener reads."""
    assert listener._probe is not None
    ring = listener._probe._ring
    return ffi.buffer(getattr(ring, part), ring.size if part == "data" else 8)


def write_huge_lengths(listener: ExitListener) -> None:
    data = memory(listener, "data")
    data[:] = b"\xff\xff\xff\x3f" * (len(data) // 4)


def write_unknown_events(listener: ExitListener) -> None:
    data = memory(listener, "data")
    data[8:12] = (77).to_bytes(4, "little")


def write_odd_sizes(listener: ExitListener) -> None:
    memory(listener, "data")[0:4] = (60).to_bytes(4, "little")


def write_producer_far_ahead(listener: ExitListener) -> None:
    memory(listener, "producer")[:] = (1 << 60).to_bytes(8, "little")


def write_producer_behind(listener: ExitListener) -> None:
    memory(listener, "producer")[:] = (-8 % 2**64).to_bytes(8, "little")


@pytest.mark.parametrize(
    "damage",
    [
        write_huge_lengths,
        write_unknown_events,
        write_odd_sizes,
        write_producer_far_ahead,
        write_producer_behind,
    ],
)
def test_a_damaged_ring_is_refused(
    kernel: EmulatedKernel, damage: Callable[[ExitListener], None]
) -> None:
    """Records come all the same, without their ends."""
    with listening(kernel, settle=0) as listener:
        kernel.storm(3)
        damage(listener)
        records = read(listener, 3)
        assert unsettled(records) == ids(records)
        assert probe(listener).damaged
        kernel.storm(50)
        later = read(listener, 50)
        assert unsettled(later) == ids(later)
        assert (probe(listener).settled, probe(listener).unsettled) == (0, 53)
