"""Random histories of processes, of which is known what job each record belongs to.

A model of the kernel in plain Python: steps make processes, end them and read the queues of their
records. What is true of a record follows from who made whom, never from an id.
"""

import errno
import itertools
import struct
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

from hypothesis import strategies as st

import taskstats
from support import wire
from taskstats import Batch
from taskstats.presence import LOST_BEFORE
from taskstats.rows import HEADER, ROW

T = TypeVar("T")

VERSION = 16
AFORK, AXSIG, AGROUP = 0x01, 0x10, 0x20
BATCH_ROWS = 1024  # of a batch, at most

_INIT = 1
_FIRST_PID = 1000
_BOOTED_US = 1_767_225_600_400_000  # since the epoch; no whole second
_DEVICE = 0x801

#: What a group's record has: the sums over its threads.
_SUMMED = ("cpu_count", "cpu_run_virtual_total", "ac_etime")


# ---- what happens ----------------------------------------------------------------------------

# Numbers choose among those that are there at the time, modulo how many those are. `of` chooses a
# living process, the oldest first, so that -1 is the newest; whoever makes a process may also be
# init, which is 0 then. `thread` is one of its living threads. A new task's pid is the next one, or
# with a number as `again` one that is free again: with 0 the one that was freed last. Where nobody
# can be chosen a step does nothing.


@dataclass(frozen=True)
class Fork:
    """A process makes another one."""

    of: int = 0
    cpu: int = 0
    again: int | None = None
    subreaper: bool = False


@dataclass(frozen=True)
class DoubleFork:
    """A process makes one that makes another one and exits: how a daemon is made."""

    of: int = 0
    cpu: int = 0
    again: int | None = None


@dataclass(frozen=True)
class StartThread:
    """A living process gets another thread."""

    of: int = 0
    cpu: int = 0
    again: int | None = None


@dataclass(frozen=True)
class StartJob:
    """A process makes the first one of a new job, which lies within its own job if it has one.

    The first one is a subreaper; or, if `shared`, its parent is: several jobs then have one.
    """

    of: int = 0
    cpu: int = 0
    again: int | None = None
    shared: bool = False


@dataclass(frozen=True)
class Exec:
    """A thread calls exec: it is the process then, under the leader's pid."""

    of: int = 0
    thread: int = 0


@dataclass(frozen=True)
class ExitThread:
    """One thread exits; with the last one its process, which its parent reaps at once."""

    of: int = 0
    thread: int = 0
    code: int = 0


@dataclass(frozen=True)
class Exit:
    """All threads of a process exit, `thread` first.

    Its parent reaps it at once, or if `zombie` not yet. Init reaps whatever it has.
    """

    of: int = 0
    thread: int = 0
    code: int = 0
    signal: int = 0
    zombie: bool = False


@dataclass(frozen=True)
class ExitFamily:
    """The living children of a process exit, and then the process.

    If `within`, that is within a drain, which has read the first CPU's queue before, and goes on to
    its end then: the children that were there are read in the next drain.
    """

    of: int = 0
    within: bool = False


@dataclass(frozen=True)
class Reap:
    """A parent waits for one of the zombies."""

    which: int = 0


@dataclass(frozen=True)
class Advance:
    """Time passes, and a thread runs all the while."""

    us: int = 0
    of: int = 0
    thread: int = 0


@dataclass(frozen=True)
class LateTick:
    """From now on the kernel's second is late: its tick does not come in time."""

    us: int = 0


@dataclass(frozen=True)
class Lose:
    """The next record of a CPU finds no room in its queue."""

    cpu: int = 0


@dataclass(frozen=True)
class Read:
    """A drain goes on by one turn: a CPU's queue is read. With the last CPU the drain ends."""


@dataclass(frozen=True)
class Drain:
    """A drain goes on to its end: of those CPUs that are left, if `Read` has begun it."""


