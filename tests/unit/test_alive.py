"""Who lives: what /proc shows of this machine's own processes."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from taskstats import alive
from taskstats.alive import TICK_NS


@contextmanager
def child() -> Iterator[int]:
    """A child that lives until a byte comes: then it is a zombie until the end."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writing)
        os.read(reading, 1)
        os._exit(0)
    os.close(reading)
    try:
        with open(writing, "wb"):  # noqa: PTH123 - a descriptor
            yield pid
    finally:
        os.waitpid(pid, 0)


def test_it_finds_this_process_and_its_parent() -> None:
    (own,) = alive.look([os.getpid()])
    assert (own.pid, own.ppid, own.nested) == (os.getpid(), os.getppid(), False)
    assert own in alive.look()


def test_a_start_is_right_to_10_ms_and_is_over() -> None:
    """It waits so long that nobody else can have the same pid and start."""
    before = alive.clock().boot
    with child() as pid:
        after = alive.clock().boot
        (found,) = alive.look([pid])
        assert alive.clock().boot > found.start_end_ns
    assert found.ppid == os.getpid()
    assert found.start_ns <= after
    assert before <= found.start_end_ns == found.start_ns + TICK_NS - 1
    assert (found.start_ns % TICK_NS, found.start_ns > 0) == (0, True)


def test_one_that_has_ended_is_found_until_it_is_waited_for() -> None:
    with child() as pid:
        (living,) = alive.look([pid])
        assert not living.ended
        os.kill(pid, 9)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        assert alive.look([pid]) == [living._replace(ended=True)]
        pids = [pid, os.getpid()]
    assert [one.pid for one in alive.look(pids)] == [os.getpid()]


def test_a_name_does_not_disturb_what_follows_it() -> None:
    """/proc/PID/stat has the name in parentheses, whatever is in it."""
    name = ") R 1 (x"
    comm = Path("/proc/self/comm")
    before = comm.read_text()
    comm.write_text(name)
    try:
        (own,) = alive.look([os.getpid()])
    finally:
        comm.write_text(before.strip())
    assert own.ppid == os.getppid()


def test_the_clocks_fit_together() -> None:
    moment = alive.clock()
    assert abs(moment.real - time.time_ns()) < 10**9
    assert abs(moment.monotonic - time.monotonic_ns()) < 10**9
    assert moment.booted == moment.real - moment.boot


def test_an_offset_of_the_time_namespace_is_taken_off(monkeypatch: pytest.MonkeyPatch) -> None:
    (before,) = alive.look([os.getpid()])
    monkeypatch.setattr(alive, "_boot_offset_ns", lambda: 3 * TICK_NS)
    (shifted,) = alive.look([os.getpid()])
    assert shifted.start_ns == before.start_ns - 3 * TICK_NS


def test_the_clocks_are_read_again_if_time_passes_between(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that lost its CPU for 50 ms would see others start 50 ms too late."""
    pauses = [0.05, 0.05, 0]
    real = time.time_ns

    def late() -> int:
        time.sleep(pauses.pop(0))
        return real()

    before = alive.clock().booted
    monkeypatch.setattr(time, "time_ns", late)
    moment = alive.clock()
    assert pauses == []
    assert abs(moment.booted - before) < 5_000_000
