"""ExitListener: hear the kernel's record of every task that exits."""

import errno
import os
import threading
import time
import warnings
import weakref
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from functools import cache
from types import ModuleType
from typing import Any, Self

from taskstats import cpulist, host
from taskstats._native import ffi, lib
from taskstats.births import Births
from taskstats.client import Client
from taskstats.endpoint import KERNEL, Endpoint
from taskstats.errors import TaskstatsError, from_errno
from taskstats.exit_stats import (
    BufferStats,
    ExitStats,
    ProbeStats,
    buffer_stats,
    cpu_stats,
    probe_stats,
    total,
)
from taskstats.probe import Mode, open_probe
from taskstats.records import Batch, Record
from taskstats.rows import ROW, text_of
from taskstats.shim import new_cell, new_rows, opening_error
from taskstats.where import FIRST_WITH_LAST, Instruction, Where, compile_for

#: The most records of one batch. Two of these arrays about fit a CPU's second-level cache.
BATCH_ROWS = 1024

_RCVBUF = 96 << 20  # half a second of threaded exits at 70,000/s is 77 MiB
_LEAST_RCVBUF = 1 << 20
_SHARE_OF_MEMORY = 50  # by default all CPUs together take at most 1/50
#: Half a second at 106,000 exits/s: a row of 752 bytes for each, a group row for every second exit
#: (processes of two threads), a birth of 32 bytes for each; and what is left over in each MiB.
_BUFFER = 64 << 20
_LEAST_BUFFER = 1 << 20
_MOST_BUFFER = 1 << 40
#: Those it opens beside the sockets: epoll, eventfd, and one to look.
DESCRIPTORS = 3
#: That of a buffer: an eventfd.
BUFFER_DESCRIPTORS = 1
#: Those of a probe: two maps, five programs and their attachments, a timer.
PROBE_DESCRIPTORS = 13

_LOOK_EVERY = 20_000_000  # ns, as in csrc/drain.c
_HELD_NAP = 0.001  # seconds between looks at what is held, in an event loop
_NO_ROWS = (-errno.EAGAIN, -errno.EINPROGRESS, -errno.ESHUTDOWN)

_BIRTHS = 65_536  # room for those that come while records are held
_CHANGES = 1024
_LONGEST = 1_000_000_000  # seconds; what is meant to be for ever is None


