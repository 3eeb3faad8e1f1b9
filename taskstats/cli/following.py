"""Follows a job while its command runs: a thread that feeds a listener's batches to a tracker."""

import threading
import time

from taskstats.exits import BATCH_ROWS, ExitListener
from taskstats.jobs import JobTracker

_TICK = 0.1  # seconds after which an empty batch comes
_PATIENCE_NS = 2_000_000_000  # after the end, until all is read and the parents have been heard of


class Follower:
    """Reads the stream from `start` to `finish`.

    Args:
        listener: Of all CPUs.
        tracker: Knows the job already.
    """

    def __init__(self, listener: ExitListener, tracker: JobTracker) -> None:
        self._listener = listener
        self._tracker = tracker
        self._thread = threading.Thread(target=self._run, name="follower", daemon=True)
        self._failure: BaseException | None = None
        self._ended_ns: int | None = None
        self._marker: int | None = None

    def start(self) -> None:
        """Begins to read."""
        self._thread.start()

    def finish(self) -> bool:
        """Reads all that was sent before now, and until it is known whose that is.

        Returns:
            Whether that is known; False if it took too long.

        Raises:
            TaskstatsError: What the listener or the tracker has raised; the first of that.
        """
        self._ended_ns = time.time_ns()
        # A thread that ends: its record wakes the reader, and comes after all that it wants.
        threading.Thread(target=self._mark).start()
        self._thread.join()
        self._listener.stop()
        self._tracker.note_lost(self._listener.stats().lost)
        if self._failure:
            raise self._failure
        return self._is_settled()

    def _mark(self) -> None:
        self._marker = threading.get_native_id()

    def _run(self) -> None:
        try:
            self._follow()
        except BaseException as failure:
            self._failure = failure

    def _follow(self) -> None:
        heard_marker = all_read = asked_since_end = False
        for batch in self._listener.batches(timeout=_TICK):
            self._tracker.feed(batch)
            if asked_since_end and not batch:
                all_read = True
            elif self._marker is not None and batch and not all_read:
                heard_marker = heard_marker or self._marker in batch.columns["ac_pid"]
                # All queues were empty after that, and no record is held behind another.
                if heard_marker and len(batch) < BATCH_ROWS and not self._waiting():
                    all_read = True
                    self._tracker.flush()  # of what was sent before, nothing is on its way
            if all_read and self._is_settled():
                return
            if self._is_late():  # others' records come without a pause, or the marker's is lost
                self._listener.stop()  # what is queued is read yet
            asked_since_end = self._ended_ns is not None
        self._tracker.flush()

    def _waiting(self) -> int:
        """How many records wait for the probe to see the end of their task."""
        probe = self._listener.stats().probe
        return probe.waiting if probe else 0

    def _is_settled(self) -> bool:
        waits_since = self._tracker.settled_until
        return waits_since is None or waits_since > (self._ended_ns or 0)

    def _is_late(self) -> bool:
        ended = self._ended_ns
        return ended is not None and time.time_ns() - ended > _PATIENCE_NS
