"""What the results say of us: each target, and where another side is better."""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter, truediv
from typing import Any

from figures import OURS, Comparison, Measurement, Rows, Value

from report import tools
from report.quantities import cell, number, ratio, with_spread
from report.tools import tool

#: Who can be better than ours; "ours" of these is ours in another way.
JUDGES = (tools.RIVAL, tools.FLOOR, tools.OURS)

#: Columns of a table of losses.
OF_LOSSES = {"tool", "exits", "lost"}


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
        verdict = "met" if self.is_met else "missed"
        if self.excess in (0, math.inf):
            return verdict
        by = f"{abs(self.excess):.1%}" if self.excess < 10 else f"{self.excess:,.0f} times"
        if self.is_met:
            return f"{verdict}, {by} to spare"
        return f"{verdict} by {by}" + (f"; the floor itself: {self.bound}" if self.bound else "")


def at_text(at: Mapping[str, object]) -> str:
    """What was varied: "tasks 1,000"."""
    return ", ".join(f"{name.replace('_', ' ')} {cell(name, value)}" for name, value in at.items())


def title(one: Measurement) -> str:
    """What was measured, and at what."""
    at = "" if isinstance(one, Rows) else at_text(one.at)
    return ", ".join(filter(None, [one.what, at]))


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
    """What the floor itself comes to, against another side, if that is above what is wanted."""
    floors = [values for name, values in one.sides.items() if tool(name).kind == tools.FLOOR]
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
    """What another side does better than ours.

    Attributes:
        topic: Of what was measured.
        what: What that was, and at what point it was worst.
        side: The other one.
        seen: The ratio with its spread, or how many of all exits each lost, where it was worst.
        excess: Share by which ours is above the other there.
        worse, points: At how many of its points.
    """

    topic: str
    what: str
    side: str
    seen: str
    excess: float
    worse: int
    points: int


def losses(measurements: Sequence[Measurement]) -> list[Loss]:
    """All of them to rivals, then to floors, then to ours in another way; the worst first."""
    found: dict[tuple[str, str, str], list[tuple[float, str, str]]] = {}
    for one in measurements:
        for side, excess, seen in _against_others(one):
            if side != OURS and tool(side).kind in JUDGES:
                points = found.setdefault((one.topic, one.what, side), [])
                points.append((excess, title(one), seen))
    lost = []
    for (topic, _, side), points in found.items():
        worse = [point for point in points if point[0] > 0]
        if worse:
            excess, what, seen = max(worse, key=itemgetter(0))
            lost.append(Loss(topic, what, side, seen, excess, len(worse), len(points)))
    return sorted(lost, key=lambda one: (JUDGES.index(tool(one.side).kind), -one.excess))


def _against_others(one: Measurement) -> Iterator[tuple[str, float, str]]:
    """A side, the share by which ours is above it, and that as text."""
    match one:
        case Comparison():
            for side in one.sides:
                ratios = one.ratios(side)
                yield side, statistics.median(ratios) - 1, with_spread(ratios, ratio)
        case Rows():
            table = {row["tool"]: row for row in one.rows if row.keys() >= OF_LOSSES}
            for side, its in table.items():
                ours = table[OURS]
                excess = _excess(_share_lost(ours), _share_lost(its))
                yield side, excess, f"lost {_lost(ours)}, it {_lost(its)}"


def _share_lost(row: Mapping[str, Any]) -> float:
    share: float = row["lost"] / row["exits"]
    return share


def _lost(row: Mapping[str, Any]) -> str:
    return f"{number(row['lost'])} of {number(row['exits'])}"
