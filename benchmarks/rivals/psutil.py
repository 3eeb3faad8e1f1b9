"""psutil: the like of the same figures, from /proc."""

from collections.abc import Sequence
from importlib import metadata

import psutil

LESS = ""
MORE = ""


def version() -> str:
    return f"psutil {metadata.version('psutil')}"


class Queries:
    def one(self, pid: int) -> object:
        process = psutil.Process(pid)
        with process.oneshot():
            return (
                process.name(),
                process.cpu_times(),
                process.io_counters(),
                process.memory_info(),
                process.num_ctx_switches(),
            )

    def many(self, pids: Sequence[int]) -> object:
        return [self.one(pid) for pid in pids]

    def close(self) -> None:
        pass
