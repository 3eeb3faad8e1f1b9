"""The CPU time of this process's cgroup, where it is alone in it."""

import os
import time
from pathlib import Path

from taskstats import host


class OwnCgroup:
    """The CPU time that a cgroup takes besides this process, from when it was made.

    Attributes:
        path: Its directory.
    """

    def __init__(self, version: int, path: Path) -> None:
        self.path = path
        self._version = version
        self._before = self._used()

    @classmethod
    def find(cls) -> "OwnCgroup | None":
        """This process's cgroup, of the hierarchy that counts CPU time; None if it is not alone.

        Version 2 counts it in each (kernel/cgroup/rstat.c), version 1 where cpuacct is mounted.
        """
        for version, controllers, path in host.own_cgroups():
            if (version == 2 or "cpuacct" in controllers) and _is_alone_in(path):
                return cls(version, path)
        return None

    def cpu_ns(self) -> int:
        """What has been used since, by whatever is or was in it, but for this process.

        Raises:
            OSError: It cannot be read any more.
        """
        return self._used() - self._before

    def _used(self) -> int:
        time.process_time_ns()  # adds this thread's time up to now, also to its cgroup's
        if self._version == 2:
            stat = (self.path / "cpu.stat").read_text(encoding="ascii").split()
            used = int(stat[stat.index("usage_usec") + 1]) * 1000
        else:
            used = int((self.path / "cpuacct.usage").read_text(encoding="ascii"))
        return used - time.process_time_ns()


def _is_alone_in(path: Path) -> bool:
    """Whether this process is the only one there, and there is none below."""
    try:
        own = (path / "cgroup.procs").read_text(encoding="ascii").split()
        below = [one for one in path.iterdir() if one.is_dir()]
    except OSError:
        return False
    return own == [str(os.getpid())] and not below
