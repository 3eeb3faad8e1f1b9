"""A slow model of taskstats.jobs.JobTracker with births: dicts and lists, a function for each rule.

It says what the tracker has to say, given the same calls. It does not look at the tracker's code.

Where the specification leaves a choice, the model decides as follows.

1.  Processes without a job are known too, from their births: an unsettled record can be theirs.
2.  A process is known until the end. A record of a thread can come after that of the last thread.
3.  A birth whose maker is unknown gives a process without a job. But if a marked job's root started
    before the maker, the maker's own birth may be lost: then the new process counts as not known,
    and so do those that it makes.
4.  A job is marked together with the jobs around it, before the births of the batch are taken: the
    loss can have come before each of them. A closed job is not marked.
5.  Undecided and evicted records count for a job and for all jobs around it, once for each.
6.  An unsettled record can be of each process with its pid that has not ended: one of a thread can
    be of a process whose last thread's record is there, too.
7.  Unsettled, one owner, several processes fit: a process of one thread is added to the owner
    without a start time, and all of these stay alive. A thread's record is undecided.
8.  Unsettled, and it cannot be decided: undecided for the jobs of the processes that fit; if none
    does, of all processes that it can be of: the clock may have been set. If births were lost, it
    is undecided for the marked jobs too, as for a process that is not known.
9.  A record of a thread whose process is complete already (after a flush) is added to the job that
    has the process: one thread more, and the CPU time that the process has more now.
10. emptied_ns completes the processes whose last record came before the end of the previous drain
    that had one: the others' threads may have ended on a CPU that this drain had passed already.
11. An empty batch is no flush: it brings births, and perhaps emptied_ns.
12. A job by cgroup does not depend on the others: a record can be in both, and is attributed once.
    The cgroup is that of the last thread's record. An unsettled record is undecided for each job by
    cgroup, and attributed, if it is attributed otherwise.
13. attach takes the root, and its living descendants by parent. An open job whose root is such a
    descendant is within the new one from then, if it was within the same job as the new one. A
    process that is of an open job that is not around the root's keeps its job. If its birth is
    read later, and its maker is of such a job, it is of that job. So is a job whose root's birth is
    read later: before that the job has nothing, so it makes no difference if it was closed.
    Threads that ended before their process was of a job stay outside.
14. Losses that are told count for every open job.
15. The start of a process that runs since before the listener is exact once its leader's record is
    there; else it is not told.
16. An unsettled record that can be from before the listening: it is not, if a process that was
    there before and is known fits. Of two old processes with one pid, the first ended before.
17. A thread is of the process that started last before it, if its record tells the same age of the
    process, to 2 us. Else a thread of a process whose birth was lost is taken for one of another
    process. A leader's record has the exact start of its process.
18. The start of an unsettled record's process is known to a second, and 20 ms on both sides.
19. A root has started before a process, if that is so by the root's birth; where it was not read,
    by the 10 ms of /proc.
20. The root of an open job is attached to: ValueError.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from support.histories.born import JIFFY_NS
from taskstats import Batch, Record

SECOND_NS = 1_000_000_000

#: How much the start of an unsettled record's process may differ from what the record says, beyond
#: the second to which its end is known.
SLACK_NS = 20_000_000
#: So late may the tick be that moves the kernel's second on.
MOST_LATE_NS = 1_000_000_000


class Key(NamedTuple):
    """A process that has ended."""

    pid: int
    start_ns: int | None
    elapsed_us: int
    received_ns: int


@dataclass
class Told:
    """What is told of a job."""

    processes: "Counter[Key]"
    threads: int
    cpu_ns: int
    undecided: int
    evicted: int
    lost: int
    births_lost: bool
    complete: bool

    def without_starts(self) -> "Told":
        """The same, where not all starts are known."""
        return replace(self, processes=without_start(self.processes))


def without_start(keys: "Counter[Key]") -> "Counter[Key]":
    """The same processes, where not all starts are known."""
    made: Counter[Key] = Counter()
    for key, n in keys.items():
        made[key._replace(start_ns=None)] += n
    return made


@dataclass(eq=False)
class ModelJob:
    """A job, and what was added to it alone."""

    id: Any
    root: "Known | None" = None
    start_low: int = 0
    cgroup: int | str | None = None
    attached: bool = False
    within: "ModelJob | None" = None
    is_open: bool = True
    births_lost: bool = False
    processes: "Counter[Key]" = field(default_factory=Counter)
    threads: int = 0
    cpu_ns: int = 0
    undecided: int = 0
    evicted: int = 0
    lost: int = 0

    def lineage(self) -> "Iterator[ModelJob]":
        """The job, and the jobs around it, the innermost first."""
        one: ModelJob | None = self
        while one:
            yield one
            one = one.within


@dataclass(eq=False)
class Known:
    """A process that is known. Its start is in a range, which is one moment once it is exact."""

    pid: int
    low: int
    high: int
    owner: ModelJob | None = None
    is_uncertain: bool = False
    root_of: list[ModelJob] = field(default_factory=list)
    claimed_by: ModelJob | None = None
    threads: list[Record] = field(default_factory=list)
    last: Record | None = None
    drain: int = 0  # how many there had been at the last record
    has_ended: bool = False
    is_complete: bool = False
    unsettled_end: bool = False

    @property
    def is_done(self) -> bool:
        """Whether no record of it can come: its only thread's, with its identity, was there."""
        return self.is_complete and len(self.threads) == 1 and not self.unsettled_end

    def pin(self, start: int) -> None:
        self.low = self.high = start


