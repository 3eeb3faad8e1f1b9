"""Queries against their floor. Run: pytest benchmarks -s"""

from array import array
from collections.abc import Callable

from taskstats import Client

QUERIES = 20_480


def test_one_at_a_time(client: Client, against_floor: Callable[..., None]) -> None:
    def ask() -> None:
        for _ in range(QUERIES):
            client.pid(1)

    against_floor(ask, QUERIES, 1)


def test_many_in_a_call(client: Client, against_floor: Callable[..., None]) -> None:
    ids = array("I", [1]) * QUERIES
    against_floor(lambda: client.pids(ids), QUERIES, 512)
