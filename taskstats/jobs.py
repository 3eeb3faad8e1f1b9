"""JobTracker: the records of exits, assigned to jobs. No I/O but what is injected."""

import threading
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from taskstats import alive
from taskstats.accounts import OTHERS, EndedProcess, LivingProcess, Usage
from taskstats.alive import Alive, Look, Moment
from taskstats.by_records import ByRecords
from taskstats.engine import (
    NEEDS_CLOCK,
    NO_JOB,
    UNDECIDED,
    UNLIKE,
    Command,
    Engine,
    Member,
    Start,
    added,
)
from taskstats.fields import FIELDS
from taskstats.parents import Parents
from taskstats.processes import check_exits
from taskstats.records import Batch, PathOf, Record
from taskstats.totals import totals_of

__all__ = ["OTHERS", "EndedProcess", "JobTracker", "LivingProcess", "Usage"]

T = TypeVar("T")

_TRIES = 5  # to learn a root's start
_AGE_SLACK = 10_000  # ns: ages are whole microseconds, and clocks are read one after the other
_MOST_WAITING = 65_536  # processes without a verdict, without births; 1 KB each

#: Asks for tasks by their ids, as `Client.pids` does.
Query: TypeAlias = Callable[[Sequence[int]], Batch]


@dataclass(frozen=True, slots=True)
class _Job:
    """A job that is followed.

    Attributes:
        number: The engine's.
        root: The pid of its root; None of a job by cgroup.
        cgroup: The path or the id of the cgroup.
    """

    id: Hashable
    number: int
    root: int | None
    attached: bool
    cgroup: str | int | None = None


