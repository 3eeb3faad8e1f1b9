"""`taskstats cgroup`: how many of a cgroup's tasks run, sleep, wait."""

import dataclasses

import click

from taskstats.cgroups import CgroupStats, cgroup_stats
from taskstats.cli import formats, options, tables, texts
from taskstats.cli.tables import Column
from taskstats.errors import TaskstatsError

_COUNTS = {
    "nr_running": "RUNNING",
    "nr_sleeping": "SLEEPING",
    "nr_stopped": "STOPPED",
    "nr_uninterruptible": "UNINTERRUPTIBLE",
    "nr_io_wait": "IO WAIT",
}


@click.command()
@options.formats
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path())
def cgroup(format_name: str | None, paths: tuple[str, ...]) -> None:
    """Count the tasks of each cgroup by state; PATH is its directory.

    Needs no privilege. Its own tasks are counted, threads each, not those of cgroups below it. The
    kernel answers for cgroups of version 1, and counts freezable sleepers nowhere; for version 2
    it refuses, and the states are read from /proc.

    \b
    Exit status: 1 if one could not be had.
    """
    rows, failed = [], False
    for path in paths:
        try:
            stats = cgroup_stats(path)
        except TaskstatsError as error:
            click.echo(f"taskstats: {texts.printable(str(error))}", err=True)
            failed = True
        except OSError as error:
            shown = texts.printable(path)
            click.echo(f"taskstats: cgroup {shown}: {error.strerror}", err=True)
            failed = True
        else:
            rows.append({"kind": "cgroup", "path": path, **dataclasses.asdict(stats)})
    output: formats.Format
    if format_name:
        names = [field.name for field in dataclasses.fields(CgroupStats)]
        output = formats.for_programs(format_name, ["path", *names])
    else:
        output = formats.Table(tables.widened(_columns(), rows))
    output.head()
    output.rows(rows)
    if any(row["nr_io_wait"] is None for row in rows):
        output.note(f"{texts.ABSENT}: /proc does not tell it apart; it is in UNINTERRUPTIBLE")
    if failed:
        raise SystemExit(1)


def _columns() -> list[Column]:
    return [
        Column("path", "CGROUP", lambda row: texts.printable(row["path"]), right=False),
        *(_count(name, header) for name, header in _COUNTS.items()),
        Column("source", "SOURCE", lambda row: str(row["source"]), right=False),
    ]


def _count(name: str, header: str) -> Column:
    return Column(name, header, lambda row: texts.of(row, name))
