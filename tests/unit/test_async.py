"""A listener read with `async for`, against a peer that sends what a test tells it to."""

import asyncio
import contextlib
import errno
import os
import select
import selectors
import signal
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
from support import fake_kernel
from support.fake_kernel import FakeKernel

from taskstats import Batch, ExitListener, TaskstatsError
from taskstats.exits import BATCH_ROWS

Send = Callable[[int], None]


#: Kernels whose listeners drain in a thread of their own.
_BUFFERED: set[FakeKernel] = set()


@pytest.fixture(params=[False, True], ids=["unbuffered", "buffered"])
def kernel(request: pytest.FixtureRequest) -> Iterator[FakeKernel]:
    with FakeKernel() as fake:
        if request.param:
            _BUFFERED.add(fake)
        yield fake
        _BUFFERED.discard(fake)


def opened(
    kernel: FakeKernel, max_latency: float = 0, rcvbuf: int = 8 << 20
) -> tuple[ExitListener, Send]:
    """A listener, and what sends it a record."""
    listener = ExitListener(
        "0",
        max_latency=max_latency,
        rcvbuf=rcvbuf,
        buffer=1 << 20 if kernel in _BUFFERED else 0,
        endpoint=kernel.endpoint(cpus="0"),
    )
    while not kernel.registered():
        select.select([], [], [], 0.001)
    return listener, lambda seq: kernel.send(
        kernel.registered()[0], fake_kernel.exit_record(seq, seq)
    )


def run(main: Coroutine[Any, Any, Any]) -> Any:
    """Runs it; a hang is a failure."""

    async def bounded() -> Any:
        async with asyncio.timeout(60):
            return await main

    return asyncio.run(bounded())


def ids(batches: list[Batch]) -> list[int]:
    return [record.id for batch in batches for record in batch]


def test_batches_until_another_task_stops_it(kernel: FakeKernel) -> None:
    async def main() -> list[Batch]:
        listener, send = opened(kernel)

        async def sender() -> None:
            for seq in range(20):
                send(seq)
                await asyncio.sleep(0)
            listener.stop()

        async with listener:
            task = asyncio.create_task(sender())
            got = [batch async for batch in listener.batches()]
            await task
        assert listener.closed
        return got

    assert ids(run(main())) == list(range(20))


def test_records(kernel: FakeKernel) -> None:
    async def main() -> list[int]:
        listener, send = opened(kernel)
        async with listener:
            for seq in range(5):
                send(seq)
            first = []
            async for record in listener:
                first.append(record.id)
                if len(first) == 2:
                    break
            listener.stop()
            return first + [record.id async for record in listener]

    assert run(main()) == list(range(5))


@pytest.mark.parametrize("timeout", [0, 0.01])
def test_an_empty_batch_at_a_timeout(kernel: FakeKernel, timeout: float) -> None:
    async def main() -> None:
        listener, send = opened(kernel)
        async with listener:
            batches = listener.batches(timeout=timeout)
            assert len(await anext(batches)) == 0
            send(7)
            assert ids([await anext(batches)]) == [7]
            assert len(await anext(batches)) == 0

    run(main())


def test_what_a_cancelled_task_waited_for_is_not_lost(kernel: FakeKernel) -> None:
    """Cancelled at each of the loop's turns in between, and with a timeout around each call."""

    async def main() -> list[int]:
        listener, send = opened(kernel, max_latency=0.001)
        got: list[Batch] = []
        async with listener:
            for turns in range(12):
                batches = listener.batches()
                task = asyncio.create_task(anext(batches))  # type: ignore[arg-type]
                send(turns)
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    got.append(await task)
            for seq in range(12, 30):
                send(seq)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(seq % 3 / 2000):
                        got.append(await anext(listener.batches()))
            listener.stop()
            got += [batch async for batch in listener.batches()]
        return ids(got)

    assert run(main()) == list(range(30))


class Counting(selectors.DefaultSelector):  # type: ignore[misc, valid-type]
    """Counts the loop's turns."""

    turns = 0

    def select(self, timeout: float | None = None) -> Any:
        self.turns += 1
        return super().select(timeout)


def test_the_loop_sleeps_while_records_gather(kernel: FakeKernel) -> None:
    """The listener's descriptor is readable all the while."""
    selector = Counting()

    async def main() -> None:
        listener, send = opened(kernel, max_latency=0.2)
        async with listener:
            send(1)
            assert ids([await anext(listener.batches())]) == [1]

    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
        runner.run(main())
    assert 0 < selector.turns < 100


