"""This package, as it is by default."""

import signal
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

import taskstats

#: What stands before a command. It is in the environment that this runs in.
COMMAND = (str(Path(sys.executable).with_name("taskstats")), "run", "-o", "/dev/null")


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


class Exits:
    """Counts in columns, batch by batch, or record by record.

    Args:
        storms: Whose records are counted: of their threads, and of processes that they made.
        by_record: Record by record.
        failed: Only those that failed; the others are kept out by the kernel.
        sleeps: Seconds that it sleeps at SIGUSR1.
        options: Of the listener.
    """

    def __init__(
        self,
        storms: Collection[int],
        *,
        by_record: bool = False,
        failed: bool = False,
        sleeps: float = 0,
        **options: Any,
    ) -> None:
        where = taskstats.Where(failed=True) if failed else None
        self._listener = taskstats.ExitListener(where=where, **options)
        self._heard: Iterator[Any] = iter(self._listener if by_record else self._listener.batches())
        self._count = self._count_records if by_record else self._count_batches
        self._storms = storms
        self.seen = 0
        signal.signal(signal.SIGUSR1, lambda *_: time.sleep(sleeps))

    def first(self) -> None:
        self._count(islice(self._heard, 1))

    def count(self) -> None:
        self._count(self._heard)

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

    def _count_batches(self, batches: Iterable[taskstats.Batch]) -> None:
        for batch in batches:
            rows = batch.to_numpy()
            pid, ppid, tgid = rows["ac_pid"], rows["ac_ppid"], rows["ac_tgid"]
            for storm in self._storms:
                is_of_storm = (ppid == storm) | ((tgid == storm) & (pid != storm))
                self.seen += int(np.count_nonzero(is_of_storm))

    def _count_records(self, records: Iterable[taskstats.Record]) -> None:
        storms = self._storms
        for record in records:
            if record.ac_ppid in storms or (
                record.ac_tgid in storms and record.ac_pid != record.ac_tgid
            ):
                self.seen += 1
