"""Whatever happens on the emulated kernel, a settled record is right, and others have a reason."""

from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from taskstats import Batch, ExitListener, Record
from taskstats.births import Birth
from taskstats.emulator import ControlGroup, EmulatedKernel, Task, Teardown

N_CPUS = 3
MOST_HELD = 0.002  # seconds


@dataclass(eq=False)
class Exit:
    """A task that exited, and what is true of it.

    Attributes:
        end: What became of its end: "written" to the rings, "lost" there, still "held", or "never".
        late: It was held.
        heard: Its record was sent.
    """

    task: Task
    pid: int
    cpu: int
    start_ns: int
    final_cpu_ns: int
    cgroup: ControlGroup
    ran_again: bool
    heard: bool
    end: str = "written"
    late: bool = False


class Reader:
    """A listener, and what it should tell.

    Args:
        listener: It.
        unborn: The processes whose births the ring lost: pid and start.
    """

    def __init__(self, listener: ExitListener, unborn: set[tuple[int, int]]) -> None:
        self.listener = listener
        self.unborn = unborn
        self.queues: dict[int, deque[Exit]] = {cpu: deque() for cpu in listener.cpus}
        self.births: list[Birth] = []
        self.records = 0

    def hear(self, one: Exit) -> None:
        if one.cpu in self.queues:
            self.queues[one.cpu].append(one)

    def read(self) -> Iterator[tuple[Record, Exit]]:
        """What can be had now."""
        for batch in self.listener.batches(timeout=0):
            if not batch and not batch.births:
                return
            yield from self._take(batch)

    def read_rest(self) -> Iterator[tuple[Record, Exit]]:
        self.listener.stop()
        for batch in self.listener.batches():
            yield from self._take(batch)

    def _take(self, batch: Batch) -> Iterator[tuple[Record, Exit]]:
        self.births += batch.births
        born = {(one.pid, one.start_ns) for one in self.births}
        for record in batch:
            assert record.cpu is not None
            one = self.queues[record.cpu].popleft()
            assert one.pid == record.id
            if one.task.is_leader:
                assert (one.pid, one.start_ns) in born | self.unborn
            self.records += 1
            yield record, one


pids = st.none() | st.integers(0, 3)
anyone = st.integers(0, 99)
cpus = st.integers(0, N_CPUS - 1)
teardowns = st.builds(
    Teardown,
    cpu_ns=st.integers(0, 3),
    runs=st.sampled_from([0, 0, 0, 1, 2]),
    ends=st.sampled_from([True] * 7 + [False]),
)


