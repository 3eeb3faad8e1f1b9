"""`taskstats query`: the accounting of tasks and processes that live."""

import errno
import os
from collections.abc import Iterable, Mapping
from typing import Any

import click

from taskstats import fixes, host
from taskstats.cgroups.hierarchies import cgroup_of, choose
from taskstats.cli import columns, formats, options, tables, texts
from taskstats.cli.formats import Format
from taskstats.client import Client
from taskstats.endpoint import KERNEL, Endpoint
from taskstats.fields import DELAY_FIELDS, FIELDS
from taskstats.records import Record

_ID = click.IntRange(0, 2**32 - 1)


@click.command()
@options.formats
@click.option("--tgid", "as_groups", is_flag=True, help="Whole processes: the sums over threads.")
@click.option("--all", "everything", is_flag=True, help="Every process in this PID namespace.")
@options.cgroup_hierarchy
@click.argument("pids", metavar="[PID]...", type=_ID, nargs=-1)
@click.pass_obj
def query(
    endpoint: Endpoint | None,
    format_name: str | None,
    as_groups: bool,
    everything: bool,
    hierarchy: str | None,
    pids: tuple[int, ...],
) -> None:
    """Ask for the accounting of each PID, one task (a thread) each.

    With --tgid PID is a process, or any of its threads: times, delays and switches are the
    kernel's sums over its threads; name, user, age and memory are its leader's. What the kernel
    does not sum over a process (faults, I/O) is absent then.

    Delays other than that for a CPU are measured only for tasks started while
    kernel.task_delayacct is 1; n/m stands where they were not. "?" behind a delay: in doubt,
    since one is longer than its task has lived, a kernel bug.

    CGROUP is read from /proc a moment later: "-" if the task has ended.

    \b
    Exit status: 1 if one of the PIDs could not be had.
    """
    if everything == bool(pids):
        raise click.UsageError("give PIDs, or --all")
    ids = _every_pid() if everything else pids
    with Client(endpoint=endpoint or KERNEL) as client:
        rows, failed = (_processes if as_groups or everything else _tasks)(client, ids)
    _add_cgroups(rows, hierarchy)
    output = _output(format_name, rows, whole=as_groups or everything)
    output.head()
    output.rows(rows)
    if any(texts.is_unmeasured(row, name) for row in rows for name in DELAY_FIELDS):
        output.note(_why_not_measured())
    if any(texts.is_doubtful(row, name) for row in rows for name in FIELDS):
        output.note("?: in doubt, since one is longer than its task has lived, a kernel bug")
    if any(row["kind"] == "process" and row["threads"] is None for row in rows):
        output.note(f"{texts.ABSENT} under THR: {_why_no_threads()}")
    if output.left_out:
        output.note(output.left_out)
    if everything:  # what ended meanwhile was not asked for
        failed = {pid: error for pid, error in failed.items() if error != errno.ESRCH}
    for pid, error in failed.items():
        click.echo(f"taskstats: pid {pid}: {os.strerror(error)}", err=True)
    if failed:
        raise SystemExit(1)


def _every_pid() -> list[int]:
    view = host.proc_view()
    if view == "whole":
        return host.processes()
    fix = fixes.for_proc(view, "query --all")
    raise click.ClickException(f"--all: {host.VIEWS[view]}. Try: {fix}")


def _output(format_name: str | None, rows: list[dict[str, Any]], whole: bool) -> Format:
    if format_name:
        names = {name for row in rows for name in row}
        known = dict.fromkeys([*options.PROCESS_NAMES, *options.RECORD_NAMES])
        return formats.for_programs(format_name, [name for name in known if name in names])
    return formats.Table(tables.widened(columns.of_living(rows, whole), rows))


def _why_not_measured() -> str:
    why = f"{texts.NOT_MEASURED}: not measured"
    if host.task_delayacct() is False:
        return (
            f"{why}: kernel.task_delayacct=0; it covers only tasks started after\n"
            f"fix: {fixes.for_delays()}"
        )
    if host.task_delayacct():
        return f"{why} (started before kernel.task_delayacct=1), or has never waited"
    return f"{why}, or has never waited (kernel.task_delayacct cannot be read)"


def _why_no_threads() -> str:
    view = host.proc_view()
    return "it has ended, or /proc does not tell" if view == "whole" else host.VIEWS[view]


def _add_cgroups(rows: list[dict[str, Any]], name: str | None) -> None:
    """Add the path of each task's cgroup; None if the task has ended."""
    if host.proc_is_ours():
        hierarchy = choose(name)
        for row in rows:
            row["cgroup"] = cgroup_of(
                row["pid"] if row["kind"] == "process" else row["id"], hierarchy
            )


# ---- rows ------------------------------------------------------------------------------------


Answer = tuple[list[dict[str, Any]], Mapping[int, int]]


def _tasks(client: Client, pids: Iterable[int]) -> Answer:
    """Each task's own record."""
    batch = client.pids(pids)
    return [texts.without_unmeasured(record.to_dict()) for record in batch], batch.errors


def _processes(client: Client, pids: Iterable[int]) -> Answer:
    """Each process once: the group's sums joined with the leader's identity."""
    found = client.pids(pids)
    shown = host.proc_is_ours()
    tgid_of = {record.id: _tgid(record, shown) for record in found}
    tgids = dict.fromkeys(tgid_of.values())
    leaders = {record.id: record for record in client.pids(tgids)}
    groups = client.tgids(tgids)
    rows = [
        _joined(group, leaders[group.id], host.threads(group.id) if shown else None)
        for group in groups
        if group.id in leaders
    ]
    had = {row["pid"] for row in rows}
    late = {pid: errno.ESRCH for pid, tgid in tgid_of.items() if tgid not in had}
    return rows, {**found.errors, **late}


def _tgid(record: Record, shown: bool) -> int:
    if "ac_tgid" in record.fields:
        return record.ac_tgid
    tgid = host.tgid(record.id) if shown else None
    return tgid or record.id  # at worst, a thread under its own id


def _joined(group: Record, leader: Record, threads: int | None) -> dict[str, Any]:
    # Of a zombie that never had a second thread the kernel sums nothing: it is its leader.
    sums = group if group.fields else leader
    summed = {
        name: getattr(sums, name)
        for name, field in FIELDS.items()
        if "group" in field.kinds and name in sums.fields
    }
    began = leader.ac_btime64 if "ac_btime64" in leader.fields else leader.ac_btime
    elapsed_us = leader.ac_tgetime if "ac_tgetime" in leader.fields else leader.ac_etime
    row = {
        "kind": "process",
        "pid": group.id,
        "ppid": leader.ac_ppid,
        "uid": leader.ac_uid,
        "gid": leader.ac_gid,
        "comm": leader.comm,
        "exit_code": leader.exit_code,
        "exit_signal": leader.exit_signal,
        "threads": threads,
        "started_seconds": began,
        "elapsed_seconds": elapsed_us / 1e6,
        "cpu_seconds": summed["cpu_run_virtual_total"] / 1e9 or None,
        "peak_rss_bytes": leader.hiwater_rss * 1024 or None,
        "delays_measured": leader.delays_measured,
        "delay_exceeds_elapsed": leader.delay_exceeds_elapsed or None,
        **summed,
    }
    return texts.without_unmeasured(row)
