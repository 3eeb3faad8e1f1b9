"""JobMonitor on the emulated kernel: jobs by pid."""

import os
import threading
import time
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

import pytest

from taskstats import JobMonitor, TaskstatsError, Unavailable, reader
from taskstats.alive import TICK_NS, Alive, Moment
from taskstats.emulator import EmulatedKernel, Task
from taskstats.emulator.tasks import _SUSPENDED_NS
from taskstats.jobs import JobTracker


class Kernel(EmulatedKernel):
    """An emulated kernel that shows its tasks to a tracker, as /proc does."""

    def __init__(self) -> None:
        super().__init__()
        self._shown: dict[int, tuple[Task, int]] = {}
        self._now_ns = 0

    def spawn(self, *arguments: Any, parent: Task | None = None, **how: Any) -> Task:
        task = super().spawn(*arguments, parent=parent, **how)
        self._shown[task.pid] = task, parent.pid if parent else 1
        return task

    def advance(self, seconds: float, *tasks: Task) -> None:
        super().advance(seconds, *tasks)
        self._now_ns += round(seconds * 1e9)

    def look(self, pids: Iterable[int] | None = None) -> list[Alive]:
        wanted = self._shown if pids is None else set(pids) & self._shown.keys()
        return [
            Alive(task.pid, parent, task.start_ns // TICK_NS * TICK_NS, nested=False)
            for task, parent in (self._shown[pid] for pid in sorted(wanted))
            if not task.exited
        ]

    def clock(self) -> Moment:
        boot = self._now_ns + _SUSPENDED_NS
        real = self._state.tasks.booted * 10**9 + self._now_ns
        return Moment(boot, real, time.monotonic_ns())


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    with Kernel() as one:
        tracker = partial(JobTracker, look=one.look, clock=one.clock, may_nest=lambda: False)
        monkeypatch.setattr(reader, "JobTracker", tracker)
        yield one


def test_two_jobs_at_once_have_their_own(kernel: Kernel) -> None:
    with JobMonitor(endpoint=kernel.endpoint) as monitor:
        roots = [kernel.spawn("sh"), kernel.spawn("make")]
        for root in roots:
            monitor.start(root.pid, root.comm)
        for root, seconds in zip(roots, (1.0, 2.0), strict=True):
            for _ in range(3):
                step = kernel.spawn("step", parent=root)
                kernel.advance(seconds, step)
                kernel.exit(step)
        for root, cpu_seconds in zip(roots, (3.0, 6.0), strict=True):
            kernel.exit(root)
            finished = monitor.finish(root.comm)
            assert finished.returncode is None
            assert finished.settled
            assert finished.complete
            assert finished.usage.total.processes == 4
            assert finished.usage.total.cpu_seconds == cpu_seconds


def test_without_the_probe_every_record_is_counted(kernel: Kernel) -> None:
    with JobMonitor(probe="off", endpoint=kernel.endpoint) as monitor:
        roots = [kernel.spawn("sh"), kernel.spawn("make")]
        for root in roots:
            monitor.start(root.pid, root.comm)
        for root in roots:
            step = kernel.spawn("step", parent=root)
            kernel.advance(3.0, step)
            kernel.exit(step)
        for root in roots:
            kernel.exit(root)
            finished = monitor.finish(root.comm)
            assert finished.settled
            used = finished.usage
            assert used.total.processes <= 2 <= used.total.processes + used.undecided


def test_what_ended_before_now_is_in_it_at_once(kernel: Kernel) -> None:
    with JobMonitor(endpoint=kernel.endpoint) as monitor:
        for number in range(20):
            root = kernel.spawn("root")
            monitor.start(root.pid, number)
            kernel.advance(0.01, root)
            kernel.exit(root)
            assert monitor.finish(number).usage.total.processes == 1


def test_a_loss_is_of_the_jobs_that_run(kernel: Kernel) -> None:
    with JobMonitor(probe="off", endpoint=kernel.endpoint) as monitor:
        root = kernel.spawn("root")
        monitor.start(root.pid, "a")
        kernel.lose(2)
        kernel.exit(root)
        finished = monitor.finish("a")
        assert finished.usage.lost == 2
        assert not finished.complete
        assert monitor.stats().lost == 2


def test_a_job_that_is_attached_is_not_complete(kernel: Kernel) -> None:
    root = kernel.spawn("root")
    with JobMonitor(endpoint=kernel.endpoint) as monitor:
        monitor.attach(root.pid, "a")
        kernel.exit(root)
        finished = monitor.finish("a")
    assert finished.usage.attached
    assert not finished.complete


def test_there_is_one_job_of_a_name(kernel: Kernel) -> None:
    with JobMonitor(endpoint=kernel.endpoint) as monitor:
        one, other = kernel.spawn("one"), kernel.spawn("other")
        monitor.start(one.pid, "a")
        with pytest.raises(ValueError, match="'a'"):
            monitor.start(other.pid, "a")
        monitor.finish("a")
        monitor.start(other.pid, "a")
        for call in (monitor.usage, monitor.finish):
            with pytest.raises(KeyError):
                call("b")


def test_a_cgroup_needs_the_probe(kernel: Kernel) -> None:
    with JobMonitor(probe="off", endpoint=kernel.endpoint) as monitor:
        with pytest.raises(Unavailable, match="needs the probe"):
            monitor.start("/job", "a")


def test_arguments_that_make_no_sense_are_refused(kernel: Kernel) -> None:
    with JobMonitor(endpoint=kernel.endpoint) as monitor:
        with pytest.raises(ValueError, match="a command is a list: 'make -j4'"):
            monitor.start("make -j4", "a")
        with pytest.raises(TypeError, match="no subreaper"):
            monitor.start("/job", "a", subreaper=1)
        with pytest.raises(TypeError, match="only a command has"):
            monitor.start(5, "a", cwd="/")  # type: ignore[call-overload]


def test_after_close_every_call_says_so(kernel: Kernel) -> None:
    root = kernel.spawn("root")
    monitor = JobMonitor(endpoint=kernel.endpoint)
    monitor.start(root.pid, "a")
    monitor.close()
    monitor.close()
    for call in (
        lambda: monitor.start(["true"], "b"),
        lambda: monitor.attach(1, "b"),
        lambda: monitor.usage("a"),
        lambda: monitor.finish("a"),
    ):
        with pytest.raises(TaskstatsError, match="it is closed"):
            call()


def test_an_old_kernel_is_refused() -> None:
    with EmulatedKernel(version=11) as old:
        with pytest.raises(Unavailable, match="struct version 12"):
            JobMonitor(endpoint=old.endpoint)


@pytest.mark.parametrize("allowed", [0, 1])
def test_without_threads_it_says_what_to_do(
    allowed: int, kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, started = threading.Thread.start, []

    def limited(thread: threading.Thread) -> None:
        if len(started) == allowed:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)
    with pytest.raises(TaskstatsError, match="cannot start a thread"):
        JobMonitor(endpoint=kernel.endpoint)


def test_a_child_of_fork_is_told_to_open_its_own(kernel: Kernel) -> None:
    root = kernel.spawn("root")
    with JobMonitor(endpoint=kernel.endpoint) as monitor:
        monitor.start(root.pid, "a")
        child = os.fork()
        if child == 0:
            try:
                with pytest.raises(TaskstatsError, match="before fork"):
                    monitor.finish("a")
                monitor.close()
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitpid(child, 0)[1] == 0
        kernel.exit(root)
        assert monitor.finish("a").usage.total.processes == 1


def test_close_does_not_wait_for_a_child_of_fork(kernel: Kernel) -> None:
    reading, writing = os.pipe()
    with JobMonitor(endpoint=kernel.endpoint):
        child = os.fork()
        if child == 0:
            os.read(reading, 1)  # it has all descriptors meanwhile
            os._exit(0)
    os.write(writing, b"-")
    assert os.waitpid(child, 0)[1] == 0
    os.close(reading)
    os.close(writing)
