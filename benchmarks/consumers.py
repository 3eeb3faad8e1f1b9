"""Consumers of real exits, each in a fresh process beside a storm.

A consumer is a program that says "ready", hears until SIGTERM, and prints how many of the storm's
records it has seen and the CPU time in ns that it used since it was ready. Ours then reads what is
queued, and prints besides how many were lost and how often it woke up.
"""

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from support.storm import Storm

CPUS = os.sysconf("SC_NPROCESSORS_CONF")
#: The storm has the first CPU that this process may use, the consumer the last.
STORM_CPU, CONSUMER_CPU = min(os.sched_getaffinity(0)), max(os.sched_getaffinity(0))

#: Seconds to read what a storm has left.
PATIENCE = 30

_RIVALS = Path(__file__).parent / "rivals"


def script(name: str) -> list[str]:
    """The command of a consumer in Python."""
    return [sys.executable, str(_RIVALS / f"{name}.py")]


OURS = script("taskstats_exits")


@dataclass(frozen=True)
class Heard:
    """What a consumer has seen of a storm; lost are also the records of others."""

    records: int
    cpu_ns: int
    lost: int
    wakeups: int = 0


class Consumer:
    """A consumer that is ready.

    Attributes:
        pid: Its own.
    """

    def __init__(self, command: Sequence[Any], storm: Storm, *options: str) -> None:
        arguments = [*command, str(CPUS), str(storm.pid), *options]
        ours = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {CONSUMER_CPU})  # it inherits that
        try:
            self._process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
        finally:
            os.sched_setaffinity(0, ours)
        self.pid = self._process.pid
        self._is_ours = command == OURS
        assert self._line() == "ready"

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def queues(self) -> list[tuple[int, int]]:
        """Bytes queued and datagrams dropped, of each of its netlink sockets."""
        links = [str(fd.readlink()) for fd in Path(f"/proc/{self.pid}/fd").iterdir()]
        inodes = {link[8:-1] for link in links if link.startswith("socket:[")}
        lines = [line.split() for line in Path("/proc/net/netlink").read_text().splitlines()[1:]]
        return [(int(line[4]), int(line[8])) for line in lines if line[9] in inodes]

    def queued(self) -> int:
        """Bytes that wait for it."""
        return sum(waiting for waiting, _ in self.queues())

    def _is_done(self) -> bool:
        """It sleeps, and nothing is left for it to read."""
        state = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0]
        return state == "S" and not self.queued()

    def finish(self) -> Heard:
        """Lets it read what is queued, and ends it."""
        if self._is_ours:
            return Heard(*self._ended())
        deadline = time.monotonic() + PATIENCE
        while not self._is_done():
            assert time.monotonic() < deadline, "other tasks exit faster than it hears"
            time.sleep(0.02)
        lost = sum(drops for _, drops in self.queues())
        return Heard(*self._ended(), lost)

    def _ended(self) -> list[int]:
        """What it prints."""
        self._process.send_signal(signal.SIGTERM)
        figures = list(map(int, self._line().split()))
        assert self._process.wait() == 0
        return figures

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


@dataclass(frozen=True)
class Blown:
    """What a storm did: its exits, the CPU time in ns of each, how many a second."""

    exits: int
    cpu_ns: float
    rate: float


def blow(storm: Storm) -> Blown:
    """Lets a storm blow to its end."""

    def used() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    before, start = used(), time.perf_counter()
    storm.begin()
    exits = storm.finish()  # reaps it
    took = time.perf_counter() - start
    return Blown(exits, (used() - before) * 1e9 / exits, exits / took)
