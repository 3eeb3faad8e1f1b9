"""The emulated kernel, asked with the package itself: what its own methods promise.

What the kernel's interface does stands in tests/conformance.
"""

import errno
import gc
import os
import re
import resource
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support import wire
from support.asking import CGROUP_GET, PID, REGISTER, Port, attribute, message
from support.fake_kernel import frame

from taskstats import (
    FIELDS,
    AccessDenied,
    Client,
    Endpoint,
    ExitListener,
    NoSuchTask,
    Record,
    TaskstatsError,
    Unavailable,
    Where,
    cgroup_stats,
    decode,
)
from taskstats.emulator import Caller, EmulatedKernel, Quirks, Task, cpumask, exiting
from taskstats.emulator.errors import Refused

FAMILY = 0x1F  # what the emulated kernel's nlctrl says


@pytest.fixture
def kernel(taskstats_kernel: EmulatedKernel) -> EmulatedKernel:
    return taskstats_kernel


@pytest.fixture
def client(kernel: EmulatedKernel) -> Iterator[Client]:
    with Client(endpoint=kernel.endpoint) as opened:
        yield opened


def heard(listener: ExitListener) -> list[Record]:
    """All that it has to give, now that it is stopped."""
    listener.stop()
    return [record for batch in listener.batches() for record in batch]


# ---- tasks and time


def test_a_task_is_what_the_test_says(kernel: EmulatedKernel, client: Client) -> None:
    shell = kernel.spawn("sh", uid=1000, gid=100)
    task = kernel.spawn("a name that is too long", parent=shell, nvcsw=3, read_bytes=5000)
    task.add(nvcsw=4, ac_utime=1_500, ac_stime=500)
    kernel.advance(2.5)
    read = client.pid(task.pid)
    assert read.comm == "a name that is "
    assert (read.ac_pid, read.ac_tgid, read.ac_ppid) == (task.pid, task.pid, shell.pid)
    assert (read.ac_uid, read.ac_gid) == (1000, 100)
    assert read.ac_etime == 2_500_000
    assert read.nvcsw == 7
    assert read.read_bytes == 4096, "the kernel rounds down to 1,024"
    assert read.cpu_run_real_total == read.cpu_run_virtual_total == 2_000_000
    task.rename("sleep")
    assert client.pid(task.pid).comm == "sleep"


def test_time_is_the_tests(kernel: EmulatedKernel, client: Client) -> None:
    first = kernel.spawn()
    kernel.advance(10)
    second = kernel.spawn(group=first)
    kernel.advance(0.25, second)
    read = client.pid(second.pid)
    assert (read.ac_etime, read.ac_tgetime, read.ac_utime) == (250_000, 10_250_000, 250_000)
    started = client.pid(first.pid).ac_btime64
    kernel.advance(3600)
    assert client.pid(first.pid).ac_btime64 == started
    group = client.tgid(first.pid)
    assert group.ac_etime == 2 * 3_600_250_000 + 10_000_000


def test_when_a_task_began_is_told_to_the_second(kernel: EmulatedKernel, client: Client) -> None:
    """By whole seconds of now and of its age: at 0.7 s, in the next second, it is one too late."""
    kernel.advance(0.4)
    task = kernel.spawn()
    told = []
    for seconds in (0, 0.7, 0.3):
        kernel.advance(seconds)
        record = client.pid(task.pid)
        assert record.ac_btime == record.ac_btime64
        told.append(record.ac_btime64)
    assert [one - told[0] for one in told] == [0, 1, 0]


RUNS = ("cpu_run_real_total", "cpu_run_virtual_total", "cpu_scaled_run_real_total")


def test_a_figure_that_was_added_to_goes_on(kernel: EmulatedKernel, client: Client) -> None:
    added, given, told = kernel.spawn(), kernel.spawn(**dict.fromkeys(RUNS, 7)), kernel.spawn()

    def read(task: Task, *names: str) -> list[int]:
        record = client.pid(task.pid)
        return [getattr(record, name) for name in names]

    kernel.advance(2, added, given, told)
    added.add(**dict.fromkeys(RUNS, 10), ac_utimescaled=3, cpu_count=4)
    assert read(added, *RUNS) == [2 * 10**9 + 10] * 3
    assert read(given, *RUNS) == [2 * 10**9 + 7] * 3
    assert read(added, "ac_utime", "ac_utimescaled", "cpu_count") == [2_000_000, 2_000_003, 5]
    kernel.advance(1, added, given)
    assert read(added, *RUNS) == [3 * 10**9 + 10] * 3
    assert read(given, *RUNS) == [3 * 10**9 + 7] * 3
    assert read(added, "ac_utime", "ac_utimescaled", "cpu_count") == [3_000_000, 3_000_003, 5]
    told.add(ac_utime=5, cpu_run_real_total=1)
    told.add(ac_stime=6)
    assert read(told, *RUNS) == [2 * 10**9 + 1, 2 * 10**9 + 11_000, 2 * 10**9 + 11_000]
    assert read(told, "ac_utimescaled", "ac_stimescaled") == [2_000_005, 6]


def test_what_grows_too_big_begins_at_0_again(kernel: EmulatedKernel, client: Client) -> None:
    leader = kernel.spawn(nvcsw=2**64 - 1, ac_utime=2**63)
    kernel.spawn(group=leader, nvcsw=3)
    assert client.tgid(leader.pid).nvcsw == 2
    assert client.pid(leader.pid).cpu_run_real_total == 1000 * 2**63 % 2**64


