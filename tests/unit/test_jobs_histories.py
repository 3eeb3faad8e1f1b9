"""JobTracker over random histories of processes, of which is known whose each one is."""

import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.histories import (
    BATCH_ROWS,
    Advance,
    Drain,
    Ended,
    History,
    Job,
    Step,
    histories,
    steps,
)

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
    """

    def __init__(self, history: History, *, asks: bool) -> None:
        self.history = history
        self.tracker = JobTracker(self._look_up if asks else None, remember=1 << 20)
        self.heard: list[tuple[Ended, int]] = []
        self.jobs: list[Job] = []
        history.started = self._start
        for drained in history:
            for batch in drained.batches:
                self.tracker.feed(batch)
            self.heard += [(ended, drained.received_ns) for ended in drained.truth]
            self._check_sum()
        self.tracker.flush()
        self.tracker.note_lost(len(history.lost))
        self._check_sum()

    def _look_up(self, pids: Sequence[int]) -> Batch:
        return self.history.look_up(pids)

    def _start(self, job: Job) -> None:
        with contextlib.suppress(ValueError):
            self.tracker.start(job.root.tgid, job.number)
            self.jobs.append(job)

    def _check_sum(self) -> None:
        """Every record is somewhere, once."""
        t = self.tracker
        told = t.attributed + t.outside + t.unattributed + t.ambiguous + t.evicted + t.waiting
        assert told == len(self.heard)

    def is_certain(self) -> bool:
        """Whether it says that nothing can be missing."""
        t = self.tracker
        return not (t.unattributed or t.ambiguous or t.evicted or t.settled_until)

    def of(self, job: Job) -> "Counter[Key]":
        """The processes that are a job's, by the tracker."""
        return keys_of(self.tracker.usage(job.number))

    def truth(self, job: Job, *, while_it_runs: bool = False) -> "Counter[Key]":
        """Those whose last record was fed: in truth; or of these, until its root had ended."""
        ends = [ended for ended, _ in self.heard if ended.process is job.root and ended.last]
        until = ends[0].ended_us if ends and while_it_runs else 1 << 62
        return Counter(
            key_of(ended, received)
            for ended, received in self.heard
            if ended.last
            and ended.process.job
            and job in ended.process.job.enclosing
            and ended.ended_us <= until
        )


def keys_of(usage: Usage) -> "Counter[Key]":
    return Counter((one.pid, one.elapsed_us, one.received_ns) for one in usage.processes)


def key_of(ended: Ended, received_ns: int) -> Key:
    leader = ended.process.leader
    return leader.pid, ended.ended_us - leader.started_us, received_ns


def own_subreaper(jobs: Iterable[Job]) -> list[Job]:
    """The jobs whose orphans come back to their root."""
    return [job for job in jobs if job.root.subreaper]


def played_late(steps: Sequence[Step]) -> Iterator[Step]:
    """The steps, but no pid is given out again before 0.1 s after its owner's end was read.

    That is what telling two owners apart rests on: see docs/design.md.
    """
    for step in steps:
        if getattr(step, "again", None) is not None:
            yield from (Drain(), Drain(), Advance(200_000))
        yield step


def made(steps: Sequence[Step], cpus: int, batch_rows: int) -> History:
    return History([*played_late(steps)], cpus, batch_rows)


late_histories = st.builds(
    made,
    st.lists(steps, max_size=80) | st.lists(steps, min_size=30, max_size=80),
    st.sampled_from([1, 2, 2, 3]),
    st.sampled_from([BATCH_ROWS, 2]),
)


@pytest.mark.parametrize("asks", [True, False])
@given(history=late_histories)
@settings(max_examples=300, deadline=None)
def test_no_process_is_given_to_a_job_that_it_is_not_of(asks: bool, history: History) -> None:
    played = Played(history, asks=asks)
    if not history.lost:
        for job in played.jobs:
            assert played.of(job) <= played.truth(job)


@given(history=late_histories)
@settings(max_examples=300, deadline=None)
def test_where_nothing_is_said_to_be_missing_nothing_is(history: History) -> None:
    played = Played(history, asks=True)
    if not history.lost and played.is_certain():
        for job in own_subreaper(played.jobs):
            assert played.of(job) >= played.truth(job, while_it_runs=True)


@given(history=late_histories)
@settings(max_examples=300, deadline=None)
def test_without_losses_nothing_is_uncertain(history: History) -> None:
    """Each parent's end is heard, and no subreaper is named; but a pid may have two owners."""
    played = Played(history, asks=True)
    if not history.lost:
        t = played.tracker
        # What the fold forgets is of threads whose record is read long after the last one's.
        assert (t.unattributed, t.evicted) == (0, t._fold.forgotten)
        owners = Counter(ended.process.tgid for ended, _ in played.heard if ended.last)
        assert t.ambiguous == 0 or max(owners.values()) > 1


@given(history=histories())
@settings(max_examples=300, deadline=None)
def test_each_record_is_counted_once_however_soon_pids_are_used_again(history: History) -> None:
    Played(history, asks=True)


@given(history=late_histories)
@settings(max_examples=200, deadline=None)
def test_a_loss_while_a_job_ran_is_told(history: History) -> None:
    played = Played(history, asks=True)
    for job in played.jobs:
        lost_of_it = [one for one in history.lost if one.process.job is job]
        usage = played.tracker.usage(job.number)
        assert usage.lost >= len(lost_of_it)
        assert not (lost_of_it and usage.complete)
