"""`taskstats run`: run a command, and report what it really cost."""

import io
import os
import pwd
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import click

from taskstats import launch
from taskstats.cli import errors, formats, gnu_time, options, report, texts
from taskstats.cost import Cost
from taskstats.errors import CostUnknown, TaskstatsError
from taskstats.measuring import measure

_OURS = 125  # exit status where the failure is ours, as of env(1), timeout(1) and others


class _Run(click.Command):
    """Exits with 125 where the failure is ours: 1 and 2 are the command's."""

    def make_context(self, *arguments: Any, **settings: Any) -> click.Context:
        with _failing_as_ours():
            return super().make_context(*arguments, **settings)

    def invoke(self, ctx: click.Context) -> Any:
        with _failing_as_ours():
            return super().invoke(ctx)


@contextmanager
def _failing_as_ours() -> Iterator[None]:
    try:
        yield
    except (click.ClickException, TaskstatsError, OSError, MemoryError) as error:
        errors.told(error).show()
        sys.exit(_OURS)


class _TimeFormat(click.ParamType):  # type: ignore[type-arg]
    """GNU time's format."""

    name = "text"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[gnu_time.Part, ...]:
        try:
            return gnu_time.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


@click.command(cls=_Run, context_settings={"allow_interspersed_args": False})
@click.option(
    "-o", "--output", type=click.Path(), metavar="FILE", help="Write the report to this file."
)
@click.option("--append", is_flag=True, help="Append to the files instead of overwriting them.")
@click.option(
    "--json",
    "json_path",
    type=click.Path(),
    metavar="FILE",
    help="Write all figures as one line of JSON. The kernel rounds read_* and write_* down to "
    "1,024 for each thread: of short-lived threads little is left. total, commands and executables "
    "are sums of records. They include what the command's own process used before its exec; "
    "before_exec has that part.",
)
@click.option(
    "--tree",
    "with_tree",
    is_flag=True,
    help="Show the process tree too; similar processes are merged. CPU time includes children.",
)
@click.option(
    "--format",
    "parts",
    type=_TimeFormat(),
    metavar="TEXT",
    help="Print a line of figures instead, in the format of GNU time: '%e %U %S %M'.",
)
@click.option(
    "--delays", is_flag=True, help="Measure all kinds of delay and print a table of them."
)
@click.option("--user", type=options.Account(), metavar="NAME", help="Run it as this user.")
@click.argument("words", metavar="COMMAND...", nargs=-1, required=True, type=click.UNPROCESSED)
def run(
    output: str | None,
    append: bool,
    json_path: str | None,
    with_tree: bool,
    parts: tuple[gnu_time.Part, ...] | None,
    delays: bool,
    user: pwd.struct_passwd | None,
    words: Sequence[str],
) -> None:
    """Run a command, and report what it and all its descendants cost, also the shortest-lived.

    The command runs unchanged: same streams, terminal, process group and signals (a signal that
    somebody sends to the whole process group arrives twice). It has none of the capabilities that
    this program needs. When the command ends, a line of totals and a table by command name are
    printed to stderr.

    CPU in the first line is the kernel's figure at the end: wait4's, or the cgroup's where the
    command has one of its own. The rows are CPU times of processes, by name. With the rights to
    load BPF programs these are final. Without, they are the kernel's exit records, which are made
    as a process begins to exit: what the process used after that, and what was not added up by
    then, is the row (exit teardown), and CPU is - for a command that has no more than that.
    RUN-WAIT is the time that processes were ready to run and waited for a CPU. LONGEST is the
    life of the process that lived longest. Other delays are n/m, not measured, without --delays.
    A process that is still running at the end is listed. It is in no sum but a cgroup's CPU.

    \b
    Exit status: the command's own; if a signal ended it, the same signal ends this;
    125 this failed, and the command was not run; 126 it could not be run;
    127 it was not found.
    """
    if parts is not None and with_tree:
        raise click.UsageError("--format is a line, and has no --tree")
    if append and not (output or json_path):
        raise click.UsageError("--append is for files: -o, --json")
    _warn_of_root(user)
    with ExitStack() as files:
        text_file = files.enter_context(_opened(output)) if output else None
        json_file = files.enter_context(_opened(json_path)) if json_path else None
        cost = _measured(words, user, delays)
        # A failure from here on is no reason for another exit status than the command's.
        try:
            if not append:
                _empty(file for file in (text_file, json_file) if file)
            if json_file:
                about = formats.about("run", cost.version)
                _write(json_file, formats.encode({**about, **cost.to_dict()}) + "\n")
            _tell(cost, text_file, parts, with_tree)
        except (TaskstatsError, OSError, MemoryError) as error:
            errors.told(error).show()
    launch.die_like(cost.ended.status)


def _measured(words: Sequence[str], user: pwd.struct_passwd | None, delays: bool) -> Cost:
    """The cost of the command; without one, the end of this program."""
    try:
        return measure(words, user=user, delays=delays)
    except CostUnknown as error:
        click.echo(f"Error: {error.what}", err=True)
        launch.die_like(error.status)
    except OSError as error:
        if error.filename != words[0]:  # it did not come to that
            raise
        click.echo(f"taskstats: {texts.printable(words[0])}: {error.strerror}", err=True)
        sys.exit(launch.exit_status(error))


def _warn_of_root(user: pwd.struct_passwd | None) -> None:
    """Says so where sudo has made the command root's without need."""
    caller = os.environ.get("SUDO_USER", "root")
    if user is None and os.geteuid() == 0 and caller != "root":
        click.echo(f"the command runs as root; --user {caller} runs it as {caller}", err=True)


def _opened(path: str) -> io.FileIO:
    """Without a buffer: what finds no room is told once, and not again as it is closed.

    Always at the end, since the report and the JSON may go to one file.
    """
    return io.FileIO(path, "a")


def _empty(files: Iterable[io.FileIO]) -> None:
    """Makes files anew, once there is something to write."""
    for file in files:
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            file.truncate(0)


def _write(file: io.FileIO, text: str) -> None:
    left = text.encode(errors="backslashreplace")
    try:
        while left:
            left = left[file.write(left) :]
    except OSError as error:
        error.filename = file.name
        raise


def _tell(
    cost: Cost, file: io.FileIO | None, parts: tuple[gnu_time.Part, ...] | None, with_tree: bool
) -> None:
    """Writes the report to the file or stderr, or the line that was asked for instead."""
    text = io.StringIO() if file else sys.stderr
    console = formats.console(text, colours=file is None)
    if parts is None:
        width = console.width if text.isatty() else None
        lines = report.lines(cost, width, with_tree)
    else:
        text.write(gnu_time.render(parts, gnu_time.Values.of(cost)) + "\n")
        console, lines = formats.console(sys.stderr), report.doubts(cost)
    for line in lines:
        console.print(line)
    if isinstance(text, io.StringIO) and file:
        _write(file, text.getvalue())
