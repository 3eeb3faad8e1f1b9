"""Figures as ratios: both sides run by turns, medians, and whether a target is met."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")

ROUNDS = 15


@dataclass(frozen=True)
class Line:
    """One line of the table that ends a run."""

    what: str
    ours: str
    other: str
    ratio: str
    target: str
    verdict: str


def nanoseconds(function: Callable[[], object]) -> int:
    """How long a call takes."""
    start = time.perf_counter_ns()
    function()
    return time.perf_counter_ns() - start


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _spread(values: Sequence[float]) -> str:
    digits = 2 if min(values) >= 0.1 else 3
    median, least, most = (
        f"{value:.{digits}f}" for value in (statistics.median(values), min(values), max(values))
    )
    return f"{median} ({least}-{most})"


def _verdict(value: float, at_most: float | None, at_least: float | None) -> tuple[str, str]:
    """The target as text, and whether it is met."""
    if at_most is not None:
        return f"<= {at_most:g}", "met" if value <= at_most else "MISSED"
    if at_least is not None:
        return f">= {at_least:,g}", "met" if value >= at_least else "MISSED"
    return "", ""


class Figures:
    """Takes the figures of one benchmark; they go to its extra_info, stdout and the table.

    Nothing here fails: a target that is missed is said to be. What makes a measurement invalid
    is asserted where it is made.
    """

    def __init__(self, benchmark: Any, table: list[Line]) -> None:
        self._benchmark = benchmark
        self._table = table

    def turns(
        self, sides: Mapping[str, Callable[[], T]], rounds: int = ROUNDS, warm_up: int = 1
    ) -> dict[str, list[T]]:
        """What each side returned in each round. Another one begins each time."""
        order = list(sides)
        seen: dict[str, list[T]] = {name: [] for name in sides}

        def turn() -> None:
            for name in order:
                seen[name].append(sides[name]())
            order.append(order.pop(0))

        self._benchmark.pedantic(turn, rounds=rounds, warmup_rounds=warm_up)
        return {name: values[-rounds:] for name, values in seen.items()}

    def ratio(
        self,
        what: str,
        ours: Sequence[float],
        other: Sequence[float],
        *,
        to: str = "floor",
        unit: str = "ns",
        at_most: float | None = None,
    ) -> None:
        """Ours against another's, round by round: the median ratio, smallest and largest."""
        ratios = [one / its for one, its in zip(ours, other, strict=True)]
        texts = [f"{_short(statistics.median(values))} {unit}" for values in (ours, other)]
        ratio = statistics.median(ratios)
        self._tell(
            Line(
                what, texts[0], f"{to} {texts[1]}", _spread(ratios), *_verdict(ratio, at_most, None)
            ),
            {"ours": statistics.median(ours), "other": statistics.median(other), "ratios": ratios},
        )

    def value(
        self,
        what: str,
        values: Sequence[float],
        unit: str,
        *,
        at_most: float | None = None,
        at_least: float | None = None,
    ) -> None:
        """A figure with a target of its own."""
        value = statistics.median(values)
        target, verdict = _verdict(value, at_most, at_least)
        spread = f" ({_short(min(values))}-{_short(max(values))})" if len(values) > 1 else ""
        self._tell(
            Line(what, f"{_short(value)}{spread} {unit}".strip(), "", "", target, verdict),
            {"values": values},
        )

    def _tell(self, line: Line, record: dict[str, Any]) -> None:
        self._table.append(line)
        self._benchmark.extra_info[line.what] = record | {
            "target": line.target,
            "verdict": line.verdict,
        }
        parts = (line.ours, line.other, line.ratio, line.target, line.verdict)
        print(f"\n{line.what}: {', '.join(filter(None, parts))}", end="")


def table(lines: Sequence[Line]) -> list[str]:
    """The lines in columns."""
    head = Line("", "ours", "other", "ratio (min-max)", "target", "")
    rows = [tuple(vars(line).values()) for line in (head, *lines)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
