"""Runs the tests on the kernels that are named, or on all of them; ends with a table.

Exit status: 0 if all passed, 1 if any failed, 77 if one that was named is skipped.
"""

import signal
import sys
import time
from pathlib import Path

from machines import cross, qemu, uml
from machines.guest import ROOT
from machines.result import Broken, CannotBeHad, Result, table
from machines.table import MACHINES, Machine

SKIPPED = 77  # as Automake has it

WAYS = {"uml": uml.run, "qemu": qemu.run, "cross": cross.run}


def run(machine: Machine, cache: Path) -> Result:
    """Runs one, whatever becomes of it."""
    started = time.monotonic()
    try:
        return WAYS[machine.way](machine, cache / machine.name)
    except CannotBeHad as reason:
        return Result(machine.name, "skipped", str(reason))
    except Broken as problem:
        seconds = time.monotonic() - started
        return Result(machine.name, "failed", str(problem), seconds=seconds)


def main(names: list[str]) -> int:
    unknown = set(names) - {one.name for one in MACHINES}
    if unknown:
        known = ", ".join(one.name for one in MACHINES)
        sys.exit(f"no such kernel: {', '.join(sorted(unknown))}; there are {known}")
    chosen = [one for one in MACHINES if not names or one.name in names]
    results = []
    for machine in chosen:
        print(f"\n== {machine.name}", flush=True)
        results.append(run(machine, ROOT / "build" / "machines"))
    print(f"\n{table(results)}", flush=True)
    outcomes = {one.outcome for one in results}
    if "failed" in outcomes:
        return 1
    return SKIPPED if names and "skipped" in outcomes else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # and no guest stays
    sys.exit(main(sys.argv[1:]))
