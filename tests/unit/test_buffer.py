"""A listener whose thread drains into a buffer, against a peer that waits for room to send."""

import asyncio
import errno
import gc
import os
import resource
import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from support import child, fake_kernel
from support.child import run as in_child
from support.fake_kernel import FakeKernel
from support.requirements import CAP_SETUID, needs_capability
from support.task import until

from taskstats import BufferStats, ExitListener, TaskstatsError
from taskstats.emulator import EmulatedKernel

SMALL = 64 << 10  # a queue with room for some 50 records
LEAST = 1 << 20  # a buffer with room for some 1,300


@pytest.fixture
def kernel() -> Iterator[FakeKernel]:
    with FakeKernel() as fake:
        yield fake


def opened(kernel: FakeKernel, buffer: int | None = LEAST, latency: float = 0) -> ExitListener:
    listener = ExitListener(
        "0",
        max_latency=latency,
        rcvbuf=SMALL,
        buffer=buffer,
        endpoint=kernel.endpoint(cpus="0"),
    )
    while not kernel.registered():
        select.select([], [], [], 0.001)
    return listener


def buffer(listener: ExitListener) -> BufferStats:
    found = listener.stats().buffer
    assert found is not None
    return found


def send(kernel: FakeKernel, first: int, end: int) -> None:
    """Each waits for room in the queue."""
    for seq in range(first, end):
        kernel.send(kernel.registered()[0], fake_kernel.exit_record(seq, seq))


def fill(kernel: FakeKernel, listener: ExitListener) -> int:
    """Fills the buffer and then the queue. Returns how many records that took."""
    with socket.socket(fileno=os.dup(kernel.fileno())) as sender:
        seq = 0
        while True:
            record = fake_kernel.exit_record(seq, seq)
            try:
                sender.sendto(record, socket.MSG_DONTWAIT, (kernel.registered()[0], 0))
                seq += 1
            except BlockingIOError:
                if buffer(listener).full:
                    return seq
                os.sched_yield()


def ids(listener: ExitListener) -> list[int]:
    return [record.id for batch in listener.batches() for record in batch]


def threads() -> dict[str, str]:
    """The status of each thread of this process, by its name."""
    found = {}
    for status in Path("/proc/self/task").glob("*/status"):
        with suppress(FileNotFoundError, ProcessLookupError):
            text = status.read_text()
            found[text.splitlines()[0].split()[1]] = text
    return found


@pytest.mark.parametrize("size", [-1, 1, (1 << 20) - 1, 1 << 41])
def test_sizes_that_make_no_sense(kernel: FakeKernel, size: int) -> None:
    with pytest.raises(ValueError, match="buffer is a number of bytes from 1,048,576 to"):
        ExitListener(buffer=size, endpoint=kernel.endpoint())


@pytest.mark.parametrize(("size", "least"), [(LEAST, LEAST), (5 << 20, 5 << 20), (None, LEAST)])
def test_the_size_is_told(kernel: FakeKernel, size: int | None, least: int) -> None:
    with opened(kernel, size) as listener:
        assert least <= buffer(listener).bytes <= max(least, 64 << 20)
        assert buffer(listener).used == buffer(listener).waiting == 0


def test_there_is_none_by_default(kernel: FakeKernel) -> None:
    with ExitListener("0", endpoint=kernel.endpoint()) as listener:
        assert listener.stats().buffer is None
        assert "taskstats" not in threads()


def test_a_queue_does_not_fill_while_nobody_reads(kernel: FakeKernel) -> None:
    """The peer waits for room: without the thread it would wait for ever."""
    with opened(kernel) as listener:
        send(kernel, 0, 1_000)
        until(lambda: buffer(listener).waiting == 1_000)
        assert buffer(listener).used > 752_000
        listener.stop()
        assert ids(listener) == list(range(1_000))
        stats = listener.stats()
    assert (stats.received, stats.lost, stats.unexplained) == (1_000, 0, 0)
    assert stats.buffer is not None
    assert (stats.buffer.used, stats.buffer.waiting, stats.buffer.full) == (0, 0, 0)
    assert stats.buffer.most_used > 752_000


