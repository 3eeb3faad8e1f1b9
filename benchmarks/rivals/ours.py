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

    def many(self, pids: Sequence[int]) -> object:
        return self._client.pids(pids)

    def close(self) -> None:
        self._client.close()


def decode(datagram: bytes) -> tuple[int, int]:
    (record,) = taskstats.decode(datagram)
    return record.ac_pid, record.ac_etime
