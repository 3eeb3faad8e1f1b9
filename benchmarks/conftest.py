"""What the benchmarks share, and the table of all figures that ends a run."""

import os
import platform
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from figures import Figures, Measurement, table
from floors import Floors

_MEASURED = pytest.StashKey[list[Measurement]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_MEASURED] = []
    config.option.benchmark_quiet = True  # its table is of rounds, whatever a round is


@pytest.fixture(scope="session")
def floors(tmp_path_factory: pytest.TempPathFactory) -> Floors:
    return Floors(tmp_path_factory.mktemp("floors"))


@pytest.fixture
def figures(benchmark: Any, request: pytest.FixtureRequest) -> Figures:
    topic = request.path.stem.removeprefix("test_")
    return Figures(benchmark, topic, request.config.stash[_MEASURED])


@pytest.fixture
def one_cpu() -> Iterator[None]:
    """This process on one CPU: the caches of both sides are the same."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    yield
    os.sched_setaffinity(0, before)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if not config.stash[_MEASURED]:
        return
    model = re.search(r"^model name\s*: (.*)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    terminalreporter.section("figures")
    terminalreporter.line(
        f"{model[1] if model else platform.machine()}, {os.cpu_count()} CPUs; "
        f"Linux {platform.release()}; Python {platform.python_version()}"
    )
    for line in table(config.stash[_MEASURED]):
        terminalreporter.line(line)
