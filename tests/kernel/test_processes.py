"""ProcessFold on the real kernel."""

import itertools
import os
import subprocess
import sys

import pytest
from support import child
from support.requirements import needs_processes

from taskstats import Batch, ExitListener, Process, ProcessFold, Record


class Heard:
    """The records of a stream, and the processes that they make."""

    def __init__(self) -> None:
        needs_processes()
        self.fold = ProcessFold()
        self.records: list[Record] = []
        self.processes: list[Process] = []

    def take(self, batch: Batch) -> None:
        self.records += batch
        self.processes += self.fold.feed(batch)
        accounted = self.fold.held + self.fold.forgotten + sum(p.threads for p in self.processes)
        assert len(self.records) == accounted

    def until_ended(self, listener: ExitListener, tgid: int, threads: int) -> list[Record]:
        """Takes batches until so many threads of this process have ended."""
        for batch in listener.batches():
            self.take(batch)
            ended = [record for record in self.records if record.ac_tgid == tgid]
            if len(ended) >= threads:
                return ended
        raise AssertionError("the stream has ended")

    def gathered(self, listener: ExitListener) -> tuple[list[Record], list[Process]]:
        """Stops the listener, and takes the rest."""
        listener.stop()
        for batch in itertools.chain(listener.batches(), [Batch(b"")]):
            self.take(batch)
        return self.records, self.processes


def only(processes: list[Process], pid: int) -> Process:
    """The process of this pid, of which there is one."""
    (process,) = (process for process in processes if process.pid == pid)
    return process


def script(text: str) -> "subprocess.Popen[bytes]":
    """A Python process that runs this, with a pipe on both sides."""
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", text], stdin=pipe, stdout=pipe)


EIGHT_THREADS = """
import sys, threading
threads = [threading.Thread(target=sum, args=(range(10000),)) for _ in range(8)]
for t in threads: t.start()
for t in threads: t.join()
sys.exit(5)
"""


def test_a_process_of_nine_threads_is_one() -> None:
    with ExitListener() as listener:
        with script(EIGHT_THREADS) as made:
            made.communicate()
        records, processes = Heard().gathered(listener)
    process = only(processes, made.pid)
    threads = [record for record in records if record.ac_tgid == made.pid]
    assert (process.threads, process.complete) == (9, True)
    assert (process.exit_code, process.exit_signal) == (5, None)
    assert (process.ppid, process.uid) == (os.getpid(), os.getuid())
    for name in ("cpu_count", "cpu_run_virtual_total", "ac_minflt", "nvcsw"):
        assert process.totals[name] >= sum(getattr(record, name) for record in threads) > 0
    assert process.totals["hiwater_rss"] == max(record.hiwater_rss for record in threads)


def test_the_stream_with_a_timeout_gives_it_out_of_itself() -> None:
    needs_processes()
    fold = ProcessFold()
    with ExitListener() as listener:
        with script(EIGHT_THREADS) as made:
            made.communicate()
        batches = itertools.islice(listener.batches(timeout=0.1), 10_000)
        processes = (process for batch in batches for process in fold.feed(batch))
        process = next(process for process in processes if process.pid == made.pid)
    assert (process.threads, process.complete, process.exit_code) == (9, True, 5)


EXEC = """
import os, threading
cpus = os.sched_getaffinity(0)
command = ["/bin/sh", "-c", "exit 6"]
def run():
    os.sched_setaffinity(0, [{}(cpus)])
    os.execv(command[0], command)
os.sched_setaffinity(0, [{}(cpus)])
threading.Thread(target=run).start()
input()
"""


@pytest.mark.parametrize(("thread", "leader"), [("max", "min"), ("min", "max")])
def test_an_exec_by_another_thread_than_the_leader_makes_no_second_process(
    thread: str, leader: str
) -> None:
    """The CPUs are read in the order of their numbers, so that one of the two comes reversed."""
    with ExitListener() as listener:
        with script(EXEC.format(thread, leader)) as made:
            made.wait()  # the leader waits for a line that never comes
        records, processes = Heard().gathered(listener)
    process = only(processes, made.pid)
    threads = [record for record in records if record.ac_tgid == made.pid]
    assert [record.ac_pid for record in threads] == [made.pid] * 2
    assert sorted(record.is_last for record in threads) == [False, True]
    assert (process.threads, process.complete) == (2, True)
    assert (process.exit_code, process.exit_signal, process.comm) == (6, None, "sh")
    assert process.status_certain is True


LEADER_FIRST = """
import ctypes, os, threading
def end(): os.read(0, 1); os._exit(3)
threading.Thread(target=end).start()
ctypes.CDLL(None).pthread_exit(None)
"""


def test_a_leader_that_ends_first_leaves_the_status_to_the_last_thread() -> None:
    heard = Heard()
    with ExitListener() as listener:
        with script(LEADER_FIRST) as made:
            (leader,) = heard.until_ended(listener, made.pid, threads=1)
            made.communicate(b"x")
        _, processes = heard.gathered(listener)
    process = only(processes, made.pid)
    assert (leader.ac_pid, leader.is_last, leader.exit_code) == (made.pid, False, 0)
    assert made.returncode == process.exit_code == 3
    assert (process.threads, process.complete) == (2, True)
    assert process.status_certain is False
    assert process.comm == leader.comm


def test_every_child_is_a_process_with_its_status() -> None:
    with ExitListener() as listener:
        made = {child.spawn_and_reap(i % 256): i % 256 for i in range(300)}
        _, processes = Heard().gathered(listener)
    mine = [process for process in processes if process.ppid == os.getpid()]
    assert sorted((process.pid, process.exit_code) for process in mine) == sorted(made.items())
    assert len(mine) == 300
    for process in mine:
        assert (process.threads, process.complete, process.status_certain) == (1, True, True)


SOME_END = """
import threading
for _ in range(3):
    t = threading.Thread(target=sum, args=(range(1000000),))
    t.start()
    t.join()
input()
"""


def test_a_process_whose_threads_ended_before_is_not_complete_but_its_time_is() -> None:
    with ExitListener() as before, script(SOME_END) as made:
        unheard = Heard().until_ended(before, made.pid, threads=3)
        with ExitListener() as listener:
            made.communicate(b"\n")
            records, processes = Heard().gathered(listener)
    process = only(processes, made.pid)
    (last,) = (record for record in records if record.ac_tgid == made.pid)
    assert last.group is not None
    assert (process.threads, process.complete, process.exit_code) == (1, False, 0)
    total = process.totals["cpu_run_virtual_total"]
    assert total == last.group.cpu_run_virtual_total
    assert total > last.cpu_run_virtual_total
    assert total >= sum(record.cpu_run_virtual_total for record in unheard)
