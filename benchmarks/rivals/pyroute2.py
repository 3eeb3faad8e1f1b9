"""pyroute2, a netlink library in Python."""

import asyncio
import errno
import os
import socket
from collections.abc import Callable, Collection, Mapping, Sequence
from importlib import metadata
from typing import Any

from pyroute2 import AsyncTaskStats, TaskStats
from pyroute2.netlink import NLM_F_ACK, NLM_F_REQUEST
from pyroute2.netlink.taskstats import TASKSTATS_CMD_GET, taskstatsmsg, tcmd

LESS = (
    "Tasks, not groups. Of a struct of any version but 15 it reads nothing after "
    "cpu_scaled_run_real_total: no ac_tgid, and no delays but of CPU, block I/O and swapping. It "
    "decodes the struct when it is first read, as this package does, but then all of it. Its plain "
    "interface enters an event loop for each query; with asyncio one loop serves for all. Many "
    "queries in a call are not in its interface for TASKSTATS, but in that for any netlink "
    "message; the call never returns if its answers do not fit the receive buffer. "
    "Exits: one socket for all CPUs, one record at a time. Of a loss it tells ENOBUFS, not how "
    "many. After that its synchronous socket raises the same for ever; by asyncio, as exits are "
    "heard here, it can go on, but until its queue is empty the kernel drops what comes."
)
MORE = "All of netlink: routes, links, nftables. Nothing to compile."

#: Requests in a call: their answers fit the receive buffer, and more do not make it faster.
TOGETHER = 256

SO_RCVBUFFORCE = 33


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


class AsyncQueries:
    async def open(self) -> None:
        self._stats = AsyncTaskStats()
        await self._stats.bind()

    async def one(self, pid: int) -> Any:
        (message,) = [message async for message in await self._stats.get_pid_stat(pid)]
        return message


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


class Exits:
    """In an event loop: less work than in the calls that hide it, and it goes on after ENOBUFS."""

    def __init__(self, storms: Collection[int], *, rcvbuf: int | None = None) -> None:
        self._loop = asyncio.new_event_loop()
        self._storms = storms
        self._parent = os.getppid()
        self._overruns = 0
        self.seen = 0
        self._loop.run_until_complete(self._open(rcvbuf))

    def first(self) -> None:
        self._loop.run_until_complete(self._hear(self._count))

    def count(self) -> None:
        self._loop.run_until_complete(self._hear_all(self._count))

    def each(self, take: Callable[[int, bytes], object]) -> None:
        def named(record: Any) -> None:
            take(record["ac_ppid"], record["ac_comm"])

        self._loop.run_until_complete(self._hear_all(named))

    def told(self) -> Mapping[str, int]:
        return {"overruns": self._overruns, "queue": self._queue}

    async def _open(self, rcvbuf: int | None) -> None:
        self._stats = AsyncTaskStats()
        await self._stats.bind()
        if rcvbuf:
            self._stats.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, rcvbuf // 2)
        self._queue = self._stats.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        await self._stats.register_mask(f"0-{os.sysconf('SC_NPROCESSORS_CONF') - 1}")

    async def _hear(self, take: Callable[[Any], object]) -> None:
        try:
            async for message in self._stats.get():
                aggregate = message.get_attr("TASKSTATS_TYPE_AGGR_PID")
                take(aggregate.get_attr("TASKSTATS_TYPE_STATS"))
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            self._overruns += 1

    async def _hear_all(self, take: Callable[[Any], object]) -> None:
        while True:
            await self._hear(take)

    def _count(self, record: Any) -> None:
        """Counts the processes that a storm made, and its threads.

        Of a struct of version 16 it does not read ac_tgid: threads are told by their name and
        parent, which is this process's too.
        """
        ppid = record["ac_ppid"]
        self.seen += ppid in self._storms or (
            ppid == self._parent
            and record["ac_pid"] not in self._storms
            and record["ac_comm"].startswith(b"storm\0")
        )
