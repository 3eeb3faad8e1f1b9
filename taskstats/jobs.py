"""JobTracker: the records of exits, attributed to the jobs that they are of. No I/O."""

from collections import defaultdict, deque
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from taskstats.ancestry import DISORDER_NS, UNHEARD, Ancestry, End, Query, Unclear, Waits
from taskstats.fields import FIELDS
from taskstats.presence import DELAY_EXCEEDS, LAST, LOST_BEFORE, PAIRED
from taskstats.processes import Process, ProcessFold, check_exits
from taskstats.records import Batch, Record
from taskstats.rows import ROW, Picker, text_of
from taskstats.sums import TOTALS
from taskstats.totals import Tally, Totals

#: A command name as it stands in the row, device and inode of the executable.
_Command = tuple[bytes, int, int]

#: What is read of each row, in the order of the row.
_Values = tuple[int, int, int, bytes, int, int, int, int, int]
_PICKER = Picker(
    (
        *("flags", "ac_exitcode", "cpu_run_virtual_total", "ac_comm", "ac_ppid"),
        *("ac_tgid", "ac_tgetime", "ac_exe_dev", "ac_exe_inode"),
    )
)

_CPU_TOTAL = TOTALS.index("cpu_run_virtual_total")

_MOST_COMMANDS = 1024  # of one job, up to 50 KB each; what comes then is added up as one

#: The command name under which those beyond 1,024 are added up.
OTHERS = "(other commands)"


@dataclass(frozen=True, slots=True)
class EndedProcess:
    """A process of a job that has ended, as it is remembered for the job's tree.

    Attributes:
        pid: Its id (the kernel's tgid).
        ppid: Its parent's, when it ended: of an orphan, who inherited it.
        comm: Its command name.
        cpu_ns: Its time on a CPU (cpu_run_virtual_total).
        elapsed_us: How long it lived.
        status: As wait(2) gives it.
        received_ns: When the record of its end was read, ns since the epoch.
    """

    pid: int
    ppid: int
    comm: str
    cpu_ns: int
    elapsed_us: int
    status: int
    received_ns: int


@dataclass(frozen=True, slots=True)
class LivingProcess:
    """A process of a job that lives, as the kernel has told when it was asked.

    Attributes:
        pid: Its id (the kernel's tgid).
        ppid: Its parent's.
        comm: Its leader's name.
        threads: How many of its threads were asked for and live.
        cpu_ns: Time on a CPU, of those and of threads of it whose end was heard.
        elapsed_us: How long it has lived.
        peak_rss_bytes: Its peak resident size; None where the kernel has none.
    """

    pid: int
    ppid: int
    comm: str
    threads: int
    cpu_ns: int
    elapsed_us: int
    peak_rss_bytes: int | None


@dataclass(frozen=True, slots=True)
class Usage:
    """What a job has used.

    Attributes:
        id: The job's.
        root: The pid of its root.
        attached: It ran already when it was attached to; what had ended before is unknown.
        total: Of all its processes that have ended, those of jobs within it too.
        commands: The same by command name. Beyond 1,024 names, OTHERS.
        executables: The same by device and inode of the executable.
        living: Its processes that live, if they were asked for.
        unclear: How many more of those may be its: orphans that were inherited for several jobs.
        processes: Those that have ended, as far as they are remembered.
        forgotten: Processes that ended and are not in `processes`.
        lost: Records that the stream has lost while it ran, its own or others'.
        unattributed: Records of orphans that were inherited for several jobs, of which this is one.
        ambiguous: Records that may be its, or another's whose parent had the same pid.
        evicted: Records given up while it ran: their parent was never heard of.
        settled_until: What was read before this moment (ns since the epoch) has been attributed, to
            whatever job; None if nothing waits.
    """

    id: Hashable
    root: int
    attached: bool
    total: Totals
    commands: Mapping[str, Totals]
    executables: Mapping[tuple[int, int], Totals]
    living: tuple[LivingProcess, ...]
    unclear: int
    processes: tuple[EndedProcess, ...]
    forgotten: int
    lost: int
    unattributed: int
    ambiguous: int
    evicted: int
    settled_until: int | None

    @property
    def complete(self) -> bool:
        """Whether no record of a process that ended before `settled_until` can be missing."""
        missing = self.lost + self.unattributed + self.ambiguous + self.evicted
        return not self.attached and not missing


