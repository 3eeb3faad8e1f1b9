"""Facts about the machine, against other ways to learn them."""

import contextlib
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from support import child, requirements

from taskstats import cpulist, host

PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 24, 38


def test_possible_cpus_hold_those_that_are_online() -> None:
    possible = set(cpulist.parse(host.possible_cpus()))
    assert os.sched_getaffinity(0) <= possible


def test_memory() -> None:
    with open("/proc/meminfo", encoding="ascii") as lines:  # noqa: PTH123
        kib = int(next(line for line in lines if line.startswith("MemTotal")).split()[1])
    assert host.memory_bytes() == kib * 1024


def test_free_descriptors_fall_with_each_that_is_opened() -> None:
    before = host.free_descriptors()
    fd = os.open("/", os.O_RDONLY)
    try:
        assert host.free_descriptors() == before - 1
    finally:
        os.close(fd)


def test_free_descriptors_are_as_many_as_can_be_opened() -> None:
    def opened() -> tuple[int, int, int]:
        os.dup2(0, 100)  # above the limit to come: it takes none of the numbers below
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        free = host.free_descriptors()
        fds = []
        with contextlib.suppress(OSError):
            while True:
                fds.append(os.open("/", os.O_RDONLY))
        then = host.free_descriptors()
        for fd in fds:  # the child has its result to write
            os.close(fd)
        return free, len(fds), then

    free, opens, then = child.run(opened)
    assert free == opens > 0
    assert then == 0


def test_a_zombie_is_a_leaving_task(monkeypatch: pytest.MonkeyPatch) -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
    monkeypatch.setattr(host, "processes", lambda: [os.getpid(), child])
    monkeypatch.setattr(host, "proc_view", lambda: "whole")
    assert host.leaving_tasks() == 1
    os.waitpid(child, 0)
    assert host.leaving_tasks() == 0
    monkeypatch.setattr(host, "proc_view", lambda: "partial")
    assert host.leaving_tasks() is None


