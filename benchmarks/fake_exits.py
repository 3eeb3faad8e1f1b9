"""A listener on a fake endpoint and a floor beside it, and as many exit records as are wanted."""

import ctypes
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Self

from figures import nanoseconds
from floors import Floors
from support.descriptors import opened as socket_of
from support.fake_kernel import FakeKernel, frame

from taskstats import Batch, ExitListener

SO_RCVBUFFORCE = 33

#: Room for 20,480 records of the largest kind, at 2,304 bytes each.
RCVBUF = 64 << 20

#: What becomes of the batches of a drain.
Use = Callable[[Iterator[Batch]], object]


def let_go(batches: Iterator[Batch]) -> None:
    """Nothing."""
    for _ in batches:
        pass


class FakeExits:
    """Sockets that are filled at will: a listener's, and as many that a floor reads.

    Args:
        cpus: How many sockets of each.
        name: The captured record that is sent.

    Attributes:
        listener: On all of these CPUs.
        ports: Those of its sockets.
    """

    def __init__(self, floors: Floors, *, cpus: int = 1, name: str = "exit") -> None:
        self._library = floors.library
        self._record = frame(name)
        self._sent: dict[int, int] = {}
        with ExitStack() as opened:
            self._kernel = opened.enter_context(FakeKernel())
            with socket_of(self._kernel.fileno()) as peer:  # room for all CPUs' REGISTER at once
                peer.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RCVBUF)
            self.listener = opened.enter_context(
                ExitListener(
                    rcvbuf=RCVBUF,
                    rcvbuf_total=cpus * RCVBUF,
                    endpoint=self._kernel.endpoint(cpus=f"0-{cpus - 1}"),
                )
            )
            self._open_floor(cpus, opened)
            while len(self._kernel.registered()) < cpus:
                time.sleep(0.001)
            self._opened = opened.pop_all()
        self.ports = self._kernel.registered()
        self._batches = self.listener.batches(timeout=0)

    def _open_floor(self, cpus: int, opened: ExitStack) -> None:
        peer = self._kernel.port
        ports = (ctypes.c_uint32 * cpus)()
        fds = (ctypes.c_int * cpus)()
        for i in range(cpus):
            fds[i] = self._library.open_drain(peer, RCVBUF, ctypes.byref(ports, 4 * i))
            assert fds[i] >= 0
            opened.callback(os.close, fds[i])
        self._floor_ports = list(ports)
        self._drain_floor = partial(self._library.drain, fds[0], peer)
        if cpus > 1:
            epoll = self._library.watch_all(fds, cpus)
            assert epoll >= 0
            opened.callback(os.close, epoll)
            self._drain_floor = partial(self._library.drain_all, epoll, peer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def send(self, port: int, count: int) -> None:
        """Queues so many records on a socket; their numbers run on."""
        seq = self._sent.get(port, 0)
        sent = self._library.send_records(
            self._kernel.fileno(), port, self._record, len(self._record), count, seq
        )
        assert sent == count, f"only {sent:,} of {count:,} records found room"
        self._sent[port] = seq + count

    def batches(self, count: int) -> Iterator[Batch]:
        """So many records, all of which wait in the listener's queues."""
        while count > 0:
            batch = next(self._batches)
            assert batch, f"{count:,} records are missing"
            count -= len(batch)
            yield batch

    def drain(self, count: int, use: Use = let_go) -> int:
        """Reads so many. Returns the ns it took, with their use."""
        return nanoseconds(lambda: use(self.batches(count)))

    def ours(
        self, queued: int, times: int, *, ports: Sequence[int] = (), use: Use = let_go
    ) -> float:
        """ns a record to drain the listener, with so many in each socket, so many times."""
        return self._mean(partial(self.drain, use=use), ports or self.ports, queued, times)

    def floor(self, queued: int, times: int) -> float:
        """The same of the floor."""
        return self._mean(self._drain_floor, self._floor_ports, queued, times)

    def _mean(
        self, drain: Callable[[int], int], ports: Sequence[int], queued: int, times: int
    ) -> float:
        took = 0
        for _ in range(times):
            for port in ports:
                self.send(port, queued)
            once = drain(queued * len(ports))
            assert once > 0, "not every record has been read"
            took += once
        return took / times / queued / len(ports)

    def check(self) -> None:
        """The listener has received every record, and counted none as lost."""
        stats = self.listener.stats()
        sent = sum(self._sent.get(port, 0) for port in self.ports)
        assert (stats.received, stats.lost, stats.unexplained) == (sent, 0, 0)
