"""Plots of made-up results: they are drawn, say what they show, and are the same each time."""

from pathlib import Path

import pytest
from figures import Comparison, Measurement, Rows, Value
from report import plots

pytest.importorskip("matplotlib", reason="plots need the extra bench")

from report import drawing

SIDES = {"ours": [1.0, 1.1], "floor": [0.9, 1.0], "nobody": [0.5, 0.5], "pyroute2": [90.0, 99.0]}
TABLE = [
    {"tool": "ours", "exits": 9, "seen": 4, "lost": 5, "it knew": "exactly"},
    {"tool": "pyroute2", "exits": 8, "seen": 0, "lost": 8, "it knew": "no"},
]


def made_up(plot: plots.Plot) -> list[Measurement]:
    """Something of all that a plot shows."""
    if isinstance(plot, plots.Parts):
        return [Rows(plot.topic, what, TABLE) for what in plot.what]
    return [
        Comparison(plot.topic, what, "ns", SIDES, {**plot.only, plot.x: at})
        for what in plot.what
        for at in (1, 20, "as many as can be")
    ]


@pytest.mark.parametrize("plot", plots.PLOTS, ids=lambda plot: plot.name)
def test_each_is_drawn_with_its_words_the_same_each_time(plot: plots.Plot, tmp_path: Path) -> None:
    drawn = []
    for name in ("once", "again"):
        drawing.draw(plot, made_up(plot), tmp_path / f"{name}.svg")
        drawn.append((tmp_path / f"{name}.svg").read_text())
    assert drawn[0] == drawn[1]
    assert len(drawn[0]) < 100_000
    for word in (plot.title.split(":")[0], "taskstats", "pyroute2"):
        assert word in drawn[0]


def test_all_are_drawn_and_no_other_is_left(tmp_path: Path) -> None:
    (tmp_path / "of_before.svg").touch()
    plots.draw_all([one for plot in plots.PLOTS for one in made_up(plot)], tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {f"{p.name}.svg" for p in plots.PLOTS}


def test_one_that_would_show_nothing_is_refused(tmp_path: Path) -> None:
    first, *others = plots.PLOTS
    with pytest.raises(ValueError, match=f"these plots show: {first.name}$"):
        plots.draw_all([one for plot in others for one in made_up(plot)], tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_value_is_of_ours() -> None:
    plot = next(plot for plot in plots.PLOTS if plot.name == "memory")
    (what,) = plot.what
    measured = [Value(plot.topic, what, "KiB", [7.0], at={plot.x: at}) for at in (1, 2)]
    assert plots.series(plot, measured) == ("KiB", [plots.Series("ours", "", {1: [7.0], 2: [7.0]})])


@pytest.mark.parametrize(
    ("heights", "apart"),
    [
        ([], []),
        ([0.1, 0.9], [0.1, 0.9]),
        ([0.5, 0.5], [0.45, 0.55]),
        ([0.1, 0.5, 0.5, 0.52], [0.1, 0.40667, 0.50667, 0.60667]),
        ([0.30, 0.42, 0.42], [0.28, 0.38, 0.48]),
    ],
)
def test_labels_stand_apart(heights: list[float], apart: list[float]) -> None:
    assert drawing._apart(heights, 0.1) == pytest.approx(apart, abs=1e-4)