def test_exits_by_the_books_are_of_one_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that was preempted between the two files looks again."""
    forks = iter([1000, 4000, 4000, 4500, 4600, 4601])
    monkeypatch.setattr(host, "_forks", lambda: next(forks))
    loads = iter(["0 0 0 1/100 7", "0 0 0 1/200 7", "0 0 0 1/300 7"])
    monkeypatch.setattr(Path, "read_text", lambda _path, **_: next(loads))
    assert host.exits_by_the_books() == 4600 - 300
    many = iter(range(0, 10**6, 500))
    monkeypatch.setattr(host, "_forks", lambda: next(many))
    monkeypatch.setattr(Path, "read_text", lambda _path, **_: "0 0 0 1/100 7")
    assert host.exits_by_the_books() == -100  # the first of all that are as bad


def test_exits_by_the_books_count_children() -> None:
    before = host.exits_by_the_books()
    end = time.monotonic() + 60
    for _ in range(20):
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
    # Read in two steps: a task made between them is not there yet, and seems one exit less.
    while host.exits_by_the_books() < before + 20:
        assert time.monotonic() < end


def test_the_kernel_and_its_boot() -> None:
    assert host.kernel_release() == subprocess.check_output(["uname", "-r"], text=True).strip()
    assert host.boot_id() == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert host.pid_max() > os.getpid()


def test_whether_delays_are_measured() -> None:
    switch = Path("/proc/sys/kernel/task_delayacct")
    here = switch.read_text().strip() == "1" if switch.exists() else None
    assert host.task_delayacct() is here


def test_cgroup_mounts_are_those_of_proc_mounts() -> None:
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    kinds = {"cgroup": 1, "cgroup2": 2}
    assert host.cgroup_mounts() == [(kinds[m[2]], m[1]) for m in mounts if m[2] in kinds]


def test_processes_and_their_threads() -> None:
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    before = host.threads(os.getpid())
    assert before
    thread.start()
    try:
        assert host.threads(os.getpid()) == before + 1
    finally:
        done.set()
        thread.join()
    found = host.processes()
    assert os.getpid() in found
    assert found == sorted(found)
    assert host.threads(2**22 + 1) is None


FRESH = child.CLONE_NEWNS
IN_PID = child.CLONE_NEWPID | child.CLONE_NEWNS


@pytest.mark.parametrize(
    ("namespaces", "prepare", "view"),
    [
        (FRESH, "mount -t proc -o hidepid=0 proc /proc", "whole"),
        (FRESH, "mount -t proc -o hidepid=2 proc /proc", "partial"),
        (FRESH, "mount -t proc -o hidepid=2,gid=65534 proc /proc", "whole"),
        (FRESH, "mount -t proc -o subset=pid proc /proc", "missing"),
        (FRESH, "umount -l /proc", "missing"),
        (child.CLONE_NEWPID, "", "foreign"),
        (IN_PID, "mount -t proc proc /proc", "whole"),
        (IN_PID, "mount -t proc -o hidepid=2 proc /proc", "partial"),  # process 1 is our own
    ],
)
def test_whose_proc_it_is(namespaces: int, prepare: str, view: str) -> None:
    def seen() -> str:
        child.unshare(namespaces)
        return child.run(as_nobody)  # the first process of a new PID namespace

    def as_nobody() -> str:
        if namespaces & child.CLONE_NEWNS:
            subprocess.run(f"mount --make-rprivate / && {prepare}", shell=True, check=True)
        os.setgroups([])
        os.setgid(child.NOBODY)
        os.setuid(child.NOBODY)
        return host.proc_view()

    if not host.has("sys_admin"):
        requirements.skip("needs CAP_SYS_ADMIN, to mount another /proc")
    assert child.run(seen) == view


@pytest.mark.parametrize(
    ("options", "capabilities", "view"),
    [
        ("hidepid=2,gid=1", [child.CAP_SYS_PTRACE], "whole"),
        ("hidepid=2,gid=1", [], "partial"),
        ("hidepid=2", [], "whole"),  # group 0 is exempt
        ("hidepid=4", [], "partial"),
        ("hidepid=4", [child.CAP_SYS_PTRACE], "whole"),
    ],
)
def test_what_is_hidden_from_root(options: str, capabilities: list[int], view: str) -> None:
    def seen() -> str:
        child.unshare(child.CLONE_NEWNS)
        mount = f"mount --make-rprivate / && mount -t proc -o {options} proc /proc"
        subprocess.run(mount, shell=True, check=True)
        child.become(0, *capabilities)
        return host.proc_view()

    if not host.has("sys_admin") or not host.has("sys_ptrace"):
        requirements.skip("needs CAP_SYS_ADMIN, to mount another /proc, and CAP_SYS_PTRACE")
    assert child.run(seen) == view


def test_a_proc_without_this_process_is_none() -> None:
    if not host.has("sys_admin"):
        requirements.skip("needs CAP_SYS_ADMIN, to enter namespaces")
    inside = ["unshare", "--pid", "--fork", "--mount-proc", "sh", "-c", "echo; exec sleep 1000"]
    program = "from taskstats import host; print(host.proc_view())"
    with subprocess.Popen(inside, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        (pid,) = Path(f"/proc/{other.pid}/task/{other.pid}/children").read_text().split()
        enter = ["nsenter", "--target", pid, "--mount", sys.executable, "-c", program]
        try:
            assert subprocess.check_output(enter, text=True) == "missing\n"
        finally:
            os.kill(int(pid), signal.SIGKILL)


def test_what_sudo_can_give_back() -> None:
    def kept_from() -> bool:
        assert child.prctl(PR_CAPBSET_DROP, child.CAP_NET_ADMIN) == 0
        return host.may_gain("net_admin")

    def without_new_privileges() -> bool:
        assert child.prctl(PR_SET_NO_NEW_PRIVS, 1) == 0
        return host.no_new_privs()

    bounding = Path("/proc/self/status").read_text().split("CapBnd:")[1].split()[0]
    assert host.may_gain("net_admin") is bool(int(bounding, 16) & 1 << 12)
    assert child.run(without_new_privileges)
    if host.has("net_admin"):
        assert host.may_gain("net_admin", "sys_admin") is bool(int(bounding, 16) & 1 << 21)
        assert not child.run(kept_from)


def test_the_process_of_a_thread() -> None:
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        assert thread.native_id != os.getpid()
        assert host.tgid(thread.native_id or 0) == host.tgid(os.getpid()) == os.getpid()
    finally:
        done.set()
        thread.join()
    assert host.tgid(2**22 + 1) is None


def test_a_name_does_not_confuse_the_count_of_threads() -> None:
    def named() -> int | None:
        Path("/proc/self/comm").write_bytes(b") S 1 2 (x) 9")
        return host.threads(os.getpid())

    assert child.run(named) == 1


def test_the_capability_and_the_user_namespace() -> None:
    def confined() -> tuple[bool, bool | None]:
        child.unshare(child.CLONE_NEWUSER)
        return host.has("net_admin"), host.in_initial_namespace("user")

    effective = Path("/proc/self/status").read_text().split("CapEff:")[1].split()[0]
    assert host.has("net_admin") is bool(int(effective, 16) & 1 << 12)
    try:
        assert child.run(confined) == (True, False), "there it counts for nothing"
    except PermissionError as error:
        pytest.skip(f"user namespaces are not to be had here: {error}")
