"""ExitListener on the real kernel."""

import errno
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support import child, raw
from support.descriptors import NETLINK_GENERIC, netlink_sockets, port_of
from support.requirements import needs_processes
from support.storm import CPUS

from taskstats import AccessDenied, Batch, Client, ExitListener, Record, Unavailable


def heard(listener: ExitListener) -> list[Record]:
    """Stops the listener; every record that it took."""
    listener.stop()
    return [record for batch in listener.batches() for record in batch]


def own(records: list[Record]) -> dict[int, Record]:
    """The children of this process among them, by pid."""
    mine = [r for r in records if r.ac_ppid == os.getpid()]
    # The last threads tell what they are since version 12; before, the children here have but one.
    return {r.ac_pid: r for r in mine if r.is_last or r.version < 12}


def test_hears_every_process_with_its_status() -> None:
    with ExitListener() as listener:
        made = [(child.spawn_and_reap(i), i) for i in range(200)]
        mine = [r for r in heard(listener) if r.ac_ppid == os.getpid()]
        stats = listener.stats()
    assert sorted((r.ac_pid, r.exit_code) for r in mine) == sorted(made)
    assert all(r.exit_signal is None and r.is_exit for r in mine)
    assert all(r.is_last or r.version < 12 for r in mine)
    assert (stats.lost, stats.malformed, stats.foreign) == (0, 0, 0)
    assert stats.received >= 200
    assert stats.witness is not None
    assert stats.witness >= 100, "off by the tasks that begin while it is read"


def test_the_kernels_own_count_ends_when_listening_does() -> None:
    with ExitListener() as listener:
        for _ in range(200):
            child.spawn_and_reap()
        listener.stop()
        counted = listener.stats().witness
        for _ in range(200):
            child.spawn_and_reap()
        assert listener.stats().witness == counted
        listener.stop()
    assert listener.stats().witness == counted
    assert counted is not None
    assert counted >= 100, "off by the tasks that begin while it is read"


def test_it_closes_where_no_descriptor_is_left() -> None:
    def closed() -> tuple[bool, int, int | None]:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        listener = ExitListener()
        child.spawn_and_reap()
        fds = []
        try:
            while True:
                fds.append(os.open("/", os.O_RDONLY))
        except OSError:
            listener.close()
        stats = listener.stats()
        for fd in fds:  # this child has its result to write
            os.close(fd)
        return listener.closed, stats.received, stats.witness

    was_closed, received, witness = child.run(closed)
    assert was_closed
    assert received >= 1
    assert witness is None


def test_uid_and_signal_of_a_child() -> None:
    with ExitListener() as listener:
        other = child.spawn_and_reap(3, uid=child.NOBODY)
        sleeper = subprocess.Popen(["sleep", "1000"])
        sleeper.kill()
        sleeper.wait()
        mine = own(heard(listener))
    assert (mine[other].ac_uid, mine[other].exit_code) == (child.NOBODY, 3)
    killed = mine[sleeper.pid]
    assert (killed.exit_signal, killed.exit_code, killed.comm) == (signal.SIGKILL, None, "sleep")


def test_a_tasks_last_switch_comes_after_its_record() -> None:
    """On one CPU nobody can reap a child before the child has left the CPU."""
    used = {}
    with ExitListener() as listener, child.only_on(CPUS[0]):
        for _ in range(200):
            pid = child.spawn()
            _, _, used[pid] = os.wait4(pid, 0)
        mine = own(heard(listener))
    for pid, usage in used.items():
        later = (usage.ru_nvcsw - mine[pid].nvcsw, usage.ru_nivcsw - mine[pid].nivcsw)
        assert min(later) >= 0
        assert sum(later) >= 1


THREADS = """
import threading
threads = [threading.Thread(target=sum, args=(range(10000),)) for _ in range(3)]
for t in threads: t.start()
for t in threads: t.join()
"""


def test_a_threaded_process_brings_a_group() -> None:
    needs_processes()
    with ExitListener() as listener:
        process = subprocess.Popen([sys.executable, "-c", THREADS])
        process.wait()
        tasks = [r for r in heard(listener) if r.ac_tgid == process.pid]
    (last,) = [r for r in tasks if r.is_last]
    assert len(tasks) == 4
    assert [r.group is not None for r in tasks] == [r is last for r in tasks]
    group = last.group
    assert group is not None
    assert (group.id, group.version) == (process.pid, last.version)
    assert group.cpu_count == sum(r.cpu_count for r in tasks)
    assert group.cpu_run_virtual_total == sum(r.cpu_run_virtual_total for r in tasks)


