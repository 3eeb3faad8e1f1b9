"""Delay accounting, turned on for as long as somebody measures."""

import errno
import fcntl
import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal

from taskstats.errors import TaskstatsError, from_errno

#: Where those that measure meet. It is locked for as long as one does, and says what the switch was
#: before the first of them came.
RECORD = Path("/run/taskstats/delays")
_GUARD = RECORD.with_name("guard")  # locked while one comes or goes
_SWITCH = Path("/proc/sys/kernel/task_delayacct")

State = Literal["none", "held", "left"]


@contextmanager
def measured_delays() -> Iterator[None]:
    """Has the delays of tasks that are made meanwhile measured (kernel.task_delayacct).

    The last that leaves puts back what was there before the first came; so does the next one that
    leaves, if that was killed. Where the switch was on already, nothing is changed. A 0 that
    somebody else writes meanwhile stays, until another comes who measures; a 1 cannot be told from
    ours, and does not stay.

    Raises:
        AccessDenied: It takes root.
        Unavailable: This kernel has no such switch.
    """
    with ExitStack() as stack:
        try:
            guard, record = _entered(stack)
        except OSError as error:
            if isinstance(error, TaskstatsError):
                raise
            raise from_errno("delays", error.errno or 0) from error
        try:
            yield
        finally:
            with _locked(guard):
                if _is_alone(record):
                    if _is_ours(record):
                        _SWITCH.write_bytes(b"0")
                    os.ftruncate(record, 0)


def state() -> State:
    """Whether the switch is on for somebody who measures, or was left on by one who was killed.

    "none" also where that cannot be read.
    """
    try:
        with ExitStack() as stack:
            guard = _opened(stack, _GUARD, os.O_RDONLY)
            record = _opened(stack, RECORD, os.O_RDONLY)
            with _locked(guard):
                if not _is_alone(record):
                    return "held"
                return "left" if _is_ours(record) else "none"
    except OSError:
        return "none"


def _entered(stack: ExitStack) -> tuple[int, int]:
    """Turns it on, if need be; the two files, of which the second is locked for sharing."""
    if not _SWITCH.exists():
        raise from_errno("delays", errno.ENOENT, "switch")
    RECORD.parent.mkdir(mode=0o755, exist_ok=True)
    _check(RECORD.parent)
    guard = _opened(stack, _GUARD, os.O_RDWR | os.O_CREAT)
    record = _opened(stack, RECORD, os.O_RDWR | os.O_CREAT)
    with _locked(guard):
        if not _is_on():
            os.pwrite(record, b"0", 0)
            _SWITCH.write_bytes(b"1")
        fcntl.flock(record, fcntl.LOCK_SH)
    return guard, record


def _check(directory: Path) -> None:
    """Refuses a directory in which others could put what they like."""
    found = directory.lstat()
    safe = stat.S_ISDIR(found.st_mode) and not found.st_mode & 0o022
    if not safe or found.st_uid not in (0, os.geteuid()):
        raise from_errno("delays", errno.EPERM, "directory", str(directory))


def _opened(stack: ExitStack, path: Path, flags: int) -> int:
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    stack.callback(os.close, descriptor)
    return descriptor


@contextmanager
def _locked(guard: int) -> Iterator[None]:
    fcntl.flock(guard, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(guard, fcntl.LOCK_UN)


def _is_alone(record: int) -> bool:
    """Whether nobody else measures; takes the lock for itself then, so close it before long."""
    try:
        fcntl.flock(record, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_ours(record: int) -> bool:
    """Whether it is on, and was not before."""
    return os.pread(record, 1, 0) == b"0" and _is_on()


def _is_on() -> bool:
    return _SWITCH.read_bytes().strip() != b"0"
