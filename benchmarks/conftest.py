"""What the benchmarks share, and the table of all figures that ends a run."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
import run
from figures import Figures
from floors import Floors
from machine import machine
from report.terminal import table

pytest_addoption = run.add_options

_RUN = pytest.StashKey[run.Run]()


def pytest_configure(config: pytest.Config) -> None:
    config.option.benchmark_quiet = True  # its table is of rounds, whatever a round is
    config.stash[_RUN] = run.Run(config)
    config.pluginmanager.register(config.stash[_RUN])


@pytest.fixture(scope="session")
def floors(tmp_path_factory: pytest.TempPathFactory) -> Floors:
    return Floors(tmp_path_factory.mktemp("floors"))


@pytest.fixture
def figures(benchmark: Any, request: pytest.FixtureRequest) -> Figures:
    topic = request.path.stem.removeprefix("test_")
    return Figures(benchmark, topic, request.config.stash[_RUN].tell)


@pytest.fixture
def one_cpu() -> Iterator[None]:
    """This process on one CPU: the caches of both sides are the same."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    yield
    os.sched_setaffinity(0, before)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    ended = config.stash[_RUN]
    if ended.measured:
        terminalreporter.section("figures")
        facts = machine()
        terminalreporter.line(
            f"{facts['CPU']}, {facts['CPUs']} CPUs; Linux {facts['kernel']}; {facts['Python']}"
        )
        for line in table(ended.measured):
            terminalreporter.line(line)
    for line in ended.conclusion:
        terminalreporter.line(line, bold=True)
