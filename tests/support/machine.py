"""A machine that exists in numbers alone: processes, their births, and the records of their ends.

Nothing reads them before a test does, in the order and as late as it likes.
"""

import errno
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from support import wire
from taskstats import Batch, decode
from taskstats.alive import TICK_NS, Alive, Moment
from taskstats.births import Births
from taskstats.fields import DELAYS, FIELDS
from taskstats.jobs import JobTracker
from taskstats.presence import LAST, LOST_BEFORE, PAIRED, SETTLED
from taskstats.rows import HEADER, PROBED, STATS_AT

US, MS, S = 1000, 1_000_000, 1_000_000_000

#: CLOCK_REALTIME at the boot, and what CLOCK_BOOTTIME shows when a machine is made.
BOOTED, BEGUN = 1_700_000_000 * S, 100 * S

_BIRTH = struct.Struct("=QQQII")


@dataclass(eq=False, repr=False)
class Proc:
    """A process.

    Attributes:
        maker: Who called fork; None of init.
        parent: Whose child it is now.
        tids: The ids of its living threads.
        several: It has had a second thread.
        cpu_count: Of its threads that have ended.
    """

    pid: int
    start_ns: int
    maker: "Proc | None"
    parent: "Proc | None"
    subreaper: bool = False
    nested: bool = False
    cgroup: int = 1
    children: "list[Proc]" = field(default_factory=list)
    tids: dict[int, int] = field(default_factory=dict)
    several: bool = False
    cpu_count: int = 0
    ended: bool = False


@cache
def _template(paired: bool) -> tuple[bytes, bytes]:
    """A task's row, and a group's."""
    values = {**wire.SAMPLE, "ac_pid": 1, "ac_tgid": 1, "ac_flag": 0x20, "hiwater_vm": 9}
    values |= dict.fromkeys((name for name in FIELDS if name.startswith(DELAYS)), 0)
    stats = wire.pack(16, wire.SIZES[16], values, fill=0)
    parts = [wire.aggregate("task", 1, stats)]
    if paired:
        parts.append(wire.aggregate("group", 1, stats))
    made = decode(wire.message(*parts))
    return bytes(made.data), bytes(made.groups.data)


def row(template: bytes, values: Mapping[str, Any]) -> bytearray:
    """A row with some values, by the names of fields, of the header, and of the probe."""
    made = bytearray(template)
    for name, value in values.items():
        if name in FIELDS:
            offset, format_ = STATS_AT + FIELDS[name].offset, FIELDS[name].format
        else:
            offset, format_ = (HEADER | PROBED)[name]
        struct.pack_into(f"={format_}", made, offset, value)
    return made


