"""What is measured: all sides run by turns, and every round's figure is kept."""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")

ROUNDS = 15
ORDERS = 1  # the seed of those in which sides run
OURS = "ours"


def nanoseconds(function: Callable[[], object]) -> int:
    """How long a call takes."""
    start = time.perf_counter_ns()
    function()
    return time.perf_counter_ns() - start


# ---- what is measured ------------------------------------------------------------------------


@dataclass(frozen=True)
class Comparison:
    """Sides that ran by turns; of each, its figure in each round.

    Attributes:
        topic: The file that measured it, without "test_".
        what: What was measured; with `at`, once a point of a curve.
        unit: Of every side's values.
        sides: Name -> value by round; the less, the better.
        at: Name -> value of what was varied, for instance {"tasks": 1000}.
        targets: Name of another side -> the ratio of ours to it that is wanted at most.
    """

    topic: str
    what: str
    unit: str
    sides: Mapping[str, Sequence[float]]
    at: Mapping[str, float | str] = field(default_factory=dict)
    targets: Mapping[str, float] = field(default_factory=dict)

    def ratios(self, other: str) -> list[float]:
        """Ours to another's, round by round."""
        return [one / its for one, its in zip(self.sides[OURS], self.sides[other], strict=True)]


@dataclass(frozen=True)
class Value:
    """A figure that has no other side: a number of things lost, or of bytes grown by."""

    topic: str
    what: str
    unit: str
    values: Sequence[float]
    at: Mapping[str, float | str] = field(default_factory=dict)
    at_most: float | None = None
    at_least: float | None = None


@dataclass(frozen=True)
class Rows:
    """A table of what is to be told besides numbers: one row a tool."""

    topic: str
    what: str
    rows: Sequence[Mapping[str, Any]]


Measurement = Comparison | Value | Rows


class Figures:
    """Makes and tells the figures of one benchmark.

    Nothing here fails: a target that is missed is said to be. What makes a measurement invalid
    is asserted where it is made.

    Args:
        benchmark: The fixture of pytest-benchmark.
        topic: The file that measures, without "test_".
        tell: Takes what was measured.
    """

    def __init__(self, benchmark: Any, topic: str, tell: Callable[[Measurement], None]) -> None:
        self._benchmark = benchmark
        self._topic = topic
        self._tell = tell

    def turns(
        self, sides: Mapping[str, Callable[[], T]], rounds: int = ROUNDS, warm_up: int = 1
    ) -> dict[str, list[T]]:
        """What each side returned in each round. No side always follows the same one.

        The order of each round is shuffled, the same way in each run. With --benchmark-disable
        there is one round, and none to warm up.
        """
        shuffler = random.Random(ORDERS)
        seen: dict[str, list[T]] = {name: [] for name in sides}

        def turn() -> None:
            for name in shuffler.sample(list(sides), len(sides)):
                seen[name].append(sides[name]())

        self._benchmark.pedantic(turn, rounds=rounds, warmup_rounds=warm_up)
        return {name: values[-rounds:] for name, values in seen.items()}

    def compare(
        self,
        what: str,
        sides: Mapping[str, Sequence[float]],
        unit: str = "ns",
        *,
        at: Mapping[str, float | str] | None = None,
        targets: Mapping[str, float] | None = None,
    ) -> None:
        """Tells what each side took, ours (the side "ours") against each other one."""
        self._tell(Comparison(self._topic, what, unit, dict(sides), at or {}, targets or {}))

    def value(
        self,
        what: str,
        values: Sequence[float],
        unit: str = "",
        *,
        at: Mapping[str, float | str] | None = None,
        at_most: float | None = None,
        at_least: float | None = None,
    ) -> None:
        """Tells a figure with a target of its own, or with none."""
        self._tell(Value(self._topic, what, unit, list(values), at or {}, at_most, at_least))

    def rows(self, what: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Tells a table."""
        self._tell(Rows(self._topic, what, list(rows)))
