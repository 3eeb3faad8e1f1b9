"""What becomes of a run: its results as JSON, and a page with tables and plots made from them."""

from pathlib import Path

from report.page import page
from report.plots import draw_all
from report.results import Results, read, write

__all__ = ["PAGE", "Results", "make", "page", "publish", "read"]

#: Below the directory that is published to.
PAGE = "benchmarks.md"


def publish(results: Results, directory: Path) -> None:
    """Writes results.json, and the rest from it."""
    write(results, directory)
    make(directory)


def make(directory: Path) -> None:
    """Makes page and plots from the results that are there."""
    results = read(directory)
    draw_all(results.measurements, directory / "benchmarks")
    (directory / PAGE).write_text(page(results), encoding="utf-8")