class ExitListener:
    """Hears every task that exits on the chosen CPUs, and counts what was lost.

    Reading starts with `batches()` or iteration, either also with `async for`. Needs
    CAP_NET_ADMIN, and the initial user, PID and network namespace. One thread or task may read at
    a time; `stop`, `close` and `stats` may be called from any, and from a signal handler.

    Records of a CPU come in the order in which the kernel queued them; between CPUs there is no
    order, not even within a batch.

    Args:
        cpus: "0-3,8", numbers, or None for every possible CPU (also those now offline).
        max_latency: Seconds that records may gather before they are read; 0 to read at once, at
            many times the cost.
        rcvbuf: Bytes of kernel memory for each CPU's queue, used only while records wait.
        rcvbuf_total: The most for all CPUs together, but at least 1 MiB each; None for 2 % of
            memory.
        buffer: Bytes of memory that a thread of the listener drains into, at least 1 MiB; 0 for no
            thread; None for 64 MiB, but at most 2 % of memory. The reader may then be busy, or wait
            for something else, and the kernel's queues do not overflow meanwhile. The memory is
            used only while records wait. While it is full, the thread waits; if the kernel's queues
            overflow then, the loss is counted as ever. See the notes below.
        where: Which exits to hear; None for all. The kernel keeps out the others, and how many
            those are is counted.
        probe: "require" to have records completed by BPF programs, which add `final_cpu_ns`,
            `start_ns`, `cgroup_id` and `cgroup` to records, and `births` to batches; "auto" where
            that is possible; "off" not to. It needs Linux 5.8 with BTF, and CAP_BPF and
            CAP_PERFMON. Records are held until the task's end was seen, in their order.
        settle: With a probe, the longest that a record is held, in seconds. `close`, and
            reading after `stop`, may take as long.
        cgroup_hierarchy: The hierarchy of the cgroups that the probe names: "unified" for version
            2, or a controller of a version 1 hierarchy ("memory"). None for that of cpuacct where
            it is of version 1, else version 2.
        endpoint: Whom to listen to.

    Notes:
        The thread of `buffer` runs no Python, and handles no signals. It takes the lowest real-time
        priority (SCHED_RR) if the process may set it (CAP_SYS_NICE or RLIMIT_RTPRIO). It stops when
        the whole process is stopped (SIGSTOP): for that, choose a larger `rcvbuf`. Python 3.12 and
        later warn when `os.fork` is called in a process with threads; `subprocess` does not.

    Attributes:
        closed: Whether it is closed.
        cpus: The CPUs it listens on, ascending.
        has_probe: Whether it has a probe, so that batches bring births.
        probe_error: Why there is no probe, where `probe` is "auto"; else None.

    Raises:
        AccessDenied: CAP_NET_ADMIN in the initial user namespace is missing; where the probe is
            required, CAP_BPF or CAP_PERFMON.
        Unavailable: No TASKSTATS in the kernel, a PID or network namespace in the way, or no /proc;
            where the probe is required, no BTF or no such programs.
        ValueError: A CPU or a cgroup hierarchy that does not exist; `cgroup_hierarchy` without a
            probe.
        TaskstatsError: Too few file descriptors, no thread for the buffer, and whatever else the
            system refuses.
    """

    # Signal handlers run between two bytecodes, at calls and at the end of a loop's turn. So what
    # must happen at one stroke (a batch made and the sink emptied, a batch taken off the queue and
    # handed out) is one statement that calls nothing. Other threads may run even within it, when it
    # drops the last reference to an array; so each of `_queue` and `_tail` has one writer: whoever
    # reads, and whoever closes.

    closed = True  # until it is open

    def __init__(
        self,
        cpus: str | Iterable[int] | None = None,
        *,
        max_latency: float = 0.005,
        rcvbuf: int = _RCVBUF,
        rcvbuf_total: int | None = None,
        buffer: int | None = 0,
        where: Where | None = None,
        probe: Mode = "off",
        settle: float = 0.25,
        cgroup_hierarchy: str | None = None,
        endpoint: Endpoint = KERNEL,
    ) -> None:
        if cgroup_hierarchy is not None and probe == "off":
            raise ValueError("cgroup_hierarchy is for the probe, and probe is 'off'")
        self._pid = os.getpid()
        possible = endpoint.possible_cpus
        self.cpus = tuple(cpulist.chosen(cpus, possible))
        self._max_latency_ns = _nanoseconds("max_latency", max_latency)
        settle_ns = _nanoseconds("settle", settle)
        self._buffer = _buffer_bytes(buffer)
        self._sink = ffi.new("struct ts_sink *")
        self._sink.capacity = BATCH_ROWS
        self._tasks, self._groups = _new_array(), _new_array()
        self._sink.tasks, self._sink.groups = self._tasks, self._groups
        self._queue: tuple[Batch, ...] = ()  # drained, and not yet handed out
        self._tail: tuple[Batch, ...] = ()  # what closing found
        self._batch, self._row = _NOTHING, 0  # what iteration has come to
        self._busy = 0  # the thread that drains
        self._emptied_ns = 0  # as a batch has told last
        self._closing = False
        self._final_stats: ExitStats | None = None

        if not host.proc_is_there():
            raise from_errno("listen", errno.ENOENT, "proc")
        if endpoint.is_kernel and host.in_initial_network_namespace() is False:
            raise from_errno("listen", errno.EINVAL, "namespace")
        self._filters = where is not None
        self._metered = self._filters and endpoint.counts_exits
        sockets = 2 if self._filters and endpoint.synchronous else 1
        spare = host.free_descriptors() - len(self.cpus) * sockets - DESCRIPTORS
        spare -= BUFFER_DESCRIPTORS if self._buffer else 0
        if spare < (PROBE_DESCRIPTORS if probe == "require" else 0):
            raise from_errno("listen", errno.EMFILE, "limit", f"on {len(self.cpus)} CPUs")
        program = None if where is None else _program(where, endpoint)
        self._books: int | None = None
        self._books_at_stop: int | None = None
        if endpoint.is_kernel and list(self.cpus) == cpulist.parse(possible):
            self._books = host.exits_by_the_books()
        rcvbuf = _rcvbuf_each(rcvbuf, rcvbuf_total, len(self.cpus))
        # Before the sockets: of each record the probe must see the end.
        self._probe, self.probe_error = (
            open_probe(probe, cgroup_hierarchy, endpoint)
            if probe != "auto" or spare >= PROBE_DESCRIPTORS
            else (None, from_errno("probe", errno.EMFILE))
        )
        self.has_probe = self._probe is not None
        self._cell = new_cell("ts_exits", lib.ts_exits_close, (endpoint, self._probe))
        if self._probe:
            self._births = new_rows("struct ts_birth[]", _BIRTHS)
            self._changes = new_rows("struct ts_cgroup_change[]", _CHANGES)
            self._sink.births, self._sink.room_births = self._births, _BIRTHS
            self._sink.changes, self._sink.room_changes = self._changes, _CHANGES
        try:
            self._open(endpoint, rcvbuf, program, settle_ns)
        except BaseException:
            if self._probe:
                self._probe.close()
            raise
        if self._probe:
            self._probe.paths.watch_losses(_losses_of(self))
        self.closed = False

    def _open(
        self, endpoint: Endpoint, rcvbuf: int, program: list[Instruction] | None, settle_ns: int
    ) -> None:
        opened = ffi.new("struct ts_opened *")
        native, _cpus = endpoint.native()
        cpus = ffi.new("uint16_t[]", list(self.cpus))
        wanted = ffi.new(
            "struct ts_wanted *", {"cpus": cpus, "n_cpus": len(self.cpus), "rcvbuf": rcvbuf}
        )
        if program is not None:
            filter_ = ffi.new("struct ts_instruction[]", program)
            wanted.filter, wanted.n_filter = filter_, len(program)
        if self._probe:
            wanted.probe, wanted.settle_ns = self._probe.cell[0], settle_ns
        wanted.buffer, wanted.latency_ns = self._buffer, self._max_latency_ns
        wanted.all_cpus = list(self.cpus) == cpulist.parse(endpoint.possible_cpus)
        rc = lib.ts_exits_open(native, wanted, self._cell, opened)
        if rc < 0:
            raise opening_error("listen", rc, opened)
        self._fileno: int = opened.fileno
        self._wake: int = opened.wake

    # -- reading

    def batches(self, timeout: float | None = None) -> "Batches":
        """Batches of at most 1,024 task records, as they come; ends after `stop` or `close`.

        With a probe, an empty batch is given while records are held only with a timeout of 0.
        Births come with the next batch, which brings them alone where 65,536 processes were made
        and none has ended.

        For `for` and `async for` alike. Ctrl-C and other signals are handled while it waits; what
        was read then is handed out by the next call, and so it is after a task was cancelled. A
        batch that was handed out is the caller's: a handler that raises between `next(...)` and
        the use of its result loses it, as a `for` loop does not.

        Args:
            timeout: Seconds after which an empty batch is given; 0 not to wait, None to wait for
                ever.

        Raises:
            TaskstatsError: It is being read already, or this is a child of fork.
            ValueError: No such time.
        """
        return Batches(self, None if timeout is None else _nanoseconds("timeout", timeout))

    def __iter__(self) -> Iterator[Record]:
        """Every record, as it comes. A loop that was left is taken up again by the next.

        Births come with batches alone.
        """
        while self._turn() or self._fill(None):
            while self._row < len(self._batch):
                record = Record(self._batch, self._row)
                self._row += 1
                yield record

    async def __aiter__(self) -> AsyncIterator[Record]:
        """The same for `async for`, in asyncio's event loop."""
        while self._turn() or await self._fill_async(None):
            while self._row < len(self._batch):
                record = Record(self._batch, self._row)
                self._row += 1
                yield record

    def _turn(self) -> bool:
        """Whether iteration has a record to go on with."""
        if self._row == len(self._batch) and self._ready():
            self._queue, self._row, self._batch = self._queue[1:], 0, self._queue[0]
        return self._row < len(self._batch)

    def _ready(self) -> bool:
        """Whether a batch is on the queue, where what iteration has left comes first."""
        if self._row < len(self._batch):
            rest = self._batch[self._row :]
            rest.births, rest.emptied_ns = self._batch.births, self._batch.emptied_ns
            self._queue, self._batch, self._row = (rest, *self._queue), _NOTHING, 0
        if self.closed and not self._queue:
            self._queue, self._tail = self._tail, ()
        return bool(self._queue)

    def _fill(self, wait: int | None) -> bool:
        """Puts one more batch on the queue; False at the end of the stream."""
        me = self._reader()
        try:
            self._busy = me
            more = not self.closed and (self._drain_within(wait) or self._has_events())
            if more:
                self._take()
        finally:
            self._busy = 0  # before any call, at which a signal handler may raise
            self._leave()
        return more or bool(self._tail)

    async def _fill_async(self, wait: int | None) -> bool:
        me = self._reader()
        try:
            self._busy = me
            more = not self.closed and (await self._drain_async(wait) or self._has_events())
            if more:
                self._take()
        finally:
            self._busy = 0
            self._leave()
        return more or bool(self._tail)

    def _reader(self) -> int:
        """This thread, if it may read now."""
        if self._pid != os.getpid():
            raise from_errno("listen", errno.EOWNERDEAD)
        me = threading.get_ident()
        while self._closing and self._busy not in (0, me):
            time.sleep(0.001)  # another thread is taking what is left
        if self._busy:
            raise from_errno("listen", errno.EBUSY)
        return me

    def _leave(self) -> None:
        """Closes, if that was asked for while this one read."""
        if self._closing:
            self._finish()

    def _drain_within(self, wait: int | None) -> bool:
        """One drain into the sink; False at the end of the stream."""
        if wait == 0:
            return self._drain(0, 0) != -errno.ESHUTDOWN
        deadline = -1 if wait is None else time.monotonic_ns() + wait
        return self._drain(self._max_latency_ns, deadline) != -errno.ESHUTDOWN

    async def _drain_async(self, wait: int | None) -> bool:
        """The same, waiting in the event loop: no record is taken before it returns."""
        aio = _aio()
        deadline = None if wait is None else time.monotonic_ns() + wait
        gathered = 0  # ns
        await aio.give_way()
        while True:
            left = None if deadline is None else max(0, deadline - time.monotonic_ns())
            more = self._max_latency_ns - gathered
            rc = self._drain(0 if left == 0 else max(0, more), 0)
            if rc == -errno.EAGAIN:
                # On the eventfd alone: the epoll set is ready already, and would spin. A long
                # time in pieces: the next drain sees whether a queue fills up.
                nap = min(more, _LOOK_EVERY)
                await aio.readable(self._wake, nap if left is None else min(nap, left))
                gathered += nap
            elif rc == 0 and self._is_full():
                return True
            elif rc == -errno.EINPROGRESS and wait != 0:
                await aio.nap(_HELD_NAP)
            elif rc or left == 0:
                return rc != -errno.ESHUTDOWN
            else:
                gathered = 0
                await aio.readable(self._fileno, left)

    def _drain(self, latency: int, deadline: int) -> int:
        """Rows in the sink, 0 if none came, -ESHUTDOWN at the end.

        Without waiting, -EAGAIN if records may gather, -EINPROGRESS if some are held.
        """
        while not self._sink.n_tasks:
            rc = lib.ts_exits_drain(self._cell[0], latency, deadline, self._sink)
            if rc == -errno.EINTR:  # Python runs its signal handlers now
                continue
            if rc < 0 and rc not in _NO_ROWS:
                raise from_errno("listen", -rc)
            return rc
        return int(self._sink.n_tasks)

    def _has_events(self) -> bool:
        """Whether the last drain has brought births or changes of cgroups, and no record."""
        return bool(self._sink.n_births or self._sink.n_changes)

    def _is_full(self) -> bool:
        """Whether births or changes of cgroups must be taken before more are read."""
        sink = self._sink
        return self._probe is not None and (
            sink.n_births == sink.room_births or sink.n_changes == sink.room_changes
        )

    def _take(self) -> None:
        """Moves the sink's rows to the queue; an empty batch if the deadline passed.

        Arrays that are at least a quarter full are handed out themselves, so that most records
        are not copied; of a smaller batch a copy is, so that keeping it does not keep the arrays.
        """
        sink = self._sink
        if 4 * sink.n_tasks < BATCH_ROWS:
            made = self._copied()
            (self._queue, sink.n_tasks, sink.n_groups, sink.n_births, sink.n_changes) = (
                *((*self._queue, made), 0, 0, 0, 0),
            )
            return
        made = self._made(*self._filled())
        arrays = _new_array(), _new_array() if sink.n_groups else self._groups
        # fmt: off
        (
            self._queue, self._tasks, self._groups, sink.tasks, sink.groups,
            sink.n_tasks, sink.n_groups, sink.n_births, sink.n_changes,
        ) = (*self._queue, made), *arrays, *arrays, 0, 0, 0, 0
        # fmt: on

    def _filled(self) -> tuple[Any, Any]:
        """The task rows and group rows that the sink holds, in place."""
        return (
            ffi.buffer(self._tasks, self._sink.n_tasks * ROW),
            ffi.buffer(self._groups, self._sink.n_groups * ROW),
        )

    def _copied(self) -> Batch:
        return self._made(*map(bytes, self._filled()))

    def _made(self, tasks: Any, groups: Any) -> Batch:
        """A batch of rows, with the births that the sink holds."""
        group_batch = Batch(groups, kind="group") if groups else None
        probe, sink = self._probe, self._sink
        # With a buffer the sink keeps the last moment: it is told once.
        emptied_ns = sink.emptied_ns if sink.emptied_ns > self._emptied_ns else None
        self._emptied_ns = max(self._emptied_ns, sink.emptied_ns)
        if probe is None:
            return Batch(tasks, group_batch, emptied_ns=emptied_ns)
        for change in self._changes[0 : sink.n_changes]:  # to take one twice does no harm
            path = text_of(ffi.buffer(change.path, change.length)[:])
            probe.paths.apply(change.change, change.id, path)
        births = ffi.buffer(self._births, sink.n_births * Births.ROW)[:]
        return Batch(
            tasks,
            group_batch,
            births=births,
            path_of=probe.paths.get,
            births_lost=sink.births_lost,
            emptied_ns=emptied_ns,
        )

    # -- counting

    def stats(self) -> ExitStats:
        """What was received and lost so far, read from the sockets now.

        After `close` it stays as it was then.

        Raises:
            TaskstatsError: This is a child of fork.
        """
        if self._final_stats is not None:
            return self._final_stats
        rows = ffi.new("struct ts_cpu_stats[]", len(self.cpus))
        wakeups = ffi.new("uint64_t *")
        rc = lib.ts_exits_stats(self._cell[0], rows, wakeups)
        if rc < 0:
            raise from_errno("listen", -rc)
        cpus = [cpu_stats(row, self._filters, self._metered) for row in rows]
        return total(cpus, wakeups[0], self._witness(), self._probe_stats(), self._buffer_stats())

    def _buffer_stats(self) -> BufferStats | None:
        if not self._buffer:
            return None
        row = ffi.new("struct ts_buffer_stats *")
        rc = lib.ts_exits_buffer_stats(self._cell[0], row)
        if rc < 0:
            raise from_errno("listen", -rc)
        return buffer_stats(row)

    def _probe_stats(self) -> ProbeStats | None:
        if self._probe is None:
            return None
        row = ffi.new("struct ts_probe_stats *")
        rc = lib.ts_exits_probe_stats(self._cell[0], row)
        if rc < 0:
            raise from_errno("listen", -rc)
        return probe_stats(row, self._probe.ring_bytes)

    def _changes_lost(self) -> int:
        """How many changes of cgroups the ring has lost."""
        stats = self._final_stats.probe if self._final_stats else self._probe_stats()
        return stats.changes_lost if stats else 0

    def _witness(self) -> int | None:
        end = self._read_books() if self._books_at_stop is None else self._books_at_stop
        return None if self._books is None or end is None else end - self._books

    def _read_books(self) -> int | None:
        """The kernel's own count now; None where it is not to be told, or cannot be read."""
        try:
            return None if self._books is None else host.exits_by_the_books()
        except OSError:  # no descriptor left, for one: then closing must work all the same
            self._books = None
            return None

    def fileno(self) -> int:
        """A descriptor for select, poll and event loops, readable when there is work.

        Read with `batches(timeout=0)` then. A loop that lets records gather first, as `async for`
        does, stops watching it meanwhile: it stays readable. With a probe it becomes readable every
        100 ms at the latest, also where nothing exits, so that births are read.

        Raises:
            TaskstatsError: The listener is closed.
        """
        if self.closed:
            raise from_errno("listen", errno.EBADF)
        return self._fileno

    # -- lifecycle

    def stop(self) -> None:
        """Deregisters. What is queued can still be read: iteration gives it, then ends.

        Where CAP_NET_ADMIN was dropped meanwhile, the kernel refuses that; then the sockets let
        nothing more in, and the registration ends when they are closed.
        """
        if not self.closed:
            rc = lib.ts_exits_stop(self._cell[0])
            if rc < 0:
                raise from_errno("listen", -rc)
            if self._books_at_stop is None:
                self._books_at_stop = self._read_books()

    def close(self) -> None:
        """Stops, takes what is queued, and gives the sockets back.

        What was taken can still be read with `batches`. While somebody reads (another thread or
        task, or the code that a signal handler interrupts), the reader does the rest as it leaves;
        a task in a loop that runs no more never does. In a child of fork it only closes: the
        parent goes on listening.
        """
        if self.closed:
            return
        if self._pid != os.getpid():
            self.closed = True
            self._close_native()
            return
        self.stop()
        self._closing = True
        self._finish()

    def _finish(self) -> None:
        """Ends the closing, unless somebody drains: then that one does."""
        me = threading.get_ident()
        if self._busy or self.closed:
            return
        try:
            self._busy = me
            failure = self._drain_rest()
            self._final_stats = self.stats()
            self.closed = True
            self._close_native()
        finally:
            self._busy = 0
        if failure:
            raise failure

    def _close_native(self) -> None:
        lib.ts_exits_close(self._cell[0])
        if self._probe:
            self._probe.close()

    def _drain_rest(self) -> TaskstatsError | None:
        """Puts on the tail what is queued; returns what kept it from being read, if anything."""
        sink = self._sink
        told = False
        while True:
            try:
                ended = self._drain(0, -1) == -errno.ESHUTDOWN
            except TaskstatsError as error:
                if told:
                    return error
                told = True  # the refusal of a registration, which nobody has read before
            else:
                if ended and not self._has_events():
                    return None
                made = self._copied()
                (self._tail, sink.n_tasks, sink.n_groups, sink.n_births, sink.n_changes) = (
                    *((*self._tail, made), 0, 0, 0, 0),
                )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if not self.closed and self._pid == os.getpid():
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)

    def __repr__(self) -> str:
        state = "closed" if self.closed else "open"
        return f"<taskstats.ExitListener {len(self.cpus)} CPUs, {state}>"


