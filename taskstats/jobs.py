"""JobTracker: the records of exits, attributed to the jobs that they are of. No I/O."""

from collections import defaultdict, deque
from collections.abc import Hashable, Iterable, Iterator

from taskstats import sums
from taskstats.accounts import OTHERS, Account, EndedProcess, LivingProcess, Usage
from taskstats.ancestry import (
    DISORDER_NS,
    UNHEARD,
    WAITS,
    Ancestry,
    End,
    Query,
    Unclear,
    Waits,
)
from taskstats.fields import FIELDS
from taskstats.presence import LAST, LOST_BEFORE, PAIRED
from taskstats.processes import Process, ProcessFold, check_exits
from taskstats.records import Batch, Record
from taskstats.rows import Picker
from taskstats.sums import TOTALS

__all__ = ["OTHERS", "EndedProcess", "JobTracker", "LivingProcess", "Usage"]

_CPU_TOTAL = TOTALS.index("cpu_run_virtual_total")

# What is fed is taken with what comes after it: where a stream wakes its reader often, each time
# with little, Python runs cold, and a record costs half as much again.
_GATHER_NS = 50_000_000
_MOST_UNTAKEN = 1024  # records

_ALONE = LAST | PAIRED
_PICKER = Picker(("flags", "ac_ppid", "ac_tgid", "ac_tgetime"))

#: What is kept of it in `about`: a Reading, or of several threads a Process; nothing as long as
#: its batch is kept.
_End = End[Account]


