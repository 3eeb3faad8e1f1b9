"""What a job has used: as it is told, and the account of it that grows."""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from taskstats.processes import Process
from taskstats.rows import text_of
from taskstats.sums import FINAL_CPU, LAYOUTS, Reading
from taskstats.totals import Tally, Totals

#: The command name under which those beyond 1,024 are added up.
OTHERS = "(other commands)"

_MOST_COMMANDS = 1024  # of one job, up to 60 KB each; what comes then is added up as one

#: A command name as it stands in the row, device and inode of the executable.
_Command: TypeAlias = tuple[bytes, int, int]

#: What is remembered of a process: when its end was read, and `_ABOUT` of it.
_Remembered: TypeAlias = tuple[int, tuple[Any, ...]]
_ABOUT = (
    *("ac_tgid", "ac_ppid", "ac_comm", "cpu_run_virtual_total", FINAL_CPU, "ac_tgetime"),
    "ac_exitcode",
)

# Width of a reading -> what takes these values of it.
_COMMAND_OF = {one.width: one.getter("ac_comm", "ac_exe_dev", "ac_exe_inode") for one in LAYOUTS}
_ABOUT_OF = {one.width: one.getter(*_ABOUT) for one in LAYOUTS}


@dataclass(frozen=True, slots=True)
class EndedProcess:
    """A process of a job that has ended, as it is remembered for the job's tree.

    Attributes:
        pid: Its id (the kernel's tgid).
        ppid: Its parent's, when it ended: of an orphan, who inherited it.
        comm: Its command name.
        cpu_ns: Its time on a CPU: the final figure where it is known, else cpu_run_virtual_total.
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
        """Whether no record of a process that ended before `settled_until` can be missing.

        That holds of a job with a subreaper of its own that has outlived the rest of it.
        """
        missing = self.lost + self.unattributed + self.ambiguous + self.evicted
        return not self.attached and not missing


@dataclass(eq=False, slots=True)
class Account:
    """What a job has used so far, and what of it is uncertain.

    Attributes:
        id, root, subreaper, attached: As JobTracker.start and JobTracker.attach have been told.
        number: From 0, in the order of their beginnings.
        remember: The most ended processes to remember.
        outer: Of the job that it is, or was when it was closed, within; see `put_within`.
        inner: Those of jobs within it, and not within another one of these.
        tallies: By command name and executable.
        processes: Those remembered.
        forgotten: Processes that are not remembered.
        lost, unattributed, ambiguous, evicted: As in Usage.
        closed: What is of it is told to nobody any more.
    """

    id: Hashable
    root: int
    subreaper: int | None
    attached: bool
    number: int
    remember: int
    outer: "Account | None" = None
    inner: "set[Account]" = field(default_factory=set)
    tallies: dict[_Command, Tally] = field(default_factory=dict)
    processes: list[_Remembered] = field(default_factory=list)
    forgotten: int = 0
    lost: int = 0
    unattributed: int = 0
    ambiguous: int = 0
    evicted: int = 0
    closed: bool = False

    def put_within(self, outer: "Account | None") -> None:
        """Says which job it is within; None for none."""
        if self.outer:
            self.outer.inner.discard(self)
        if outer:
            outer.inner.add(self)
        self.outer = outer

    def close(self) -> None:
        """Gives what it has, and the jobs within it, to the one that it is within."""
        self.closed = True
        for inner in list(self.inner):
            inner.put_within(self.outer)
        if self.outer:
            self.outer.inner.remove(self)
            self.outer.add_account(self)

    @property
    def open(self) -> "Account | None":
        """It, or the nearest one that it is within, that has not been closed."""
        return next((one for one in self.lineage() if not one.closed), None)

    def lineage(self) -> Iterator["Account"]:
        """It, and those that it is within, the nearest first."""
        one: Account | None = self
        while one:
            yield one
            one = one.outer

    def _with_inner(self) -> Iterator["Account"]:
        """It, and all those of jobs within it."""
        left = [self]
        while left:
            one = left.pop()
            left += one.inner
            yield one

    def add_rows(self, readings: Sequence[Reading], received: int) -> None:
        """Adds processes that never had a second thread, of one batch."""
        command_of, about_of = _COMMAND_OF[len(readings[0])], _ABOUT_OF[len(readings[0])]
        by_command: defaultdict[_Command, list[Reading]] = defaultdict(list)
        for reading in readings:
            by_command[command_of(reading)].append(reading)
        for command, of_it in by_command.items():
            self._tally(command).add(of_it)
        room = max(0, self.remember - len(self.processes))
        self.processes += [(received, about_of(reading)) for reading in readings[:room]]
        self.forgotten += len(readings[room:])

    def add_process(self, process: Process, received: int) -> None:
        """Adds a process of several threads."""
        record, comm = process.record, process.comm.encode()
        self._tally((comm, record.ac_exe_dev, record.ac_exe_inode)).add_process(process)
        lived, word = record.ac_tgetime, record.ac_exitcode
        about = process.pid, process.ppid, comm, process.cpu_ns, 0, lived, word
        self._remember([(received, about)])

    def add_account(self, other: "Account") -> None:
        """Adds what a job within it has used."""
        for key, tally in other.tallies.items():
            self._tally(key).add_tally(tally)
        self._remember(other.processes)
        self.forgotten += other.forgotten

    def _tally(self, key: _Command) -> Tally:
        found = self.tallies.get(key)
        if found is None:
            if len(self.tallies) >= _MOST_COMMANDS:
                key = OTHERS.encode(), 0, 0
            found = self.tallies.setdefault(key, Tally())
        return found

    def _remember(self, processes: Sequence[_Remembered]) -> None:
        room = max(0, self.remember - len(self.processes))
        self.processes += processes[:room]
        self.forgotten += len(processes[room:])

    def usage(
        self,
        fields: Iterable[str],
        living: tuple[LivingProcess, ...],
        unclear: int,
        settled_until: int | None,
    ) -> Usage:
        """What is told of it, those within it included; their records have these fields."""
        whole = Account(self.id, self.root, None, self.attached, self.number, self.remember)
        for one in self._with_inner():
            whole.add_account(one)
        total = Tally()
        commands: dict[str, Tally] = {}
        executables: dict[tuple[int, int], Tally] = {}
        for (comm, dev, inode), tally in whole.tallies.items():
            total.add_tally(tally)
            commands.setdefault(_name(comm), Tally()).add_tally(tally)
            executables.setdefault((dev, inode), Tally()).add_tally(tally)
        return Usage(
            id=self.id,
            root=self.root,
            attached=self.attached,
            total=total.totals(fields),
            commands={name: tally.totals(fields) for name, tally in commands.items()},
            executables={key: tally.totals(fields) for key, tally in executables.items()},
            living=living,
            unclear=unclear,
            processes=tuple(
                EndedProcess(pid, ppid, _name(comm), final or cpu, lived, word, received)
                for received, (pid, ppid, comm, cpu, final, lived, word) in whole.processes
            ),
            forgotten=whole.forgotten,
            lost=self.lost,
            unattributed=self.unattributed,
            ambiguous=self.ambiguous,
            evicted=self.evicted,
            settled_until=settled_until,
        )


def _name(comm: bytes) -> str:
    """A command name that may have NULs behind it, as text."""
    return text_of(comm.partition(b"\0")[0])
