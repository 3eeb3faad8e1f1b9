"""`taskstats exits`: a line for each process that exits."""

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

from taskstats import fixes, host, presence
from taskstats.cgroups import cgroup_identity
from taskstats.cgroups.hierarchies import choose, hierarchies
from taskstats.cli import columns, formats, options, streams, texts
from taskstats.cli.formats import Format
from taskstats.cli.lines import writer
from taskstats.cli.unheard import CountedListener, remark
from taskstats.client import Client
from taskstats.endpoint import KERNEL, Endpoint
from taskstats.errors import TaskstatsError
from taskstats.exit_stats import ExitStats, ProbeStats
from taskstats.exits import ExitListener
from taskstats.fields import FIELDS
from taskstats.probe import MODES, Mode
from taskstats.processes import Process, ProcessFold
from taskstats.records import Batch, Record
from taskstats.rows import PROBED
from taskstats.where import Where

_TICK = 0.1  # seconds between looks at the reader, and at processes that wait

_PATIENCE = 0.5  # seconds after a signal for which more of them are the same wish

_FIRST_WITH_PROCESSES = FIELDS["ac_tgid"].since

#: Keys of a line that only a probe fills.
_PROBE_KEYS = {*PROBED, "cgroup"}

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
@click.option(
    "--failed", is_flag=True, help="Only failures: killed by a signal, or a status other than 0."
)
@click.option(
    "--cgroup",
    metavar="GLOB",
    help="Only this cgroup and the cgroups below it, as in '/system.slice/docker-*'.",
)
@click.option("--unit", metavar="NAME", help="Only this systemd unit, as in cron or 'user@*'.")
@click.option(
    "--container",
    metavar="ID",
    help="Only this container: its id, at least 12 digits of it, or the name of an LXC container.",
)
@options.cgroup_hierarchy
@click.option(
    "--probe",
    "mode",
    type=click.Choice(MODES),
    default="auto",
    help="Use BPF programs for final CPU times and cgroups: off (never), auto (where they can run; "
    "the default), require (fail if they cannot).",
)
@click.option(
    "--settle",
    type=options.Seconds(),
    default=0.25,
    metavar="SECONDS",
    help="The longest that a record waits for the end of its task; 0.25 by default.",
)
@click.option(
    "--fields",
    type=options.Names(),
    default="",
    metavar="NAMES",
    help="Only these, as in pid,comm,cpu_seconds.",
)
@click.option(
    "--strict",
    is_flag=True,
    help="Exit status 3 if a record was lost, is missing or could not be read; see above.",
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
    cgroup: str | None,
    unit: str | None,
    container: str | None,
    hierarchy: str | None,
    mode: Mode,
    settle: float,
    fields: tuple[str, ...],
    strict: bool,
) -> None:
    """Print a line for each process that exits, until Ctrl-C.

    With --threads the kernel applies --user and --failed: filtered records do not wake the
    listener, and the last line says how many records were filtered.

    TIME is when the record was read, some milliseconds after the exit. A process that had several
    threads is printed when the records of all of them were read, or no more can come: lines need
    not be in order.

    STATUS is 0, FAIL and the exit status, or the signal that killed the process; "?" behind it if
    its threads disagree about the exit status, or its leader was not heard. THR is the number of
    threads heard; "+" behind it if the kernel's own sums show that there were more, "?" if the
    kernel keeps no such sums. PEAK RSS is - if the kernel has none. "?" behind a delay: in doubt,
    since one is longer than its task has lived, a kernel bug.

    The kernel's records lack the cgroup and the last part of the CPU time: for short processes
    that is most of it. The probe adds both. It consists of BPF programs that see the end of each
    task, and needs Linux 5.8 with BTF, CAP_BPF and CAP_PERFMON; `taskstats doctor` says whether it
    works here. A record waits for the end of its task, at most as long as --settle says. A record
    whose end does not come in time is unsettled: CGROUP is -, and CPU has "+" behind it, since the
    task used at least that. The root cgroup is /.

    --cgroup, --unit and --container need the probe, and look in one hierarchy: on a machine with
    several, --cgroup-hierarchy unified may be the one of systemd. GLOB matches at any depth if it
    does not start with a slash; it may also be a directory of the hierarchy. NAME may be a glob,
    and may omit .service. In JSON, final_cpu_ns, start_ns, cgroup_id and cgroup are missing without
    the probe, and null for an unsettled process.

    If records were lost, a line says how many and on which CPU. When the command ends, it prints a
    line of totals to stderr: records received and lost; the kernel's own count of exits (of all
    tasks: it can differ by those that end at that moment, and there is none with --cpus); with
    the probe the records settled and unsettled, and what its ring had no room for. If that count
    is clearly larger than what was received and lost (by 1 %, and some tasks that were about to be
    reaped at the start), another line says so: another program may have ended the registration.
    That is not checked with --cpus, with --threads and a filter, and where /proc hides processes.

    --strict makes a lost, missing or unreadable record exit status 3. With --probe require an
    unsettled record does so too; with --cgroup, --unit or --container an unsettled record or a
    process that was left out since its cgroup is not known.

    \b
    Exit status: 0 also after Ctrl-C, SIGTERM, and when a pipe's reader is gone;
    1 an error, also if the probe is needed and cannot run; 2 wrong usage;
    3 see --strict.
    """
    _check(fields, threads)
    if hierarchy and mode == "off":
        raise click.UsageError("--cgroup-hierarchy needs the probe, and --probe off forbids it")
    place = _Place(cgroup, unit, container, hierarchy)
    if place.option:
        if mode == "off":
            raise click.UsageError(f"{place.option} needs the probe, and --probe off forbids it")
        mode = "require"
    endpoint = endpoint or KERNEL
    # A process takes the records of all its threads; those of threads stand alone.
    where = _where(user, failed) if threads else None
    with (
        _listener(cpus, where, mode, settle, hierarchy, place.option, endpoint) as listener,
        _ended(listener, seconds),
    ):
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
        probed = listener.stats().probe is not None
        output = _output(format_name, threads, fields, own, probed)
        written = _Written(output, count, _wanted(comm, user, failed, place), probed)
        fold = None if threads else ProcessFold()
        number = len(listener.cpus)
        if listener.probe_error:
            without = f"without final CPU times and cgroups: {listener.probe_error.what}"
            click.echo(_see_doctor(without), err=True)
        if probed and host.in_initial_namespace("cgroup") is False:
            unknown = "the paths of cgroups that exist already are unknown"
            click.echo(_see_doctor(f"not the initial cgroup namespace: {unknown}"), err=True)
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
            click.echo(_totals(stats, fold, place.unknown), err=True)
            unheard = listener.unheard(stats)
            if unheard:
                click.echo(remark(*unheard), err=True)
    missing = stats.lost + stats.truncated + stats.malformed + bool(unheard)
    if mode == "require" and stats.probe:
        missing += stats.probe.unsettled + place.unknown
    if strict and missing:
        raise SystemExit(3)


