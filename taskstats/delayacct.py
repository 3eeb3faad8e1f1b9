"""Delay accounting turned on for a while: kernel.task_delayacct, shared by all who need it.

In /run/taskstats, which is root's, `task_delayacct` is the record: what the switch was before
somebody here set it, or nothing. Every holder keeps a shared flock(2) on it, which the kernel drops
with the holder, kill -9 included. `guard` is locked for as long as a change takes. Who comes and
finds the switch at 0 writes the record, then sets the switch. Who leaves and gets the record's lock
alone is the last: it restores, then empties the record. So, whoever comes, leaves or dies between
any two of these steps:

- While a holder lives, no other one restores.
- At no time has a holder set the switch without the record saying what it was before. After a
  crash the switch may be left at 1: the next holder finds that, touches neither, and as the last
  restores what the record says. Or a record is left with the switch at 0, and means nothing yet.
- A switch that was 1 before the first holder came is neither written nor restored.
- Set to 0 by hand while holders live: it stays 0 for them, and after them. A holder that comes
  later sets it again, for itself and for them, and 0 is restored.
- Set to 1 by hand while holders live, or where one left it at 1: that cannot be told from theirs,
  and the last one restores 0.
- A child made by fork is no holder, and leaves without effect.

Holders that see another /run, as in a container, are strangers: to each other, a switch set by
hand.
"""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Literal

from taskstats import fixes, host
from taskstats.errors import AccessDenied, TaskstatsError, from_errno

#: Where the locks are; /run is empty after a boot, as the switch is what the boot says.
DIRECTORY = Path("/run/taskstats")

_GUARD = "guard"
_RECORD = "task_delayacct"

#: Nobody else may open them: a lock needs no more than that, and would keep root waiting.
_MODE = 0o600

_NO_RIGHT = (errno.EACCES, errno.EPERM, errno.EROFS)

#: Who has the switch at 1: nobody here; a holder that lives; one that died; either of the latter,
#: which only root can tell.
Standing = Literal["nobody", "holder", "leftover", "hidden"]


@contextmanager
def measured_delays() -> Iterator[None]:
    """Has the delays measured of all tasks that are made meanwhile (kernel/delayacct.c).

    Who has no right to the switch and finds it at 1 goes on without a hold on it: if that was for
    a holder, tasks made after it has left are not measured.

    Raises:
        Unavailable: This kernel has no such switch, or it cannot be set in this container.
        AccessDenied: The switch is 0, and only root may set it.
        TaskstatsError: The directory in /run is not root's alone.
    """
    with ExitStack() as stack:
        with _errors():
            holder = _holder(stack)
        if holder is None:
            yield
            return
        try:
            with _errors():
                holder.enter()
            yield
        finally:
            with _errors():
                holder.leave()


def standing() -> Standing:
    """Whose the switch's being at 1 is. Changes nothing."""
    try:
        with ExitStack() as stack:
            guard, record = (
                _opened(stack, DIRECTORY / name, os.O_RDONLY) for name in (_GUARD, _RECORD)
            )
            with _locked(guard), _alone(record) as alone:
                if not os.fstat(record).st_size:
                    return "nobody"
                return "leftover" if alone else "holder"
    except PermissionError:
        return "hidden" if _is_recorded() else "nobody"
    except OSError:
        return "nobody"


def for_leftover() -> str:
    """The command that restores what dead holders left; it fails while one lives."""
    return fixes.for_leftover_delays(str(DIRECTORY / _RECORD))


def _is_recorded() -> bool:
    try:
        return (DIRECTORY / _RECORD).lstat().st_size > 0
    except OSError:
        return False


# ---- a holder --------------------------------------------------------------------------------


class _Holder:
    """One that may set the switch; to be told to leave, also if it could not enter."""

    def __init__(self, guard: int, record: int) -> None:
        self._guard = guard
        self._record = record
        self._owner = os.getpid()

    def enter(self) -> None:
        with _locked(self._guard):
            # This waits only for the command of for_leftover().
            fcntl.flock(self._record, fcntl.LOCK_SH)
            if not host.task_delayacct():
                os.pwrite(self._record, b"0\n", 0)
                host.TASK_DELAYACCT.write_bytes(b"1\n")

    def leave(self) -> None:
        if os.getpid() != self._owner:
            return
        with _locked(self._guard), _alone(self._record) as alone:
            if alone:
                earlier = os.pread(self._record, 16, 0)
                if earlier and host.task_delayacct():
                    host.TASK_DELAYACCT.write_bytes(earlier)
                os.ftruncate(self._record, 0)


def _holder(stack: ExitStack) -> _Holder | None:
    """One whose files are closed with the stack; None where it needs none, having no right."""
    switch = host.task_delayacct()
    if switch is None:
        raise from_errno("delays", errno.ENOENT, "switch")
    try:
        directory = _directory(stack)
        flags = os.O_RDWR | os.O_CREAT
        guard, record = (_opened(stack, name, flags, directory) for name in (_GUARD, _RECORD))
    except OSError as error:
        if switch and error.errno in _NO_RIGHT:
            return None
        raise
    return _Holder(guard, record)


def _directory(stack: ExitStack) -> int:
    """The directory, which is made if it is not there, and is root's or this user's alone."""
    made = True
    try:
        DIRECTORY.mkdir(0o755)
    except FileExistsError:
        made = False
    directory = _opened(stack, DIRECTORY, os.O_RDONLY | os.O_DIRECTORY)
    status = os.fstat(directory)
    if status.st_uid not in (0, os.geteuid()) or status.st_mode & 0o022:
        raise from_errno("delays", errno.EPERM, "owner", str(DIRECTORY))
    if made:
        os.fchmod(directory, 0o755)  # whatever the umask: others see that there is a record
    return directory


def _opened(stack: ExitStack, path: Path | str, flags: int, directory: int | None = None) -> int:
    """A descriptor that the stack closes; no program that is run inherits it (PEP 446)."""
    descriptor = os.open(path, flags | os.O_NOFOLLOW, _MODE, dir_fd=directory)
    stack.callback(os.close, descriptor)
    return descriptor


@contextmanager
def _locked(guard: int) -> Iterator[None]:
    fcntl.flock(guard, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(guard, fcntl.LOCK_UN)


@contextmanager
def _alone(record: int) -> Iterator[bool]:
    """Whether nobody else holds the record; nobody does until the block's end, if so.

    What this process held it holds no more, nor does a child that has the same descriptor.
    """
    try:
        fcntl.flock(record, fcntl.LOCK_EX | fcntl.LOCK_NB)
        alone = True
    except BlockingIOError:
        alone = False
    try:
        yield alone
    finally:
        fcntl.flock(record, fcntl.LOCK_UN)


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except TaskstatsError:
        raise
    except OSError as error:
        about = str(DIRECTORY / os.fsdecode(error.filename)) if error.filename else ""
        told = from_errno("delays", error.errno or errno.EIO, about=about)
        if isinstance(told, AccessDenied):
            told.mend = fixes.for_delays()
        raise told from error
