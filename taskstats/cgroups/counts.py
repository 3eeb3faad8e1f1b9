"""cgroup_stats: how many of a cgroup's tasks run, sleep, wait."""

import errno
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from taskstats import host
from taskstats._native import ffi, lib
from taskstats.endpoint import KERNEL, Endpoint
from taskstats.errors import from_errno
from taskstats.shim import opening_error


@dataclass(frozen=True, slots=True)
class CgroupStats:
    """A cgroup's own tasks, threads each, by state; those of its descendants are not counted.

    Attributes:
        nr_sleeping: Sleeping. The kernel leaves freezable sleepers out (sleep(1) is one, it is
            counted nowhere); /proc does not tell them apart, so there they are in.
        nr_running: Running, or ready to.
        nr_stopped: Stopped by a signal.
        nr_uninterruptible: In uninterruptible sleep.
        nr_io_wait: Waiting for I/O in none of these states (a killable wait); None from /proc,
            which counts such waits as uninterruptible.
        source: "kernel" (cgroup v1: kernel/cgroup/cgroup-v1.c:cgroupstats_build), or "proc"
            (cgroup v2, where the kernel refuses: made from the state of each thread).
    """

    nr_sleeping: int
    nr_running: int
    nr_stopped: int
    nr_uninterruptible: int
    nr_io_wait: int | None
    source: Literal["kernel", "proc"]


def cgroup_stats(
    cgroup: str | os.PathLike[str] | int, *, endpoint: Endpoint = KERNEL
) -> CgroupStats:
    """Counts a cgroup's tasks by state. Needs no privilege but to open the directory.

    Args:
        cgroup: The cgroup's directory, or a descriptor of it.
        endpoint: Whom to ask.

    Raises:
        OSError: The path cannot be opened.
        TaskstatsError: Not the directory of a cgroup, or not an open descriptor; or it was
            removed (of version 1, the kernel says so some time after; before, all counts are 0).
        Unavailable: The kernel has no TASKSTATS; or, version 2, threads that /proc hides, or a
            /proc that is not of this PID namespace.
    """
    if isinstance(cgroup, int):
        if not 0 <= cgroup < 2**31:
            raise from_errno("cgroup", errno.EBADF, about=f"fd {cgroup}")
        return _of_descriptor(cgroup, f"fd {cgroup}", endpoint)
    about = str(os.fspath(cgroup))
    try:
        fd = os.open(cgroup, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
    except NotADirectoryError:
        raise from_errno("cgroup", errno.ENOTDIR, about=about) from None
    try:
        return _of_descriptor(fd, about, endpoint)
    finally:
        os.close(fd)


def _of_descriptor(fd: int, about: str, endpoint: Endpoint) -> CgroupStats:
    counts = ffi.new("struct ts_cgroup *")
    opened = ffi.new("struct ts_opened *")
    native, _cpus = endpoint.native(clean=False)
    rc = lib.ts_cgroup(native, fd, counts, opened)
    if rc == -errno.EMEDIUMTYPE:
        return _from_proc(fd, about)
    if rc < 0:
        raise opening_error("cgroup", rc, opened, about)
    return CgroupStats(
        counts.nr_sleeping,
        counts.nr_running,
        counts.nr_stopped,
        counts.nr_uninterruptible,
        counts.nr_io_wait,
        "kernel",
    )


# ---- version 2 -------------------------------------------------------------------------------


def _from_proc(fd: int, about: str) -> CgroupStats:
    tids = _threads(fd, about)
    if tids and not host.proc_is_ours():
        raise from_errno("cgroup", errno.ESRCH, "threads", about)
    states = {tid: _state(tid) for tid in tids}
    unseen = {tid for tid, state in states.items() if not state}
    # One that has ended is no longer listed; what still is, /proc hides from us. A thread of
    # another PID namespace is listed as 0.
    if unseen and unseen & set(_threads(fd, about)):
        raise from_errno("cgroup", errno.ESRCH, "threads", about)
    count = Counter(states.values())
    return CgroupStats(count["S"], count["R"], count["T"], count["D"], None, "proc")


def _threads(fd: int, about: str) -> list[int]:
    """The cgroup's threads, by id."""
    try:
        threads = os.open("cgroup.threads", os.O_RDONLY | os.O_CLOEXEC, dir_fd=fd)
        with open(threads, encoding="ascii") as lines:  # noqa: PTH123 - it is a descriptor
            return [int(tid) for tid in lines]
    except FileNotFoundError:
        raise from_errno("cgroup", errno.ENODEV, about=about) from None
    except OSError as error:
        raise from_errno("cgroup", error.errno or errno.EIO, about=about) from None


def _state(tid: int) -> str:
    """The state letter in /proc/TID/stat, after the name in parentheses; "" if it is not there."""
    try:
        stat = Path(f"/proc/{tid}/stat").read_bytes()
    except OSError:
        return ""
    return chr(stat[stat.rindex(b")") + 2])
