"""Histories with a probe: births, exact start times, final CPU time and cgroups.

The steps here come on top of those of `history`. A number in a step chooses in the same way.
"""

import itertools
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from hypothesis import strategies as st

from support.histories import history as base
from support.histories.history import (
    BATCH_ROWS,
    Drained,
    Ended,
    History,
    Job,
    Process,
    Step,
    Thread,
    head,
)
from taskstats import Batch
from taskstats.alive import Alive
from taskstats.presence import SETTLED
from taskstats.rows import PROBED, ROW

JIFFY_NS = 10_000_000  # what /proc/PID/stat rounds a start down to
TEARDOWN_NS = 777  # of CPU time, which only the final figure has

#: id -> path.
CGROUPS = {1: "/", 11: "/a", 12: "/a/b", 13: "/c"}

_BIRTH = struct.Struct("=QQQII")  # as Births.MEMBERS


# ---- what happens ----------------------------------------------------------------------------


@dataclass(frozen=True)
class LoseBirth:
    """The next birth finds no room in the ring."""


@dataclass(frozen=True)
class Unsettle:
    """The probe does not see the next end."""


@dataclass(frozen=True)
class CloseJob:
    """The tracker is told to close a job."""

    which: int = 0


@dataclass(frozen=True)
class Attach:
    """A job is attached to a living process.

    Its members are this process and its living descendants by parent, without those of jobs
    that were started below it; these jobs are within it.
    """

    of: int = 0


@dataclass(frozen=True)
class StartCgroup:
    """A job of all processes that end in a cgroup or below it."""

    which: int = 0
    by_path: bool = False


@dataclass(frozen=True)
class MoveToCgroup:
    """A process moves to another cgroup."""

    of: int = 0
    which: int = 0


@dataclass(frozen=True)
class ForkSibling:
    """A process makes another one with CLONE_PARENT: the two have one parent."""

    of: int = 0
    cpu: int = 0
    again: int | None = None


@dataclass(frozen=True)
class Unshare:
    """A process makes the init of a new PID namespace."""

    of: int = 0
    cpu: int = 0


@dataclass(frozen=True)
class Enter:
    """A process makes another one in the PID namespace of a third one, as nsenter(1) does."""

    of: int = 0
    where: int = 0
    cpu: int = 0


@dataclass(frozen=True)
class DrainCpu:
    """A drain of one CPU's queue alone, unless another drain has begun."""

    cpu: int = 0


@dataclass(frozen=True)
class ReadRing:
    """The births are read, and no queue."""


@dataclass(frozen=True)
class Flush:
    """The tracker is told to flush."""


BornStep: TypeAlias = (
    Step
    | LoseBirth
    | Unsettle
    | CloseJob
    | Attach
    | StartCgroup
    | MoveToCgroup
    | ForkSibling
    | Unshare
    | Enter
    | DrainCpu
    | ReadRing
    | Flush
)


# ---- what is true ----------------------------------------------------------------------------


@dataclass(eq=False)
class AttachedJob(Job):
    """A job that was attached to a running process.

    Attributes:
        members: The processes that it began with.
    """

    members: list[Process] = field(default_factory=list, repr=False)


@dataclass(frozen=True)
class CgroupJob:
    """A job by cgroup."""

    number: int
    cgroup: int
    by_path: bool


@dataclass(frozen=True)
class Probed:
    """What the probe adds to a record."""

    final_cpu_ns: int
    start_ns: int
    cgroup_id: int


def start_ns(thread: Thread) -> int:
    """When a thread started: all differ."""
    return thread.started_us * 1000 + thread.pid % 1000


def is_within(cgroup: int, outer: int) -> bool:
    """Whether a cgroup is this one or below it."""
    above = CGROUPS[outer].rstrip("/")
    return CGROUPS[cgroup] == CGROUPS[outer] or CGROUPS[cgroup].startswith(above + "/")


# ---- the history -----------------------------------------------------------------------------


