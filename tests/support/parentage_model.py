"""A slow model of csrc/parentage.c: which job a process belongs to, by records and the living.

Without a probe nothing says who made a process. A record names the parent that the process had when
it ended, by a pid alone. So a process is assigned only where one answer is left:

- The owner of a pid at some moment is known once all records of before that moment were read, and
  the living were looked at before that. Each process has a range in which it started and one in
  which it ended: the kernel's second of the exit is ac_btime64 + ac_etime (kernel/tsacct.c), and
  ac_tgetime is the age. Two owners within about two seconds leave the child undecided.
- A child of a process of a job is the job's, unless the parent can have inherited it: as a child
  subreaper, which only an ancestor of the job's root can be for the job's orphans, or as the init
  of a PID namespace, which adopts whatever enters it. So a parent that was never seen alive in the
  initial PID namespace decides nothing, if there has ever been another PID namespace.
- After a loss, only a parent that surely lived when the child ended decides. What was forgotten
  counts as lost.
"""

from collections.abc import Callable, Container, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from taskstats.alive import Alive, Look, Moment
from taskstats.engine import NO_JOB, UNDECIDED

#: The clocks may be set by so much, ns, between an exit and its reading.
_SLACK = 20_000_000
_SECOND = 1_000_000_000
#: The kernel's second is that of the last tick of the CPU that keeps the time. Where this CPU is
#: itself kept waiting, as on a busy virtual machine, a tick has come 0.11 s late.
_MOST_LATE = 1_000_000_000
_NEVER = 2**63
#: init and kthreadd have no parent. Of others, a parent 0 is one that ended in that moment.
_FIRST = (1, 2)

#: How long after a loss records may be read that are older than the lost ones, ns.
_DOUBT = 2 * _SECOND


@dataclass(frozen=True, slots=True)
class Verdict:
    """Which job a process belongs to.

    Attributes:
        job: The job's number; NO_JOB, or UNDECIDED.
        doubts: The jobs that it may belong to besides, within that one.
    """

    job: int
    doubts: frozenset[int] = frozenset()


_NONE = Verdict(NO_JOB)


@dataclass(eq=False, slots=True)
class Process:
    """A process that has ended, or one that was seen alive.

    Attributes:
        pid: Its id.
        ppid: Its parent's: when it ended, or was seen.
        start: The first and last moment at which it can have started, CLOCK_REALTIME in ns.
        end: The same of its end; None while it lives.
        safe: Whether it is surely not the init of a PID namespace.
        verdict: None until it is known.
        about: What the caller keeps with it.
        seen: CLOCK_REALTIME before it was first seen alive.
        tick: Its start as /proc tells, if it was seen alive: ns of CLOCK_BOOTTIME, to 10 ms.
        perhaps: The jobs of processes seen alive of which it may be one.
        asked: Whether the living were looked at after its record was read.
        shared: Whether it inherits orphans of jobs that were closed as well.
        named: Whether it was there when a job began: its root, an ancestor, the subreaper.
        gone_ns: CLOCK_MONOTONIC when it was first missed, if it was seen alive before.
        unsure: The record of its end may be forgotten, if it was seen alive.
    """

    pid: int
    ppid: int
    start: tuple[int, int]
    end: tuple[int, int] | None
    safe: bool
    verdict: Verdict | None = None
    about: Any = None
    seen: int = 0
    tick: int | None = None
    perhaps: frozenset[int] = frozenset()
    asked: bool = False
    shared: bool = False
    named: bool = False
    gone_ns: int = 0
    unsure: bool = False


@dataclass(slots=True)
class _Job:
    number: int
    start: int  # CLOCK_REALTIME, the earliest
    ancestors: list[Process] | None  # of the root, the nearest first; None if not known
    subreaper: Process | None  # one of them, where one is named