def test_a_process_goes_with_its_last_thread(kernel: EmulatedKernel, client: Client) -> None:
    leader = kernel.spawn(cpu=1, uid=7)
    thread = kernel.spawn(group=leader)
    assert (thread.tgid, thread.cpu, thread.uid) == (leader.pid, 1, 7)
    kernel.exit(leader, 3)
    assert client.pid(leader.pid).exit_code == 3, "a zombie until the others have gone"
    kernel.exit(thread)
    for pid in (leader.pid, thread.pid):
        with pytest.raises(NoSuchTask):
            client.pid(pid)


def test_a_zombie_waits_to_be_reaped(kernel: EmulatedKernel, client: Client) -> None:
    task = kernel.spawn(hiwater_rss=100, ac_exe_inode=5)
    assert client.pid(task.pid).hiwater_rss == 100
    kernel.exit(task, signal=9, zombie=True)
    read = client.pid(task.pid)
    assert (read.exit_signal, read.hiwater_rss, read.ac_exe_inode) == (9, 0, 0)
    kernel.reap(task)
    with pytest.raises(NoSuchTask):
        client.pid(task.pid)


def test_exit_group_ends_all_threads(kernel: EmulatedKernel) -> None:
    leader = kernel.spawn()
    threads = [kernel.spawn(group=leader, cpu=cpu) for cpu in range(4)]
    with ExitListener(endpoint=kernel.endpoint) as listener:
        kernel.exit_group(leader, 2)
        records = heard(listener)
    assert {r.ac_pid for r in records} == {t.pid for t in (leader, *threads)}
    assert {r.exit_code for r in records} == {2}
    assert [r.ac_pid for r in records if r.is_last] == [threads[-1].pid]


def parent_of(client: Client, task: Task) -> int:
    return client.pid(task.pid).ac_ppid


def test_an_orphan_is_given_to_the_nearest_subreaper_above(
    kernel: EmulatedKernel, client: Client
) -> None:
    far = kernel.spawn("far")
    near = kernel.spawn("near", parent=far)
    between = kernel.spawn("between", parent=near)
    parent = kernel.spawn("parent", parent=between)
    orphan = kernel.spawn("orphan", parent=parent)
    grandchild = kernel.spawn("grandchild", parent=orphan)
    beside = kernel.spawn("beside", parent=far)
    far.subreaper = near.subreaper = beside.subreaper = True
    assert not parent.subreaper, "a new process is none"
    with ExitListener("0", endpoint=kernel.endpoint) as listener:
        kernel.exit(parent)
        assert (parent_of(client, orphan), orphan.parent) == (near.pid, near)
        assert parent_of(client, grandchild) == orphan.pid
        kernel.exit(near)
        assert parent_of(client, orphan) == parent_of(client, between) == far.pid
        far.subreaper = False
        kernel.exit(orphan)
        kernel.exit(far)
        assert parent_of(client, between) == parent_of(client, beside) == 1
        kernel.exit(between)
        told = {record.comm: record.ac_ppid for record in heard(listener)}
    assert told == {
        "parent": between.pid,
        "near": far.pid,
        "orphan": far.pid,
        "far": 1,
        "between": 1,
    }


def test_without_a_subreaper_init_is_given_orphans(kernel: EmulatedKernel, client: Client) -> None:
    parent = kernel.spawn()
    orphan = kernel.spawn(parent=parent)
    parent.subreaper = True
    kernel.exit(parent)
    assert parent_of(client, orphan) == 1, "who exits keeps nothing"


def test_children_stay_as_long_as_a_thread_lives(kernel: EmulatedKernel, client: Client) -> None:
    parent = kernel.spawn()
    thread = kernel.spawn(group=parent)
    children = [kernel.spawn(parent=parent), kernel.spawn(parent=thread)]
    kernel.exit(parent)
    assert [parent_of(client, one) for one in children] == [parent.pid] * 2
    children.append(kernel.spawn(parent=thread))
    kernel.exec(thread, "new")
    assert [parent_of(client, one) for one in children] == [parent.pid] * 3
    kernel.exit_group(thread)
    assert [parent_of(client, one) for one in children] == [1] * 3


def test_an_exec_keeps_a_subreaper(kernel: EmulatedKernel, client: Client) -> None:
    reaper = kernel.spawn()
    thread = kernel.spawn(group=reaper)
    thread.subreaper = True
    kernel.exec(thread, "new")
    parent = kernel.spawn(parent=thread)
    orphan = kernel.spawn(parent=parent)
    kernel.exit(parent)
    assert parent_of(client, orphan) == thread.pid


def test_a_zombie_is_given_away_too(kernel: EmulatedKernel, client: Client) -> None:
    reaper = kernel.spawn()
    reaper.subreaper = True
    parent = kernel.spawn(parent=reaper)
    orphan = kernel.spawn(parent=parent)
    kernel.exit(orphan, 3, zombie=True)
    kernel.exit(parent, zombie=True)
    assert parent_of(client, parent) == parent_of(client, orphan) == reaper.pid
    kernel.reap(orphan)
    with pytest.raises(NoSuchTask):
        client.pid(orphan.pid)
    other = kernel.spawn()
    again = kernel.spawn(pid=orphan.pid, parent=other)
    kernel.exit(reaper)
    assert parent_of(client, again) == other.pid, "who has its pid now is no child of it"
    assert parent_of(client, parent) == 1


def test_a_thread_has_its_groups_parent(kernel: EmulatedKernel, client: Client) -> None:
    shell = kernel.spawn()
    leader = kernel.spawn(parent=shell)
    thread = kernel.spawn(group=leader)
    assert (parent_of(client, thread), thread.parent) == (shell.pid, shell)
    with pytest.raises(ValueError, match="its group's parent"):
        kernel.spawn(group=leader, parent=kernel.init)
    kernel.exit(shell)
    assert parent_of(client, thread) == 1


