"""JobTracker over random histories of the emulated kernel, heard by a real listener."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.emulated_histories import EmulatedHistory
from support.histories import History, Job, Lose, Step, step_lists

import taskstats
from taskstats import Batch, Record
from taskstats.jobs import JobTracker


class Plan(NamedTuple):
    """A history that is yet to happen."""

    steps: Sequence[Step]
    n_cpus: int
    apart: bool

    def begin(self, *, probe: bool = False) -> EmulatedHistory:
        return EmulatedHistory(self.steps, self.n_cpus, apart=self.apart, probe=probe)


def without_losses(steps: Sequence[Step]) -> list[Step]:
    """No queue is made to run over; one of many records may yet."""
    return [step for step in steps if not isinstance(step, Lose)]


def plans_of(
    lists: st.SearchStrategy[list[Step]], apart: st.SearchStrategy[bool]
) -> st.SearchStrategy[Plan]:
    return st.builds(Plan, lists, st.sampled_from([1, 2, 2, 3]), apart)


any_plans = plans_of(step_lists.map(without_losses) | step_lists, st.booleans())
lossless_plans = plans_of(step_lists.map(without_losses), st.just(False))
lossy_plans = plans_of(step_lists, st.just(False))

# ---- what the emulated kernel says -----------------------------------------------------------

#: What the model knows of a task.
KNOWN = [
    *("ac_comm", "ac_exitcode", "ac_flag", "ac_pid", "ac_tgid", "ac_ppid", "ac_uid"),
    *("ac_etime", "ac_tgetime", "cpu_count", "cpu_run_virtual_total"),
]
SUMMED = ["ac_etime", "cpu_count", "cpu_run_virtual_total"]


def told(record: Record) -> list[object]:
    group = record.group
    head = [record.id, record.is_exit, record.is_last, group and group.id]
    return [
        *head,
        *(getattr(record, name) for name in KNOWN),
        *(getattr(group, name) for name in SUMMED if group),
    ]


def answered(batch: Batch) -> tuple[list[list[object]], dict[int, int]]:
    return [told(record) for record in batch], dict(batch.errors)


@given(plan=any_plans)
@settings(max_examples=10, deadline=None)
def test_it_says_what_the_model_says(plan: Plan) -> None:
    """Of each that exits, and of all that are there or are not there any more."""
    with plan.begin() as history:
        pids: set[int] = set()
        for drained in history:
            read = [record for batch in drained.batches for record in batch]
            made = [taskstats.decode(one.datagram)[0] for one in drained.truth]
            assert list(map(told, read)) == list(map(told, made))
            pids.update(record.id for record in read)
            pids.update(thread.pid for one in history.alive for thread in one.threads)
            asked = sorted(pids)
            assert answered(history.look_up(asked)) == answered(History.look_up(history, asked))


# ---- jobs ------------------------------------------------------------------------------------

Key = tuple[int, int]  # pid, how long it lived


class Followed:
    """A history that a listener has read and a tracker was fed with.

    Attributes:
        tracker: The tracker.
        jobs: The jobs that it follows.
        lost_before: How many losses the tracker knew of when each job began.
    """

    def __init__(self, history: EmulatedHistory, *, births: bool) -> None:
        self.history = history
        self.tracker = JobTracker(
            history.look_up,
            history.look,
            births=births,
            remember=1 << 20,
            clock=history.clock,
            may_nest=lambda: False,
        )
        self.jobs: list[Job] = []
        self.lost_before: dict[Job, int] = {}
        self._told = 0
        history.started = self._start
        history.feeds = self._feed
        drains = [*history]
        for _ in range(2):  # without births, a verdict takes a look at the living and a drain more
            for batch in history.listeners[0].batches(timeout=0):
                self.tracker.feed(batch)
                if not batch:
                    break
        self.tracker.flush()
        self.heard = [ended for drained in drains for ended in drained.truth]
        self.tracker.note_lost(history.told_lost)

    def _start(self, job: Job) -> None:
        self.tracker.start(job.root.tgid, job.number)
        self.jobs.append(job)
        self.lost_before[job] = self._told

    def _feed(self, batch: Batch) -> None:
        self.tracker.feed(batch)
        self._told += sum(batch.columns["lost_before"]) if batch else 0

    def of(self, job: Job) -> "Counter[Key]":
        """The processes of a job, by the tracker."""
        return Counter((p.pid, p.elapsed_us) for p in self.tracker.usage(job.number).processes)

    def truth(self, job: Job) -> "Counter[Key]":
        """The processes of a job whose last record was read."""
        return Counter(
            (ended.process.tgid, max(1, ended.ended_us - ended.process.leader.started_us))
            for ended in self.heard
            if ended.last and ended.process.job and job in ended.process.job.enclosing
        )


def check_counts(played: Followed) -> None:
    """Each record is counted once, and each loss is told."""
    tracker, history = played.tracker, played.history
    counts = tracker.attributed, tracker.outside, tracker.undecided, tracker.evicted
    assert sum(counts) + tracker.waiting == len(played.heard)
    assert history.told_lost == len(history.lost)
    assert len(played.heard) + len(history.lost) == len(history.ended)
    for job in played.jobs:
        usage = tracker.usage(job.number)
        assert usage.lost == history.told_lost - played.lost_before[job]


def check_nothing_is_missing(played: Followed) -> None:
    for job in played.jobs:
        if played.tracker.usage(job.number).complete:
            assert played.of(job) >= played.truth(job)


@given(plan=lossless_plans)
@settings(max_examples=10, deadline=None)
def test_jobs_have_what_is_theirs_with_births(plan: Plan) -> None:
    with plan.begin(probe=True) as history:
        played = Followed(history, births=True)
        check_counts(played)
        for job in played.jobs:
            assert played.of(job) <= played.truth(job)
            if not played.tracker.usage(job.number).undecided:  # ends that the probe did not match
                assert played.of(job) == played.truth(job)


@given(plan=lossy_plans)
@settings(max_examples=10, deadline=None)
def test_jobs_declare_losses_with_births(plan: Plan) -> None:
    with plan.begin(probe=True) as history:
        played = Followed(history, births=True)
        check_counts(played)
        check_nothing_is_missing(played)
        for job in played.jobs:
            assert played.of(job) <= played.truth(job)


@given(plan=lossless_plans)
@settings(max_examples=10, deadline=None)
def test_no_job_has_a_stranger_without_births(plan: Plan) -> None:
    with plan.begin() as history:
        played = Followed(history, births=False)
        check_counts(played)
        if not history.lost:
            for job in played.jobs:
                assert played.of(job) <= played.truth(job)


@given(plan=lossless_plans | lossy_plans)
@settings(max_examples=10, deadline=None)
def test_what_is_missing_is_declared_without_births(plan: Plan) -> None:
    with plan.begin() as history:
        check_nothing_is_missing(Followed(history, births=False))


@pytest.mark.parametrize("births", [True, False])
@given(plan=lossless_plans)
@settings(max_examples=10, deadline=None)
def test_living_processes_are_told_apart(births: bool, plan: Plan) -> None:
    with plan.begin(probe=births) as history:
        played = Followed(history, births=births)
        if history.lost:
            return
        threads = [thread.pid for one in history.alive for thread in one.threads]
        for job in played.jobs:
            of_it = {p.tgid for p in history.alive if p.job and job in p.job.enclosing}
            living = played.tracker.usage(job.number, threads).living
            assert {one.pid for one in living} <= of_it