class Parentage:
    """Finds the job of each process that has ended.

    Args:
        look: Looks up who lives.
        clock: Reads the clocks.
        capacity: The most processes that wait, or are remembered.
        may_nest: Says whether there may have been a PID namespace below the initial one.
    """

    def __init__(
        self,
        look: Look,
        clock: Callable[[], Moment],
        capacity: int,
        may_nest: Callable[[], bool],
    ) -> None:
        self._look = look
        self._clock = clock
        self._capacity = capacity
        self._may_nest = may_nest
        self._jobs: dict[int, _Job] = {}
        self._alive: dict[int, Process] = {}  # as last seen
        self._ended: dict[int, list[Process]] = {}  # by pid, those that ended lately
        self._line: list[Process] = []  # the same in the order of their reading
        self._new: list[Process] = []
        self._asked: list[Process] = []
        self._asked_ns = 0  # CLOCK_MONOTONIC
        self._departed: list[Process] = []  # those of `ended` that may have a record there as well
        self._doubt_until = 0  # CLOCK_REALTIME
        #: Processes of several threads that are not added up yet, by whatever names them.
        self.adding_up: dict[Any, list[Process]] = {}

    @property
    def waiting(self) -> list[Process]:
        """The processes that wait for a verdict."""
        return self._asked + self._new

    # -- jobs

    def start(self, number: int, root: Alive, subreaper: Alive | None) -> int:
        """Begin a job; return the number of the one that its root is of, or NO_JOB."""
        process = self._see(root)
        ancestors = self._ancestors(root)
        heir = self._see(subreaper) if subreaper else None
        # A child of its own job's subreaper is no orphan of another job.
        made_by_heir = heir is not None and heir.pid == root.ppid
        outer = self._verdict_of_living(heir if heir and made_by_heir else process)
        for one in (process, *(ancestors or ()), *([heir] if heir else ())):
            one.named = True
        self._jobs[number] = _Job(number, process.start[0], ancestors, heir)
        process.verdict = Verdict(number, outer.doubts)
        return outer.job

    def join(self, number: int, one: Alive, around: Container[int]) -> None:
        """Make a living process one of a job's, unless it is of a job within that one.

        Call it for a parent before its children.

        Args:
            number: The job's.
            one: The process.
            around: The numbers of the jobs around it.
        """
        process = self._see(one)
        verdict = self._verdict_of_living(process)
        if verdict.job in (NO_JOB, UNDECIDED) or verdict.job in around:
            process.verdict = Verdict(number, verdict.doubts - {number})

    def close(self, number: int, outer: int) -> None:
        """End a job: its processes are of the one that it is within, or of NO_JOB."""
        heir = self._jobs.pop(number).subreaper
        if heir:
            heir.shared = True
        held = [one for those in self.adding_up.values() for one in those]
        for one in {*self._alive.values(), *self._line, *self._departed, *held}:
            if one.verdict and (one.verdict.job == number or number in one.verdict.doubts):
                job = outer if one.verdict.job == number else one.verdict.job
                doubts = one.verdict.doubts - {number}
                if number in one.verdict.doubts:
                    doubts |= {outer} - {job, NO_JOB, UNDECIDED}
                one.verdict = Verdict(job, doubts)
        for one in self.waiting:
            if number in one.perhaps:
                one.perhaps = one.perhaps - {number} | {outer} - {NO_JOB}

    def _ancestors(self, one: Alive) -> list[Process] | None:
        """The ancestors of a living process, the nearest first; None if they are not all found."""
        found: list[Process] = []
        while one.ppid:
            parents = self._look([one.ppid])
            if not parents or parents[0].start_ns > one.start_ns or self._see(parents[0]) in found:
                return None
            (one,) = parents
            found.append(self._see(one))
        return found

    def _see(self, one: Alive, seen: int | None = None) -> Process:
        """The living process, as it is known already or from now on.

        Args:
            one: The process. It may have ended since it was looked at.
            seen: CLOCK_REALTIME before it was looked at; None if not known: then its start.
        """
        now = self._clock()
        start = one.start_ns + now.booted - _SLACK, one.start_end_ns + now.booted + _SLACK
        known = self._alive.get(one.pid)
        if known and known.tick == one.start_ns:
            known.ppid = one.ppid
            return known
        if known:
            self._gone(one.pid)
        made = Process(
            one.pid,
            one.ppid,
            start,
            None,
            not one.nested,
            seen=start[0] if seen is None else seen,
            tick=one.start_ns,
        )
        self._alive[one.pid] = made
        return made

    def of_living(self, one: Alive) -> int:
        """The number of a living process's job: NO_JOB, or UNDECIDED."""
        parents = self._ancestors(one)
        if parents is None:
            return UNDECIDED
        return self._verdict_of_living(self._see(one)).job

    # -- the stream

    def add(self, ended: Iterable[Process]) -> None:
        """Take processes that have ended, in the order of the stream."""
        for one in ended:
            self._new.append(one)
            self._ended.setdefault(one.pid, []).append(one)
            self._line.append(one)

    def lose(self) -> None:
        """Say that records were lost before now."""
        self._doubt_until = self._clock().real + _DOUBT

    def settle(self, emptied_ns: int | None) -> list[Process]:
        """Return the processes that have a verdict now.

        Args:
            emptied_ns: CLOCK_MONOTONIC: all records queued before this moment were taken.
        """
        decided = []
        if self._asked and emptied_ns is not None and emptied_ns >= self._asked_ns:
            self._join_departed(emptied_ns)
            decided = self._decide(self._asked, surely=False)
            self._new = [one for one in self._asked if one.verdict is None] + self._new
            self._asked = []
        if self._new and not self._asked:
            self._asked, self._new = self._new, []
            self._ask()
            self._asked_ns = self._clock().monotonic
        if len(self._asked) + len(self._new) > self._capacity:
            decided += self.flush()
        self._forget()
        return decided

    def flush(self) -> list[Process]:
        """Return a verdict for all that wait. Those that need more records are undecided."""
        if not self._asked and not self._new:
            return []
        self._asked += self._new
        self._new = []
        self._ask()
        self._join_departed(None)
        decided = self._decide(self._asked, surely=True)
        self._asked = []
        return decided

    def _forget(self) -> None:
        excess = len(self._line) - self._capacity
        if excess < self._capacity // 4:
            return
        for one in self._line[:excess]:
            those = self._ended.get(one.pid, [])
            if one in those:  # and not joined with one that was seen alive
                those.remove(one)
                self._doubt_forgotten(one)
            if not those:
                self._ended.pop(one.pid, None)
        del self._line[:excess]

    def _doubt_forgotten(self, one: Process) -> None:
        """Take what is not known any more when a process is forgotten.

        It may have been the parent of a process that ended before it, or the one that was seen
        alive with its pid.
        """
        assert one.end is not None
        one.unsure = True
        now = self._clock()
        end = one.end[1] if one.end[1] < _NEVER else now.real - (now.monotonic - one.gone_ns)
        self._doubt_until = max(self._doubt_until, end)
        others = [*self._ended.get(one.pid, ())]
        if one.pid in self._alive:
            others.append(self._alive[one.pid])
        for other in others:
            if other.tick is not None and _overlap(other, one) and end >= other.seen:
                other.unsure = True

    # -- the living

    def _ask(self) -> None:
        """Look at the parents of those that wait, and at the living whose pid one of them has.

        So are their parents, where these decide. A parent is looked at after its child: before, an
        earlier owner of its pid may be there.
        """
        wanted = {one.ppid for one in self._asked} | {
            one.pid for one in self._asked if one.pid in self._alive
        }
        for waiting in self._asked:
            waiting.asked = True
        children: set[Alive] = set()
        while wanted := wanted - {0}:
            before = self._clock().real
            found = {one for one in self._look(sorted(wanted)) if not one.ended}
            there = {living.pid for living in found}
            for pid in sorted(wanted - there):
                if pid in self._alive:
                    self._gone(pid)
            for living in sorted(found):
                self._see(living, before)
            undecided = {one for one in found if self._alive[one.pid].verdict is None}
            wanted = {living.ppid for living in undecided - children}
            children |= undecided

    def _gone(self, pid: int) -> None:
        """A process that was seen alive has ended."""
        one = self._alive.pop(pid)
        one.end = one.seen, _NEVER
        one.gone_ns = self._clock().monotonic
        self._ended.setdefault(pid, []).append(one)
        self._line.append(one)
        self._departed.append(one)

    def _join_departed(self, emptied_ns: int | None) -> None:
        """Join those that were seen alive with the records of their ends.

        Args:
            emptied_ns: CLOCK_MONOTONIC: all records queued before this moment were taken; None if
                no more are on their way.
        """
        still = []
        for one in self._departed:
            if emptied_ns is None or emptied_ns >= one.gone_ns:
                self._join(one, surely=emptied_ns is None)
            if emptied_ns is None or emptied_ns < one.gone_ns:
                still.append(one)
        self._departed = still[-self._capacity :]
        if len(still) > self._capacity:
            self.lose()

    def _join(self, one: Process, *, surely: bool) -> None:
        known = self._ended.get(one.pid, [])
        records = [
            other
            for other in known
            if other is not one
            and _overlap(other, one)
            and other.end is not None
            and other.end[1] >= one.seen
        ]
        verdict = one.verdict or self._verdict_of_living(one)
        waiting = [other for other in records if other.verdict is None]
        # Before its record was read, or after a loss: what is there may be another process's that
        # had the pid in the same second.
        lost = (
            one.unsure
            or surely
            or any(other.end and other.end[0] <= self._doubt_until for other in records)
        )
        if len(records) == 1 and waiting and not lost:
            one.end = records[0].end
            records[0].verdict = verdict
            known.remove(records[0])
        else:
            jobs = {verdict.job} - {NO_JOB, UNDECIDED}
            for other in waiting:
                other.perhaps |= verdict.doubts | jobs

    def _verdict_of_living(self, one: Process) -> Verdict:
        """The verdict about a process that was seen alive."""
        way: list[Process] = []
        at: Process | None = one
        while at and at.verdict is None and at not in way:
            way.append(at)
            at = self._parent_of_living(at)
        if (at is None or at.verdict is None) and way and way[-1].pid not in _FIRST:
            # The last one's parent ended meanwhile; or each one of several made the next.
            return self._perhaps(one.start[1])
        verdict = at.verdict if at and at.verdict else _NONE
        parent = at if at and at.verdict else None
        for child in reversed(way):
            verdict = self._inherit(parent, child) if parent else _NONE
            child.verdict = verdict
            parent = child
        return verdict

    def _parent_of_living(self, one: Process) -> Process | None:
        """The parent of a process that was seen alive, if that was seen alive too.

        A parent is older than its child. A younger process has got the pid of a parent that ended.
        """
        parent = self._alive.get(one.ppid)
        if parent is None or one.tick is None or parent.tick is None or parent.tick > one.tick:
            return None
        return parent

    # -- verdicts

    def _decide(self, ended: Sequence[Process], *, surely: bool) -> list[Process]:
        for one in ended:
            stack = [one]
            on_stack = {id(one)}
            while stack:
                top = stack[-1]
                waits = self._judge(top, surely=surely)
                if waits and not waits.asked:
                    break  # the owners of its parent's pid are not all known yet
                if waits is None or id(waits) in on_stack:
                    if waits is not None:
                        top.verdict = self._perhaps(top.start[1])
                    stack.pop()
                    on_stack.discard(id(top))
                else:
                    stack.append(waits)
                    on_stack.add(id(waits))
        return [one for one in ended if one.verdict is not None]

    def _judge(self, one: Process, *, surely: bool) -> Process | None:
        """Reach a verdict about a process; or return the one whose verdict is needed first."""
        if one.verdict is not None:
            return None
        parents = self._parents(one, surely=surely)
        for parent in parents:
            if parent.verdict is None and parent.tick is None:
                return parent
        verdicts = [self._inherit(parent, one) for parent in parents]
        verdict = _agreed(verdicts) if verdicts else self._perhaps(one.start[1])
        if one.perhaps - {verdict.job}:
            jobs = {verdict.job} - {NO_JOB, UNDECIDED}
            verdict = Verdict(UNDECIDED, verdict.doubts | one.perhaps | jobs)
        one.verdict = verdict
        return None

    def _parents(self, one: Process, *, surely: bool) -> list[Process]:
        """The processes that can have had the parent's pid when it ended."""
        assert one.end is not None
        first, last = one.end
        known = [other for other in self._ended.get(one.ppid, ()) if other is not one]
        if one.ppid in self._alive:
            known.append(self._alive[one.ppid])
        # Two owners of a pid within about a second: their ranges say too little.
        if _owners([other for other in known if _is_near(other, first, last)]) > 1:
            return []
        known = [other for other in known if other.start[0] <= last]
        there = [other for other in known if other.start[1] <= first]
        # Who started surely before another one that was there has ended before that one started.
        latest = max((other.start[0] for other in there), default=0)
        known = [other for other in known if other.start[1] >= latest]
        # A process that nobody has heard of may have been there: not beside one that lived on.
        in_doubt = first <= self._doubt_until
        if (surely or in_doubt) and not any(
            (other.start[1] <= first and (other.end is None or other.end[0] >= last))
            or (not in_doubt and other.named and other.end is None)
            for other in known
        ):
            return []
        return known

    def _inherit(self, parent: Process, child: Process) -> Verdict:
        """The verdict about a child of a process that has one."""
        # The parent of one that was seen alive is told as of then, not of its end.
        verdict = parent.verdict or self._verdict_of_living(parent)
        if not parent.safe and self._may_nest():
            perhaps = self._perhaps(child.start[1])
            doubts = perhaps.doubts | verdict.doubts | ({verdict.job} - {NO_JOB, UNDECIDED})
            return Verdict(UNDECIDED, doubts) if doubts else _NONE
        heirs = [job for job in self._jobs.values() if self._inherits(parent, job, child)]
        named = [job for job in heirs if job.subreaper is parent]
        numbers = frozenset(job.number for job in heirs)
        if len(heirs) == 1 and named and not parent.shared:
            return Verdict(named[0].number, verdict.doubts)
        if verdict.job in (NO_JOB, UNDECIDED) and (numbers or verdict.doubts):
            return Verdict(UNDECIDED, numbers | verdict.doubts)
        return Verdict(verdict.job, verdict.doubts | numbers)

    def _inherits(self, parent: Process, job: _Job, child: Process) -> bool:
        """Whether the parent may have inherited the child as an orphan of a job."""
        if child.start[1] < job.start:
            return False
        if job.subreaper is not None and (job.subreaper.end is None or parent is job.subreaper):
            return parent is job.subreaper
        return job.ancestors is None or parent in job.ancestors

    def any_job(self) -> Verdict:
        """The verdict about records that may be any job's."""
        return self._perhaps(_NEVER)

    def _perhaps(self, start: int) -> Verdict:
        """The verdict where nothing is known of the parent."""
        doubts = frozenset(job.number for job in self._jobs.values() if job.start <= start)
        return Verdict(UNDECIDED, doubts) if doubts else _NONE


