"""cgroup_stats on real cgroups: v1 asks the kernel, v2 reads /proc."""

import errno
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import child
from support.requirements import skip

from taskstats import TaskstatsError, Unavailable, cgroup_stats


def mount_of(kind: str) -> Path:
    """Where a cgroup file system is mounted, from /proc/self/mountinfo."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        if right.split()[0] == kind:
            return Path(left.split()[4])
    skip(f"no {kind} is mounted")
    raise AssertionError


@pytest.fixture(params=["cgroup", "cgroup2"])
def cgroup(request: pytest.FixtureRequest) -> Iterator[Path]:
    """An empty cgroup of version 1 or 2."""
    path = mount_of(request.param) / f"taskstats-{uuid.uuid4().hex}"
    try:
        path.mkdir()
    except OSError as error:
        skip(f"no cgroup can be made in {path.parent}: {error}")
    yield path
    path.rmdir()


@pytest.fixture
def member(cgroup: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process in the cgroup that waits in read(2): an ordinary interruptible sleep."""
    program = [sys.executable, "-c", "print(flush=True); input()"]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        (cgroup / "cgroup.procs").write_text(str(process.pid))
        wait_for_state(process.pid, "S")
        yield process
        process.kill()


def wait_for_state(pid: int, state: str) -> None:
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != state:
        os.sched_yield()


def is_v1(cgroup: Path) -> bool:
    return not (cgroup / "cgroup.controllers").exists()


def test_counts_by_state(cgroup: Path, member: subprocess.Popen[bytes]) -> None:
    sleeping = cgroup_stats(cgroup)
    os.kill(member.pid, signal.SIGSTOP)
    os.waitpid(member.pid, os.WUNTRACED)
    stopped = cgroup_stats(str(cgroup))
    assert (sleeping.nr_sleeping, sleeping.nr_stopped) == (1, 0)
    assert (stopped.nr_sleeping, stopped.nr_stopped) == (0, 1)
    for stats in sleeping, stopped:
        assert (stats.nr_running, stats.nr_uninterruptible) == (0, 0)
        assert stats.source == ("kernel" if is_v1(cgroup) else "proc")
        assert stats.nr_io_wait == (0 if is_v1(cgroup) else None)


@pytest.mark.usefixtures("member")
def test_by_descriptor_and_without_privilege(cgroup: Path) -> None:
    def as_nobody() -> int:
        os.setuid(child.NOBODY)
        return cgroup_stats(fd).nr_sleeping

    fd = os.open(cgroup, os.O_RDONLY)
    try:
        assert child.run(as_nobody) == 1
    finally:
        os.close(fd)


def test_a_closed_descriptor() -> None:
    fd = os.open("/", os.O_RDONLY)
    os.close(fd)
    with pytest.raises(TaskstatsError, match=f"cgroup fd {fd}: not an open directory") as caught:
        cgroup_stats(fd)
    assert caught.value.errno == errno.EBADF


def test_a_path_only_descriptor(cgroup: Path) -> None:
    fd = os.open(cgroup, os.O_PATH)
    try:
        with pytest.raises(TaskstatsError, match="O_PATH") as caught:
            cgroup_stats(fd)
    finally:
        os.close(fd)
    assert caught.value.errno == errno.EBADF


def test_a_file_of_a_cgroup(cgroup: Path) -> None:
    with pytest.raises(TaskstatsError, match="not the directory of a cgroup"):
        cgroup_stats(cgroup / "cgroup.procs")


@pytest.mark.parametrize("path", ["/tmp", "/dev/null", __file__])
def test_no_cgroup_at_all(path: str) -> None:
    with pytest.raises(TaskstatsError, match="not the directory of a cgroup") as caught:
        cgroup_stats(path)
    assert caught.value.errno == (errno.EINVAL if Path(path).is_dir() else errno.ENOTDIR)


@pytest.mark.parametrize("cgroup", ["cgroup2"], indirect=True)
@pytest.mark.usefixtures("member")
def test_threads_that_proc_hides_are_not_counted_as_none(cgroup: Path) -> None:
    def as_nobody_with_hidden_processes() -> None:
        child.unshare(child.CLONE_NEWNS)
        subprocess.run(["mount", "--make-rprivate", "/"], check=True)
        subprocess.run(["mount", "-t", "proc", "-o", "hidepid=2", "proc", "/proc"], check=True)
        os.setgroups([])
        os.setgid(child.NOBODY)  # hidepid spares group 0
        os.setuid(child.NOBODY)
        cgroup_stats(fd)

    fd = os.open(cgroup, os.O_RDONLY)
    try:
        with pytest.raises(Unavailable, match="cannot be seen from here"):
            child.run(as_nobody_with_hidden_processes)
    finally:
        os.close(fd)


def test_a_cgroup_that_was_removed() -> None:
    path = mount_of("cgroup2") / f"taskstats-{uuid.uuid4().hex}"
    path.mkdir()
    fd = os.open(path, os.O_RDONLY)
    path.rmdir()
    try:
        with pytest.raises(TaskstatsError, match="has been removed"):
            cgroup_stats(fd)
    finally:
        os.close(fd)


def test_a_path_that_is_not_there() -> None:
    with pytest.raises(FileNotFoundError):
        cgroup_stats("/sys/fs/cgroup/no-such-cgroup")
