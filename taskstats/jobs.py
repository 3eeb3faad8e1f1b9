"""JobTracker: the records of exits, attributed to the jobs that they are of. No I/O."""

from collections import deque
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

_PICKER = Picker(
    (
        *("flags", "ac_exitcode", "cpu_run_virtual_total", "ac_comm", "ac_ppid", "ac_btime64"),
        *("ac_tgid", "ac_tgetime", "ac_exe_dev", "ac_exe_inode"),
    )
)

_FLAGS, _WORD, _CPU, _COMM, _PPID, _BEGAN, _TGID, _LIVED, _DEV, _INODE = (
    _PICKER.names.index(name)
    for name in (
        *("flags", "ac_exitcode", "cpu_run_virtual_total", "ac_comm", "ac_ppid", "ac_btime64"),
        *("ac_tgid", "ac_tgetime", "ac_exe_dev", "ac_exe_inode"),
    )
)
_CPU_TOTAL = TOTALS.index("cpu_run_virtual_total")

_MOST_COMMANDS = 1024  # of one job, up to 50 KB each; what comes then is added up as one

#: The command name under which those beyond 1,024 are added up.
OTHERS = "(other commands)"


@dataclass(frozen=True, slots=True)
class Ended:
    """A process of a job that has ended, as it is remembered for the job's tree.

    Attributes:
        pid: Its id (the kernel's tgid).
        ppid: Its parent's, when it ended: of an orphan, who inherited it.
        comm: Its command name.
        cpu_ns: Its time on a CPU (cpu_run_virtual_total).
        elapsed_us: How long it lived.
        status: As wait(2) gives it.
    """

    pid: int
    ppid: int
    comm: str
    cpu_ns: int
    elapsed_us: int
    status: int


