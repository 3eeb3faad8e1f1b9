"""perf stat: counters that every process inherits."""

import subprocess

LESS = (
    "Commands: the sum over all processes, of none by itself. CPU time, page faults, switches; "
    "nothing of memory, I/O, delays, or of how any process ended."
)
MORE = (
    "Counts what the CPU counts, as cycles, instructions and cache misses, where there are such "
    "counters. Needs no rights for one's own processes where kernel.perf_event_paranoid allows it."
)

#: What stands before a command.
COMMAND = ("perf", "stat", "-o", "/dev/null")


def version() -> str:
    return subprocess.check_output(["perf", "--version"], text=True).strip()
