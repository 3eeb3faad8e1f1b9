"""Cost: what a command and all its descendants used."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from types import MappingProxyType
from typing import Any, Literal

from taskstats import launch, tree
from taskstats.accounts import EndedProcess, Usage
from taskstats.exit_stats import ProbeStats
from taskstats.records import Delay
from taskstats.totals import DelayTotal

Source = Literal["cgroup", "wait4", "records"]

_ROUNDING_NS = 2000  # of wait4 and getrusage, for each process
_CGROUP_NS = 1_000_000  # a cgroup's time and this process's own are read one after the other

#: The keys of `Cost.to_dict`: unit, meaning. Units of nested keys are in their names.
COST_KEYS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "command": ("", "The command and its arguments"),
        "pid": ("pid", "The process of the command"),
        "exit_code": ("", "Its exit status; null if a signal ended it"),
        "exit_signal": ("", "The number of the signal that ended it; null if it exited"),
        "wall_seconds": ("s", "Elapsed time from the start of the command to its end"),
        "cpu_seconds": ("s", "CPU time of the command and all its descendants"),
        "cpu_source": (
            "",
            "Where cpu_seconds comes from: wait4; cgroup, if the command had a cgroup of its own; "
            "records, if the other two miss processes",
        ),
        "teardown_seconds": (
            "s",
            "CPU time that is in no record, cpu_seconds less the records; null if it is not known",
        ),
        "before_exec": (
            "ns, bytes",
            "What the process of the command used before its exec; total, commands and "
            "executables include it",
        ),
        "wait4": (
            "ns, bytes",
            "What wait4(2) reports of the command and of each orphan that was reaped",
        ),
        "complete": ("bool", "No record of the command or its descendants can be missing"),
        "lost": ("records", "Records that the kernel dropped meanwhile, of any process"),
        "births_lost": ("bool", "The probe lost births, so that descendants may be missing"),
        "undecided": ("records", "Records that may be of the command, and are in no sum"),
        "evicted": ("records", "Records given up for lack of room, and in no sum"),
        "unsettled": ("threads", "Threads whose final CPU time is not known"),
        "probe": ("", "Counters of the probe (ProbeStats); null without the probe"),
        "total": ("", "Totals of all processes that ended"),
        "commands": ("", "Totals by command name (comm)"),
        "executables": (
            "",
            "Totals by executable: its device (ac_exe_dev) and inode (ac_exe_inode)",
        ),
        "tree": (
            "",
            "The processes, parents first; similar processes are merged. parent is the index of "
            "the parent in this list; cpu_ns includes all processes below",
        ),
        "forgotten": ("processes", "Processes that ended and are not in tree, for lack of room"),
        "living": ("", "Descendants that are still running; they are in no sum but a cgroup's CPU"),
        "living_unclear": (
            "processes",
            "Running processes that may be descendants, or of another job",
        ),
    }
)


@dataclass(frozen=True, slots=True)
class Cost:
    """What a command and all its descendants used.

    Attributes:
        words: The command and its arguments.
        pid: The process of the command.
        ended: How it ended, and what wait4 reported.
        waited: Delays of that process before its exec, by name, when it was a copy of this one.
        usage: The sum of the records: `total`, `commands`, `executables`, `processes`, `living`.
        cgroup_ns: CPU time of the cgroup that the command had alone; None if it had none.
        settled: Whether every record from before the end of the command was assigned to a job.
        probe: What the listener's probe has seen; None if it had none.
        version: The version of the kernel's struct.
    """

    words: Sequence[str]
    pid: int
    ended: launch.Ended
    waited: Mapping[str, Delay]
    usage: Usage
    cgroup_ns: int | None
    settled: bool
    probe: ProbeStats | None = None
    version: int | None = None

    @property
    def before_ns(self) -> int:
        """CPU time of the command's process before its exec: no part of the cost."""
        return self.ended.before.user_ns + self.ended.before.system_ns

    @property
    def wait4_ns(self) -> int:
        """CPU time by wait4, of the command and all processes that were waited for."""
        return self.ended.user_ns + self.ended.system_ns

    @property
    def told_ns(self) -> int:
        """CPU time by the cgroup, running processes included; without a cgroup, by wait4."""
        return self.wait4_ns if self.cgroup_ns is None else self.cgroup_ns - self.before_ns

    @property
    def records_ns(self) -> int:
        """CPU time of processes that ended: final figures where known, else the records'."""
        return self.usage.total.cpu_ns - self.before_ns * self._was_heard_of

    @property
    def living_ns(self) -> int:
        """CPU time of descendants that are still running."""
        return sum(process.cpu_ns for process in self.usage.living)

    @property
    def source(self) -> Source:
        """Where `cpu_ns` comes from: the records if they have more than wait4 or the cgroup.

        wait4 misses a process whose parent ignores SIGCHLD or is still running
        (kernel/exit.c:wait_task_zombie). A cgroup misses a process that moved to another cgroup.
        """
        rounding = _ROUNDING_NS * self.usage.total.processes
        if self.cgroup_ns is not None:
            rounding += _CGROUP_NS
        if self.told_ns + rounding < self.records_ns:
            return "records"
        return "wait4" if self.cgroup_ns is None else "cgroup"

    @property
    def cpu_ns(self) -> int:
        """CPU time in all; running processes are included if the source is a cgroup."""
        return self.records_ns if self.source == "records" else self.told_ns

    @property
    def teardown_ns(self) -> int | None:
        """CPU time that is in no record, signed; None if it is not known.

        With the probe it is 0, but for rounding. Without, it is what processes used after their
        records were made (kernel/exit.c:do_exit), and what the scheduler had not added up by then.
        """
        if self.source == "records":
            return None
        living = self.living_ns if self.source == "cgroup" else 0
        return self.cpu_ns - self.records_ns - living

    @property
    def all_settled(self) -> bool:
        """Whether the final CPU time of each thread is known, and they add up to `cpu_ns`."""
        left = abs(self.teardown_ns or 0) > _ROUNDING_NS * (self.usage.total.processes + 1)
        return not left and self.usage.total.unsettled == 0

    @property
    def complete(self) -> bool:
        """Whether no record of a process that ended can be missing."""
        return self.usage.complete and self.settled

    def commands(self) -> dict[str, dict[str, Any]]:
        """The totals of each command name, and `cpu_ns`.

        The command's own process is in them without what it had used, waited and lived before its
        exec.
        """
        rows = {
            comm: {**totals.to_dict(), "cpu_ns": totals.cpu_ns}
            for comm, totals in self.usage.commands.items()
        }
        processes = self._processes()
        for comm in {one.comm for one in processes if one.pid == self.pid} & rows.keys():
            row = rows[comm]
            row["cpu_ns"] = self._since_exec(row["cpu_ns"])
            for key, before in self._delays_before().items():
                if key in row:
                    row[key] = max(0, row[key] - before)
            if not self.usage.forgotten:
                longest = max(one.elapsed_us for one in processes if one.comm == comm)
                row["longest_seconds"] = longest / 1e6
        return rows

    def delays(self) -> dict[str, DelayTotal]:
        """The delays by name, without those before the exec.

        A longest wait that may have been one of these is None.
        """
        before = self._delays_before()
        longest = {name: delay.max_ns or 0 for name, delay in self.waited.items()}
        longest["cpu"] = self.ended.before_waited_ns
        made = {}
        for name, delay in self.usage.total.delays.items():
            own = delay.max_ns is not None and delay.max_ns > longest.get(name, 0)
            made[name] = replace(
                delay,
                count=max(0, delay.count - before.get(f"{name}_count", 0)),
                total_ns=max(0, delay.total_ns - before.get(f"{name}_delay_total", 0)),
                max_ns=delay.max_ns if own else None,
            )
        return made

    @property
    def _was_heard_of(self) -> bool:
        """Whether the record of the command's own process is among those heard."""
        heard = reversed(self.usage.processes)  # it ends after most of them
        return bool(self.usage.forgotten) or any(one.pid == self.pid for one in heard)

    def _delays_before(self) -> dict[str, int]:
        """The kernel's name -> how often and how long the command's process waited before exec."""
        if not self._was_heard_of:
            return {}
        made = {}
        for name, delay in self.waited.items():
            made[f"{name}_count"] = delay.count
            made[f"{name}_delay_total"] = delay.total_ns
        made["cpu_count"] = self.ended.before_runs
        made["cpu_delay_total"] = self.ended.before_waited_ns
        return made

    def _since_exec(self, ns: int) -> int:
        """Of a sum with the command's process; 0 if nothing was added up since its exec."""
        used = ns - self.before_ns
        return used if used > _ROUNDING_NS else 0

    def _processes(self) -> list[EndedProcess]:
        """Those that have ended, the command's own without what was before its exec."""
        return [
            replace(
                one,
                cpu_ns=self._since_exec(one.cpu_ns),
                elapsed_us=min(one.elapsed_us, self.ended.wall_ns // 1000),
            )
            if one.pid == self.pid
            else one
            for one in self.usage.processes
        ]

    def tree(self) -> list[tree.Node]:
        """The processes as a tree."""
        return tree.grown(self._processes(), self.usage.living)

    def to_dict(self) -> dict[str, Any]:
        """COST_KEYS, ready for JSON: what `taskstats run --json` writes."""
        status, usage = self.ended.status, self.usage
        return {
            "command": list(self.words),
            "pid": self.pid,
            "exit_code": os.WEXITSTATUS(status) if os.WIFEXITED(status) else None,
            "exit_signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else None,
            "wall_seconds": self.ended.wall_ns / 1e9,
            "cpu_seconds": self.cpu_ns / 1e9,
            "cpu_source": self.source,
            "teardown_seconds": None if self.teardown_ns is None else self.teardown_ns / 1e9,
            "before_exec": {**asdict(self.ended.before), **self._delays_before()},
            "wait4": asdict(self.ended.usage),
            "complete": self.complete,
            "lost": usage.lost,
            "births_lost": usage.births_lost,
            "undecided": usage.undecided,
            "evicted": usage.evicted,
            "unsettled": usage.total.unsettled,
            "probe": asdict(self.probe) if self.probe else None,
            "total": usage.total.to_dict(),
            "commands": [
                {"comm": comm, **totals.to_dict()} for comm, totals in usage.commands.items()
            ],
            "executables": [
                {"ac_exe_dev": dev, "ac_exe_inode": inode, **totals.to_dict()}
                for (dev, inode), totals in usage.executables.items()
            ],
            "tree": _flat(self.tree()),
            "forgotten": usage.forgotten,
            "living": [asdict(process) for process in usage.living],
            "living_unclear": usage.unclear,
        }


def _flat(roots: list[tree.Node]) -> list[dict[str, Any]]:
    """The nodes, parents first, each with the place of its parent: JSON has an end of levels."""
    made: list[dict[str, Any]] = []
    stack: list[tuple[tree.Node, int | None]] = [(root, None) for root in reversed(roots)]
    while stack:
        node, parent = stack.pop()
        stack += [(child, len(made)) for child in reversed(node.children)]
        made.append({"parent": parent, **node.to_dict()})
    return made