def test_a_full_buffer_leaves_records_in_the_queue(kernel: FakeKernel) -> None:
    with opened(kernel) as listener:
        sent = fill(kernel, listener)
        full = buffer(listener)
        assert full.used <= full.bytes
        assert 0 < full.waiting < sent
        assert listener.stats().queued
        assert full.full == 1
        more = threading.Thread(target=send, args=(kernel, sent, sent + 2_000))
        more.start()
        got: list[int] = []
        for batch in listener.batches(timeout=60):
            got += [record.id for record in batch]
            if len(got) >= sent + 2_000:
                break
        more.join()
        assert got == list(range(sent + 2_000))
        assert buffer(listener).full_seconds > 0
        assert listener.stats().lost == 0


def test_close_keeps_what_a_full_buffer_holds(kernel: FakeKernel) -> None:
    with opened(kernel) as listener:
        sent = fill(kernel, listener)
    assert "taskstats" not in threads()
    assert ids(listener) == list(range(sent))
    assert listener.stats().received == sent


def test_a_listener_that_is_dropped_with_a_full_buffer_ends(kernel: FakeKernel) -> None:
    before = len(os.listdir("/proc/self/fd"))
    listener = opened(kernel)
    fill(kernel, listener)
    with pytest.warns(ResourceWarning, match="unclosed"):
        del listener
        gc.collect()
    assert "taskstats" not in threads()
    assert len(os.listdir("/proc/self/fd")) == before


def test_groups_stay_with_their_threads(kernel: FakeKernel) -> None:
    with opened(kernel) as listener:
        for seq in range(1_000):
            name = "exit_thread3" if seq % 3 == 0 else "exit"
            kernel.send(kernel.registered()[0], fake_kernel.exit_record(seq, seq, name))
        listener.stop()
        records = [record for batch in listener.batches() for record in batch]
    assert [record.id for record in records] == list(range(1_000))
    groups = [record.group.seq if record.group else None for record in records]
    assert groups == [seq if seq % 3 == 0 else None for seq in range(1_000)]


def test_the_thread_takes_no_signals(kernel: FakeKernel) -> None:
    with opened(kernel):
        (status,) = [text for name, text in threads().items() if name == "taskstats"]
    (blocked,) = [line for line in status.splitlines() if line.startswith("SigBlk")]
    blockable = (1 << 64) - 1 & ~(1 << 8 | 1 << 18) & ~(0b11 << 31)  # KILL, STOP; the C library's
    assert int(blocked.split()[1], 16) & blockable == blockable


def test_the_thread_lives_until_the_close(kernel: FakeKernel) -> None:
    """Its exit would be in the kernel's own count, and not in the stream."""
    with opened(kernel) as listener:
        listener.stop()
        assert ids(listener) == []
        assert "taskstats" in threads()
    assert "taskstats" not in threads()


@pytest.mark.parametrize("timeout", [0, 0.05])
def test_a_timeout_drains_what_is_queued(kernel: FakeKernel, timeout: float) -> None:
    """The thread would let records gather for longer than the test may take."""
    with opened(kernel, latency=1000) as listener:
        send(kernel, 0, 5)
        assert [r.id for r in next(listener.batches(timeout))] == list(range(5))
        empty = next(listener.batches(timeout))
        assert len(empty) == 0
        assert empty.emptied_ns is not None
        later = next(listener.batches(timeout))
        assert later.emptied_ns is not None
        assert later.emptied_ns > empty.emptied_ns, "it is the time of a drain of its own"


def test_stopping_does_not_wait_until_records_have_gathered(kernel: FakeKernel) -> None:
    with opened(kernel, latency=1000) as listener:
        send(kernel, 0, 5)
        listener.stop()
        assert ids(listener) == list(range(5))


