"""The cost of a command, made up."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from taskstats import launch
from taskstats.cost import Cost
from taskstats.jobs import EndedProcess, Usage
from taskstats.records import Delay
from taskstats.totals import Totals

S = 1_000_000_000

TOTAL = Totals(
    processes=3,
    threads=4,
    unsettled=4,
    cpu_ns=S,
    statuses={0: 2, 1: 1},
    signals={},
    longest_seconds=0.143,
    delay_exceeds_elapsed=0,
    sums={"cpu_run_virtual_total": S, "hiwater_rss": 2048, "cpu_count": 1, "cpu_delay_total": 5},
)


def process(pid: int, ppid: int, comm: str) -> EndedProcess:
    return EndedProcess(
        pid=pid,
        ppid=ppid,
        comm=comm,
        cpu_ns=S // 3,
        elapsed_us=1000,
        status=0,
        received_ns=0,
    )


def delay(count: int, total_ns: int, max_ns: int) -> Delay:
    return Delay(count, total_ns, max_ns, None, None, None, None)


USAGE = Usage(
    id="run",
    root=10,
    attached=False,
    total=TOTAL,
    commands={"make": dataclasses.replace(TOTAL, processes=1), "cc1": TOTAL},
    executables={(1, 2): TOTAL},
    living=(),
    processes=(process(10, 1, "make"), process(11, 10, "cc1"), process(12, 10, "cc1")),
    forgotten=0,
    lost=0,
    undecided=0,
    evicted=0,
    births_lost=False,
    unclear=0,
    settled_until=None,
)


def cost(
    wait4_ns: int = S,
    cgroup_ns: int | None = None,
    status: int = 0,
    *,
    settled: bool = True,
    waited: Mapping[str, Delay] = MappingProxyType({}),
    **changed: Any,
) -> Cost:
    ended = launch.Ended(
        status, 2 * S, launch.Usage(user_ns=wait4_ns), launch.Usage(system_ns=S // 100), 0, 0
    )
    return Cost(
        ("make", "-j4"),
        10,
        ended,
        waited,
        dataclasses.replace(USAGE, **changed),
        cgroup_ns,
        settled,
    )
