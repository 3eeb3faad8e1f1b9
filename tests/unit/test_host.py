"""Facts about the machine, against other ways to learn them."""

import os
import resource
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from support import child

from taskstats import cpulist, host


def test_possible_cpus_hold_those_that_are_online() -> None:
    possible = set(cpulist.parse(host.possible_cpus()))
    assert os.sched_getaffinity(0) <= possible


def test_memory() -> None:
    with open("/proc/meminfo", encoding="ascii") as lines:  # noqa: PTH123
        kib = int(next(line for line in lines if line.startswith("MemTotal")).split()[1])
    assert host.memory_bytes() == kib * 1024


def test_free_descriptors_fall_with_each_that_is_opened() -> None:
    before = host.free_descriptors()
    assert before < resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    fd = os.open("/", os.O_RDONLY)
    try:
        assert host.free_descriptors() == before - 1
    finally:
        os.close(fd)


def test_exits_by_the_books_count_children() -> None:
    before = host.exits_by_the_books()
    for _ in range(20):
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
    assert host.exits_by_the_books() >= before + 20


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
    assert os.getpid() in host.processes()
    assert host.processes() == sorted(host.processes())
    assert host.threads(2**22 + 1) is None


def test_a_name_does_not_confuse_the_count_of_threads() -> None:
    def named() -> int | None:
        Path("/proc/self/comm").write_bytes(b") S 1 2 (x) 9")
        return host.threads(os.getpid())

    assert child.run(named) == 1


def test_the_capability_and_the_user_namespace() -> None:
    def confined() -> tuple[bool, bool | None]:
        child.unshare(child.CLONE_NEWUSER)
        return host.has_net_admin(), host.in_initial_namespace("user")

    effective = Path("/proc/self/status").read_text().split("CapEff:")[1].split()[0]
    assert host.has_net_admin() is bool(int(effective, 16) & 1 << 12)
    try:
        assert child.run(confined) == (True, False), "there it counts for nothing"
    except PermissionError as error:
        pytest.skip(f"user namespaces are not to be had here: {error}")


def test_the_command_is_an_absolute_path(monkeypatch: pytest.MonkeyPatch) -> None:
    beside = str(Path(sys.executable).with_name("taskstats"))
    monkeypatch.setattr(sys, "argv", ["-c"])
    assert host.command() == beside
    monkeypatch.setattr(sys, "argv", ["/nowhere/taskstats"])
    assert host.command() == beside
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert host.command() == (shutil.which("taskstats") or "taskstats")
