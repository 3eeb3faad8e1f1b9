"""The emulated kernel's tasks: threads, processes, and what they have used."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from taskstats.emulator.hierarchy import ControlGroup
from taskstats.emulator.options import NO_TEARDOWN, Teardown
from taskstats.fields import FIELDS

State: TypeAlias = Literal[
    "running", "sleeping", "uninterruptible", "stopped", "io wait", "freezable"
]

#: What the kernel works out by itself; nothing that a test could charge a task with.
WORKED_OUT = frozenset(
    {
        *("ac_comm", "ac_pid", "ac_tgid", "ac_ppid", "ac_uid", "ac_gid", "ac_exitcode"),
        *("ac_etime", "ac_tgetime", "ac_btime", "ac_btime64"),
    }
)

#: What follows from user and system time where nobody said otherwise: how much of it is a
#: microsecond of each.
_FOLLOWS = {
    "cpu_run_real_total": (1000, 1000),
    "cpu_run_virtual_total": (1000, 1000),
    "cpu_scaled_run_real_total": (1000, 1000),
    "ac_utimescaled": (1, 0),
    "ac_stimescaled": (0, 1),
}

_COMM_LENGTH = 15
_FIRST_PID = 1000

#: How long the machine was suspended after init had started: CLOCK_BOOTTIME is so much ahead.
_SUSPENDED_NS = 1000 * 10**9


@dataclass(eq=False, slots=True)
class Process:
    """What the threads of a group share (the kernel's signal_struct).

    Attributes:
        leader: Its leader, also once that has exited.
        parent: The process that it is a child of; None for init.
        children: Those that nobody has reaped.
        subreaper: It is given the orphans below it.
        threads: Those not yet released: living ones, and a leader that has exited.
        sums: Sums over the threads that have exited; None before the first of several has.
    """

    leader: "Task"
    parent: "Process | None"
    children: "set[Process]" = field(default_factory=set, repr=False)
    subreaper: bool = False
    threads: "list[Task]" = field(default_factory=list)
    sums: dict[str, int] | None = None

    @property
    def living(self) -> "list[Task]":
        """The threads that have not exited."""
        return [task for task in self.threads if not task.exited]


@dataclass(eq=False, slots=True)
class Task:
    """A task, in the kernel's words one pid: a thread.

    Attributes:
        pid: Its id.
        comm: Its name.
        cpu: Where it runs, and exits.
        uid, gid: Real ids.
        vpid: Its id in the PID namespace of a caller that is in another than the initial one; None
            if it is not in that. Init plays its pid 1 until a task is spawned with that.
        started_ns: When it was made, by the kernel's monotonic clock.
        start_ns: When it was made, by CLOCK_BOOTTIME: no two tasks at once.
        cgroup: Its cgroup in the hierarchy that a probe names; see `EmulatedKernel.move`.
        teardown: What it does after its record was sent. It may be set.
        state: What it is doing, for a cgroup's counts.
        used: What it was said to have used or was given: field -> value, by the kernel's names.
        forked: It has not called exec since the fork.
        exited: It has exited; a leader stays a zombie until it is reaped.
        exit_code: As wait(2) gives it.
        flags: Bits of ac_flag that its end has set.
        process: Its group.
    """

    pid: int
    comm: bytes
    cpu: int
    uid: int
    gid: int
    vpid: int | None
    started_ns: int
    start_ns: int
    cgroup: ControlGroup
    teardown: Teardown = NO_TEARDOWN
    state: State = "running"
    used: dict[str, int] = field(default_factory=dict)
    forked: bool = True
    exited: bool = False
    exit_code: int = 0
    flags: int = 0
    process: Process = field(init=False)

    def __repr__(self) -> str:
        return f"<Task {self.pid} {self.comm.decode('utf-8', 'backslashreplace')!r}>"

    @property
    def tgid(self) -> int:
        """The id of its group."""
        return self.process.leader.pid

    @property
    def is_leader(self) -> bool:
        """Whether it leads its group."""
        return self.process.leader is self

    @property
    def parent(self) -> "Task | None":
        """The leader of the process that it is a child of now; None for init."""
        return self.process.parent.leader if self.process.parent else None

    @property
    def subreaper(self) -> bool:
        """Whether its process is given the orphans below it (prctl's PR_SET_CHILD_SUBREAPER).

        It may be set. A process that it makes does not have it; an exec keeps it.
        """
        return self.process.subreaper

    @subreaper.setter
    def subreaper(self, on: bool) -> None:
        self.process.subreaper = on

    @property
    def figures(self) -> dict[str, int]:
        """What it has used: what was said, and what holds of any task where nobody said otherwise.
        It had to wait for a CPU to start at all, and times follow from user and system time.
        """
        user, system = (self.used.get(name, 0) for name in ("ac_utime", "ac_stime"))
        follow = {name: user * per[0] + system * per[1] for name, per in _FOLLOWS.items()}
        return {"cpu_count": 1} | follow | self.used

    def add(self, **amounts: int) -> None:
        """Adds to what it has used: `add(ac_utime=2_000_000, nvcsw=3)`; units as in `FIELDS`.

        `cpu_run_real_total`, `cpu_run_virtual_total`, `cpu_scaled_run_real_total`, `ac_utimescaled`
        and `ac_stimescaled` follow from `ac_utime` and `ac_stime` until they are added to, or given
        to `spawn`. From then on they are what was said, and what `advance` makes of it.
        """
        before = self.figures
        for name, value in checked(amounts).items():
            self.used[name] = fits(name, before.get(name, 0) + value)

    def run(self, us: int) -> None:
        """It was in user mode: `ac_utime` grows, and what follows, whether or not it was added to.

        Args:
            us: For how long, microseconds.
        """
        said = {name: us * per[0] for name, per in _FOLLOWS.items() if name in self.used}
        self.add(ac_utime=us, **said)

    def rename(self, comm: str | bytes) -> None:
        """Gives it another name (prctl's PR_SET_NAME)."""
        self.comm = comm_of(comm)


def pid_of(task: Task | None) -> int:
    """A task's id in the initial namespace; 0 for none."""
    return task.pid if task else 0


def comm_of(comm: str | bytes) -> bytes:
    """A name as the kernel keeps it."""
    return (comm.encode() if isinstance(comm, str) else comm)[:_COMM_LENGTH]


def checked(amounts: Mapping[str, int]) -> Mapping[str, int]:
    """What a task may be charged with.

    Raises:
        TypeError: No field of that name, or one that the kernel works out; no integer.
        ValueError: More than the field holds.
    """
    for name, amount in amounts.items():
        if name not in FIELDS:
            raise TypeError(f"the kernel's struct has no field {name!r}")
        if name in WORKED_OUT:
            raise TypeError(f"{name} is worked out by the kernel")
        if not isinstance(amount, int):
            raise TypeError(f"{name} is an integer, not {amount!r}")
        fits(name, amount)
    return amounts


def fits(name: str, number: int) -> int:
    """The number, if the field can hold it.

    Raises:
        ValueError: It cannot.
    """
    bits = 8 if FIELDS[name].format in "bB" else 32 if FIELDS[name].format == "I" else 64
    least = -(2**7) if FIELDS[name].format == "b" else 0
    if not least <= number < least + 2**bits:
        raise ValueError(f"{name} has {bits} bits, too few for {number}")
    return number


class Tasks:
    """All tasks, by id, and the clock that they live by.

    Attributes:
        now_ns: The kernel's monotonic clock.
        booted: When it was 0, seconds since the epoch.
        init: Pid 1.
    """

    def __init__(self, root: ControlGroup) -> None:
        self.now_ns = 100 * 10**9
        self.booted = 1_767_225_600  # the beginning of 2026
        self._by_pid: dict[int, Task] = {}
        self._next_pid = _FIRST_PID
        self._last_start_ns = 0
        self.init = self.spawn(b"init", 1, None, None, cpu=0, uid=0, gid=0, vpid=1, cgroup=root)
        self.init.started_ns = 0
        self.init.start_ns = 1
        self._last_start_ns = 0
        self.init.forked = False

    def __iter__(self) -> Iterator[Task]:
        return iter(list(self._by_pid.values()))

    def spawn(
        self,
        comm: bytes,
        pid: int | None,
        parent: Task | None,
        group: Task | None,
        *,
        cpu: int,
        uid: int,
        gid: int,
        vpid: int | None,
        cgroup: ControlGroup,
    ) -> Task:
        """A new process, or a new thread of a group.

        Raises:
            ValueError: The pid is taken, the group or the parent has exited, or an id is none.
        """
        fits("ac_uid", uid)
        fits("ac_gid", gid)
        if not all(one is None or 0 < one < 2**31 for one in (pid, vpid)):
            raise ValueError(f"no pid: {pid if vpid is None else vpid}")
        if pid in self._by_pid:
            raise ValueError(f"there is a task {pid} already")
        for maker in (group, parent):
            if maker is not None and not maker.process.living:
                raise ValueError(f"{maker!r} has exited")
        if cgroup.removed:
            raise ValueError(f"the cgroup {cgroup.path} was removed")
        task = Task(
            self._free_pid() if pid is None else pid,
            comm,
            cpu,
            uid,
            gid,
            vpid,
            self.now_ns,
            self.next_start_ns(),
            cgroup,
        )
        if group is not None:
            task.process = group.process
        else:
            task.process = Process(task, parent.process if parent else None)
            if parent is not None:
                parent.process.children.add(task.process)
        task.process.threads.append(task)
        self._by_pid[task.pid] = task
        return task

    def next_start_ns(self) -> int:
        """The start of a task that is made now: no other task has the same."""
        self._last_start_ns = max(self._last_start_ns + 1, self.now_ns + _SUSPENDED_NS)
        return self._last_start_ns

    def _free_pid(self) -> int:
        while self._next_pid in self._by_pid:
            self._next_pid += 1
        self._next_pid += 1
        return self._next_pid - 1

    def find(self, id_: int, in_namespace: bool = False) -> Task | None:
        """The task with this id, a zombie too; in the caller's namespace by its `vpid`, of which
        the newest owner counts.
        """
        if not in_namespace:
            return self._by_pid.get(id_)
        newest_first = reversed(self._by_pid.values())
        return next((task for task in newest_first if task.vpid == id_), None)

    def id_in_namespace(self, task: Task | None) -> int:
        """A task's `vpid`; 0 if it has none, or a newer task owns it."""
        if task is None or task.vpid is None:
            return 0
        return task.vpid if self.find(task.vpid, True) in (task, None) else 0

    def end(self, task: Task, zombie: bool) -> None:
        """A task has sent its record: only a leader leaves anything behind.

        Args:
            task: It.
            zombie: If it is the last of its group, nobody reaps the leader yet.
        """
        task.exited = True
        if not task.is_leader:
            self._release(task)
        if not task.process.living:
            self._forget_children(task.process)
            if not zombie:
                self.reap(task.process.leader)

    def _forget_children(self, process: Process) -> None:
        """Its children get another parent (kernel/exit.c:forget_original_parent)."""
        if not process.children:
            return
        orphans, process.children = process.children, set()
        reaper = self._reaper_above(process)
        for orphan in orphans:
            orphan.parent = reaper
        reaper.children |= orphans

    def _reaper_above(self, process: Process) -> Process:
        """The nearest subreaper above, or else init (kernel/exit.c:find_new_reaper).

        All above are alive: whoever has exited has no children any more.
        """
        above = process.parent
        while above is not None and not above.subreaper:
            above = above.parent
        return above or self.init.process

    def reap(self, leader: Task) -> None:
        """The parent waits for a process that has exited."""
        if leader.process.living:
            raise ValueError(f"{leader!r} has not exited")
        self._release(leader)
        if leader.process.parent is not None:
            leader.process.parent.children.discard(leader.process)

    def _release(self, task: Task) -> None:
        if self._by_pid.get(task.pid) is task:
            del self._by_pid[task.pid]
            task.process.threads.remove(task)

    def lead(self, task: Task) -> None:
        """A thread that called exec takes the place of its leader, who has exited."""
        old = task.process.leader
        if old is task:
            return
        self._release(old)
        del self._by_pid[task.pid]
        task.pid, task.vpid = old.pid, old.vpid
        task.started_ns, task.start_ns = old.started_ns, old.start_ns  # fs/exec.c:de_thread
        self._by_pid[task.pid] = task
        task.process.leader = task