class JobModel:
    """The model.

    Args:
        look: What /proc tells of living processes.
        started: The first and last moment at which a living process can have started, by its age:
            ns of CLOCK_BOOTTIME; None if it cannot be asked for.
        listening_ns: When the listener opened, ns of CLOCK_BOOTTIME.
        epoch_ns: The time of day at CLOCK_BOOTTIME 0.
    """

    def __init__(
        self,
        look: Callable[[Iterable[int] | None], list[Any]],
        started: Callable[[int], tuple[int, int] | None],
        listening_ns: int,
        epoch_ns: int,
    ) -> None:
        self._look = look
        self._listening_ns = listening_ns
        self._epoch_ns = epoch_ns
        self._known: dict[int, list[Known]] = {}
        self._started = started
        self._jobs: dict[Any, ModelJob] = {}
        self._ever: list[ModelJob] = []
        self._births_lost = 0
        self._drains = 0  # that have left the queues empty
        self._lost = 0
        self._path_of: Callable[[int], str | None] = lambda _: None
        self.attributed = 0
        self.outside = 0
        self.undecided = 0
        self.evicted = 0

    @property
    def waiting(self) -> int:
        """Records of threads of processes that are not complete."""
        every = [one for those in self._known.values() for one in those]
        return sum(len(one.threads) for one in every if not one.is_complete)

    # -- jobs

    def start(self, root: int, id: Any, *, subreaper: int | None = None) -> None:  # noqa: A002, ARG002
        self._begin(root, id, attached=False)

    def attach(self, root: int, id: Any, *, subreaper: int | None = None) -> None:  # noqa: A002, ARG002
        job = self._begin(root, id, attached=True)
        around = [None, *job.lineage()]
        jobs_of = {one.root: one for one in self._jobs.values() if one.root}
        everyone = self._look(None)
        left = [one for one in everyone if one.ppid == root]
        while left:
            alive = left.pop()
            left += [child for child in everyone if child.ppid == alive.pid]
            one = self._living(alive.pid, alive.start_ns)
            if one in jobs_of:
                inner = jobs_of[one]
                if self._open(inner.within) is self._open(job.within):
                    inner.within = job
            elif self._open(one.owner) in around:
                one.owner = one.claimed_by = job
                one.is_uncertain = False

    def _begin(self, root: int, id: Any, *, attached: bool) -> ModelJob:  # noqa: A002
        if id in self._jobs:
            raise ValueError(id)
        (alive,) = self._look([root])
        process = self._living(root, alive.start_ns)
        if (range_ := self._started(root)) is not None:
            process.low, process.high = max(process.low, range_[0]), min(process.high, range_[1])
        if any(one.is_open for one in process.root_of):
            raise ValueError(root)
        within = self._open(process.owner)
        job = ModelJob(id, process, process.low, attached=attached, within=within)
        process.owner = job
        process.is_uncertain = False
        process.root_of.append(job)
        self._jobs[id] = job
        self._ever.append(job)
        return job

    def start_cgroup(self, cgroup: int | str, id: Any) -> None:  # noqa: A002
        if id in self._jobs:
            raise ValueError(id)
        self._jobs[id] = ModelJob(id, cgroup=cgroup)
        self._ever.append(self._jobs[id])

    def usage(self, id: Any) -> Told:  # noqa: A002
        job = self._jobs[id]
        whole = [one for one in self._ever if job in one.lineage()]
        return Told(
            processes=sum((one.processes for one in whole), Counter()),
            threads=sum(one.threads for one in whole),
            cpu_ns=sum(one.cpu_ns for one in whole),
            undecided=job.undecided,
            evicted=job.evicted,
            lost=job.lost,
            births_lost=job.births_lost,
            complete=not (
                job.attached or job.lost or job.undecided or job.evicted or job.births_lost
            ),
        )

    def close(self, id: Any) -> Told:  # noqa: A002
        told = self.usage(id)
        job = self._jobs.pop(id)
        job.is_open = False
        return told

    def _open(self, job: ModelJob | None) -> ModelJob | None:
        """The job, or the nearest one around it, that is not closed."""
        return next((one for one in job.lineage() if one.is_open), None) if job else None

    # -- processes

    def _find(self, pid: int, start: int) -> Known | None:
        """The process with this pid and exact start."""
        for one in self._known.get(pid, []):
            if one.low <= start <= one.high:
                one.pin(start)
                return one
        return None

    def _add(self, pid: int, low: int, high: int) -> Known:
        made = Known(pid, low, high)
        self._known.setdefault(pid, []).append(made)
        return made

    def _living(self, pid: int, rounded: int) -> Known:
        """The process with this pid and a start that /proc has rounded down."""
        for one in self._known.get(pid, []):
            if rounded <= one.low and one.high < rounded + JIFFY_NS:
                return one
        return self._add(pid, rounded, rounded + JIFFY_NS - 1)

    # -- the stream

    def feed(self, batch: Batch) -> None:
        self._path_of = batch.path_of
        if batch.births.lost > self._births_lost:
            self._births_lost = batch.births.lost
            self._mark()
        for birth in batch.births:
            self._birth(birth)
        lost = 0
        for record in batch:
            self._record(record)
            lost += record.lost_before
        self._lose(lost)
        if batch.emptied_ns is not None:
            self._complete_all(before=self._drains)
            self._drains += 1

    def flush(self) -> None:
        self._complete_all()

    def note_lost(self, total: int) -> None:
        self._lose(max(0, total - self._lost))

    def _lose(self, count: int) -> None:
        self._lost += count
        for job in self._jobs.values():
            job.lost += count

    def _complete_all(self, before: int | None = None) -> None:
        for one in [one for those in self._known.values() for one in those]:
            waits = one.last and not one.is_complete
            if waits and (before is None or one.drain < before):
                self._complete(one)

    # -- births

    def _birth(self, birth: Any) -> None:
        maker = self._find(birth.maker_pid, birth.maker_start_ns)
        by_maker = self._open(maker.owner) if maker else None
        process = self._find(birth.pid, birth.start_ns) or self._add(
            birth.pid, birth.start_ns, birth.start_ns
        )
        for job in process.root_of:
            job.start_low = birth.start_ns
        lineage = list(process.owner.lineage()) if process.owner else []
        rooted = next((job for job in lineage if job in process.root_of), None)
        is_elsewhere = by_maker not in [None, *lineage]
        if rooted:
            rooted.within = by_maker if is_elsewhere else rooted.within
        elif process.claimed_by is None or is_elsewhere:
            process.owner = by_maker
            process.is_uncertain = (
                maker.is_uncertain if maker else bool(self._lacking(birth.maker_start_ns))
            )

    def _lacking(self, start: int) -> "set[ModelJob]":
        """The marked jobs that an unknown process with this start may be of."""
        marked = [one for one in self._jobs.values() if one.births_lost]
        return {one for one in marked if one.start_low <= start}

    def _mark(self) -> None:
        """Births were lost: of every job that has members that live, or may live."""
        for one in [one for those in self._known.values() for one in those]:
            if not one.has_ended or one.unsettled_end:
                self._mark_around(one.owner)

    def _mark_around(self, job: ModelJob | None) -> None:
        for one in job.lineage() if job else ():
            one.births_lost |= one.is_open

    # -- records

    def _record(self, record: Record) -> None:
        alone = record.is_last and record.group is None
        if not record.is_settled:
            self._unsettled(record, alone)
            return
        if record.ac_pid == record.ac_tgid:
            process = self._find(record.ac_tgid, record.start_ns)
        else:
            process = self._of_thread(record)
        if process is None or (process.owner is None and process.is_uncertain):
            self._stranger(record, record.start_ns)
        else:
            self._take(process, record, alone)

    def _of_thread(self, record: Record) -> Known | None:
        """The process with this pid that started last, not after the thread.

        The record has the age of the process too, so the start of the process is known to 1 us.
        """
        those = [one for one in self._known.get(record.ac_tgid, []) if one.low <= record.start_ns]
        found = max(those, key=lambda one: one.low, default=None)
        start = record.start_ns + (record.ac_etime - record.ac_tgetime) * 1000
        if found and found.low - 2000 <= start <= found.high + 2000:
            return found
        return None

    def _learn_start(self, process: Known, record: Record) -> None:
        """A leader starts with its process; and a thread that calls exec takes its start."""
        if record.is_settled and record.ac_pid == record.ac_tgid:
            process.pin(record.start_ns)

    def _take(self, process: Known, record: Record, alone: bool) -> None:
        """A record whose process is known."""
        if process.is_complete:
            self._take_late(process, record)
            return
        self._learn_start(process, record)
        if record.is_last:
            process.has_ended = True
            process.unsettled_end = not record.is_settled
            process.last = record
            process.drain = self._drains
        of_none = self._open(process.owner) is None and not self._cgroup_jobs()
        if of_none and not process.threads and not record.is_last:
            self.outside += 1
            return
        process.threads.append(record)
        if process.last and (alone or _adds_up(process)):
            self._complete(process)

    def _complete(self, process: Known) -> None:
        """A process has ended, and all records of its threads that will come have come."""
        process.is_complete = True
        assert process.last
        start = process.low if process.low == process.high else None
        self._add_process(process.owner, process.threads, process.last, start)

    def _add_process(
        self, owner: ModelJob | None, threads: list[Record], last: Record, start: int | None
    ) -> None:
        elapsed, received = last.ac_tgetime, last.received_ns
        assert received is not None
        key = Key(last.ac_tgid, start, elapsed, received)
        takers = [one for one in [self._open(owner), *self._by_cgroup(last)] if one]
        for job in takers:
            job.processes[key] += 1
            job.threads += len(threads)
            job.cpu_ns += _cpu_ns(threads, last)
        self._count(takers, self._unseen_cgroup(last), len(threads))

    def _cgroup_jobs(self) -> list[ModelJob]:
        return [one for one in self._jobs.values() if one.cgroup is not None]

    def _by_cgroup(self, last: Record) -> list[ModelJob]:
        """The jobs by cgroup that a process which ended in its cgroup is of."""
        if not last.is_settled:
            return []
        path = self._path_of(last.cgroup_id)
        found = []
        for job in self._cgroup_jobs():
            above = self._path_of(job.cgroup) if isinstance(job.cgroup, int) else job.cgroup
            assert above is not None
            assert path is not None
            if path == above or path.startswith(above.rstrip("/") + "/"):
                found.append(job)
        return found

    def _unsettled(self, record: Record, alone: bool) -> None:
        low, high = self._start_range(record)
        possible = [
            one
            for one in self._known.get(record.ac_tgid, [])
            if not (one.has_ended if record.is_last else one.is_done)
        ]
        fitting = [
            one
            for one in possible
            if one.low <= high and one.high >= low and self._may_have_ended(one, record)
        ]
        owners = {self._open(one.owner) for one in fitting or possible}
        older = low < self._listening_ns and all(one.low >= self._listening_ns for one in fitting)
        if not fitting or self._births_lost:
            self._stranger(record, high, {one for one in owners if one})
        elif len(owners) > 1 or older:
            self._doubt({one for one in owners if one}, record)
        elif len(fitting) == 1:
            self._take(fitting[0], record, alone)
        else:
            (owner,) = owners
            if alone or owner is None:
                self._add_process(owner, [record], record, None)
            else:
                self._doubt({owner}, record)

    def _may_have_ended(self, one: Known, record: Record) -> bool:
        """Whether it had ended, at this age, when the next process with its pid started."""
        later = [
            other
            for other in self._known[one.pid]
            if (other.low, other.high) > (one.low, one.high) and not other.is_done
        ]
        following = min(later, key=lambda other: other.low, default=None)
        return following is None or one.low + record.ac_tgetime * 1000 <= following.high

    def _start_range(self, record: Record) -> tuple[int, int]:
        """When the process of an unsettled record can have started, ns of CLOCK_BOOTTIME."""
        second = record.ac_btime64 + record.ac_etime // 1_000_000
        start = second * SECOND_NS - self._epoch_ns - record.ac_tgetime * 1000
        return start - SLACK_NS - 1000, start + SECOND_NS + MOST_LATE_NS + SLACK_NS

    def _stranger(self, record: Record, start: int, fitting: "set[ModelJob] | None" = None) -> None:
        """A process that is not known: of no job, but after a loss of births perhaps of one."""
        jobs = set(fitting or ())
        jobs |= self._lacking(start)
        self._doubt(jobs, record)

    def _doubt(self, jobs: "set[ModelJob]", record: Record) -> None:
        """A record that may be of these jobs; or of none, if there are none."""
        takers = self._by_cgroup(record)
        for job in takers:
            if record.is_last:
                start = record.start_ns if record.group is None else None
                assert record.received_ns is not None
                key = Key(record.ac_tgid, start, record.ac_tgetime, record.received_ns)
                job.processes[key] += 1
            job.threads += 1
            job.cpu_ns += record.final_cpu_ns
        self._count(takers, [*jobs, *self._unseen_cgroup(record)], 1)

    def _unseen_cgroup(self, record: Record) -> list[ModelJob]:
        """The jobs that a record may be of because its cgroup is not known."""
        return [] if record.is_settled else self._cgroup_jobs()

    def _count(self, takers: list[ModelJob], doubtful: list[ModelJob], records: int) -> None:
        """Counts records that these jobs have taken, and that those may have to take."""
        around = {outer for one in doubtful for outer in one.lineage() if outer.is_open}
        for job in around:
            job.undecided += records
        if takers:
            self.attributed += records
        elif around:
            self.undecided += records
        else:
            self.outside += records

    def _take_late(self, process: Known, record: Record) -> None:
        """A thread's record that came after its process was completed."""
        assert process.last
        before = _cpu_ns(process.threads, process.last)
        process.threads.append(record)
        takers = [one for one in [self._open(process.owner), *self._by_cgroup(record)] if one]
        for job in takers:
            job.threads += 1
            job.cpu_ns += _cpu_ns(process.threads, process.last) - before
        self._count(takers, self._unseen_cgroup(record), 1)


def _adds_up(process: Known) -> bool:
    """Whether all threads' records of an ended process are there."""
    assert process.last
    group = process.last.group
    assert group is not None
    return bool(sum(one.cpu_count for one in process.threads) >= group.cpu_count)


def _cpu_ns(threads: list[Record], last: Record) -> int:
    """As taskstats.processes.Process.cpu_ns."""
    figures = [one.final_cpu_ns if one.is_settled else one.cpu_run_virtual_total for one in threads]
    whole = last.group.cpu_run_virtual_total if last.group else 0
    return max(sum(figures), whole)