@dataclass(frozen=True, slots=True)
class Living:
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
        processes: Those that have ended, as far as they are remembered.
        forgotten: Processes that ended and are not in `processes`.
        lost: Records that the stream has lost while it ran, its own or others'.
        unattributed: Records of orphans that were inherited for several jobs, of which this is one.
        ambiguous: Records that may be its, or another's whose parent had the same pid.
        evicted: Records given up while it ran: their parent was never heard of.
        waiting: Records heard and not yet attributed to any job, or to none.
    """

    id: Hashable
    root: int
    attached: bool
    total: Totals
    commands: Mapping[str, Totals]
    executables: Mapping[tuple[int, int], Totals]
    living: tuple[Living, ...]
    processes: tuple[Ended, ...]
    forgotten: int
    lost: int
    unattributed: int
    ambiguous: int
    evicted: int
    waiting: int

    @property
    def complete(self) -> bool:
        """Whether no record of a process of the job can be missing."""
        missing = self.lost + self.unattributed + self.ambiguous + self.evicted + self.waiting
        return not self.attached and not missing


@dataclass(eq=False, slots=True)
class _Job:
    id: Hashable
    root: int
    subreaper: int | None
    attached: bool
    outer: "_Job | None" = None
    tallies: dict[tuple[bytes, int, int], Tally] = field(default_factory=dict)
    processes: list[tuple[Any, ...]] = field(default_factory=list)  # what Ended is made of
    forgotten: int = 0
    lost: int = 0
    unattributed: int = 0
    ambiguous: int = 0
    evicted: int = 0
    closed: bool = False

    def tally(self, key: tuple[bytes, int, int]) -> Tally:
        found = self.tallies.get(key)
        if found is None:
            if len(self.tallies) >= _MOST_COMMANDS:
                key = OTHERS.encode(), 0, 0
            found = self.tallies.setdefault(key, Tally())
        return found

    def add(self, end: "_End", load: "_Load", remember: int) -> None:
        """Adds a process that has ended."""
        if isinstance(load, Process):
            record = load.record
            comm, word, cpu = (
                load.comm.encode(),
                record.ac_exitcode,
                load.totals["cpu_run_virtual_total"],
            )
            lived = record.ac_tgetime
            self.tally((comm, record.ac_exe_dev, record.ac_exe_inode)).add_process(load)
        else:
            values = load.values
            comm, word, cpu, lived = values[_COMM], values[_WORD], values[_CPU], values[_LIVED]
            exceeds = bool(values[_FLAGS] & DELAY_EXCEEDS)
            key = comm, values[_DEV], values[_INODE]
            self.tally(key).add_row(load.data, word, lived, exceeds)
        if len(self.processes) < remember:
            self.processes.append((end.pid, end.parent, comm, cpu, lived, word))
        else:
            self.forgotten += 1

    def take(self, other: "_Job") -> None:
        """Adds what a job within it has used."""
        for key, tally in other.tallies.items():
            self.tally(key).add_tally(tally)
        self.processes += other.processes
        self.forgotten += other.forgotten


_End = End[_Job]


@dataclass(slots=True)
class _Row:
    """A process that never had a second thread: its record, and what was read of it."""

    data: memoryview | bytes
    values: tuple[Any, ...]

    threads = 1


_Load = _Row | Process


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
        self._line: deque[tuple[int, list[tuple[_End, _Load]]]] = deque()  # not yet due
        self._late: deque[tuple[int, list[_End]]] = deque()  # children's records may be on the way
        self._in_line = 0
        self._held: dict[int, list[tuple[_End, _Load]]] = {}  # by the pid of the parent they need
        self._in_hold = 0

    @property
    def waiting(self) -> int:
        """Records that are not attributed yet."""
        return self._in_line + self._in_hold + self._fold.held

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
            ValueError: There is such a job, or it has this root.
        """
        self._begin(root, id, subreaper, attached=False)

    def attach(self, root: int, id: Hashable, *, subreaper: int | None = None) -> None:  # noqa: A002
        """Follows a job that runs already: as `start`, but what ended before is unknown."""
        self._begin(root, id, subreaper, attached=True)

    def _begin(self, root: int, id: Hashable, subreaper: int | None, *, attached: bool) -> None:  # noqa: A002
        if id in self._jobs:
            raise ValueError(f"there is a job {id!r} already")
        roots = {job.root for job in self._jobs.values()}
        if root in roots:
            raise ValueError(f"process {root} is the root of a job already")
        if subreaper in roots:
            raise ValueError(f"process {subreaper} is the root of a job, and inherits for that")
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

        Feed everything before: what waits is not in what is returned.

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
            job.outer.take(job)
        return usage

    def _usage(self, job: _Job, tasks: Iterable[int]) -> Usage:
        whole = _Job(job.id, job.root, None, job.attached)
        for one in self._jobs.values():
            if job in _lineage(one):
                whole.take(one)
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
            living=tuple(self._living(job, tasks)),
            processes=tuple(
                Ended(pid, ppid, _name(comm), *rest) for pid, ppid, comm, *rest in whole.processes
            ),
            forgotten=whole.forgotten,
            lost=job.lost,
            unattributed=job.unattributed,
            ambiguous=job.ambiguous,
            evicted=job.evicted,
            waiting=self.waiting,
        )

    # -- the stream

    def feed(self, batch: Batch) -> None:
        """Takes a batch of the stream.

        Args:
            batch: Task records of exits; an empty one says that nothing more comes for now, and
                all that waits only for others' records is attributed.

        Raises:
            FieldUnavailable: The kernel's struct is older than version 12.
            ValueError: The batch is of groups, or of a query's answers.
            TaskstatsError: What the query raises; the batch has been taken then.
        """
        if not batch:
            self._settle(self._now + DISORDER_NS, self._fold.flush())
            return
        check_exits(batch)
        self._fields &= batch.fields
        self._now = received = batch.columns["received_ns"][0]
        alone: list[tuple[_End, _Load]] = []  # those that never had a second thread
        others = []
        for row, values in enumerate(_PICKER.rows(batch.data)):
            flags, tgid = values[_FLAGS], values[_TGID]
            if flags & (LAST | PAIRED) == LAST and not self._fold.holds(tgid):
                end: _End = End(tgid, values[_PPID], values[_BEGAN], received)
                self._ancestry.add(end)
                alone.append((end, _Row(batch.data[row * ROW : (row + 1) * ROW], values)))
            else:
                others.append(row)
            if flags & LOST_BEFORE:
                self._lose(batch.columns["lost_before"][row])
        self._line.append((received, alone))
        self._in_line += len(alone)
        self._settle(received, self._fold.feed(batch, others))

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
            self._ancestry.forget_living()  # one of them may have ended

    # -- settling

    def _settle(self, now: int, processes: list[Process]) -> None:
        """Attributes what has waited long enough."""
        pending: list[tuple[_End, _Load]] = [pair for chunk in self._due(now) for pair in chunk]
        for process in processes:
            began, received = process.record.ac_btime64, process.record.received_ns or 0
            end: _End = End(process.pid, process.ppid, began, received)
            self._ancestry.add(end)
            pending.append((end, process))
        known = self._ancestry.is_known
        unknown = {end.parent for end, _ in pending if not known(end.parent)}
        overdue = [pid for pid in self._held if self._is_overdue(pid, now)]
        try:
            if unknown or overdue:
                self._ancestry.learn(unknown.union(overdue))
        finally:
            for end, load in pending:
                self._try(end, load)
            for pid in overdue:
                self._last_try(pid)
            if self._fold.forgotten > self._forgotten:
                self._give_up(self._fold.forgotten - self._forgotten)
                self._forgotten = self._fold.forgotten
            if pending:
                self._late.append((now, [end for end, _ in pending]))
            while self._late and self._late[0][0] < now - 2 * DISORDER_NS:
                self._ancestry.remove(self._late.popleft()[1])

    def _due(self, now: int) -> Iterator[list[tuple[_End, _Load]]]:
        while self._line:
            received, pairs = self._line[0]
            # A clock that was set back does not keep it waiting.
            if 0 <= now - received < DISORDER_NS and self._in_line <= self._capacity:
                return
            self._line.popleft()
            self._in_line -= len(pairs)
            yield pairs

    def _try(self, end: _End, load: _Load) -> None:
        """Attributes a process, and those that have waited for it; or holds it."""
        stack = [(end, load)]
        while stack:
            end, load = stack.pop()
            owner = self._ancestry.settle(end)
            if isinstance(owner, Waits):
                self._hold(end, load)
                continue
            self._credit(owner, end, load)
            if end.pid in self._held:
                stack += self._released(end.pid)

    # -- holding

    def _hold(self, end: _End, load: _Load) -> None:
        if isinstance(load, _Row):
            load = _Row(bytes(load.data), load.values)  # not the whole batch
        self._held.setdefault(end.parent, []).append((end, load))
        self._in_hold += load.threads

    def _released(self, parent: int) -> list[tuple[_End, _Load]]:
        pairs = self._held.pop(parent)
        self._in_hold -= sum(load.threads for _, load in pairs)
        return pairs

    def _is_overdue(self, parent: int, now: int) -> bool:
        since = self._held[parent][0][0].received
        return not 0 <= now - since < self._patience_ns or self._in_hold > self._capacity

    def _last_try(self, parent: int) -> None:
        """Attributes those that have waited for a process for long, or gives them up."""
        if parent not in self._held:
            return
        for end, load in self._released(parent):
            self._try(end, load)
        for end, load in self._released(parent) if parent in self._held else ():
            end.owner, end.settled = UNHEARD, True
            self._give_up(load.threads)

    def _give_up(self, records: int) -> None:
        self.evicted += records
        for job in self._jobs.values():
            job.evicted += records

    # -- attributing

    def _credit(self, owner: _Job | Unclear[_Job] | None, end: _End, load: _Load) -> None:
        records = load.threads
        if owner is None or (isinstance(owner, _Job) and owner.closed):
            self.outside += records
        elif isinstance(owner, _Job):
            self.attributed += records
            owner.add(end, load, self._remember)
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

    def _living(self, job: _Job, tasks: Iterable[int]) -> Iterator[Living]:
        """The living processes of a job, and of those within it."""
        ids = sorted(set(tasks))
        if not ids:
            return
        if self._query is None:
            raise ValueError("to ask for tasks, the tracker needs a query")
        threads: dict[int, list[Record]] = {}
        for record in self._query(ids):
            if record.hiwater_vm:  # of a user's process, not ended
                threads.setdefault(record.ac_tgid, []).append(record)
        self._ancestry.learn(threads)
        for tgid, records in threads.items():
            owner = self._ancestry.of_living(tgid)
            if isinstance(owner, _Job) and job in _lineage(owner):
                yield self._process(tgid, records)

    def _process(self, tgid: int, records: list[Record]) -> Living:
        first = min(records, key=lambda record: record.ac_pid != tgid)
        heard = self._fold.heard_of(tgid)
        cpu = heard[_CPU_TOTAL] if heard else 0
        return Living(
            pid=tgid,
            ppid=first.ac_ppid,
            comm=first.comm,
            threads=len(records),
            cpu_ns=cpu + sum(record.cpu_run_virtual_total for record in records),
            elapsed_us=first.ac_tgetime,
            peak_rss_bytes=max(record.hiwater_rss for record in records) * 1024 or None,
        )


def _lineage(job: _Job) -> Iterator[_Job]:
    """The job, and those that it is within."""
    one: _Job | None = job
    while one:
        yield one
        one = one.outer


def _name(comm: bytes) -> str:
    """A command name that may have NULs behind it, as text."""
    return text_of(comm.partition(b"\0")[0])
