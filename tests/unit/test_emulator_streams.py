"""Whatever is asked of the emulated kernel, each request is answered; whatever happens there, each
exit is heard, or counted as lost.
"""

import errno
import struct
from collections import Counter
from contextlib import ExitStack
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from support.asking import ACK, PID, REQUEST, Port, attribute, message

from taskstats import Batch, ExitListener, Process, ProcessFold
from taskstats.emulator import EmulatedKernel, Task

FAMILY, NLCTRL, UNKNOWN, NOOP = 0x1F, 0x10, 0x7E, 1
NLMSG_ERROR = 2

# ---- requests --------------------------------------------------------------------------------

attributes = st.builds(
    attribute,
    st.integers(0, 8) | st.just(PID | 0x8000),
    st.binary(max_size=12) | st.sampled_from([b"0\0", b"0-3\0", b"9\0", struct.pack("=I", 1)]),
)


class Asked(NamedTuple):
    """A request, or what looks like one."""

    type: int
    flags: int
    data: bytes


@st.composite
def asked(draw: st.DrawFn, seq: int) -> Asked:
    type_ = draw(st.sampled_from([FAMILY, FAMILY, FAMILY, NLCTRL, UNKNOWN, NOOP]))
    flags = draw(st.sampled_from([0, REQUEST, ACK, REQUEST | ACK, REQUEST | 0x300]))
    parts = draw(st.lists(attributes, max_size=4))
    command = draw(st.sampled_from([1, 1, 1, 4, 3, 0, 2, 9]))
    return Asked(type_, flags, message(type_, *parts, command=command, flags=flags, seq=seq))


streams = st.integers(1, 12).flatmap(
    lambda n: st.tuples(*(asked(seq) for seq in range(100, 100 + n)))
)


class Answer(NamedTuple):
    seq: int
    error: int | None  # None of a reply


def answers(port: Port) -> list[Answer]:
    """What has come, up to the ACK of a last request."""
    port.send(message(NOOP, seq=99, flags=ACK))
    found: list[Answer] = []
    while not (found and found[-1].seq == 99):
        datagram = port.receive()
        size, type_, _, seq, _ = struct.unpack_from("=IHHII", datagram)
        assert size == len(datagram)
        (code,) = struct.unpack_from("=i", datagram, 16)
        found.append(Answer(seq, -code if type_ == NLMSG_ERROR else None))
    return found[:-1]


@given(streams)
def test_each_request_is_answered_in_turn(stream: tuple[Asked, ...]) -> None:
    with EmulatedKernel() as kernel, Port(kernel.endpoint) as port:
        port.send(b"".join(one.data for one in stream))
        got = answers(port)
    assert [one.seq for one in got] == sorted(one.seq for one in got)
    for seq, request in enumerate(stream, 100):
        own = [one.error for one in got if one.seq == seq]
        replies, errors = [e for e in own if e is None], [e for e in own if e is not None]
        assert len(replies) <= 1
        assert len(errors) <= 1
        assert own == replies + errors, "the reply comes first"
        if request.flags & ACK:
            assert errors, "it was to be acknowledged"
        if not request.flags & REQUEST or request.type == NOOP:
            assert not replies
            assert not any(errors), "nothing was asked"
        if replies:
            assert not any(errors)
        if request.flags & REQUEST and request.type == UNKNOWN:
            assert errors == [errno.ENOENT], "told unasked"


@given(st.binary(max_size=200), st.binary(max_size=40))
def test_no_bytes_harm_it(noise: bytes, more: bytes) -> None:
    good = message(FAMILY, attribute(PID, struct.pack("=I", 1)), seq=7)
    with EmulatedKernel() as kernel, Port(kernel.endpoint) as port:
        for datagram in (noise, good[:-4] + more, struct.pack("=IHH", 20, FAMILY, REQUEST) + noise):
            if datagram:  # nothing cannot be sent
                port.send(datagram)
        answers(port)
        port.send(good)
        assert [one.error for one in answers(port)] == [None, 0]


# ---- what happens there ----------------------------------------------------------------------

cpus = st.integers(0, 3)
anyone = st.integers(0, 99)
switches = st.integers(0, 9)


