"""Jobs from births, over random histories of which is known who made whom."""

import os
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from support.following import Following, model_of, told_of, tracker_of, tracker_without_births
from support.histories import (
    Advance,
    DoubleFork,
    Drain,
    Exit,
    ExitFamily,
    ExitThread,
    Fork,
    Job,
    Lose,
    Read,
    StartJob,
    StartThread,
)
from support.histories.born import (
    Attach,
    AttachedJob,
    BornHistory,
    CgroupJob,
    CloseJob,
    Flush,
    LoseBirth,
    ReadRing,
    Unsettle,
    born_histories,
)
from support.job_model import without_start

#: How many histories each test plays: TASKSTATS_HISTORIES=100000 for a long search.
EXAMPLES = int(os.environ.get("TASKSTATS_HISTORIES", "25"))

many = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def check_no_stranger(played: Following) -> None:
    for job, told in played.told().items():
        truth = played.heard_of(job, more=True)
        keys = Counter(key for _, key in truth)
        assert without_start(told.processes) <= without_start(keys), job
        known = Counter({key: n for key, n in told.processes.items() if key.start_ns is not None})
        assert known <= keys, job
        found = without_start(told.processes)
        of_it = [ends for ends, key in truth if key._replace(start_ns=None) in found]
        assert told.threads <= sum(map(len, of_it)), job
        assert told.cpu_ns <= sum(played.most_cpu_ns(ends[0].process) for ends in of_it), job


def check_no_stranger_unless_lost(played: Following) -> None:
    """Without births, a loss that is told too late leaves another owner of a pid in its place."""
    if not played.history.lost:
        check_no_stranger(played)


def check_nothing_is_missing_undeclared(played: Following) -> None:
    for job, told in played.told().items():
        if told.complete and isinstance(job, Job) and job not in played.closed_early:
            truth = Counter(key for _, key in played.heard_of(job))
            assert without_start(told.processes) == without_start(truth), job
            if job not in played.closed:
                assert told.processes.total() == played.ended_of(job), job


def check_all_is_there(played: Following) -> None:
    """Nothing was lost: every job has all its processes, threads and CPU time."""
    for job, told in played.told().items():
        if job in played.closed_early:
            continue
        truth = played.heard_of(job)
        keys = Counter(key for _, key in truth)
        assert without_start(told.processes) >= without_start(keys), job
        assert (told.undecided, told.lost, told.births_lost) == (0, 0, False), job
        if not isinstance(job, AttachedJob):
            assert told.processes == keys, job
            assert told.complete or told.evicted, job


def check_threads(played: Following) -> None:
    """With all records there and no flush in between, threads and CPU time are exact."""
    for job, told in played.told().items():
        if isinstance(job, Job) and not isinstance(job, AttachedJob) and job not in played.closed:
            ends = [ended for ended_of_it, _ in played.heard_of(job) for ended in ended_of_it]
            assert told.threads == len(ends), job
            seen = [played.history.probed(ended) for ended in ends]
            assert told.cpu_ns == sum(one.final_cpu_ns for one in seen if one), job


def check_cgroups(played: Following, *, lossless: bool) -> None:
    """A job by cgroup has the processes that ended in its cgroup."""
    for job, told in played.told().items():
        if isinstance(job, CgroupJob):
            truth = without_start(Counter(key for _, key in played.heard_of(job)))
            found = without_start(told.processes)
            assert found <= truth, job
            if (lossless or told.complete) and job not in played.closed_early:
                late = Counter(key for _, key in played.heard_of(job, late=True))
                assert found >= without_start(late), job


def follow_without_births(history: BornHistory) -> Following:
    return Following(history, tracker_without_births, told_of, named=True)


def check_equal(history: BornHistory) -> None:
    again = history.again()
    tracker = Following(history, tracker_of, told_of)
    model = Following(again, model_of)
    by_number = {job.number: told for job, told in model.told().items()}
    for job, told in tracker.told().items():
        assert told.without_starts() == by_number[job.number].without_starts(), job
    assert tracker.counts[-1].comparable == model.counts[-1].comparable


def check_sound(played: Following) -> None:
    check_no_stranger(played)
    check_nothing_is_missing_undeclared(played)


def check_whole(played: Following) -> None:
    check_all_is_there(played)
    check_no_stranger(played)
    check_threads(played)


#: Histories that a tracker has got wrong, each with what holds of it.
FOUND = {
    "closed before its root's birth is read": (
        check_whole,
        BornHistory([StartJob(), Fork(1), StartJob(-1), CloseJob(1), Exit(-1)], 1),
    ),
    "attached around a job whose births are not read": (
        check_whole,
        BornHistory([Fork(), StartJob(1), Fork(-1), Attach(0), Exit(-1)], 1),
    ),
    "a thread ends behind the drain, and the last one before it": (
        check_whole,
        BornHistory([StartJob(), DoubleFork(1, 1, 0), Read(), StartThread(1), Exit(1, 1)], 2),
    ),
    "an unsettled end of a stranger whose birth was lost before the job": (
        check_sound,
        BornHistory(
            [
                *(Advance(3_000_000), LoseBirth(), Fork(), ReadRing(), Fork(), Drain()),
                *(Unsettle(), Exit(), StartJob(0, 0, 0), Drain(), Advance(3_000_000), Exit(-1)),
            ],
            1,
        ),
    ),
    "threads of a stranger whose birth was lost, after a lost record": (
        check_sound,
        BornHistory(
            [
                *(StartJob(), StartThread(-1), Lose(), Exit(-1, 1), Drain(), LoseBirth()),
                *(Fork(0, 0, 0), StartThread(-1), Lose(), ExitThread(-1), Exit(-1)),
            ],
            1,
        ),
    ),
    "the last record is a stranger's whose birth was lost": (
        check_sound,
        BornHistory(
            [
                *(StartJob(), StartThread(-1), Lose(), Lose(), Exit(-1), LoseBirth()),
                *(Fork(0, 0, 0), StartThread(-1), ExitThread(-1), Exit(-1)),
            ],
            1,
        ),
    ),
}


