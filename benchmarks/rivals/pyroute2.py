"""pyroute2, a netlink library in Python."""

from collections.abc import Sequence
from importlib import metadata

from pyroute2 import TaskStats

LESS = ""
MORE = ""


def version() -> str:
    return f"pyroute2 {metadata.version('pyroute2')}"


class Queries:
    def __init__(self) -> None:
        self._stats = TaskStats()
        self._stats.bind()
        self.one = self._stats.get_pid_stat

    def many(self, pids: Sequence[int]) -> object:
        return [self.one(pid) for pid in pids]

    def close(self) -> None:
        self._stats.close()
