"""What it costs to have the package: import, memory, a listener when hardly anything exits."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
from consumers import floor
from fake_exits import FakeExits
from figures import Figures
from floors import Floors
from support.task import until

import taskstats
from taskstats.host import exits_by_the_books

ROUNDS = 5
SECONDS = 2  # of a round in which hardly anything exits
TRIES = 3  # to have one in which nothing does

N_CPUS = os.sysconf("SC_NPROCESSORS_CONF")
CPUS = f"0-{N_CPUS - 1}"

#: NETLINK_NO_ENOBUFS: where others exit all the same, an overrun ends no listener.
NO_ENOBUFS = "setsockopt(270, 5, 1)"


@dataclass(frozen=True)
class Statements:
    """A program's statements, of which a test needs some; each as short as it can be written."""

    imports: str
    query: str  # the first
    listen: str
    hear: str  # for ever


TOOLS = {
    "ours": Statements(
        "import taskstats",
        "client = taskstats.Client(); client.pid()",
        "listener = taskstats.ExitListener()",
        "for _batch in listener.batches(): pass",
    ),
    "sockets": Statements(
        "from rivals.sockets import Queries, message",
        "client = Queries(); client.one(os.getpid())",
        f"client = Queries(); client._socket.send(message(client._family, 1, 3, b'{CPUS}\\0'))",
        f"client._socket.{NO_ENOBUFS}\nwhile True: client._socket.recv(65536)",
    ),
    "pyroute2": Statements(
        "from pyroute2 import TaskStats",
        "client = TaskStats(); client.bind(); client.get_pid_stat(os.getpid())",
        f"client = TaskStats(); client.bind(); client.register_mask('{CPUS}')",
        f"client.{NO_ENOBUFS}\nwhile True: client.get()",
    ),
}
PSUTIL = Statements("import psutil", "client = psutil.Process(); client.cpu_times()", "", "")
NOTHING = Statements("", "", "", "")


# ---- fresh interpreters ----------------------------------------------------------------------


def command(*statements: str) -> list[str]:
    """Without what an environment imports at every start, and no tool would have to then."""
    return [sys.executable, "-S", "-c", "\n".join(["import os", *statements])]


def surroundings() -> dict[str, Any]:
    """Where such an interpreter finds what is measured."""
    places = {str(Path(module.__file__).parents[1]) for module in (taskstats, psutil)}
    return {
        "cwd": Path(__file__).parent,
        "env": os.environ | {"PYTHONPATH": os.pathsep.join(places)},
    }


@contextmanager
def started(command: list[Any]) -> Iterator[int]:
    """The pid of a program that has said "ready", and must not end by itself."""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **surroundings()
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process.pid
            assert process.poll() is None
        finally:
            process.kill()


# ---- importing -------------------------------------------------------------------------------


def import_ms(tool: Statements) -> tuple[float, float]:
    """Until it is imported, and until it has made the first query."""
    printed = subprocess.check_output(
        command(
            "from time import perf_counter_ns as now",
            "start = now()",
            tool.imports,
            "imported = now()",
            tool.query,
            "print(imported - start, now() - start)",
        ),
        **surroundings(),
    )
    imported, asked = (int(ns) / 1e6 for ns in printed.split())
    return imported, asked


@pytest.mark.usefixtures("one_cpu")
def test_import(figures: Figures) -> None:
    tools = TOOLS | {"psutil": PSUTIL}
    seen = figures.turns({name: partial(import_ms, tool) for name, tool in tools.items()})
    for at, what in enumerate(("import", "import and the first query")):
        figures.compare(
            what, {name: [both[at] for both in times] for name, times in seen.items()}, "ms"
        )


# ---- memory ----------------------------------------------------------------------------------


