"""How a typed program uses the package. Read by mypy --strict, never run."""

import subprocess
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from typing import Any

import taskstats
from taskstats import Batch, Cost, ExitListener, ExitStats, Field, Finished, JobMonitor, Record
from taskstats.jobs import JobTracker, Usage
from taskstats.totals import Totals


def fields(record: Record) -> None:
    pid: int = record.ac_pid
    raw: bytes = record.ac_comm
    name: str = record.comm
    started: datetime = record.started_at
    code: int | None = record.exit_code
    waited: int = record.delays["blkio"].total_ns
    longest: int | None = record.delays["blkio"].max_ns
    group: Record | None = record.group
    described: Field[int] = Record.ac_pid
    unit: str = taskstats.FIELDS["ac_utime"].unit
    print(pid, raw, name, started, code, waited, longest, group, described, unit)


def queries(pids: Iterable[int]) -> tuple[Batch, Mapping[int, int]]:
    with taskstats.Client() as client:
        one: Record = client.pid()
        group: Record = client.tgid(one.ac_tgid)
        print(group.id)
        batch = client.pids(pids)
        return batch[1:3], batch.errors


def exits(cpus: str) -> Iterator[int]:
    with ExitListener(cpus) as listener:
        for batch in listener.batches(timeout=1.0):
            for record in batch:
                yield record.ac_pid
        stats: ExitStats = listener.stats()
        print(stats.lost, stats.cpus[0].cpu)


def failures(pid: int) -> str:
    try:
        return taskstats.cgroup_stats("/sys/fs/cgroup").source
    except taskstats.TaskstatsError as error:
        return f"{error.operation} {error.errno} {error.mend} {pid}"


def jobs(root: int, step: int) -> float | None:
    with taskstats.Client() as client, ExitListener() as listener:
        tracker = JobTracker(client.pids, remember=100)
        tracker.start(root, "job 1")
        tracker.attach(step, ("job", 2), subreaper=1)
        for batch in listener.batches(timeout=0.1):
            tracker.feed(batch)
        tracker.note_lost(listener.stats().lost)
        usage: Usage = tracker.close("job 1")
        totals: Totals = usage.commands["cc1"]
        print(usage.complete, [one.comm for one in usage.living], totals.delays["cpu"].count)
        return totals.cpu_seconds


def commands(pid: int) -> int | None:
    cost: Cost = taskstats.measure(["make", "-j4"], user="nobody", delays=True, probe="off")
    print(cost.cpu_ns, cost.usage.commands, cost.to_dict()["tree"])
    with JobMonitor(probe="require", remember=100) as monitor:
        process: subprocess.Popen[Any] = monitor.start(["make"], "a", cwd="/")
        monitor.start(pid, ("b", 1), subreaper=1)
        monitor.start("/system.slice", "c")
        monitor.attach(pid, "d")
        running: Usage = monitor.usage("a", living=True)
        finished: Finished = monitor.finish("a", timeout=1.5)
        print(process.pid, running.living, finished.usage.total, finished.complete)
        return finished.returncode
