"""JobTracker over random histories of the emulated kernel, heard by a real listener."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.emulated_histories import EmulatedHistory
from support.histories import Advance, Drain, Exit, Fork, History, Lose, StartJob, Step, step_lists
from support.played import Played, played_late

import taskstats
from taskstats import Batch, Record


class Plan(NamedTuple):
    """A history that is yet to happen."""

    steps: Sequence[Step]
    n_cpus: int
    apart: bool

    def begin(self) -> EmulatedHistory:
        return EmulatedHistory(self.steps, self.n_cpus, apart=self.apart)


def without_losses(steps: Sequence[Step]) -> list[Step]:
    """No queue is made to run over; one of many records may yet."""
    return [step for step in steps if not isinstance(step, Lose)]


def with_new_pids(steps: Sequence[Step]) -> list[Step]:
    return [replace(step, again=None) if hasattr(step, "again") else step for step in steps]


def late(steps: Sequence[Step]) -> list[Step]:
    return [*played_late(steps)]


def plans_of(lists: st.SearchStrategy[list[Step]]) -> st.SearchStrategy[Plan]:
    return st.builds(Plan, lists, st.sampled_from([1, 2, 2, 3]), st.booleans())


any_plans = plans_of(step_lists.map(without_losses) | step_lists)
late_plans = plans_of(step_lists.map(without_losses).map(late))
late_lossy_plans = plans_of(step_lists.map(late))
lossy_plans = plans_of(step_lists.map(with_new_pids))

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
@settings(max_examples=30)
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


# ---- whose each process is -------------------------------------------------------------------


def check_owners(played: Played) -> None:
    for job in played.jobs:
        assert played.of(job) <= played.truth(job)


@pytest.mark.parametrize("asks", [True, False])
@given(plan=late_plans)
@settings(max_examples=30)
def test_no_process_is_given_to_a_job_that_it_is_not_of(asks: bool, plan: Plan) -> None:
    with plan.begin() as history:
        played = Played(history, asks=asks)
        if not history.lost:
            check_owners(played)


@given(plan=lossy_plans)
@settings(max_examples=30)
def test_not_even_after_a_loss_is_a_process_given_to_another_job(plan: Plan) -> None:
    """Unless pids are used again, and the records of those who had them before are lost."""
    with plan.begin() as history:
        check_owners(Played(history, asks=True))


#: A process ends, and then its maker, whose record is lost, which is told; and the first one of a
#: new job gets the maker's pid.
MAKER_LOST = Plan(
    [
        *[Fork(cpu=0), Fork(of=1, cpu=1), Exit(of=1), Lose(cpu=0), Exit(of=0), Drain(), Drain()],
        *[Fork(cpu=0), Exit(of=-1), Drain(), Drain(), Advance(us=150_000), StartJob(again=1)],
    ],
    n_cpus=2,
    apart=False,
)


@given(plan=late_lossy_plans)
@example(plan=MAKER_LOST)
@settings(max_examples=30)
def test_after_a_loss_no_job_that_is_said_to_be_complete_has_anothers(plan: Plan) -> None:
    with plan.begin() as history:
        played = Played(history, asks=True)
        for job in played.jobs:
            if played.tracker.usage(job.number).complete:
                assert played.of(job) <= played.truth(job)


@given(plan=late_plans)
@settings(max_examples=30)
def test_the_living_are_told_apart(plan: Plan) -> None:
    with plan.begin() as history:
        played = Played(history, asks=True)
        if history.lost:
            return
        threads = [thread.pid for one in history.alive for thread in one.threads]
        for job in played.jobs:
            of_it = {p.tgid for p in history.alive if p.job and job in p.job.enclosing}
            living = played.tracker.usage(job.number, threads).living
            assert {one.pid for one in living} <= of_it


@given(plan=late_plans | late_lossy_plans | lossy_plans)
@settings(max_examples=60)
def test_of_a_job_that_is_said_to_be_complete_nothing_is_missing(plan: Plan) -> None:
    with plan.begin() as history:
        played = Played(history, asks=True)
        for job in played.whole:
            usage = played.tracker.usage(job.number)
            if usage.complete and usage.settled_until is None and not played.is_outlived(job):
                assert played.of(job) >= played.truth(job)


@given(plan=late_plans)
@settings(max_examples=30)
def test_what_has_ended_waits_for_nothing_in_the_end(plan: Plan) -> None:
    """Whoever is not heard of lives, and can be asked for.

    Where the listeners are apart, a drain may last so long that a parent seems to be another.
    """
    with plan._replace(apart=False).begin() as history:
        played = Played(history, asks=True)
        assert played.tracker.settled_until is None or history.lost


@given(plan=any_plans)
@settings(max_examples=30)
def test_each_record_is_counted_once_and_each_loss_is_told(plan: Plan) -> None:
    """However soon pids are used again."""
    with plan.begin() as history:
        played = Played(history, asks=True)
        assert history.told_lost == len(history.lost)
        assert len(played.heard) + len(history.lost) == len(history.ended)
        for job in played.jobs:
            lost_of_it = [one for one in history.lost if one.process.job is job]
            usage = played.tracker.usage(job.number)
            assert usage.lost == history.told_lost - played.told_before[job]
            assert usage.lost >= len(lost_of_it)
            assert not (usage.lost and usage.complete)
