"""The floor: compiled here, run between the rounds of what is measured against it."""

import statistics
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from taskstats import Client

ROUNDS = 15


@pytest.fixture(scope="session")
def floor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("floor") / "floor"
    source = Path(__file__).parent / "floor.c"
    subprocess.run(["cc", "-O2", "-Wall", "-Wextra", source, "-o", program], check=True)
    return program


@pytest.fixture
def client() -> Iterator[Client]:
    with Client() as one:
        yield one


@pytest.fixture
def against_floor(benchmark: Any, floor: Path) -> Callable[..., None]:
    """Runs the function and the floor in turn; the ratio of medians goes into the result."""

    def measure(function: Callable[[], object], queries: int, in_a_send: int) -> None:
        floors: list[float] = []

        def run_floor() -> None:
            command = [floor, str(queries), str(in_a_send)]
            floors.append(float(subprocess.check_output(command)))

        benchmark.pedantic(function, setup=run_floor, rounds=ROUNDS, warmup_rounds=1)
        ours = benchmark.stats.stats.median * 1e9 / queries
        theirs = statistics.median(floors[1:])
        benchmark.extra_info.update(
            ns_a_query=round(ours), floor_ns_a_query=round(theirs), ratio=round(ours / theirs, 2)
        )
        print(f"\n{ours:.0f} ns a query, floor {theirs:.0f} ns, ratio {ours / theirs:.2f}")

    return measure
