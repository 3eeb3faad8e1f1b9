"""docs/benchmarks.md is what the code makes of the results beside it."""

import re
from pathlib import Path

import noise
import pytest
import report
from report import plots

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def results() -> report.Results:
    return report.read(DOCS)


def test_the_page_is_up_to_date(results: report.Results) -> None:
    made = report.page(results)
    assert made == (DOCS / report.PAGE).read_text(), "PYTHONPATH=benchmarks python -m report docs"


def test_its_machine_was_quiet(results: report.Results) -> None:
    samples = {when: noise.Sample(**seen) for when, seen in results.noise.items()}
    assert len(samples) == 3
    assert noise.complaints(samples) == []


def test_every_plot_is_there_and_on_the_page(results: report.Results) -> None:
    drawn = {path.stem for path in (DOCS / "benchmarks").glob("*.svg")}
    shown = set(re.findall(r"\(benchmarks/(.+)\.svg\)", (DOCS / report.PAGE).read_text()))
    # What nobody had measured yet when the run was made, its page cannot show.
    topics = {one.topic for one in results.measurements}
    assert drawn == shown == {plot.name for plot in plots.PLOTS if plot.topic in topics}
