"""`taskstats exits`: a line for every process that ends."""

import difflib
import fnmatch
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import click

from taskstats import presence
from taskstats.cli import columns, formats, options, streams, texts
from taskstats.cli.formats import Format
from taskstats.client import Client
from taskstats.endpoint import KERNEL, Endpoint
from taskstats.exit_stats import ExitStats
from taskstats.exits import ExitListener
from taskstats.fields import FIELDS
from taskstats.processes import Process, ProcessFold
from taskstats.records import Batch, Record
from taskstats.where import Where

_TICK = 0.1  # seconds between looks at the reader, and at processes that wait

_PATIENCE = 0.5  # seconds after a signal for which more of them are the same wish

_FIRST_WITH_PROCESSES = FIELDS["ac_tgid"].since

One = Process | Record


@click.command()
@options.formats
@click.option("--threads", is_flag=True, help="The kernel's own records: one for each thread.")
@click.option("--cpus", metavar="LIST", help="Only exits on these CPUs, for instance 0-3,8.")
@click.option(
    "--for",
    "seconds",
    type=options.Seconds(),
    metavar="SECONDS",
    help="End after this time.",
)
@click.option(
    "--count",
    type=click.IntRange(1),
    metavar="N",
    help="End after so many processes, or threads with --threads.",
)
@click.option("--comm", metavar="GLOB", help="Only commands whose name matches, as in 'cc*'.")
@click.option(
    "--user", type=options.User(), metavar="NAME", help="Only this user's, by name or number."
)
@click.option("--failed", is_flag=True, help="Only what ended by a signal or not with 0.")
@click.option(
    "--fields",
    type=options.Names(),
    default="",
    metavar="NAMES",
    help="Only these, as in pid,comm,cpu_seconds.",
)
@click.option(
    "--strict", is_flag=True, help="Exit status 3 if a record was lost or could not be read."
)
@click.pass_obj
def exits(
    endpoint: Endpoint | None,
    format_name: str | None,
    threads: bool,
    cpus: str | None,
    seconds: float | None,
    count: int | None,
    comm: str | None,
    user: int | None,
    failed: bool,
    fields: tuple[str, ...],
    strict: bool,
) -> None:
    """Hear every process that ends, one line each, until Ctrl-C.

    With --threads, --user and --failed are the kernel's to keep: what they leave out wakes nobody,
    and the last line tells how many those were.

    TIME is when its record was read, some milliseconds after its end. A process that had several
    threads comes 0.1 s later, so that no thread is missed: lines need not be in order.

    STATUS is 0, FAIL and the exit status, or the signal that ended it; "?" behind it where its
    threads tell different ones, or its leader was not heard. THR is how many threads were heard;
    "+" behind it where the kernel's own sums show that there were more, "?" where the kernel keeps
    no such sums. PEAK RSS is - where the kernel has none. "?" behind a delay: in doubt, since one
    is longer than its task has lived, a kernel bug.

    Where records were lost, a line says how many and on which CPU; at the end, on stderr, stand
    those received and lost, and beside them the kernel's own count of exits (of all tasks, so it
    can differ by those that end at that moment; it covers all CPUs, so there is none with --cpus).

    \b
    Exit status: 0 also after Ctrl-C, SIGTERM, and when a pipe's reader is gone;
    1 an error; 2 wrong usage; with --strict 3 if a record was lost or could
    not be read.
    """
    _check(fields, threads)
    endpoint = endpoint or KERNEL
    # A process takes the records of all its threads; those of threads stand alone.
    where = _where(user, failed) if threads else None
    with _listener(cpus, where, endpoint) as listener, _ended(listener, seconds):
        with Client(endpoint=endpoint) as client:
            own = client.pid()
        if own.version < _FIRST_WITH_PROCESSES and not threads:
            click.echo(
                f"struct version {own.version} does not name processes "
                f"({_FIRST_WITH_PROCESSES} does): these lines are threads",
                err=True,
            )
            threads = True
            _check(fields, threads)
        output = _output(format_name, threads, fields, own)
        written = _Written(output, count, _wanted(comm, user, failed))
        fold = None if threads else ProcessFold()
        number = len(listener.cpus)
        click.echo(f"listening on {number} CPU{'s' * (number != 1)}; Ctrl-C ends", err=True)
        if output.left_out:
            click.echo(output.left_out, err=True)
        try:
            output.head()
            for batch in _batches(listener):
                if not written.write(batch, fold):
                    listener.stop()
                    break
            else:
                written.write(Batch(b""), fold)  # what waits for other threads
            listener.close()
            written.write_tail(listener.stats())
        finally:  # whatever became of the output, what was heard is told
            listener.close()
            stats = listener.stats()
            click.echo(_totals(stats, fold), err=True)
    if strict and stats.lost + stats.truncated + stats.malformed:
        raise SystemExit(3)


def _check(fields: tuple[str, ...], threads: bool) -> None:
    known = options.RECORD_NAMES if threads else options.PROCESS_NAMES
    for name in fields:
        if name not in known:
            near = difflib.get_close_matches(name, known, 3)
            hint = f"did you mean {' or '.join(near)}?" if near else "`taskstats fields` lists them"
            raise click.BadParameter(f"no field {name!r}; {hint}", param_hint="--fields")


