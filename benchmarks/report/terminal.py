"""The results as lines of text, for the end of a run."""

import statistics
from collections.abc import Iterator, Sequence

from figures import OURS, Comparison, Measurement, Rows, Value

from report.quantities import number, ratio, scale, with_spread
from report.tools import tool
from report.verdicts import at_text, targets, title

#: What, ours, the other side, their ratio, the target, what became of it.
Line = tuple[str, str, str, str, str, str]

HEAD: Line = ("", "ours", "other", "ratio (min-max)", "target", "")


def table(measurements: Sequence[Measurement]) -> Iterator[str]:
    """All of them in columns."""
    lines = [HEAD, *(line for one in measurements for line in lines_of(one))]
    columns = zip(*(line for line in lines if any(line[1:])), strict=True)
    widths = [max(map(len, column)) for column in columns]
    for line in lines:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        yield "  ".join(cells).rstrip()


def lines_of(one: Measurement) -> list[Line]:
    """A line for each other side, value or row."""
    judged = {target.against: (target.wanted, target.verdict) for target in targets([one])}
    match one:
        case Rows():
            return [(f"{one.what}: {at_text(row)}", "", "", "", "", "") for row in one.rows]
        case Value():
            divisor, unit = scale(one.unit, [statistics.median(one.values)])
            figure = with_spread([value / divisor for value in one.values])
            return [(title(one), f"{figure} {unit}".strip(), "", "", *judged.get("", ("", "")))]
        case Comparison():
            medians = {side: statistics.median(values) for side, values in one.sides.items()}
            divisor, unit = scale(one.unit, medians.values())
            ours = f"{number(medians.pop(OURS) / divisor)} {unit}"
            return [
                (
                    title(one),
                    ours,
                    f"{label} {number(median / divisor)}",
                    with_spread(one.ratios(side), ratio),
                    *judged.get(label, ("", "")),
                )
                for side, median in medians.items()
                for label in [tool(side).label]
            ]