#: Histories that a tracker without births has got wrong.
FOUND_WITHOUT = {
    "a pid is given again within 60 ms": [
        *(StartJob(), Exit(), Fork(again=0), Fork(-1), Fork(-1), Exit(-1)),
    ],
    "two processes seen alive may have a record": [
        *(Fork(), Fork(), StartJob(), Exit(2), Drain(), StartJob(again=0), Exit(-1)),
    ],
    "threads of two processes with one pid": [
        *(StartJob(), StartThread(0, 1), Exit(), Fork(again=0), StartThread(), ExitThread()),
    ],
    "a root is replaced before its record is read": [
        *(StartJob(), Exit(), StartJob(again=0), Exit(), StartJob(again=0), Exit()),
    ],
    "a flush before a root's record is read": [
        *(Fork(), Exit(), StartJob(again=0), Drain(), Exit(), Flush()),
    ],
    "a record may be a root's, or of a child of another job": [
        *(Fork(), Fork(-1, 1), ExitFamily(within=True), Drain(), StartJob(), Exit()),
        *(StartJob(), Fork(-1, again=0), Exit(-1)),
    ],
    "the orphan of a job whose subreaper may be another job's orphan": [
        *(Fork(subreaper=True), StartJob(), StartJob(1), Fork(-1), Exit(2), Exit(-1)),
    ],
    "two jobs with one subreaper": [
        *(Fork(), StartJob(1), StartJob(1, shared=True), Exit(-1)),
    ],
    "a root has the pid of another process's parent": [
        *(StartJob(), Fork(), Fork(-1), Fork(-1), Exit(-1), Drain(), Exit(1)),
        *(StartJob(again=0), Drain()),
    ],
    "attached around a job": [
        *(StartJob(), Fork(-1), Fork(-1), StartJob(3), Fork(-1), CloseJob(), Exit(-1), Attach()),
    ],
}
FOUND_WITHOUT = {name: BornHistory(steps, 2, probe=False) for name, steps in FOUND_WITHOUT.items()}


class TestModel:
    """The model over the truth."""

    @many
    @given(history=born_histories())
    def test_model_gives_no_job_a_stranger(self, history: BornHistory) -> None:
        check_no_stranger(Following(history, model_of))

    @many
    @given(history=born_histories())
    def test_model_declares_what_is_missing(self, history: BornHistory) -> None:
        check_nothing_is_missing_undeclared(Following(history, model_of))

    @many
    @given(history=born_histories(losses=False))
    def test_model_has_everything_without_losses(self, history: BornHistory) -> None:
        check_whole(Following(history, model_of))

    @pytest.mark.parametrize("name", FOUND)
    def test_model_is_right_where_trackers_were_wrong(self, name: str) -> None:
        check, history = FOUND[name]
        check(Following(history.again(), model_of))


class TestTracker:
    """The tracker over the truth, and over the model."""

    @many
    @given(history=born_histories())
    def test_no_job_has_a_stranger(self, history: BornHistory) -> None:
        check_no_stranger(Following(history, tracker_of, told_of))

    @many
    @given(history=born_histories())
    def test_what_is_missing_is_declared(self, history: BornHistory) -> None:
        check_nothing_is_missing_undeclared(Following(history, tracker_of, told_of))

    @many
    @given(history=born_histories(losses=False))
    def test_everything_is_there_without_losses(self, history: BornHistory) -> None:
        check_whole(Following(history, tracker_of, told_of))

    @pytest.mark.parametrize("name", FOUND)
    def test_tracker_is_right_where_it_was_wrong(self, name: str) -> None:
        check, history = FOUND[name]
        check(Following(history.again(), tracker_of, told_of))

    @many
    @given(history=born_histories(cgroups=True, losses=False))
    def test_jobs_by_cgroup_have_all_that_ends_in_them(self, history: BornHistory) -> None:
        check_cgroups(Following(history, tracker_of, told_of), lossless=True)

    @many
    @given(history=born_histories(cgroups=True))
    def test_jobs_by_cgroup_have_no_stranger(self, history: BornHistory) -> None:
        check_cgroups(Following(history, tracker_of, told_of), lossless=False)

    @many
    @given(history=born_histories(losses=False))
    def test_tracker_equals_model_without_losses(self, history: BornHistory) -> None:
        check_equal(history)

    @many
    @given(history=born_histories())
    def test_tracker_equals_model(self, history: BornHistory) -> None:
        check_equal(history)


class TestWithoutBirths:
    """Records alone: nobody is given to a wrong job, and what is missing is declared."""

    @many
    @given(history=born_histories(probe=False))
    def test_no_job_has_a_stranger_without_births(self, history: BornHistory) -> None:
        check_no_stranger_unless_lost(follow_without_births(history))

    @many
    @given(history=born_histories(probe=False))
    def test_what_is_missing_is_declared_without_births(self, history: BornHistory) -> None:
        check_nothing_is_missing_undeclared(follow_without_births(history))

    @pytest.mark.parametrize("name", FOUND_WITHOUT)
    def test_tracker_is_right_where_it_was_wrong(self, name: str) -> None:
        played = follow_without_births(FOUND_WITHOUT[name].again())
        check_no_stranger_unless_lost(played)
        check_nothing_is_missing_undeclared(played)
