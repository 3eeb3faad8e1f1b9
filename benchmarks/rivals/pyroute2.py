"""pyroute2, a netlink library in Python."""

from collections.abc import Sequence
from importlib import metadata
from typing import Any

from pyroute2 import TaskStats
from pyroute2.netlink import NLM_F_ACK, NLM_F_REQUEST
from pyroute2.netlink.taskstats import TASKSTATS_CMD_GET, taskstatsmsg, tcmd

LESS = (
    "Tasks, not groups. Of a struct of any version but 15 it reads nothing after "
    "cpu_scaled_run_real_total: no ac_tgid, and no delays but of CPU, block I/O and swapping. Many "
    "queries in a call are not in its interface for TASKSTATS, but in that for any netlink "
    "message; the call never returns if its answers do not fit the receive buffer."
)
MORE = "All of netlink: routes, links, nftables. Nothing to compile."

#: Requests in a call: their answers fit the receive buffer, and more do not make it faster.
TOGETHER = 256


def version() -> str:
    return f"pyroute2 {metadata.version('pyroute2')}"


class Queries:
    def __init__(self) -> None:
        self._stats = TaskStats()
        self._stats.bind()

    def one(self, pid: int) -> Any:
        (message,) = self._stats.get_pid_stat(pid)
        return message

    def many(self, pids: Sequence[int]) -> list[Any]:
        answers = []
        for start in range(0, len(pids), TOGETHER):
            requests = [self._request(pid) for pid in pids[start : start + TOGETHER]]
            answers += self._stats.nlm_request_batch(requests)
        return answers

    def _request(self, pid: int) -> tcmd:
        made = tcmd()
        made["cmd"] = TASKSTATS_CMD_GET
        made["version"] = 1
        made["attrs"].append(["TASKSTATS_CMD_ATTR_PID", pid])
        made["header"]["type"] = self._stats.prid
        made["header"]["flags"] = NLM_F_REQUEST | NLM_F_ACK  # without ACK it awaits no answer
        return made

    def close(self) -> None:
        self._stats.close()


def figures(message: Any) -> dict[str, object]:
    stats = message.get_attr("TASKSTATS_TYPE_AGGR_PID").get_attr("TASKSTATS_TYPE_STATS")
    return {
        "comm": stats["ac_comm"].split(b"\0")[0].decode(),
        "cpu": (stats["cpu_count"], stats["cpu_delay_total"]),
        "blkio": (stats["blkio_count"], stats["blkio_delay_total"]),
        "swapin": (stats["swapin_count"], stats["swapin_delay_total"]),
        "utime": stats["ac_utime"],
        "stime": stats["ac_stime"],
        "read_bytes": stats["read_bytes"],
        "write_bytes": stats["write_bytes"],
    }


def decode(datagram: bytes) -> tuple[int, int]:
    message = taskstatsmsg(datagram)
    message.decode()
    stats = message.get_attr("TASKSTATS_TYPE_AGGR_PID").get_attr("TASKSTATS_TYPE_STATS")
    return stats["ac_pid"], stats["ac_etime"]
