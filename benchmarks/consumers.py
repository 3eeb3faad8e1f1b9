"""Consumers of real exits, each in a fresh process beside storms.

A consumer is a program that is given the storms' pids, says "ready", hears until SIGTERM, and
prints a JSON object on one line: see `Heard`. `floors/` has those in C, `rivals/` those in Python.
"""

import json
import os
import resource
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from support.requirements import lacks
from support.storm import Storm

#: A storm alone has the first CPU that this process may use, and the consumer the last.
STORM_CPU, CONSUMER_CPU = min(os.sched_getaffinity(0)), max(os.sched_getaffinity(0))

#: Each CPU that there can be has a socket of ours.
SOCKETS = os.sysconf("SC_NPROCESSORS_CONF")

#: Bytes of a queue with room for ROOM records that wait, at 2,304 bytes each.
RCVBUF = 96 << 20
ROOM = 40_000

#: The options of ours for such queues, which it would make smaller on a machine with less memory.
ROOMY = {"rcvbuf": RCVBUF, "rcvbuf_total": RCVBUF * SOCKETS}

#: Of the rate that was asked for, what a storm must have reached.
KEPT_UP = 0.95

#: Seconds to read what a storm has left.
PATIENCE = 60

_HERE = Path(__file__).parent


def needs_two_cpus() -> None:
    """Skips a benchmark whose storm and consumer must not share a CPU."""
    if STORM_CPU == CONSUMER_CPU:
        lacks("two CPUs")


def ran_ns(pid: int) -> int:
    """The CPU time that the first thread of a process has used."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])


def rival(name: str, **options: Any) -> list[str]:
    """The command of a consumer in Python; the options are its own."""
    return [sys.executable, "-m", "rivals.hearing", name, json.dumps(options)]


def floor(program: Path, rcvbuf: int = 0) -> list[str]:
    """The command of a consumer in C."""
    return [str(program), str(rcvbuf)]


@dataclass(frozen=True)
class Heard:
    """What a consumer has seen of the storms, and what it says.

    Attributes:
        records: Those of the storms' exits.
        cpu_ns: CPU time since it was ready.
        dropped: What the kernel counted on its sockets, also of others' exits.
        queue: Bytes of all its queues together, as granted; 0 if it has none.
        received: All records, also of others' exits; None if it does not say.
        lost: As it says; None if it says nothing.
        overruns: How often it was told ENOBUFS.
        wakeups: Its drains.
        late_ns: By record, how long after the exit it was at hand.
        tracked: What a job tracker has made of the records; see rivals/jobs.py.
    """

    records: int
    cpu_ns: int
    dropped: int
    queue: int = 0
    received: int | None = None
    lost: int | None = None
    overruns: int = 0
    wakeups: int = 0
    late_ns: list[int] = field(default_factory=list)
    tracked: dict[str, int] = field(default_factory=dict)


class Consumer:
    """A consumer that is ready.

    Args:
        command: Of `rival` or `floor`.
        storms: Whose exits it counts.
        mode: Or takes the time of, of storms of moments.
        cpus: Where it runs.

    Attributes:
        pid: Its own.
    """

    def __init__(
        self,
        command: Sequence[str],
        *storms: Storm,
        mode: Literal["count", "time"] = "count",
        cpus: Sequence[int] = (CONSUMER_CPU,),
    ) -> None:
        arguments = [*command, mode, *(str(storm.pid) for storm in storms)]
        ours = os.sched_getaffinity(0)
        os.sched_setaffinity(0, cpus)  # it inherits that
        try:
            self._process = subprocess.Popen(
                arguments, cwd=_HERE, stdout=subprocess.PIPE, text=True
            )
        finally:
            os.sched_setaffinity(0, ours)
        self.pid = self._process.pid
        try:
            assert self._line() == "ready"
        except BaseException:
            self.__exit__()
            raise

    def _line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def _queues(self) -> list[tuple[int, int]]:
        """Bytes queued and datagrams dropped, of each of its netlink sockets."""
        inodes = set()
        for fd in Path(f"/proc/{self.pid}/fd").iterdir():
            with suppress(FileNotFoundError):  # one who looks opens and closes files all the while
                inodes.add(str(fd.readlink()).removeprefix("socket:[").removesuffix("]"))
        lines = [line.split() for line in Path("/proc/net/netlink").read_text().splitlines()[1:]]
        return [(int(line[4]), int(line[8])) for line in lines if line[9] in inodes]

    def queued(self) -> int:
        """Bytes that wait for it."""
        return sum(waiting for waiting, _ in self._queues())

    def _is_asleep(self) -> bool:
        return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "S"

    def settle(self) -> None:
        """Waits until it sleeps and nothing is left for it to read.

        What is left in a queue is not for it, if it sleeps on: a filter's meter is always full.
        """
        if not self._queues():
            return  # it hears nothing, and looks for ever
        deadline = time.monotonic() + PATIENCE
        ran = -1
        while not (self._is_asleep() and (not self.queued() or ran_ns(self.pid) == ran)):
            assert time.monotonic() < deadline, "other tasks exit faster than it hears"
            ran = ran_ns(self.pid)
            time.sleep(0.05)

    def finish(self) -> Heard:
        """Ends it."""
        dropped = sum(drops for _, drops in self._queues())
        self._process.send_signal(signal.SIGTERM)
        heard = Heard(dropped=dropped, **json.loads(self._line()))
        assert self._process.wait() == 0
        return heard

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

    def used_ns() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return (usage.ru_utime + usage.ru_stime) * 1e9

    before = used_ns() + ran_ns(storm.pid)  # what its start took is not the exits'
    start = time.perf_counter()
    storm.begin()
    exits = storm.finish()  # reaps it
    rate = exits / (time.perf_counter() - start)
    return Blown(exits, (used_ns() - before) / exits, rate)


def hear(
    storm: Storm, command: Sequence[str], mode: Literal["count", "time"] = "count"
) -> tuple[Blown, Heard]:
    """Lets a storm blow beside a consumer, which then reads what is left."""
    with storm, Consumer(command, storm, mode=mode) as consumer:
        blown = blow(storm)
        consumer.settle()
        return blown, consumer.finish()


def assert_kept_up(
    seen: Mapping[str, Sequence[tuple[Blown, *tuple[Any, ...]]]], rate: float, benchmark: Any
) -> None:
    """That the storms beside each had the rate they were asked for, unless nothing is timed."""
    for name, rounds in seen.items():
        had = statistics.median(one[0].rate for one in rounds)
        assert benchmark.disabled or had >= KEPT_UP * rate, f"{had:,.0f} exits/s beside {name}"
