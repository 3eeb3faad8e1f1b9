"""A consumer of exits through this package, as it is by default. See consumers.py.

Usage: taskstats_exits.py CPUS STORM [all|failed [MILLISECONDS]]; those of latency.
"""

import os
import resource
import signal
import sys
from typing import Any

import numpy as np

import taskstats
from taskstats.fields import FIELDS
from taskstats.rows import ROW, STATS_AT

# Only what tells the storm's records: its own dtype, so that no other column costs.
IDENTITY = ("ac_pid", "ac_ppid", "ac_tgid")
DTYPE = np.dtype(
    {
        "names": IDENTITY,
        "offsets": [STATS_AT + FIELDS[name].offset for name in IDENTITY],
        "formats": ["u4"] * len(IDENTITY),
        "itemsize": ROW,
    }
)
#: Below so many records lists are faster than arrays.
FEW = 100


def cpu_time() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def count(batch: taskstats.Batch, storm: int) -> int:
    """The records of threads of the storm, or of processes that it made."""
    if len(batch) < FEW:
        pids, ppids, tgids = (list(batch.columns[name]).count(storm) for name in IDENTITY)
        return ppids + tgids - pids
    rows = np.frombuffer(batch.data, DTYPE)
    thread = (rows["ac_tgid"] == storm) & (rows["ac_pid"] != storm)
    return int(np.count_nonzero(thread | (rows["ac_ppid"] == storm)))


def main() -> None:
    storm = int(sys.argv[2])
    options: dict[str, Any] = {}
    if sys.argv[3:4] == ["failed"]:
        options["where"] = taskstats.Where(failed=True)
    if sys.argv[4:]:
        options["max_latency"] = int(sys.argv[4]) / 1000

    with taskstats.ExitListener(**options) as listener:
        batches = listener.batches()
        # One exit that fails, so that whatever is made at first use is made.
        os.waitpid(os.posix_spawn("/bin/false", ["false"], {}), 0)
        seen = count(next(batches), storm)
        signal.signal(signal.SIGTERM, lambda *_: listener.stop())
        before = cpu_time()
        print("ready", flush=True)
        for batch in batches:
            seen += count(batch, storm)
        used = cpu_time() - before
    stats = listener.stats()
    print(seen, round(used * 1e9), stats.lost, stats.wakeups)


main()