def test_who_has_exited_has_no_children(kernel: EmulatedKernel) -> None:
    parent = kernel.spawn()
    kernel.exit(parent, zombie=True)
    with pytest.raises(ValueError, match="has exited"):
        kernel.spawn(parent=parent)


def test_exec_of_a_thread_takes_the_leaders_place(kernel: EmulatedKernel, client: Client) -> None:
    leader = kernel.spawn("old")
    kernel.advance(1)
    thread = kernel.spawn("old", group=leader)
    old_pid, tid = leader.pid, thread.pid
    with ExitListener("0", endpoint=kernel.endpoint) as listener:
        kernel.exec(thread, "new")
        assert thread.pid == old_pid
        assert (client.pid(old_pid).comm, client.pid(old_pid).ac_etime) == ("new", 1_000_000)
        with pytest.raises(NoSuchTask):
            client.pid(tid)
        kernel.exit(thread)
        first, last = heard(listener)
    assert (first.comm, first.ac_pid, first.ac_flag & 0x30) == ("old", old_pid, 0x10)
    assert (last.comm, last.ac_pid, last.is_last) == ("new", old_pid, True)
    assert last.group is not None


# ---- records


def shape(datagram: bytes) -> list[tuple[int, int, int]]:
    """Depth, type and length of every attribute."""
    found = []

    def walk(data: bytes, depth: int) -> None:
        while data:
            size, type_ = struct.unpack_from("=HH", data)
            found.append((depth, type_, size))
            if depth == 0 and type_ in (wire.TYPE_AGGR_PID, wire.TYPE_AGGR_TGID):
                walk(data[4:size], 1)
            data = data[size + -size % 4 :]

    walk(datagram[20:], 0)
    return found


@pytest.mark.parametrize(
    ("captured", "version", "padding"),
    [
        ("amd64-5.10", 10, False),
        ("amd64-6.1", 13, False),
        ("uml61", 13, True),
        ("host618", 16, False),
        ("amd64-7.3", 17, False),
    ],
)
def test_records_are_laid_out_as_captured_ones(captured: str, version: int, padding: bool) -> None:
    """Compared with what five kernels sent, of one task and of the last thread of a group."""
    with EmulatedKernel(version=version, padding=padding) as kernel, Port(kernel.endpoint) as port:
        assert port.errno(message(FAMILY, attribute(REGISTER, b"0\0"))) == 0
        leader = kernel.spawn(cpu=0)
        kernel.spawn(group=leader)
        kernel.exit_group(leader)
        first, last = port.receive(), port.receive()
        kernel.exit(kernel.spawn())
        alone = port.receive()
    assert shape(first) == shape(frame("exit_thread0", captured))
    assert shape(last) == shape(frame("exit_thread3", captured))
    assert shape(alone) == shape(frame("exit", captured))


@pytest.mark.parametrize(("version", "size"), wire.LAYOUTS)
@pytest.mark.parametrize("padding", [False, True])
def test_every_layout_carries_every_field(version: int, size: int, padding: bool) -> None:
    """Read with a decoder that shares nothing with the package."""
    worked_out = {
        "ac_comm", "ac_pid", "ac_tgid", "ac_ppid", "ac_uid", "ac_gid", "ac_exitcode", "ac_etime",
        "ac_tgetime", "ac_btime", "ac_btime64",
    }  # fmt: skip
    figures = {
        name: value & ~1023 if name.startswith(("read_", "write_", "cancelled_")) else value
        for name, value in wire.SAMPLE.items()
        if name not in worked_out and isinstance(value, int)
    }
    with EmulatedKernel(version=version, size=size, padding=padding) as kernel:
        with Port(kernel.endpoint) as port:
            task = kernel.spawn("sample", **figures)
            task.forked = False
            port.send(message(FAMILY, attribute(PID, struct.pack("=I", task.pid))))
            (read,) = wire.decode(port.receive()) or ()
    assert (read.version, read.size) == (version, size)
    sent = wire.layout(version, size)
    assert {n: v for n, v in read.values.items() if n in figures} == {
        n: v for n, v in figures.items() if n in sent
    }
    assert read.values["ac_comm"] == b"sample"


# ---- many


def test_a_storm_is_numbered_without_a_hole(kernel: EmulatedKernel) -> None:
    with ExitListener("0", endpoint=kernel.endpoint) as listener:
        kernel.storm(1000)
        records = heard(listener)
        stats = listener.stats()
    assert [r.seq for r in records] == list(range(1000))
    assert len({r.ac_pid for r in records}) == 1000
    assert all(r.id == r.ac_pid == r.ac_tgid for r in records)
    assert (stats.received, stats.lost, stats.unexplained) == (1000, 0, 0)


def test_storms_are_of_different_processes_of_any_user(kernel: EmulatedKernel) -> None:
    with ExitListener("0", endpoint=kernel.endpoint) as listener:
        kernel.storm(5, uid=1000)
        kernel.storm(5, uid=2000)
        records = heard(listener)
    assert len({r.ac_pid for r in records}) == 10
    assert [r.ac_uid for r in records] == [1000] * 5 + [2000] * 5


