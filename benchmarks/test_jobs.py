"""What it adds to hearing exits that each is attributed to a job, or to none."""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import pytest
from consumers import (
    ROOM,
    ROOMY,
    STORM_CPU,
    Blown,
    Heard,
    assert_kept_up,
    hear,
    needs_two_cpus,
    rival,
)
from figures import Figures
from support.storm import Storm

ROUNDS = 5
MOST_NS = 400  # of CPU that a tracker may take a record

#: Exits a second (None: as many as can be) -> how many.
STORMS: dict[int | None, int] = {20_000: 20_000, None: ROOM}


@dataclass(frozen=True)
class Whose:
    """Whose the exits are.

    Attributes:
        text: The same for people.
        kind: Of the storm.
        root: Of the one job: see rivals/jobs.py.
    """

    text: str
    kind: Literal["processes", "threads"]
    root: Literal["storm", "other"]

    def check(self, exits: int, tracked: dict[str, int]) -> None:
        """That the job's totals are those of the storm, whose own exit is one more, or none."""
        totals = tracked["processes"], tracked["threads"], tracked["attributed"]
        if self.root == "other":
            assert totals == (0, 0, 0)
            assert tracked["outside"] > exits
        elif self.kind == "processes":
            assert totals == (exits + 1, exits + 1, exits + 1)
        else:
            assert totals == (1, exits + 1, exits + 1)
        assert tracked["complete"]


WHOSE = (
    Whose("processes of the job", "processes", "storm"),
    Whose("processes of no job", "processes", "other"),
    Whose("threads of the job", "threads", "storm"),
)


def hear_all(whose: Whose, rate: int | None, *, tracking: bool) -> tuple[Blown, Heard]:
    """A storm beside a listener that hears all of it, and attributes it or does not."""
    exits = STORMS[rate]
    command = rival("jobs", root=whose.root if tracking else None, **ROOMY)
    blown, heard = hear(Storm(whose.kind, cpu=STORM_CPU, exits=exits, rate=rate), command)
    assert (blown.exits, heard.records, heard.lost, heard.dropped) == (exits, exits, 0, 0)
    if tracking:
        whose.check(exits, heard.tracked)
    return blown, heard


@pytest.mark.parametrize("rate", STORMS)
@pytest.mark.parametrize("whose", WHOSE, ids=lambda whose: whose.text)
def test_attributing(figures: Figures, benchmark: Any, whose: Whose, rate: int | None) -> None:
    needs_two_cpus()
    exits = STORMS[rate]
    seen = figures.turns(
        {
            "ours": partial(hear_all, whose, rate, tracking=True),
            "reading alone": partial(hear_all, whose, rate, tracking=False),
        },
        rounds=ROUNDS,
        warm_up=0,
    )
    assert_kept_up(seen, rate or 0, benchmark)
    at = {"exits/s": rate or "as many as can be", "exits": whose.text}
    used = {name: [heard.cpu_ns / exits for _, heard in both] for name, both in seen.items()}
    figures.compare("CPU a record", used, at=at)
    # What is judged is the tracker's own CPU. The difference is what the user pays, but who does
    # less wakes colder, and a noisy machine makes that dearer: the difference was then seen to be
    # less than what feed() itself takes, and flatters. It is told beside.
    own = [heard.tracked["feeding_ns"] / exits for _, heard in seen["ours"]]
    most = MOST_NS if rate else None
    figures.value("CPU of feed() a record", own, "ns", at=at, at_most=most)
    added = [one - its for one, its in zip(used["ours"], used["reading alone"], strict=True)]
    figures.value("CPU a record, more than of reading alone", added, "ns", at=at)
    figures.value("made beside it", [blown.rate for blown, _ in seen["ours"]], "exits/s", at=at)
    gathered = [exits / heard.wakeups for _, heard in seen["ours"]]
    figures.value("records a wakeup", gathered, at=at)