def resident(pid: int | str = "self") -> float:
    """MiB, counted page by page: VmRSS is only near it."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = re.search(r"^Rss:\s+(\d+) kB", rollup, re.MULTILINE)
    assert found
    return int(found[1]) / 1024


def resident_with(*statements: str) -> float:
    with started(command(*statements, "print('ready', flush=True)", "input()")) as pid:
        return resident(pid)


def test_memory(figures: Figures) -> None:
    asking = TOOLS | {"psutil": PSUTIL, "an empty interpreter": NOTHING}
    listening = TOOLS | {"an empty interpreter": NOTHING}
    programs = {
        "a client": {name: (tool.imports, tool.query) for name, tool in asking.items()},
        "a listener": {name: (tool.imports, tool.listen) for name, tool in listening.items()},
    }
    seen = figures.turns(
        {
            f"{what}, {name}": partial(resident_with, *statements)
            for what, sides in programs.items()
            for name, statements in sides.items()
        },
        rounds=ROUNDS,
        warm_up=0,
    )
    for what, sides in programs.items():
        figures.compare(
            f"resident with {what}", {name: seen[f"{what}, {name}"] for name in sides}, "MiB"
        )


FILL = 5 * 4096  # records: five batches
FILLS = 49  # in a round: a million records
POINTS = 10
MOST_GROWTH = 8  # MiB


@pytest.mark.usefixtures("one_cpu")
def test_memory_over_time(figures: Figures, floors: Floors) -> None:
    with FakeExits(floors) as exits:

        def a_million_records() -> tuple[int, list[float]]:
            after_each = []
            for _ in range(FILLS):
                exits.send(exits.ports[0], FILL)
                exits.drain(FILL)
                after_each.append(resident())
            return exits.listener.stats().received, after_each

        seen = figures.turns({"ours": a_million_records}, rounds=POINTS)["ours"]
        exits.check()
    for records, after_each in seen:
        figures.value("resident while it hears", after_each[-1:], "MiB", at={"records": records})
    _, first = seen[0]
    growth = max(max(after_each) for _, after_each in seen) - first[0]
    figures.value("resident while it hears, most growth", [growth], "MiB", at_most=MOST_GROWTH)


# ---- hardly anything exits -------------------------------------------------------------------


def used(pid: int) -> tuple[int, int]:
    """ns on a CPU and wakeups of all threads, until now."""
    tasks = list(Path(f"/proc/{pid}/task").iterdir())
    on_cpu = sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)
    statuses = "".join((task / "status").read_text() for task in tasks)
    waits = re.findall(r"^voluntary_ctxt_switches:\s+(\d+)", statuses, re.MULTILINE)
    return on_cpu, sum(map(int, waits))


def hear_an_exit(pids: dict[str, int]) -> None:
    """Each wakes for it, or does not listen."""
    before = {name: used(pid) for name, pid in pids.items()}
    subprocess.run(["true"], check=True)
    until(lambda: all(used(pid)[1] > before[name][1] for name, pid in pids.items()))


@dataclass(frozen=True)
class Idle:
    """What came to pass in a round: exits, and of each tool ns on a CPU and wakeups."""

    exits: int
    ns: dict[str, int]
    wakeups: dict[str, int]


def idle(pids: dict[str, int]) -> Idle:
    """A round without an exit; if others leave none such, one with: it tells how many."""
    for _ in range(TRIES):
        exits, before = exits_by_the_books(), {name: used(pid) for name, pid in pids.items()}
        time.sleep(SECONDS)
        after = {name: used(pid) for name, pid in pids.items()}
        exits = exits_by_the_books() - exits
        if not exits:
            break
    ns, wakeups = ({name: after[name][i] - before[name][i] for name in pids} for i in (0, 1))
    return Idle(exits, ns, wakeups)


def test_hardly_anything_exits(figures: Figures, floors: Floors) -> None:
    """All listen at the same time, so that what exits all the same, they all hear."""
    programs: dict[str, list[Any]] = {
        name: command(tool.imports, tool.listen, "print('ready', flush=True)", tool.hear)
        for name, tool in TOOLS.items()
    }
    programs["eager"] = [*floor(floors.program("eager")), "count", "1"]
    with ExitStack() as stack:
        pids = {name: stack.enter_context(started(program)) for name, program in programs.items()}
        hear_an_exit(pids)
        seen = figures.turns({"all": partial(idle, pids)}, rounds=ROUNDS, warm_up=0)["all"]
    exits = [one.exits / SECONDS for one in seen]
    figures.value("a listener when hardly anything exits: exits", exits, "/s")
    for name in programs:
        at = {"tool": name}
        us = [one.ns[name] / 1e3 / SECONDS for one in seen]
        wakeups = [one.wakeups[name] / SECONDS for one in seen]
        figures.value("a listener when hardly anything exits: CPU time", us, "us/s", at=at)
        figures.value("a listener when hardly anything exits: wakeups", wakeups, "/s", at=at)
