"""What a process may do, given up before it becomes another program."""

import contextlib
import ctypes
import errno
import os
import pwd
import struct
from collections.abc import Sequence

_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_CAPABILITY_VERSION_3 = 0x20080522

_KEYCTL_GET_KEYRING_ID = 0
_KEYCTL_JOIN_SESSION_KEYRING = 1
_KEY_SPEC_SESSION_KEYRING = -3
#: The number of keyctl(2), by machine and bits of a pointer.
_KEYCTL = {
    ("aarch64", 32): 311,
    ("aarch64", 64): 219,
    ("armv7l", 32): 311,
    ("armv8l", 32): 311,
    ("i686", 32): 288,
    ("loongarch64", 64): 219,
    ("ppc64le", 64): 271,
    ("riscv64", 64): 219,
    ("s390x", 64): 280,
    ("x86_64", 32): 288,
    ("x86_64", 64): 250,
}

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


def leave_session_keyring() -> None:
    """Gives this process a session keyring of its own, empty, instead of the one of its caller.

    A process possesses its session keyring, and may read the keys in it, whoever it runs as. Does
    nothing where the kernel has no keys, where it refuses all use of them (a seccomp filter), and
    on machines whose number of keyctl(2) is not known here.

    Raises:
        OSError: With the system call as its `filename`.
    """
    if _keyctl(_KEYCTL_JOIN_SESSION_KEYRING) >= 0:
        return
    code = ctypes.get_errno()
    if code in (errno.ENOSYS, errno.EOPNOTSUPP):
        return
    if code == errno.EPERM and _keyctl(_KEYCTL_GET_KEYRING_ID, _KEY_SPEC_SESSION_KEYRING) < 0:
        return
    raise _error(code, "keyctl")


def _keyctl(operation: int, argument: int = 0) -> int:
    number = _KEYCTL.get((os.uname().machine, struct.calcsize("P") * 8))
    if number is None:
        ctypes.set_errno(errno.ENOSYS)
        return -1
    made: int = _libc.syscall(*map(ctypes.c_long, (number, operation, argument, 0, 0, 0)))
    return made


def _call(name: str, *arguments: object) -> None:
    if _libc[name](*arguments) < 0:
        raise _error(ctypes.get_errno(), name)


def _error(code: int, operation: str) -> OSError:
    return OSError(code, os.strerror(code), operation)
