"""What the results say of us: each target, and each comparison in which another side is better."""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import truediv

from figures import Comparison, Measurement, Value

from report.quantities import number, ratio, with_spread
from report.tools import FLOOR, RIVAL, tool

#: Who can be better than ours. A baseline is no tool, so that it would say nothing.
_JUDGES = (RIVAL, FLOOR)


@dataclass(frozen=True)
class Target:
    """A target and what became of it.

    Attributes:
        topic: Of what was measured.
        what: What that was, and at what.
        against: The other side, or "" if the target is an absolute one.
        seen: The ratio or figure, with its spread.
        wanted: The target as text.
        excess: Share by which it is missed; below 0, by which it is met.
        bound: What the floor itself comes to, if that misses the target too; else "".
    """

    topic: str
    what: str
    against: str
    seen: str
    wanted: str
    excess: float
    bound: str = ""

    @property
    def is_met(self) -> bool:
        return self.excess <= 0

    @property
    def verdict(self) -> str:
        verdict = "met" if self.is_met else "**missed**"
        if self.excess in (0, math.inf):
            return verdict
        by = f"{abs(self.excess):.1%}" if self.excess < 10 else f"{self.excess:,.0f} times"
        if self.is_met:
            return f"{verdict}, {by} to spare"
        return f"{verdict} by {by}" + (f"; the floor itself: {self.bound}" if self.bound else "")


def at_text(at: Mapping[str, float | str]) -> str:
    """What was varied: "tasks 1,000"."""
    return ", ".join(
        f"{name.replace('_', ' ')} {value if isinstance(value, str) else number(value)}"
        for name, value in at.items()
    )


def title(one: Comparison | Value) -> str:
    """What was measured, and at what."""
    return ", ".join(filter(None, [one.what, at_text(one.at)]))


def targets(measurements: Sequence[Measurement]) -> Iterator[Target]:
    for one in measurements:
        match one:
            case Comparison():
                for side, most in one.targets.items():
                    ratios = one.ratios(side)
                    yield Target(
                        one.topic,
                        title(one),
                        tool(side).label,
                        with_spread(ratios, ratio),
                        f"at most {ratio(most)}",
                        statistics.median(ratios) / most - 1,
                        _bound(one, side, most),
                    )
            case Value(at_most=float() | int() as most):
                excess = _excess(statistics.median(one.values), most)
                yield _absolute(one, f"at most {number(most)}", excess)
            case Value(at_least=float() | int() as least):
                excess = _excess(least, statistics.median(one.values))
                yield _absolute(one, f"at least {number(least)}", excess)


def _bound(one: Comparison, side: str, most: float) -> str:
    """The floor's ratio to another side, if no client could come below what is wanted."""
    floors = [values for name, values in one.sides.items() if tool(name).kind == FLOOR]
    for values in floors:
        least = statistics.median(map(truediv, values, one.sides[side]))
        if values is not one.sides[side] and least > most:
            return ratio(least)
    return ""


def _absolute(one: Value, wanted: str, excess: float) -> Target:
    seen = f"{with_spread(one.values)} {one.unit}".strip()
    return Target(one.topic, title(one), "", seen, f"{wanted} {one.unit}".strip(), excess)


def _excess(value: float, limit: float) -> float:
    """Share by which it is above."""
    if limit:
        return value / limit - 1
    return math.inf if value else 0


@dataclass(frozen=True)
class Loss:
    """A comparison in which another side is better than ours.

    Attributes:
        topic: Of what was measured.
        what: What that was, and at what point it was worst.
        side: The other one.
        ratios: Ours to it by round, where it was worst.
        lost, points: At how many of its points.
    """

    topic: str
    what: str
    side: str
    ratios: Sequence[float]
    lost: int
    points: int


def losses(measurements: Sequence[Measurement]) -> list[Loss]:
    """All of them to rivals, then to floors; the worst first."""
    found: dict[tuple[str, str, str], list[tuple[str, list[float]]]] = {}
    for one in measurements:
        if isinstance(one, Comparison):
            for side in one.sides:
                if tool(side).kind not in _JUDGES:
                    continue
                points = found.setdefault((one.topic, one.what, side), [])
                points.append((title(one), one.ratios(side)))
    lost = []
    for (topic, _, side), points in found.items():
        where = [point for point in points if statistics.median(point[1]) > 1]
        if where:
            worst, ratios = max(where, key=lambda point: statistics.median(point[1]))
            lost.append(Loss(topic, worst, side, ratios, len(where), len(points)))
    return sorted(
        lost, key=lambda one: (_JUDGES.index(tool(one.side).kind), -statistics.median(one.ratios))
    )