def test_records_do_not_gather_until_their_queue_is_full(kernel: FakeKernel) -> None:
    async def main() -> None:
        listener, send = opened(kernel, max_latency=1000, rcvbuf=64 << 10)
        async with listener:
            for seq in range(1, 21):  # 25 of 64 KiB
                send(seq)
            got = ids([await anext(listener.batches())])
            # The thread that fills a buffer may wake before the last of them is sent.
            assert got
            assert got == list(range(1, len(got) + 1))

    run(main())


@pytest.mark.parametrize("end", ["stop", "close"])
def test_ending_while_records_gather(kernel: FakeKernel, end: str) -> None:
    async def main() -> list[Batch]:
        listener, send = opened(kernel, max_latency=1000)
        send(1)
        reader = asyncio.create_task(collect(listener))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not reader.done()
        getattr(listener, end)()
        got = await reader
        assert listener.closed == (end == "close")
        listener.close()
        return got

    assert ids(run(main())) == [1]


async def collect(listener: ExitListener) -> list[Batch]:
    return [batch async for batch in listener.batches()]


def test_closing_before_anything_came(kernel: FakeKernel) -> None:
    async def main() -> None:
        listener, _ = opened(kernel)
        reader = asyncio.create_task(collect(listener))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        listener.close()
        assert await reader == []
        assert listener.closed

    run(main())


def test_a_signal_handler_of_the_loop_may_stop_it(kernel: FakeKernel) -> None:
    async def main() -> list[Batch]:
        listener, send = opened(kernel)
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, listener.stop)
        send(3)
        async with listener:
            asyncio.get_running_loop().call_later(0.01, os.kill, os.getpid(), signal.SIGUSR1)
            return await collect(listener)

    assert ids(run(main())) == [3]


def test_two_readers_at_once(kernel: FakeKernel) -> None:
    async def main() -> None:
        listener, send = opened(kernel)
        async with listener:
            reader = asyncio.create_task(collect(listener))
            await asyncio.sleep(0)
            with pytest.raises(TaskstatsError, match="read already") as caught:
                await anext(listener.batches())
            assert caught.value.errno == errno.EBUSY
            for read in (listener.batches(timeout=0), iter(listener)):
                with pytest.raises(TaskstatsError, match="read already"):
                    next(read)  # type: ignore[arg-type]
            send(1)
            listener.stop()
            assert ids(await reader) == [1]

    run(main())


def test_a_thread_that_reads_as_well(kernel: FakeKernel) -> None:
    caught: list[TaskstatsError] = []

    async def main() -> None:
        listener, _ = opened(kernel)

        def read() -> None:
            try:
                next(listener.batches(timeout=0))
            except TaskstatsError as error:
                caught.append(error)

        async with listener:
            reader = asyncio.create_task(collect(listener))
            await asyncio.sleep(0)
            thread = threading.Thread(target=read)
            thread.start()
            thread.join()
            listener.stop()
            await reader

    run(main())
    assert [error.errno for error in caught] == [errno.EBUSY]


def test_a_reader_that_never_waits_lets_others_run(kernel: FakeKernel) -> None:
    async def main() -> None:
        listener, send = opened(kernel)
        if listener.stats().rcvbuf < (BATCH_ROWS + 1) * 1536:
            pytest.skip("the bytes granted for a queue do not hold more than one batch")
        for seq in range(BATCH_ROWS + 1):
            send(seq)
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        async with listener:
            task = asyncio.create_task(other())
            batches = listener.batches()
            for size in (BATCH_ROWS, 1):
                before = turns
                assert len(await anext(batches)) == size
                assert turns > before
            task.cancel()

    run(main())


def test_nothing_is_left_in_the_loop(kernel: FakeKernel) -> None:
    async def main() -> None:
        listener, send = opened(kernel, max_latency=0.01)
        fds = (listener.fileno(), listener._wake)
        async with listener:
            send(1)
            await anext(listener.batches())
            reader = asyncio.create_task(collect(listener))
            await asyncio.sleep(0)
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            loop = asyncio.get_running_loop()
            assert not any(loop.remove_reader(fd) for fd in fds)

    run(main())