def test_who_asks_in_a_storm_is_answered(
    kernel: EmulatedKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    listeners = kernel._state.listeners
    send = listeners.send
    sent, answers = 0, 0
    with Port(kernel.endpoint) as port, Port(kernel.endpoint) as asker:
        assert port.errno(message(FAMILY, attribute(REGISTER, b"0\0"))) == 0

        def send_and_ask(cpu: int, datagram: bytes | bytearray) -> None:
            nonlocal sent, answers
            send(cpu, datagram)
            sent += 1
            answers += len(asker.waiting())
            if sent == 1:
                asker.send(message(FAMILY, attribute(PID, struct.pack("=I", 1))))

        monkeypatch.setattr(listeners, "send", send_and_ask)
        kernel.storm(1000)
    assert (sent, answers) == (1000, 2), "the record and the ACK"


def test_what_a_storm_loses_is_counted_to_the_last(kernel: EmulatedKernel) -> None:
    with ExitListener("0", rcvbuf=100_000, endpoint=kernel.endpoint) as listener:
        kernel.storm(10_000)
        kernel.exit(kernel.spawn("after"))
        records = heard(listener)
        stats = listener.stats()
    assert 0 < stats.received == len(records)
    assert stats.received + stats.lost == 10_001
    assert stats.unexplained == 0
    assert records[-1].seq == stats.received - 1, "what found no room came after what did"


def test_a_storm_that_nobody_hears_takes_no_numbers(kernel: EmulatedKernel) -> None:
    kernel.storm(5)
    kernel.lose(5)
    with ExitListener("0", endpoint=kernel.endpoint) as listener:
        kernel.exit(kernel.spawn())
        (record,) = heard(listener)
    assert record.seq == 0


def test_a_storm_that_finds_its_listener_gone_takes_one_number(kernel: EmulatedKernel) -> None:
    with Port(kernel.endpoint) as port:
        assert port.errno(message(FAMILY, attribute(REGISTER, b"0\0"))) == 0
    kernel.storm(5)
    with ExitListener("0", endpoint=kernel.endpoint) as listener:
        kernel.exit(kernel.spawn())
        (record,) = heard(listener)
    assert record.seq == 1


def test_losses_stand_before_the_next_record(kernel: EmulatedKernel) -> None:
    with ExitListener(endpoint=kernel.endpoint) as listener:
        kernel.exit(kernel.spawn())
        kernel.lose(3)
        kernel.lose(2, cpu=1)
        kernel.exit(kernel.spawn())
        lost_before = [record.lost_before for record in heard(listener)]
        stats = listener.stats()
    assert lost_before == [0, 3]
    assert [cpu.lost for cpu in stats.cpus] == [3, 2, 0, 0]


def test_counters_of_a_port_go_on_where_they_were(kernel: EmulatedKernel) -> None:
    """Another listener may get the same port, and must not be told of the first one's losses."""
    for lost in (3, 4):
        with ExitListener("0", endpoint=kernel.endpoint) as listener:
            kernel.lose(lost)
            assert listener.stats().lost == lost


def test_a_child_that_was_forked_knows_its_losses(kernel: EmulatedKernel) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        child = os.fork()
        if not child:
            try:
                with ExitListener("0", endpoint=kernel.endpoint) as listener:
                    theirs.sendall(b"opened")
                    theirs.recv(1)  # there are losses now
                    theirs.sendall(bytes([listener.stats().lost]))
            finally:
                os._exit(0)
        theirs.close()
        try:
            assert ours.recv(6) == b"opened"
            kernel.lose(3)
            ours.sendall(b"x")
            assert ours.recv(1) == bytes([3])
        finally:
            ours.close()
            os.waitpid(child, 0)


def test_captured_records_are_sent_again() -> None:
    captured = [frame(f"exit_thread{i}") for i in range(4)]
    numbers = [struct.unpack_from("=I", one, 8)[0] for one in captured]
    with EmulatedKernel(version=16) as kernel:
        with ExitListener("2", endpoint=kernel.endpoint) as listener:
            kernel.replay(captured, cpu=2)
            kernel.exit(kernel.spawn(cpu=2))
            *again, after = heard(listener)
            stats = listener.stats()
    assert [record.seq for record in again] == numbers
    assert again[-1].group is not None
    assert after.seq == numbers[-1] + 1
    assert (stats.received, stats.lost, stats.cpus[0].refused) == (5, 0, {})


# ---- filters


def test_a_filter_works_and_what_it_keeps_out_is_counted(kernel: EmulatedKernel) -> None:
    where = Where(uid=range(1000, 2000))
    with ExitListener(where=where, endpoint=kernel.endpoint) as listener:
        for i in range(10):
            kernel.exit(kernel.spawn(uid=1000 * (i % 2), cpu=i % 4))
        kernel.lose(2)
        assert {record.ac_uid for record in heard(listener)} == {1000}
        stats = listener.stats()
    assert (stats.received, stats.filtered, stats.lost) == (5, 5, 2)


@pytest.mark.parametrize("version", [4, 8, 12, 15, 16])
@pytest.mark.parametrize("padding", [False, True])
def test_a_filter_knows_the_kernels_layout(version: int, padding: bool) -> None:
    with EmulatedKernel(version=version, padding=padding) as kernel:
        where = Where(failed=True, min_elapsed=1.0)
        with ExitListener(where=where, endpoint=kernel.endpoint) as listener:
            old, failed = kernel.spawn("old"), kernel.spawn("failed")
            kernel.advance(1)
            kernel.exit(old)
            kernel.exit(failed, 1)
            kernel.exit(kernel.spawn("young"), 1)
            assert [record.comm for record in heard(listener)] == ["failed"]
            assert listener.stats().filtered == 2


# ---- who asks


def test_a_caller_without_the_capability_is_refused(kernel: EmulatedKernel) -> None:
    kernel.caller = Caller(net_admin=False)
    with pytest.raises(AccessDenied):
        Client(endpoint=kernel.endpoint)
    with pytest.raises(AccessDenied):
        ExitListener(endpoint=kernel.endpoint)


def test_a_capability_that_is_dropped_later(kernel: EmulatedKernel, client: Client) -> None:
    assert client.pid(1).comm == "init"
    kernel.caller = Caller(net_admin=False)
    with pytest.raises(AccessDenied):
        client.pid(1)


def test_ids_in_a_pid_namespace(kernel: EmulatedKernel) -> None:
    shell = kernel.spawn("sh", vpid=1)
    task = kernel.spawn("true", parent=shell, vpid=2)
    kernel.caller = Caller(initial_pid_namespace=False)
    with Client(endpoint=kernel.endpoint) as client:
        read = client.pid(2)
        assert (read.comm, read.ac_pid, read.ac_tgid, read.ac_ppid) == ("true", 2, 2, 1)
        with pytest.raises(NoSuchTask):
            client.pid(task.pid)
    with pytest.raises(Unavailable):
        ExitListener(endpoint=kernel.endpoint)


def test_a_pid_namespace_has_a_pid_1(kernel: EmulatedKernel) -> None:
    task = kernel.spawn("true", vpid=2)
    kernel.caller = Caller(initial_pid_namespace=False)
    for where in (None, Where(uid=0)):
        with pytest.raises(Unavailable):
            ExitListener(where=where, endpoint=kernel.endpoint)
    with Client(endpoint=kernel.endpoint) as client:
        read = client.pid(1)
        assert (read.comm, read.ac_pid, read.ac_ppid) == ("init", 1, 0)
        assert client.pid(2).ac_ppid == 1
        first = kernel.spawn("first", vpid=1)
        assert (client.pid(1).comm, client.pid(1).ac_ppid) == ("first", 0)
        assert client.pid(2).ac_ppid == 0, "init is outside now"
        kernel.spawn("second", vpid=2, parent=first)
        assert (client.pid(2).comm, client.pid(2).ac_ppid) == ("second", 1)
        assert task.vpid == 2


def test_nothing_is_heard_in_a_network_namespace(kernel: EmulatedKernel) -> None:
    kernel.caller = Caller(initial_network_namespace=False)
    with ExitListener("0", endpoint=kernel.endpoint) as listener:
        assert len(kernel.listeners(0)) == 1
        kernel.exit(kernel.spawn())
        assert kernel.listeners(0) == []
        assert heard(listener) == []


def test_nothing_is_lost_in_a_network_namespace(kernel: EmulatedKernel) -> None:
    kernel.caller = Caller(initial_network_namespace=False)
    with ExitListener("0", endpoint=kernel.endpoint) as listener:
        kernel.lose(3)
        assert kernel.listeners(0) == []
        assert listener.stats().lost == 0


# ---- cgroups


def test_a_directory_plays_a_cgroup(kernel: EmulatedKernel, tmp_path: Path) -> None:
    tasks = [kernel.spawn() for _ in range(6)]
    states = ("running", "running", "sleeping", "stopped", "uninterruptible", "freezable")
    for task, state in zip(tasks, states, strict=True):
        task.state = state
    kernel.cgroup(tmp_path, tasks)
    counts = cgroup_stats(tmp_path, endpoint=kernel.endpoint)
    assert (counts.nr_running, counts.nr_sleeping, counts.nr_stopped) == (2, 1, 1)
    assert (counts.nr_uninterruptible, counts.nr_io_wait) == (1, 0)
    kernel.exit(tasks[0])
    assert cgroup_stats(tmp_path, endpoint=kernel.endpoint).nr_running == 1


def test_what_it_is_given_may_be_made_by_itself(kernel: EmulatedKernel, tmp_path: Path) -> None:
    """A generator that calls the kernel does so outside of its lock."""
    kernel.cgroup(tmp_path, (kernel.spawn() for _ in range(2)))
    assert cgroup_stats(tmp_path, endpoint=kernel.endpoint).nr_running == 2
    kernel.replay(frame("exit") for _ in range(kernel.init.pid) if kernel.spawn())


def test_another_directory_is_none(kernel: EmulatedKernel, tmp_path: Path) -> None:
    with pytest.raises(TaskstatsError) as refusal:
        cgroup_stats(tmp_path, endpoint=kernel.endpoint)
    assert refusal.value.errno == errno.EINVAL


@pytest.mark.parametrize("fd", [-1, 2**31, 2**32 - 1, 1_000_000])
def test_nothing_is_said_of_a_number_that_is_no_descriptor(kernel: EmulatedKernel, fd: int) -> None:
    request = message(FAMILY, attribute(1, struct.pack("=I", fd % 2**32)), command=CGROUP_GET)
    with Port(kernel.endpoint) as port:
        assert port.errno(request) == 0


# ---- nlctrl, as live 6.18 answers

NLCTRL, GET_FAMILY, FAMILY_ID, FAMILY_NAME = 0x10, 3, 1, 2
NAME = b"TASKSTATS\0"


@pytest.mark.parametrize(
    ("asked", "id_"),
    [
        ([(FAMILY_ID, b"\x1f\0")], FAMILY),
        ([(FAMILY_ID, b"\x1f\0\xff\xff")], FAMILY),
        ([(FAMILY_ID, b"\x10\0")], NLCTRL),
        ([(FAMILY_NAME, b"nlctrl\0")], NLCTRL),
        ([(FAMILY_NAME, NAME + b"aaaaa\0")], FAMILY),
        ([(FAMILY_NAME, NAME), (FAMILY_ID, b"\xff\xff")], FAMILY),  # the name decides
    ],
)
def test_a_family_is_told_by_name_or_id(
    kernel: EmulatedKernel, asked: list[tuple[int, bytes]], id_: int
) -> None:
    parts = [attribute(*one) for one in asked]
    with Port(kernel.endpoint) as port:
        port.send(message(NLCTRL, *parts, command=GET_FAMILY))
        told = port.receive()
    assert told[16:18] == bytes([1, 2]), "CTRL_CMD_NEWFAMILY, of the controller's version"
    assert attribute(FAMILY_ID, struct.pack("=H", id_)) in told


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ([], errno.EINVAL),
        ([(FAMILY_NAME, b"")], errno.EINVAL),
        ([(FAMILY_NAME, b"TASKSTATS")], errno.EINVAL),
        ([(FAMILY_NAME, b"a" * 16 + b"\0")], errno.EINVAL),
        ([(FAMILY_NAME, NAME + b"aaaaaa")], errno.ERANGE),
        ([(FAMILY_NAME, b"\0")], errno.ENOENT),
        ([(FAMILY_NAME, b"a" * 15 + b"\0")], errno.ENOENT),
        ([(FAMILY_NAME, b"no\0"), (FAMILY_ID, b"\x1f\0")], errno.ENOENT),
        ([(FAMILY_ID, b"\x1f")], errno.ERANGE),
        ([(FAMILY_ID, b"\xff\xff")], errno.ENOENT),
        ([(FAMILY_NAME, NAME), (FAMILY_ID, b"")], errno.ERANGE),
    ],
)
def test_what_names_no_family_is_refused(
    kernel: EmulatedKernel, asked: list[tuple[int, bytes]], code: int
) -> None:
    parts = [attribute(*one) for one in asked]
    with Port(kernel.endpoint) as port:
        assert port.errno(message(NLCTRL, *parts, command=GET_FAMILY)) == code


