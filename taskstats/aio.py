"""Waiting for a descriptor in asyncio's event loop."""

import asyncio
import contextlib


async def readable(fd: int, wait_ns: int | None) -> None:
    """Returns once the descriptor is readable, or after so many nanoseconds; None for no limit.

    The loop watches it only meanwhile: a nested epoll descriptor stays readable until what is in
    it has been read, and would keep the loop spinning.
    """
    loop = asyncio.get_running_loop()
    ready = loop.create_future()
    loop.add_reader(fd, _settle, ready)
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(None if wait_ns is None else wait_ns / 1e9):
                await ready
    finally:
        loop.remove_reader(fd)


async def nap(seconds: float) -> None:
    """Returns after this time."""
    await asyncio.sleep(seconds)


async def give_way() -> None:
    """Lets the loop's other tasks run, and a cancellation through."""
    await asyncio.sleep(0)


def _settle(ready: asyncio.Future[None]) -> None:
    if not ready.done():
        ready.set_result(None)