class BornHistory(History):
    """A history that a listener with a probe follows.

    A pid is not given again within the same 10 ms in which its former owner started: pids wrap
    more slowly than that.

    Args:
        steps: What happens.
        n_cpus: How many CPUs there are.
        batch_rows: The most records of a batch.
        before: So many steps happen before the listener opens: no birth and no record of them.
        pids: How many pids there are before they wrap; 0: they never do.
        probe: Whether there are births and settled records.

    Attributes:
        listening_ns: When the listener opened, ns of CLOCK_BOOTTIME.
        closes: Is called with a job that is to be closed.
        attached, cgroup_started: Are called with each such job as it begins.
        flushes: Is called where the tracker is to flush.
        births_lost: How many births found no room.
        unread: How many births are in the ring.
        args: Its own arguments.
    """

    def __init__(
        self,
        steps: Sequence[BornStep],
        n_cpus: int = 2,
        batch_rows: int = BATCH_ROWS,
        *,
        before: int = 0,
        pids: int = 0,
        probe: bool = True,
    ) -> None:
        self._pid_space = pids
        self._last_pid = 0
        self._listening = False
        self._has_probe = probe
        self._started_as: dict[int, int] = {}  # a pid's last owner
        self._namespaces: dict[Process, Process | None] = {}  # the namespace's init
        self._cgroups: dict[Process, int] = {}
        self._ring: list[bytes] = []
        self._losing_births = 0
        self._unsettling = 0
        self._probed: dict[Ended, Probed] = {}
        self._closed: set[int] = set()
        self.births_lost = 0
        self.closes: Callable[[Job | CgroupJob], object] = lambda _: None
        self.attached: Callable[[AttachedJob], object] = lambda _: None
        self.cgroup_started: Callable[[CgroupJob], object] = lambda _: None
        self.flushes: Callable[[], object] = lambda: None
        self.followed: list[Job | CgroupJob] = []
        self.listening_ns = 0
        super().__init__(steps, n_cpus, batch_rows)  # type: ignore[arg-type]
        self.args: Any = (
            steps,
            (n_cpus, batch_rows),
            {"before": before, "pids": pids, "probe": probe},
        )
        self._told = (
            f"BornHistory({steps!r}, {n_cpus}, {batch_rows}, before={before}, pids={pids}, "
            f"probe={probe})"
        )
        for step in itertools.islice(self._steps, min(before, len(steps))):
            if not isinstance(step, base.Drain | base.Read | DrainCpu):
                self._do(step)
        self._pass(2_000_000)
        self._listening = True
        self.listening_ns = self.now_ns

    def again(self) -> "BornHistory":
        """The same history, not yet played."""
        steps, places, names = self.args
        return BornHistory(steps, *places, **names)

    @property
    def now_ns(self) -> int:
        """CLOCK_BOOTTIME, and CLOCK_MONOTONIC too."""
        return self._now_us * 1000 + 999

    @property
    def unread(self) -> int:
        return len(self._ring)

    # -- what is true

    def probed(self, ended: Ended) -> Probed | None:
        """What the probe has seen of this end."""
        return self._probed.get(ended)

    def look(self, pids: Iterable[int] | None = None) -> list[Alive]:
        """What /proc tells of living processes and zombies."""
        leaders = {thread.process.tgid: thread.process for thread in self._by_pid.values()}
        found = leaders if pids is None else {pid: leaders[pid] for pid in pids if pid in leaders}
        return [
            Alive(
                pid,
                one.parent.tgid if one.parent else 0,
                start_ns(one.leader) // JIFFY_NS * JIFFY_NS,
                self._namespaces.get(one) is not None,
            )
            for pid, one in found.items()
        ]

    # -- steps

    def _do(self, step: Any) -> Drained | None:
        match step:
            case LoseBirth():
                self._losing_births += self._listening
            case Unsettle():
                self._unsettling += self._listening
            case CloseJob() if open_jobs := self._open_jobs():
                job = base._chosen(open_jobs, step.which)
                self._closed.add(job.number)
                self.closes(job)
            case Attach() if self._alive and self._listening:
                self._attach(base._chosen(self._alive, step.of))
            case StartCgroup() if self._listening:
                job = CgroupJob(self._job_number(), self._cgroup(step.which), step.by_path)
                open_jobs = [one for one in self._open_jobs() if isinstance(one, CgroupJob)]
                if job.cgroup not in [one.cgroup for one in open_jobs]:
                    self.followed.append(job)
                    self.cgroup_started(job)
            case MoveToCgroup() if self._alive:
                self._cgroups[base._chosen(self._alive, step.of)] = self._cgroup(step.which)
            case ForkSibling() if self._alive:
                maker = base._chosen(self._alive, step.of)
                made = self._new_process(maker, step.cpu, step.again)
                maker.children.remove(made)
                assert maker.parent is not None
                made.parent = maker.parent
                made.parent.children.append(made)
            case Unshare():
                made = self._new_process(self._maker(step.of), step.cpu, None)
                self._namespaces[made] = made
            case Enter():
                made = self._new_process(self._maker(step.of), step.cpu, None)
                self._namespaces[made] = self._namespaces.get(self._maker(step.where))
            case DrainCpu():
                return self._drain_cpu(step.cpu % len(self._queues))
            case ReadRing() if self._ring:
                return self._read_ring()
            case Flush() if self._listening:
                self.flushes()
            case _:
                return super()._do(step)
        return None

    def _job_number(self) -> int:
        return len(self.jobs) + sum(isinstance(one, CgroupJob) for one in self.followed)

    def _cgroup(self, n: int) -> int:
        return base._chosen([*CGROUPS], n)

    def _open_jobs(self) -> list[Job | CgroupJob]:
        return [job for job in self.followed if job.number not in self._closed]

    def _start_job(self, step: base.StartJob) -> None:
        maker = self._maker(step.of)
        root = self._new_process(maker, step.cpu, step.again)
        root.job = Job(self._job_number(), root, maker.job)
        self._make_subreaper(maker if step.shared else root)
        self.jobs.append(root.job)
        if self._listening:
            self.followed.append(root.job)
            self.started(root.job)

    def _attach(self, root: Process) -> None:
        if any(isinstance(one, Job) and one.root is root for one in self._open_jobs()):
            return
        job = AttachedJob(self._job_number(), root, self._open_job(root))
        below = [one for one in self._open_jobs() if isinstance(one, Job)]
        jobs_of = {one.root: one for one in below}
        left = [root]
        while left:
            one = left.pop()
            if one in jobs_of:
                inner = jobs_of[one]
                if self._nearest_open(inner.within) is job.within:
                    inner.within = job
                continue
            left += one.children
            if one.threads and self._open_job(one) in [None, *job.enclosing]:
                job.members.append(one)
        for one in job.members:
            one.job = job
        self.jobs.append(job)
        self.followed.append(job)
        self.attached(job)

    def _open_job(self, process: Process) -> Job | None:
        return self._nearest_open(process.job)

    def _nearest_open(self, job: Job | None) -> Job | None:
        enclosing = job.enclosing if job else []
        return next((one for one in enclosing if one in self._open_jobs()), None)

    # -- beginnings

    def _pid(self, again: int | None) -> int:
        pid = self._next_pid(again)
        if pid in self._free:
            self._free.remove(pid)
        earlier = self._started_as.get(pid)
        if earlier is not None and earlier // JIFFY_NS == (self.now_ns + 1000) // JIFFY_NS:
            self._pass((JIFFY_NS - self.now_ns % JIFFY_NS) // 1000 + 1)
        return pid

    def _next_pid(self, again: int | None) -> int:
        if again is None and self._pid_space:
            for n in range(1, self._pid_space + 1):
                pid = base._FIRST_PID + (self._last_pid + n) % self._pid_space
                if pid not in self._by_pid:
                    self._last_pid = pid - base._FIRST_PID
                    return pid
            return base._FIRST_PID + self._pid_space + next(self._pids)
        while (pid := super()._pid(again)) in self._by_pid:
            pass
        return pid

    def _add(self, thread: Thread) -> Thread:
        self._started_as[thread.pid] = start_ns(thread)
        return super()._add(thread)

    def _new_process(self, maker: Process, cpu: int, again: int | None) -> Process:
        made = super()._new_process(maker, cpu, again)
        self._namespaces[made] = self._namespaces.get(maker)
        self._cgroups[made] = self._cgroups.get(maker, 1)
        if self._listening and self._has_probe:
            born = (start_ns(made.leader), start_ns(maker.leader), self._cgroups[made])
            if self._losing_births:
                self._losing_births -= 1
                self.births_lost += 1
            else:
                self._ring.append(_BIRTH.pack(*born, made.tgid, maker.tgid))
        return made

    # -- ends

    def _exit(self, process: Process, first: int, code: int, signal: int, zombie: bool) -> None:
        if process.threads:  # else it ended with its namespace
            super()._exit(process, first, code, signal, zombie)

    def _leave(self, thread: Thread, code: int, flags: int) -> None:
        process = thread.process
        if process.threads == [thread] and self._namespaces.get(process) is process:
            # kernel/pid_namespace.c:zap_pid_ns_processes
            for other in [one for one in self._alive if self._namespaces.get(one) is process]:
                if other is not process:
                    self._exit(other, 0, 0, 9, zombie=False)
        super()._leave(thread, code, flags)

    def _heir(self, process: Process) -> Process:
        """As kernel/exit.c:find_new_reaper."""
        namespace = self._namespaces.get(process)
        above = process.parent
        while above is not None and self._namespaces.get(above) is namespace:
            if above.subreaper and above.threads:
                return above
            above = above.parent
        return namespace if namespace and namespace.threads else self.init

    # -- records

    def _queue(self, thread: Thread, values: dict[str, Any], last: bool) -> None:
        if not self._listening:
            return
        super()._queue(thread, values, last)
        if self._unsettling:
            self._unsettling -= 1
        elif self._has_probe:
            cgroup = self._cgroups[thread.process]
            seen = Probed(thread.run_ns + TEARDOWN_NS, start_ns(thread), cgroup)
            self._probed[self.ended[-1]] = seen

    # -- reading

    def _drain_cpu(self, cpu: int) -> Drained | None:
        if self._turn:
            return None
        self._received_ns = (base._BOOTED_US + self._now_us) * 1000
        self._read_queue(cpu)
        return self._with_births(super()._drained(), None)

    def _read_one(self) -> Drained | None:
        if self._turn == 0:
            self._emptied_ns = self.now_ns
        return super()._read_one()

    def _drained(self) -> Drained:
        return self._with_births(super()._drained(), self._emptied_ns)

    def _read_ring(self) -> Drained | None:
        if self._turn:
            return None
        drained = Drained((base._BOOTED_US + self._now_us) * 1000, [], [])
        return self._with_births(drained, None)

    def _with_births(self, drained: Drained, emptied_ns: int | None) -> Drained:
        """The drain's batches as the listener gives them: the first one has all births."""
        births, self._ring = b"".join(self._ring), []
        batches = drained.batches
        if not batches and (births or emptied_ns is not None):
            batches = [Batch(b"")]
        truth = iter(drained.truth)
        made = []
        for n, batch in enumerate(batches):
            data = bytearray(batch.data)
            for row in range(len(batch)):
                self._put_probed(data, row, next(truth), batch.columns["flags"][row])
            is_last = n == len(batches) - 1
            made.append(
                Batch(
                    bytes(data),
                    batch.groups,
                    births=b"" if n else births,
                    path_of=CGROUPS.get,
                    births_lost=self.births_lost,
                    emptied_ns=emptied_ns if is_last else None,
                )
            )
        return Drained(drained.received_ns, made, drained.truth)

    def _put_probed(self, data: bytearray, row: int, ended: Ended, flags: int) -> None:
        seen = self._probed.get(ended)
        if seen is None:
            return
        head(data, row, flags=flags | SETTLED)
        for name, (at, format_) in PROBED.items():
            struct.pack_into("=" + format_, data, row * ROW + at, getattr(seen, name))


# ---- strategies ------------------------------------------------------------------------------

_some = st.integers(-3, 3)
_again = st.none() | st.integers(0, 2)
_made: dict[str, Any] = {"of": _some, "cpu": st.integers(0, 2), "again": _again}


def _one(kind: st.SearchStrategy[Any]) -> st.SearchStrategy[list[BornStep]]:
    return kind.map(lambda step: [step])


def _row(*kinds: st.SearchStrategy[Any]) -> st.SearchStrategy[list[BornStep]]:
    """Steps that follow each other."""
    return st.tuples(*kinds).map(list)


_newest = st.just(-1)
_fork_of_newest = st.builds(base.Fork, _newest, st.integers(0, 2), _again)
_end_of_newest = st.builds(base.Exit, _newest)
_with_pid_of_last = {"of": _some, "cpu": st.integers(0, 2), "again": st.just(0)}

#: Rows of steps. What happens most often stands here twice.
_common: tuple[st.SearchStrategy[list[BornStep]], ...] = (
    _one(base.steps),
    _one(base.steps),
    _one(st.builds(base.StartJob, **_made, shared=st.booleans())),
    _one(st.builds(base.Fork, **_made, subreaper=st.booleans())),
    _one(st.builds(base.Exit, _some, _some, st.just(0))),
    _one(st.builds(ForkSibling, **_made)),
    _one(st.builds(Unshare, _some, st.integers(0, 2))),
    _one(st.builds(Enter, _some, _some, st.integers(0, 2))),
    _one(st.builds(DrainCpu, st.integers(0, 2))),
    _one(st.builds(CloseJob, _some)),
    _row(*[st.builds(base.Fork, _newest, st.integers(0, 2), _again)] * 3, *[_end_of_newest] * 2),
    _row(
        st.builds(base.StartJob, **_made),
        *[_fork_of_newest] * 3,
        *[st.builds(base.Exit, _some)] * 2,
        st.builds(CloseJob, _some),
    ),
    # A job, and a tree in it.
    *[_row(st.builds(base.StartJob, **_made), _fork_of_newest, _fork_of_newest)] * 2,
    # A pid is given again at once: to anybody, and to the root of a job.
    _row(_end_of_newest, st.builds(base.Fork, **_with_pid_of_last), _fork_of_newest),
    _row(_end_of_newest, st.builds(base.StartJob, **_with_pid_of_last), _fork_of_newest),
    # Threads on two CPUs.
    _row(
        st.builds(base.StartThread, _some, st.integers(0, 2)),
        st.builds(base.StartThread, _some, st.integers(0, 2)),
        st.builds(base.ExitThread, _some, _some),
    ),
    _row(
        st.builds(base.StartThread, _newest, st.integers(0, 2)),
        st.builds(base.Exit, _newest, _some),
        st.builds(base.Fork, **_with_pid_of_last),
    ),
    _row(*[st.builds(base.Exit, _some)] * 4),
)
_with_probe: tuple[st.SearchStrategy[list[BornStep]], ...] = (
    _one(st.builds(Attach, _some)),
    _one(st.sampled_from([ReadRing(), Flush()])),
)
_losses: tuple[st.SearchStrategy[list[BornStep]], ...] = (
    _row(st.just(LoseBirth()), _fork_of_newest, _fork_of_newest, _end_of_newest),
    _row(st.just(LoseBirth()), st.builds(base.Fork, **_made)),
    _row(st.just(Unsettle()), st.builds(base.Exit, _some)),
    _row(st.just(Unsettle()), _end_of_newest, st.builds(base.Fork, **_with_pid_of_last)),
    _row(st.just(Unsettle()), st.builds(base.ExitThread, _some, _some)),
)
_in_cgroups: tuple[st.SearchStrategy[list[BornStep]], ...] = (
    _one(st.builds(StartCgroup, _some, st.booleans())),
    _one(st.builds(MoveToCgroup, _some, _some)),
)


def _is_loss(step: BornStep) -> bool:
    return isinstance(step, base.Lose | LoseBirth | Unsettle)


def _with_losses(rows: list[list[BornStep]], most: int) -> list[BornStep]:
    """All steps of the rows, but only the first losses."""
    losses = itertools.count()
    steps = itertools.chain.from_iterable(rows)
    return [step for step in steps if not _is_loss(step) or next(losses) < most]


def _lists(
    kinds: Sequence[st.SearchStrategy[list[BornStep]]], losses: bool
) -> st.SearchStrategy[list[BornStep]]:
    one = st.one_of(*kinds)
    rows = st.lists(one, max_size=10) | st.lists(one, min_size=15, max_size=45)
    most = st.sampled_from([1, 1, 2, 5, 100]) if losses else st.just(0)
    return st.builds(_with_losses, rows, most)


def _unread(steps: list[BornStep]) -> list[BornStep]:
    """The steps without a drain: everything is read at the end."""
    reads = base.Read | base.Drain | DrainCpu | ReadRing
    return [step for step in steps if not isinstance(step, reads)]


def born_histories(
    *, losses: bool = True, probe: bool = True, cgroups: bool = False
) -> st.SearchStrategy[BornHistory]:
    """Histories with jobs, pids that are used again, closes; to be played once each.

    Args:
        losses: Whether records and births are lost and ends not seen, in most of them.
        probe: Whether there are births; without, no job is attached.
        cgroups: Whether all jobs but a few are by cgroup.
    """
    kinds = _common + (_with_probe if probe else ()) + (_losses if losses and probe else ())
    lists = _lists(kinds + (_in_cgroups * 2 if cgroups else ()), losses)
    return st.builds(
        BornHistory,
        lists | lists.map(_unread),
        st.sampled_from([1, 2, 2, 3]),
        st.sampled_from([BATCH_ROWS, 2]),
        before=st.sampled_from([0, 0, 3, 8]),
        pids=st.sampled_from([0, 4, 8]),
        probe=st.just(probe),
    )