class JobTracker:
    """Attributes the records of exits to jobs.

    A job is a process, its root, and everything that descends from it. The records themselves name
    each process's parent when it ended; who that was is known by its own record, which comes later,
    or by asking for it. The kernel gives a child of a process that has ended to the nearest living
    ancestor that is a child subreaper (prctl(2)), or to init. So a job that is to be known whole
    has a subreaper of its own that outlives the rest of it: its root, or one that is named.

    Records of different CPUs come in any order. So what is fed waits for 0.1 s of the stream's
    time, or up to 0.15 s where batches come often, or for an empty batch, which says that nothing
    was on its way.
    `ExitListener.batches(timeout=0.1)` gives what it needs. The stream must be of all CPUs, and
    unfiltered.

    Each record fed is attributed to a job, or of none, or counted as one of which that cannot be
    told; and it is waiting until then. It takes some 1 KB while it waits for its parent, with
    delays 2.

    Args:
        query: Asks for tasks by their ids: `Client.pids`. Without, a process whose parent lives
            and is no root waits until that ends; and of no job is known that it is within another.
        remember: The most ended processes of each job to remember, for its tree.
        capacity: The most records that gather, that wait for 0.1 s, and that wait for their
            parents; and the most living processes that are remembered.
        patience: Seconds of the stream's time that a record waits for its parent.

    Attributes:
        attributed: Records of jobs.
        outside: Records that are of none.
        unattributed: Records of orphans that were inherited for several jobs.
        ambiguous: Records whose parent's pid had two owners within 0.1 s.
        evicted: Records given up: for capacity or for patience, their parent was never heard of; or
            their process's end was, and they came too late.
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
        self._ancestry: Ancestry[Account] = Ancestry(query, capacity)
        self._fold = ProcessFold()
        self._forgotten = 0  # by the fold
        self._jobs: dict[Hashable, Account] = {}
        self._begun = 0  # jobs, those that were closed too
        self._fields = frozenset(FIELDS)
        self._now = 0
        self._last_ns = 0  # when it was settled last
        self._lost = 0
        self._untaken: list[tuple[int, Batch]] = []
        self._in_untaken = 0
        self._folded: list[Process] = []  # by the fold, and not yet settled
        # Not yet due: when it was read, how many jobs had begun then, and what it was.
        self._line: deque[tuple[int, int, Batch, list[int], list[_End]]] = deque()
        self._late: deque[tuple[int, list[_End]]] = deque()  # children's records may be on the way
        self._in_late = 0
        self._in_line = 0
        self._several: defaultdict[int, deque[_End]] = defaultdict(deque)  # by pid; in the fold
        self._held: dict[int, list[_End]] = {}  # by the pid of the parent they need
        self._in_hold = 0

    @property
    def waiting(self) -> int:
        """Records that are not attributed yet; those of threads wait until their process ends."""
        folded = self._fold.held + sum(process.threads for process in self._folded)
        return self._in_untaken + self._in_line + folded + self._in_hold

    @property
    def settled_until(self) -> int | None:
        """When the oldest record of an ended process that waits was read, ns since the epoch.

        None if none waits. What is asked of a job is all that ended before then.
        """
        since = [received for received, _ in self._untaken]
        since += [end.received for process in self._folded for end in self._several[process.pid]]
        since += [received for received, *_, ends in self._line if ends]
        since += [end.received for ends in self._held.values() for end in ends]
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
        """Follows a job that runs already: as `start`, but what ended before is unknown.

        Jobs that are followed already are not within it.
        """
        self._begin(root, id, subreaper, attached=True)

    def _begin(self, root: int, id: Hashable, subreaper: int | None, *, attached: bool) -> None:  # noqa: A002
        self._take()
        if id in self._jobs:
            raise ValueError(f"there is a job {id!r} already")
        if self._ancestry.is_root(root):
            raise ValueError(f"process {root} is the root of a job, and has not ended yet")
        heirs = {job.subreaper for job in self._jobs.values()}
        if root in heirs or (subreaper is not None and self._ancestry.is_root(subreaper)):
            raise ValueError("the root of one job cannot inherit the orphans of another")
        job = Account(id, root, subreaper, attached, self._begun, self._remember)
        outer = self._ancestry.own(root, job, subreaper)
        job.put_within(outer if isinstance(outer, Account) else None)
        self._jobs[id] = job
        self._begun += 1

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
        self._take()
        return self._usage(self._jobs[id], tasks)

    def close(self, id: Hashable) -> Usage:  # noqa: A002
        """Ends a job: what of it ends later is of none, or of the job that it is within.

        Feed everything before, until `settled_until` is later than its end: what waits is not in
        what is returned.

        Raises:
            KeyError: No such job.
        """
        self._take()
        job = self._jobs[id]
        usage = self._usage(job, ())
        del self._jobs[id]
        job.close()
        self._ancestry.disown(job.root, job, job.subreaper)
        return usage

    def _usage(self, job: Account, tasks: Iterable[int]) -> Usage:
        living, unclear = self._living(job, tasks)
        return job.usage(self._fields, tuple(living), unclear, self.settled_until)

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
        self._now = batch.columns["received_ns"][0]
        self._untaken.append((self._now, batch))
        self._in_untaken += len(batch)
        # A clock that was set back lets nothing gather.
        gathers = 0 <= self._now - self._last_ns < _GATHER_NS
        if not gathers or self._in_untaken >= min(_MOST_UNTAKEN, self._capacity):
            self._take()
            self._settle(self._now)

    def flush(self) -> None:
        """Attributes what waits for records that may have been on their way: they were not.

        Raises:
            TaskstatsError: What the query raises.
        """
        self._take()
        self._folded += self._fold.flush()
        self._settle(self._now + DISORDER_NS)

    def note_lost(self, total: int) -> None:
        """Tells of losses after which no record came on the same CPU.

        Args:
            total: What the stream has lost since it began: `ExitStats.lost`. What the records have
                told of that is not counted twice.
        """
        self._take()
        self._lose(max(0, total - self._lost))

    def _lose(self, count: int) -> None:
        if count:
            self._lost += count
            for job in self._jobs.values():
                job.lost += count
            self._ancestry.doubt()

    def _take(self) -> None:
        """Takes what was fed: whose it is waits, and is told by what comes later."""
        for received, batch in self._untaken:
            self._fields &= batch.fields
            ended: list[_End] = []
            alone: list[int] = []  # rows of processes that never had a second thread
            ends: list[_End] = []  # theirs
            others: list[int] = []
            marks = 0
            holding = self._fold.holding
            for row, (flags, ppid, tgid, lived) in enumerate(_PICKER.rows(batch.data)):
                marks |= flags
                if flags & _ALONE == LAST and tgid not in holding:
                    end: _End = End(tgid, ppid, lived, received)
                    ended.append(end)
                    ends.append(end)
                    alone.append(row)
                    continue
                others.append(row)
                if flags & LAST:
                    end = End(tgid, ppid, lived, received)
                    ended.append(end)
                    end.begun = self._begun
                    self._several[tgid].append(end)
            self._ancestry.add(ended)
            self._line.append((received, self._begun, batch, alone, ends))
            self._in_line += len(ends)
            self._folded += self._fold.feed(batch, others)
            if self._fold.forgotten > self._forgotten:
                self._give_up(self._fold.forgotten - self._forgotten, self._begun)
                self._forgotten = self._fold.forgotten
            if marks & LOST_BEFORE:
                self._lose(sum(batch.columns["lost_before"]))
        self._untaken.clear()
        self._in_untaken = 0

    # -- settling

    def _settle(self, now: int) -> None:
        """Attributes what has waited long enough."""
        self._last_ns = now
        due = list(self._due(now))
        several = [self._end_of(process) for process in self._folded]
        self._folded = []
        settled = [end for *_, ends in due for end in ends] + several
        overdue = list(self._overdue(now))
        try:
            self._ancestry.learn(self._ancestry.unknown_parents(settled).union(overdue))
        finally:
            for one in due:
                self._attribute(*one)
            self._attribute_all(several)
            for pid in overdue:
                self._last_try(pid)
            if settled:
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

    def _due(self, now: int) -> Iterator[tuple[int, Batch, list[int], list[_End]]]:
        while self._line:
            received, begun, batch, rows, ends = self._line[0]
            # A clock that was set back does not keep it waiting.
            if 0 <= now - received < DISORDER_NS and self._in_line <= self._capacity:
                return
            self._line.popleft()
            self._in_line -= len(ends)
            yield begun, batch, rows, ends

    def _attribute(self, begun: int, batch: Batch, rows: list[int], ends: list[_End]) -> None:
        """Attributes processes of a batch that never had a second thread."""
        by_owner: defaultdict[Account | Unclear[Account] | Waits | None, list[int]]
        by_owner = defaultdict(list)
        for at, owner in enumerate(self._ancestry.settle(ends)):
            by_owner[owner].append(at)
        readings = sums.read(batch.data) if by_owner.keys() - {None} else []
        for owner, places in by_owner.items():
            if owner is WAITS:
                for at in places:
                    ends[at].about, ends[at].begun = readings[rows[at]], begun
                    self._hold(ends[at])
            elif _began_after(owner, begun):
                for at in places:
                    self._ancestry.give_up(ends[at])
                self._give_up(len(places), begun)
            elif isinstance(owner, Account) and (job := owner.open):
                self.attributed += len(places)
                job.add_rows([readings[rows[at]] for at in places], ends[0].received)
            else:
                self._count(owner, len(places), begun)
        if self._held:
            for end in ends:
                if end.pid in self._held and end.owner is not WAITS:
                    self._attribute_all(self._released(end.pid))

    def _attribute_all(self, ends: list[_End], *, late: bool = False) -> None:
        """Attributes processes, and those that have waited for them, or holds them."""
        left = ends[::-1]
        while left:
            end = left.pop()
            (owner,) = self._ancestry.settle([end], late=late)
            if owner is WAITS:
                self._hold(end)
                continue
            if _began_after(owner, end.begun):
                self._ancestry.give_up(end)
                self._give_up(_records(end), end.begun)
            elif isinstance(owner, Account) and (job := owner.open):
                self.attributed += _records(end)
                if isinstance(end.about, Process):
                    job.add_process(end.about, end.received)
                else:
                    job.add_rows([end.about], end.received)
            else:
                self._count(owner, _records(end), end.begun)
            end.about = None
            if end.pid in self._held:
                left += self._released(end.pid)

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
            self._give_up(_records(end), end.begun)
            self._attribute_all(self._released(end.pid))

    def _give_up(self, records: int, begun: int) -> None:
        self.evicted += records
        for job in self._jobs.values():
            job.evicted += records * _may_be_of(job, begun)

    def _count(self, owner: Account | Unclear[Account] | None, records: int, begun: int) -> None:
        """Counts records that are of no job, or of which that cannot be told."""
        if not isinstance(owner, Unclear):
            self.outside += records
            return
        if owner is UNHEARD:
            self._give_up(records, begun)
            return
        those = {one for job in owner.owners if _may_be_of(job, begun) for one in job.lineage()}
        if owner.reused:
            self.ambiguous += records
            for job in those:
                job.ambiguous += records
        else:
            self.unattributed += records
            for job in those:
                job.unattributed += records

    # -- the living

    def _living(self, job: Account, tasks: Iterable[int]) -> tuple[list[LivingProcess], int]:
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
            elif isinstance(owner, Account) and job in owner.lineage():
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


def _may_be_of(job: Account, begun: int) -> bool:
    """Whether a record may be a job's that was taken after so many had begun.

    What is attached to has children already.
    """
    return job.number < begun or job.attached


def _began_after(owner: Account | Unclear[Account] | None, begun: int) -> bool:
    """Whether it is a job's that began after the record was taken, after so many others.

    It is not that one's then: the parent was another process with that pid, whose end was not
    heard, or it had children before it was a job's.
    """
    return isinstance(owner, Account) and not _may_be_of(owner, begun)
