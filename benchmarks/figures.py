"""Figures as ratios: all sides run by turns, medians, and whether a target is met."""

import random
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
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
    """Takes the figures of one benchmark; they go to stdout, the table that ends a run, and the
    results.

    Nothing here fails: a target that is missed is said to be. What makes a measurement invalid
    is asserted where it is made.
    """

    def __init__(self, benchmark: Any, topic: str, measured: list[Measurement]) -> None:
        self._benchmark = benchmark
        self._topic = topic
        self._measured = measured

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

    def _tell(self, measurement: Measurement) -> None:
        self._measured.append(measurement)
        self._benchmark.extra_info.setdefault("measured", []).append(asdict(measurement))
        for line in lines_of(measurement):
            print("\n" + ", ".join(filter(None, line)), end="")


# ---- as text ---------------------------------------------------------------------------------


def short(value: float) -> str:
    """A number with three digits that mean something."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def spread(values: Sequence[float]) -> str:
    """The median, and in brackets the smallest and the largest."""
    digits = 2 if min(values) >= 0.1 else 3
    median, least, most = (
        f"{value:.{digits}f}" for value in (statistics.median(values), min(values), max(values))
    )
    return f"{median} ({least}-{most})"


def verdict(value: float, at_most: float | None, at_least: float | None) -> tuple[str, str]:
    """The target as text, and whether it is met."""
    if at_most is not None:
        return f"<= {at_most:.3g}", "met" if value <= at_most else "MISSED"
    if at_least is not None:
        return f">= {at_least:,g}", "met" if value >= at_least else "MISSED"
    return "", ""


#: What, ours, the other side, their ratio, the target, whether it is met.
Line = tuple[str, str, str, str, str, str]


def lines_of(measurement: Measurement) -> list[Line]:
    """A line for each other side, value or row."""
    if isinstance(measurement, Rows):
        return [
            (f"{measurement.what}: " + ", ".join(f"{k} {v}" for k, v in row.items()),) + 5 * ("",)
            for row in measurement.rows
        ]
    at = "".join(f", {name} {value}" for name, value in measurement.at.items())
    what = measurement.what + at
    if isinstance(measurement, Value):
        values = measurement.values
        value = statistics.median(values)
        around = f" ({short(min(values))}-{short(max(values))})" if len(values) > 1 else ""
        text = f"{short(value)}{around} {measurement.unit}".strip()
        return [(what, text, "", "", *verdict(value, measurement.at_most, measurement.at_least))]
    medians = {name: statistics.median(values) for name, values in measurement.sides.items()}
    ours = f"{short(medians.pop(OURS))} {measurement.unit}"
    lines = []
    for name, median in medians.items():
        ratios = measurement.ratios(name)
        judged = verdict(statistics.median(ratios), measurement.targets.get(name), None)
        lines.append((what, ours, f"{name} {short(median)}", spread(ratios), *judged))
    return lines


def table(measured: Sequence[Measurement]) -> list[str]:
    """The lines in columns."""
    head: Line = ("", "ours", "other", "ratio (min-max)", "target", "")
    found = [head, *(line for one in measured for line in lines_of(one))]
    widths = [
        max(map(len, column))
        for column in zip(*(line for line in found if any(line[1:])), strict=True)
    ]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in found
    ]
