"""Reader: a thread that feeds the batches of a listener to a JobTracker."""

import errno
import os
import threading
import time
from contextlib import ExitStack
from typing import NamedTuple

from taskstats import threads
from taskstats.client import Client
from taskstats.endpoint import Endpoint
from taskstats.errors import from_errno
from taskstats.exits import ExitListener
from taskstats.fields import FIELDS
from taskstats.jobs import JobTracker
from taskstats.probe import Mode

_SETTLE = 2.0  # seconds that the listener holds a record at most: on a busy machine ends come late

_IDLE = 0.1  # seconds after which an empty batch comes
_HASTE = 0.002  # the same while somebody waits
_WAIT_AT_MOST_NS = 2_000_000_000  # until the jobs of all records are known, and at least ...
_WAIT_BATCHES = 16  # ... so many batches
_FULL_TURNS = 16  # batches that leave records in the queues, until the queues are measured
_LEAST_BYTES = 768  # of a queue, for each record in it (net/core/skbuff.c: truesize)
_SETTLE_NS = int(_SETTLE * 1e9)
_FIRST_WITH_PROCESSES = FIELDS["ac_tgid"].since


class Opened(NamedTuple):
    """What it takes to follow jobs.

    Attributes:
        listener: Of all CPUs.
        client: For the figures of running tasks.
        version: The version of the kernel's struct.
        tracker: It knows no job yet.
        reader: Feeds the tracker once it is started.
    """

    listener: ExitListener
    client: Client
    version: int
    tracker: JobTracker
    reader: "Reader"


def open_all(stack: ExitStack, probe: Mode, remember: int, endpoint: Endpoint) -> Opened:
    """Open what it takes to follow jobs; the stack closes it.

    Args:
        stack: Closes it.
        probe: As for ExitListener.
        remember: As for JobTracker.
        endpoint: As for ExitListener.

    Raises:
        Unavailable: The kernel does not tell which process a thread is of.
        TaskstatsError: What the listener and the client raise.
    """
    listener = stack.enter_context(
        ExitListener(probe=probe, settle=_SETTLE, buffer=None, endpoint=endpoint)
    )
    client = stack.enter_context(Client(endpoint=endpoint))
    version = client.pid(None if endpoint.is_kernel else 1).version
    if version < _FIRST_WITH_PROCESSES:
        raise from_errno("monitor", errno.EOPNOTSUPP, "version")
    tracker = JobTracker(client.pids, births=listener.has_probe, remember=remember)
    reader = Reader(listener, tracker)
    stack.callback(reader.close)
    return Opened(listener, client, version, tracker, reader)


