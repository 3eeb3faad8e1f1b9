"""Keeps a command of another user from typing into the caller's terminal."""

import contextlib
import os
import pwd
import stat
from pathlib import Path

import click

from taskstats import fixes

_SWITCH = Path("/proc/sys/dev/tty/legacy_tiocsti")
_OWN_STAT = Path("/proc/self/stat")
_UNKNOWN = -1


def check(user: pwd.struct_passwd) -> None:
    """Refuse a command of this user that could push input into the controlling terminal.

    A process may push input into its controlling terminal by ioctl(TIOCSTI), whoever it runs as
    (drivers/tty/tty_io.c:tiocsti), and the caller's shell reads it. Redirected streams do not help,
    since /dev/tty opens the controlling terminal.

    Nothing is refused if one of these is true:

    - The user is the caller, or owns the terminal: then he may do so anyway.
    - There is no controlling terminal.
    - The kernel refuses TIOCSTI: since Linux 6.2, with dev.tty.legacy_tiocsti=0.
    - No shell reads the terminal later: this process leads the session, or its parent is the sudo
      that made the terminal for it (use_pty).

    Raises:
        ClickException: With the fix.
    """
    if user.pw_uid == os.getuid() or _kernel_refuses() or _is_last_reader():
        return
    if _owner() in (None, user.pw_uid):
        return
    raise click.ClickException(
        f"--user {user.pw_name}: the command could type into this terminal (TIOCSTI), and your "
        f"shell would obey\n{_fix()}"
    )


def _fix() -> str:
    own = "give it a terminal of its own: script -qec 'exec taskstats run ...' /dev/null"
    if not _SWITCH.exists():
        return f"fix: {own}"
    return f"fix: {fixes.with_sudo('sysctl dev.tty.legacy_tiocsti=0', 'sys_admin')}\nor {own}"


def _kernel_refuses() -> bool:
    """Whether TIOCSTI is refused. Before Linux 6.2 there is no switch, and it never is."""
    with contextlib.suppress(OSError):
        return _SWITCH.read_text(encoding="ascii").strip() == "0"
    return False


def _is_last_reader() -> bool:
    leader, parent = os.getsid(0), os.getppid()
    if leader == os.getpid():
        return True
    with contextlib.suppress(OSError):
        return leader == parent and Path(f"/proc/{parent}/comm").read_bytes() == b"sudo\n"
    return False


def _owner() -> int | None:
    """The owner of the controlling terminal; None if there is no such terminal."""
    try:
        number = int(_OWN_STAT.read_bytes().rpartition(b")")[2].split()[4])
    except OSError:
        return _UNKNOWN
    if not number:
        return None
    for place in (0, 1, 2, f"/dev/pts/{os.minor(number)}", f"/dev/tty{os.minor(number)}"):
        with contextlib.suppress(OSError):
            found = os.stat(place)  # noqa: PTH116 - a descriptor, or a path
            if stat.S_ISCHR(found.st_mode) and found.st_rdev == number:
                return found.st_uid
    return _UNKNOWN
