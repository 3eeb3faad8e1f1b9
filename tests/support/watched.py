"""A listener with a probe that is read in a thread while a test runs commands."""

import os
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

from taskstats import ExitListener, ExitStats, Record
from taskstats.births import Birth


class Process(NamedTuple):
    """A process, also where its pid is used again."""

    pid: int
    start_ns: int


class Watched:
    """What a listener hears between `with` and the end of the block.

    A record may wait 30 s for its end, so that a busy machine leaves none unsettled.

    Attributes:
        records: Every record of a task, in the order of the stream.
        births: Every birth, in the order of the stream.
        stats: The counters at the end.
    """

    stats: ExitStats

    def __init__(self, **options: Any) -> None:
        self.records: list[Record] = []
        self.births: list[Birth] = []
        self._listener = ExitListener(probe="require", settle=30, **options)
        self._reader = threading.Thread(target=self._read)

    def _read(self) -> None:
        for batch in self._listener.batches(timeout=0.05):
            self.records += batch
            self.births += batch.births

    def __enter__(self) -> Self:
        self._reader.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.stop()
        self._reader.join()
        self.stats = self._listener.stats()
        self._listener.close()

    def settled(self) -> list[Record]:
        """The records with final figures."""
        return [record for record in self.records if record.is_settled]

    def tree(self, root: int) -> set[Process]:
        """The processes that descend from a child of this process, by who called fork."""
        found: set[Process] = set()
        for birth in self.births:
            made = Process(birth.pid, birth.start_ns)
            is_root = not found and (birth.pid, birth.maker_pid) == (root, os.getpid())
            if is_root or Process(birth.maker_pid, birth.maker_start_ns) in found:
                found.add(made)
        return found

    def leaders(self, processes: set[Process]) -> list[Record]:
        """The settled records of these processes, each of which has one thread."""
        return [one for one in self.settled() if Process(one.id, one.start_ns) in processes]


def run(command: Sequence[str]) -> tuple[int, int]:
    """The pid of a command that has ended, and the CPU time of it and its children in ns."""
    pid = os.posix_spawnp(command[0], command, os.environ)
    _, status, usage = os.wait4(pid, 0)
    assert status == 0, command
    return pid, round((usage.ru_utime + usage.ru_stime) * 1e9)