Step: TypeAlias = (
    Fork
    | DoubleFork
    | StartThread
    | StartJob
    | Exec
    | ExitThread
    | Exit
    | ExitFamily
    | Reap
    | Advance
    | LateTick
    | Lose
    | Read
    | Drain
)


# ---- what is true ----------------------------------------------------------------------------


@dataclass(eq=False)
class Job:
    """A job.

    Attributes:
        number: From 0, in the order of their starts.
        root: Its first process.
        within: The job that this process's maker was of.
    """

    number: int
    root: "Process" = field(repr=False)
    within: "Job | None"

    @property
    def enclosing(self) -> "list[Job]":
        """Itself, and the jobs that it lies within, the innermost first."""
        return [self, *(self.within.enclosing if self.within else [])]


@dataclass(eq=False)
class Thread:
    """A thread that has not been released.

    Attributes:
        pid: Its id.
        process: Whose it is.
        cpu: Where it runs, and exits.
        started_us: When it was made, since the boot.
        run_ns: What it has run.
        code: Its wait status.
        flags: Of its end.
        exited: It has exited; as a leader, it is a zombie.
    """

    pid: int
    process: "Process" = field(repr=False)
    cpu: int
    started_us: int
    run_ns: int = 1000
    code: int = 0
    flags: int = 0
    exited: bool = False


@dataclass(eq=False)
class Process:
    """A process: one life of a pid, which is another one than the next life of the same.

    Attributes:
        number: From 0 for init, in the order of their starts: its identity, as its pid is not.
        maker: The process that made it; None of init.
        parent: The process that is its parent now.
        job: The innermost job that it is of, by who made whom.
        subreaper: It is given the orphans below it.
        uid, comm, inode: What it is.
        forked: It has not called exec.
        leader: Its leader, a zombie perhaps.
        threads: The living ones.
        sums: Of those that have exited, once one of several has.
        children: Those that have not been reaped.
    """

    number: int
    maker: "Process | None" = field(repr=False)
    parent: "Process | None" = field(init=False, repr=False)
    job: Job | None = field(init=False)
    subreaper: bool = False
    uid: int = 0
    comm: bytes = b"init"
    inode: int = 1
    forked: bool = False
    leader: Thread = field(init=False)
    threads: list[Thread] = field(default_factory=list, repr=False)
    sums: dict[str, int] | None = None
    children: "list[Process]" = field(default_factory=list, repr=False)

    def __post_init__(self) -> None:
        self.parent = self.maker
        self.job = None
        if self.maker:
            like = self.maker
            self.job, self.uid, self.comm, self.inode = like.job, like.uid, like.comm, like.inode
            self.forked = True

    @property
    def tgid(self) -> int:
        """Its id."""
        return self.leader.pid


@dataclass(frozen=True)
class Ended:
    """One exit of a thread, and what is true of it.

    Attributes:
        process: Whose thread it was.
        job: The innermost job that this process was of.
        last: It was the last thread of its process.
        cpu, seq: Where its record was queued, and with what number.
        lost: It found no room there.
        ended_us: When, since the boot.
        run_ns: How long the thread had run.
        datagram: The record.
    """

    process: Process
    job: Job | None
    last: bool
    cpu: int
    seq: int
    lost: bool
    ended_us: int
    run_ns: int
    datagram: bytes = field(repr=False)


@dataclass(frozen=True)
class Drained:
    """What one drain has read.

    Attributes:
        received_ns: When it began, which each record says: some may have come later.
        batches: The records.
        truth: What is true of each record, in their order.
    """

    received_ns: int
    batches: list[Batch]
    truth: list[Ended]


# ---- the history -----------------------------------------------------------------------------


