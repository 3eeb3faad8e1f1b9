"""Figures as people read them: one unit for a table or an axis, three digits, ratios."""

import math
import statistics
from collections.abc import Callable, Iterable, Sequence

from report.tools import tool

_SCALES = {
    "ns": [(1.0, "ns"), (1e3, "µs"), (1e6, "ms"), (1e9, "s")],
    "us": [(1.0, "µs"), (1e3, "ms"), (1e6, "s")],
    "bytes": [(1.0, "bytes"), (2.0**10, "KiB"), (2.0**20, "MiB"), (2.0**30, "GiB")],
    "KiB": [(1.0, "KiB"), (2.0**10, "MiB"), (2.0**20, "GiB")],
}


def scale(unit: str, values: Iterable[float]) -> tuple[float, str]:
    """What to divide by, and the unit then: the one that suits the middle of all values."""
    scales = _SCALES.get(unit, [(1.0, unit)])
    logarithms = [math.log(value) for value in values if value > 0]
    middle = math.exp(statistics.mean(logarithms)) if logarithms else 0
    return max((one for one in scales if one[0] <= middle), default=scales[0])


def number(value: float) -> str:
    """Three digits that mean something; whole numbers as they are."""
    if abs(value) >= 100 or value == int(value):
        return f"{value:,.0f}"
    digits = 2 - math.floor(math.log10(abs(value)))
    return f"{value:.{digits}f}"


#: Columns whose numbers have a unit.
_UNITS = {"queue": "bytes"}


def cell(name: str, value: object) -> str:
    """What stands in the column of this name: a tool, as people call it, a number, or a text."""
    if name == "tool":
        return tool(str(value)).label
    if not isinstance(value, int | float):
        return str(value)
    divisor, unit = scale(_UNITS.get(name, ""), [value])
    return f"{number(value / divisor)} {unit}".strip()


def ratio(value: float) -> str:
    """A ratio; a small one as a fraction: 1/47."""
    if not value or value >= 0.5:
        return f"{value:.2f}" if value < 10 else number(value)
    return f"1/{1 / value:.1f}" if value > 0.1 else f"1/{1 / value:,.0f}"


def with_spread(values: Sequence[float], text: Callable[[float], str] = number) -> str:
    """The median, and in brackets the smallest and the largest."""
    median = text(statistics.median(values))
    if len(values) == 1:
        return median
    return f"{median} ({text(min(values))}-{text(max(values))})"
