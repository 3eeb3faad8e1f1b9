"""What a command has cost: the kernel's records beside what wait4 or its cgroup say."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from taskstats import launch, tree
from taskstats.accounts import EndedProcess, Usage
from taskstats.cli import gnu_time
from taskstats.exit_stats import ProbeStats
from taskstats.records import Delay
from taskstats.totals import DelayTotal

Source = Literal["cgroup", "wait4", "records"]

_ROUNDING_NS = 2000  # of wait4 and getrusage, for each process


@dataclass(frozen=True, slots=True)
class Costs:
    """A command's end, and what it and all its descendants used.

    Attributes:
        words: The command.
        pid: Its process.
        ended: How it ended, and what wait4 reported.
        waited: Its process's delays before it was let go, by name, as a copy of ours.
        usage: What the records told.
        cgroup_ns: CPU time of the cgroup that it had alone; None if it had none.
        settled: Whether it is known of all that ended before it whose that was.
        probe: What the listener's probe has seen; None if it had none.
    """

    words: Sequence[str]
    pid: int
    ended: launch.Ended
    waited: Mapping[str, Delay]
    usage: Usage
    cgroup_ns: int | None
    settled: bool
    probe: ProbeStats | None = None

    @property
    def before_ns(self) -> int:
        """CPU time of the command's process before its exec, as a copy of ours: not its cost."""
        return self.ended.before.user_ns + self.ended.before.system_ns

    @property
    def wait4_ns(self) -> int:
        """CPU time by wait4, of the command and all that was waited for."""
        return self.ended.user_ns + self.ended.system_ns

    @property
    def told_ns(self) -> int:
        """CPU time by the cgroup, there also of what lives on; by wait4 where there is none."""
        return self.wait4_ns if self.cgroup_ns is None else self.cgroup_ns - self.before_ns

    @property
    def records_ns(self) -> int:
        """CPU time of what has ended: the final figures, elsewhere what the records say."""
        return self.usage.total.cpu_ns - self.before_ns * self._was_heard_of

    @property
    def living_ns(self) -> int:
        """CPU time of what lives on."""
        return sum(process.cpu_ns for process in self.usage.living)

    @property
    def source(self) -> Source:
        """Who tells the CPU time: the records, where the other has not seen all that they have.

        wait4 does not tell of a process whose parent ignores SIGCHLD, or lives on
        (kernel/exit.c:wait_task_zombie); a cgroup not of what has moved to another.
        """
        rounding = _ROUNDING_NS * self.usage.total.processes
        if self.told_ns + rounding < self.records_ns:
            return "records"
        return "wait4" if self.cgroup_ns is None else "cgroup"

    @property
    def cpu_ns(self) -> int:
        """CPU time in all; by a cgroup also that of what lives on."""
        return self.records_ns if self.source == "records" else self.told_ns

    @property
    def teardown_ns(self) -> int | None:
        """CPU time that no process has, signed; None where it is not known.

        With the probe it is 0, but for rounding. Of a process without a final figure it is what
        the process did after its record was made (kernel/exit.c:do_exit), and what the scheduler
        had not added up by then.
        """
        if self.source == "records":
            return None
        living = self.living_ns if self.source == "cgroup" else 0
        return self.cpu_ns - self.records_ns - living

    @property
    def all_settled(self) -> bool:
        """Whether the final CPU time of each thread is known, and nothing is left."""
        left = abs(self.teardown_ns or 0) > _ROUNDING_NS * (self.usage.total.processes + 1)
        return not left and self.usage.total.unsettled == 0

    @property
    def complete(self) -> bool:
        """Whether everything that ended is in it."""
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

    def gnu_values(self) -> gnu_time.Values:
        """The figures of GNU time, which are wait4's; but the largest size that anybody knows."""
        used = self.ended.usage
        peaks = used.max_rss_bytes or 0, self.usage.total.peak_rss_bytes or 0
        return gnu_time.Values(
            wall_seconds=self.ended.wall_ns / 1e9,
            user_seconds=used.user_ns / 1e9,
            system_seconds=used.system_ns / 1e9,
            max_rss_bytes=max(peaks) or None,
            status=self.ended.status,
            minor_faults=used.minor_faults,
            major_faults=used.major_faults,
            voluntary_switches=used.voluntary_switches,
            involuntary_switches=used.involuntary_switches,
            block_inputs=used.block_inputs,
            block_outputs=used.block_outputs,
            words=tuple(self.words),
        )

    def to_dict(self) -> dict[str, Any]:
        """All of it, ready for JSON."""
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
            "unattributed": usage.unattributed,
            "ambiguous": usage.ambiguous,
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
