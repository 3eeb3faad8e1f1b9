"""Reader: when everything from before a moment has been read, also beside a stream of others."""

import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from taskstats import TaskstatsError, reader
from taskstats.reader import Reader

_ENOUGH = 100_000  # batches, after which the moment was missed


class Fed(list[int]):
    """A batch of one record."""

    def __init__(self, emptied_ns: int | None) -> None:
        super().__init__([1])
        self.emptied_ns = emptied_ns


class Stream:
    """A listener that always has another batch, until it is stopped.

    Attributes:
        is_emptied: The batches say that the queues are empty.
        queued: Bytes in its only queue.
        received: Records taken off that queue.
        held: Records that wait for the end of their task; None without a probe.
        failure: What reading raises.
    """

    def __init__(self) -> None:
        self.stopped = threading.Event()
        self.is_emptied = True
        self.queued = 0
        self.received = 0
        self.held: int | None = None
        self.buffered = 0
        self.lost = 0
        self.failure: Exception | None = None
        self.timeouts: set[float] = set()

    def batches(self, timeout: float) -> Iterator[Any]:
        assert self.received < _ENOUGH, "nothing ends it"
        self.timeouts.add(timeout)
        if self.failure:
            raise self.failure
        if not self.stopped.is_set():
            time.sleep(0)  # others may run
            self.received += 1
            self.buffered = max(0, self.buffered - 1)
            yield Fed(time.monotonic_ns() if self.is_emptied else None)

    def stop(self) -> None:
        self.stopped.set()

    def stats(self) -> Any:
        probe = None if self.held is None else SimpleNamespace(waiting=self.held)
        cpu = SimpleNamespace(cpu=0, queued=self.queued, received=self.received)
        buffer = SimpleNamespace(waiting=self.buffered)
        return SimpleNamespace(lost=self.lost, probe=probe, cpus=(cpu,), buffer=buffer)


class Tracker:
    """Assigns all records at once, unless `settled_until` says otherwise."""

    def __init__(self) -> None:
        self.settled_until: int | None = None
        self.fed = 0
        self.flushed_at = -1
        self.lost = 0
        self.failure: Exception | None = None

    def feed(self, batch: object) -> None:
        assert batch
        self.fed += 1
        if self.failure:
            raise self.failure

    def flush(self) -> None:
        self.flushed_at = self.fed

    def note_lost(self, lost: int) -> None:
        self.lost = lost


@pytest.fixture
def stream() -> Stream:
    return Stream()


@pytest.fixture
def tracker() -> Tracker:
    return Tracker()


@pytest.fixture
def reading(stream: Stream, tracker: Tracker) -> Iterator[Reader]:
    one = Reader(stream, tracker)  # type: ignore[arg-type]
    yield one
    one.close()


def test_an_emptied_queue_ends_the_wait(stream: Stream, tracker: Tracker, reading: Reader) -> None:
    stream.lost = 3
    reading.start()
    assert reading.catch_up()
    assert tracker.flushed_at == -1, "records may need others that come later"
    assert tracker.lost == 3


def test_a_wait_makes_the_reader_look_more_often(stream: Stream, reading: Reader) -> None:
    reading.start()
    while reader._HASTE not in stream.timeouts:
        reading.catch_up()
    assert stream.timeouts <= {reader._IDLE, reader._HASTE}


@pytest.mark.parametrize("held", [None, 0])
def test_a_queue_that_never_empties_is_measured(
    held: int | None, stream: Stream, reading: Reader
) -> None:
    stream.is_emptied, stream.held = False, held
    stream.queued = 100 * reader._LEAST_BYTES
    reading.start()
    assert reading.catch_up()
    assert stream.received > 100
    assert not stream.stopped.is_set()


def test_held_records_are_waited_for(
    stream: Stream, reading: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "_SETTLE_NS", 10_000_000)
    stream.is_emptied, stream.held = False, 1
    reading.start()
    began = time.monotonic_ns()
    assert reading.catch_up()
    assert time.monotonic_ns() - began > 20_000_000


def test_patience_is_counted_in_batches_too(
    stream: Stream, tracker: Tracker, reading: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "_WAIT_AT_MOST_NS", 0)
    tracker.settled_until = 1
    reading.start()
    before = tracker.fed
    assert not reading.catch_up()
    assert tracker.fed - before > reader._WAIT_BATCHES
    assert not reading.read_rest()
    assert stream.stopped.is_set()
    assert tracker.flushed_at == tracker.fed
    tracker.settled_until = None
    assert reading.read_rest()


def test_records_that_came_later_may_wait(tracker: Tracker, reading: Reader) -> None:
    tracker.settled_until = time.time_ns() + 3_600_000_000_000
    reading.start()
    assert reading.catch_up()


def test_records_from_before_that_were_read_after_may_not(
    tracker: Tracker, reading: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "_WAIT_AT_MOST_NS", 0)
    feed = tracker.feed

    def feed_and_wait(batch: object) -> None:
        tracker.settled_until = tracker.settled_until or time.time_ns()
        feed(batch)

    monkeypatch.setattr(tracker, "feed", feed_and_wait)
    called = threading.Thread(target=reading.start)
    called.start()
    assert not reading.catch_up()
    called.join()


@pytest.mark.parametrize("of", ["stream", "tracker"])
def test_a_failure_is_raised_by_the_next_call(
    of: str, stream: Stream, tracker: Tracker, reading: Reader
) -> None:
    reading.start()
    assert reading.catch_up()
    failure = TaskstatsError("listen", "it failed")
    (stream if of == "stream" else tracker).failure = failure
    with pytest.raises(TaskstatsError, match="it failed"):
        while True:
            reading.catch_up()
    for call in (reading.check, reading.read_rest):
        with pytest.raises(TaskstatsError, match="it failed"):
            call()


def test_a_thread_that_waits_is_woken_by_close(
    stream: Stream, tracker: Tracker, reading: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reader, "_WAIT_AT_MOST_NS", 1 << 62)
    tracker.settled_until = 1
    reading.start()
    raised: list[Exception] = []

    def wait() -> None:
        try:
            reading.catch_up()
        except TaskstatsError as error:
            raised.append(error)

    waiter = threading.Thread(target=wait)
    waiter.start()
    while reader._HASTE not in stream.timeouts:
        time.sleep(0)
    reading.close()
    waiter.join()
    assert "it is closed" in str(raised[0])
    with pytest.raises(TaskstatsError, match="it is closed"):
        reading.check()


def test_a_reader_that_never_started_is_closed(reading: Reader) -> None:
    reading.close()


def test_without_a_thread_it_says_what_to_do(
    reading: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(TaskstatsError, match=r"cannot start a thread: .*TasksMax="):
        reading.start()