def test_hears_only_between_open_and_stop() -> None:
    before = child.spawn_and_reap()
    with ExitListener() as listener:
        during = child.spawn_and_reap()
        listener.stop()
        after = child.spawn_and_reap()
        mine = own([r for batch in listener.batches() for r in batch])
        assert listener.stats().received >= 1
    assert during in mine
    assert before not in mine
    assert after not in mine


@pytest.mark.parametrize("cpu", CPUS[:2])
def test_hears_only_its_cpus(cpu: int) -> None:
    others = sorted(set(CPUS) - {cpu})[:1]
    with ExitListener([cpu]) as listener:
        with child.only_on(cpu):
            here = child.spawn_and_reap()
        elsewhere = []
        for other in others:
            with child.only_on(other):
                elsewhere.append(child.spawn_and_reap())
        mine = own(heard(listener))
    assert mine[here].cpu == cpu
    assert not set(elsewhere) & set(mine)


def test_overflow_is_counted_exactly() -> None:
    """Nobody reads, and the queues hold a few dozen: what does not fit is lost, and counted."""
    made = 500
    with ExitListener(rcvbuf=64 << 10) as listener, child.only_on(CPUS[0]):
        pids = {child.spawn_and_reap() for _ in range(made)}
        middle = listener.stats()
        first = list(next(listener.batches()))
        pids |= {child.spawn_and_reap() for _ in range(10)}
        records = first + heard(listener)
        stats = listener.stats()
    assert middle.lost > 0
    assert len(records) == stats.received
    assert stats.received + stats.lost >= made + 10, "others may exit as well"
    assert pids & {r.ac_pid for r in records}
    placed = sum(r.lost_before for r in records)
    assert 0 < placed <= stats.lost
    assert stats.unexplained == 0


def test_loss_at_the_tail_is_counted() -> None:
    with ExitListener(rcvbuf=64 << 10) as listener:
        for _ in range(300):
            child.spawn_and_reap()
        records = heard(listener)
        stats = listener.stats()
    assert sum(r.lost_before for r in records) == 0, "no record came after the loss"
    assert stats.lost > 0
    assert stats.received + stats.lost >= 300


def test_a_root_sender_is_refused() -> None:
    with ExitListener() as listener:
        ports = [port_of(fd) for fd in netlink_sockets(NETLINK_GENERIC)]
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_GENERIC) as sender:
            for port in ports:
                with pytest.raises(ConnectionRefusedError):
                    sender.sendto(b"x" * 100, (port, 0))
        stats = listener.stats()
    assert len(ports) == len(listener.cpus)
    assert (stats.foreign, stats.malformed) == (0, 0)


def test_a_reused_port_does_not_inherit_a_registration() -> None:
    def reuse() -> tuple[int, int]:
        port = os.getpid()  # what the kernel gives a process's first netlink socket
        possible = Path("/sys/devices/system/cpu/possible").read_text().strip()
        raw.register(port, possible).close()
        with Client() as client:
            (fd,) = netlink_sockets(NETLINK_GENERIC)
            assert port_of(fd) == port
            for _ in range(20):
                child.spawn_and_reap()
            waiting = raw.sockets()[port]
            return waiting, client.pid().ac_pid - os.getpid()

    assert child.run(reuse) == (0, 0)


@pytest.mark.parametrize("end", ["close", "_exit", "kill"])
def test_a_child_of_fork_does_not_end_the_registration(end: str) -> None:
    with ExitListener() as listener:
        forked = os.fork()
        if forked == 0:
            if end == "close":
                listener.close()
            elif end == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            os._exit(0)
        os.waitpid(forked, 0)
        later = child.spawn_and_reap()
        mine = own(heard(listener))
    assert {forked, later} <= set(mine)


