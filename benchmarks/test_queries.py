"""Queries against the same system calls in plain C."""

import subprocess
from array import array
from collections.abc import Callable, Iterator

import pytest
from figures import Figures, nanoseconds
from floors import Floors

from taskstats import Client

QUERIES = 20_480


@pytest.fixture
def client() -> Iterator[Client]:
    with Client() as one:
        yield one


def against_floor(
    figures: Figures, floors: Floors, what: str, in_a_send: int, ask: Callable[[], object]
) -> None:
    command = [floors.program("queries"), str(QUERIES), str(in_a_send)]
    seen = figures.turns(
        {
            "ours": lambda: nanoseconds(ask) / QUERIES,
            "floor": lambda: float(subprocess.check_output(command)),
        }
    )
    figures.compare(what, seen)


def test_one_at_a_time(figures: Figures, floors: Floors, client: Client) -> None:
    def ask() -> None:
        for _ in range(QUERIES):
            client.pid(1)

    against_floor(figures, floors, "a query, one at a time", 1, ask)


def test_many_in_a_call(figures: Figures, floors: Floors, client: Client) -> None:
    ids = array("I", [1]) * QUERIES
    against_floor(figures, floors, "a query, many in a call", 512, lambda: client.pids(ids))
