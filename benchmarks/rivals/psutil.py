"""psutil: those of the figures that /proc tells too."""

from collections.abc import Collection, Mapping
from contextlib import suppress
from importlib import metadata
from typing import Any

import psutil

LESS = (
    "Of the delays only that of block I/O (iowait), where the kernel measures it. CPU times are "
    "others: in ticks, and scaled by the kernel to the scheduler's sum. The figures stand in "
    "several files, each read at another moment. "
    "Exits: none. It finds processes that live or wait to be reaped while it looks, never threads, "
    "and cannot know of the others."
)
MORE = "Needs no rights for one's own processes. Much else of /proc; other systems than Linux."


def version() -> str:
    return f"psutil {metadata.version('psutil')}"


class Queries:
    """Keeps each process, as one does who asks again: a new one would read /proc once more."""

    def __init__(self) -> None:
        self._processes: dict[int, psutil.Process] = {}

    def one(self, pid: int) -> tuple[Any, ...]:
        process = self._processes.get(pid)
        if process is None:
            process = self._processes[pid] = psutil.Process(pid)
        with process.oneshot():
            return process.name(), process.cpu_times(), process.io_counters()

    def close(self) -> None:
        pass


def figures(answer: tuple[Any, ...]) -> dict[str, object]:
    name, times, io = answer
    return {
        "comm": name,
        "utime": times.user,
        "stime": times.system,
        "read_bytes": io.read_bytes,
        "write_bytes": io.write_bytes,
    }


class Exits:
    """Hears none: looks for new processes, as often as it can."""

    def __init__(self, storms: Collection[int]) -> None:
        self._storms = storms
        self._known: set[int] = set()
        self.seen = 0

    def first(self) -> None:
        self._look()

    def count(self) -> None:
        while True:
            self._look()

    def told(self) -> Mapping[str, int]:
        return {}

    def _look(self) -> None:
        pids = set(psutil.pids())
        for pid in pids - self._known:
            with suppress(psutil.NoSuchProcess):
                self.seen += psutil.Process(pid).ppid() in self._storms
        self._known = pids