@dataclass(eq=False, slots=True)
class _Job:
    id: Hashable
    root: int
    subreaper: int | None
    attached: bool
    outer: "_Job | None" = None
    tallies: dict[_Command, Tally] = field(default_factory=dict)
    processes: list[tuple[Any, ...]] = field(default_factory=list)  # what EndedProcess is made of
    forgotten: int = 0
    lost: int = 0
    unattributed: int = 0
    ambiguous: int = 0
    evicted: int = 0
    closed: bool = False

    def tally(self, key: _Command) -> Tally:
        found = self.tallies.get(key)
        if found is None:
            if len(self.tallies) >= _MOST_COMMANDS:
                key = OTHERS.encode(), 0, 0
            found = self.tallies.setdefault(key, Tally())
        return found

    def add_row(
        self, data: memoryview | bytes, values: _Values, received: int, remember: int
    ) -> None:
        """Adds a process that never had a second thread: its record, and what was read of it."""
        flags, word, cpu, comm, ppid, tgid, lived, dev, inode = values
        key = comm, dev, inode
        tally = self.tallies.get(key) or self.tally(key)
        tally.add_row(data, word, lived, bool(flags & DELAY_EXCEEDS))
        if len(self.processes) < remember:
            self.processes.append((tgid, ppid, comm, cpu, lived, word, received))
        else:
            self.forgotten += 1

    def add_process(self, process: Process, remember: int) -> None:
        """Adds a process of several threads."""
        record, comm = process.record, process.comm.encode()
        self.tally((comm, record.ac_exe_dev, record.ac_exe_inode)).add_process(process)
        if len(self.processes) < remember:
            cpu, lived = process.totals["cpu_run_virtual_total"], record.ac_tgetime
            word, received = record.ac_exitcode, record.received_ns
            self.processes.append((process.pid, process.ppid, comm, cpu, lived, word, received))
        else:
            self.forgotten += 1

    def take(self, other: "_Job", remember: int) -> None:
        """Adds what a job within it has used."""
        for key, tally in other.tallies.items():
            self.tally(key).add_tally(tally)
        room = max(0, remember - len(self.processes))
        self.processes += other.processes[:room]
        self.forgotten += other.forgotten + len(other.processes[room:])


@dataclass(slots=True)
class _Row:
    """A process that never had a second thread, once its batch is let go."""

    data: bytes
    values: _Values


#: What is kept of it in `about`: of its row, as long as its batch is kept, or in a _Row; or, of a
#: process of several threads, a Process.
_End = End[_Job]


