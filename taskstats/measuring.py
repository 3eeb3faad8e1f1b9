"""measure: run a command, and return what it and all its descendants cost."""

import errno
import os
import pwd
import threading
from collections.abc import Sequence
from contextlib import ExitStack, suppress

from taskstats import host, launch, terminals
from taskstats.cgroup_cpu import OwnCgroup
from taskstats.cost import Cost
from taskstats.delayacct import measured_delays
from taskstats.endpoint import KERNEL
from taskstats.errors import CostUnknown, from_errno
from taskstats.probe import Mode
from taskstats.reader import open_all

_REMEMBERED = 250_000  # processes for the tree, 50 MB
_JOB = "run"


def measure(
    words: Sequence[str],
    *,
    user: str | pwd.struct_passwd | None = None,
    delays: bool = False,
    probe: Mode = "auto",
) -> Cost:
    """Run a command, and return what it and all its descendants cost.

    For a program with one thread that does nothing else meanwhile; others use JobMonitor. Until the
    command ends, signals sent to this process are passed on to it, this process is a child
    subreaper, and every child of this process that ends is reaped. The command has this process's
    streams, terminal, process group and environment, and none of its capabilities.

    Args:
        words: The command and its arguments. A name without a slash is looked up on PATH.
        user: Run it as this user, with the user's groups, and with HOME, SHELL, USER and LOGNAME.
            Refused if the user could type into the caller's terminal: see terminals.py.
        delays: Measure all kinds of delay, of all tasks made meanwhile (kernel.task_delayacct).
        probe: As for ExitListener: "auto", "require" or "off".

    Raises:
        AccessDenied: A capability is missing. The command has not run.
        Unavailable: This kernel, namespace or container cannot do it. The command has not run.
        CostUnknown: Something failed after the command began; it has the command's status.
        OSError: The command could not be run. `filename` is the command, or the system call that
            failed before; `launch.exit_status` returns what a shell makes of it.
        KeyError: There is no such user.
        TaskstatsError: This is not the main thread, the terminal is open to the user (EPERM),
            there can be no more threads or descriptors, and whatever else the system refuses. The
            command has not run.
    """
    if threading.current_thread() is not threading.main_thread():
        raise from_errno("monitor", errno.EINVAL, "main")
    account = pwd.getpwnam(user) if isinstance(user, str) else user
    if account and terminals.is_open_to(account):
        raise from_errno("monitor", errno.EPERM, "terminal")
    ended: launch.Ended | None = None
    try:
        with ExitStack() as stack:
            opened = open_all(stack, probe, _REMEMBERED, KERNEL)
            tracker, reader = opened.tracker, opened.reader
            if delays:
                stack.enter_context(measured_delays())
            cgroup = OwnCgroup.find()
            stack.enter_context(launch.subreaper_as_before())
            command = stack.enter_context(launch.Command(words, account))
            subreaper = None if tracker.births else os.getpid()
            if subreaper:
                # Other children of this process are siblings of the command, and no part of it.
                for pid in command.others:
                    with suppress(ValueError):  # it has ended
                        tracker.start(pid, pid, subreaper=subreaper)
            tracker.start(command.pid, _JOB, subreaper=subreaper)
            command.await_gate()
            waited = opened.client.pid(command.pid).delays
            reader.start()  # before the command runs: afterwards it might be impossible
            ended = command.wait()
            settled = reader.catch_up() or reader.read_rest()
            usage = tracker.usage(_JOB, host.tasks() if _has_children() else ())
            probe_stats = opened.listener.stats().probe
            reader.close()
            # Only now: a process that was waited for may have been on its way off its CPU, and
            # the reading thread's time is this process's.
            cgroup_ns = cgroup.cpu_ns() if cgroup else None
        return Cost(
            words,
            command.pid,
            ended,
            waited,
            usage,
            cgroup_ns,
            settled,
            probe_stats,
            opened.version,
        )
    except Exception as error:
        if ended is None:
            raise
        code, why = os.waitstatus_to_exitcode(ended.status), str(error) or repr(error)
        what = f"the cost of the command, which ended with {code}, is not known: {why}"
        raise CostUnknown("monitor", what, status=ended.status) from error


def _has_children() -> bool:
    """Whether this process has a child left; no child is reaped."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True
