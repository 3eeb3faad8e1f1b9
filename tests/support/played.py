"""A random history of processes, played to a JobTracker; and what of it the tracker should know."""

import contextlib
from collections import Counter
from collections.abc import Iterator, Sequence

from support.histories import Advance, Drain, Ended, History, Job, Step
from taskstats import Batch
from taskstats.jobs import JobTracker, Usage

Key = tuple[int, int, int]  # pid, how long it lived, when its end was read


class Played:
    """A history that a tracker has been fed with.

    Attributes:
        tracker: It.
        heard: What is true of each record fed, and when it was read.
        jobs: The jobs that it knows: not those whose root has the pid of another root whose end has
            not been heard of.
        whole: Those of them whose orphans come back to their root, from the start.
        told_before: How many losses the records had told of before each of these started.
    """

    def __init__(self, history: History, *, asks: bool, patience: float = 1.0) -> None:
        self.history = history
        query = self._look_up if asks else None
        self.tracker = JobTracker(query, remember=1 << 20, patience=patience)
        self.heard: list[tuple[Ended, int]] = []
        self.jobs: list[Job] = []
        self.whole: list[Job] = []
        self.told_before: dict[Job, int] = {}
        self._told = 0
        history.started = self._start
        for drained in history:
            for batch in drained.batches:
                self.tracker.feed(batch)
                self._told += sum(batch.columns["lost_before"])
            self.heard += [(ended, drained.received_ns) for ended in drained.truth]
            self._check_sum()
        self.tracker.flush()
        self.tracker.note_lost(history.told_lost)
        self._check_sum()

    def _look_up(self, pids: Sequence[int]) -> Batch:
        return self.history.look_up(pids)

    def _start(self, job: Job) -> None:
        with contextlib.suppress(ValueError):
            self.tracker.start(job.root.tgid, job.number)
            self.jobs.append(job)
            if job.root.subreaper:
                self.whole.append(job)
            self.told_before[job] = self._told

    def _check_sum(self) -> None:
        """Every record is somewhere, once."""
        t = self.tracker
        told = t.attributed + t.outside + t.unattributed + t.ambiguous + t.evicted + t.waiting
        assert told == len(self.heard)

    def is_certain(self) -> bool:
        """Whether it says that nothing can be missing."""
        t = self.tracker
        return not (t.unattributed or t.ambiguous or t.evicted or t.settled_until)

    def is_outlived(self, job: Job) -> bool:
        """Whether its root has ended before others of it.

        Who asks for their parents then is told of init: whose children these have had, and that
        they were the job's, nothing says any more.
        """
        ends = [one.ended_us for one in self.history.ended if one.process is job.root and one.last]
        members = [one.job for one in self.history.alive]
        members += [one.job for one in self.history.ended if ends and one.ended_us > ends[0]]
        return bool(ends) and any(one and job in one.enclosing for one in members)

    def of(self, job: Job) -> "Counter[Key]":
        """The processes that are a job's, by the tracker."""
        return keys_of(self.tracker.usage(job.number))

    def truth(self, job: Job) -> "Counter[Key]":
        """Those whose last record was fed, in truth."""
        return Counter(
            key_of(ended, received)
            for ended, received in self.heard
            if ended.last and ended.process.job and job in ended.process.job.enclosing
        )


def keys_of(usage: Usage) -> "Counter[Key]":
    return Counter((one.pid, one.elapsed_us, one.received_ns) for one in usage.processes)


def key_of(ended: Ended, received_ns: int) -> Key:
    leader = ended.process.leader
    return leader.pid, ended.ended_us - leader.started_us, received_ns


def played_late(steps: Sequence[Step]) -> Iterator[Step]:
    """The steps, but no pid is given out again before 0.1 s after its owner's end was read.

    That is what telling two owners apart rests on: see docs/design.md.
    """
    for step in steps:
        if getattr(step, "again", None) is not None:
            yield from (Drain(), Drain(), Advance(200_000))
        yield step