class History:
    """A history that is played from drain to drain.

    Args:
        steps: What happens.
        n_cpus: How many CPUs there are.
        batch_rows: The most records of a batch.

    Attributes:
        started: Is called with each job as it starts: its first process is there, and has done
            nothing. It may look up.
        init: Pid 1, which lives for ever.
        jobs: Those that have started.
        ended: All exits, in their order.
        lost: Those whose records were lost.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        n_cpus: int = 2,
        batch_rows: int = BATCH_ROWS,
    ) -> None:
        self._told = f"History({steps!r}, {n_cpus}, {batch_rows})"
        # What is left in the queues is read in the end: a drain that has begun does not get all.
        self._steps = iter([*steps, Drain(), Drain()])
        self.started: Callable[[Job], object] = lambda _: None
        self._batch_rows = batch_rows
        self._now_us = 10_000_000
        self._late_us = 0
        self._numbers = itertools.count()
        self._pids = itertools.count(_FIRST_PID)
        self._free: list[int] = []
        self._by_pid: dict[int, Thread] = {}
        self._queues: list[deque[Ended]] = [deque() for _ in range(n_cpus)]
        self._seqs = [0] * n_cpus
        self._losing = [0] * n_cpus
        self._untold = [0] * n_cpus
        self._turn = 0
        self._read: list[tuple[Ended, int]] = []
        self._received_ns = 0
        self.jobs: list[Job] = []
        self.ended: list[Ended] = []
        self.init = Process(next(self._numbers), None)
        self.init.leader = self._add(Thread(_INIT, self.init, cpu=0, started_us=0))
        self._alive: list[Process] = []

    def __repr__(self) -> str:
        return self._told

    def next_drain(self) -> Drained | None:
        """Goes on to the end of the next drain; None if the history is at its end."""
        for step in self._steps:
            drained = self._do(step)
            if drained is not None:
                return drained
        return None

    def __iter__(self) -> Iterator[Drained]:
        return iter(self.next_drain, None)

    @property
    def lost(self) -> list[Ended]:
        return [one for one in self.ended if one.lost]

    @property
    def told_lost(self) -> int:
        """What the stream would say it has lost (`taskstats.ExitStats.lost`)."""
        return len(self.lost)

    @property
    def alive(self) -> Sequence[Process]:
        """The living processes without init, the oldest first."""
        return self._alive

    def look_up(self, pids: Iterable[int]) -> Batch:
        """What `taskstats.Client.pids` would answer now."""
        answers, errors = [], {}
        for seq, pid in enumerate(pids):
            thread = self._by_pid.get(pid)
            if thread is None:
                errors[pid] = errno.ESRCH
            else:
                answers.append(_datagram(self._values(thread), None, seq, port=1))
        return Batch(taskstats.decode(b"".join(answers)).data if answers else b"", errors=errors)

    # -- steps

    def _do(self, step: Step) -> Drained | None:
        match step:
            case Fork():
                made = self._new_process(self._maker(step.of), step.cpu, step.again)
                if step.subreaper:
                    self._make_subreaper(made)
            case DoubleFork():
                middle = self._new_process(self._maker(step.of), step.cpu, step.again)
                self._new_process(middle, step.cpu, None)
                self._exit(middle, 0, 0, 0, False)
            case StartThread() if self._alive:
                self._new_thread(_chosen(self._alive, step.of), step.cpu, step.again)
            case StartJob():
                self._start_job(step)
            case Exec() if self._alive:
                process = _chosen(self._alive, step.of)
                self._exec(_chosen(process.threads, step.thread))
            case ExitThread() if self._alive:
                process = _chosen(self._alive, step.of)
                self._tick()
                self._exit_thread(_chosen(process.threads, step.thread), step.code << 8, 0)
                self._end(process, zombie=False)
            case Exit() if self._alive:
                process = _chosen(self._alive, step.of)
                self._exit(process, step.thread, step.code, step.signal, step.zombie)
            case ExitFamily() if self._alive:
                return self._exit_family(_chosen(self._alive, step.of), step.within)
            case Reap() if zombies := self._zombies():
                self._reap(_chosen(zombies, step.which))
            case Advance() if self._alive:
                process = _chosen(self._alive, step.of)
                self._pass(step.us, _chosen(process.threads, step.thread))
            case Advance():
                self._pass(step.us)
            case LateTick():
                self._late_us = step.us
            case Lose():
                self._lose(step.cpu % len(self._queues))
            case Read():
                return self._read_one()
            case Drain():
                return self._read_rest()
        return None

    def _maker(self, n: int) -> Process:
        return _chosen([self.init, *self._alive], n)

    def _zombies(self) -> list[Process]:
        leaders = (thread.process for thread in self._by_pid.values() if thread.exited)
        return [process for process in leaders if not process.threads]

    def _tick(self) -> int:
        """The time, which goes on: no two tasks begin at once."""
        self._pass(1)
        return self._now_us

    def _pass(self, us: int, running: Thread | None = None) -> None:
        self._now_us += us
        if running is not None:
            running.run_ns += us * 1000

    # -- beginnings

    def _pid(self, again: int | None) -> int:
        if again is None or not self._free:
            return next(self._pids)
        return self._free.pop(-1 - again % len(self._free))

    def _new_process(self, maker: Process, cpu: int, again: int | None) -> Process:
        made = Process(next(self._numbers), maker)
        made.leader = self._new_thread(made, cpu, again)
        maker.children.append(made)
        self._alive.append(made)
        return made

    def _new_thread(self, process: Process, cpu: int, again: int | None) -> Thread:
        return self._add(Thread(self._pid(again), process, cpu % len(self._queues), self._tick()))

    def _add(self, thread: Thread) -> Thread:
        thread.process.threads.append(thread)
        self._by_pid[thread.pid] = thread
        return thread

    def _start_job(self, step: StartJob) -> None:
        maker = self._maker(step.of)
        root = self._new_process(maker, step.cpu, step.again)
        root.job = Job(len(self.jobs), root, maker.job)
        self._set_uid(root, 1000 + root.job.number)
        self._make_subreaper(maker if step.shared else root)
        self.jobs.append(root.job)
        self.started(root.job)

    def _set_uid(self, process: Process, uid: int) -> None:
        process.uid = uid

    def _make_subreaper(self, process: Process) -> None:
        process.subreaper = True

    def _exec(self, thread: Thread) -> None:
        process = thread.process
        self._tick()
        for other in [one for one in process.threads if one is not thread]:
            self._leave(other, 0, AXSIG)
        if process.leader is not thread:
            old = process.leader
            self._release(thread)  # its own id; the leader's is not free for a moment
            thread.pid, thread.started_us = old.pid, old.started_us
            process.leader = self._by_pid[thread.pid] = thread
        process.forked = False
        process.inode = 100 + process.number
        process.comm = b"program-%d" % process.number

    # -- ends

    def _exit(self, process: Process, first: int, code: int, signal: int, zombie: bool) -> None:
        thread = _chosen(process.threads, first)
        for one in [thread, *(other for other in process.threads if other is not thread)]:
            self._tick()
            self._exit_thread(one, signal or code << 8, AXSIG if signal else 0)
        self._end(process, zombie)

    def _exit_family(self, process: Process, within: bool) -> Drained | None:
        # A drain of one turn has no middle.
        begins = within and self._turn == 0 and self._turns > 1
        if begins:
            self._read_one()
        for child in [one for one in process.children if one.threads]:
            self._exit(child, 0, 0, 0, zombie=False)
        self._exit(process, 0, 0, 0, zombie=False)
        return self._read_rest() if begins else None

    def _exit_thread(self, thread: Thread, code: int, flags: int) -> None:
        """A thread exits by itself, or by a signal."""
        self._leave(thread, code, flags)

    def _leave(self, thread: Thread, code: int, flags: int) -> None:
        """Its record is made, and a thread that does not lead is gone."""
        process = thread.process
        last = process.threads == [thread]
        if process.sums is None and not last:
            process.sums = dict.fromkeys(_SUMMED, 0)
        thread.code, thread.flags = code, flags
        values = self._values(thread)
        if process.sums is not None:
            for name in _SUMMED:
                process.sums[name] += values[name]
        self._queue(thread, values | {"ac_flag": values["ac_flag"] | AGROUP * last}, last)
        process.threads.remove(thread)
        thread.exited = True
        if process.leader is not thread:
            self._release(thread)

    def _queue(self, thread: Thread, values: dict[str, Any], last: bool) -> None:
        process, cpu = thread.process, thread.cpu
        lost = self._losing[cpu] > 0
        group = process.sums if last else None
        seq = self._seqs[cpu]
        datagram = _datagram(values, group, seq)
        ended = Ended(
            process, process.job, last, cpu, seq, lost, self._now_us, thread.run_ns, datagram
        )
        self._seqs[cpu] += 1
        self._losing[cpu] -= lost
        self.ended.append(ended)
        self._queues[cpu].append(ended)

    def _end(self, process: Process, zombie: bool) -> None:
        """What becomes of a process without threads, and of its children."""
        if process.threads:
            return
        self._alive.remove(process)
        heir = self._heir(process)
        for child in process.children:
            child.parent = heir
        heir.children += process.children
        process.children = []
        if not zombie:
            self._reap(process)
        for child in [one for one in self.init.children if not one.threads]:
            self._reap(child)

    def _heir(self, process: Process) -> Process:
        above = process.parent
        while above is not None and not above.subreaper:
            above = above.parent
        return above or self.init

    def _reap(self, process: Process) -> None:
        assert process.parent is not None
        process.parent.children.remove(process)
        self._release(process.leader)

    def _release(self, thread: Thread) -> None:
        del self._by_pid[thread.pid]
        self._free.append(thread.pid)

    # -- records

    def _values(self, thread: Thread) -> dict[str, Any]:
        """What the kernel says of a task now."""
        process = thread.process
        elapsed = self._age_us(thread)
        # As the kernel works it out: whole seconds of now less whole seconds of the elapsed time.
        began = (_BOOTED_US + self._now_us - self._late_us) // 10**6 - elapsed // 10**6
        zombie = thread.exited
        forked = process.forked and process.leader is thread
        return {
            "ac_exitcode": thread.code,
            "ac_flag": thread.flags | AFORK * forked,
            "cpu_count": 1,
            "cpu_run_virtual_total": thread.run_ns,
            "ac_comm": process.comm,
            "ac_uid": process.uid,
            "ac_gid": process.uid,
            "ac_pid": thread.pid,
            "ac_tgid": process.tgid,
            "ac_ppid": process.parent.tgid if process.parent else 0,
            "ac_btime": began,
            "ac_btime64": began,
            "ac_etime": elapsed,
            "ac_tgetime": self._age_us(process.leader),
            "hiwater_rss": 0 if zombie else 100 + process.number,
            "ac_exe_dev": 0 if zombie else _DEVICE,
            "ac_exe_inode": 0 if zombie else process.inode,
        }

    def _age_us(self, thread: Thread) -> int:
        return max(1, self._now_us - thread.started_us)  # whoever can be asked for has lived

    # -- reading

    @property
    def _turns(self) -> int:
        """How many turns a drain has."""
        return len(self._queues)

    def _lose(self, cpu: int) -> None:
        self._losing[cpu] += 1

    def _read_one(self) -> Drained | None:
        """Takes the next turn of a drain; with the last one it has ended."""
        if self._turn == 0:
            self._received_ns = (_BOOTED_US + self._now_us) * 1000
        self._read_queue(self._turn)
        self._turn = (self._turn + 1) % self._turns
        return None if self._turn else self._drained()

    def _read_queue(self, cpu: int) -> None:
        for ended in self._queues[cpu]:
            self._untold[cpu] += ended.lost
            if not ended.lost:
                self._read.append((ended, self._untold[cpu]))
                self._untold[cpu] = 0
        self._queues[cpu].clear()

    def _drained(self) -> Drained:
        read, self._read = self._read, []
        parts = [read[at : at + self._batch_rows] for at in range(0, len(read), self._batch_rows)]
        batches = [_batch(part, self._received_ns) for part in parts]
        return Drained(self._received_ns, batches, [ended for ended, _ in read])

    def _read_rest(self) -> Drained:
        while (drained := self._read_one()) is None:
            pass
        return drained


def _chosen(among: Sequence[T], n: int) -> T:
    return among[n % len(among)]


def _datagram(
    values: dict[str, Any], group: dict[str, int] | None, seq: int, port: int = 0
) -> bytes:
    size = wire.SIZES[VERSION]
    parts = [wire.aggregate("task", values["ac_pid"], wire.pack(VERSION, size, values, fill=0))]
    if group is not None:
        stats = wire.pack(VERSION, size, group, fill=0)
        parts.append(wire.aggregate("group", values["ac_tgid"], stats))
    return wire.message(*parts, seq=seq, port=port)


def _batch(read: Sequence[tuple[Ended, int]], received_ns: int) -> Batch:
    """What the listener makes of these; each with how many were lost before it on its CPU."""
    made = taskstats.decode(b"".join(ended.datagram for ended, _ in read))
    tasks, groups = bytearray(made.data), bytearray(made.groups.data)
    for row, (ended, lost) in enumerate(read):
        head(tasks, row, cpu=ended.cpu, received_ns=received_ns, lost_before=lost)
        if lost:
            head(tasks, row, flags=made.columns["flags"][row] | LOST_BEFORE)
    cpus = [ended.cpu for ended, _ in read if ended.last and ended.process.sums is not None]
    for row, cpu in enumerate(cpus):
        head(groups, row, cpu=cpu, received_ns=received_ns)
    return Batch(bytes(tasks), Batch(bytes(groups), kind="group"))


def head(rows: bytearray, row: int, **values: int) -> None:
    """Writes into a row's header."""
    for name, value in values.items():
        at, format_ = HEADER[name]
        struct.pack_into("=" + format_, rows, row * ROW + at, value)


