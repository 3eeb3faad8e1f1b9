"""Asks through one rival as it is told, in the same way for all. Usage: -m rivals.asking NAME

An order is a line of JSON: [how, pids, times]. The answer is the ns that a way in `ways` took;
to "show" it is what was read of each task. See askers.py.
"""

import json
import sys
from array import array
from collections.abc import Sequence
from importlib import import_module
from time import perf_counter_ns


def main() -> None:
    rival = import_module(f"rivals.{sys.argv[1]}")
    queries = rival.Queries()
    ask, figures = queries.one, rival.figures

    def one(pids: Sequence[int], times: int) -> None:
        for pid in pids * times:
            ask(pid)

    def one_read(pids: Sequence[int], times: int) -> None:
        for pid in pids * times:
            figures(ask(pid))

    def many(pids: Sequence[int], times: int) -> None:
        for _ in range(times):
            queries.many(pids)

    def many_read(pids: Sequence[int], times: int) -> None:
        for _ in range(times):
            for answer in queries.many(pids):
                figures(answer)

    ways = {"one": one, "one, read": one_read, "many": many, "many, read": many_read}
    for line in sys.stdin:
        how, pids, times = json.loads(line)
        ids = array("I", pids)
        if how == "show":
            shown = [figures(ask(pid)) for pid in ids]
            if hasattr(queries, "many"):
                assert [figures(answer) for answer in queries.many(ids)] == shown
            print(json.dumps(shown), flush=True)
            continue
        start = perf_counter_ns()
        ways[how](ids, times)
        print(perf_counter_ns() - start, flush=True)


main()