class Histories(RuleBasedStateMachine):
    """Tasks live and die before two listeners, of which one hears a part of the CPUs."""

    @initialize(settle=st.sampled_from([0.0, MOST_HELD]), n_cpus=st.integers(1, N_CPUS))
    def begin(self, settle: float, n_cpus: int) -> None:
        self.opened = ExitStack()
        self.kernel = self.opened.enter_context(EmulatedKernel(cpus=f"0-{N_CPUS - 1}"))
        self.readers = []
        self.unborn: set[tuple[int, int]] = set()
        for heard in (range(n_cpus), range(N_CPUS)):
            listener = ExitListener(
                heard, probe="require", settle=settle, endpoint=self.kernel.endpoint
            )
            self.opened.enter_context(listener)
            self.readers.append(Reader(listener, self.unborn))
        self.tasks: list[Task] = []
        self.exits: list[Exit] = []
        self.held: list[Exit] | None = None
        self.born: list[tuple[int, int]] = []
        self.cgroups = [self.kernel.root_cgroup]
        self.to_lose = {"end": 0, "birth": 0}
        self.ends_lost = 0
        self.waited = 0

    def chosen(self, n: int) -> Task:
        if not self.tasks:
            self.spawn(n % N_CPUS, None, n, n, Teardown())
        return self.tasks[n % len(self.tasks)]

    # -- tasks

    def pid_again(self, again: int | None) -> int | None:
        """A pid that is free again, the last one that was freed first.

        A kernel gives many other pids first. Here, what its owner has left without an end or
        without a record has at least been read by then, and time has passed.
        """
        if again is None:
            return None
        find = self.kernel._state.tasks.find
        free = [one for one in reversed(self.exits) if find(one.pid) is None]
        if not free:
            return None
        pid = free[again % len(free)].pid
        owners = [one for one in self.exits if one.pid == pid]
        if any(one.end in ("held", "never") or one.late or not one.heard for one in owners):
            self.read()
            self.kernel.advance(0.001)
            self.read()
        return pid

    @rule(cpu=cpus, again=pids, maker=anyone, cgroup=anyone, teardown=teardowns)
    def spawn(
        self, cpu: int, again: int | None, maker: int, cgroup: int, teardown: Teardown
    ) -> None:
        by = self.tasks[maker % len(self.tasks)] if self.tasks else self.kernel.init
        where = self.cgroups[cgroup % len(self.cgroups)] if cgroup % 2 else None
        self.waited += 1  # of two tasks, no time that they waited is equal to the nanosecond
        task = self.kernel.spawn(
            cpu=cpu,
            pid=self.pid_again(again),
            parent=by,
            cgroup=where,
            teardown=replace(teardown, waited_ns=teardown.runs),
            cpu_delay_total=self.waited * 1000,
        )
        self.tasks.append(task)
        if self.to_lose["birth"]:
            self.to_lose["birth"] -= 1
            self.unborn.add((task.pid, task.start_ns))
        else:
            self.born.append((task.pid, task.start_ns))

    @rule(n=anyone, cpu=cpus, again=pids, teardown=teardowns)
    def thread(self, n: int, cpu: int, again: int | None, teardown: Teardown) -> None:
        group = self.chosen(n)
        self.waited += 1
        task = self.kernel.spawn(
            group=group,
            cpu=cpu,
            pid=self.pid_again(again),
            teardown=replace(teardown, waited_ns=teardown.runs),
            cpu_delay_total=self.waited * 1000,
        )
        self.tasks.append(task)

    @rule(seconds=st.sampled_from([0.0, 1e-6, 0.001, 0.01, 1.0]), n=anyone)
    def advance(self, seconds: float, n: int) -> None:
        self.kernel.advance(seconds, *([self.chosen(n)] if n % 2 else []))

    def ending(self, task: Task, heard: bool = True) -> None:
        """It is about to exit."""
        figures = task.figures
        one = Exit(
            task,
            task.pid,
            task.cpu,
            task.start_ns,
            figures["cpu_run_virtual_total"] + task.teardown.cpu_ns,
            task.cgroup,
            task.teardown.runs > 0,
            heard,
        )
        self.tasks.remove(task)
        self.exits.append(one)
        if heard:
            for reader in self.readers:
                reader.hear(one)
        if not task.teardown.ends:
            one.end = "never"
        elif self.held is not None:
            one.end, one.late = "held", True
            self.held.append(one)
        else:
            self.write(one)

    def write(self, one: Exit) -> None:
        one.end = "written"
        if self.to_lose["end"]:
            self.to_lose["end"] -= 1
            self.ends_lost += 1
            one.end = "lost"

    @rule(n=anyone)
    def exit(self, n: int) -> None:
        task = self.chosen(n)
        self.ending(task)
        self.kernel.exit(task)

    @rule(n=anyone)
    def exit_unheard(self, n: int) -> None:
        """The kernel has no memory for the record."""
        task = self.chosen(n)
        self.ending(task, heard=False)
        self.kernel.fail_allocation("reply")
        self.kernel.exit(task)

    @rule(n=anyone)
    def exit_group(self, n: int) -> None:
        task = self.chosen(n)
        for one in (task, *(other for other in task.process.living if other is not task)):
            self.ending(one)
        self.kernel.exit_group(task)

    @rule(n=anyone)
    def exec(self, n: int) -> None:
        """A thread gets the pid of its leader, once that has ended."""
        task = self.chosen(n)
        leader = task.process.leader
        if leader is not task and not leader.teardown.ends:
            return
        for other in [one for one in task.process.living if one is not task]:
            self.ending(other)
        self.kernel.exec(task, "new")
        for one in [one for one in self.held or [] if one.task is leader]:
            assert self.held
            self.held.remove(one)
            self.write(one)

    # -- cgroups

    @rule()
    def make_cgroup(self) -> None:
        self.cgroups.append(self.kernel.make_cgroup(f"/{len(self.cgroups)}"))

    @rule(n=anyone, cgroup=anyone)
    def move(self, n: int, cgroup: int) -> None:
        self.kernel.move(self.chosen(n), self.cgroups[cgroup % len(self.cgroups)])

    # -- what goes wrong

    @precondition(lambda self: self.held is None)
    @rule()
    def hold_ends(self) -> None:
        self.kernel.hold_ends()
        self.held = []

    @precondition(lambda self: self.held)
    @rule(n=anyone)
    def release_one(self, n: int) -> None:
        assert self.held
        one = self.held.pop(n % len(self.held))
        self.kernel.release_ends(one.task)
        self.write(one)

    @precondition(lambda self: self.held is not None)
    @rule()
    def release_all(self) -> None:
        for one in self.held or []:
            self.write(one)
        self.held = None
        self.kernel.release_ends()

    @rule(n=st.integers(1, 3), kind=st.sampled_from(["end", "birth"]))
    def lose_events(self, n: int, kind: str) -> None:
        self.to_lose[kind] += n
        self.kernel.lose_events(n, kind)  # type: ignore[arg-type]

    # -- reading

    @rule()
    def read(self) -> None:
        for reader in self.readers:
            for record, one in reader.read():
                self.judge(record, one)

    @rule(which=st.integers(0, 1))
    def read_one(self, which: int) -> None:
        for record, one in self.readers[which].read():
            self.judge(record, one)

    def judge(self, record: Record, one: Exit) -> None:
        if not record.is_settled:
            assert one.end != "written" or one.late or self.is_ambiguous(one)
            return
        assert one.end == "written"
        assert (record.start_ns, record.final_cpu_ns) == (one.start_ns, one.final_cpu_ns)
        assert (record.cgroup_id, record.cgroup) == (one.cgroup.id, one.cgroup.path)

    def is_ambiguous(self, one: Exit) -> bool:
        """Whether its end may be another's of the pid, or another's its, or be among the lost."""
        others = [other for other in self.exits if other.pid == one.pid and other is not one]
        again = any(other.ran_again for other in [one, *others])
        return bool(others and again) or self.ends_lost > 0

    def teardown(self) -> None:
        if not hasattr(self, "kernel"):
            return
        with self.opened:
            self.kernel.release_ends()
            for one in self.held or []:
                self.write(one)
            for reader in self.readers:
                heard = reader.records + sum(map(len, reader.queues.values()))
                for record, one in reader.read_rest():
                    self.judge(record, one)
                assert not any(reader.queues.values())
                births = [(one.pid, one.start_ns) for one in reader.births]
                assert births == self.born
                stats = reader.listener.stats()
                assert stats.probe is not None
                assert stats.received == heard == reader.records
                assert stats.received == stats.probe.settled + stats.probe.unsettled
                assert stats.probe.waiting == 0
                assert stats.probe.ends_lost == self.ends_lost


TestHistories = Histories.TestCase
TestHistories.settings = settings(deadline=None, stateful_step_count=40, max_examples=100)