class JobTracker:
    """Assigns the records of exits to jobs.

    A job is a process, its root, and everything that descends from it; or everything that ends in
    a cgroup. Any thread may call any method: calls wait for each other. A signal handler must not.

    With births, from a listener with a probe, a process belongs to what its maker belonged to. The
    probe reports a process before anything that it does, so a job is known whole: whoever inherits
    its orphans, however late and in which order its records are read, and whatever process had or
    gets the same pid. The stream must be of all CPUs, and unfiltered; every batch since the tracker
    was made must be fed.

    Args:
        query: Asks for tasks by their ids, for the figures of living processes: `Client.pids`.
        look: Looks up who lives: `alive.look`.
        births: Whether the stream has births.
        remember: The most ended processes of each job to remember, for its tree; 210 bytes each
            at most.
        capacity: The most processes to know at once: 64 bytes each, and 1.4 KB for each that has
            had several threads. With more, jobs that may lack a process are marked. Each job takes
            8 KB besides, and 3.6 KB for each of its commands, of which there are 1,024 at most. See
            `memory_bytes`.
        clock: Reads the clocks; another one for replayed streams.
        may_nest: Says whether there may have been a PID namespace below the initial one. Without
            births it matters: see csrc/parentage.c.

    Attributes:
        births: Whether the stream has births.
    """

    def __init__(
        self,
        query: Query | None = None,
        look: Look = alive.look,
        *,
        births: bool = False,
        remember: int = 0,
        capacity: int = 262_144,
        clock: Callable[[], Moment] = alive.clock,
        may_nest: Callable[[], bool] = alive.may_nest,
    ) -> None:
        if capacity < 1:
            raise ValueError(f"capacity is a number of processes from 1, not {capacity}")
        self.births = births
        self._query = query
        self._look = look
        self._remember = remember
        self._clock = clock
        self._lock = threading.RLock()
        self._engine = Engine(capacity, clock().boot)
        self._records: ByRecords | None = None
        if not births:
            most = min(capacity, _MOST_WAITING)
            parents = Parents(self._engine, look, clock, most, may_nest)
            self._records = ByRecords(parents, self._engine)
        self._jobs: dict[Hashable, _Job] = {}
        self._by_cgroup = 0  # jobs
        self._fields = frozenset(FIELDS)

    # -- counts

    @property
    def attributed(self) -> int:
        """Records of jobs."""
        return self._count("attributed")

    @property
    def outside(self) -> int:
        """Records that are of no job."""
        return self._count("outside")

    @property
    def undecided(self) -> int:
        """Records that may be of a job, or of none: they are in no sum."""
        return self._count("undecided")

    @property
    def evicted(self) -> int:
        """Records of jobs for which there was no room: they are in no sum."""
        return self._count("evicted")

    @property
    def waiting(self) -> int:
        """Records that are not assigned yet: of threads of a process that lives, for instance."""
        with self._lock:
            waiting = int(self._engine.counts.waiting)
            return waiting + (self._records.waiting if self._records else 0)

    @property
    def memory_bytes(self) -> int:
        """Memory that is taken in C: by processes, jobs and their sums."""
        with self._lock:
            taken = int(self._engine.counts.bytes)
            return taken + (int(self._records.parents.counts.bytes) if self._records else 0)

    def _count(self, name: str) -> int:
        with self._lock:
            return int(getattr(self._engine.counts, name))

    @property
    def settled_until(self) -> int | None:
        """When the oldest record of an ended process that waits was read, ns since the epoch.

        None if none waits. A job's usage covers everything that ended before then.
        """
        with self._lock:
            if self._records:
                return self._records.waiting_since
            return self._engine.counts.waiting_since or None

    # -- jobs

    def start(self, root: int, id: Hashable, *, subreaper: int | None = None) -> None:  # noqa: A002
        """Begin a job. Call it before its root has children.

        Args:
            root: The pid of the process that it descends from; its own record is the job's too.
            id: What it is called here.
            subreaper: Without births: the process, no part of the job, that inherits its orphans,
                and has no other children than roots of jobs (PR_SET_CHILD_SUBREAPER of prctl(2)).
                Orphans of several jobs, even one after the other, are undecided.

        Raises:
            ValueError: There is such a job, or one with this root; or no such process.
            OSError: The tracker has no room (ENOSPC, ENOMEM), or /proc cannot be read.
        """
        with self._lock:
            heir = None if subreaper is None else self._alive(subreaper)
            self._begin(id, self._alive(root), heir, attached=False)

    def attach(self, root: int, id: Hashable, *, subreaper: int | None = None) -> None:  # noqa: A002
        """Follow a job that runs already: as `start`, but what ended before is unknown.

        Its living descendants are its own. Those whose parent has ended before are not known.

        Raises:
            ValueError, OSError: As `start` raises them.
        """
        with self._lock:
            heir = None if subreaper is None else self._alive(subreaper)
            job = self._begin(id, self._alive(root), heir, attached=True)
            try:
                self._join_descendants(job, root)
            except BaseException:
                self._close(id)
                raise

    def _join_descendants(self, job: _Job, root: int) -> None:
        # A process that is in both lists had its pid all the while between the two.
        around = set(self._lineage(job))
        before = {one._replace(ended=False) for one in self._look(None)}
        after = {one._replace(ended=False) for one in self._look(None)}
        for one in _descendants(root, before & after):
            self._engine.join(job.number, one.pid, (one.start_ns, one.start_end_ns))
            if self._records:
                self._records.parents.join(job.number, one, around)

    def _alive(self, pid: int) -> Alive:
        found = self._look([pid])
        if not found:
            raise ValueError(f"there is no process {pid}")
        return found[0]

    def _start_of(self, one: Alive) -> Start:
        """When a living process started, as exactly as can be told: an earlier owner of its pid
        may have started within the same 10 ms.
        """
        best = one.start_ns, one.start_end_ns
        for _ in range(_TRIES if self._query and self.births else 0):
            before = self._clock().boot
            record = next(iter(self._query([one.pid])), None) if self._query else None
            after = self._clock().boot
            if record is None or record.ac_tgid != one.pid:
                break
            age = record.ac_tgetime * 1000
            earliest, latest = before - age - _AGE_SLACK, after - age + _AGE_SLACK
            start = max(one.start_ns, earliest), min(one.start_end_ns, latest)
            if 0 <= start[1] - start[0] < best[1] - best[0]:
                best = start
        return best

    def _begin(
        self,
        id: Hashable,  # noqa: A002
        root: Alive,
        subreaper: Alive | None,
        *,
        attached: bool,
    ) -> _Job:
        if id in self._jobs:
            raise ValueError(f"there is a job {id!r} already")
        try:
            number = self._engine.start(root.pid, self._start_of(root), self._remember)
        except FileExistsError:
            raise ValueError(f"process {root.pid} is the root of a job already") from None
        if self._records:
            try:
                outer = self._records.parents.start(number, root, subreaper)
            except BaseException:
                self._engine.close(number)
                raise
            self._engine.put_within(number, outer)
        job = self._jobs[id] = _Job(id, number, root.pid, attached)
        return job

    def start_cgroup(self, cgroup: str | int, id: Hashable) -> None:  # noqa: A002
        """Begin a job of all that ends in a cgroup, or in one below it.

        Args:
            cgroup: The path, as records give it, or the id. With an id, the cgroups below it are
                those below the path that it has when they are first heard of.
            id: What the job is called here.

        Raises:
            ValueError: There is such a job, or one with this cgroup; or the stream has no births.
        """
        with self._lock:
            if not self.births:
                raise ValueError("a job by cgroup needs a stream with births, from a probe")
            if isinstance(cgroup, str):
                cgroup = cgroup.rstrip("/") or "/"
            if id in self._jobs or any(one.cgroup == cgroup for one in self._jobs.values()):
                raise ValueError(f"there is a job {id!r} already, or one of the cgroup {cgroup!r}")
            number = self._engine.start(0, (0, 0), self._remember)
            self._jobs[id] = _Job(id, number, None, attached=False, cgroup=cgroup)
            self._by_cgroup += 1
            self._engine.forget_cgroups()
            self._nest(lambda _: None)

    def usage(self, id: Hashable, tasks: Iterable[int] = ()) -> Usage:  # noqa: A002
        """What a running job has used so far.

        Args:
            id: The job's.
            tasks: Ids of tasks among which are all living ones of the job, for instance those in
                /proc: they are asked for. A process that has ended is not in `living`, even if
                nobody has waited for it.

        Raises:
            KeyError: No such job.
            ValueError: There are tasks, and no query.
            TaskstatsError: What the query raises.
        """
        with self._lock:
            return self._usage(self._jobs[id], tasks)

    def close(self, id: Hashable) -> Usage:  # noqa: A002
        """End a job: processes that end later belong to the outer job, or to no job.

        Feed everything before, until `settled_until` is later than its end: what waits is not in
        what is returned.

        Raises:
            KeyError: No such job.
        """
        with self._lock:
            usage = self._usage(self._jobs[id], ())
            self._close(id)
            return usage

    def _close(self, id: Hashable) -> None:  # noqa: A002
        job = self._jobs.pop(id)
        self._by_cgroup -= job.cgroup is not None
        try:
            if self._records:
                outer = self._engine.job(job.number).outer
                self._records.parents.close(job.number, outer)
        finally:
            self._engine.close(job.number)

    def _usage(self, job: _Job, tasks: Iterable[int]) -> Usage:
        engine = self._engine
        numbers = engine.within(job.number)
        commands = [command for number in numbers for command in engine.commands(number)]
        fields = self._fields
        living, unclear = self._living(numbers, tasks)
        processes = tuple(one for number in numbers for one in engine.ended(number))
        counts = engine.job(job.number)
        return Usage(
            id=job.id,
            root=job.root,
            attached=job.attached,
            total=totals_of(added(one.totals for one in commands), fields),
            commands={
                comm: totals_of(added(those), fields)
                for comm, those in _by(lambda one: one.comm, commands).items()
            },
            executables={
                file: totals_of(added(those), fields)
                for file, those in _by(lambda one: one.executable, commands).items()
            },
            living=tuple(living),
            unclear=unclear,
            processes=processes,
            forgotten=sum(engine.job(number).forgotten for number in numbers),
            lost=counts.lost,
            undecided=counts.undecided,
            evicted=counts.evicted,
            births_lost=bool(counts.births_lost),
            settled_until=self.settled_until,
        )

    def _lineage(self, job: _Job) -> Iterator[int]:
        """The number of a job, and those of the jobs that it is within."""
        number = job.number
        while number != NO_JOB:
            yield number
            number = self._engine.job(number).outer

    # -- the stream

    def feed(self, batch: Batch) -> None:
        """Take a batch of the stream.

        Args:
            batch: Task records of exits, and births; an empty one without births is a `flush`.

        Raises:
            FieldUnavailable: The kernel's struct is older than version 12.
            ValueError: The batch is of groups, or of a query's answers.
            OSError: There was no memory (ENOMEM). The batch has been taken, and jobs that may lack
                something are marked.
        """
        with self._lock:
            needs = self._engine.check(batch)
            if needs & UNLIKE:
                check_exits(batch)
                self._fields &= batch.fields
                self._engine.accept(batch)
            if self._records:
                self._records.feed(batch)
                return
            if self._by_cgroup:
                self._place_cgroups(batch)
            self._engine.feed(batch, self._clock().booted if needs & NEEDS_CLOCK else 0)
            if not batch and not batch.births:
                self._engine.flush()

    def flush(self) -> None:
        """Assign what waits for other records: nothing is on its way."""
        with self._lock:
            self._engine.flush()
            if self._records:
                self._records.flush()

    def note_lost(self, total: int) -> None:
        """Tell of losses after which no record came on the same CPU.

        Args:
            total: What the stream has lost since it began: `ExitStats.lost`. Losses that records
                already reported are not counted twice.
        """
        with self._lock:
            more = max(0, total - self._engine.counts.lost)
            self._engine.lose(more)
            if more and self._records:
                self._records.parents.lose()

    # -- cgroups

    def _place_cgroups(self, batch: Batch) -> None:
        """Say of each cgroup that is new in a batch which job it is of."""
        tried: set[int] = set()
        while new := set(self._engine.new_cgroups(batch)) - tried:
            jobs = self._nest(batch.path_of)
            for id_ in new:
                place = _placed(id_, batch.path_of(id_), jobs)
                if place != UNDECIDED:  # else its path may be known later
                    self._engine.place_cgroup(id_, place)
            tried |= new

    def _nest(self, path_of: PathOf) -> "list[tuple[_Job, str | None]]":
        """The jobs by cgroup with their paths, each put within the nearest one above it."""
        jobs = [
            (job, path_of(job.cgroup) if isinstance(job.cgroup, int) else job.cgroup)
            for job in self._jobs.values()
            if job.cgroup is not None
        ]
        for job, path in jobs:
            # Of two jobs with one path the later one is within the other.
            above = [
                (one, its)
                for one, its in jobs
                if one is not job and (its != path or one.number < job.number)
            ]
            outer = NO_JOB if path is None else _nearest(path, above)
            self._engine.put_within(job.number, outer)
        return jobs

    # -- the living

    def _living(
        self, numbers: Sequence[int], tasks: Iterable[int]
    ) -> tuple[list[LivingProcess], int]:
        """The living processes of some jobs among these tasks; and how many more may be."""
        ids = sorted(set(tasks))
        if not ids:
            return [], 0
        if self._query is None:
            raise ValueError("to ask for tasks, the tracker needs a query")
        threads: dict[int, list[Record]] = {}
        for record in self._query(ids):
            if record.hiwater_vm:  # of a user's process, not ended
                threads.setdefault(record.ac_tgid, []).append(record)
        ended = {member.pid: member for member in self._engine.members()}
        found, unclear = [], 0
        for one in self._look(sorted(threads)):
            if self._records:
                owner = self._records.parents.of_living(one)
            else:
                owner = self._engine.owner(one.pid, (one.start_ns, one.start_end_ns))
            unclear += owner == UNDECIDED
            if owner in numbers:
                found.append(_living_process(one, threads[one.pid], ended.get(one.pid)))
        return found, unclear


