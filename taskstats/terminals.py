"""Whether a command of another user could type into the caller's terminal."""

import contextlib
import os
import pwd
import stat
from pathlib import Path

_SWITCH = Path("/proc/sys/dev/tty/legacy_tiocsti")
_OWN_STAT = Path("/proc/self/stat")
_UNKNOWN = -1


def is_open_to(user: pwd.struct_passwd) -> bool:
    """Whether a command of this user could push input into the controlling terminal.

    A process may push input into its controlling terminal by ioctl(TIOCSTI), whoever it runs as
    (drivers/tty/tty_io.c:tiocsti), and the caller's shell reads it. Redirected streams do not help,
    since /dev/tty opens the controlling terminal.

    It is not so if one of these is true:

    - The user is the caller, or owns the terminal: then he may do so anyway.
    - There is no controlling terminal.
    - The kernel refuses TIOCSTI: since Linux 6.2, with dev.tty.legacy_tiocsti=0.
    - No shell reads the terminal later: this process leads the session, or its parent is the sudo
      that made the terminal for it (use_pty).
    """
    if user.pw_uid == os.getuid() or _kernel_refuses() or _is_last_reader():
        return False
    return _owner() not in (None, user.pw_uid)


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
