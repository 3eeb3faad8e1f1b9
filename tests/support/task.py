"""Processes whose threads do as they are told, and nothing by themselves. See task.c."""

import os
import signal
import struct
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Self

from support import compiled

THREADS = 5  # of a process and of those that it has forked, at most; as in task.c
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
        return _stat(pid, pid if tid is None else tid)[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def parent_of(pid: int) -> int:
    """The pid of a process's parent, by its stat."""
    return int(_stat(pid, pid)[1])


def _stat(pid: int, tid: int) -> list[str]:
    """What stands in it behind the name."""
    stat = Path(f"/proc/{pid}/task/{tid}/stat").read_text()
    return stat.rpartition(")")[2].split()


class Thread:
    """One thread.

    Attributes:
        tid: Its id.
        process: Whose it is.
    """

    def __init__(self, process: "Family", index: int, tid: int) -> None:
        self.process = process
        self.index = index
        self.tid = tid

    @property
    def state(self) -> str:
        """The letter in its /proc/.../stat; "" once it is gone."""
        return state_of(self.process.pid, self.tid)

    @property
    def ended(self) -> bool:
        """Whether it has exited, and its children have another parent."""
        return self.state in ("", "Z", "X")

    def move(self, cpu: int) -> None:
        """Keeps it on one CPU."""
        os.sched_setaffinity(self.tid, [cpu])

    def settle(self, letter: str = "S") -> None:
        """Waits until it is in this state."""
        until(lambda: self.state == letter)

    def exit(self, code: int = 0) -> None:
        """Ends it alone. Its record has been built and sent when this returns."""
        self.process.order(self, "x", code)
        until(lambda: self.ended)

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


class Family:
    """A process that waits in read(2) for orders, and those that it forks, which do the same.

    Attributes:
        pid: Its id.
        threads: Those that it has, the leader first.
    """

    pid: int
    threads: list[Thread]

    def __init__(self, orders: Sequence[int], answers: int, indices: Iterator[int]) -> None:
        self._orders = orders
        self._answers = answers
        self._indices = indices  # of the orders that are nobody's yet

    @property
    def leader(self) -> Thread:
        return self.threads[0]

    def thread(self, cpu: int | None = None) -> Thread:
        """A new thread of it."""
        made = self._start(self, "t")
        self.threads.append(made)
        if cpu is not None:
            made.move(cpu)
        made.settle()
        self.threads[0].settle()
        return made

    def fork(self) -> "Child":
        """A child of it."""
        made = Child(self._orders, self._answers, self._indices)
        made.threads = [self._start(made, "c")]
        made.pid = made.leader.tid
        made.leader.settle()
        return made

    def _start(self, of: "Family", what: str) -> Thread:
        index = next(self._indices)
        self.order(self.leader, what, index)
        return Thread(of, index, self.answer())

    def be_subreaper(self, on: bool) -> None:
        """It is given the orphans below it from now on, or no more."""
        self.order(self.leader, "r", on)
        assert self.answer() == 0

    def exit_group(self, thread: Thread, code: int = 0, signal_: int = 0) -> None:
        """Ends all of it, by a thread's exit_group(2) or by a signal; it is a zombie then."""
        if signal_:
            os.kill(self.pid, signal_)
        else:
            self.order(thread, "g", code)
        self.await_end()

    def await_end(self) -> None:
        """Waits until it is a zombie, or gone."""
        until(lambda: all(one.ended for one in self.threads))

    def order(self, thread: Thread, what: str, number: int = 0) -> None:
        os.write(self._orders[thread.index], struct.pack("=ii", ord(what), number))

    def answer(self) -> int:
        told = os.read(self._answers, 4)
        if len(told) < 4:
            raise RuntimeError("the process has ended")
        return int(struct.unpack("=i", told)[0])


class Child(Family):
    """A process that another one has forked. It ends with the `Process` at the latest.

    The others of the family do not wait for it: if its parent is one of them it stays a zombie.
    """


class Process(Family):
    """One process, made by this one.

    Args:
        comm: Its name, at most 15 characters.
        next_comm: Its name after an exec.
        cpu: Where it runs; None for anywhere.
        uid: Its user and group; None for this process's.
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
        answers, answering = os.pipe()
        super().__init__(writing, answers, iter(range(1, THREADS)))
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
