"""`taskstats exits`: a line for every task that ends."""

import time
from collections.abc import Iterator

import click

from taskstats.cli.output import json_line, text_line
from taskstats.exits import ExitListener
from taskstats.records import Batch, Record


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.option("--for", "seconds", type=click.FloatRange(min=0), help="End after so many seconds.")
def exits(as_json: bool, seconds: float | None) -> None:
    """Hear every task that exits, until Ctrl-C.

    A thread is a task. At the end, the records received and lost go to stderr.
    """
    line = json_line if as_json else text_line
    with ExitListener() as listener:
        click.echo(f"listening on {len(listener.cpus)} CPUs; Ctrl-C ends", err=True)
        try:
            for batch in _batches(listener, seconds):
                if batch:
                    click.echo("\n".join(map(line, _records(batch))))
        except KeyboardInterrupt:
            pass
        finally:
            listener.stop()
        for batch in listener.batches():
            click.echo("\n".join(map(line, _records(batch))))
        stats = listener.stats()
    click.echo(f"received {stats.received}, lost {stats.lost}", err=True)


def _batches(listener: ExitListener, seconds: float | None) -> Iterator[Batch]:
    """The listener's batches until so many seconds have passed."""
    if seconds is None:
        yield from listener.batches()
        return
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        yield next(listener.batches(timeout=left))


def _records(batch: Batch) -> Iterator[Record]:
    """Every task, each followed by its group's record if it brought one."""
    for record in batch:
        yield record
        if record.group is not None:
            yield record.group
