"""JobTracker over random histories of processes, of which is known whose each one is."""

from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.histories import BATCH_ROWS, History, Step, histories, step_lists
from support.played import Played, played_late


def made(steps: Sequence[Step], cpus: int, batch_rows: int) -> History:
    return History([*played_late(steps)], cpus, batch_rows)


late_histories = st.builds(
    made,
    step_lists,
    st.sampled_from([1, 2, 2, 3]),
    st.sampled_from([BATCH_ROWS, 2]),
)


@pytest.mark.parametrize("asks", [True, False])
@given(history=late_histories)
@settings(max_examples=100)
def test_no_process_is_given_to_a_job_that_it_is_not_of(asks: bool, history: History) -> None:
    played = Played(history, asks=asks)
    if not history.lost:
        for job in played.jobs:
            assert played.of(job) <= played.truth(job)


@given(history=late_histories)
@settings(max_examples=100)
def test_where_nothing_is_said_to_be_missing_nothing_is(history: History) -> None:
    played = Played(history, asks=True)
    if not history.lost and played.is_certain():
        for job in played.whole:
            assert played.is_outlived(job) or played.of(job) >= played.truth(job)


@given(history=late_histories)
@settings(max_examples=100)
def test_without_losses_nothing_is_uncertain(history: History) -> None:
    """Each parent's end is heard, and no subreaper is named; but a pid may have two owners.

    With patience: the end of a parent may be read seconds after its children's.
    """
    played = Played(history, asks=True, patience=3600)
    if not history.lost:
        t = played.tracker
        # What the fold forgets is of threads whose record is read long after the last one's.
        assert (t.unattributed, t.evicted) == (0, t._fold.forgotten)
        owners = Counter(ended.process.tgid for ended, _ in played.heard if ended.last)
        owners.update(process.tgid for process in history.alive)
        assert t.ambiguous == 0 or max(owners.values()) > 1


@given(history=histories())
@settings(max_examples=100)
def test_each_record_is_counted_once_however_soon_pids_are_used_again(history: History) -> None:
    Played(history, asks=True)


@given(history=late_histories)
@settings(max_examples=100)
def test_a_loss_while_a_job_ran_is_told(history: History) -> None:
    played = Played(history, asks=True)
    for job in played.jobs:
        lost_of_it = [one for one in history.lost if one.process.job is job]
        usage = played.tracker.usage(job.number)
        assert usage.lost >= len(lost_of_it)
        assert not (lost_of_it and usage.complete)
