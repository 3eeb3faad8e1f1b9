"""pyroute2, a netlink library in Python."""

from collections.abc import Sequence
from importlib import metadata

from pyroute2 import TaskStats
from pyroute2.netlink.taskstats import taskstatsmsg

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


def decode(datagram: bytes) -> tuple[int, int]:
    message = taskstatsmsg(datagram)
    message.decode()
    stats = message.get_attr("TASKSTATS_TYPE_AGGR_PID").get_attr("TASKSTATS_TYPE_STATS")
    return stats["ac_pid"], stats["ac_etime"]