@pytest.mark.parametrize(
    ("family", "command", "code"),
    [
        *((NLCTRL, command, errno.EOPNOTSUPP) for command in (0, 5, 9, 10)),
        (NLCTRL, 11, errno.EINVAL),
        (FAMILY, 3, errno.EOPNOTSUPP),
        (FAMILY, 5, errno.EINVAL),
    ],
)
def test_each_family_says_from_where_on_flags_count(
    kernel: EmulatedKernel, family: int, command: int, code: int
) -> None:
    with Port(kernel.endpoint) as port:
        assert port.errno(message(family, command=command, flags=0x101)) == code


# ---- CPU lists


@pytest.mark.parametrize(
    ("text", "read"),
    [
        (b"0-3:1/2", {0, 2}),
        (b"0-3:1/2\n1", {0, 1, 2}),  # as live 6.18 answers: only behind a bare range it ends
        (b"0-1\n9", {0, 1}),
        (b"0,\n1", {0, 1}),
        (b"\n1", {1}),
        (b"0\xa01", {0, 1}),  # a space of Latin-1
        (b"0:1/2", errno.EINVAL),
        (b"N:1/2", errno.EINVAL),
        (b"4294967295", errno.EINVAL),  # one more is 0
        (b"0-4294967295", errno.EINVAL),
        (b"4294967294", errno.ERANGE),
        (b"4294967296", errno.EOVERFLOW),
    ],
)
def test_cpu_lists_are_read_as_the_kernel_reads_them(text: bytes, read: set[int] | int) -> None:
    if isinstance(read, set):
        assert cpumask.parse(text, 4) == read
    else:
        with pytest.raises(Refused) as refusal:
            cpumask.parse(text, 4)
        assert refusal.value.errno == read


