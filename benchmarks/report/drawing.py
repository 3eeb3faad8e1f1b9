"""How plots are drawn: as SVG that is the same for the same results."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from figures import Measurement
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from report.plots import Curves, Dots, Parts, Plot, Series, series, table
from report.quantities import number, scale
from report.tools import FLOOR, GREY, OURS, tool

STYLE: Any = {
    "svg.hashsalt": "taskstats",
    "svg.fonttype": "none",  # text stays text
    "font.family": "sans-serif",
    "font.size": 12,
    "figure.titlesize": 14,
    "figure.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.8,
}

#: Inches; the right part of curves is for their labels.
WIDTH, HEIGHT = 9.0, 5.0
LEFT, RIGHT = 0.11, 0.70

#: Of the lines of ours, if there are several.
DASHES = ("-", (0, (6, 1.5)), (0, (3, 1.5, 1, 1.5)), (0, (1, 1)))
MARKERS = ("o", "s", "D", "^")
#: Of an x axis with a tick for each point.
MOST_TICKS = 7


def draw(plot: Plot, measurements: Sequence[Measurement], path: Path) -> None:
    """Draws a plot to a file, whose ending says what it is."""
    with mpl.rc_context(STYLE):
        match plot:
            case Curves():
                figure = curves(plot, measurements)
            case Dots():
                figure = dots(plot, measurements)
            case Parts():
                figure = parts(plot, measurements)
        figure.suptitle(
            plot.title, x=0.02, y=1 - 0.15 / figure.get_figheight(), ha="left", va="top"
        )
        figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


# ---- curves ----------------------------------------------------------------------------------


def curves(plot: Curves, measurements: Sequence[Measurement]) -> Figure:
    unit, lines = series(plot, measurements)
    divisor, unit = _scale(unit, lines)
    figure = Figure(figsize=(WIDTH, HEIGHT))
    axes = figure.add_axes((LEFT, 0.13, RIGHT - LEFT, 0.74))
    if not plot.from_zero:
        axes.set_yscale("log")
    places = _places(plot, axes, list(dict.fromkeys(at for line in lines for at in line.points)))
    ends = []
    for line in lines:
        xs = [places[at] for at in line.points]
        values = [[value / divisor for value in values] for values in line.points.values()]
        _draw_line(axes, xs, values, line.side, list(plot.what.values()).index(line.variant))
        label = tool(line.side).label + ("" if line.side in plot.once else line.variant)
        ends.append((xs[-1], statistics.median(values[-1]), line.side, label))
    axes.set_xlabel(plot.x_label)
    axes.set_ylabel(f"{plot.y_label}, {unit}")
    if plot.from_zero:
        axes.set_ylim(0, 1.1 * axes.get_ylim()[1])
    else:
        _plain_ticks(axes.yaxis)
    _label_ends(axes, ends)
    return figure


def _draw_line(
    axes: Axes, xs: Sequence[float], values: Sequence[Sequence[float]], side: str, variant: int
) -> None:
    """The medians, in a band from the smallest to the largest."""
    known, is_ours = tool(side), side == OURS
    is_another_way = known.kind != FLOOR and ", " in side
    least, most = [min(one) for one in values], [max(one) for one in values]
    axes.fill_between(xs, least, most, color=known.colour, alpha=0.18, linewidth=0)
    axes.plot(
        xs,
        [statistics.median(one) for one in values],
        color=known.colour,
        linestyle=(0, (4, 2)) if known.kind == FLOOR else DASHES[variant],
        linewidth=3 if is_ours else 0.8 if is_another_way else 1.6,
        marker=MARKERS[variant] if is_ours else "o",
        markersize=6 if is_ours else 4,
        zorder=3 if is_ours else 2,
    )


def _places(plot: Curves, axes: Axes, varied: Sequence[float | str]) -> dict[float | str, float]:
    """Where on the x axis each value stands: where numbers do, or, if some are none, in a row."""
    if any(isinstance(at, str) for at in varied):
        places = {at: float(i) for i, at in enumerate(varied)}
    else:
        places = {at: float(at) for at in varied}
        axes.set_xscale("linear" if plot.from_zero else "log")
    if len(varied) <= MOST_TICKS:
        axes.set_xticks(
            list(places.values()), [at if isinstance(at, str) else number(at) for at in varied]
        )
        axes.set_xticks([], minor=True)
    else:
        axes.xaxis.set_major_formatter(FuncFormatter(_tick))
    return places


def _label_ends(axes: Axes, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Names lines at the right, in their colours and in their order, none on another."""
    to_axes = axes.transData + axes.transAxes.inverted()
    placed = [(*to_axes.transform((x, y)), side, label) for x, y, side, label in ends]
    placed.sort(key=lambda one: one[1])
    heights = _apart([y for _, y, *_ in placed], 0.062)
    for (x, y, side, label), height in zip(placed, heights, strict=True):
        colour = tool(side).colour
        axes.annotate(
            label,
            (x, y),
            (1.05, height),
            xycoords="axes fraction",
            textcoords="axes fraction",
            color=colour,
            weight="bold" if side == OURS else "normal",
            va="center",
            arrowprops={
                "arrowstyle": "-",
                "relpos": (0, 0.5),
                "color": colour,
                "lw": 0.7,
                "shrinkA": 2,
                "shrinkB": 5,
            },
            annotation_clip=False,
        )


