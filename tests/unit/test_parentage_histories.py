"""csrc/parentage.c against its slow model, over random histories: the same verdicts and doubts."""

import os
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.following import Following, told_of, tracker_of
from support.histories.born import BornHistory, born_histories
from support.parentage_records import with_capacity, with_model

from taskstats.jobs import JobTracker

#: How many histories are played: TASKSTATS_HISTORIES=100000 for a long search.
EXAMPLES = int(os.environ.get("TASKSTATS_HISTORIES", "25"))

many = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


class Seen:
    """A tracker that notes after each batch what it says of the jobs and of the living.

    Args:
        tracker: The tracker.
        history: What it follows.
        named: Whether it is told of subreapers.
    """

    def __init__(self, tracker: JobTracker, history: BornHistory, *, named: bool) -> None:
        self._tracker = tracker
        self._history = history
        self._named = named
        self._ids: list[Any] = []
        self.seen: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tracker, name)

    def start(self, root: int, id: Any, *, subreaper: int | None = None) -> None:  # noqa: A002
        self._tracker.start(root, id, subreaper=subreaper if self._named else None)
        self._ids.append(id)

    def attach(self, root: int, id: Any) -> None:  # noqa: A002
        self._tracker.attach(root, id)
        self._ids.append(id)

    def close(self, id: Any) -> Any:  # noqa: A002
        self._ids.remove(id)
        return self._tracker.close(id)

    def feed(self, batch: Any) -> None:
        self._tracker.feed(batch)
        living = [one.pid for one in self._history.look(None)] if len(self.seen) % 5 == 0 else []
        for id_ in self._ids:
            usage = self._tracker.usage(id_, living)
            self.seen.append((told_of(usage), usage.living, usage.unclear, usage.settled_until))


def play(history: BornHistory, capacity: int, *, nest: bool, named: bool, model: bool) -> Any:
    def make(of: BornHistory) -> Any:
        tracker = tracker_of(of, births=False, may_nest=lambda: nest)
        (with_model if model else with_capacity)(tracker, capacity)
        return Seen(tracker, of, named=named)

    played = Following(history, make, told_of, named=True)
    return played.counts, played.closed, played.told(), played.tracker.seen


def by_number(told: Any) -> Any:
    counts, closed, usages, seen = told
    return (
        counts,
        {job.number: one for job, one in closed.items()},
        {job.number: one for job, one in usages.items()},
        seen,
    )


@many
@given(
    history=born_histories(probe=False) | born_histories(),
    capacity=st.sampled_from([3, 20, 5000]),
    nest=st.booleans(),
    named=st.booleans(),
)
def test_the_shim_assigns_as_the_model_does(
    history: BornHistory, capacity: int, nest: bool, named: bool
) -> None:
    again = history.again()
    shim = play(history, capacity, nest=nest, named=named, model=False)
    model = play(again, capacity, nest=nest, named=named, model=True)
    assert by_number(shim) == by_number(model)
