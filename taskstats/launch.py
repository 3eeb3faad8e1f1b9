"""A command, run as its user expects, and waited for."""

import contextlib
import ctypes
import errno
import io
import json
import os
import pwd
import resource
import signal
import sys
import time
from collections.abc import Iterator, Sequence, Set
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, NoReturn

from taskstats import privileges

_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36
_PR_GET_CHILD_SUBREAPER = 37

#: Python ignores these from its start, whatever they were before (Python/pylifecycle.c).
_IGNORED_BY_PYTHON = {signal.SIGPIPE, signal.SIGXFSZ}
#: What a fault of our own raises is our own.
_FAULTS = {
    signal.SIGBUS,
    signal.SIGFPE,
    signal.SIGILL,
    signal.SIGSEGV,
    signal.SIGSYS,
    signal.SIGTRAP,
}
_SETTABLE = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
#: What is held from other takers, for `Command.wait` to take.
_HELD = _SETTABLE - _FAULTS
#: What must have its default disposition here: without SIGCHLD's there is nothing to wait for.
_DEFAULTED = (signal.SIGCHLD, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)

#: The kernel counts resident pages in batches; this much may come to light at exec.
_RSS_SLACK = 2 << 20

_libc = ctypes.CDLL(None, use_errno=True)


_LINES = 4  # that a child has reported when it is let go


@dataclass(frozen=True, slots=True)
class Usage:
    """Sums of getrusage(2).

    Attributes:
        user_ns: On a CPU in user mode.
        system_ns: On a CPU in the kernel.
        max_rss_bytes: The largest resident size of any one process; None if that is not known.
        minor_faults: Page faults without I/O.
        major_faults: Page faults with I/O.
        voluntary_switches: Times it waited.
        involuntary_switches: Times it had to give up the CPU.
        block_inputs: Blocks of 512 bytes read from devices.
        block_outputs: Blocks of 512 bytes to be written to devices.
    """

    user_ns: int = 0
    system_ns: int = 0
    max_rss_bytes: int | None = None
    minor_faults: int = 0
    major_faults: int = 0
    voluntary_switches: int = 0
    involuntary_switches: int = 0
    block_inputs: int = 0
    block_outputs: int = 0

    @classmethod
    def of(cls, used: resource.struct_rusage) -> "Usage":
        """The same of one process and those it has waited for."""
        return cls(
            user_ns=round(used.ru_utime * 1e6) * 1000,
            system_ns=round(used.ru_stime * 1e6) * 1000,
            max_rss_bytes=used.ru_maxrss * 1024,
            minor_faults=used.ru_minflt,
            major_faults=used.ru_majflt,
            voluntary_switches=used.ru_nvcsw,
            involuntary_switches=used.ru_nivcsw,
            block_inputs=used.ru_inblock,
            block_outputs=used.ru_oublock,
        )

    def __add__(self, other: "Usage") -> "Usage":
        largest = max(self.max_rss_bytes or 0, other.max_rss_bytes or 0) or None
        return self._combined(other, 1, largest)

    def since(self, before: "Usage") -> "Usage":
        """What has come since then.

        A process's largest resident size lives on over exec: below that of before it tells nothing.
        """
        largest, floor = self.max_rss_bytes or 0, (before.max_rss_bytes or 0) + _RSS_SLACK
        return self._combined(before, -1, largest if largest > floor else None)

    def _combined(self, other: "Usage", sign: int, max_rss_bytes: int | None) -> "Usage":
        return Usage(
            user_ns=self.user_ns + sign * other.user_ns,
            system_ns=self.system_ns + sign * other.system_ns,
            max_rss_bytes=max_rss_bytes,
            minor_faults=self.minor_faults + sign * other.minor_faults,
            major_faults=self.major_faults + sign * other.major_faults,
            voluntary_switches=self.voluntary_switches + sign * other.voluntary_switches,
            involuntary_switches=self.involuntary_switches + sign * other.involuntary_switches,
            block_inputs=self.block_inputs + sign * other.block_inputs,
            block_outputs=self.block_outputs + sign * other.block_outputs,
        )


