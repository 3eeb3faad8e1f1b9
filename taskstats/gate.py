"""Gate: commands that run only once their process is known."""

import contextlib
import errno
import fcntl
import gc
import os
import struct
import subprocess
import threading
from collections.abc import Callable, Sequence
from typing import Any

from taskstats import threads
from taskstats.errors import from_errno

_REPORT = struct.Struct("=Ii")  # number of the request, and a pid; 0: Popen has returned or raised
_END = _REPORT.pack(0, 0)
_GO, _NO = b"\n", b"-"
_FIRST_FREE = 3  # descriptor that is not one of the standard streams


class _Request:
    """A command that is to be started.

    Args:
        number: From 1 on.
        admit: Called with its pid.
        go: Where its process is told to go; the gate's thread closes it.
    """

    def __init__(self, number: int, admit: Callable[[int], None], go: int) -> None:
        self.number = number
        self.admit = admit
        self.go = go
        self.admitted = False
        self.refusal: BaseException | None = None
        self.over = threading.Event()  # the thread has nothing more to do with it

    def report(self, pid: int) -> None:
        """Admit the process, and let it go."""
        try:
            self.admit(pid)
            self.admitted = True
        except BaseException as error:
            self.refusal = error
        with contextlib.suppress(OSError):  # it was killed meanwhile
            os.write(self.go, _GO if self.admitted else _NO)


class Gate:
    """Starts commands from any thread, and has each process admitted before its exec.

    A thread admits them, since `subprocess.Popen` returns only after the exec.

    Raises:
        TaskstatsError: There can be no more threads.
        OSError: There can be no more descriptors.
    """

    def __init__(self) -> None:
        self._owner = os.getpid()
        self._lock = threading.Lock()  # one command at a time is at the gate
        self._requests = 0
        self._request: _Request | None = None
        self._pids, self._report = _pipe()
        thread = threading.Thread(target=self._run, name="taskstats-gate", daemon=True)
        self._thread = thread
        try:
            threads.start_without_signals(thread)
        except BaseException:
            os.close(self._pids)
            os.close(self._report)
            raise

    def start(
        self, words: Sequence[str], admit: Callable[[int], None], **how: Any
    ) -> "subprocess.Popen[Any]":
        """Start a command.

        Args:
            words: The command and its arguments.
            admit: Called with the pid, by another thread, before the command runs. What it raises
                is raised here, and the command never runs.
            how: Arguments of `subprocess.Popen`, but for `preexec_fn`.

        Raises:
            OSError: The command cannot be run; it was admitted, unless there can be no process.
            TaskstatsError: This is closed.
        """
        with self._lock:
            if self._report < 0:
                raise from_errno("monitor", errno.EBADF)
            self._requests += 1
            waits, go = _pipe()
            request = self._request = _Request(self._requests, admit, go)
            try:
                visitor = _Visitor(request.number, self._report, waits, go)
                process = subprocess.Popen(words, preexec_fn=visitor, **how)
            finally:
                # After what its process has reported: that was admitted then, or never will be.
                os.write(self._report, _REPORT.pack(request.number, 0))
                request.over.wait()
                os.close(waits)
            if request.admitted:
                return process
            process.wait()
            code = errno.ECHILD
            raise request.refusal or OSError(code, "Killed before it was the command", words[0])

    def close(self) -> None:
        """End the thread. Commands that were started go on."""
        if self._owner != os.getpid():  # a child made by fork has no such thread
            return
        with self._lock:
            if self._report >= 0:
                os.write(self._report, _END)  # a child may have the descriptor: it has no end
                self._thread.join()
                os.close(self._report)
                os.close(self._pids)
                self._report = -1

    def _run(self) -> None:
        while (told := os.read(self._pids, _REPORT.size)) != _END:
            number, pid = _REPORT.unpack(told)
            request = self._request
            if request is None or number != request.number:
                continue  # of a process whose start has failed: it finds the gate closed
            if pid:
                request.report(pid)
            else:
                self._request = None
                os.close(request.go)
                request.over.set()


def _pipe() -> tuple[int, int]:
    """A pipe that leaves 0, 1 and 2 free: `subprocess.Popen` gives these to the command."""
    pair = os.pipe()
    try:
        reading = fcntl.fcntl(pair[0], fcntl.F_DUPFD_CLOEXEC, _FIRST_FREE)
        try:
            return reading, fcntl.fcntl(pair[1], fcntl.F_DUPFD_CLOEXEC, _FIRST_FREE)
        except OSError:
            os.close(reading)
            raise
    finally:
        for one in pair:
            os.close(one)


class _Visitor:
    """What the new process does before its exec: it reports its pid, and waits.

    The process is a copy of a program that may have many threads. So this only makes system calls.
    """

    def __init__(self, number: int, report: int, waits: int, go: int) -> None:
        self._number = number
        self._report = report
        self._waits = waits
        self._go = go

    def __call__(self) -> None:
        gc.disable()  # no finalizer of the program runs here
        os.close(self._go)  # so that the wait ends when the program does
        os.write(self._report, _REPORT.pack(self._number, os.getpid()))
        if os.read(self._waits, 1) != _GO:
            os._exit(127)