def _output(format_name: str | None, threads: bool, fields: tuple[str, ...], own: Record) -> Format:
    if format_name == "json":
        return formats.JsonLines(fields, own.version)
    if format_name == "csv":
        sent = presence.present(own.version, own.size, "task", presence.EXIT)
        known = options.RECORD_NAMES if threads else options.PROCESS_NAMES
        here = [name for name in known if name not in FIELDS or name in sent]
        return formats.Csv(tuple(dict.fromkeys([*(fields or here), "cpu", "lost"])))
    if fields:
        return formats.Table([columns.column_of(name) for name in fields])
    return formats.Table(columns.of_records() if threads else columns.of_processes())


def _wanted(comm: str | None, user: int | None, failed: bool) -> Callable[[One], bool]:
    """Whether a process or a task is one of those asked for."""

    def wanted(one: One) -> bool:
        return (
            (comm is None or fnmatch.fnmatchcase(one.comm, comm))
            and (user is None or (one.uid if isinstance(one, Process) else one.ac_uid) == user)
            and (not failed or one.exit_code != 0)
        )

    return wanted


def _where(user: int | None, failed: bool) -> Where | None:
    """What of it the kernel can keep."""
    return None if user is None and not failed else Where(uid=user, failed=failed)


def _listener(cpus: str | None, where: Where | None, endpoint: Endpoint) -> ExitListener:
    try:
        return ExitListener(cpus, where=where, endpoint=endpoint)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--cpus") from error


# ---- listening -------------------------------------------------------------------------------


@contextmanager
def _ended(listener: ExitListener, seconds: float | None) -> Iterator[None]:
    """Time, Ctrl-C and SIGTERM end the stream, not the program: what was heard is still written.

    Another signal half a second later ends the program, should nobody read what it writes; not
    before, since timeout(1) sends two at once.
    """
    # One that is ignored stays so: a shell does that to what it starts in the background.
    numbers = (signal.SIGINT, signal.SIGTERM)
    ending = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    first = 0.0

    def stop(number: int, _frame: object) -> None:
        nonlocal first
        if number in ending:
            now = time.monotonic()
            if first and now - first > _PATIENCE:
                signal.signal(number, signal.SIG_DFL)
                signal.raise_signal(number)
            first = first or now
        listener.stop()

    # An alarm, no clock between two writes: a reader may let one take as long as it likes.
    before = {number: signal.signal(number, stop) for number in (*ending, signal.SIGALRM)}
    try:
        if seconds is not None:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
            signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-6))
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if first else handler)


def _batches(listener: ExitListener) -> Iterator[Batch]:
    """The listener's batches until it is stopped, or nobody reads what is written."""
    for batch in listener.batches(timeout=_TICK):
        if streams.reader_is_gone(sys.stdout):
            listener.stop()
            return
        yield batch


# ---- writing ---------------------------------------------------------------------------------


class _Written:
    """What has been written: lines until their number is reached, and losses on each CPU."""

    def __init__(self, output: Format, count: int | None, wanted: Callable[[One], bool]) -> None:
        self._output = output
        self._left = count
        self._wanted = wanted
        self._lost: Counter[int] = Counter()

    def write(self, batch: Batch, fold: ProcessFold | None) -> bool:
        """Writes what a batch brings; False once there are as many lines as were asked for."""
        for cpu, lost, piece in _pieces(batch):
            if lost:
                self._lost[cpu] += lost
                self._output.loss(cpu, lost)
            ones: Iterable[One] = piece if fold is None else fold.feed(piece)
            chosen = list(islice(filter(self._wanted, ones), self._left))
            self._output.rows(row for one in chosen for row in _rows(one))
            if self._left is not None:
                self._left -= len(chosen)
                if not self._left:
                    return False
        return True

    def write_tail(self, stats: ExitStats) -> None:
        """Writes the losses after which no record came."""
        for cpu in stats.cpus:
            if cpu.lost > self._lost[cpu.cpu]:
                self._output.loss(cpu.cpu, cpu.lost - self._lost[cpu.cpu])


def _pieces(batch: Batch) -> Iterator[tuple[int, int, Batch]]:
    """The batch cut where records were lost: the CPU, how many, and the records after that."""
    lost_before = batch.columns["lost_before"]
    cuts = [row for row, lost in enumerate(lost_before) if lost]
    if not cuts:
        yield 0, 0, batch
        return
    if cuts[0]:
        yield 0, 0, batch[: cuts[0]]
    for start, end in zip(cuts, [*cuts[1:], len(batch)], strict=True):
        yield batch.columns["cpu"][start], lost_before[start], batch[start:end]


def _rows(one: One) -> Iterator[dict[str, Any]]:
    """Its row; of a task that brought its group's record, that too."""
    if isinstance(one, Process):
        yield one.to_dict()
        return
    yield texts.without_unmeasured(one.to_dict())
    if one.group is not None:
        yield texts.without_unmeasured(one.group.to_dict())


def _totals(stats: ExitStats, fold: ProcessFold | None) -> str:
    counted = "n/a" if stats.witness is None else str(stats.witness)
    kept_out = "" if stats.filtered is None else f"filtered {stats.filtered}, "
    made = [f"received {stats.received}, lost {stats.lost}, {kept_out}kernel's own count {counted}"]
    if stats.unexplained:
        made.append(f"sequence numbers missing beyond those: {stats.unexplained}")
    if fold:
        fold.flush()  # ended, and not asked for
        if fold.held or fold.forgotten:
            made.append(f"records of no process yet: {fold.held} held, {fold.forgotten} given up")
    if refused := stats.foreign + stats.truncated + stats.malformed:
        made.append(f"datagrams refused: {refused}")
    return "; ".join(made)