class Machine:
    """Processes, the clocks, and what a listener has to read.

    Attributes:
        now: CLOCK_BOOTTIME, which is CLOCK_MONOTONIC as well.
        paths: From the ids of cgroups to their paths.
        births_lost: How many births the ring has lost.
        lost: Records lost before the next one.
    """

    def __init__(self) -> None:
        self.now = BEGUN
        self.living: dict[int, Proc] = {}
        self.paths: dict[int, str] = {1: "/"}
        self.births_lost = 0
        self.lost = 0
        self._births: list[bytes] = []
        self._rows: list[tuple[bytearray, bytes | None]] = []
        self._next_pid = 1000
        self.looks: list[list[int]] = []
        self.init = self._made(1, None, None)
        self.init.start_ns = 1
        self.daemon = self.fork(self.init)
        self.other = self.fork(self.init)  # no ancestor of what the daemon makes
        self.now += S
        self._births.clear()

    # -- what happens

    def _made(self, pid: int, maker: Proc | None, parent: Proc | None, **values: Any) -> Proc:
        one = Proc(pid, self.now, maker, parent, **values)
        one.tids[pid] = self.now
        self.living[pid] = one
        if parent:
            parent.children.append(one)
        return one

    def fork(
        self,
        maker: Proc,
        pid: int = 0,
        *,
        parent: Proc | None = None,
        lost: bool = False,
        **of: Any,
    ) -> Proc:
        """A process makes another one; with `parent`, by CLONE_PARENT. Its birth may be lost."""
        self.now += 10 * US
        if not pid:
            pid = self._next_pid = self._next_pid + 1
        assert pid not in self.living
        one = self._made(pid, maker, parent or maker, **{"cgroup": maker.cgroup, **of})
        if lost:
            self.births_lost += 1
        else:
            birth = one.start_ns, maker.start_ns, one.cgroup, one.pid, maker.pid
            self._births.append(_BIRTH.pack(*birth))
        return one

    def thread(self, of: Proc) -> int:
        """A process starts a thread; its id."""
        self.now += 10 * US
        self._next_pid += 1
        of.tids[self._next_pid] = self.now
        of.several = True
        return self._next_pid

    def end(self, of: Proc, tid: int = 0, comm: str = "task", **values: Any) -> None:
        """A thread ends, the leader where none is named: its record is queued.

        `settled=False`: the probe has not seen its end. `heard=False`: its record is lost.
        """
        self.now += 10 * US
        tid = tid or of.pid
        start = of.start_ns if tid == of.pid else of.tids[tid]
        settled, heard = values.pop("settled", True), values.pop("heard", True)
        of.tids.pop(tid, None)
        last = not of.tids
        real, lived = BOOTED + self.now, (self.now - start) // US
        its = {
            "ac_pid": tid,
            "ac_tgid": of.pid,
            "ac_ppid": of.parent.pid if of.parent else 0,
            "ac_comm": comm.encode(),
            "ac_exitcode": 0,
            "ac_flag": 0x20,
            "ac_etime": lived,
            "ac_tgetime": (self.now - of.start_ns) // US,
            "ac_btime64": real // S - lived // 1_000_000,
            "cpu_count": 1,
            "cpu_run_virtual_total": 1000,
            "hiwater_rss": 10,
            "id": tid,
            "flags": 0x10 | LAST * last | PAIRED * (last and of.several) | SETTLED * settled,
            **values,
        }
        if settled:
            its = {"final_cpu_ns": 1000, "start_ns": start, "cgroup_id": of.cgroup, **its}
        of.cpu_count += its["cpu_count"]
        paired = last and of.several
        template, group = _template(paired)
        if not heard:
            self.lost += 1
        else:
            if self.lost:
                its |= {"lost_before": self.lost, "flags": its["flags"] | LOST_BEFORE}
                self.lost = 0
            sums = {**its, "cpu_count": of.cpu_count, "cpu_run_virtual_total": 0}
            self._rows.append((row(template, its), bytes(row(group, sums)) if paired else None))
        if last:
            self._bury(of)

    def _bury(self, one: Proc) -> None:
        one.ended = True
        del self.living[one.pid]
        heir = one.parent
        while heir and heir.parent and (heir.ended or not heir.subreaper):
            heir = heir.parent
        for child in one.children:
            child.parent = heir
            if heir and not child.ended:
                heir.children.append(child)

    # -- what is read

    def read(self, *, emptied: bool = True, order: Sequence[int] | None = None) -> Batch:
        """All births and records since the last time; the records perhaps in another order."""
        rows = [self._rows[at] for at in order] if order else self._rows
        groups = [group for _, group in rows if group]
        tasks = []
        for task, group in rows:
            at = groups.index(group) if group else 0xFFFFFFFF
            stamped = {"row": at, "received_ns": BOOTED + self.now}
            tasks.append(bytes(row(bytes(task), stamped)))
        births = b"".join(self._births)
        self._rows, self._births = [], []
        return Batch(
            b"".join(tasks),
            Batch(b"".join(groups), kind="group"),
            births=births,
            path_of=self.paths.get,
            births_lost=self.births_lost,
            emptied_ns=self.now if emptied else None,
        )

    def births(self) -> Births:
        """The births that are not read yet."""
        return Births(b"".join(self._births))

    # -- what can be asked

    def clock(self) -> Moment:
        return Moment(self.now, BOOTED + self.now, self.now)

    def look(self, pids: Iterable[int] | None) -> list[Alive]:
        wanted = sorted(self.living) if pids is None else list(pids)
        self.looks.append(wanted)
        return [self._alive(self.living[pid]) for pid in wanted if pid in self.living]

    def _alive(self, one: Proc) -> Alive:
        start = one.start_ns - one.start_ns % TICK_NS
        return Alive(one.pid, one.parent.pid if one.parent else 0, start, one.nested)

    def query(self, ids: Sequence[int]) -> Batch:
        """Of living tasks, as Client.pids."""
        owners = {tid: one for one in self.living.values() for tid in one.tids}
        rows = []
        for tid in ids:
            if tid in owners:
                one = owners[tid]
                its = {"ac_pid": tid, "ac_tgid": one.pid, "ac_comm": b"alive", "flags": 0}
                its |= {"ac_ppid": one.parent.pid if one.parent else 0, "id": tid}
                age = (self.now - one.start_ns) // US
                its |= {"cpu_run_virtual_total": 500, "ac_tgetime": age, "hiwater_rss": 3}
                rows.append(bytes(row(_template(False)[0], its)))
        return Batch(b"".join(rows), errors={tid: errno.ESRCH for tid in ids if tid not in owners})

    def tracker(self, **options: Any) -> JobTracker:
        """A tracker of the stream with births, that asks this machine."""
        options = {"births": True, "may_nest": lambda: False, **options}
        return JobTracker(self.query, self.look, clock=self.clock, **options)


def counts(tracker: JobTracker) -> dict[str, int]:
    """What became of the records, but for what is 0."""
    names = ("attributed", "outside", "undecided", "evicted", "waiting")
    return {name: getattr(tracker, name) for name in names if getattr(tracker, name)}
