"""The commands that mend what stands in the way, as a shell takes them here."""

import os
import shlex
import shutil
import sys
from pathlib import Path

from taskstats import host


def command() -> str:
    """The absolute path of the command `taskstats`: sudo does not see virtual environments."""
    candidates = [Path(sys.executable).absolute().with_name("taskstats")]
    if Path(sys.argv[0]).name == "taskstats":
        candidates.insert(0, Path(sys.argv[0]).absolute())
    for path in candidates:
        if path.is_file() and os.access(path, os.X_OK):
            return shlex.quote(str(path))
    return shlex.quote(shutil.which("taskstats") or "taskstats")


def sudo_gives(*capabilities: str) -> bool:
    """Whether sudo can give these capabilities, as far as /proc tells."""
    return _may_gain(*capabilities) and not host.no_new_privs()


def _may_gain(*capabilities: str) -> bool:
    return host.in_initial_namespace("user") is not False and host.may_gain(*capabilities)


def with_sudo(command: str, *capabilities: str, elsewhere: str = "on the host") -> str:
    """The command with sudo; if that cannot give these capabilities here, with where it can."""
    if not _may_gain(*capabilities):
        return f"sudo {command}  # {elsewhere}"
    if host.no_new_privs():
        return f"sudo {command}  # from a shell without no_new_privs (NoNewPrivileges=no)"
    return f"sudo {command}"


def for_delays() -> str:
    """The command that has the delays of tasks made from then on measured."""
    return with_sudo("sysctl kernel.task_delayacct=1", "sys_admin")


def for_leftover_delays(record: str) -> str:
    """The command that sets the switch back and empties the record, unless somebody holds it."""
    script = f"sysctl kernel.task_delayacct=0 && truncate -s 0 {shlex.quote(record)}"
    return with_sudo(f"flock -n {shlex.quote(record)} sh -c {shlex.quote(script)}", "sys_admin")


def for_proc(view: host.View, words: str) -> str:
    """The command that mends a view of /proc; `words` are those behind `taskstats`."""
    if view == "whole":
        return ""
    if view == "partial":  # for root it is whole
        return with_sudo(f"{command()} {words}", "sys_ptrace")
    return with_sudo(f"unshare --mount-proc {command()} {words}", "sys_admin")
