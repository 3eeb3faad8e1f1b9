"""Gate: commands that run only once their process is known."""

import errno
import fcntl
import gc
import os
import signal
import struct
import subprocess
import threading
from collections.abc import Callable, Sequence
from typing import Any

from taskstats.errors import from_errno

_PID = struct.Struct("=i")
_END = _PID.pack(0)
_GO, _NO = b"\n", b"-"
_FIRST_FREE = 3  # descriptor that is not one of the standard streams


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
        self._admit: Callable[[int], None]
        self._go = -1  # where the command at the gate is told to go
        self._admitted = False
        self._refusal: BaseException | None = None
        self._pids, self._report = _pipe()
        thread = threading.Thread(target=self._run, name="taskstats-gate", daemon=True)
        self._thread = thread
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            thread.start()
        except RuntimeError as error:
            os.close(self._pids)
            os.close(self._report)
            raise from_errno("monitor", errno.EAGAIN, "thread") from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

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
            self._admit, self._admitted, self._refusal = admit, False, None
            waits, self._go = _pipe()
            try:
                process = subprocess.Popen(
                    words, preexec_fn=_Visitor(self._report, waits, self._go), **how
                )
            finally:
                os.close(waits)
                os.close(self._go)
            if self._admitted:
                return process
            process.wait()
            code = errno.ECHILD
            raise self._refusal or OSError(code, "Killed before it was the command", words[0])

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
        while (told := os.read(self._pids, _PID.size)) != _END:
            (pid,) = _PID.unpack(told)
            try:
                self._admit(pid)
                self._admitted = True
            except BaseException as error:
                self._refusal = error
            os.write(self._go, _GO if self._admitted else _NO)


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

    def __init__(self, report: int, waits: int, go: int) -> None:
        self._report = report
        self._waits = waits
        self._go = go

    def __call__(self) -> None:
        gc.disable()  # no finalizer of the program runs here
        os.close(self._go)  # so that the wait ends when the program does
        os.write(self._report, _PID.pack(os.getpid()))
        if os.read(self._waits, 1) != _GO:
            os._exit(127)