def test_fileno_is_readable_while_records_wait(kernel: FakeKernel) -> None:
    with opened(kernel) as listener:
        assert not select.select([listener], [], [], 0)[0]
        send(kernel, 0, 2_000 // 4)
        assert select.select([listener], [], [], 60)[0]
        got = 0
        while got < 500:
            select.select([listener], [], [], 60)
            got += len(next(listener.batches(timeout=0)))
        assert not select.select([listener], [], [], 0)[0]


def test_async_reading_gets_what_waits(kernel: FakeKernel) -> None:
    async def main() -> list[int]:
        async with opened(kernel, latency=0.001) as listener:
            send(kernel, 0, 1_000)
            got: list[int] = []
            async for batch in listener.batches(timeout=60):
                got += [record.id for record in batch]
                if len(got) == 1_000:
                    break
            return got

    assert asyncio.run(asyncio.wait_for(main(), 60)) == list(range(1_000))


def test_an_error_comes_after_the_records_before_it(kernel: FakeKernel) -> None:
    def refuse(request: fake_kernel.Request) -> Iterator[bytes]:
        if request.attribute == fake_kernel.REGISTER:
            yield fake_kernel.error(request, errno.ENOMEM)
            yield fake_kernel.exit_record(1, 10)
        else:
            yield from fake_kernel.behave(request)

    kernel.answer = refuse
    with opened(kernel) as listener:
        until(lambda: listener.stats().received == 1)
        assert [record.id for record in next(listener.batches(timeout=60))] == [10]
        with pytest.raises(TaskstatsError) as caught:
            next(listener.batches(timeout=60))
        assert caught.value.errno == errno.ENOMEM
        assert len(next(listener.batches(timeout=0))) == 0, "it is told once"


def test_no_thread_can_be_started(kernel: FakeKernel) -> None:
    needs_capability(CAP_SETUID)

    def open_one() -> tuple[str, int | None, int]:
        resource.setrlimit(resource.RLIMIT_NPROC, (1, 1))
        child.become(child.NOBODY)
        before = len(os.listdir("/proc/self/fd"))
        with pytest.raises(TaskstatsError) as caught:
            for _ in range(3):
                ExitListener("0", buffer=LEAST, endpoint=kernel.endpoint())
        gc.collect()
        return str(caught.value), caught.value.errno, len(os.listdir("/proc/self/fd")) - before

    told, number, left = in_child(open_one)
    assert "cannot start a thread" in told
    assert "buffer=0" in told
    assert (number, left) == (errno.EAGAIN, 0)


# ---- forking -------------------------------------------------------------------------------------


def test_children_of_fork_have_no_thread(kernel: FakeKernel) -> None:
    """While the thread works: whatever lock it holds then nobody in the child gives back."""
    with opened(kernel) as listener:
        sender = threading.Thread(target=send, args=(kernel, 0, 1_000))
        sender.start()

        def use() -> tuple[bool, list[int | None]]:
            told = []
            ways: list[Callable[[], object]] = [
                lambda: next(listener.batches(0)),
                listener.stop,
                listener.stats,
            ]
            for way in ways:
                try:
                    way()
                except TaskstatsError as error:
                    told.append(error.errno)
            listener.close()
            return "taskstats" in threads(), told

        for _ in range(5):
            assert in_child(use) == (False, [errno.EOWNERDEAD] * 3)
        sender.join()
        listener.stop()
        assert ids(listener) == list(range(1_000))


# ---- with a probe --------------------------------------------------------------------------------


def test_records_births_and_ends_pass_through_the_buffer() -> None:
    with (
        EmulatedKernel() as kernel,
        ExitListener(probe="require", buffer=LEAST, endpoint=kernel.endpoint) as listener,
    ):
        made = []
        for _ in range(300):
            task = kernel.spawn("cc1")
            kernel.exit(task)
            made.append(task)
        batches = []
        for batch in listener.batches(timeout=60):
            batches.append(batch)
            if sum(map(len, batches)) == 300:
                break
        stats = listener.stats()
    records = [record for batch in batches for record in batch]
    assert [record.id for record in records] == [task.pid for task in made]
    assert [record.start_ns for record in records] == [task.start_ns for task in made]
    births = [birth.pid for batch in batches for birth in batch.births]
    assert births == [task.pid for task in made]
    assert stats.probe is not None
    assert (stats.probe.settled, stats.probe.waiting, stats.probe.lost) == (300, 0, 0)


def test_held_records_come_after_a_stop() -> None:
    with (
        EmulatedKernel() as kernel,
        ExitListener(
            probe="require", settle=1e6, max_latency=0, buffer=LEAST, endpoint=kernel.endpoint
        ) as listener,
    ):
        with kernel.hold_ends():
            task = kernel.spawn("cc1")
            kernel.exit(task)
            assert len(next(listener.batches(timeout=0))) == 0
            until(lambda: listener.stats().received == 1)
            assert len(next(listener.batches(timeout=0))) == 0, "it waits for its end"
            listener.stop()
        assert ids(listener) == [task.pid]


def test_many_births_without_an_exit_come_alone() -> None:
    """More than a drain of the thread has room for."""
    with (
        EmulatedKernel() as kernel,
        ExitListener(probe="require", buffer=LEAST, endpoint=kernel.endpoint) as listener,
    ):
        made = [kernel.spawn("sh").pid for _ in range(3_000)]
        found: list[int] = []
        while len(found) < len(made):
            found += [birth.pid for birth in next(listener.batches(timeout=0)).births]
    assert found == made