def _check(fields: tuple[str, ...], threads: bool) -> None:
    known = options.RECORD_NAMES if threads else options.PROCESS_NAMES
    for name in fields:
        if name not in known:
            near = difflib.get_close_matches(name, known, 3)
            hint = f"did you mean {' or '.join(near)}?" if near else "`taskstats fields` lists them"
            raise click.BadParameter(f"no field {name!r}; {hint}", param_hint="--fields")


def _output(
    format_name: str | None, threads: bool, fields: tuple[str, ...], own: Record, probed: bool
) -> Format:
    if format_name == "json":
        return formats.JsonLines(fields, own.version)
    if format_name == "csv":
        sent = presence.present(own.version, own.size, "task", presence.EXIT)
        known = options.RECORD_NAMES if threads else options.PROCESS_NAMES
        absent = FIELDS.keys() - sent | (set() if probed else _PROBE_KEYS)
        here = [name for name in known if name not in absent]
        return formats.Csv(tuple(dict.fromkeys([*(fields or here), "cpu", "lost"])))
    if fields:
        return formats.Table([columns.column_of(name) for name in fields])
    return formats.Table((columns.of_records if threads else columns.of_processes)(probed))


class _Place:
    """Where a process must have run: what --cgroup, --unit and --container say.

    Attributes:
        option: The first of these options that was given, or "".
        unknown: How many processes or tasks were left out since their cgroup is not known.
    """

    def __init__(
        self, cgroup: str | None, unit: str | None, container: str | None, hierarchy: str | None
    ) -> None:
        given = {"--cgroup": cgroup, "--unit": unit, "--container": container}
        self.option = next((name for name, value in given.items() if value is not None), "")
        self.unknown = 0
        if cgroup is not None and (not cgroup or ".." in cgroup.split("/")):
            raise click.BadParameter(
                f"no cgroup matches {cgroup!r}; a GLOB is like '/system.slice/docker-*'",
                param_hint="--cgroup",
            )
        if unit is not None and (not unit or "/" in unit):
            raise click.BadParameter(
                f"no unit is called {unit!r}; a NAME is like cron or 'user@*'", param_hint="--unit"
            )
        self._cgroup = (
            _below_mount(cgroup, hierarchy) if cgroup and host.proc_is_there() else cgroup
        )
        self._unit = unit
        self._container = container

    def __contains__(self, one: One) -> bool:
        if not self.option:
            return True
        path = getattr(one, "cgroup", None)
        if path is None:
            self.unknown += 1
            return False
        here = cgroup_identity(path)
        return (
            (self._cgroup is None or here.in_cgroup(self._cgroup))
            and (self._unit is None or here.in_unit(self._unit))
            and (self._container is None or here.in_container(self._container))
        )