def test_many_batches_in_order_of_their_queue() -> None:
    """Records of other processes may overtake each other, or carry a number of another CPU."""
    with ExitListener() as listener:
        with child.only_on(0):
            pids = [child.spawn_and_reap() for _ in range(300)]
        records = heard(listener)
        stats = listener.stats()
    mine = [r for r in records if r.ac_pid in set(pids)]
    assert [r.ac_pid for r in mine] == pids
    assert {r.cpu for r in mine} == {0}
    numbers = [r.seq for r in mine]
    assert numbers == sorted(set(numbers))
    assert stats.unexplained <= len(records) - len(mine)


def test_ctrl_c_while_exits_come() -> None:
    received: list[Batch] = []
    timer = threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGINT))
    with ExitListener() as listener:
        with pytest.raises(KeyboardInterrupt):
            timer.start()
            for batch in listener.batches():
                received.append(batch)
                child.spawn_and_reap()
        timer.join()
        listener.stop()
        received += listener.batches()
        stats = listener.stats()
    assert sum(map(len, received)) == stats.received
    assert stats.lost == 0


STORM = """
import _thread, time
while True:
    _thread.start_new_thread(int, ())
    time.sleep(0)
"""


def test_closing_from_a_signal_handler_in_a_storm_keeps_every_record() -> None:
    storm = subprocess.Popen([sys.executable, "-c", STORM])
    try:
        for milliseconds in range(1, 21):
            listener = ExitListener(max_latency=0)
            previous = signal.signal(signal.SIGALRM, lambda *_: listener.close())  # noqa: B023
            signal.setitimer(signal.ITIMER_REAL, milliseconds / 1e3)
            seen = [(r.cpu, r.seq) for batch in listener.batches() for r in batch]
            signal.signal(signal.SIGALRM, previous)
            stats = listener.stats()
            assert listener.closed
            assert len(seen) == len(set(seen)) == stats.received
    finally:
        storm.kill()
        storm.wait()


# ---- rights and namespaces -------------------------------------------------------------------


def test_without_the_capability() -> None:
    def as_nobody() -> None:
        os.setuid(child.NOBODY)
        ExitListener()

    with pytest.raises(AccessDenied, match=r"CAP_NET_ADMIN.*setpriv") as caught:
        child.run(as_nobody)
    assert caught.value.errno == errno.EPERM


def test_in_a_pid_namespace() -> None:
    def enter() -> None:
        child.unshare(child.CLONE_NEWPID)
        child.run(ExitListener)

    with pytest.raises(Unavailable, match="refuses listeners in a PID namespace"):
        child.run(enter)


def test_in_another_network_namespace() -> None:
    def enter() -> None:
        child.unshare(child.CLONE_NEWNET)
        ExitListener()

    with pytest.raises(Unavailable, match="initial network namespace only"):
        child.run(enter)


def test_in_a_user_namespace() -> None:
    def enter() -> None:
        child.unshare(child.CLONE_NEWUSER)
        ExitListener()

    with pytest.raises(AccessDenied, match="initial user namespace"):
        child.run(enter)


def test_a_client_of_another_network_namespace_does_not_end_the_registration() -> None:
    """Ports are numbered anew there, and a process's first one is its pid again."""

    def in_a_thread() -> None:
        child.unshare(child.CLONE_NEWNET)
        with Client() as client:
            client.pid(os.getpid())

    def listen() -> bool:
        with ExitListener() as listener:
            thread = threading.Thread(target=in_a_thread)
            thread.start()
            thread.join()
            pids = {child.spawn_and_reap() for _ in range(20)}
            return pids <= set(own(heard(listener)))

    assert child.run(listen)


def test_a_thread_in_another_network_namespace() -> None:
    def enter() -> None:
        caught: list[BaseException] = []

        def in_a_thread() -> None:
            child.unshare(child.CLONE_NEWNET)
            try:
                ExitListener().close()
            except Unavailable as error:
                caught.append(error)

        thread = threading.Thread(target=in_a_thread)
        thread.start()
        thread.join()
        raise caught[0]

    with pytest.raises(Unavailable, match="initial network namespace only"):
        child.run(enter)


def test_stop_without_the_capability_stops_all_the_same() -> None:
    def drop_and_stop() -> tuple[bool, bool]:
        with ExitListener() as listener:
            during = child.spawn_and_reap()
            os.setuid(child.NOBODY)
            listener.stop()
            after = child.spawn_and_reap()
            mine = {r.ac_pid for batch in listener.batches() for r in batch}
        return during in mine, after in mine

    assert child.run(drop_and_stop) == (True, False)
