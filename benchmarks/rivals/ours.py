"""This package, as it is by default."""

from collections.abc import Callable, Collection, Mapping, Sequence
from importlib import metadata
from typing import Any

import numpy as np

import taskstats
from taskstats.fields import FIELDS
from taskstats.rows import ROW, STATS_AT

LESS = ""
MORE = ""


def version() -> str:
    return f"taskstats {metadata.version('linux-taskstats')}"


class Queries:
    def __init__(self) -> None:
        self._client = taskstats.Client()
        self.one = self._client.pid

    def many(self, pids: Sequence[int]) -> taskstats.Batch:
        batch = self._client.pids(pids)
        assert not batch.errors
        return batch

    def close(self) -> None:
        self._client.close()


def figures(record: taskstats.Record) -> dict[str, object]:
    return {
        "comm": record.comm,
        "cpu": (record.cpu_count, record.cpu_delay_total),
        "blkio": (record.blkio_count, record.blkio_delay_total),
        "swapin": (record.swapin_count, record.swapin_delay_total),
        "utime": record.ac_utime,
        "stime": record.ac_stime,
        "read_bytes": record.read_bytes,
        "write_bytes": record.write_bytes,
    }


def decode(datagram: bytes) -> tuple[int, int]:
    (record,) = taskstats.decode(datagram)
    return record.ac_pid, record.ac_etime


# Only what tells a storm's records: its own dtype, so that no other column costs.
IDENTITY = ("ac_pid", "ac_ppid", "ac_tgid")
DTYPE = np.dtype(
    {
        "names": IDENTITY,
        "offsets": [STATS_AT + FIELDS[name].offset for name in IDENTITY],
        "formats": ["u4"] * len(IDENTITY),
        "itemsize": ROW,
    }
)


class Exits:
    """Hears batch by batch, or record by record.

    Args:
        storms: Whose records are counted.
        failed: Only those that failed; the others are kept out by the kernel.
        options: Of the listener.
    """

    def __init__(self, storms: Collection[int], *, failed: bool = False, **options: Any) -> None:
        where = taskstats.Where(failed=True) if failed else None
        self._listener = taskstats.ExitListener(where=where, **options)
        self._batches = self._listener.batches()
        self._storms = storms
        self.seen = 0

    def first(self) -> None:
        self._count(next(self._batches))

    def count(self) -> None:
        for batch in self._batches:
            self._count(batch)

    def each(self, take: Callable[[int, bytes], object]) -> None:
        for record in self._listener:
            take(record.ac_ppid, record.ac_comm)

    def told(self) -> Mapping[str, int]:
        self._listener.close()  # and reads what is queued
        stats = self._listener.stats()
        return {
            "received": stats.received,
            "lost": stats.lost,
            "wakeups": stats.wakeups,
            "queue": stats.rcvbuf,
        }

    def _count(self, batch: taskstats.Batch) -> None:
        """Counts the records of threads of a storm, or of processes that it made."""
        rows = np.frombuffer(batch.data, DTYPE)
        for storm in self._storms:
            thread = (rows["ac_tgid"] == storm) & (rows["ac_pid"] != storm)
            self.seen += int(np.count_nonzero(thread | (rows["ac_ppid"] == storm)))
