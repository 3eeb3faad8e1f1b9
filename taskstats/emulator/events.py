"""What the probe's programs see, written to the ring of each listener that has a probe.

The events are those of csrc/events.h. The end of a task is written after its record was sent, as on
the kernel.
"""

import os
import struct
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias

from taskstats._native import ffi
from taskstats.emulator.hierarchy import ControlGroup
from taskstats.emulator.options import Teardown
from taskstats.emulator.ring import HEADER, NUMBERS, EventKind, Ring
from taskstats.emulator.tasks import Task

Change: TypeAlias = Literal["made", "renamed", "removed"]
_CHANGES: dict[Change, int] = {"made": 1, "renamed": 2, "removed": 3}

# Each with the ring's header.
_END = struct.Struct("=2I4I6Q")
_BIRTH = struct.Struct("=2I4I3Q")
_CGROUP = struct.Struct("=2I2IQ1024s")
_LONGEST_PATH = 1023  # the kernel cuts a longer one (include/trace/events/cgroup.h)

_SHORTEST_LIFE = 1000  # ns: the least ac_etime, here, is a microsecond


class Who(NamedTuple):
    """A task, or one of many that are like a task."""

    pid: int
    tgid: int
    start_ns: int


class End(NamedTuple):
    """What the end of a task says, but for who it is and for the moment."""

    runs: int
    began_ns: int
    cpu_ns: int
    waited_ns: int
    cgroup_id: int


def who(task: Task) -> Who:
    """Who it is now: an exec by another thread changes that."""
    return Who(task.pid, task.tgid, task.start_ns)


def end_of(task: Task, now_ns: int) -> End:
    """What its record says, which was made now, and what it does after that."""
    figures, after = task.figures, task.teardown
    return End(
        (figures["cpu_count"] + after.runs) % 2**32,
        min(task.started_ns, now_ns - _SHORTEST_LIFE),
        figures["cpu_run_virtual_total"] + after.cpu_ns,
        figures.get("cpu_delay_total", 0) + after.waited_ns,
        task.cgroup.id,
    )


class Events:
    """The rings, and what is written there.

    Args:
        now_ns: Returns the emulated CLOCK_MONOTONIC.
    """

    def __init__(self, now_ns: Callable[[], int]) -> None:
        self._now_ns = now_ns
        self._clock = ffi.new("uint64_t *", now_ns())
        self._process = os.getpid()
        self._rings: dict[int, Ring] = {}
        self._to_lose: dict[EventKind, int] = {}
        self._held: list[tuple[Task, Who, End]] | None = None

    def open_ring(self, size: int) -> Any:
        """The struct ts_peer_ring of a new ring, which lives as long as that struct.

        Returns:
            The struct. None in a child of fork, since only the kernel's own process writes.
        """
        if os.getpid() != self._process:
            return None
        ring = Ring(size, self._clock)
        self._rings[id(ring)] = ring
        return ffi.gc(ring.native, partial(self._forget, ring))

    def _forget(self, ring: Ring, _native: Any) -> None:
        # May run at any moment, in any thread: whoever writes has a list of its own.
        self._rings.pop(id(ring), None)

    @property
    def watched(self) -> bool:
        """Whether there is a ring, or ends are held for one."""
        return bool(self._rings) or self._held is not None

    def tick(self) -> None:
        """Time has passed."""
        self._clock[0] = self._now_ns()

    # -- what happens

    def birth(self, child: Task, maker: Task) -> None:
        """A process was made (kernel/fork.c:kernel_clone)."""
        if self._rings:
            self.birth_of(who(child), maker, child.cgroup)

    def birth_of(self, child: Who, maker: Task, cgroup: ControlGroup) -> None:
        """The same of one of many."""
        leader = maker.process.leader
        ids = NUMBERS["birth"], child.pid, leader.pid, 0
        times = child.start_ns, leader.start_ns
        self._write("birth", _BIRTH.pack(_BIRTH.size - HEADER.size, 0, *ids, *times, cgroup.id))

    def end(self, task: Task) -> None:
        """A task has sent its record: it uses a CPU for the last time, now or when released."""
        if self.watched and task.teardown.ends:
            self.end_of(task, who(task), end_of(task, self._now_ns()))

    def end_of(self, task: Task, it: Who, end: End) -> None:
        """The same of one of many that are like this task."""
        if self._held is None:
            self._write_end(task.teardown, it, end)
        else:
            self._held.append((task, it, end))

    def _write_end(self, after: Teardown, it: Who, end: End) -> None:
        runs, began, cpu, waited, cgroup = end
        pid, tgid, start_ns = it
        ended = self._now_ns() + after.cpu_ns + after.waited_ns
        ids = NUMBERS["end"], pid, tgid, runs
        times = start_ns, began, ended, cpu, waited
        self._write("end", _END.pack(_END.size - HEADER.size, 0, *ids, *times, cgroup))

    def change(self, what: Change, cgroup: ControlGroup) -> None:
        """A cgroup was made, renamed or removed."""
        path = os.fsencode(cgroup.path)[:_LONGEST_PATH]
        ids = NUMBERS["cgroup"], _CHANGES[what], cgroup.id
        self._write("cgroup", _CGROUP.pack(_CGROUP.size - HEADER.size, 0, *ids, path))

    def _write(self, kind: EventKind, event: bytes) -> None:
        rings = list(self._rings.values())
        lost = self._to_lose and rings and self._is_lost(kind)
        for ring in rings:
            if lost:
                ring.lose(kind)
            else:
                ring.write(kind, event)

    def _is_lost(self, kind: EventKind) -> bool:
        left = self._to_lose.pop(kind, 0)
        if left > 1:
            self._to_lose[kind] = left - 1
        return left > 0

    # -- what goes wrong

    def lose(self, kind: EventKind, count: int) -> None:
        """So many of the next events of this kind find no room."""
        if kind not in NUMBERS:
            raise ValueError(f"events are of kind {', '.join(NUMBERS)}, not {kind!r}")
        self._to_lose[kind] = self._to_lose.get(kind, 0) + count

    def hold(self) -> None:
        """From now on ends are late."""
        if self._held is None:
            self._held = []

    def release(self, *tasks: Task) -> None:
        """Write the ends that are held, of these tasks alone or of all; then none is held."""
        if self._held is None:
            return
        held, self._held = self._held, None
        for task, it, end in held:
            if not tasks or task in tasks:
                self._write_end(task.teardown, it, end)
        if tasks:
            self._held = [one for one in held if one[0] not in tasks]
