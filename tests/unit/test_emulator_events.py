"""What the emulated kernel writes into the ring of a probe, read without a listener."""

import gc
from collections.abc import Callable, Iterator

import pytest
from support.ring import Birth, Change, End, Ring, peers

from taskstats import ExitListener
from taskstats.emulator import ControlGroup, EmulatedKernel, Task, Teardown

SIZE = 1 << 16


@pytest.fixture
def kernel() -> Iterator[EmulatedKernel]:
    with EmulatedKernel() as made:
        yield made


@pytest.fixture
def ring(kernel: EmulatedKernel) -> Ring:
    return opened(kernel)


def opened(kernel: EmulatedKernel, size: int = SIZE) -> Ring:
    assert kernel.endpoint.open_ring is not None
    return peers(kernel.endpoint.open_ring(size))


def births_and_ends(ring: Ring) -> tuple[list[Birth], list[End]]:
    events = ring.new()
    return (
        [event for event in events if isinstance(event, Birth)],
        [event for event in events if isinstance(event, End)],
    )


def ended(ring: Ring) -> list[int]:
    return [end.pid for end in births_and_ends(ring)[1]]


def test_births_and_ends_of_processes_and_threads(kernel: EmulatedKernel, ring: Ring) -> None:
    build = kernel.make_cgroup("/build")
    leader = kernel.spawn(cgroup=build, cpu_count=3, cpu_delay_total=70)
    kernel.advance(1, leader)
    after = Teardown(cpu_ns=5, runs=2, waited_ns=30)
    thread = kernel.spawn(group=leader, teardown=after)
    kernel.advance(2, leader, thread)
    kernel.exit(thread)
    kernel.exit(leader)
    made, birth, first, second = ring.new()
    assert made == Change("made", build.id, "/build")
    assert birth == Birth(leader.pid, 1, leader.start_ns, kernel.init.start_ns, build.id)
    assert isinstance(first, End)
    assert isinstance(second, End)
    assert first == End(
        pid=thread.pid,
        tgid=leader.pid,
        runs=1 + 2,
        start_ns=leader.start_ns + 10**9,
        began_ns=thread.started_ns,
        ended_ns=thread.started_ns + 2 * 10**9 + 5 + 30,
        cpu_ns=2 * 10**9 + 5,
        waited_ns=30,
        cgroup_id=build.id,
    )
    assert (second.pid, second.runs, second.waited_ns) == (leader.pid, 3, 70)
    assert (second.cpu_ns, second.start_ns) == (3 * 10**9, leader.start_ns)


def test_no_two_tasks_start_at_once(kernel: EmulatedKernel) -> None:
    starts = [kernel.spawn().start_ns for _ in range(100)]
    assert len({*starts, kernel.init.start_ns}) == 101
    assert starts == sorted(starts)


def test_an_exec_gives_the_thread_the_start_of_its_leader(
    kernel: EmulatedKernel, ring: Ring
) -> None:
    """It is no birth (fs/exec.c:de_thread)."""
    leader = kernel.spawn()
    other, thread = kernel.spawn(group=leader), kernel.spawn(group=leader)
    tid = thread.pid
    kernel.exec(thread, "new")
    kernel.exit(thread)
    birth, *ends = ring.new()
    assert isinstance(birth, Birth)
    told = [(one.pid, one.tgid, one.start_ns) for one in ends if isinstance(one, End)]
    itself = (leader.pid, leader.pid, birth.start_ns)
    assert told == [itself, (other.pid, leader.pid, other.start_ns), itself]
    assert tid not in [one[0] for one in told]


def test_an_exec_by_a_thread_waits_for_the_end_of_its_leader(
    kernel: EmulatedKernel, ring: Ring
) -> None:
    leader = kernel.spawn()
    other, thread = kernel.spawn(group=leader), kernel.spawn(group=leader)
    with kernel.hold_ends():
        kernel.exit(leader)
        assert ended(ring) == []
        kernel.exec(thread, "new")
        assert ended(ring) == [leader.pid]
    assert ended(ring) == [other.pid]


