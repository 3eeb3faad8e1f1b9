"""Runs a function in a forked child, where it may give up rights or enter namespaces."""

import ctypes
import os
import pickle
import signal
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")

_VFORK = 0x00000100 | 0x00004000 | signal.SIGCHLD  # CLONE_VM, CLONE_VFORK
_STACK = 16 << 10

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
NOBODY = 65534
PR_SET_DUMPABLE = 4
CAP_NET_ADMIN = 12
CAP_SYS_PTRACE = 19
CAP_PERFMON = 38
CAP_BPF = 39

_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def only_on(cpu: int) -> Iterator[None]:
    """This thread runs there, and so do its children."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, [cpu])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def run(function: Callable[..., T], *args: Any) -> T:
    """The function's result, or the exception that it raised, as it came from the child."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        try:
            outcome = (True, function(*args))
        except BaseException as error:
            error.add_note(traceback.format_exc())
            outcome = (False, error)
        with open(writing, "wb") as pipe:  # noqa: PTH123 - a descriptor
            pickle.dump(outcome, pipe)
        os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:  # noqa: PTH123 - a descriptor
        returned, outcome = pickle.load(pipe)
    os.waitpid(child, 0)
    if returned:
        return outcome  # type: ignore[no-any-return]
    raise outcome


@contextmanager
def beside(function: Callable[..., object], *args: Any) -> Iterator[int]:
    """The pid of a child that runs the function; in the end it is killed, if it runs still."""
    child = os.fork()
    if child == 0:
        try:
            function(*args)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(0)
    try:
        yield child
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def unshare(flags: int) -> None:
    """unshare(2)."""
    if _libc.unshare(flags) < 0:
        raise OSError(ctypes.get_errno(), "unshare")


def prctl(option: int, value: int) -> int:
    """prctl(2)."""
    return int(_libc.prctl(option, value, 0, 0, 0))


def become(uid: int, *capabilities: int) -> None:
    """An ordinary user with these capabilities alone, as setpriv(1) makes one."""
    keep_caps, version_3 = 8, 0x20080522  # PR_SET_KEEPCAPS, _LINUX_CAPABILITY_VERSION_3
    prctl(keep_caps, 1)
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    mask = sum(1 << number for number in capabilities)
    header = (ctypes.c_uint32 * 2)(version_3, 0)
    # Effective, permitted, inheritable; then the same of the upper 32.
    lower, upper = mask & 0xFFFFFFFF, mask >> 32
    sets = (ctypes.c_uint32 * 6)(lower, lower, 0, upper, upper, 0)
    if _libc.capset(header, sets) < 0:
        raise OSError(ctypes.get_errno(), "capset")


def run_true() -> int:
    """A child that has exited; without fork, which takes long in a large process."""
    child = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(child, 0)
    return child


def spawn(code: int = 0, uid: int | None = None) -> int:
    """A child that exits with this code and real user; not waited for.

    As vfork(2) makes it, and all that it runs is _exit(2): a fork copies the page tables, which
    takes most of the time of a test that makes hundreds.
    """
    stack = ctypes.create_string_buffer(_STACK)
    top = ctypes.c_void_p((ctypes.addressof(stack) + _STACK) & ~15)
    before = os.getuid()
    if uid is not None:
        os.setresuid(uid, -1, -1)  # as the effective user it is root still
    child = int(_libc.clone(_libc._exit, top, _VFORK, ctypes.c_void_p(code)))
    if uid is not None:
        os.setresuid(before, -1, -1)
    if child < 0:
        raise OSError(ctypes.get_errno(), "clone")
    return child


def spawn_and_reap(code: int = 0, uid: int | None = None) -> int:
    """A child that has exited with this code."""
    child = spawn(code, uid)
    os.waitpid(child, 0)
    return child
