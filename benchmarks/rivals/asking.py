"""Asks through one rival as it is told, in the same way for all. Usage: -m rivals.asking NAME

An order is a line of JSON: [how, pids, times]. The answer is the ns that a way in `ways` took;
to "show" it is what was read of each task. See askers.py.
"""

import asyncio
import json
import sys
from array import array
from collections.abc import Sequence
from importlib import import_module
from time import perf_counter_ns


def main() -> None:
    rival = import_module(f"rivals.{sys.argv[1]}")
    figures, queries = rival.figures, rival.Queries()
    ask = queries.one
    in_loop = asyncio.new_event_loop().run_until_complete
    if hasattr(rival, "AsyncQueries"):
        async_queries = rival.AsyncQueries()
        in_loop(async_queries.open())

    def one(pids: Sequence[int], times: int) -> None:
        for pid in pids * times:
            ask(pid)

    def one_read(pids: Sequence[int], times: int) -> None:
        for pid in pids * times:
            figures(ask(pid))

    # The loop runs while all are asked: what entering it takes, they share.
    async def awaited(pids: Sequence[int], times: int) -> None:
        for pid in pids * times:
            await async_queries.one(pid)

    async def awaited_read(pids: Sequence[int], times: int) -> None:
        for pid in pids * times:
            figures(await async_queries.one(pid))

    def many(pids: Sequence[int], times: int) -> None:
        for _ in range(times):
            queries.many(pids)

    def many_read(pids: Sequence[int], times: int) -> None:
        for _ in range(times):
            for answer in queries.many(pids):
                figures(answer)

    async def awaited_shown(pids: Sequence[int]) -> list[dict[str, object]]:
        return [figures(await async_queries.one(pid)) for pid in pids]

    def show(pids: Sequence[int]) -> list[dict[str, object]]:
        shown = [figures(ask(pid)) for pid in pids]
        if hasattr(rival, "AsyncQueries"):
            assert in_loop(awaited_shown(pids)) == shown
        if hasattr(queries, "many"):
            assert [figures(answer) for answer in queries.many(pids)] == shown
        return shown

    ways = {
        "one": one,
        "one, read": one_read,
        "awaited": lambda *order: in_loop(awaited(*order)),
        "awaited, read": lambda *order: in_loop(awaited_read(*order)),
        "many": many,
        "many, read": many_read,
    }
    for line in sys.stdin:
        how, pids, times = json.loads(line)
        ids = array("I", pids)
        if how == "show":
            print(json.dumps(show(ids)), flush=True)
            continue
        start = perf_counter_ns()
        ways[how](ids, times)
        print(perf_counter_ns() - start, flush=True)


main()