def test_a_child_is_in_the_cgroup_of_its_maker(kernel: EmulatedKernel) -> None:
    a, b = kernel.make_cgroup("/a"), kernel.make_cgroup("/b")
    parent, maker = kernel.spawn(cgroup=a), kernel.spawn(cgroup=b)
    thread = kernel.spawn(group=parent)
    assert kernel.spawn(parent=parent).cgroup is a
    assert kernel.spawn(parent=parent, maker=maker).cgroup is b
    kernel.move(thread, b)
    assert (parent.cgroup, thread.cgroup) == (b, b)
    assert kernel.spawn().cgroup is kernel.root_cgroup


def test_changes_of_cgroups_have_ids_and_paths(kernel: EmulatedKernel, ring: Ring) -> None:
    a = kernel.make_cgroup("/a")
    b = kernel.make_cgroup("/a/b")
    kernel.rename_cgroup(a, "c")
    kernel.remove_cgroup(b)
    again = kernel.make_cgroup("/c/b/")
    kernel.remove_cgroup(again)
    kernel.remove_cgroup(a)
    assert ring.new() == [
        Change("made", a.id, "/a"),
        Change("made", b.id, "/a/b"),
        Change("renamed", a.id, "/c"),
        Change("removed", b.id, "/c/b"),
        Change("made", again.id, "/c/b"),
        Change("removed", again.id, "/c/b"),
        Change("removed", a.id, "/c"),
    ]
    assert len({a.id, b.id, again.id, kernel.root_cgroup.id}) == 4
    assert kernel.endpoint.list_cgroups is not None
    assert kernel.endpoint.list_cgroups() == {kernel.root_cgroup.id: "/"}


def test_held_ends_come_when_they_are_released(kernel: EmulatedKernel, ring: Ring) -> None:
    a, b, c = (kernel.spawn() for _ in range(3))
    ring.new()
    kernel.release_ends(a)
    with kernel.hold_ends():
        kernel.exit(a)
        kernel.exit(b)
        assert ring.new() == []
        kernel.advance(1)
        kernel.release_ends(b)
        (late,) = ring.new()
        assert isinstance(late, End)
        assert (late.pid, late.ended_ns - late.began_ns) == (b.pid, 10**9 + 1000)
        kernel.exit(c)
        assert ring.new() == []
    assert ended(ring) == [a.pid, c.pid]
    kernel.exit(kernel.spawn())
    assert len(ended(ring)) == 1, "the next one at once"


def test_a_task_that_never_ends_has_no_end(kernel: EmulatedKernel, ring: Ring) -> None:
    hangs, ends = kernel.spawn(teardown=Teardown(ends=False)), kernel.spawn()
    kernel.exit_group(hangs)
    kernel.exit(ends)
    kernel.exit(kernel.spawn(), teardown=Teardown(ends=False))
    assert ended(ring) == [ends.pid]


def test_events_are_lost_on_demand(kernel: EmulatedKernel, ring: Ring) -> None:
    kernel.lose_events()
    kernel.lose_events(2, "birth")
    tasks = [kernel.spawn() for _ in range(3)]
    for task in tasks:
        kernel.exit(task)
    births, ends = births_and_ends(ring)
    assert [one.pid for one in births] == [tasks[2].pid]
    assert [one.pid for one in ends] == [task.pid for task in tasks[1:]]
    assert ring.lost() == [1, 2, 0]