class Batches:
    """The batches of a listener, for `for` and `async for`."""

    def __init__(self, listener: ExitListener, wait: int | None) -> None:
        self._listener = listener
        self._wait = wait

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        listener = self._listener
        while not listener._ready():
            if not listener._fill(self._wait):
                raise StopIteration
        listener._queue, batch = listener._queue[1:], listener._queue[0]
        return batch

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Batch:
        listener = self._listener
        while not listener._ready():
            if not await listener._fill_async(self._wait):
                raise StopAsyncIteration
        listener._queue, batch = listener._queue[1:], listener._queue[0]
        return batch


_NOTHING = Batch(b"")


def _losses_of(listener: ExitListener) -> Callable[[], int]:
    """What counts the lost changes of cgroups, without keeping the listener alive.

    In a child of fork, and once the listener is gone, there are no new ones.
    """
    found = weakref.ref(listener)

    def lost() -> int:
        one = found()
        return 0 if one is None or one._pid != os.getpid() else one._changes_lost()

    return lost


def _new_array() -> Any:
    return new_rows("struct ts_record[]", BATCH_ROWS)


@cache  # an import statement at each wakeup would be a good part of what that costs
def _aio() -> ModuleType:
    """The module aio, and asyncio with it, which takes time to import."""
    from taskstats import aio

    return aio


