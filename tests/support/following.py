"""A history with births, played to trackers; and what of it they should know."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from support.histories import Ended, Job, Process
from support.histories.born import (
    CGROUPS,
    TEARDOWN_NS,
    AttachedJob,
    BornHistory,
    CgroupJob,
    ForkSibling,
    is_within,
    start_ns,
)
from support.histories.history import _BOOTED_US
from support.job_model import JobModel, Key, Told
from taskstats.alive import Moment
from taskstats.jobs import JobTracker, Usage

_AGE_SLACK = 10_000  # ns: of ages, as in jobs.py

AnyJob = Job | CgroupJob


class Counts(NamedTuple):
    """What a tracker has counted of all jobs."""

    attributed: int
    outside: int
    undecided: int
    evicted: int
    waiting: int

    @property
    def comparable(self) -> tuple[int, ...]:
        """Threads of a living process that is of no job may be waiting or outside."""
        return self.attributed, self.outside + self.waiting, self.undecided, self.evicted

    @classmethod
    def of(cls, tracker: Any) -> "Counts":
        return cls(*(getattr(tracker, name) for name in cls._fields))


class Following:
    """A history that was played to a tracker.

    Args:
        history: Not yet played.
        make: Makes the tracker.
        told: Puts a tracker's usage into the terms of the model.

    Attributes:
        tracker: The tracker, all of the history fed, flushed.
        heard: What is true of each record fed, and when it was read.
        closed: What the tracker told of each job that was closed, and how much had been heard.
        counts: What it had counted after each drain.
        followed: The jobs that it has begun.
        closed_early: Those that were closed while records of threads waited.
        heard_before: How many records had been fed when each job began.
    """

    def __init__(
        self,
        history: BornHistory,
        make: Callable[[BornHistory], Any],
        told: Callable[[Any], Told] = lambda usage: usage,
        *,
        named: bool = False,
    ) -> None:
        self.history = history
        self.tracker = make(history)
        self._told = told
        self._named = named
        self._heirs = _heirs(history.again()) if named else set()
        self.heard: list[tuple[Ended, int]] = []
        self.closed: dict[AnyJob, tuple[Told, int]] = {}
        self.counts: list[Counts] = []
        self.followed: list[AnyJob] = []
        self.closed_early: set[AnyJob] = set()
        self._heard_by_close: dict[tuple[AnyJob, bool, bool], list[tuple[list[Ended], Key]]] = {}
        self.heard_before: dict[AnyJob, int] = {}
        history.started = self._start
        history.attached = self._attach
        history.cgroup_started = self._start_cgroup
        history.closes = self._close
        history.flushes = self.tracker.flush
        for drained in history:
            for batch in drained.batches:
                self.tracker.feed(batch)
            self.heard += [(ended, drained.received_ns) for ended in drained.truth]
            self.counts.append(Counts.of(self.tracker))
            assert sum(self.counts[-1]) == len(self.heard), "each record is counted once"
        self.tracker.flush()
        self.tracker.note_lost(history.told_lost)
        self.counts.append(Counts.of(self.tracker))

    def _start(self, job: Job) -> None:
        parent = job.root.parent
        heir = parent.tgid if parent and parent.number in self._heirs else None
        self._begin(job, self.tracker.start, job.root.tgid, job.number, subreaper=heir)

    def _attach(self, job: AttachedJob) -> None:
        self._begin(job, self.tracker.attach, job.root.tgid, job.number)

    def _start_cgroup(self, job: CgroupJob) -> None:
        cgroup = CGROUPS[job.cgroup] if job.by_path else job.cgroup
        self._begin(job, self.tracker.start_cgroup, cgroup, job.number)

    def _begin(self, job: AnyJob, begin: Callable[..., object], *args: Any, **more: Any) -> None:
        if more.get("subreaper", 1) is None:
            del more["subreaper"]
        try:
            begin(*args, **more)
        except ValueError:
            if not self._named:
                raise
        else:
            self.followed.append(job)
            self.heard_before[job] = len(self.heard)

    def _close(self, job: AnyJob) -> None:
        if job in self.followed:
            if self.tracker.waiting:
                self.closed_early.add(job)
            for more in (False, True):
                for late in (False, True):  # a process may be attached to another job later
                    truth = self.heard_of(job, more=more, late=late)
                    self._heard_by_close[job, more, late] = truth
            self.closed[job] = self._told(self.tracker.close(job.number)), len(self.heard)

    # -- what it told

    def told(self) -> dict[AnyJob, Told]:
        """What it has told of each job: at its close, or at the end."""
        return {
            job: self.closed[job][0]
            if job in self.closed
            else self._told(self.tracker.usage(job.number))
            for job in self.followed
        }

    # -- what is true

    def heard_of(
        self, job: AnyJob, *, more: bool = False, late: bool = False
    ) -> list[tuple[list[Ended], Key]]:
        """The records of each process of a job whose last record was fed before it was closed.

        Args:
            job: A job that was followed.
            late: Only those whose last record was fed after the job had begun.
            more: With all that an attached job may have: what its first processes made before, too.
        """
        if job in self.closed:
            return self._heard_by_close[job, more, late]
        heard = self.heard
        by_process: dict[Process, list[Ended]] = {}
        for ended, _ in heard:
            by_process.setdefault(ended.process, []).append(ended)
        return [
            (by_process[ended.process], key_of(ended, received))
            for ended, received in heard[self.heard_before[job] if late else 0 :]
            if ended.last and self._is_of(ended, job, more)
        ]

    def _is_of(self, ended: Ended, job: AnyJob, more: bool) -> bool:
        if isinstance(job, CgroupJob):
            probed = self.history.probed(ended)
            return probed is not None and is_within(probed.cgroup_id, job.cgroup)
        of_it = ended.process.job is not None and job in ended.process.job.enclosing
        if more and not of_it:
            makers = set(_makers(ended.process))
            of_it = any(
                makers & {*inner.members}
                for inner in self.followed
                if isinstance(inner, AttachedJob) and job in inner.enclosing
            )
        return of_it

    def most_cpu_ns(self, process: Process) -> float:
        """The CPU time of all threads of a process that have ended, lost records too.

        There is no limit where threads may have ended before the listener opened.
        """
        if start_ns(process.leader) < self.history.listening_ns:
            return float("inf")
        ends = [ended for ended in self.history.ended if ended.process is process]
        return sum(ended.run_ns + TEARDOWN_NS for ended in ends)

    def ended_of(self, job: Job) -> int:
        """How many processes of a job have ended, heard of or not."""
        return sum(ended.last and self._is_of(ended, job, False) for ended in self.history.ended)


def _heirs(history: BornHistory) -> set[int]:
    """The numbers of the subreapers that have no other children than roots of jobs."""
    for _ in history:
        pass
    processes = {ended.process for ended in history.ended} | {*history.alive}
    roots = {job.root for job in history.jobs if not isinstance(job, AttachedJob)}
    others = {one.maker for one in processes - roots}
    if any(isinstance(step, ForkSibling) for step in history.args[0]):
        return set()
    return {one.number for one in processes - others if one.subreaper and one not in roots}


def _makers(process: Process) -> Iterable[Process]:
    one: Process | None = process
    while one:
        yield one
        one = one.maker


def key_of(ended: Ended, received_ns: int) -> Key:
    leader = ended.process.leader
    elapsed = ended.ended_us - leader.started_us
    return Key(leader.pid, start_ns(leader), max(1, elapsed), received_ns)


def model_of(history: BornHistory) -> JobModel:
    """Make the model of a JobTracker of this history."""

    def started(pid: int) -> tuple[int, int] | None:
        record = next(iter(history.look_up([pid])), None)
        if record is None or record.ac_tgid != pid:
            return None
        start = history.now_ns - record.ac_tgetime * 1000
        return start - _AGE_SLACK, start + _AGE_SLACK

    return JobModel(history.look, started, history.listening_ns, _BOOTED_US * 1000)


def tracker_of(history: BornHistory, *, births: bool = True, **options: Any) -> JobTracker:
    """Make a JobTracker with the history's clock and its living processes."""

    def clock() -> Moment:
        now = history.now_ns
        return Moment(now, now + _BOOTED_US * 1000, now)

    return JobTracker(
        history.look_up, history.look, births=births, remember=1 << 20, clock=clock, **options
    )


def tracker_without_births(history: BornHistory) -> JobTracker:
    return tracker_of(history, births=False)


def told_of(usage: Usage) -> Told:
    """A tracker's usage in the terms of the model."""
    return Told(
        processes=Counter(
            Key(one.pid, one.start_ns, one.elapsed_us, one.received_ns) for one in usage.processes
        ),
        threads=usage.total.threads,
        cpu_ns=usage.total.cpu_ns or 0,
        undecided=usage.undecided,
        evicted=usage.evicted,
        lost=usage.lost,
        births_lost=usage.births_lost,
        complete=usage.complete,
    )
