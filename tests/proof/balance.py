"""The CPU time of the whole machine: living tasks, final figures, and the root cgroup's usage."""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from support import cgroups

from proof.reader import End
from taskstats import Client, host

_ROUNDED_NS = 2_000  # ac_etime is in microseconds


class _Living(NamedTuple):
    """A task of a snapshot: it started between these moments of CLOCK_BOOTTIME."""

    earliest_ns: int
    latest_ns: int
    cpu_ns: int

    def is_same(self, other: "_Living") -> bool:
        return self.earliest_ns <= other.latest_ns and other.earliest_ns <= self.latest_ns

    def is_of(self, record: End) -> bool:
        return self.earliest_ns <= record.start_ns <= self.latest_ns


@dataclass(frozen=True)
class Snapshot:
    """All tasks at about one moment, and the root's usage before and after."""

    before_ns: int
    after_ns: int
    usage_before: int
    usage_after: int
    living: dict[int, _Living]

    @property
    def width(self) -> int:
        """What the machine used meanwhile, in ns of CPU time."""
        return self.usage_after - self.usage_before

    @property
    def usage(self) -> float:
        return (self.usage_before + self.usage_after) / 2

    def of(self, record: End) -> _Living | None:
        found = self.living.get(record.id)
        return found if found and found.is_of(record) else None


def _now() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def snapshot(client: Client, root: Path) -> Snapshot:
    """Ask for every task there is, five times, and keep the narrowest answer."""
    return min((_once(client, root) for _ in range(5)), key=lambda one: one.width)


def _once(client: Client, root: Path) -> Snapshot:
    usage_before, before = cgroups.usage(root), _now()
    batch = client.pids(host.tasks())
    after, usage_after = _now(), cgroups.usage(root)
    living = {}
    for one in batch:
        elapsed = one.ac_etime * 1000
        first, last = before - elapsed - _ROUNDED_NS, after - elapsed + _ROUNDED_NS
        living[one.id] = _Living(first, last, one.cpu_run_virtual_total)
    return Snapshot(before, after, usage_before, usage_after, living)


@dataclass(frozen=True)
class Balance:
    """What the tasks used between two snapshots, and what the root says; ns of CPU time.

    The tasks of a snapshot are read one after another, while the root's usage goes from
    `usage_before` to `usage_after`. Their sum belongs to some moment in between, so the middle is
    wrong by half of the width at most: `bound` is the sum of both halves.
    """

    tasks: int
    living: int
    ended: int
    usage: float
    bound: float

    @property
    def residual(self) -> float:
        return self.usage - self.living - self.ended


def balance(begin: Snapshot, end: Snapshot, ends: Iterable[End]) -> Balance:
    """Add up living tasks and final figures. A task is identified by its id and start time."""
    living = ended = 0
    for id_, task in end.living.items():
        earlier = begin.living.get(id_)
        was = earlier.cpu_ns if earlier and earlier.is_same(task) else 0
        living += task.cpu_ns - was
    for record in ends:
        if end.of(record) or record.start_ns > end.after_ns:
            continue  # it is among the living, or has begun later
        first = begin.of(record)
        if first:
            ended += record.final_cpu_ns - first.cpu_ns
        elif record.start_ns >= begin.before_ns:
            ended += record.final_cpu_ns
    bound = (begin.width + end.width) / 2
    return Balance(len(end.living), living, ended, end.usage - begin.usage, bound)