# ---- rare things


def test_a_registration_that_finds_no_memory(kernel: EmulatedKernel) -> None:
    kernel.fail_allocation("listener", after=2)
    with ExitListener(endpoint=kernel.endpoint) as listener, pytest.raises(TaskstatsError) as told:
        next(listener.batches(timeout=60))
    assert told.value.errno == errno.ENOMEM


def test_a_query_that_finds_no_memory(kernel: EmulatedKernel, client: Client) -> None:
    kernel.fail_allocation("reply")
    assert client.pids([1]).errors == {1: errno.ENOMEM}
    assert client.pids([1]).errors == {}


def test_a_task_that_migrates_is_explained(kernel: EmulatedKernel) -> None:
    """Its record has a number of another CPU's, and comes by this one's queue."""
    with ExitListener("0-1", endpoint=kernel.endpoint) as listener:
        kernel.exit(kernel.spawn(cpu=0))
        kernel.storm(1000, cpu=1)
        kernel.exit(kernel.spawn(cpu=0), numbered_on=1)
        for cpu in (0, 1):
            kernel.exit(kernel.spawn(cpu=cpu))
        records = heard(listener)
        stats = listener.stats()
    assert [r.seq for r in records if r.cpu == 0] == [0, 1000, 1]
    assert [r.seq for r in records if r.cpu == 1] == [*range(1000), 1001]
    assert stats.lost == 0
    assert stats.unexplained == 1, "the hole that it left in the other CPU's numbers"


@pytest.mark.parametrize("forgets", [False, True])
def test_older_kernels_forget_dead_threads(forgets: bool) -> None:
    quirks = Quirks(forgets_dead_threads=forgets, group_version_zero=forgets)
    with EmulatedKernel(version=13, quirks=quirks) as kernel:
        leader = kernel.spawn(nvcsw=1)
        thread = kernel.spawn(group=leader, nvcsw=10)
        with Client(endpoint=kernel.endpoint) as client:
            assert client.tgid(leader.pid).nvcsw == 11
            kernel.exit(thread)
            assert client.tgid(leader.pid).nvcsw == (1 if forgets else 11)
        with ExitListener("0", endpoint=kernel.endpoint) as listener:
            leader.add(cpu_run_virtual_total=5)
            kernel.exit(leader)
            (record,) = heard(listener)
    group = record.group
    assert group is not None
    assert group.version == 13, "of the task, where the group's is 0"
    assert ("nvcsw" in group.to_dict()) is not forgets