@dataclass(frozen=True, slots=True)
class Ended:
    """How a command ended, and what it cost.

    Attributes:
        status: The command's wait status, for `os.WIFEXITED` and the like.
        wall_ns: From letting it go to its end (CLOCK_MONOTONIC).
        usage: Of the command since its exec, of every orphan reaped, and of whatever each of these
            has waited for itself.
        before: Of the command's process before its exec, when it was a copy of this one. The
            kernel's own sums of the process, as in its taskstats, include it.
        before_runs: How often it had been put on a CPU then; likewise.
        before_waited_ns: How long it had been ready to run and waited for that; likewise.
    """

    status: int
    wall_ns: int
    usage: Usage
    before: Usage
    before_runs: int
    before_waited_ns: int

    @property
    def user_ns(self) -> int:
        """On a CPU in user mode, the command and all that was reaped."""
        return self.usage.user_ns

    @property
    def system_ns(self) -> int:
        """On a CPU in the kernel, the command and all that was reaped."""
        return self.usage.system_ns


@contextlib.contextmanager
def subreaper_as_before() -> Iterator[None]:
    """Whether this process is a child subreaper is in the end what it was (prctl(2))."""
    before = ctypes.c_int()
    _libc.prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(before), *map(ctypes.c_ulong, (0, 0, 0)))
    try:
        yield
    finally:
        _set_subreaper(before.value)


def _set_subreaper(value: int) -> None:
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, *map(ctypes.c_ulong, (value, 0, 0, 0)))


