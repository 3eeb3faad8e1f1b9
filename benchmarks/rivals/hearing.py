"""The driver for exits: one of those that are measured hears storms. See consumers.py.

Usage: python -m rivals.hearing NAME OPTIONS count|time STORM..., with the options of its `Exits` as
JSON, and the pids of the storms. `Exits(storms, **options)` has

    first()         hears one exit, so that whatever is made at first use is made
    count()         adds to `seen` how many records of the storms come
    each(take)      calls take(ac_ppid, ac_comm) for each record that comes
    seen, told()    how many it has counted, and what it says of losses and of its queues

and hears until KeyboardInterrupt; or handles SIGTERM itself, and returns.
"""

import ctypes
import json
import os
import resource
import signal
import sys
import time
from contextlib import suppress
from importlib import import_module

PR_SET_PDEATHSIG = 1


def cpu_time() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # it does not outlive the run
    name, options, mode, *pids = sys.argv[1:]
    storms = frozenset(map(int, pids))
    late: list[int] = []

    def take(ppid: int, comm: bytes) -> None:
        now = time.monotonic_ns()
        if ppid in storms:
            late.append(now - int(comm.rstrip(b"\0"), 16))

    exits = import_module(f"rivals.{name}").Exits(storms, **json.loads(options))
    os.waitpid(os.posix_spawn("/bin/false", ["false"], {}), 0)  # one that also a filter lets in
    exits.first()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    before = cpu_time()
    print("ready", flush=True)
    with suppress(KeyboardInterrupt):
        if mode == "count":
            exits.count()
        else:
            exits.each(take)
    used = cpu_time() - before
    heard = {"records": exits.seen + len(late), "cpu_ns": round(used * 1e9)}
    print(json.dumps(heard | exits.told() | {"late_ns": late}), flush=True)
    os._exit(0)  # an event loop that was left would complain


main()
