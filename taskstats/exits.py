"""ExitListener: hear the kernel's record of every task that exits."""

import errno
import os
import threading
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from taskstats import cpulist, host
from taskstats._native import ffi, lib
from taskstats.endpoint import KERNEL, Endpoint, new_rows, opening_error, owned
from taskstats.errors import REASONS, TaskstatsError, Unavailable, from_errno
from taskstats.records import Batch, Record
from taskstats.rows import ROW

#: The most records of one batch.
BATCH_ROWS = 4096

_RCVBUF = 32 << 20  # half a second of threaded exits at 20,000/s is 23 MB
_LEAST_RCVBUF = 1 << 20
_SHARE_OF_MEMORY = 50  # by default all CPUs together take at most 1/50
_SPARE_DESCRIPTORS = 3  # epoll, eventfd, and one to look


@dataclass(frozen=True, slots=True)
class CpuStats:
    """What one CPU's socket has seen since it was registered.

    Attributes:
        cpu: The CPU.
        received: Records taken off its queue.
        lost: Records that the kernel built and could not queue. Together with `received` and
            `queued` ones that is every exit there.
        unexplained: Sequence numbers missing beyond `lost`: a record may come late, or on the
            socket of the CPU that its task has left. Never part of `lost`.
        foreign: Datagrams from another sender than the kernel.
        truncated: Datagrams longer than a receive slot.
        malformed: Datagrams that could not be decoded.
        wakeups: Drains that found something here.
        rcvbuf: Bytes granted for the queue.
        queued: Bytes of it in use now.
        refused: Datagrams refused, by reason (errors.REASONS).
    """

    cpu: int
    received: int
    lost: int
    unexplained: int
    foreign: int
    truncated: int
    malformed: int
    wakeups: int
    rcvbuf: int
    queued: int
    refused: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class ExitStats:
    """What a listener has seen: sums over its CPUs, and each of them.

    Attributes:
        received, lost, unexplained, foreign, truncated, malformed, rcvbuf, queued: See CpuStats.
        wakeups: Drains.
        witness: Exits since the listener was opened by the kernel's own books
            (host.exits_by_the_books); None unless it listens on every CPU. Read a moment before
            or after the rest, and a task counts there when it is reaped: equal when all is quiet.
        cpus: Each CPU's own, ascending.
    """

    received: int
    lost: int
    unexplained: int
    foreign: int
    truncated: int
    malformed: int
    wakeups: int
    rcvbuf: int
    queued: int
    witness: int | None
    cpus: tuple[CpuStats, ...]


