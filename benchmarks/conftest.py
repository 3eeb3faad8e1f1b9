"""What the benchmarks share, and the table of all figures that ends a run."""

import os
import platform
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from figures import Figures, Line, table
from floors import Floors

_LINES = pytest.StashKey[list[Line]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_LINES] = []
    config.option.benchmark_quiet = True  # its table is of rounds, whatever a round is


@pytest.fixture(scope="session")
def floors(tmp_path_factory: pytest.TempPathFactory) -> Floors:
    return Floors(tmp_path_factory.mktemp("floors"))


@pytest.fixture
def figures(benchmark: Any, request: pytest.FixtureRequest) -> Figures:
    return Figures(benchmark, request.config.stash[_LINES])


@pytest.fixture
def one_cpu() -> Iterator[None]:
    """This process on one CPU: the caches of both sides are the same."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    yield
    os.sched_setaffinity(0, before)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if not config.stash[_LINES]:
        return
    model = re.search(r"^model name\s*: (.*)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    terminalreporter.section("figures")
    terminalreporter.line(
        f"{model[1] if model else platform.machine()}, {os.cpu_count()} CPUs; "
        f"Linux {platform.release()}; Python {platform.python_version()}"
    )
    for line in table(config.stash[_LINES]):
        terminalreporter.line(line)
