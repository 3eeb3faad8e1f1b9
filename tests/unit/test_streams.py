"""Stdout and stderr where a plain Python would lose a line, or end because of one."""

import fcntl
import io
import os
import signal
import struct
import subprocess
import sys
import termios

import pytest

from taskstats.cli import streams

PREPARED = "import sys; from taskstats.cli import streams; streams.prepare()\n"

#: Writes twice what its pipe holds; the signal's handler says that the write was cut short.
WRITER = f"""{PREPARED}
import fcntl, os, signal
signal.signal(signal.SIGUSR1, lambda *_: os.write(2, b"!"))
sys.stdout.write("x" * (2 * fcntl.fcntl(1, fcntl.F_GETPIPE_SZ)))
sys.stdout.flush()
"""


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_write_that_a_signal_cuts_short_is_taken_up_again(unbuffered: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    ) as writer:
        assert writer.stdout is not None
        assert writer.stderr is not None
        capacity = fcntl.fcntl(writer.stdout, fcntl.F_GETPIPE_SZ)
        while waiting(writer.stdout.fileno()) < capacity:
            assert writer.poll() is None
            os.sched_yield()
        writer.send_signal(signal.SIGUSR1)
        assert writer.stderr.read(1) == b"!"
        assert len(writer.stdout.read()) == 2 * capacity
    assert writer.returncode == 0


def waiting(pipe: int) -> int:
    """Bytes that can be read."""
    return int(struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, b"1234"))[0])


def run(program: str, redirections: str) -> subprocess.CompletedProcess[str]:
    shell = f'exec "$0" -c "$1" {redirections}'
    return subprocess.run(
        ["sh", "-c", shell, sys.executable, PREPARED + program], capture_output=True, text=True
    )


@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-", "2>/dev/null"])
def test_nothing_depends_on_stderr(redirection: str) -> None:
    made = run("print('x', file=sys.stderr, flush=True); print('y')", redirection)
    assert (made.returncode, made.stdout) == (0, "y\n")


def test_a_closed_stdout_takes_what_is_written() -> None:
    made = run("print('x', flush=True); print('y', file=sys.stderr)", ">&-")
    assert (made.returncode, made.stderr) == (0, "y\n")


def test_an_abandoned_stdout_fails_no_more() -> None:
    made = run("sys.stdout.write('x'); streams.abandon(sys.stdout)", ">/dev/full")
    assert (made.returncode, made.stderr) == (0, "")
    assert run("sys.stdout.write('x')", ">/dev/full").returncode == 120, "so it does otherwise"


def test_every_character_has_a_form() -> None:
    program = "print('日'); print('日', file=sys.stderr)"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    made = subprocess.run(
        [sys.executable, "-c", PREPARED + program],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert made.stdout == made.stderr == "\\u65e5\n"


def test_once_the_reader_is_gone_writing_does_nothing() -> None:
    program = "sys.stdin.read(); print('x' * 100_000, flush=True); sys.exit(7)"
    with subprocess.Popen(
        [sys.executable, "-c", PREPARED + program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as writer:
        assert writer.stdin is not None
        assert writer.stdout is not None
        assert writer.stderr is not None
        writer.stdout.close()
        writer.stdin.close()
        assert writer.stderr.read() == b""
    assert writer.returncode == 7


def test_a_terminal_that_is_gone_takes_what_is_written() -> None:
    program = PREPARED + "print('x', flush=True); print('y', file=sys.stderr)"
    ours, theirs = os.openpty()
    os.close(ours)
    made = subprocess.run(
        [sys.executable, "-c", program], stdout=theirs, stderr=subprocess.PIPE, text=True
    )
    os.close(theirs)
    assert (made.returncode, made.stderr) == (0, "y\n")


def test_who_has_made_it_non_blocking_gets_every_line_too() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    program = PREPARED + "sys.stdout.write('x' * 1_000_000)"
    with subprocess.Popen([sys.executable, "-c", program], stdout=writing) as writer:
        os.close(writing)
        with open(reading, "rb") as pipe:  # noqa: PTH123 - a descriptor
            assert len(pipe.read()) == 1_000_000
    assert writer.returncode == 0


def test_whether_the_reader_is_gone() -> None:
    reading, writing = os.pipe()
    with open(writing, "w", encoding="ascii") as stream:  # noqa: PTH123 - a descriptor
        assert not streams.reader_is_gone(stream)
        os.close(reading)
        assert streams.reader_is_gone(stream)
    assert not streams.reader_is_gone(io.StringIO())