def test_a_full_ring_loses_what_comes(kernel: EmulatedKernel) -> None:
    """The last byte is never filled, as in the kernel's (kernel/bpf/ringbuf.c)."""
    ring = opened(kernel, 4096)
    for _ in range(4096 // 48):
        kernel.spawn()
    assert ring.lost() == [0, 0, 0]
    kernel.spawn()
    assert ring.lost() == [0, 1, 0]
    assert len(ring.new()) == 4096 // 48
    for _ in range(4096 // 48):  # across the end of the memory
        kernel.spawn()
    assert len({one.pid for one in births_and_ends(ring)[0]}) == 4096 // 48
    assert ring.lost() == [0, 1, 0]


def test_a_storm_has_births_and_ends(kernel: EmulatedKernel, ring: Ring) -> None:
    cgroup = kernel.make_cgroup("/c")
    with ExitListener("0", endpoint=kernel.endpoint):
        kernel.storm(3, cgroup=cgroup, teardown=Teardown(cpu_ns=9))
        births, ends = births_and_ends(ring)
        with kernel.hold_ends():
            kernel.storm(2)
            assert ended(ring) == []
        assert len(ended(ring)) == 2
    assert [(one.pid, one.start_ns) for one in births] == [(one.pid, one.start_ns) for one in ends]
    assert len(set(births)) == 3
    assert {(one.cgroup_id, one.cpu_ns, one.tgid - one.pid) for one in ends} == {(cgroup.id, 9, 0)}


def test_a_ring_that_nobody_has_is_written_no_more(kernel: EmulatedKernel) -> None:
    ring, other = opened(kernel), opened(kernel)
    kernel.spawn()
    assert (len(ring.new()), len(other.new())) == (1, 1)
    assert len(kernel._state.events._rings) == 2
    del other
    gc.collect()
    assert len(kernel._state.events._rings) == 1
    kernel.spawn()
    assert len(ring.new()) == 1


def _removed(kernel: EmulatedKernel) -> ControlGroup:
    gone = kernel.make_cgroup("/gone")
    kernel.remove_cgroup(gone)
    return gone


def _with_task(kernel: EmulatedKernel) -> ControlGroup:
    made = kernel.make_cgroup("/used")
    kernel.spawn(cgroup=made)
    return made


def _with_child(kernel: EmulatedKernel) -> ControlGroup:
    made = kernel.make_cgroup("/outer")
    kernel.make_cgroup("/outer/inner")
    return made


def _exited(kernel: EmulatedKernel) -> Task:
    task = kernel.spawn()
    kernel.exit(task)
    return task


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda k: k.make_cgroup("a"), "a path of a cgroup is like"),
        (lambda k: k.make_cgroup("/a//b"), "a path of a cgroup is like"),
        (lambda k: k.make_cgroup("/a/b"), "there is no cgroup 'a' in /"),
        (lambda k: k.make_cgroup("/"), "there is a cgroup / already"),
        (lambda k: (k.make_cgroup("/a"), k.make_cgroup("/a")), "there is a cgroup /a already"),
        (lambda k: k.rename_cgroup(k.root_cgroup, "a"), "this is the root"),
        (lambda k: k.rename_cgroup(k.make_cgroup("/a"), "a"), "no new name in /: 'a'"),
        (lambda k: k.rename_cgroup(k.make_cgroup("/a"), "b/c"), "no new name in /: 'b/c'"),
        (lambda k: k.rename_cgroup(_removed(k), "a"), "/gone was removed"),
        (lambda k: k.remove_cgroup(k.root_cgroup), "there are tasks in /"),
        (lambda k: k.remove_cgroup(_removed(k)), "/gone was removed"),
        (lambda k: k.remove_cgroup(_with_task(k)), "there are tasks in /used"),
        (lambda k: k.remove_cgroup(_with_child(k)), "/outer has cgroups below it"),
        (lambda k: k.move(k.spawn(), _removed(k)), "/gone was removed"),
        (lambda k: k.move(_exited(k), k.root_cgroup), "has exited"),
        (lambda k: k.spawn(cgroup=_removed(k)), "the cgroup /gone was removed"),
        (lambda k: k.spawn(maker=_exited(k)), "has exited"),
        (lambda k: k.spawn(group=k.spawn(), maker=k.init), "a thread has its group's parent"),
        (
            lambda k: k.exec(k.spawn(group=k.spawn(teardown=Teardown(ends=False))), "x"),
            "never ends",
        ),
        (lambda k: k.lose_events(kind="record"), "events are of kind end, birth, cgroup"),
    ],
)
def test_what_cannot_be_is_refused(
    kernel: EmulatedKernel, call: Callable[[EmulatedKernel], object], says: str
) -> None:
    with pytest.raises(ValueError, match=says):
        call(kernel)
