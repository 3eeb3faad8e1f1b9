"""Cgroups of the emulated kernel: directories that a test declares to be some.

A netlink datagram carries no descriptors, so the one that a request names is looked up in this
process: whoever asks must be in it as well.
"""

import errno
import fcntl
import os
import struct
from dataclasses import dataclass, field
from pathlib import Path

from taskstats.emulator.errors import Refused
from taskstats.emulator.tasks import State, Task

# In the order of struct cgroupstats. A task that sleeps and may be frozen is in none of these
# states, and is not counted (kernel/cgroup/cgroup-v1.c:cgroupstats_build).
_COUNTED: tuple[State, ...] = ("sleeping", "running", "stopped", "uninterruptible", "io wait")


@dataclass(eq=False, slots=True)
class Cgroup:
    """A cgroup: its version, and the tasks that are in it, living or not."""

    version: int = 1
    tasks: list[Task] = field(default_factory=list)


class Cgroups:
    """The directories that play cgroups."""

    def __init__(self) -> None:
        self._by_inode: dict[tuple[int, int], Cgroup] = {}

    def add(self, path: str | Path, tasks: list[Task], version: int) -> Cgroup:
        """Declares a directory to be one."""
        where = Path(path).stat()
        made = self._by_inode[where.st_dev, where.st_ino] = Cgroup(version, tasks)
        return made

    @staticmethod
    def opened(fd: int) -> os.stat_result | None:
        """What a descriptor is open on; None if it is closed, or was opened with O_PATH."""
        try:
            if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_PATH:
                return None
            return os.fstat(fd)
        except (OSError, ValueError):  # the latter for a negative number
            return None

    def counts(self, opened: os.stat_result) -> bytes:
        """The struct: how many tasks are in which state.

        Raises:
            Refused: EINVAL for what is no cgroup of version 1, ENOENT for one that was removed.
                (A real one is not gone at once: for some milliseconds more it is empty.)
        """
        cgroup = self._by_inode.get((opened.st_dev, opened.st_ino))
        if cgroup is None or cgroup.version != 1:
            raise Refused(errno.EINVAL)
        if opened.st_nlink == 0:
            raise Refused(errno.ENOENT)
        states = [task.state for task in cgroup.tasks if not task.exited]
        return struct.pack("=5Q", *map(states.count, _COUNTED))
