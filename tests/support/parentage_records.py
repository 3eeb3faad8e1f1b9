"""The slow model of taskstats.by_records: it feeds an engine by the model of csrc/parentage.c."""

import sys
from collections.abc import Iterable

from support.parentage_model import Parentage, Process, process
from taskstats._native import ffi, lib
from taskstats.by_records import ByRecords
from taskstats.engine import Engine, summed
from taskstats.jobs import JobTracker
from taskstats.parents import Parents
from taskstats.presence import LAST, LOST_BEFORE, PAIRED
from taskstats.processes import Process as Threads
from taskstats.processes import ProcessFold
from taskstats.records import Batch
from taskstats.rows import HEADER, ROW, Picker

_RECEIVED_AT, _ = HEADER["received_ns"]
_ALONE = LAST | PAIRED
_PICKER = Picker(
    ("flags", "ac_ppid", "ac_tgid", "ac_tgetime", "ac_etime", "ac_btime64", "received_ns")
)


class ModelByRecords:
    """Feeds an engine with processes and the jobs that they belong to.

    Args:
        parents: Finds the jobs.
        engine: Adds up.
    """

    def __init__(self, parents: Parentage, engine: Engine) -> None:
        self.parents = parents
        self._engine = engine
        self._fold = ProcessFold()
        self._forgotten = 0
        #: Processes of several threads that have ended and are not added up yet: by pid, in order.
        # By the last record's pid, CPU and number; those of a replayed stream may be alike.
        self._adding_up: dict[tuple[int, int | None, int], list[Process]] = {}
        parents.adding_up = self._adding_up

    @property
    def waiting(self) -> int:
        """Records that are not assigned yet."""
        return self._fold.held + sum(_records(one) for one in self.parents.waiting)

    @property
    def waiting_since(self) -> int | None:
        """When the oldest record of an ended process that waits was read, ns since the epoch."""
        since = [_received(one) for one in self.parents.waiting if one.about is not None]
        if (several := self._fold.waiting_since) is not None:
            since.append(several)
        return min(since, default=None)

    def feed(self, batch: Batch) -> None:
        """Take a batch; an empty one that is not marked as read to the end is a flush."""
        if not batch and batch.emptied_ns is None:
            self.flush()
            return
        ended: list[Process] = []
        several: list[int] = []
        lost = 0
        data = batch.data
        for row, values in enumerate(_PICKER.rows(data)):
            flags, _, ppid, lived, began, tgid, age = values
            if flags & LOST_BEFORE:
                lost += batch.columns["lost_before"][row]
            alone = flags & _ALONE == LAST  # what is held of this pid is another process's
            if not alone:
                several.append(row)
            if flags & LAST:
                second = began + lived // 1_000_000
                raw = bytes(data[row * ROW : (row + 1) * ROW]) if alone else None
                one = process(tgid, ppid, second, age, raw)
                ended.append(one)
                if not alone:
                    key = tgid, batch[row].cpu, batch[row].seq
                    self._adding_up.setdefault(key, []).append(one)
        added = self._fold.feed(batch, several) if batch else self._fold.flush()
        if lost:
            self._engine.lose(lost)
            self.parents.lose()
        if self._fold.forgotten > self._forgotten:
            self._engine.give_up(self._fold.forgotten - self._forgotten)
            self._forgotten = self._fold.forgotten
        self.parents.add(ended)
        self._join(added)
        self._count(self.parents.settle(batch.emptied_ns))

    def flush(self) -> None:
        """Assign what waits; what needs more records is undecided."""
        self._join(self._fold.flush())
        self._count(self.parents.flush())

    def _join(self, added: Iterable[Threads]) -> None:
        """Take the sums of processes whose ends are known: their jobs may be so, too.

        A process counts as an owner of its pid from the reading of its last thread's record.
        """
        for threads in added:
            key = threads.pid, threads.record.cpu, threads.record.seq
            those = self._adding_up[key]
            one = those.pop(0)
            if not those:
                del self._adding_up[key]
            one.about = threads
            if not threads.complete:  # a thread may be of another owner of the pid
                one.verdict = self.parents.any_job()
            self._count([one])

    def _count(self, decided: Iterable[Process]) -> None:
        for one in decided:
            verdict, about = one.verdict, one.about
            if verdict is None or about is None:
                continue
            jobs = self._engine.jobs
            if isinstance(about, Threads):
                lib.ts_jobs_add_process(jobs, verdict.job, *summed(about))
            else:
                row = ffi.from_buffer("struct ts_record *", about)
                lib.ts_jobs_add_record(jobs, verdict.job, row)
            numbers = [*verdict.doubts]
            lib.ts_jobs_doubt(jobs, numbers, len(numbers), _records(one))
            one.about = None


def _records(one: Process) -> int:
    if one.about is None:  # the fold holds them
        return 0
    return one.about.threads if isinstance(one.about, Threads) else 1


def _received(one: Process) -> int:
    about = one.about
    if isinstance(about, Threads):
        return about.record.received_ns or 0
    return int.from_bytes(about[_RECEIVED_AT : _RECEIVED_AT + 8], sys.byteorder)


def with_model(tracker: JobTracker, capacity: int) -> None:
    """Put the model in place of the shim's assignment. The tracker has not begun."""
    assert tracker._records
    parents = tracker._records.parents
    model = Parentage(parents._look, parents._clock, capacity, parents._may_nest)
    tracker._records = ModelByRecords(model, tracker._engine)  # type: ignore[assignment]


def with_capacity(tracker: JobTracker, capacity: int) -> None:
    """Let the tracker, which has not begun, remember less."""
    assert tracker._records
    parents = tracker._records.parents
    fewer = Parents(tracker._engine, parents._look, parents._clock, capacity, parents._may_nest)
    tracker._records = ByRecords(fewer, tracker._engine)
