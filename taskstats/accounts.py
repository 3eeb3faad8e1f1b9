"""What a job has used."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass

from taskstats.totals import Totals

#: The command name under which those beyond 1,024 are added up.
OTHERS = "(other commands)"


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
        start_ns: When it started, ns of CLOCK_BOOTTIME; with the pid it identifies the process.
            None where the record has none.
        maker_pid: The process that made it; None if its birth was not reported.
        maker_start_ns: When that started; None likewise.
    """

    pid: int
    ppid: int
    comm: str
    cpu_ns: int
    elapsed_us: int
    status: int
    received_ns: int
    start_ns: int | None = None
    maker_pid: int | None = None
    maker_start_ns: int | None = None


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
        start_ns: When it started, ns of CLOCK_BOOTTIME; None if its birth was not reported.
    """

    pid: int
    ppid: int
    comm: str
    threads: int
    cpu_ns: int
    elapsed_us: int
    peak_rss_bytes: int | None
    start_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Usage:
    """What a job has used.

    Attributes:
        id: The job's.
        root: The pid of its root; None of a job by cgroup.
        attached: It ran already when it was attached to: what had ended before is unknown.
        total: All its processes that have ended, with those of jobs within it.
        commands: The same by command name. Beyond 1,024 names, OTHERS.
        executables: The same by device and inode of the executable.
        living: Its living processes, if they were asked for.
        unclear: Living processes that may belong to the job, and are not in `living`.
        processes: The processes that have ended, as far as they are remembered.
        forgotten: How many have ended and are not in `processes`.
        lost: Records that the stream has lost while it ran: its own or others'.
        undecided: Records that may be of one of its processes, or not. They are in no sum.
        evicted: Records of its processes that found no room in the tracker. They are in no sum.
        births_lost: Whether the probe has lost births while it had processes: the job may have
            processes that no birth reported.
        settled_until: What was read before this moment (ns since the epoch) has been assigned to
            its jobs; None if nothing waits.
    """

    id: Hashable
    root: int | None
    attached: bool
    total: Totals
    commands: Mapping[str, Totals]
    executables: Mapping[tuple[int, int], Totals]
    living: tuple[LivingProcess, ...]
    unclear: int
    processes: tuple[EndedProcess, ...]
    forgotten: int
    lost: int
    undecided: int
    evicted: int
    births_lost: bool
    settled_until: int | None

    @property
    def complete(self) -> bool:
        """Whether it is proven that all processes that ended before `settled_until` are in it.

        The job was followed from its start, the stream has lost no record and the probe no birth
        since then, and no record is left that may be the job's.
        """
        missing = self.lost + self.undecided + self.evicted + self.births_lost
        return not self.attached and not missing