# ---- strategies ------------------------------------------------------------------------------

_some = st.integers(-3, 3)  # 0 is the oldest, or init; -1 the newest
_again = st.none() | st.integers(0, 2)
_made = {"of": _some, "cpu": st.integers(0, 2), "again": _again}
_codes = st.sampled_from([0, 1, 137])

#: What happens most often stands here twice; a history shrinks towards the first ones.
steps: st.SearchStrategy[Step] = st.one_of(
    st.builds(Fork, **_made, subreaper=st.booleans()),
    st.builds(Exit, _some, _some, _codes, st.sampled_from([0, 9]), st.booleans()),
    st.builds(StartJob, **_made, shared=st.booleans()),
    st.builds(Drain),
    st.builds(Read),
    st.builds(DoubleFork, **_made),
    st.builds(ExitFamily, _some, st.booleans()),
    st.builds(StartThread, **_made),
    st.builds(ExitThread, _some, _some, _codes),
    st.builds(Exec, _some, _some),
    st.builds(Reap, _some),
    st.builds(Advance, st.integers(0, 3_000_000), _some, _some),
    st.builds(LateTick, st.integers(0, 900_000)),
    st.builds(Lose, st.integers(0, 2)),
    st.builds(Fork, **_made, subreaper=st.just(False)),
    st.builds(Exit, _some, _some, _codes),
)


#: A list is of half a dozen most often; the second kind shrinks to one of the first.
step_lists = st.lists(steps, max_size=80) | st.lists(steps, min_size=30, max_size=80)


def histories() -> st.SearchStrategy[History]:
    """Histories of some dozens of steps, to be played once each."""
    return st.builds(
        History, step_lists, st.sampled_from([1, 2, 2, 3]), st.sampled_from([BATCH_ROWS, 2])
    )