class Command:
    """A command that waits to be let go.

    It has what this process has been given: streams, terminal, process group, environment, limits,
    the signals that it ignores or blocks. It does not get this process's capabilities. SIGPIPE and
    SIGXFSZ always have their default: Python ignores both from its start, so that it is lost
    whether this process's caller ignored them.

    This process becomes a child subreaper (prctl(2)), so that the command's orphans come to it. It
    must have one thread; those it makes later inherit its signal mask. Until `close` all signals
    are held but those that tell of a fault: they are the command's.

    Args:
        words: The command and its arguments. A name without a slash is looked up on PATH, and what
            is neither a binary nor has a `#!` line is given to /bin/sh: execvp(3) does it.
        user: Whom to run it as: with the user's groups, and HOME, SHELL, USER and LOGNAME as su(1)
            sets them.

    Attributes:
        pid: The command's.
        others: Children that this process had before.

    Raises:
        OSError: There can be no more processes, or descriptors.
    """

    def __init__(self, words: Sequence[str], user: pwd.struct_passwd | None = None) -> None:
        groups = os.getgrouplist(user.pw_name, user.pw_gid) if user else ()
        self._words = [os.fsencode(word) for word in words]
        self.others = _children()
        self._status: int | None = None
        self._held_terminal = False
        self._ended_ns = 0
        self._heard: list[bytes] = []  # of what the child reports
        self._itself = self._orphans = Usage()
        with contextlib.ExitStack() as undo:
            ignored = {n for n in _SETTABLE if signal.getsignal(n) == signal.SIG_IGN}
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD)
            undo.callback(signal.pthread_sigmask, signal.SIG_SETMASK, mask)
            for number in _DEFAULTED:
                undo.callback(signal.signal, number, signal.signal(number, signal.SIG_DFL))
            with contextlib.ExitStack() as childs:
                self._gate = _pipe(childs, undo)
                self._report = _pipe(undo, childs)
                _set_subreaper(1)
                self.pid = os.fork()
                if self.pid == 0:
                    self._become(user, groups, ignored - _IGNORED_BY_PYTHON, mask)
            self._undo = undo.pop_all()

    def __enter__(self) -> "Command":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets this process have its signals back; a command that was not let go never runs.

        Signals that came for the command after its end are forgotten.
        """
        self._gate[1].close()
        if self._status is None:
            _, self._status = os.waitpid(self.pid, 0)
        while signal.sigtimedwait(_HELD, 0):
            pass
        self._undo.close()

    def await_gate(self) -> None:
        """Waits until the process has only to be let go to become the command.

        What the kernel tells of it then is what it has used, as a copy of this one.
        """
        if not self._heard:
            self._open_gate()
            self._heard = [self._report[0].readline() for _ in range(_LINES - 1)]

    def wait(self) -> Ended:
        """Lets it go, and waits for its end.

        Meanwhile every child of this process that ends is reaped. Orphans that live on are not
        waited for. Signals sent to this process are passed on, but not those that a terminal or
        the command itself sends to the whole group. When the command is stopped, so is this
        process; when this process is continued, so is the command.

        Raises:
            OSError: The command could not be run; `exit_status` has what a shell makes of it. Its
                `filename` is the command, or the system call that failed before; or the process
                was killed before.
        """
        self.await_gate()
        began = time.monotonic_ns()
        self._open_gate()
        self._reap()
        while self._status is None:
            self._heed(signal.sigwaitinfo(_HELD))
            self._reap()
        told = self._told()
        before = Usage(*told["usage"])
        return Ended(
            status=self._status,
            wall_ns=self._ended_ns - began,
            usage=(self._itself + self._orphans).since(before),
            before=before,
            before_runs=told["runs"],
            before_waited_ns=told["waited_ns"],
        )

    # -- here

    def _open_gate(self) -> None:
        with contextlib.suppress(BrokenPipeError):  # it has died already
            self._gate[1].write(b"\n")

    def _reap(self) -> None:
        while True:
            try:
                pid, status, used = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid == self.pid:
                self._ended_ns = time.monotonic_ns()
                self._status = status
                self._itself = Usage.of(used)
            elif pid not in self.others:
                self._orphans += Usage.of(used)

    def _heed(self, info: signal.struct_siginfo) -> None:
        number = info.si_signo
        if number == signal.SIGCHLD:
            if stopped_by := self._stopped_by():
                self._stop(stopped_by)
        elif number == signal.SIGCONT:
            if self._stopped_by():
                self._give_terminal_back()
                self._send(signal.SIGCONT)
        elif self._came_to_us_alone(info):
            self._send(number)

    def _stopped_by(self) -> int | None:
        """The signal that has stopped the command, if it is stopped now."""
        try:
            found = os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOWAIT | os.WNOHANG)
        except ChildProcessError:  # it has ended
            return None
        return found.si_status if found else None

    def _stop(self, number: int) -> None:
        """Stops this process as well, for a shell to see.

        SIGTSTP stands for SIGSTOP, since it does nothing where there is no shell that could
        continue us (an orphaned process group).
        """
        if signal.SIGCONT in signal.sigpending():
            return
        with contextlib.suppress(OSError), io.FileIO("/dev/tty") as terminal:
            self._held_terminal = os.tcgetpgrp(terminal.fileno()) == os.getpgid(self.pid)
        number = signal.SIGTSTP if number == signal.SIGSTOP else number
        signal.raise_signal(number)  # held yet: a SIGCONT that comes from now on takes it back
        if self._stopped_by():
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
            signal.pthread_sigmask(signal.SIG_BLOCK, [number])

    def _give_terminal_back(self) -> None:
        """Makes up for the shell, which gave the terminal to the only job that it knows, us."""
        if self._held_terminal:
            with contextlib.suppress(OSError), io.FileIO("/dev/tty") as terminal:
                if os.tcgetpgrp(terminal.fileno()) == os.getpgrp():
                    os.tcsetpgrp(terminal.fileno(), os.getpgid(self.pid))

    def _send(self, number: int) -> None:
        with contextlib.suppress(PermissionError):  # it has become another user's, as by sudo
            os.kill(self.pid, number)

    def _came_to_us_alone(self, info: signal.struct_siginfo) -> bool:
        """Whether the command has not had the signal anyhow, so far as that can be told."""
        if info.si_code > 0:  # of the kernel
            # A timer that was set before we were run, or a terminal gone, of which the kernel tells
            # the session's leader. All else that is not ours goes to the terminal's whole group.
            return info.si_signo == signal.SIGALRM or (
                info.si_signo == signal.SIGHUP and os.getsid(0) == os.getpid()
            )
        sender = info.si_pid
        while sender > 1 and sender != os.getpid():
            sender = _parent(sender)
        return sender != os.getpid()  # the command, and what descends from it, means its group

    def _told(self) -> dict[str, Any]:
        """What the child has told right before it was the command.

        Raises:
            OSError: It was not.
        """
        lines = [json.loads(line) for line in (*self._heard, *self._report[0]) if line]
        last = lines[-1] if lines else {}
        if "errno" in last:
            raise OSError(last["errno"], os.strerror(last["errno"]), last["what"])
        if len(lines) < _LINES:
            raise OSError(errno.ECHILD, "Killed before it was the command", str(self.pid))
        return last

    # -- in the child

    def _become(
        self,
        user: pwd.struct_passwd | None,
        groups: Sequence[int],
        ignored: Set[int],
        mask: Set[int],
    ) -> NoReturn:
        """Waits at the gate, and becomes the command."""
        reading, gate = self._gate
        report = self._report[1]
        try:
            gate.close()  # else there would be no end to wait for
            for number in _SETTABLE:
                signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)
            _restore_locale()
            privileges.drop_inherited_capabilities()
            if user:
                stranger = user.pw_uid != os.getuid()
                privileges.become(user, groups)
                if stranger:
                    privileges.leave_session_keyring()
            words = (ctypes.c_char_p * (len(self._words) + 1))(*self._words)
            # First to nothing: what this way takes of our pages is copied then, and of what the
            # kernel counts after the gate all is the command's.
            for name, blocked in ((b"", _HELD), (words[0], mask)):
                report.write(_before_exec())
                if not reading.read(1):
                    os._exit(0)
                report.write(_before_exec())
                signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
                _libc.execvp(name, words)
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), os.fsdecode(self._words[0]))
        except BaseException as error:
            code = (isinstance(error, OSError) and error.errno) or errno.EINVAL
            what = error.filename if isinstance(error, OSError) else repr(error)
            report.write(json.dumps({"errno": code, "what": what}).encode() + b"\n")
        finally:
            os._exit(127)


def exit_status(error: OSError) -> int:
    """What a shell exits with where a command could not be run: 127 not found, 126 otherwise."""
    return 127 if error.errno == errno.ENOENT else 126


def die_like(status: int) -> NoReturn:
    """Ends this process as the command has ended, so that a shell sees no difference.

    Args:
        status: The command's wait status.

    Raises:
        SystemExit: It exited by itself, or this process cannot die by its signal (process 1).
    """
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        sys.exit(code)
    number = -code
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # closed, or none
            stream.flush()
    _libc.prctl(_PR_SET_DUMPABLE, *map(ctypes.c_ulong, (0, 0, 0, 0)))  # no core of ours
    if number in _SETTABLE:
        signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])
    signal.raise_signal(number)
    sys.exit(128 + number)


def _pipe(
    readers: contextlib.ExitStack, writers: contextlib.ExitStack
) -> tuple[io.FileIO, io.FileIO]:
    """A pipe, each end of which is closed with those of its side."""
    reading, writing = os.pipe()
    return (
        readers.enter_context(io.FileIO(reading, "rb")),
        writers.enter_context(io.FileIO(writing, "wb")),
    )


def _before_exec() -> bytes:
    """A line about what this process has used."""
    usage = astuple(Usage.of(resource.getrusage(resource.RUSAGE_SELF)))
    runs, waited_ns = _runs()
    told = {"usage": usage, "runs": runs, "waited_ns": waited_ns}
    return json.dumps(told).encode() + b"\n"


def _runs() -> tuple[int, int]:
    """How often this process has been put on a CPU, and how long it had waited for that.

    0 where the kernel does not tell.
    """
    try:
        _, waited_ns, runs = Path("/proc/thread-self/schedstat").read_text().split()
    except (OSError, ValueError):
        return 0, 0
    return int(runs), int(waited_ns)


def _restore_locale() -> None:
    """Gives LC_CTYPE back what it was: where the locale is C, Python sets it (PEP 538)."""
    with contextlib.suppress(OSError):  # without /proc it is not known
        given = Path("/proc/self/environ").read_bytes().split(b"\0")
        before = [one.partition(b"=")[2] for one in given if one.startswith(b"LC_CTYPE=")]
        if before:
            os.environb[b"LC_CTYPE"] = before[0]
        else:
            os.environb.pop(b"LC_CTYPE", None)


def _children() -> set[int]:
    """The children that this process has: those of the program that it was before an exec."""
    try:
        return {int(pid) for pid in Path("/proc/thread-self/children").read_text().split()}
    except OSError:
        return set()


def _parent(pid: int) -> int:
    """The process's parent; 0 if /proc does not tell."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return 0
    return int(stat[stat.rindex(b")") + 2 :].split()[1])