def test_the_user_mode_linux_of_the_docs_ends_a_group_as_the_captured_one() -> None:
    page = (Path(__file__).parents[2] / "docs" / "testing.md").read_text()
    (made,) = re.findall(r"User-Mode Linux 6.1 is `(.*?)`", page, re.DOTALL)
    with eval(made, {"EmulatedKernel": EmulatedKernel, "Quirks": Quirks}) as kernel:
        with ExitListener(endpoint=kernel.endpoint) as listener:
            leader = kernel.spawn(nvcsw=1)
            kernel.spawn(group=leader, nvcsw=10)
            kernel.exit_group(leader)
            played = heard(listener)[-1].group
    (captured,) = decode(frame("exit_thread3", "uml61"))
    assert played is not None
    assert captured.group is not None
    assert set(played.to_dict()) & set(FIELDS) == set(captured.group.to_dict()) & set(FIELDS)


# ---- itself


def test_many_threads_may_ask(kernel: EmulatedKernel, client: Client) -> None:
    pids = [kernel.spawn(nvcsw=i).pid for i in range(100)]
    found: list[list[int]] = []

    def ask() -> None:
        found.append([record.nvcsw for record in client.pids(pids)])

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [list(range(100))] * 8


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda k: k.spawn(nonsense=1), "no field 'nonsense'"),
        (lambda k: k.spawn(ac_pid=1), "ac_pid is worked out"),
        (lambda k: k.spawn().add(ac_etime=1), "ac_etime is worked out"),
        (lambda k: k.spawn(nvcsw=2**64), "nvcsw has 64 bits"),
        (lambda k: k.spawn(nvcsw=-1), "nvcsw has 64 bits"),
        (lambda k: k.spawn(nvcsw=1.5), "nvcsw is an integer"),
        (lambda k: k.spawn(ac_nice=128), "ac_nice has 8 bits"),
        (lambda k: k.spawn().add(nvcsw=-1), "nvcsw has 64 bits"),
        (lambda k: k.spawn(uid=-1), "ac_uid has 32 bits"),
        (lambda k: k.spawn(gid=2**32), "ac_gid has 32 bits"),
        (lambda k: k.spawn(pid=0), "no pid: 0"),
        (lambda k: k.spawn(vpid=2**31), "no pid: 2147483648"),
        (lambda k: k.spawn(pid=1), "a task 1 already"),
        (lambda k: k.spawn(cpu=4), "no such CPU: 4"),
        (lambda k: k.lose(cpu=9), "no such CPU: 9"),
        (lambda k: k.exit(k.spawn(), 256), "no exit status"),
        (lambda k: k.advance(-1), "not back"),
        (lambda k: k.reap(k.spawn()), "has not exited"),
        (lambda k: k.fail_allocation("disk"), "not 'disk'"),
    ],
)
def test_what_cannot_be_is_refused(kernel: EmulatedKernel, wrong: object, message: str) -> None:
    assert callable(wrong)
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        wrong(kernel)


@pytest.mark.parametrize("where", [{"cpu": 9}, {"numbered_on": 9}])
def test_an_exit_that_is_refused_changes_nothing(
    kernel: EmulatedKernel, client: Client, where: dict[str, int]
) -> None:
    task = kernel.spawn(cpu=1)
    with pytest.raises(ValueError, match="no such CPU"):
        kernel.exit(task, 3, **where)
    assert client.pid(task.pid).ac_exitcode == 0
    kernel.exit(task)


def test_a_task_exits_once(kernel: EmulatedKernel) -> None:
    task = kernel.spawn()
    kernel.exit(task)
    now = kernel._state.tasks.now_ns
    again: tuple[Callable[[Task], None], ...] = (
        kernel.exit,
        kernel.exit_group,
        lambda task: kernel.exec(task, "true"),
        lambda task: kernel.advance(1, kernel.init, task),
    )
    for call in again:
        with pytest.raises(ValueError, match="has exited"):
            call(task)
    assert (kernel._state.tasks.now_ns, kernel.init.used) == (now, {})
    with pytest.raises(ValueError, match="has exited"):
        kernel.spawn(group=task)


@pytest.mark.parametrize("wrong", [{"version": 3}, {"version": 18}, {"size": 1}, {"cpus": "x"}])
def test_a_kernel_that_cannot_be(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"version|bytes|CPU list"):
        EmulatedKernel(**wrong)  # type: ignore[arg-type]


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, before[1]), before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("many_descriptors")
def test_descriptors_beyond_a_thousand_do() -> None:
    """select takes none of them."""
    with ExitStack() as opened:
        while opened.enter_context(Path(os.devnull).open()).fileno() < 1024:
            pass
        kernel = opened.enter_context(EmulatedKernel())
        client = opened.enter_context(Client(endpoint=kernel.endpoint))
        assert client.pid(1).comm == "init"


@pytest.mark.usefixtures("many_descriptors")
def test_there_is_an_end_to_kernels() -> None:
    with ExitStack() as opened:
        for _ in range(256):
            opened.enter_context(EmulatedKernel())
        with pytest.raises(OSError, match="256 emulated kernels"):
            EmulatedKernel()


