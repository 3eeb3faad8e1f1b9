"""`taskstats exits`: a line for every task that ends."""

import signal
import time
from collections.abc import Iterator

import click

from taskstats.cli.output import json_line, text_line
from taskstats.exits import ExitListener
from taskstats.records import Batch, Record


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.option("--for", "seconds", type=click.FloatRange(0, 1e9), help="End after so many seconds.")
def exits(as_json: bool, seconds: float | None) -> None:
    """Hear every task that exits, until Ctrl-C.

    A thread is a task. At the end, the records received and lost go to stderr.
    """
    line = json_line if as_json else text_line
    with ExitListener() as listener:
        _stop_at_signals(listener)
        click.echo(f"listening on {len(listener.cpus)} CPUs; Ctrl-C ends", err=True)
        for batch in _batches(listener, seconds):
            if batch:
                click.echo("\n".join(map(line, _records(batch))))
        stats = listener.stats()
    click.echo(f"received {stats.received}, lost {stats.lost}", err=True)


def _stop_at_signals(listener: ExitListener) -> None:
    """Ctrl-C and SIGTERM end the stream, not the program: what was heard is still written.

    A second one ends the program, should nobody read what it writes.
    """

    def stop(number: int, _: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        listener.stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)


def _batches(listener: ExitListener, seconds: float | None) -> Iterator[Batch]:
    """The listener's batches until it is stopped, here after so many seconds."""
    if seconds is not None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            batch = next(listener.batches(timeout=left), None)
            if batch is None:
                break
            yield batch
        listener.stop()
    yield from listener.batches()


def _records(batch: Batch) -> Iterator[Record]:
    """Every task, each followed by its group's record if it brought one."""
    for record in batch:
        yield record
        if record.group is not None:
            yield record.group