class ExitListener:
    """Hears every task that exits on the chosen CPUs, and counts what was lost.

    Reading starts with `batches()` or iteration. Needs CAP_NET_ADMIN, and the initial user, PID
    and network namespace. One thread may read at a time; `stop`, `close` and `stats` may be
    called from any, and from a signal handler.

    Records of a CPU come in the order in which the kernel queued them; between CPUs there is no
    order, not even within a batch.

    Args:
        cpus: "0-3,8", numbers, or None for every possible CPU (also those now offline).
        max_latency: Seconds that records may gather before they are read; 0 to read at once, at
            many times the cost.
        rcvbuf: Bytes of kernel memory for each CPU's queue, used only while records wait.
        rcvbuf_total: The most for all CPUs together, but at least 1 MiB each; None for 2 % of
            memory.
        endpoint: Whom to listen to.

    Raises:
        AccessDenied: CAP_NET_ADMIN in the initial user namespace is missing.
        Unavailable: No TASKSTATS in the kernel, or a PID or network namespace in the way.
        ValueError: A CPU that does not exist.
        TaskstatsError: Too few file descriptors, and whatever else the system refuses.
    """

    def __init__(
        self,
        cpus: str | Iterable[int] | None = None,
        *,
        max_latency: float = 0.005,
        rcvbuf: int = _RCVBUF,
        rcvbuf_total: int | None = None,
        endpoint: Endpoint = KERNEL,
    ) -> None:
        self._pid = os.getpid()
        self._handle: Any = None
        self.closed = False
        self.cpus = tuple(cpulist.chosen(cpus, endpoint.possible_cpus))
        if endpoint.is_kernel:
            _check_network_namespace()
        _check_descriptors(len(self.cpus))
        self._max_latency_ns = int(max_latency * 1e9)
        self._consumer = threading.RLock()  # re-entrant: a signal handler may call close
        self._stopped = False
        self._sink = ffi.new("struct ts_sink *")
        self._sink.capacity = BATCH_ROWS
        self._tasks: Any = None
        self._groups: Any = None
        self._renew_rows()
        self._ready: Batch | None = None  # filled, and not yet handed out
        self._left: list[Batch] = []  # what close() found queued
        self._final_stats: ExitStats | None = None

        everywhere = list(self.cpus) == cpulist.parse(endpoint.possible_cpus)
        self._books: int | None = None
        if everywhere and endpoint.is_kernel:
            self._books = host.exits_by_the_books()
        self._open(endpoint, _rcvbuf_each(rcvbuf, rcvbuf_total, len(self.cpus)))

    def _open(self, endpoint: Endpoint, rcvbuf: int) -> None:
        opened = ffi.new("struct ts_opened *")
        handle = ffi.new("struct ts_exits **")
        native, _cpus = endpoint.native()
        cpus = ffi.new("uint16_t[]", list(self.cpus))
        rc = lib.ts_exits_open(native, cpus, len(self.cpus), rcvbuf, handle, opened)
        if rc < 0:
            raise opening_error("listen", rc, opened)
        self._handle = owned(handle[0])
        self._fileno: int = opened.fileno

    # -- reading

    def batches(self, timeout: float | None = None) -> Iterator[Batch]:
        """Batches of at most 4,096 task records, as they come; ends after `stop` or `close`.

        Ctrl-C and other signals are handled while it waits; nothing that was read is lost by an
        exception, the next call hands it out.

        Args:
            timeout: Seconds after which an empty batch is given; None to wait for ever.

        Raises:
            TaskstatsError: Another thread is reading, or this is a child of fork.
        """
        while self._fill(timeout):
            batch, self._ready = self._ready, None
            if batch is not None:
                yield batch

    def __iter__(self) -> Iterator[Record]:
        """Every record, as it comes."""
        for batch in self.batches():
            yield from batch

    def _fill(self, timeout: float | None) -> bool:
        """Leaves the next batch in `_ready`; False at the end of the stream."""
        if not self._consumer.acquire(blocking=self._stopped):
            raise from_errno("listen", errno.EBUSY)
        try:
            deadline = -1 if timeout is None else time.monotonic_ns() + int(timeout * 1e9)
            while self._ready is None:
                if self._left:
                    self._ready = self._left.pop(0)
                elif self.closed:
                    return False
                else:
                    rc = self._drain(deadline)
                    if rc == -errno.ESHUTDOWN:
                        return False
                    if rc == 0:
                        self._ready = Batch(b"")
            return True
        finally:
            self._consumer.release()

    def _drain(self, deadline: int) -> int:
        """One drain into `_ready`. Returns 1, 0 at the deadline, or -ESHUTDOWN at the end."""
        while not self._sink.n_tasks:
            rc: int = lib.ts_exits_drain(self._handle, self._max_latency_ns, deadline, self._sink)
            if rc == -errno.EINTR:
                continue  # Python's signal handlers run here
            if rc in (0, -errno.ESHUTDOWN) or (rc == -errno.EBADF and self.closed):
                return rc if rc != -errno.EBADF else -errno.ESHUTDOWN
            if rc < 0:
                raise from_errno("listen", -rc)
        self._take()
        return 1

    def _take(self) -> None:
        """Moves the sink's rows to `_ready`, at one stroke as far as signal handlers can tell.

        An array that is at least half full is handed out itself, so that most records are copied
        once; of a smaller batch a copy is, so that keeping it does not keep the whole array.
        """
        sink = self._sink
        tasks, groups = sink.n_tasks, sink.n_groups
        made = Batch(
            self._rows(self._tasks, tasks),
            Batch(self._rows(self._groups, groups), kind="group") if groups else None,
        )
        if 2 * tasks >= BATCH_ROWS:
            self._renew_rows()
        self._ready, sink.n_tasks, sink.n_groups = made, 0, 0

    def _rows(self, rows: Any, n: int) -> Any:
        whole = ffi.buffer(rows, n * ROW)
        return whole if 2 * self._sink.n_tasks >= BATCH_ROWS else bytes(whole)

    def _renew_rows(self) -> None:
        self._tasks = new_rows("struct ts_record[]", BATCH_ROWS)
        self._groups = new_rows("struct ts_record[]", BATCH_ROWS)
        self._sink.tasks, self._sink.groups = self._tasks, self._groups

    # -- counting

    def stats(self) -> ExitStats:
        """What was received and lost so far, read from the sockets now.

        After `close` it stays as it was then.
        """
        if self._final_stats is not None:
            return self._final_stats
        rows = ffi.new("struct ts_cpu_stats[]", len(self.cpus))
        wakeups = ffi.new("uint64_t *")
        rc = lib.ts_exits_stats(self._handle, rows, wakeups)
        if rc < 0:
            raise from_errno("listen", -rc)
        witness = None if self._books is None else host.exits_by_the_books() - self._books
        return _total([_cpu_stats(row) for row in rows], wakeups[0], witness)

    def fileno(self) -> int:
        """A descriptor for select, poll and event loops: readable when `batches` would not wait.

        Raises:
            TaskstatsError: The listener is closed.
        """
        if self.closed:
            raise from_errno("listen", errno.EBADF)
        return self._fileno

    # -- lifecycle

    def stop(self) -> None:
        """Deregisters. What is queued can still be read: iteration gives it, then ends."""
        if not self.closed:
            rc = lib.ts_exits_stop(self._handle)
            if rc < 0:
                raise from_errno("listen", -rc)
            self._stopped = True

    def close(self) -> None:
        """Stops, takes what is queued, and gives the sockets back.

        What was taken can still be read with `batches`. In a child of fork it only closes: the
        parent goes on listening.
        """
        if self.closed:
            return
        if self._pid == os.getpid():
            self.stop()
            with self._consumer:  # a drain that waits has been woken
                self._finish()
        self.closed = True
        lib.ts_exits_close(self._handle)

    def _finish(self) -> None:
        if self._ready is not None:
            self._left.append(self._ready)
            self._ready = None
        while self._drain(-1) == 1 and self._ready is not None:
            self._left.append(self._ready)
            self._ready = None
        self._final_stats = self.stats()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if self._handle is not None and not self.closed:
            if self._pid == os.getpid():
                warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
            self.closed = True
            lib.ts_exits_close(self._handle)

    def __repr__(self) -> str:
        state = "closed" if self.closed else "stopped" if self._stopped else "open"
        return f"<taskstats.ExitListener {len(self.cpus)} CPUs, {state}>"


