"""Measures final CPU times against the kernel's own accounts, and fails if a bound is missed.

A package is built in a cgroup of its own: the final CPU times of its tasks must add up to the
cgroup's usage. Then, under several loads: what the living tasks used and the final CPU times of
those that ended must add up to the usage of the root cgroup.

Exit status: 0 if all bounds hold, 1 if one is missed or cannot be measured, 77 if a part is
skipped; the reason is printed.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path

import pytest
from support import cgroups, compiled
from support.requirements import needs_probe, needs_processes
from support.storm import CPUS, everywhere

from proof.balance import balance, snapshot
from proof.reader import Reader
from proof.source import CannotBeHadError, unpacked
from taskstats import Client

SKIPPED = 77  # as Automake has it

PACKAGE = "hello"
BUILD = "./configure -q && make -s -j4"
SECONDS = 5.0
BUILD_BOUND = 0.001
BALANCE_BOUND = 0.0005
LIVING = 1000

_BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


class _NoMeasurementError(Exception):
    pass


def _checked(reader: Reader) -> None:
    print(f"    {reader.stats.probe}; records lost: {reader.stats.lost}")
    if problem := reader.problem():
        raise _NoMeasurementError(problem)


def build(source: Path) -> bool:
    """Compare the final CPU times of a build with its cgroup's usage."""
    with cgroups.made() as cgroup:
        inode = cgroup.stat().st_ino
        with Reader() as reader:
            _, before = cgroups.run_in(cgroup, ["sh", "-c", BUILD], source)
        usage = cgroups.usage(cgroup)  # now: the last tasks have left their CPU
    _checked(reader)
    ends = [one for one in reader.ends() if one.cgroup_id == inode]
    missing = usage - (sum(one.final_cpu_ns for one in ends) - before)
    print(
        f"    {PACKAGE}, make -j4: {len(ends):,} tasks, cgroup {usage:,} ns, "
        f"missing {missing:,} ns ({missing / usage:.4%}); bound {BUILD_BOUND:.2%}"
    )
    return abs(missing) <= BUILD_BOUND * usage


def whole(root: Path, load: Callable[[], AbstractContextManager[object]]) -> bool:
    """Compare all tasks of the machine with the root cgroup's usage, under a load."""
    with Client() as client, Reader() as reader, load():
        begin = snapshot(client, root)
        time.sleep(SECONDS)
        end = snapshot(client, root)
    _checked(reader)
    ends = reader.ends()
    found = balance(begin, end, ends)
    bound = BALANCE_BOUND * found.usage + found.bound
    print(
        f"    {found.tasks:,} living, {len(ends):,} ended, root {found.usage:,.0f} ns, missing "
        f"{found.residual:,.0f} ns ({found.residual / found.usage:.4%}); without final figures "
        f"{found.residual + found.ended:,.0f} ns; bound {bound:,.0f} ns, of which "
        f"{found.bound:,.0f} for the width of the snapshots"
    )
    return abs(found.residual) <= bound


@contextmanager
def running(*commands: list[str]) -> Iterator[None]:
    """Run commands until the end of the block, each in a process group of its own."""
    started = [
        subprocess.Popen(
            command, process_group=0, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for command in commands
    ]
    try:
        yield
    finally:
        for process in started:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextmanager
def living() -> Iterator[None]:
    """Keep 1,000 processes that wait."""
    command = [compiled.program("tasks", _BENCHMARKS), str(LIVING)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        if len(process.stdout.readline().split()) < LIVING:
            raise _NoMeasurementError(f"no room for {LIVING:,} processes")
        yield


def _holds(name: str, measure: Callable[[], bool]) -> bool:
    """Measure, and once more if the first run was no measurement."""
    print(f"{name}:")
    problem = ""
    for _ in range(2):
        try:
            holds = measure()
        except _NoMeasurementError as error:
            problem = f"no measurement: {error}"
            print(f"    {problem}")
        else:
            print("    holds" if holds else "    THE BOUND IS MISSED")
            return holds
    return False


def main() -> int:
    needs_probe()
    needs_processes()
    compiled.program("storm")
    compiled.program("tasks", _BENCHMARKS)
    skipped = []
    results = []
    root = cgroups.mount_of(None)
    loads: dict[str, Callable[[], AbstractContextManager[object]]] = {
        "idle": nullcontext,
        "storm of processes": lambda: everywhere("processes"),
        "storm of threads": lambda: everywhere("threads"),
        "all CPUs busy": lambda: running(*[["sh", "-c", "while :; do :; done"]] * len(CPUS)),
        f"{LIVING:,} living tasks": living,
    }
    with tempfile.TemporaryDirectory() as folder:
        try:
            source = unpacked(PACKAGE, Path(folder))
        except CannotBeHadError as reason:
            skipped.append(f"the build: {reason}")
        else:
            results.append(_holds("a build in its own cgroup", lambda: build(source)))
            again = f"cd {source} && while make -s clean && make -s -j4; do :; done"
            loads["the build, repeated"] = lambda: running(["sh", "-c", again])
        if (root / "cpuacct.usage").exists():
            for name, load in loads.items():
                results.append(
                    _holds(f"the whole machine, {name}", lambda load=load: whole(root, load))
                )
        else:  # kernel/cgroup/rstat.c:root_cgroup_cputime counts ticks
            skipped.append("the whole machine: version 2 has no exact usage of the root cgroup")
    for reason in skipped:
        print(f"skipped: {reason}")
    if not all(results):
        return 1
    return SKIPPED if skipped else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except pytest.skip.Exception as reason:
        print(f"skipped: {reason}")
        sys.exit(SKIPPED)
