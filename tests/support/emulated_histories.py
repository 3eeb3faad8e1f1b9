"""The random histories of tests/support/histories.py, as they happen on the emulated kernel.

The model goes on keeping what is true. The records come from the kernel, through real listeners,
and it is the kernel that is asked.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from typing import Self

import taskstats
from support.histories import VERSION, Drained, Ended, History, Process, Step, Thread, head
from taskstats import Batch, ExitListener
from taskstats.alive import TICK_NS, Alive, Moment
from taskstats.emulator import EmulatedKernel, Task
from taskstats.emulator.tasks import _SUSPENDED_NS

_RCVBUF = 1 << 14  # room for a dozen records
_HELD = 0.004  # s for which a listener with a probe may hold records


class EmulatedHistory(History):
    """A history that happens on an emulated kernel, of whose tasks each is a thread of the model.

    Nothing has to be waited for: whoever makes the kernel send a record does so in this thread, and
    when that call returns the record is in the listener's queue, or has found it full. A drain is
    of all that is there.

    Records are stamped with the history's time when they are read: a listener has only the
    machine's clock, by which the whole history takes milliseconds.

    What it means to lose a record is that a queue runs over: others exit on that CPU until one of
    them finds no room, and so does whatever exits there before the queue is read.

    Args:
        steps: What happens.
        n_cpus: How many CPUs there are.
        apart: A listener for each CPU, of which a drain reads one after the other, while things
            happen. Else one listens to all, and reads them at once.
        probe: Whether the listener has a probe.

    Attributes:
        kernel: The kernel.
        listeners: The listeners.
        feeds: Is called with each batch as it is read.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        n_cpus: int = 2,
        *,
        apart: bool = False,
        probe: bool = False,
    ) -> None:
        self.feeds: Callable[[Batch], object] = lambda _: None
        self._has_probe = probe
        with ExitStack() as opened:
            self.kernel = EmulatedKernel(cpus=f"0-{n_cpus - 1}", version=VERSION)
            endpoint = opened.enter_context(self.kernel).endpoint
            self._client = opened.enter_context(taskstats.Client(endpoint=endpoint))
            self.listeners = [
                opened.enter_context(
                    ExitListener(
                        cpus,
                        rcvbuf=_RCVBUF,
                        endpoint=endpoint,
                        probe="require" if probe else "off",
                    )
                )
                for cpus in ([[cpu] for cpu in range(n_cpus)] if apart else [None])
            ]
            self._opened = opened.pop_all()
        self._tasks: dict[Thread, Task] = {}
        self._drain: Drained | None = None
        self._missed: list[Ended] = []
        super().__init__(steps, n_cpus)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    # -- what was lost

    @property
    def lost(self) -> list[Ended]:
        """Those whose records have not come: once all has been read."""
        return self._missed + [ended for queue in self._queues for ended in queue]

    @property
    def told_lost(self) -> int:
        return sum(listener.stats().lost for listener in self.listeners)

    def _lose(self, cpu: int) -> None:
        before = self.told_lost
        while self.told_lost == before:
            self._exit(self._new_process(self.init, cpu, None), 0, 0, 0, zombie=False)

    # -- who lives

    def look(self, pids: Iterable[int] | None = None) -> list[Alive]:
        """What /proc tells of living processes and zombies."""
        there = {thread.process.tgid: thread.process for thread in self._by_pid.values()}
        found = there if pids is None else {pid: there[pid] for pid in pids if pid in there}
        return [
            Alive(
                pid,
                one.parent.tgid if one.parent else 0,
                self._tasks[one.leader].start_ns // TICK_NS * TICK_NS,
                nested=False,
            )
            for pid, one in found.items()
        ]

    def clock(self) -> Moment:
        """The kernel's clocks; CLOCK_MONOTONIC is the machine's, by which the listener reads."""
        tasks = self.kernel._state.tasks
        real = tasks.booted * 10**9 + tasks.now_ns
        return Moment(tasks.now_ns + _SUSPENDED_NS, real, time.monotonic_ns())

    # -- what the kernel is told

    def _pid(self, again: int | None) -> int:
        if again is not None:
            self._pass(2 * TICK_NS // 1000)  # pids wrap more slowly than /proc's clock ticks
        return super()._pid(again)

    def _pass(self, us: int, running: Thread | None = None) -> None:
        super()._pass(us, running)
        self.kernel.advance(us / 10**6, *([self._tasks[running]] if running else []))

    def _add(self, thread: Thread) -> Thread:
        process = thread.process
        self._tasks[thread] = (
            self._spawn(thread, process.maker) if process.maker else self.kernel.init
        )
        return super()._add(thread)

    def _spawn(self, thread: Thread, maker: Process) -> Task:
        process = thread.process
        is_first = not process.threads
        return self.kernel.spawn(
            process.comm,
            parent=self._tasks[maker.leader] if is_first else None,
            group=None if is_first else self._tasks[process.leader],
            pid=thread.pid,
            cpu=thread.cpu,
            cpu_run_virtual_total=thread.run_ns,
            hiwater_vm=1,
        )

    def _set_uid(self, process: Process, uid: int) -> None:
        super()._set_uid(process, uid)
        self._tasks[process.leader].uid = uid

    def _make_subreaper(self, process: Process) -> None:
        super()._make_subreaper(process)
        self._tasks[process.leader].subreaper = True

    def _exec(self, thread: Thread) -> None:
        super()._exec(thread)
        self.kernel.exec(self._tasks[thread], thread.process.comm)

    def _exit_thread(self, thread: Thread, code: int, flags: int) -> None:
        super()._exit_thread(thread, code, flags)
        self.kernel.exit(self._tasks[thread], code >> 8, signal=code & 0x7F, zombie=True)

    def _reap(self, process: Process) -> None:
        super()._reap(process)
        self.kernel.reap(self._tasks[process.leader])

    # -- what it says

    def look_up(self, pids: Iterable[int]) -> Batch:
        return self._client.pids(pids)

    @property
    def _turns(self) -> int:
        return len(self.listeners)

    def _read_queue(self, turn: int) -> None:
        drain = self._drain = self._drain or Drained(self._received_ns, [], [])
        timeout = _HELD if self._has_probe else 0
        for batch in self.listeners[turn].batches(timeout=timeout):
            if not batch and not batch.births:
                return
            self.feeds(batch)
            if not batch:
                continue
            drain.batches.append(_stamped(batch, self._received_ns))
            drain.truth.extend(map(self._truth, batch))

    def _truth(self, record: taskstats.Record) -> Ended:
        """What is true of a record: each CPU's come in the order of the exits there."""
        assert record.cpu is not None
        queue = self._queues[record.cpu]
        for _ in range(record.lost_before):
            self._missed.append(queue.popleft())
        ended = queue.popleft()
        assert ended.seq == record.seq
        return ended

    def _drained(self) -> Drained:
        drained, self._drain = self._drain, None
        assert drained is not None
        return drained


def _stamped(batch: Batch, received_ns: int) -> Batch:
    """The batch as if it had been read then."""
    tasks, groups = bytearray(batch.data), bytearray(batch.groups.data)
    for rows, n in ((tasks, len(batch)), (groups, len(batch.groups))):
        for row in range(n):
            head(rows, row, received_ns=received_ns)
    return Batch(bytes(tasks), Batch(bytes(groups), kind="group"))
