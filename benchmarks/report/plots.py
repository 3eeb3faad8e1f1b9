"""Which plots there are, and what of the results each of them shows."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path

from figures import OURS, Comparison, Measurement, Rows


@dataclass(frozen=True, kw_only=True)
class Plot:
    """What all plots have.

    Attributes:
        name: Of its file.
        topic: Of the measurements it shows.
        title: The question that it answers.
        what: Those it shows -> what to call each beside the tool's name.
        only: What was varied -> the value of which alone it shows the figures.
        once: Sides of which the first line, or row, stands for all, since they would not differ.
    """

    name: str
    topic: str
    title: str
    what: Mapping[str, str]
    only: Mapping[str, float | str] = field(default_factory=dict)
    once: Set[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Curves(Plot):
    """A line a tool, over what was varied; a thin one, if it is a tool used in another way.

    Axes are logarithmic where they can be.

    Attributes:
        x: The name of what was varied.
        x_label, y_label: Of the axes; the unit of the figures is added.
        from_zero: The figures' axis begins there, and none is logarithmic.
    """

    x: str
    x_label: str
    y_label: str
    from_zero: bool = False


@dataclass(frozen=True, kw_only=True)
class Dots(Plot):
    """A row a tool, with a dot for each of `what`, and whiskers. The axis is logarithmic.

    Attributes:
        x: The name of what was varied: a row for each value.
        row: How such a row is called beside the tool, with {} for the value.
        x_label: Of the axis; the unit is added.
    """

    x: str
    row: str
    x_label: str


@dataclass(frozen=True, kw_only=True)
class Parts(Plot):
    """A bar a tool, of a table: what it has seen of all exits, and whether it knew of the rest."""


PLOTS: tuple[Plot, ...] = (
    Curves(
        name="queries",
        topic="queries",
        title="What does it cost to ask about a task and read its figures, if there are many?",
        what={"a query and its figures read, many in a call": ""},
        x="tasks",
        x_label="tasks asked about, many in a call where that is possible",
        y_label="time a task",
    ),
    Curves(
        name="query-one",
        topic="queries",
        title="What does it cost to ask about a task and read its figures, one in a call?",
        what={"a query and its figures read, one in a call": ""},
        x="tasks",
        x_label="tasks asked about, one by one",
        y_label="time a task",
    ),
    Curves(
        name="drain",
        topic="drain",
        title="What does it cost to drain a record, by how many wait?",
        what={
            "drain a record": ", batches",
            "drain into records, two fields read": ", records",
            "drain into NumPy, one column summed": ", NumPy",
            "drain into Arrow, every column": ", Arrow",
        },
        once={"floor"},
        x="queued",
        x_label="records that wait to be drained",
        y_label="time a record",
    ),
    Curves(
        name="sockets",
        topic="scale",
        title="What does a record cost, if there are many sockets, one a CPU?",
        what={"a record in each socket": ""},
        x="sockets",
        x_label="sockets, a record in each",
        y_label="time a record",
    ),
    Curves(
        name="storm-cpu",
        topic="storm",
        title="What does it cost to hear an exit?",
        what={"CPU a record": ""},
        x="exits/s",
        x_label="exits a second",
        y_label="CPU time a record",
    ),
    Curves(
        name="storm-slowdown",
        topic="storm",
        title="What does an exit cost the one who exits, if somebody hears it?",
        what={"the storm's own CPU an exit, beside": ""},
        x="exits/s",
        x_label="exits a second",
        y_label="CPU time an exit",
        from_zero=True,
    ),
    Dots(
        name="latency",
        topic="latency",
        title="How long after an exit is its record read, by max_latency?",
        what={"latency, p50": "p50", "latency, p99": "p99"},
        only={"exits/s": 5_000},
        once={"coalesced", "eager", "sockets", "pyroute2", "pyroute2, asyncio"},
        x="max_latency_ms",
        row="{} ms",
        x_label="from exit to reader, at 5,000 exits a second",
    ),
    Parts(
        name="overload-storm",
        topic="overload",
        title="As many exits as can be: who has seen what, and knew what was lost?",
        what={"overload: as many exits as can be": ""},
    ),
    Parts(
        name="overload-stopped",
        topic="overload",
        title="Stopped for half a second, all with 1 MiB to queue: who knew what was lost?",
        what={"overload: stopped for half a second, all with 1 MiB to queue": ""},
    ),
    Curves(
        name="filter",
        topic="filter",
        title="What does an exit cost a listener, if the kernel keeps out all but a few?",
        what={"CPU of the listener an exit": ""},
        only={"exits/s": 20_000, "latency_ms": 5},
        x="one_in",
        x_label="exits of which one is kept",
        y_label="CPU time an exit",
    ),
    Dots(
        name="jobs",
        topic="jobs",
        title="What does it cost to hear an exit, and to attribute it to a job?",
        what={"CPU a record": ""},
        only={"exits/s": 20_000},
        x="exits",
        row="{}",
        x_label="CPU time a record, at 20,000 exits a second",
    ),
    Dots(
        name="command",
        topic="command",
        title="What does a command cost that makes 2,000 processes, if its costs are told?",
        what={"wall time of a command": "wall time", "CPU time of a command": "CPU time"},
        only={"children": 2_000},
        x="",
        row="",
        x_label="time",
    ),
    Curves(
        name="listeners-cpu",
        topic="listeners",
        title="What does a record cost each of several listeners?",
        what={"CPU a record of each listener": ""},
        x="listeners",
        x_label="listeners",
        y_label="CPU time a record",
    ),
    Curves(
        name="listeners-slowdown",
        topic="listeners",
        title="What does an exit cost the one who exits, if several hear it?",
        what={"the storm's own CPU an exit, beside": ""},
        x="listeners",
        x_label="listeners",
        y_label="CPU time an exit",
        from_zero=True,
    ),
    Dots(
        name="import",
        topic="footprint",
        title="How long does it take until it is imported, and until the first answer?",
        what={"import": "imported", "import and the first query": "answered"},
        x="",
        row="",
        x_label="time",
    ),
    Dots(
        name="resident",
        topic="footprint",
        title="How much memory has a process that asks, or listens?",
        what={"resident with a client": "asks", "resident with a listener": "listens"},
        x="",
        row="",
        x_label="resident",
    ),
    Curves(
        name="memory",
        topic="footprint",
        title="Does a listener's memory grow?",
        what={"resident while it hears": ""},
        x="records",
        x_label="records heard",
        y_label="resident",
        from_zero=True,
    ),
)


@dataclass(frozen=True)
class Series:
    """One side's figures.

    Attributes:
        side: As results name it.
        variant: What to call it beside the tool's name.
        points: What was varied -> value by round.
    """

    side: str
    variant: str
    points: Mapping[float | str, Sequence[float]]


def of(topic: str) -> list[Plot]:
    """The plots of a topic."""
    return [plot for plot in PLOTS if plot.topic == topic]


def empty(measurements: Sequence[Measurement]) -> list[str]:
    """The names of those that would show nothing of these."""
    return [plot.name for plot in PLOTS if not shown(plot, measurements)]


def shown(plot: Plot, measurements: Sequence[Measurement]) -> list[Measurement]:
    """What a plot shows, in its order."""
    return [
        one
        for what in plot.what
        for one in measurements
        if (one.topic, one.what) == (plot.topic, what)
        and (isinstance(one, Rows) or plot.only.items() <= one.at.items())
    ]


def table(plot: Parts, measurements: Sequence[Measurement]) -> Rows:
    """The one that a plot shows."""
    (found,) = (one for one in shown(plot, measurements) if isinstance(one, Rows))
    return found


def series(plot: Curves | Dots, measurements: Sequence[Measurement]) -> tuple[str, list[Series]]:
    """The unit of what a plot shows, and a series for each side; a value is of ours."""
    found: dict[tuple[str, str], dict[float | str, Sequence[float]]] = {}
    kept: dict[str, float | str] = {}
    unit = ""
    for one in shown(plot, measurements):
        assert not isinstance(one, Rows)
        unit, variant, at = one.unit, plot.what[one.what], one.at.get(plot.x, "")
        sides = one.sides if isinstance(one, Comparison) else {OURS: one.values}
        for side, values in sides.items():
            differs_by = variant if isinstance(plot, Curves) else at
            if side not in plot.once or kept.setdefault(side, differs_by) == differs_by:
                found.setdefault((side, variant), {})[at] = values
    return unit, [Series(*key, points) for key, points in found.items()]


def draw_all(measurements: Sequence[Measurement], directory: Path) -> None:
    """Draws each plot as NAME.svg, and removes what else was drawn there.

    Raises:
        ValueError: One would show nothing.
    """
    from report import drawing  # matplotlib, which the page's text does without

    if names := empty(measurements):
        raise ValueError(f"nothing was measured that these plots show: {', '.join(names)}")
    drawn = {directory / f"{plot.name}.svg": plot for plot in PLOTS}
    for path in set(directory.glob("*.svg")) - drawn.keys():
        path.unlink()
    for path, plot in drawn.items():
        drawing.draw(plot, measurements, path)
