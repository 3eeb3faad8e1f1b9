"""Follower at the end of a command, beside a stream of others' exits that never pauses."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from taskstats.cli import following
from taskstats.cli.following import Follower
from taskstats.exits import BATCH_ROWS

_ENOUGH = 100_000  # batches, after which the end has been missed


class Rows(list[int]):
    """A batch, of which only the threads' ids are read."""

    @property
    def columns(self) -> dict[str, list[int]]:
        return {"ac_pid": self}


class Stream:
    """A listener that always has something to read, until it is stopped."""

    def __init__(self) -> None:
        self.follower: Follower
        self.stopped = False
        self.hears_marker = False
        self.told_marker = False
        self.read_after = 0
        self.waits_for = 0  # so many looks at whether a record waits for its end

    def batches(self, timeout: float) -> Iterator[Rows]:
        assert timeout
        while not self.stopped:
            marker = self.follower._marker
            if marker and self.hears_marker and not self.told_marker:
                self.told_marker = True
                yield Rows([marker] * BATCH_ROWS)
                continue
            self.read_after += marker is not None
            assert self.read_after < _ENOUGH, "nothing ends it"
            yield Rows([0])
        yield Rows([0])

    def stop(self) -> None:
        self.stopped = True

    def stats(self) -> Any:
        self.waits_for -= 1
        return SimpleNamespace(lost=0, probe=SimpleNamespace(waiting=self.waits_for >= 0))


class Tracker:
    """Knows whose all is."""

    settled_until = None
    flushed_at: int | None = None
    fed = 0

    def feed(self, batch: Rows) -> None:
        self.fed += len(batch)

    def flush(self) -> None:
        self.flushed_at = self.fed

    def note_lost(self, lost: int) -> None:
        assert lost == 0


def followed(stream: Stream, tracker: Tracker) -> None:
    stream.follower = Follower(stream, tracker)  # type: ignore[arg-type]
    stream.follower.start()
    stream.follower.finish()


def test_a_marker_in_a_full_batch_counts_once_the_queues_are_empty(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(following, "_PATIENCE_NS", 1 << 62)
    stream, tracker = Stream(), Tracker()
    stream.hears_marker = True
    followed(stream, tracker)
    assert stream.read_after == 1
    assert tracker.flushed_at == tracker.fed


def test_what_is_held_behind_the_marker_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "_PATIENCE_NS", 1 << 62)
    stream, tracker = Stream(), Tracker()
    stream.hears_marker, stream.waits_for = True, 5
    followed(stream, tracker)
    assert stream.read_after == 6
    assert tracker.flushed_at == tracker.fed


def test_without_the_marker_what_is_queued_at_last_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "_PATIENCE_NS", 0)
    stream, tracker = Stream(), Tracker()
    followed(stream, tracker)
    assert stream.stopped
    assert tracker.flushed_at == tracker.fed
