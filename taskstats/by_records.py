"""A stream without births: processes of several threads are added up, all go to `Parents`."""

from collections.abc import Iterable
from typing import Any

from taskstats.engine import Engine
from taskstats.parents import Parents
from taskstats.processes import Process, ProcessFold
from taskstats.records import Batch


class ByRecords:
    """Feeds an engine with processes and the jobs that they belong to.

    Args:
        parents: Finds the jobs, and adds up.
        engine: Has the jobs.
    """

    def __init__(self, parents: Parents, engine: Engine) -> None:
        self.parents = parents
        self._engine = engine
        self._fold = ProcessFold()
        self._forgotten = 0
        #: Processes of several threads that have ended and are not added up yet: by the last
        #: record's pid, CPU and number. Those of a replayed stream may be alike: in order.
        self._adding_up: dict[tuple[int, int | None, int], list[Any]] = {}

    @property
    def waiting(self) -> int:
        """Records that are not assigned yet."""
        return self._fold.held + int(self.parents.counts.waiting)

    @property
    def waiting_since(self) -> int | None:
        """When the oldest record of an ended process that waits was read, ns since the epoch."""
        since = [self.parents.counts.waiting_since, self._fold.waiting_since]
        return min((one for one in since if one), default=None)

    def feed(self, batch: Batch) -> None:
        """Take a batch; an empty one that is not marked as read to the end is a flush.

        Raises:
            OSError: /proc cannot be read, or there was no memory (ENOMEM): jobs are marked.
        """
        if not batch:
            if batch.emptied_ns is None:
                self.flush()
                return
            self._add(self._fold.flush())
        else:
            several = self.parents.feed(batch)
            for one in several:
                if one.last:
                    self._adding_up.setdefault(_key(batch[one.row]), []).append(one.process)
            if several or self._fold.held:
                self._add(self._fold.feed(batch, [one.row for one in several]))
        if self._fold.forgotten > self._forgotten:
            self._engine.give_up(self._fold.forgotten - self._forgotten)
            self._forgotten = self._fold.forgotten
        self.parents.settle(batch.emptied_ns)

    def flush(self) -> None:
        """Assign what waits; what needs more records is undecided.

        Raises:
            OSError: As `feed` raises it.
        """
        self._add(self._fold.flush())
        self.parents.flush()

    def _add(self, added: Iterable[Process]) -> None:
        """Take the sums of processes whose ends are known: their jobs may be so, too.

        A process counts as an owner of its pid from the reading of its last thread's record.
        """
        for process in added:
            key = _key(process.record)
            those = self._adding_up[key]
            self.parents.add(those.pop(0), process)
            if not those:
                del self._adding_up[key]


def _key(last: Any) -> tuple[int, int | None, int]:
    return last.ac_tgid, last.cpu, last.seq
