"""Client against the real kernel."""

import errno
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import child
from support.descriptors import NETLINK_GENERIC, netlink_sockets, opened
from support.requirements import lacks

from taskstats import AccessDenied, Client, FieldUnavailable, NoSuchTask, Unavailable

NO_SUCH_PID = 5_000_000  # above the largest pid_max


@pytest.fixture
def client() -> Iterator[Client]:
    with Client() as one:
        yield one


@pytest.fixture
def stopped() -> Iterator[int]:
    """A child that is stopped, so that its figures stand still."""
    program = [sys.executable, "-c", "print(flush=True); import time; time.sleep(1000)"]
    with subprocess.Popen(program, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        os.kill(process.pid, signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        yield process.pid
        process.kill()


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def switches(status: dict[str, str]) -> tuple[int, int]:
    return int(status["voluntary_ctxt_switches"]), int(status["nonvoluntary_ctxt_switches"])


def test_agrees_with_proc(client: Client, stopped: int) -> None:
    status = {}
    while True:  # the kernel reports the stop before the child has left its CPU
        before, status = status, status_of(stopped)
        if before and switches(before) == switches(status):
            break
        record = client.pid(stopped)
    exe = Path(f"/proc/{stopped}/exe").stat()
    assert record.ac_pid == record.id == int(status["Pid"])
    assert record.ac_ppid == int(status["PPid"])
    assert record.ac_uid == int(status["Uid"].split()[0])
    assert record.ac_gid == int(status["Gid"].split()[0])
    assert record.comm == status["Name"]
    assert (record.nvcsw, record.nivcsw) == switches(status)
    # The kernel reads the peak off per-CPU counters that it does not add up first: anonymous,
    # file and shared pages each fall short by up to a batch on each CPU.
    cpus = os.cpu_count() or 1
    short = 3 * cpus * max(32, 2 * cpus) * os.sysconf("SC_PAGE_SIZE")
    assert 0 <= int(status["VmHWM"].split()[0]) * 1024 - record.peak_rss_bytes <= short
    if record.version >= 12:
        assert record.ac_tgid == int(status["Tgid"])
        assert record.ac_exe_inode == exe.st_ino
    assert record.cpu is None
    assert not record.is_exit
    assert record.exit_code is None


def test_defaults_are_the_caller(client: Client) -> None:
    assert client.pid().ac_pid == threading.get_native_id()
    assert client.tgid().id == os.getpid()


def test_a_group_sums_its_threads(client: Client) -> None:
    go, done = threading.Event(), threading.Barrier(4)
    tids: list[int] = []

    def work() -> None:
        tids.append(threading.get_native_id())
        done.wait()
        go.wait()

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    done.wait()
    try:
        tasks = client.pids([os.getpid(), *tids])
        group = client.tgid()  # asked last: its sums only grow
        assert client.tgid(tids[0]).id == tids[0], "any thread's id names its group"
    finally:
        go.set()
        for thread in threads:
            thread.join()
    assert group.ac_etime >= sum(r.ac_etime for r in tasks)
    assert group.nvcsw >= sum(r.nvcsw for r in tasks)
    with pytest.raises(FieldUnavailable, match="does not fill it in a group's record"):
        _ = group.ac_uid
    since = "one thread's value" if group.version >= 15 else "came with struct version 15"
    with pytest.raises(FieldUnavailable, match=since):
        _ = group.cpu_delay_max


@pytest.mark.parametrize("ask", ["pid", "tgid"])
def test_no_such_task(client: Client, ask: str) -> None:
    with pytest.raises(NoSuchTask, match=f"query {ask} {NO_SUCH_PID}") as caught:
        getattr(client, ask)(NO_SUCH_PID)
    assert caught.value.errno == errno.ESRCH


def test_a_hundred_thousand_ids_half_of_them_dead(client: Client) -> None:
    me = os.getpid()
    ids = [me if i % 2 == 0 else NO_SUCH_PID + i for i in range(100_000)]
    batch = client.pids(ids)
    assert len(batch) == 50_000
    assert set(batch.to_numpy()["ac_pid"]) == {me}
    assert batch.errors == dict.fromkeys(ids[1::2], errno.ESRCH)


def test_replies_lost_to_overflow_are_asked_again(client: Client) -> None:
    """The buffer shrinks behind the client's back, so that most replies of a send do not fit."""
    for fd in netlink_sockets(NETLINK_GENERIC):
        with opened(fd) as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 10)
    me = os.getpid()
    batch = client.pids([me] * 5000)
    assert [r.id for r in batch] == [me] * 5000
    assert not batch.errors
    assert client.pid(me).id == me


def test_negative_nice() -> None:
    def nice() -> int:
        os.nice(-5)
        with Client() as client:
            return client.pid().ac_nice

    assert child.run(nice) == -5


def test_a_name_that_is_not_utf8() -> None:
    def named() -> tuple[bytes, str]:
        Path("/proc/self/comm").write_bytes(b"caf\xe9")
        with Client() as client:
            return client.pid().ac_comm, client.pid().comm

    assert child.run(named) == (b"caf\xe9", "caf\\xe9")


def test_a_zombie(client: Client) -> None:
    zombie = child.spawn(7)
    os.waitid(os.P_PID, zombie, os.WEXITED | os.WNOWAIT)
    try:
        assert client.pid(zombie).exit_code == 7
        group = client.tgid(zombie)
        with pytest.raises(FieldUnavailable, match="summed nothing"):
            _ = group.cpu_run_virtual_total
    finally:
        os.waitpid(zombie, 0)


def test_many_threads_share_a_client(client: Client) -> None:
    wrong: list[int] = []

    def ask(pid: int) -> None:
        wrong.extend(pid for _ in range(300) if client.pid(pid).ac_pid != pid)
        wrong.extend(r.id for r in client.pids([pid] * 3000) if r.ac_pid != pid)

    pids = [1, os.getpid(), os.getppid(), 2]
    threads = [threading.Thread(target=ask, args=(pid,)) for pid in pids]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# ---- rights and namespaces -------------------------------------------------------------------


def test_without_the_capability() -> None:
    def as_nobody() -> None:
        os.setuid(child.NOBODY)
        Client()

    with pytest.raises(AccessDenied, match=r"CAP_NET_ADMIN.*setpriv") as caught:
        child.run(as_nobody)
    assert caught.value.errno == errno.EPERM


def test_opened_as_root_and_used_after_setuid() -> None:
    def drop_and_ask() -> None:
        with Client() as client:
            os.setuid(child.NOBODY)
            client.pid()

    with pytest.raises(AccessDenied, match="opened the socket and, at each request"):
        child.run(drop_and_ask)


def test_root_of_a_user_namespace() -> None:
    def ask() -> None:
        child.unshare(child.CLONE_NEWUSER)
        Client()

    with pytest.raises(AccessDenied, match="initial user namespace"):
        child.run(ask)


def test_a_pid_namespace_has_ids_of_its_own() -> None:
    def in_namespace() -> tuple[int, int]:
        with Client() as client:
            return os.getpid(), client.pid().ac_pid

    def enter() -> tuple[int, int]:
        child.unshare(child.CLONE_NEWPID)
        return child.run(in_namespace)

    assert child.run(enter) == (1, 1)


def test_another_network_namespace_can_query() -> None:
    def ask() -> bool:
        child.unshare(child.CLONE_NEWNET)
        with Client() as client:
            return client.pid().ac_pid == os.getpid()

    try:
        assert child.run(ask)
    except Unavailable:  # 5.10 has the family in the initial one alone
        lacks("other network namespaces")
