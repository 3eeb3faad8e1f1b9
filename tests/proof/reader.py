"""A listener with a probe that keeps only the figures that are added up."""

import threading
import time
from typing import Any, NamedTuple, Self

import numpy as np

from taskstats import ExitListener, ExitStats
from taskstats.presence import SETTLED

_PATIENCE = 10.0  # seconds


class End(NamedTuple):
    """The final figures of a task."""

    id: int
    start_ns: int
    final_cpu_ns: int
    cgroup_id: int


class Reader:
    """Reads exits in a thread of its own between `with` and the end of the block.

    Attributes:
        stats: The counters at the end.
    """

    stats: ExitStats

    def __init__(self) -> None:
        self._parts: list[np.ndarray[Any, Any]] = []
        self._listener = ExitListener(probe="require", settle=2)
        self._thread = threading.Thread(target=self._read)

    def _read(self) -> None:
        for batch in self._listener.batches(timeout=0.05):
            if batch:
                columns = batch.columns
                found = [columns["id"], *map(columns.of_probe, End._fields[1:])]
                settled = np.array(columns["flags"]) & SETTLED != 0
                self._parts.append(np.array(found, dtype="u8")[:, settled])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # The last records wait for their ends, which come soon.
        until = time.monotonic() + _PATIENCE
        while self._waiting() and time.monotonic() < until:
            time.sleep(0.05)
        self._listener.stop()
        self._thread.join()
        self.stats = self._listener.stats()
        self._listener.close()

    def _waiting(self) -> bool:
        stats = self._listener.stats()
        assert stats.probe is not None
        return stats.probe.waiting > 0 or any(one.queued for one in stats.cpus)

    def ends(self) -> list[End]:
        """The settled records, in the order of the stream."""
        return [End(*row) for part in self._parts for row in part.T.tolist()]

    def problem(self) -> str | None:
        """Why the figures are no measurement; None if they are.

        What a record that is not settled used is missing from the sum, and the bound is for it too.
        """
        probe = self.stats.probe
        assert probe is not None
        lost = (self.stats.lost, probe.ends_lost, probe.births_lost)
        return "{} records, {} ends, {} births lost".format(*lost) if any(lost) else None
