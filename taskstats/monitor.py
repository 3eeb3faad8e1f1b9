"""JobMonitor: several jobs at once, followed by a program that goes on meanwhile."""

import errno
import subprocess
import threading
from collections.abc import Hashable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Self, overload

from taskstats import host
from taskstats.accounts import Usage
from taskstats.delayacct import measured_delays
from taskstats.endpoint import KERNEL, Endpoint
from taskstats.errors import TaskstatsError, from_errno
from taskstats.exit_stats import ExitStats
from taskstats.gate import Gate
from taskstats.probe import Mode
from taskstats.reader import open_all


@dataclass(frozen=True, slots=True)
class Finished:
    """A job that was finished.

    Attributes:
        usage: What it used.
        returncode: The exit status of its command, or minus the number of the signal that ended
            it; None if the monitor did not start a command for the job.
        settled: Whether every record from before the end was assigned to a job. If not, `usage` can
            lack some of the job's.
    """

    usage: Usage
    returncode: int | None
    settled: bool

    @property
    def complete(self) -> bool:
        """Whether no record of a process of the job that ended can be missing."""
        return self.usage.complete and self.settled


class JobMonitor:
    """Follows jobs: what each command, process tree or cgroup uses.

    A thread reads the kernel's exit records all the while. Any thread may call anything. Signals,
    terminal and process groups of the program stay as they are. Needs CAP_NET_ADMIN in the initial
    user, PID and network namespace, and for the probe CAP_BPF and CAP_PERFMON.

    With the probe a job is exactly what descends from its process. Without, a record is assigned to
    a job only where other records and the living processes prove it. The rest is counted as
    `Usage.undecided`. There, give each job a subreaper of its own for its orphans.

    Args:
        probe: As for ExitListener: "auto", "require" or "off".
        delays: Measure all kinds of delay, of all tasks made meanwhile (kernel.task_delayacct).
        remember: The most ended processes to remember for each job: `Usage.processes`.
        endpoint: Whom to listen to and to ask.

    Attributes:
        probe_error: Why there is no probe, where `probe` is "auto"; else None.

    Raises:
        AccessDenied: A capability is missing.
        Unavailable: This kernel, namespace or container cannot do it.
        TaskstatsError: There can be no more threads or descriptors, and whatever else the system
            refuses.
    """

    def __init__(
        self,
        probe: Mode = "auto",
        *,
        delays: bool = False,
        remember: int = 0,
        endpoint: Endpoint = KERNEL,
    ) -> None:
        self._lock = threading.Lock()
        self._jobs: dict[Hashable, subprocess.Popen[Any] | None] = {}
        with ExitStack() as stack:
            if delays:
                stack.enter_context(measured_delays())
            opened = open_all(stack, probe, remember, endpoint)
            self._listener, self._tracker = opened.listener, opened.tracker
            self._reader = opened.reader
            self.probe_error = self._listener.probe_error
            self._gate = Gate()
            stack.callback(self._gate.close)
            self._reader.start()
            self._stack = stack.pop_all()

    @overload
    def start(
        self,
        what: int | str,
        id: Hashable,
        *,
        subreaper: int | None = None,
    ) -> None: ...
    @overload
    def start(
        self,
        what: list[str] | tuple[str, ...],
        id: Hashable,
        *,
        subreaper: int | None = None,
        **how: Any,
    ) -> "subprocess.Popen[Any]": ...
    def start(
        self,
        what: list[str] | tuple[str, ...] | int | str,
        id: Hashable,  # noqa: A002
        *,
        subreaper: int | None = None,
        **how: Any,
    ) -> "subprocess.Popen[Any] | None":
        """Begin a job.

        A command runs once its job is known, so that no child is missed. It is a child of this
        process. The process was a copy of this program before its exec; what it used until then,
        about a millisecond of CPU time, is in the job's usage.

        Args:
            what: A command: a list of words, the first looked up on PATH. Or the pid of a process
                that has no children yet. Or a cgroup: its path as in `Record.cgroup`, "/" first;
                the job is what ends in that cgroup or below, and it needs the probe.
            id: How the job is called in other calls.
            subreaper: A process that inherits the orphans of this job and of no other. It is
                used only without the probe, and not for a cgroup.
            how: For a command, arguments of `subprocess.Popen`, such as `cwd`, `env` and `stdout`,
                but for `preexec_fn`.

        Returns:
            The process of a command, else None. `finish` waits for it.

        Raises:
            ValueError: There is such a job, or one of this process or cgroup; there is no such
                process; or the path does not begin with "/".
            OSError: The command cannot be run.
            Unavailable: A cgroup, without the probe.
            TaskstatsError: The monitor is closed, or reading has failed.
        """
        self._reader.check()
        if isinstance(what, int | str) and how:
            raise TypeError(f"only a command has arguments of Popen, not {what!r}")
        if isinstance(what, int):
            with self._lock:
                self._tracker.start(what, id, subreaper=subreaper)
                self._jobs[id] = None
        elif isinstance(what, str):
            self._start_cgroup(what, id, subreaper)
        else:
            return self._start_command(what, id, subreaper, how)
        return None

    def attach(self, pid: int, id: Hashable, *, subreaper: int | None = None) -> None:  # noqa: A002
        """Begin a job of a process that runs already, and of its running descendants.

        What had ended before is unknown: `Usage.complete` is False.

        Args:
            pid: The process.
            id: How the job is called in other calls.
            subreaper: As for `start`.

        Raises:
            ValueError: There is such a job, or one of this process; or there is no such process.
            TaskstatsError: The monitor is closed, or reading has failed.
        """
        self._reader.check()
        with self._lock:
            self._tracker.attach(pid, id, subreaper=subreaper)
            self._jobs[id] = None

    def usage(self, id: Hashable, *, living: bool = False) -> Usage:  # noqa: A002
        """Return what a job has used so far: the sums of its processes that have ended.

        Everything that ended before the call is in it, unless `Usage.settled_until` says otherwise.
        Reading that takes up to 0.1 s, on a busy machine 2 s and more.

        Args:
            id: The job.
            living: Look for its running processes too, for `Usage.living`. This reads /proc.

        Raises:
            KeyError: There is no such job.
            TaskstatsError: The monitor is closed, or reading has failed.
        """
        self._reader.check()
        self._reader.catch_up()
        return self._tracker.usage(id, host.tasks() if living else ())

    def finish(self, id: Hashable, timeout: float | None = None) -> Finished:  # noqa: A002
        """Wait for the job's command, read everything that ended until then, and close the job.

        Only a command that `start` has run is waited for. What ends later is of no job, or of the
        job that this one is within.

        Args:
            id: The job.
            timeout: Seconds to wait for the command at most; None for no limit.

        Raises:
            KeyError: There is no such job.
            TimeoutError: The command still runs. The job goes on.
            TaskstatsError: The monitor is closed, or reading has failed.
        """
        self._reader.check()
        process = self._jobs[id]
        if process:
            try:
                process.wait(timeout)
            except subprocess.TimeoutExpired:
                raise TimeoutError(f"the command of job {id!r} runs after {timeout} s") from None
        settled = self._reader.catch_up()
        with self._lock:
            usage = self._tracker.close(id)
            del self._jobs[id]
        return Finished(usage, process.returncode if process else None, settled)

    def stats(self) -> ExitStats:
        """Return what the listener has received and lost so far."""
        return self._listener.stats()

    def close(self) -> None:
        """Stop reading. Jobs that were not finished are forgotten; their commands go on."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start_cgroup(self, path: str, id: Hashable, subreaper: int | None) -> None:  # noqa: A002
        if not path.startswith("/"):
            raise ValueError(
                f"a cgroup is a path that begins with /, and a command is a list: {path!r}"
            )
        if subreaper is not None:
            raise TypeError("a job of a cgroup has no subreaper")
        if not self._tracker.births:
            raise self._no_probe()
        with self._lock:
            self._tracker.start_cgroup(path, id)
            self._jobs[id] = None

    def _no_probe(self) -> TaskstatsError:
        error = from_errno("monitor", errno.EOPNOTSUPP, "cgroup")
        error.__cause__ = self.probe_error
        return error

    def _start_command(
        self,
        words: Sequence[str],
        id: Hashable,  # noqa: A002
        subreaper: int | None,
        how: dict[str, Any],
    ) -> "subprocess.Popen[Any]":
        begun = False

        def admit(pid: int) -> None:
            nonlocal begun
            self._tracker.start(pid, id, subreaper=subreaper)
            begun = True

        try:
            process = self._gate.start(words, admit, **how)
        except BaseException:
            if begun:  # it could not be run
                self._tracker.close(id)
            raise
        with self._lock:
            self._jobs[id] = process
        return process
