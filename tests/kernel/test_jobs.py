"""JobTracker on the real kernel: several jobs at once, each with a step daemon of its own."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from support.requirements import needs_probe, needs_processes

import taskstats
from taskstats.jobs import JobTracker, Usage

CHILDREN = 100

#: A step daemon: a child subreaper, with children one after the other and an orphan of each tenth.
STEP = f"""
import ctypes, os, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
for line in sys.stdin:
    for number in range({CHILDREN}):
        if os.fork() == 0:
            if number % 10 == 0 and os.fork() == 0:
                os.setsid()
            os._exit(number % 2)
        os.wait()
    try:
        while True:
            os.wait()  # the orphans
    except ChildProcessError:
        print("done", flush=True)
"""


class Step:
    """A running step daemon."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self.pid = process.pid

    def begin(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def finish(self) -> None:
        """Waits until its children have ended."""
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "done\n"


@contextmanager
def steps(number: int) -> Iterator[list[Step]]:
    pipe = subprocess.PIPE
    with ExitStack() as stack:
        yield [
            Step(
                stack.enter_context(
                    subprocess.Popen(
                        [sys.executable, "-S", "-c", STEP], stdin=pipe, stdout=pipe, text=True
                    )
                )
            )
            for _ in range(number)
        ]


def heard(tracker: JobTracker, listener: taskstats.ExitListener) -> None:
    """Feeds what has been sent."""
    listener.stop()
    for batch in listener.batches():
        tracker.feed(batch)
    tracker.flush()
    tracker.note_lost(listener.stats().lost)


def counted(usage: Usage) -> tuple[int, int, bool]:
    return usage.total.processes, usage.total.failed, usage.complete


@pytest.fixture(autouse=True)
def _processes() -> None:
    needs_processes()
    needs_probe()


def test_two_jobs_at_once_have_what_is_theirs() -> None:
    with (
        taskstats.Client() as client,
        taskstats.ExitListener(probe="require") as listener,
        steps(3) as running,
    ):
        tracker = JobTracker(client.pids, births=True)
        for step in running[:2]:
            tracker.start(step.pid, step.pid)
        for step in running:  # the third is no job
            step.begin()
        for step in running:
            step.finish()
        heard(tracker, listener)
        usages = [tracker.close(step.pid) for step in running[:2]]
    orphans = CHILDREN // 10
    assert [counted(usage) for usage in usages] == [(CHILDREN + orphans, CHILDREN // 2, True)] * 2
    assert tracker.outside >= CHILDREN + orphans


def test_a_job_that_runs_is_attached_to_and_its_living_processes_are_told() -> None:
    with taskstats.Client() as client, steps(1) as (step,):
        step.begin()
        step.finish()
        with taskstats.ExitListener(probe="require") as listener:
            tracker = JobTracker(client.pids, births=True)
            tracker.attach(step.pid, "job")
            (living,) = tracker.usage("job", [1, step.pid]).living
            step.begin()
            step.finish()
            heard(tracker, listener)
            usage = tracker.close("job")
    assert (living.pid, living.threads) == (step.pid, 1)
    assert living.cpu_ns > 0
    assert usage.total.processes == CHILDREN + CHILDREN // 10
    assert not usage.complete


def test_totals_are_those_of_the_records() -> None:
    with (
        taskstats.Client() as client,
        taskstats.ExitListener(probe="require") as listener,
        steps(1) as (step,),
    ):
        tracker = JobTracker(client.pids, births=True)
        tracker.start(step.pid, "job")
        step.begin()
        step.finish()
        listener.stop()
        records: list[taskstats.Record] = []
        for batch in listener.batches():
            tracker.feed(batch)
            records += batch
        tracker.flush()
        total = tracker.close("job").total
    children = {record.ac_pid for record in records if record.ac_ppid == step.pid}
    records = [record for record in records if record.ac_ppid in {step.pid} | children]
    assert total.processes == len(records)
    for name in ("cpu_run_virtual_total", "ac_minflt", "nvcsw", "ac_etime", "read_char"):
        assert total.sums[name] == sum(getattr(record, name) for record in records)
    assert total.sums["hiwater_rss"] == max(record.hiwater_rss for record in records)