class Life(RuleBasedStateMachine):
    """Tasks live and die, before one listener with room for everything and another on two CPUs.

    The model counts exits a CPU, and what each process has used, by its tgid.
    """

    @initialize()
    def begin(self) -> None:
        self.opened = ExitStack()
        self.kernel = self.opened.enter_context(EmulatedKernel())
        self.all = self.opened.enter_context(ExitListener(endpoint=self.kernel.endpoint))
        self.some: ExitListener | None = None
        self.tasks: list[Task] = []
        self.exits = Counter[int]()
        self.lost = Counter[int]()
        self.told = Counter[int]()
        self.exits_before = Counter[int]()
        self.used = Counter[int]()
        self.groups: dict[int, int] = {}
        self.fold = ProcessFold()
        self.processes: list[Process] = []
        for cpu in range(4):
            self.spawn(cpu, 1)
            self.exit(0)  # a number to begin with

    def chosen(self, n: int) -> Task:
        if not self.tasks:
            self.spawn(n % 4, 2)
            self.thread(0, (n + 1) % 4, 3)
        return self.tasks[n % len(self.tasks)]

    def ended(self, *tasks: Task) -> None:
        for task in tasks:
            self.tasks.remove(task)
            self.exits[task.cpu] += 1

    @rule(cpu=cpus, nvcsw=switches)
    def spawn(self, cpu: int, nvcsw: int) -> None:
        task = self.kernel.spawn(cpu=cpu, nvcsw=nvcsw)
        self.tasks.append(task)
        self.used[task.tgid] = nvcsw

    @rule(n=anyone, cpu=cpus, nvcsw=switches)
    def thread(self, n: int, cpu: int, nvcsw: int) -> None:
        task = self.kernel.spawn(group=self.chosen(n), cpu=cpu, nvcsw=nvcsw)
        self.tasks.append(task)
        self.used[task.tgid] += nvcsw

    @rule(n=anyone, nvcsw=switches)
    def add(self, n: int, nvcsw: int) -> None:
        task = self.chosen(n)
        task.add(nvcsw=nvcsw)
        self.used[task.tgid] += nvcsw

    @rule(seconds=st.floats(0, 10))
    def advance(self, seconds: float) -> None:
        self.kernel.advance(seconds)

    @rule(n=anyone)
    def exit(self, n: int) -> None:
        task = self.chosen(n)
        self.kernel.exit(task)
        self.ended(task)

    @rule(n=anyone)
    def exit_group(self, n: int) -> None:
        task = self.chosen(n)
        living = task.process.living
        self.kernel.exit_group(task, 1)
        self.ended(*living)

    @rule(n=anyone)
    def exec(self, n: int) -> None:
        task = self.chosen(n)
        others = [one for one in task.process.living if one is not task]
        self.kernel.exec(task, "new")
        self.ended(*others)

    @rule(cpu=cpus, count=st.integers(1, 5))
    def lose(self, cpu: int, count: int) -> None:
        self.kernel.lose(count, cpu)
        self.exits[cpu] += count
        self.lost[cpu] += count

    @rule()
    def listen(self) -> None:
        if self.some is None:
            self.some = ExitListener("1-2", endpoint=self.kernel.endpoint)
            self.opened.callback(self.some.close)
            self.exits_before = self.exits.copy()

    @rule()
    def stop_listening(self) -> None:
        if self.some is not None:
            self.some.close()
            stats = self.some.stats()
            for cpu in stats.cpus:
                exits = self.exits[cpu.cpu] - self.exits_before[cpu.cpu]
                assert cpu.received + cpu.lost == exits
            assert stats.unexplained == 0
            self.some = None

    @rule()
    def read(self) -> None:
        for batch in self.all.batches(timeout=0):
            if not batch:
                break
            self.take(batch)

    def take(self, batch: Batch) -> None:
        self.processes += self.fold.feed(batch)
        self.groups |= {group.id: group.nvcsw for group in batch.groups}
        for record in batch:
            self.told[record.cpu] += record.lost_before

    @invariant()
    def losses_are_known_at_once(self) -> None:
        stats = self.all.stats()
        assert {one.cpu: one.lost for one in stats.cpus} == {
            cpu: self.lost[cpu] for cpu in range(4)
        }

    def teardown(self) -> None:
        if hasattr(self, "opened"):
            with self.opened:
                self.end()

    def end(self) -> None:
        self.stop_listening()
        while self.tasks:
            self.exit(0)
        for cpu in range(4):
            self.spawn(cpu, 1)
            self.exit(0)  # before which losses are told
        self.all.stop()
        for batch in self.all.batches():
            self.take(batch)
        self.processes += self.fold.flush()
        stats = self.all.stats()
        assert {one.cpu: one.received + one.lost for one in stats.cpus} == dict(self.exits)
        assert self.told == self.lost
        assert stats.unexplained == 0
        assert {p.pid: p.totals["nvcsw"] for p in self.processes} == dict(self.used)
        assert all(p.complete for p in self.processes)
        assert self.groups == {tgid: self.used[tgid] for tgid in self.groups}


TestLife = Life.TestCase
TestLife.settings = settings(stateful_step_count=50, max_examples=100)
