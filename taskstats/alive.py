"""The living processes, as /proc shows them: who they are, and who their parents are."""

import contextlib
import os
import time
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple, TypeAlias

#: Nanoseconds to which /proc tells when a process started (USER_HZ is 100 on every machine).
TICK_NS = 10_000_000
_PIECE = 1 << 14  # bytes
_NUM_THREADS = 17  # in /proc/PID/stat, behind the command's name
#: The clocks are read together if this many ns pass at most.
_TOGETHER_NS = 1_000_000


class Alive(NamedTuple):
    """A living process, or one that has ended and was not waited for.

    Attributes:
        pid: The process id.
        ppid: The parent's; 0 if that is in another PID namespace, or the kernel's; or if it ended
            in this moment.
        start_ns: When it started, ns of CLOCK_BOOTTIME, rounded down to 10 ms.
        nested: Whether it lives in a PID namespace below the reader's.
        ended: Whether it has ended: its record was made before, and it has no children.
    """

    pid: int
    ppid: int
    start_ns: int
    nested: bool
    ended: bool = False

    @property
    def start_end_ns(self) -> int:
        """The last nanosecond at which it can have started."""
        return self.start_ns + TICK_NS - 1


#: Looks processes up by their pids; None stands for all. Those that are not there are left out.
Look: TypeAlias = Callable[[Iterable[int] | None], list[Alive]]


def look(pids: Iterable[int] | None = None) -> list[Alive]:
    """Return the living processes with these pids, from /proc/PID/stat and status.

    It waits up to 10 ms where a process has just started, so that no other process can have the
    same pid and the same start.

    Args:
        pids: The pids; None for all processes.

    Raises:
        OSError: /proc cannot be read.
    """
    if pids is None:
        pids = [int(one.name) for one in Path("/proc").iterdir() if one.name.isdigit()]
    offset = _boot_offset_ns()
    wanted = list(pids)
    before = _boot_ns(offset)
    found = _look_at(wanted, offset)
    while found and before <= max(one.start_end_ns for one in found):
        time.sleep(0.001)
        before = _boot_ns(offset)
        earlier = {(one.pid, one.start_ns) for one in found}
        found = [one for one in _look_at(wanted, offset) if (one.pid, one.start_ns) in earlier]
    return found


class Moment(NamedTuple):
    """The clocks at one moment, ns.

    Attributes:
        boot: CLOCK_BOOTTIME of the initial time namespace.
        real: CLOCK_REALTIME.
        monotonic: CLOCK_MONOTONIC.
    """

    boot: int
    real: int
    monotonic: int

    @property
    def booted(self) -> int:
        """CLOCK_REALTIME at the boot."""
        return self.real - self.boot


def clock() -> Moment:
    """Read the clocks, within 1 ms of each other.

    A process that loses its CPU between two of them reads them again.
    """
    offset = _boot_offset_ns()
    while True:
        before = _boot_ns(offset)
        moment = Moment(before, time.time_ns(), time.monotonic_ns())
        if _boot_ns(offset) - before <= _TOGETHER_NS:
            return moment


def may_nest() -> bool:
    """Whether there may ever have been a PID namespace below the initial one.

    The kernel makes a cache named pid_2 for the first (kernel/pid_namespace.c:create_pid_cachep).
    """
    return not Path("/sys/kernel/slab/pid").exists() or Path("/sys/kernel/slab/pid_2").exists()


def _boot_ns(offset: int) -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) - offset


def _look_at(pids: Iterable[int], offset: int) -> list[Alive]:
    found = []
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            stat, status = _read(f"/proc/{pid}/stat"), _read(f"/proc/{pid}/status")
            fields = stat[stat.rindex(b")") + 2 :].split()
            threads = int(fields[_NUM_THREADS])
            if threads == 0:
                continue  # it was just reaped: its parent reads as 0
            _, _, levels = status.partition(b"\nNSpid:")
            nested = len(levels.partition(b"\n")[0].split()) > 1
            start_ns = int(fields[19]) * TICK_NS - offset
            ended = threads == 1 and fields[0] == b"Z"
            found.append(Alive(pid, int(fields[1]), start_ns, nested, ended))
    return found


def _read(path: str) -> bytes:
    """A file of /proc: several times faster than by an object for the file."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return b"".join(iter(lambda: os.read(fd, _PIECE), b""))
    finally:
        os.close(fd)


@cache  # a process stays in its time namespace
def _boot_offset_ns() -> int:
    """How far CLOCK_BOOTTIME is ahead in this process's time namespace."""
    with contextlib.suppress(OSError):
        text = Path("/proc/self/timens_offsets").read_text(encoding="ascii")
        for line in text.splitlines():
            clock, seconds, nanoseconds = line.split()
            if clock in ("boottime", "7"):
                return int(seconds) * 1_000_000_000 + int(nanoseconds)
    return 0