# ---- before opening --------------------------------------------------------------------------


def _check_network_namespace() -> None:
    """The kernel acknowledges a listener elsewhere, and then sends it nothing."""
    if host.in_initial_network_namespace() is False:
        raise Unavailable(
            "listen",
            "the kernel sends exits to the initial network namespace only, and this is another",
            "Run in the host's network namespace (docker run --network=host, nsenter -t 1 -n)",
        )


def _check_descriptors(cpus: int) -> None:
    needed = cpus + _SPARE_DESCRIPTORS
    free = host.free_descriptors()
    if free < needed:
        raise TaskstatsError(
            "listen",
            f"{needed} file descriptors are needed for {cpus} CPUs, and {free} are left",
            "Raise the limit: ulimit -n, or LimitNOFILE= of the service",
            errno.EMFILE,
        )


def _rcvbuf_each(rcvbuf: int, total: int | None, cpus: int) -> int:
    if total is None:
        total = host.memory_bytes() // _SHARE_OF_MEMORY
    return min(rcvbuf, max(total // cpus, _LEAST_RCVBUF))


# ---- stats -----------------------------------------------------------------------------------

_NOT_MALFORMED = {"accepted", "foreign", "truncated"}


def _cpu_stats(row: Any) -> CpuStats:
    refused = dict(zip(REASONS, row.refused, strict=True))
    return CpuStats(
        cpu=row.cpu,
        received=row.received,
        lost=row.lost,
        unexplained=row.unexplained,
        foreign=refused["foreign"],
        truncated=refused["truncated"],
        malformed=sum(n for reason, n in refused.items() if reason not in _NOT_MALFORMED),
        wakeups=row.wakeups,
        rcvbuf=row.rcvbuf,
        queued=row.queued,
        refused={reason: n for reason, n in refused.items() if n},
    )


_SUMMED = (
    "received",
    "lost",
    "unexplained",
    "foreign",
    "truncated",
    "malformed",
    "rcvbuf",
    "queued",
)


def _total(cpus: list[CpuStats], wakeups: int, witness: int | None) -> ExitStats:
    sums = {name: sum(getattr(cpu, name) for cpu in cpus) for name in _SUMMED}
    return ExitStats(**sums, wakeups=wakeups, witness=witness, cpus=tuple(cpus))
