"""This package, as it is by default."""

from collections.abc import Sequence
from importlib import metadata

import taskstats

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