def _living_process(one: Alive, records: list[Record], member: Member | None) -> LivingProcess:
    first = min(records, key=lambda record: record.ac_pid != one.pid)
    cpu_ns = member.cpu_ns if member else 0
    exact = member is not None and member.start[0] == member.start[1]
    return LivingProcess(
        pid=one.pid,
        ppid=first.ac_ppid,
        comm=first.comm,
        threads=len(records),
        cpu_ns=cpu_ns + sum(record.cpu_run_virtual_total for record in records),
        elapsed_us=first.ac_tgetime,
        peak_rss_bytes=max(record.hiwater_rss for record in records) * 1024 or None,
        start_ns=member.start[0] if member and exact else None,
    )


def _descendants(root: int, living: Iterable[Alive]) -> Iterator[Alive]:
    """Yield the living descendants of a process."""
    children: dict[int, list[Alive]] = {}
    for one in living:
        children.setdefault(one.ppid, []).append(one)
    left = [root]
    while left:
        for one in children.pop(left.pop(), ()):
            yield one
            left.append(one.pid)


def _nearest(path: str, jobs: "Iterable[tuple[_Job, str | None]]") -> int:
    """The number of the job with the cgroup that a path is, or is nearest below; else NO_JOB."""
    around = [
        (len(its), job.number)
        for job, its in jobs
        if its is not None and (its in ("/", path) or path.startswith(f"{its}/"))
    ]
    return max(around, default=(0, NO_JOB))[1]


def _placed(id_: int, path: str | None, jobs: "list[tuple[_Job, str | None]]") -> int:
    """The number of the job that the exits in a cgroup are of."""
    if path is not None and all(its is not None for _, its in jobs):
        return _nearest(path, jobs)
    return next((job.number for job, _ in jobs if job.cgroup == id_), UNDECIDED)


def _by(key: Callable[[Command], T], commands: Iterable[Command]) -> dict[T, list[Any]]:
    """The totals of commands, those with the same key together."""
    made: dict[T, list[Any]] = {}
    for command in commands:
        made.setdefault(key(command), []).append(command.totals)
    return made