def _apart(heights: Sequence[float], least: float) -> list[float]:
    """Ascending heights, moved as little as need be to stand so far apart."""
    groups: list[list[float]] = []  # of heights that touch; each is centred on where it should be
    for height in heights:
        groups.append([height])
        while len(groups) > 1 and _bottom(groups[-1], least) < _top(groups[-2], least) + least:
            last = groups.pop()
            groups[-1] += last
    return [_bottom(group, least) + i * least for group in groups for i in range(len(group))]


def _bottom(group: Sequence[float], least: float) -> float:
    return statistics.mean(group) - (len(group) - 1) * least / 2


def _top(group: Sequence[float], least: float) -> float:
    return statistics.mean(group) + (len(group) - 1) * least / 2


# ---- dots ------------------------------------------------------------------------------------


def dots(plot: Dots, measurements: Sequence[Measurement]) -> Figure:
    unit, found = series(plot, measurements)
    divisor, unit = _scale(unit, found)
    sides = list(dict.fromkeys(one.side for one in found))
    rows = list(dict.fromkeys((one.side, at) for one in found for at in one.points))
    rows.sort(key=lambda row: sides.index(row[0]))
    figure, axes = _rows(len(rows))
    axes.set_xscale("log")
    variants = list(plot.what.values())
    for one in found:
        colour = tool(one.side).colour
        place = variants.index(one.variant)
        for at, values in one.points.items():
            y = rows.index((one.side, at))
            least, middle, most = (
                value / divisor for value in (min(values), statistics.median(values), max(values))
            )
            axes.plot([least, most], [y, y], color=colour, linewidth=2)
            axes.plot(middle, y, MARKERS[place], color=colour, markersize=8)
            is_first = place == 0  # its text stands at the left, that of others at the right
            axes.annotate(
                f"{one.variant} {number(middle)}".strip(),
                (least if is_first else most, y),
                (-9 if is_first else 9, 0),
                textcoords="offset points",
                ha="right" if is_first else "left",
                va="center",
                fontsize=10,
                color=colour,
            )
    _name_rows(axes, [_row_name(plot, side, at) for side, at in rows], [side for side, _ in rows])
    axes.margins(x=0.5)  # for the text
    axes.set_xlabel(f"{plot.x_label}, {unit}")
    _plain_ticks(axes.xaxis)
    return figure


def _row_name(plot: Dots, side: str, at: float | str) -> str:
    label = tool(side).label
    return label if side in plot.once or at == "" else f"{label}, {plot.row.format(at)}"


# ---- parts -----------------------------------------------------------------------------------


def parts(plot: Parts, measurements: Sequence[Measurement]) -> Figure:
    rows = table(plot, measurements).rows
    sides = [row["tool"] for row in rows]
    figure, axes = _rows(len(sides))
    for y, row in enumerate(rows):
        colour = tool(row["tool"]).colour
        seen = 100 * row["seen"] / row["exits"]
        axes.barh(y, 100, height=0.6, facecolor="white", edgecolor=colour, hatch="///")
        axes.barh(y, seen, height=0.6, facecolor=colour, edgecolor=colour)
        text = f"lost {number(row['lost'])}\nit knew: {row['it knew']}" if row["lost"] else "lost 0"
        _beside(axes, text, y, colour)
    axes.legend(
        [
            Patch(facecolor=GREY, edgecolor=GREY),
            Patch(facecolor="white", edgecolor=GREY, hatch="///"),
        ],
        ["seen", "lost"],
        loc="lower left",
        bbox_to_anchor=(-0.01, 0.99),
        ncols=2,
        frameon=False,
        borderpad=0,
    )
    _name_rows(axes, [tool(side).label for side in sides], sides)
    axes.set_xlim(0, 100)
    axes.set_xlabel("of all exits, %")
    return figure


def _beside(axes: Axes, text: str, y: int, colour: str) -> None:
    axes.annotate(
        text,
        (1, y),
        (8, 0),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        va="center",
        fontsize=10,
        color=colour,
    )


def _rows(count: int) -> tuple[Figure, Axes]:
    """Room for so many rows."""
    height = 1.7 + 0.45 * count
    figure = Figure(figsize=(WIDTH, height))
    return figure, figure.add_axes((0.24, 0.7 / height, 0.58, 1 - 1.5 / height))


def _name_rows(axes: Axes, labels: Sequence[str], sides: Sequence[str]) -> None:
    """At the left, the first on top, in their colours."""
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    for label, side in zip(axes.get_yticklabels(), sides, strict=True):
        label.set_color(tool(side).colour)
        label.set_fontweight("bold" if side == OURS else "normal")


# ---- what they share -------------------------------------------------------------------------


def _scale(unit: str, found: Sequence[Series]) -> tuple[float, str]:
    return scale(unit, (statistics.median(v) for one in found for v in one.points.values()))


def _tick(value: float, _: object) -> str:
    return f"{value / 1e6:,g} M" if value >= 1e6 else f"{value:,g}"


def _plain_ticks(axis: Axis) -> None:
    """A logarithmic axis with numbers as people write them."""
    least, most = axis.get_view_interval()
    subs = (1.0, 2.0, 5.0) if most / least < 500 else (1.0,)
    axis.set_major_locator(LogLocator(subs=subs))
    axis.set_major_formatter(FuncFormatter(_tick))
    axis.set_minor_formatter(NullFormatter())
