"""`taskstats query`: the accounting of tasks that live."""

import os

import click

from taskstats.cli.output import json_line, text_line
from taskstats.client import Client


@click.command()
@click.argument(
    "pids", metavar="PID...", type=click.IntRange(0, 2**32 - 1), nargs=-1, required=True
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.option("--tgid", "as_groups", is_flag=True, help="Sums over all threads of each process.")
def query(pids: tuple[int, ...], as_json: bool, as_groups: bool) -> None:
    """Ask for the accounting of each PID; exit status 1 if one could not be had."""
    line = json_line if as_json else text_line
    with Client() as client:
        batch = client.tgids(pids) if as_groups else client.pids(pids)
    for record in batch:
        click.echo(line(record))
    for pid, error in batch.errors.items():
        click.echo(f"taskstats: pid {pid}: {os.strerror(error)}", err=True)
    if batch.errors:
        raise SystemExit(1)
