"""This package, where what is heard is attributed to a job, or by the same reading alone."""

import subprocess
import time
from collections.abc import Collection, Iterator, Mapping
from signal import SIGTERM, signal
from typing import Any, Literal

import taskstats
from rivals import ours
from taskstats.jobs import JobTracker

_TICK = 0.1  # seconds after which an empty batch comes
_JOB = "job"


class Exits(ours.Exits):
    """Counts in columns, and feeds each batch to a tracker.

    Args:
        storms: One.
        root: The one process whose job is followed: the storm, or a process beside it, to which no
            exit of the storm belongs. None for no tracker.
        options: Of the listener.
    """

    def __init__(
        self, storms: Collection[int], *, root: Literal["storm", "other"] | None, **options: Any
    ) -> None:
        super().__init__(storms, probe="require", **options)
        self._heard = self._listener.batches(timeout=_TICK)
        self._root = root
        self._client = taskstats.Client()
        self._tracker: JobTracker | None = None
        self._feeding_ns = 0

    def first(self) -> None:
        super().first()
        if self._root:
            (storm,) = self._storms
            self._tracker = JobTracker(self._client.pids, births=True)
            self._tracker.start(storm if self._root == "storm" else self._other(), _JOB)

    def _other(self) -> int:
        """A process that does nothing until this one ends."""
        self._sleeper = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
        return self._sleeper.pid

    def count(self) -> None:
        """Hears until SIGTERM, and then what is left: a tracker is not to be interrupted."""
        signal(SIGTERM, lambda *_: self._listener.stop())
        self._count_batches(self._fed())

    def told(self) -> Mapping[str, Any]:
        said = super().told()
        if self._tracker is None:
            return said
        usage = self._tracker.close(_JOB)
        tracked = {
            "feeding_ns": self._feeding_ns,
            "processes": usage.total.processes,
            "threads": usage.total.threads,
            "complete": usage.complete,
            "attributed": self._tracker.attributed,
            "outside": self._tracker.outside,
        }
        return {**said, "tracked": tracked}

    def _fed(self) -> Iterator[taskstats.Batch]:
        """The batches that are not empty, each fed before."""
        for batch in self._heard:
            self._feed(batch)
            if batch:
                yield batch
        self._feed(taskstats.Batch(b""))

    def _feed(self, batch: taskstats.Batch) -> None:
        if self._tracker:
            before = time.thread_time_ns()
            self._tracker.feed(batch)
            self._feeding_ns += time.thread_time_ns() - before