class JobTracker:
    """Attributes the records of exits to jobs.

    A job is a process, its root, and everything that descends from it. The records themselves name
    each process's parent when it ended; who that was is known by its own record, which comes later,
    or by asking for it. The kernel gives a child of a process that has ended to the nearest living
    ancestor that is a child subreaper (prctl(2)), or to init. So a job that is to be known whole
    has a subreaper of its own: its root, or one that is named.

    Records of different CPUs come in any order. So what is fed waits for 0.1 s of the stream's
    time, or for an empty batch, which says that nothing was on its way.
    `ExitListener.batches(timeout=0.1)` gives what it needs. The stream must be of all CPUs, and
    unfiltered.

    Each record fed is attributed to a job, or of none, or counted as one of which that cannot be
    told; and it is waiting until then. It costs 728 bytes while it waits for its parent.

    Args:
        query: Asks for tasks by their ids: `Client.pids`. Without, a process whose parent lives
            and is no root waits until that ends; and a job within a job is known as such only if
            its root is a child of the other's.
        remember: The most ended processes of each job to remember, for its tree.
        capacity: The most records that wait, and the most living processes that are remembered.
        patience: Seconds of the stream's time that a record waits for its parent.

    Attributes:
        attributed: Records of jobs.
        outside: Records that are of none.
        unattributed: Records of orphans that were inherited for several jobs.
        ambiguous: Records whose parent's pid had two owners within 0.1 s.
        evicted: Records given up, for capacity or for patience: their parent was never heard of.
    """

    def __init__(
        self,
        query: Query | None = None,
        *,
        remember: int = 0,
        capacity: int = 65_536,
        patience: float = 1.0,
    ) -> None:
        if capacity < 1:
            raise ValueError(f"capacity is a number of records from 1, not {capacity}")
        self.attributed = 0
        self.outside = 0
        self.unattributed = 0
        self.ambiguous = 0
        self.evicted = 0
        self._query = query
        self._remember = remember
        self._capacity = capacity
        self._patience_ns = int(patience * 1e9)
        self._ancestry: Ancestry[_Job] = Ancestry(query, capacity)
        self._fold = ProcessFold()
        self._forgotten = 0  # by the fold
        self._jobs: dict[Hashable, _Job] = {}
        self._fields = frozenset(FIELDS)
        self._now = 0
        self._lost = 0
        self._line: deque[tuple[int, Batch, list[int], list[_End]]] = deque()  # not yet due
        self._late: deque[tuple[int, list[_End]]] = deque()  # children's records may be on the way
        self._in_late = 0
        self._in_line = 0
        self._several: defaultdict[int, deque[_End]] = defaultdict(deque)  # by pid; in the fold
        self._held: dict[int, list[_End]] = {}  # by the pid of the parent they need
        self._in_hold = 0

    @property
    def waiting(self) -> int:
        """Records that are not attributed yet; those of threads wait until their process ends."""
        return self._in_line + self._in_hold + self._fold.held

    @property
    def settled_until(self) -> int | None:
        """When the oldest record of an ended process that waits was read, ns since the epoch.

        None if none waits. What is asked of a job is all that ended before then.
        """
        since = [received for received, *_, ends in self._line if ends]
        since += [ends[0].received for ends in self._held.values()]
        if (several := self._fold.waiting_since) is not None:
            since.append(several)
        return min(since, default=None)

    # -- jobs

    def start(self, root: int, id: Hashable, *, subreaper: int | None = None) -> None:  # noqa: A002
        """A job begins. Call it before its root has children.

        Args:
            root: The pid of the process that it descends from; its own record is the job's too.
            id: What it is called here.
            subreaper: The process, no part of the job, that inherits its orphans, and has no other
                children than roots of jobs. Those of several jobs, even one after the other,
                cannot be told apart. None if that is the root, or nobody.

        Raises:
            ValueError: There is such a job, or one with this root, whose end has not been heard of;
                or the root of one would be the subreaper of another.
        """
        self._begin(root, id, subreaper, attached=False)

    def attach(self, root: int, id: Hashable, *, subreaper: int | None = None) -> None:  # noqa: A002
        """Follows a job that runs already: as `start`, but what ended before is unknown."""
        self._begin(root, id, subreaper, attached=True)

    def _begin(self, root: int, id: Hashable, subreaper: int | None, *, attached: bool) -> None:  # noqa: A002
        if id in self._jobs:
            raise ValueError(f"there is a job {id!r} already")
        if self._ancestry.is_root(root):
            raise ValueError(f"process {root} is the root of a job, and has not ended yet")
        heirs = {job.subreaper for job in self._jobs.values()}
        if root in heirs or (subreaper is not None and self._ancestry.is_root(subreaper)):
            raise ValueError("the root of one job cannot inherit the orphans of another")
        job = _Job(id, root, subreaper, attached)
        outer = self._ancestry.own(root, job, subreaper)
        job.outer = outer if isinstance(outer, _Job) else None
        self._jobs[id] = job

    def usage(self, id: Hashable, tasks: Iterable[int] = ()) -> Usage:  # noqa: A002
        """What a running job has used so far.

        Args:
            id: The job's.
            tasks: Ids of tasks among which are all that live of the job, for instance those in
                /proc: they are asked for. A process that has ended is not in `living`, even if
                nobody has waited for it.

        Raises:
            KeyError: No such job.
            ValueError: There are tasks, and no query.
        """
        return self._usage(self._jobs[id], tasks)

    def close(self, id: Hashable) -> Usage:  # noqa: A002
        """Ends a job: what of it ends later is of none, or of the job that it is within.

        Feed everything before, until `settled_until` is later than its end: what waits is not in
        what is returned.

        Raises:
            KeyError: No such job.
        """
        job = self._jobs[id]
        usage = self._usage(job, ())
        del self._jobs[id]
        job.closed = True
        self._ancestry.disown(job.root, job, job.subreaper)
        for inner in self._jobs.values():
            if inner.outer is job:
                inner.outer = job.outer
        if job.outer:
            job.outer.take(job, self._remember)
        return usage

    def _usage(self, job: _Job, tasks: Iterable[int]) -> Usage:
        living, unclear = self._living(job, tasks)
        whole = _Job(job.id, job.root, None, job.attached)
        for one in self._jobs.values():
            if job in _lineage(one):
                whole.take(one, self._remember)
        total = Tally()
        commands: dict[str, Tally] = {}
        executables: dict[tuple[int, int], Tally] = {}
        for (comm, *executable), tally in whole.tallies.items():
            total.add_tally(tally)
            commands.setdefault(_name(comm), Tally()).add_tally(tally)
            dev, inode = executable
            executables.setdefault((dev, inode), Tally()).add_tally(tally)
        return Usage(
            id=job.id,
            root=job.root,
            attached=job.attached,
            total=total.totals(self._fields),
            commands={name: tally.totals(self._fields) for name, tally in commands.items()},
            executables={key: tally.totals(self._fields) for key, tally in executables.items()},
            living=tuple(living),
            unclear=unclear,
            processes=tuple(
                EndedProcess(pid, ppid, _name(comm), *rest)
                for pid, ppid, comm, *rest in whole.processes
            ),
            forgotten=whole.forgotten,
            lost=job.lost,
            unattributed=job.unattributed,
            ambiguous=job.ambiguous,
            evicted=job.evicted,
            settled_until=self.settled_until,
        )

    # -- the stream

    def feed(self, batch: Batch) -> None:
        """Takes a batch of the stream.

        Args:
            batch: Task records of exits; an empty one is a `flush`.

        Raises:
            FieldUnavailable: The kernel's struct is older than version 12.
            ValueError: The batch is of groups, or of a query's answers.
            TaskstatsError: What the query raises; the batch has been taken then.
        """
        if not batch:
            self.flush()
            return
        check_exits(batch)
        self._fields &= batch.fields
        self._now = received = batch.columns["received_ns"][0]
        alone: list[int] = []  # rows of processes that never had a second thread
        others: list[int] = []
        ends: list[_End] = []
        add, holds = self._ancestry.add, self._fold.holds
        for row, values in enumerate(_PICKER.rows(batch.data)):
            flags, _, _, _, ppid, tgid, lived, _, _ = values
            if flags & LAST:
                end: _End = End(tgid, ppid, lived, received, values)
                add(end)
            if flags & (LAST | PAIRED) == LAST and not holds(tgid):
                alone.append(row)
                ends.append(end)
            else:
                others.append(row)
                if flags & LAST:
                    self._several[tgid].append(end)
            if flags & LOST_BEFORE:
                self._lose(batch.columns["lost_before"][row])
        self._line.append((received, batch, alone, ends))
        self._in_line += len(ends)
        self._settle(received, self._fold.feed(batch, others))

    def flush(self) -> None:
        """Attributes what waits for records that may have been on their way: they were not.

        Raises:
            TaskstatsError: What the query raises.
        """
        self._settle(self._now + DISORDER_NS, self._fold.flush())

    def note_lost(self, total: int) -> None:
        """Tells of losses after which no record came on the same CPU.

        Args:
            total: What the stream has lost since it began: `ExitStats.lost`. What the records have
                told of that is not counted twice.
        """
        self._lose(max(0, total - self._lost))

    def _lose(self, count: int) -> None:
        if count:
            self._lost += count
            for job in self._jobs.values():
                job.lost += count
            self._ancestry.doubt()

    # -- settling

    def _settle(self, now: int, processes: list[Process]) -> None:
        """Attributes what has waited long enough."""
        due = list(self._due(now))
        several = [self._end_of(process) for process in processes]
        settled = [end for _, _, ends in due for end in ends] + several
        overdue = list(self._overdue(now))
        unknown = {end.parent for end in settled if self._ancestry.needs_question(end)}
        try:
            self._ancestry.learn(unknown.union(overdue))
        finally:
            for batch, rows, ends in due:
                self._attribute(batch, rows, ends)
            self._attribute_all(several)
            for pid in overdue:
                self._last_try(pid)
            if self._fold.forgotten > self._forgotten:
                self._give_up(self._fold.forgotten - self._forgotten)
                self._forgotten = self._fold.forgotten
            self._late.append((now, settled))
            self._in_late += len(settled)
            self._forget_late(now)

    def _forget_late(self, now: int) -> None:
        """Forgets those that ended so long ago that no child of theirs waits."""
        longest = self._patience_ns + 2 * DISORDER_NS
        # A clock that was set back keeps nothing.
        while self._late and (
            abs(now - self._late[0][0]) > longest or self._in_late > self._capacity
        ):
            _, ends = self._late.popleft()
            self._in_late -= len(ends)
            self._ancestry.remove(ends)

    def _end_of(self, process: Process) -> _End:
        """The end of a process of several threads, now that these are known."""
        ends = self._several[process.pid]
        end = ends.popleft()
        if not ends:
            del self._several[process.pid]
        end.about = process
        return end

    def _due(self, now: int) -> Iterator[tuple[Batch, list[int], list[_End]]]:
        while self._line:
            received, batch, rows, ends = self._line[0]
            # A clock that was set back does not keep it waiting.
            if 0 <= now - received < DISORDER_NS and self._in_line <= self._capacity:
                return
            self._line.popleft()
            self._in_line -= len(ends)
            yield batch, rows, ends

    def _attribute(self, batch: Batch, rows: list[int], ends: list[_End]) -> None:
        """Attributes processes of a batch that never had a second thread."""
        data, settle = batch.data, self._ancestry.settle
        for row, end in zip(rows, ends, strict=True):
            owner = settle(end)
            if isinstance(owner, Waits):
                end.about = _Row(bytes(data[row * ROW : (row + 1) * ROW]), end.about)
                self._hold(end)
                continue
            if isinstance(owner, _Job) and not owner.closed:
                self.attributed += 1
                record = data[row * ROW : (row + 1) * ROW]
                owner.add_row(record, end.about, end.received, self._remember)
            else:
                self._count(owner, 1)
            end.about = None
            if end.pid in self._held:
                self._attribute_all(self._released(end.pid))

    def _attribute_all(self, ends: list[_End], *, late: bool = False) -> None:
        """Attributes processes, and those that have waited for them, or holds them."""
        while ends:
            end = ends.pop()
            owner = self._ancestry.settle(end, late=late)
            if isinstance(owner, Waits):
                self._hold(end)
                continue
            if isinstance(owner, _Job) and not owner.closed:
                self.attributed += _records(end)
                if isinstance(end.about, Process):
                    owner.add_process(end.about, self._remember)
                else:
                    values = end.about.values
                    owner.add_row(end.about.data, values, end.received, self._remember)
            else:
                self._count(owner, _records(end))
            end.about = None
            if end.pid in self._held:
                ends += self._released(end.pid)

    # -- holding

    def _hold(self, end: _End) -> None:
        """Lets it wait for its parent."""
        self._held.setdefault(end.parent, []).append(end)
        self._in_hold += _records(end)

    def _released(self, parent: int) -> list[_End]:
        """Those that have waited for a process, which are held no more."""
        ends = self._held.pop(parent, [])
        self._in_hold -= sum(map(_records, ends))
        return ends

    def _overdue(self, now: int) -> Iterator[int]:
        """The parents that have been waited for too long, or for whom there is no more room."""
        excess = self._in_hold - self._capacity
        for parent, ends in self._held.items():  # the oldest first
            if excess <= 0 and 0 <= now - ends[0].received < self._patience_ns:
                return
            excess -= sum(map(_records, ends))
            yield parent

    def _last_try(self, parent: int) -> None:
        """Attributes those that have waited for a process for long, or gives them up."""
        self._attribute_all(self._released(parent), late=True)
        for end in self._released(parent):
            self._ancestry.give_up(end)
            self._give_up(_records(end))
            self._attribute_all(self._released(end.pid))

    def _give_up(self, records: int) -> None:
        self.evicted += records
        for job in self._jobs.values():
            job.evicted += records

    def _count(self, owner: _Job | Unclear[_Job] | None, records: int) -> None:
        """Counts records that are of no job, or of which that cannot be told."""
        if not isinstance(owner, Unclear):
            self.outside += records
        elif owner is UNHEARD:
            self._give_up(records)
        elif owner.reused:
            self.ambiguous += records
            for job in owner.owners:
                job.ambiguous += records
        else:
            self.unattributed += records
            for job in owner.owners:
                job.unattributed += records

    # -- the living

    def _living(self, job: _Job, tasks: Iterable[int]) -> tuple[list[LivingProcess], int]:
        """The living processes of a job, and of those within it; and how many more may be."""
        ids = sorted(set(tasks))
        if not ids:
            return [], 0
        if self._query is None:
            raise ValueError("to ask for tasks, the tracker needs a query")
        threads: dict[int, list[Record]] = {}
        for record in self._query(ids):
            if record.hiwater_vm:  # of a user's process, not ended
                threads.setdefault(record.ac_tgid, []).append(record)
        self._ancestry.learn(threads)
        heirs = {one.subreaper for one in self._jobs.values()}  # no part of them
        found, unclear = [], 0
        for tgid in threads.keys() - heirs:
            owner = self._ancestry.of_living(tgid)
            if isinstance(owner, Unclear):
                unclear += job in owner.owners
            elif isinstance(owner, _Job) and job in _lineage(owner):
                found.append(self._process(tgid, threads[tgid]))
        return sorted(found, key=lambda one: one.pid), unclear

    def _process(self, tgid: int, records: list[Record]) -> LivingProcess:
        first = min(records, key=lambda record: record.ac_pid != tgid)
        heard = self._fold.heard_of(tgid)
        cpu = heard[_CPU_TOTAL] if heard else 0
        return LivingProcess(
            pid=tgid,
            ppid=first.ac_ppid,
            comm=first.comm,
            threads=len(records),
            cpu_ns=cpu + sum(record.cpu_run_virtual_total for record in records),
            elapsed_us=first.ac_tgetime,
            peak_rss_bytes=max(record.hiwater_rss for record in records) * 1024 or None,
        )


def _records(end: _End) -> int:
    """How many records it is of."""
    return end.about.threads if isinstance(end.about, Process) else 1


def _lineage(job: _Job) -> Iterator[_Job]:
    """The job, and those that it is within."""
    one: _Job | None = job
    while one:
        yield one
        one = one.outer


def _name(comm: bytes) -> str:
    """A command name that may have NULs behind it, as text."""
    return text_of(comm.partition(b"\0")[0])