def test_what_was_asked_before_a_spawn_is_answered_first(kernel: EmulatedKernel) -> None:
    with Port(kernel.endpoint) as port:
        answers = []
        for pid in range(5000, 5200):
            port.send(message(FAMILY, attribute(PID, struct.pack("=I", pid))))
            kernel.spawn(pid=pid)
            answers.append(port.receive())
    assert all(struct.unpack_from("=i", one, 16) == (-errno.ESRCH,) for one in answers)


def test_what_was_asked_before_the_end_is_answered() -> None:
    for _ in range(50):
        with EmulatedKernel() as kernel, Port(kernel.endpoint) as port:
            port.send(message(FAMILY, attribute(PID, struct.pack("=I", 1))))
            kernel.close()
            assert len(port.waiting()) == 2, "the record and the ACK"


def test_a_closed_kernel_answers_nobody() -> None:
    with EmulatedKernel() as kernel:
        endpoint: Endpoint = kernel.endpoint
    kernel.close()
    with pytest.raises(Unavailable):
        Client(endpoint=endpoint)


@pytest.mark.parametrize(
    "call",
    [
        lambda k, _: k.spawn(),
        lambda k, _: k.advance(1),
        lambda k, task: k.exit(task),
        lambda k, task: k.exit_group(task),
        lambda k, task: k.exec(task, "true"),
        lambda k, task: k.reap(task),
        lambda k, _: k.lose(),
        lambda k, _: k.storm(1),
        lambda k, _: k.replay([]),
        lambda k, _: k.cgroup("/"),
        lambda k, _: k.listeners(),
        lambda k, _: k.fail_allocation("reply"),
        lambda k, _: setattr(k, "caller", Caller()),
    ],
)
def test_a_closed_kernel_says_so(call: Callable[[EmulatedKernel, Task], object]) -> None:
    with EmulatedKernel() as kernel:
        task = kernel.spawn()
    with pytest.raises(ValueError, match="the emulated kernel is closed"):
        call(kernel, task)


def test_a_bug_is_told_to_who_asks_and_ends_it(
    kernel: EmulatedKernel, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    uncaught: list[type[BaseException]] = []
    monkeypatch.setattr(threading, "excepthook", lambda one: uncaught.append(one.exc_type))
    kernel.init.used["nvcsw"] = "x"  # type: ignore[assignment]
    assert client.pids([1, 2]).errors == {1: errno.EIO, 2: errno.ESRCH}
    kernel.close()
    assert uncaught == [struct.error]
    with pytest.raises(Unavailable):
        client.pid(1)


def test_a_bug_is_raised_in_the_call_that_meets_it(kernel: EmulatedKernel) -> None:
    kernel.init.used["nvcsw"] = "x"  # type: ignore[assignment]
    with Port(kernel.endpoint) as port:
        with kernel._lock:  # the thread does not meet it first
            port.send(message(FAMILY, attribute(PID, struct.pack("=I", 1))))
            with pytest.raises(struct.error):
                kernel._handle_queued()
        (answer,) = port.waiting()
    assert struct.unpack_from("=i", answer, 16) == (-errno.EIO,)


def test_an_unclosed_kernel_is_told_and_ends() -> None:
    # A collection while the kernel is made would let its sockets be finalized before it.
    gc.collect()
    kernel = EmulatedKernel()
    port = Port(kernel.endpoint)
    del kernel
    with pytest.warns(ResourceWarning, match="unclosed <EmulatedKernel"):
        gc.collect()
    (thread,) = [one for one in threading.enumerate() if one.name == "EmulatedKernel"] or [None]
    if thread:
        thread.join(60)
    with port, pytest.raises(ConnectionRefusedError):
        port.send(message(FAMILY))


def test_every_field_but_the_worked_out_can_be_charged(kernel: EmulatedKernel) -> None:
    charged = 0
    for name in FIELDS:
        try:
            kernel.spawn(**{name: 1})
        except TypeError:
            continue
        charged += 1
    assert charged == len(FIELDS) - 11


# ---- a peer that is busy, stopped, or asked much


@pytest.mark.parametrize("cpus", ["0-299"])
def test_all_are_deregistered_though_its_queue_is_full(
    monkeypatch: pytest.MonkeyPatch, cpus: str
) -> None:
    monkeypatch.setattr("taskstats.emulator.kernel._RCVBUF", 50_000)
    with EmulatedKernel(cpus=cpus) as kernel:
        with ExitListener(endpoint=kernel.endpoint) as listener:
            assert all(kernel.listeners(cpu) for cpu in range(300))
            listener.stop()
            assert not any(kernel.listeners(cpu) for cpu in range(300))


def test_many_clients_wait_until_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("taskstats.emulator.kernel._RCVBUF", 100_000)
    with EmulatedKernel() as kernel, ExitStack() as opened:
        clients = [opened.enter_context(Client(endpoint=kernel.endpoint)) for _ in range(16)]
        found: list[int] = []

        def ask(client: Client) -> None:
            found.append(len(client.pids([1] * 512)))

        threads = [threading.Thread(target=ask, args=(client,)) for client in clients]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == [512] * 16


def test_nothing_comes_after_stop(kernel: EmulatedKernel) -> None:
    """Although the peer learns of it later: here it is busy, and still sends a record."""
    with ExitListener("0", endpoint=kernel.endpoint) as listener:
        kernel.exit(kernel.spawn())
        task = kernel.spawn()
        with kernel._lock:  # it answers nobody now
            listener.stop()
            exiting.leave(kernel._state, task)
        assert kernel.listeners(0) == []
        assert len(heard(listener)) == 1
        assert (listener.stats().received, listener.stats().lost) == (1, 0)