def _below_mount(glob: str, hierarchy: str | None) -> str:
    """The pattern without the mount point of its hierarchy: people copy paths from there."""
    chosen = choose(hierarchy)
    here = [one for one in hierarchies() if one.mount and f"{glob}/".startswith(f"{one.mount}/")]
    if not here:
        return glob
    innermost = max(here, key=lambda one: len(str(one.mount)))
    if innermost.number != chosen.number:
        name = innermost.name.partition(",")[0]
        raise click.BadParameter(
            f"{glob} is in another hierarchy: add --cgroup-hierarchy {name}",
            param_hint="--cgroup",
        )
    below = glob.removeprefix(str(innermost.mount)) or "/"
    return innermost.root.rstrip("/") + below


def _wanted(
    comm: str | None, user: int | None, failed: bool, place: _Place
) -> Callable[[One], bool]:
    """Whether a process or a task is one of those asked for."""

    def wanted(one: One) -> bool:
        return (
            (comm is None or fnmatch.fnmatchcase(one.comm, comm))
            and (user is None or (one.uid if isinstance(one, Process) else one.ac_uid) == user)
            and (not failed or one.exit_code != 0)
            and one in place
        )

    return wanted


def _where(user: int | None, failed: bool) -> Where | None:
    """What of it the kernel can keep."""
    return None if user is None and not failed else Where(uid=user, failed=failed)


def _listener(
    cpus: str | None,
    where: Where | None,
    mode: Mode,
    settle: float,
    hierarchy: str | None,
    option: str,
    endpoint: Endpoint,
) -> CountedListener:
    try:
        return CountedListener(
            cpus,
            where=where,
            probe=mode,
            settle=settle,
            cgroup_hierarchy=hierarchy,
            endpoint=endpoint,
        )
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--cpus") from error
    except TaskstatsError as error:
        if option and error.operation == "probe":
            what = f"{option} needs the probe"
            raise type(error)(what, error.what, error.mend, error.errno) from error
        raise


def _see_doctor(remark: str) -> str:
    text = texts.printable_lines(f"{remark}; see: {fixes.command()} doctor")
    width = writer(sys.stderr).width
    return formats.wrapped(text, width) if width else text


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

    def __init__(
        self,
        output: Format,
        count: int | None,
        wanted: Callable[[One], bool],
        probed: bool = False,
    ) -> None:
        self._output = output
        self._probed = probed
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
            self._output.rows(row for one in chosen for row in _rows(one, self._probed))
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


def _rows(one: One, probed: bool) -> Iterator[dict[str, Any]]:
    """Its row; of a task that brought its group's record, that too.

    With a probe, what it did not see is None. Without, there is no key.
    """
    row = one.to_dict()
    for name in _PROBE_KEYS:
        if not probed:
            row.pop(name, None)
        elif name not in row:
            row[name] = None
    if isinstance(one, Process):
        yield row
        return
    yield texts.without_unmeasured(row)
    if one.group is not None:
        yield texts.without_unmeasured(one.group.to_dict())


def _totals(stats: ExitStats, fold: ProcessFold | None, unknown: int) -> str:
    counted = "n/a" if stats.witness is None else str(stats.witness)
    kept_out = "" if stats.filtered is None else f"filtered {stats.filtered}, "
    made = [f"received {stats.received}, lost {stats.lost}, {kept_out}kernel's own count {counted}"]
    if stats.unexplained:
        made.append(f"sequence numbers missing beyond those: {stats.unexplained}")
    if fold:
        fold.flush()  # ended, and not asked for
        if fold.held or fold.forgotten:
            made.append(
                f"records that wait for other threads: {fold.held}, given up: {fold.forgotten}"
            )
    if refused := stats.foreign + stats.truncated + stats.malformed:
        made.append(f"datagrams refused: {refused}")
    if stats.probe:
        made.append(_probe_totals(stats.probe))
    if unknown:
        made.append(f"left out, since the cgroup is unknown: {unknown}")
    return "; ".join(made)


def _probe_totals(probe: ProbeStats) -> str:
    lost = {
        "ends": probe.ends_lost,
        "births": probe.births_lost,
        "cgroup changes": probe.changes_lost,
    }
    made = [f"settled {probe.settled}, unsettled {probe.unsettled}"]
    made += [f"{name} lost {number}" for name, number in lost.items() if number]
    if probe.damaged:
        made.append("the ring is damaged and was not read to its end")
    return ", ".join(made)
