"""Real exits, as many and as fast as the machine can make them, counted exactly. See storm.c."""

import os
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Literal, Self, TypeAlias

from support import compiled
from support.requirements import needs_processes
from taskstats import Batch

Kind: TypeAlias = Literal["threads", "processes", "moments"]

#: Where there can be one.
CPUS = sorted(os.sched_getaffinity(0))


class Storm:
    """A process that makes exits, from `begin` on.

    Args:
        kind: Threads of it, the cheapest exits there are: ac_tgid is `pid`, and ac_pid is not.
            Or its child processes, reaped: ac_ppid is `pid`. Moments are such processes, each of
            whose names is the CLOCK_MONOTONIC of its exit in ns, hexadecimal.
        cpu: Where; None for any.
        exits: How many; None for until `finish`.
        rate: At most so many a second, evenly; None for as fast as it can.
        failing_every: The K-th, 2 K-th, ... exits with status 1, the others with 0.

    Attributes:
        pid: Its own.
    """

    def __init__(
        self,
        kind: Kind,
        *,
        cpu: int | None = None,
        exits: int | None = None,
        rate: float | None = None,
        failing_every: int | None = None,
    ) -> None:
        numbers = (-1 if cpu is None else cpu, exits or 0, rate or 0, failing_every or 0)
        self._kind = kind
        self._bounded = exits is not None
        self._process = subprocess.Popen(
            [compiled.program("storm"), kind, *map(str, numbers)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.pid = self._process.pid
        self._told("ready")

    def begin(self) -> None:
        """Lets it make exits."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def finish(self) -> int:
        """How many exits it made, its own not among them; all their records have been built.

        Waits for the last of `exits`; where there is no such number, stops it. The storm itself
        has been reaped then, and its threads with it.
        """
        if not self._bounded:
            self._process.terminate()
        made = int(self._told())
        self._process.wait()
        return made

    def heard_in(self, batch: Batch) -> int:
        """How many of its exits the batch holds."""
        if not batch:  # no version, and so no columns
            return 0
        rows = batch.to_numpy()
        if self._kind == "threads":
            needs_processes()
            return int(((rows["ac_tgid"] == self.pid) & (rows["ac_pid"] != self.pid)).sum())
        return int((rows["ac_ppid"] == self.pid).sum())

    def _told(self, expected: str | None = None) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        if line != expected and not line.isdigit():
            self.__exit__()
            raise RuntimeError(f"the storm failed: {line or 'it was killed'}")
        return line

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()


def exits_in(batches: Iterable[Batch], storms: Sequence[Storm]) -> int:
    """How many of the storms' exits the batches hold."""
    return sum(storm.heard_in(batch) for batch in batches for storm in storms)


@contextmanager
def everywhere(
    kind: Kind, *, exits: int | None = None, rate: float | None = None
) -> Iterator[list[Storm]]:
    """A storm on each CPU, begun."""
    with ExitStack() as stack:
        entered = stack.enter_context
        storms = [entered(Storm(kind, cpu=cpu, exits=exits, rate=rate)) for cpu in CPUS]
        for storm in storms:
            storm.begin()
        yield storms
