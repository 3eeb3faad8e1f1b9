"""Queries about 1 to 10,000 processes, against the same system calls in C and against rivals.

Ours and pyroute2 decode no figure until it is read; sockets and psutil return all of theirs
decoded. So those two are compared only where the others' figures are read as well. The floor reads
none anywhere.
"""

import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TypeAlias

import pytest
from askers import Asker
from figures import Figures
from floors import Floors
from tasks import Tasks

pytestmark = pytest.mark.usefixtures("one_cpu")

TASKS = (1, 10, 100, 1_000, 10_000)
ROUNDS, ROUNDS_OF_MOST = 9, 5

#: Queries in a round at least, so that it takes long enough to be measured.
QUERIES = {"pyroute2": 500, "psutil": 1_000}
QUERIES_OF_OTHERS = 10_000

#: How each of them can be asked; what sockets and psutil return has been read.
WAYS = {
    "ours": ("one", "one, read", "many", "many, read"),
    "pyroute2": ("one", "one, read", "awaited", "awaited, read", "many", "many, read"),
    "sockets": ("one",),
    "psutil": ("one",),
}

#: Requests in a send of the floor, as in one of ours.
TOGETHER = 512

#: What is told -> side -> what was measured.
COMPARISONS = {
    "a query, one in a call": {
        "ours": "ours, one",
        "floor": "floor, one",
        "pyroute2": "pyroute2, one",
        "pyroute2, asyncio": "pyroute2, awaited",
    },
    "a query, many in a call": {
        "ours": "ours, many",
        "floor": "floor, many",
        "ours, one in a call": "ours, one",
        "pyroute2": "pyroute2, one",
        "pyroute2, asyncio": "pyroute2, awaited",
        "pyroute2, in batches": "pyroute2, many",
    },
    "a query and its figures read, one in a call": {
        "ours": "ours, one, read",
        "floor": "floor, one",
        "sockets": "sockets, one",
        "pyroute2": "pyroute2, one, read",
        "pyroute2, asyncio": "pyroute2, awaited, read",
        "psutil": "psutil, one",
    },
    "a query and its figures read, many in a call": {
        "ours": "ours, many, read",
        "floor": "floor, many",
        "sockets": "sockets, one",
        "pyroute2": "pyroute2, one, read",
        "pyroute2, asyncio": "pyroute2, awaited, read",
        "pyroute2, in batches": "pyroute2, many, read",
        "psutil": "psutil, one",
    },
    "a query, the shim alone": {"ours": "shim, one", "floor": "floor, one"},
}

#: With how many tasks which ratios are wanted.
TARGETS = {
    "a query, one in a call": (
        (1,),
        {"floor": 1.5, "pyroute2": 1 / 25, "pyroute2, asyncio": 1 / 25},
    ),
    "a query, many in a call": (
        (1_000, 10_000),
        {"floor": 1.10, "pyroute2": 1 / 50, "pyroute2, in batches": 1 / 50},
    ),
    "a query, the shim alone": ((1,), {"floor": 1.25}),
}

Askers: TypeAlias = dict[str, Asker]


@pytest.fixture(scope="module")
def tasks() -> Iterator[Tasks]:
    with Tasks(max(TASKS)) as made:
        yield made


@pytest.fixture
def askers() -> Iterator[Askers]:
    with ExitStack() as opened:
        yield {name: opened.enter_context(Asker(name)) for name in WAYS}


def program_ns(program: Path, pids: Sequence[int], times: int, *options: int) -> float:
    """ns a query of a program in C."""
    command = [program, str(times), *map(str, options)]
    return float(subprocess.check_output(command, input=" ".join(map(str, pids)), text=True))


def all_ways(floors: Floors, askers: Askers, pids: Sequence[int]) -> dict[str, Callable[[], float]]:
    """Each way of asking about these by its name: ns a query."""
    times = {
        name: max(1, QUERIES.get(name, QUERIES_OF_OTHERS) // len(pids))
        for name in ("floor", "shim", *WAYS)
    }
    floor, shim = floors.program("queries"), floors.program("shim")
    ways: dict[str, Callable[[], float]] = {
        "floor, one": partial(program_ns, floor, pids, times["floor"], 1),
        "floor, many": partial(program_ns, floor, pids, times["floor"], TOGETHER),
        "shim, one": partial(program_ns, shim, pids, times["shim"]),
    }
    for name, asker in askers.items():
        for how in WAYS[name]:
            ways[f"{name}, {how}"] = partial(asker.ns, how, pids, times[name])
    return ways


def all_read_the_same(askers: Askers, pids: Sequence[int]) -> None:
    seen = {name: asker.figures(pids) for name, asker in askers.items()}
    assert seen["ours"] == seen["sockets"] == seen["pyroute2"]
    for name in ("comm", "read_bytes", "write_bytes"):
        assert [one[name] for one in seen["psutil"]] == [one[name] for one in seen["ours"]]


@pytest.mark.parametrize("n", TASKS)
def test_queries(figures: Figures, floors: Floors, askers: Askers, tasks: Tasks, n: int) -> None:
    all_read_the_same(askers, [tasks.pid, *tasks.pids[:100]])
    seen = figures.turns(
        all_ways(floors, askers, tasks.pids[:n]),
        rounds=ROUNDS_OF_MOST if n == max(TASKS) else ROUNDS,
    )
    for what, sides in COMPARISONS.items():
        wanted_at, targets = TARGETS.get(what, ((), {}))
        figures.compare(
            what,
            {side: seen[way] for side, way in sides.items()},
            at={"tasks": n},
            targets=targets if n in wanted_at else None,
        )
