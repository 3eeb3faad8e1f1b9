"""Commands that fix the setup, as a shell on this machine takes them."""

import contextlib
import os
import shlex
import shutil
import sys
from pathlib import Path

from taskstats import host


def command() -> str:
    """Return the absolute path of `taskstats`: sudo does not search virtual environments."""
    candidates = [Path(sys.executable).with_name("taskstats")]
    if Path(sys.argv[0]).name == "taskstats":
        candidates.insert(0, Path(sys.argv[0]))
    for path in candidates:
        # Where a directory may not be searched, is_file raises; without a working one, absolute.
        with contextlib.suppress(OSError):
            if path.is_file() and os.access(path, os.X_OK):
                return shlex.quote(str(path.absolute()))
    return shlex.quote(shutil.which("taskstats") or "taskstats")


def sudo_gives(*capabilities: str) -> bool:
    """Return whether sudo can give these capabilities, as far as /proc says."""
    return _may_gain(*capabilities) and not host.no_new_privs()


def _may_gain(*capabilities: str) -> bool:
    return host.in_initial_namespace("user") is not False and host.may_gain(*capabilities)


def with_sudo(command: str, *capabilities: str, elsewhere: str = "on the host") -> str:
    """Return the command with sudo in front.

    Args:
        command: The command.
        capabilities: What it needs.
        elsewhere: Where sudo can give them. It is added as a comment if sudo cannot do so here.
    """
    if not _may_gain(*capabilities):
        return f"sudo {command}  # {elsewhere}"
    if host.no_new_privs():
        return f"sudo {command}  # from a shell without no_new_privs (NoNewPrivileges=no)"
    return f"sudo {command}"


def with_probe_rights(words: str) -> str:
    """Return the command that runs `taskstats` with the rights that a probe needs, by sudo.

    Args:
        words: The subcommand and its options, as in "doctor".
    """
    capabilities = ("net_admin", "bpf", "perfmon")
    listed = ",".join(f"+{one}" for one in capabilities)
    user = str(os.getuid())
    setpriv = (
        f"setpriv --reuid={user} --regid={os.getgid()} --init-groups "
        f"--inh-caps={listed} --ambient-caps={listed} "
    )
    return with_sudo(f"{setpriv if os.getuid() else ''}{command()} {words}", *capabilities)


def for_delays() -> str:
    """Return the command that turns delay accounting on, for tasks that start after it."""
    return with_sudo("sysctl kernel.task_delayacct=1", "sys_admin")


def for_leftover_delays(record: str) -> str:
    """Return the command that turns delay accounting off again, unless somebody uses it."""
    script = f"sysctl kernel.task_delayacct=0 && truncate -s 0 {shlex.quote(record)}"
    return with_sudo(f"flock -n {shlex.quote(record)} sh -c {shlex.quote(script)}", "sys_admin")


def for_proc(view: host.View, words: str) -> str:
    """Return a command that sees all of /proc.

    Args:
        view: What /proc shows.
        words: The subcommand and its options, as in "doctor".
    """
    if view == "whole":
        return ""
    if view == "partial":  # for root it is whole
        return with_sudo(f"{command()} {words}", "sys_ptrace")
    return with_sudo(f"unshare --mount-proc {command()} {words}", "sys_admin")
