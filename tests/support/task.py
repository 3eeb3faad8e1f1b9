"""Processes whose threads do as they are told, and nothing by themselves. See task.c."""

import os
import signal
import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

from support import compiled

THREADS = 4  # of a process, at most; as in task.c
_DEADLINE = 60.0  # of a condition that comes true by itself: then it is broken, not slow


def until(condition: Callable[[], bool]) -> None:
    """Waits for what the kernel is about to do, and has no other way to tell."""
    end = time.monotonic() + _DEADLINE
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("what was waited for did not come")
        os.sched_yield()


def state_of(pid: int, tid: int | None = None) -> str:
    """The letter in /proc/PID/task/TID/stat; "" once it is gone."""
    try:
        stat = Path(f"/proc/{pid}/task/{pid if tid is None else tid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return stat.rpartition(")")[2].split()[0]


class Thread:
    """One thread.

    Attributes:
        tid: Its id.
        process: Whose it is.
    """

    def __init__(self, process: "Process", index: int, tid: int) -> None:
        self.process = process
        self.index = index
        self.tid = tid

    @property
    def state(self) -> str:
        """The letter in its /proc/.../stat; "" once it is gone."""
        return state_of(self.process.pid, self.tid)

    def move(self, cpu: int) -> None:
        """Keeps it on one CPU."""
        os.sched_setaffinity(self.tid, [cpu])

    def settle(self, letter: str = "S") -> None:
        """Waits until it is in this state."""
        until(lambda: self.state == letter)

    def exit(self, code: int = 0) -> None:
        """Ends it alone. Its record has been built and sent when this returns."""
        self.process.order(self, "x", code)
        until(lambda: self.state in ("", "Z", "X"))

    def exec(self) -> None:
        """It becomes the program `process.next_comm`, and the leader; the others are killed."""
        self.process.order(self, "e")
        assert self.process.answer() == self.process.pid
        self.process.threads = [Thread(self.process, 0, self.process.pid)]

    def spin(self) -> None:
        """It runs, from now on for ever."""
        self.process.order(self, "s")
        self.process.answer()
        self.settle("R")

    def sleep_freezable(self) -> None:
        """It sleeps in nanosleep(2), from now on for ever."""
        self.process.order(self, "f")
        self.process.answer()
        self.settle()


class Process:
    """One process, which waits in read(2) for orders.

    Args:
        comm: Its name, at most 15 characters.
        next_comm: Its name after an exec.
        cpu: Where it runs; None for anywhere.
        uid: Its user and group; None for this process's.

    Attributes:
        pid: Its id.
        threads: Those that it has, the leader first.
    """

    def __init__(
        self,
        comm: str = "task",
        next_comm: str = "renamed",
        *,
        cpu: int | None = None,
        uid: int | None = None,
    ) -> None:
        reading, writing = zip(*(os.pipe() for _ in range(THREADS)), strict=True)
        self._answers, answering = os.pipe()
        self._orders = writing
        theirs = (answering, *reading)
        self._popen = subprocess.Popen(
            [_named(comm), _named(next_comm), *map(str, theirs)],
            pass_fds=theirs,
            user=uid,
            group=uid,
            extra_groups=None if uid is None else [],
        )
        for fd in theirs:
            os.close(fd)
        self.next_comm = next_comm
        self.pid = self._popen.pid
        assert self.answer() == self.pid
        self.threads = [Thread(self, 0, self.pid)]
        if cpu is not None:
            self.threads[0].move(cpu)
        self.threads[0].settle()

    @property
    def leader(self) -> Thread:
        return self.threads[0]

    def thread(self, cpu: int | None = None) -> Thread:
        """A new thread of it."""
        index = len(self.threads)
        self.order(self.threads[0], "t", index)
        made = Thread(self, index, self.answer())
        self.threads.append(made)
        if cpu is not None:
            made.move(cpu)
        made.settle()
        self.threads[0].settle()
        return made

    def exit_group(self, thread: Thread, code: int = 0, signal_: int = 0) -> None:
        """Ends all of it, by a thread's exit_group(2) or by a signal; it is a zombie then."""
        if signal_:
            os.kill(self.pid, signal_)
        else:
            self.order(thread, "g", code)
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)

    def await_end(self) -> None:
        """Waits until it is a zombie."""
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)

    def stop(self) -> None:
        """Stops it by a signal."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED)

    def reap(self) -> None:
        """Waits for it as its parent: it is gone then."""
        self._popen.wait()

    def order(self, thread: Thread, what: str, number: int = 0) -> None:
        os.write(self._orders[thread.index], struct.pack("=ii", ord(what), number))

    def answer(self) -> int:
        told = os.read(self._answers, 4)
        if len(told) < 4:
            raise RuntimeError("the process has ended")
        return int(struct.unpack("=i", told)[0])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._popen.kill()
        self._popen.wait()
        for fd in (self._answers, *self._orders):
            os.close(fd)


def _named(comm: str) -> Path:
    program = compiled.program("task")
    path = program.with_name(comm)
    if not path.exists():
        path.symlink_to(program.name)
    return path