class Reader:
    """Reads a listener until `close`, and knows up to which moment everything was read.

    Any thread may call anything.

    Args:
        listener: Of all CPUs, which the reader stops in the end.
        tracker: What to feed. It must allow calls from several threads.
    """

    def __init__(self, listener: ExitListener, tracker: JobTracker) -> None:
        self._owner = os.getpid()
        self._listener = listener
        self._tracker = tracker
        self._thread = threading.Thread(target=self._run, name="taskstats", daemon=True)
        self._turned = threading.Condition()
        self._turns = 0  # batches that were fed
        self._waiting = 0  # threads in catch_up
        self._read_until = 0  # CLOCK_MONOTONIC: what was queued before has been fed
        self._fed_at = 0  # ns since the epoch, of the last batch
        self._backlog: _Backlog | None = None
        self._full_turns = 0  # while somebody waits
        self._leaves = False
        self._ended = False
        self._failure: BaseException | None = None

    def start(self) -> None:
        """Start the thread. It blocks all signals, which stay with the other threads.

        Raises:
            TaskstatsError: There can be no more threads.
        """
        threads.start_without_signals(self._thread)

    def check(self) -> None:
        """Raise what has ended the thread, if anything has.

        Raises:
            TaskstatsError: What the listener or the tracker has raised; or it is closed, or was
                opened before fork by the parent.
        """
        if self._owner != os.getpid():
            raise from_errno("monitor", errno.EOWNERDEAD)
        if self._failure:
            raise self._failure
        if self._leaves:
            raise from_errno("monitor", errno.EBADF)

    def catch_up(self) -> bool:
        """Wait until every record queued before now was fed and assigned to its job.

        Returns:
            Whether that is so. False if some records still wait for others, after 2 seconds and 16
            more batches.

        Raises:
            TaskstatsError: What the listener or the tracker has raised, or it is closed.
        """
        since_ns = time.monotonic_ns()
        fed_at: int | None = None
        with self._turned:
            self._waiting += 1
            last = self._turns + _WAIT_BATCHES
            try:
                while True:
                    self.check()
                    if fed_at is None and (self._ended or self._read_until >= since_ns):
                        fed_at = self._fed_at
                    done = fed_at is not None and self._is_settled(fed_at)
                    late = time.monotonic_ns() - since_ns > _WAIT_AT_MOST_NS and self._turns > last
                    if done or self._ended or (late and fed_at is not None):
                        break
                    self._turned.wait()
            finally:
                self._waiting -= 1
        self._tracker.note_lost(self._listener.stats().lost)
        return done

    def read_rest(self) -> bool:
        """Stop the listener, and wait until everything that it heard was fed.

        Returns:
            Whether all of it was assigned to a job, to none, or counted as undecided.

        Raises:
            TaskstatsError: What the listener or the tracker has raised.
        """
        self._listener.stop()
        self._thread.join()
        if self._failure:
            raise self._failure
        self._tracker.note_lost(self._listener.stats().lost)
        return self._tracker.settled_until is None

    def close(self) -> None:
        """Stop the listener, and wait for the end of the thread, which reads no more.

        In a child of fork this does nothing: the thread is the parent's.
        """
        if self._owner != os.getpid():
            return
        with self._turned:
            self._leaves = True
            self._turned.notify_all()
        self._listener.stop()
        if self._thread.ident is not None:
            self._thread.join()

    # -- the thread

    def _run(self) -> None:
        try:
            self._read()
        except BaseException as failure:
            self._failure = failure
        with self._turned:
            self._ended = True
            self._turned.notify_all()

    def _read(self) -> None:
        while not self._leaves:
            timeout = _HASTE if self._waiting else _IDLE
            batch = next(self._listener.batches(timeout=timeout), None)
            if batch is None:
                self._tracker.flush()
                self._fed_at = time.time_ns()
                return
            self._tracker.feed(batch)
            read_until = batch.emptied_ns or self._overtaken(len(batch))
            with self._turned:
                self._turns += 1
                self._fed_at = time.time_ns()
                self._read_until = max(self._read_until, read_until)
                if batch.emptied_ns or not self._waiting:
                    self._full_turns, self._backlog = 0, None
                self._turned.notify_all()

    def _overtaken(self, rows: int) -> int:
        """Return up to which moment all was read, if the queues are never seen empty; 0 if unknown.

        A queue is read in order. So what it held at some moment was read once as many records were
        received from it as it could hold.
        """
        if not self._waiting:
            return 0
        self._full_turns += 1
        if self._full_turns < _FULL_TURNS:
            return 0
        if self._backlog is None:
            self._backlog = _Backlog(self._listener)
        elif self._backlog.is_read(rows):
            since, self._backlog = self._backlog.since_ns, None
            return since
        return 0

    def _is_settled(self, fed_at: int) -> bool:
        """Whether what was fed by that moment (ns since the epoch) was assigned to its jobs."""
        waits_since = self._tracker.settled_until
        return waits_since is None or waits_since > fed_at


class _Backlog:
    """What the queues hold at the moment when this is made.

    Args:
        listener: Whose queues.

    Attributes:
        since_ns: That moment, CLOCK_MONOTONIC.
    """

    def __init__(self, listener: ExitListener) -> None:
        self.since_ns = time.monotonic_ns()
        self._listener = listener
        self._held = False  # some of it waits for the probe
        # How many records will have been received when all these are among them.
        self._goals = {
            cpu.cpu: cpu.received + -(-cpu.queued // _LEAST_BYTES) for cpu in listener.stats().cpus
        }
        self._received_ns: int | None = None
        self._buffered = 0  # records of it that the listener's buffer held then

    def is_read(self, rows: int) -> bool:
        """Whether all of it has been handed out. To be called between two batches.

        Args:
            rows: How many records the latest batch brought.
        """
        now = time.monotonic_ns()
        if self._received_ns is None:
            stats = self._listener.stats()
            if any(cpu.queued and cpu.received < self._goals[cpu.cpu] for cpu in stats.cpus):
                return False
            self._received_ns = now
            self._buffered = stats.buffer.waiting if stats.buffer else 0
            self._held = stats.probe is not None and bool(stats.probe.waiting)
        else:
            self._buffered -= rows
        if self._buffered > 0:
            return False
        return not self._held or now - self._received_ns > 2 * _SETTLE_NS
