"""What a process may do, given up before it becomes another program."""

import contextlib
import ctypes
import errno
import os
import pwd
from collections.abc import Sequence

_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAPABILITY_VERSION_3 = 0x20080522

_libc = ctypes.CDLL(None, use_errno=True)


def drop_inherited_capabilities() -> None:
    """Clears the ambient and the inheritable set, so that exec gives only what the new file has.

    To root (uid 0) exec gives root's usual ones all the same. The bounding set stays as it is.

    Raises:
        OSError: With the system call as its `filename`.
    """
    clear = [ctypes.c_ulong(number) for number in (_PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)]
    with contextlib.suppress(OSError):  # before Linux 4.3 there is no ambient set
        _call("prctl", _PR_CAP_AMBIENT, *clear)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; again for the upper 32
    _call("capget", header, sets)
    sets[2] = sets[5] = 0
    _call("capset", header, sets)


def become(user: pwd.struct_passwd, groups: Sequence[int]) -> None:
    """Takes on a user's ids for good, and the environment that su(1) gives.

    Args:
        user: Whom to become.
        groups: The user's groups, as `os.getgrouplist` tells them.

    Raises:
        OSError: With the system call and the user as its `filename`.
    """
    uid, gid = user.pw_uid, user.pw_gid
    try:
        operation = "setgroups"
        os.setgroups(groups)
        operation = "setresgid"
        os.setresgid(gid, gid, gid)
        operation = "setresuid"
        os.setresuid(uid, uid, uid)
    except OSError as error:
        raise _error(error.errno or errno.EPERM, f"{operation} to {user.pw_name}") from error
    os.environ.update(HOME=user.pw_dir, SHELL=user.pw_shell or "/bin/sh")
    if uid != 0:  # su(1) leaves these two to root as they are
        os.environ.update(USER=user.pw_name, LOGNAME=user.pw_name)


def _call(name: str, *arguments: object) -> None:
    if _libc[name](*arguments) < 0:
        raise _error(ctypes.get_errno(), name)


def _error(code: int, operation: str) -> OSError:
    return OSError(code, os.strerror(code), operation)