def _overlap(one: Process, other: Process) -> bool:
    """Whether two processes may have started at the same time."""
    return one.start[0] <= other.start[1] and other.start[0] <= one.start[1]


def _owners(processes: Sequence[Process]) -> int:
    """How many processes these are at least: one that was seen alive may be one of the records."""
    records = [one for one in processes if not one.seen]
    others = [
        one
        for one in processes
        if one.seen and not any(_overlap(record, one) for record in records)
    ]
    return len(records) + len(others)


def _is_near(process: Process, first: int, last: int) -> bool:
    """Whether a process may have lived within a second of a range of time."""
    if process.start[0] > last + _SECOND:
        return False
    return process.end is None or process.end[1] >= first - _SECOND


def _agreed(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict about a process that is a child of one of several."""
    jobs = {verdict.job for verdict in verdicts}
    doubts = frozenset(doubt for verdict in verdicts for doubt in verdict.doubts)
    if len(jobs) == 1:
        return Verdict(verdicts[0].job, doubts)
    return Verdict(UNDECIDED, doubts | (jobs - {NO_JOB, UNDECIDED}))


def process(pid: int, ppid: int, second: int, age_us: int, about: Any) -> Process:
    """A process that has ended, by its last record.

    Args:
        pid: The process id.
        ppid: The parent's.
        second: CLOCK_REALTIME at the exit, whole seconds.
        age_us: How long it lived.
        about: What the caller keeps with it.
    """
    first, last = second * _SECOND, (second + 1) * _SECOND + _MOST_LATE + _SLACK
    start = first - age_us * 1000 - 1000, last - age_us * 1000
    return Process(pid, ppid, start, (first, last), safe=False, about=about)