# ---- arguments -------------------------------------------------------------------------------


def _nanoseconds(name: str, seconds: float) -> int:
    if not 0 <= seconds <= _LONGEST:
        raise ValueError(f"{name} is a number of seconds from 0 to {_LONGEST:,}, not {seconds}")
    return int(seconds * 1e9)


def _program(where: Where, endpoint: Endpoint) -> list[Instruction]:
    """The filter for the kernel that is there, of whose struct a query tells the layout."""
    try:
        with Client(endpoint=endpoint) as client:
            sample = client.pid(1)  # there is one in every kernel
    except TaskstatsError as error:
        raise type(error)("listen", error.what, error.mend, error.errno) from error
    if where.last and sample.version < FIRST_WITH_LAST:
        raise from_errno("listen", errno.EOPNOTSUPP, "where", f"on struct version {sample.version}")
    return compile_for(where, sample.version, sample.size)


def _buffer_bytes(buffer: int | None) -> int:
    if buffer is None:
        return min(_BUFFER, max(host.memory_bytes() // _SHARE_OF_MEMORY, _LEAST_BUFFER))
    if buffer and not _LEAST_BUFFER <= buffer <= _MOST_BUFFER:
        raise ValueError(
            f"buffer is a number of bytes from {_LEAST_BUFFER:,} to {_MOST_BUFFER:,}, 0 for none, "
            f"or None for the default; not {buffer}"
        )
    return buffer


def _rcvbuf_each(rcvbuf: int, total: int | None, cpus: int) -> int:
    if not 0 < rcvbuf < 2**31:
        raise ValueError(f"rcvbuf is a number of bytes from 1 to 2**31 - 1, not {rcvbuf}")
    if total is not None and total < 0:
        raise ValueError(f"rcvbuf_total is a number of bytes, not {total}")
    if total is None:
        total = host.memory_bytes() // _SHARE_OF_MEMORY
    return min(rcvbuf, max(total // cpus, _LEAST_RCVBUF))
