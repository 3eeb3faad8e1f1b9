"""`taskstats run`: run a command, and report what it really cost."""

import io
import os
import pwd
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, TextIO

import click

from taskstats import launch
from taskstats.cli import errors, files, formats, gnu_time, options, report, texts
from taskstats.cli.lines import writer
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
    help="Print a line of figures instead, in the format of GNU time: '%e %U %S %M'. Control "
    "characters in the command (%C) are escaped as \\xNN.",
)
@click.option(
    "--delays", is_flag=True, help="Measure all kinds of delay and print a table of them."
)
@click.option(
    "--user",
    type=options.Account(),
    metavar="NAME",
    help="Run it as this user. Refused on a terminal of another user if the kernel lets the "
    "command type into it (dev.tty.legacy_tiocsti).",
)
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

    Signals that the caller ignores stay ignored, but for SIGPIPE and SIGXFSZ: Python ignores these
    two itself when it starts, so the caller's choice is lost, and the command gets the default. To
    ignore one of them: run env --ignore-signal=PIPE COMMAND.

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
    with ExitStack() as outputs:
        text_file = outputs.enter_context(files.opened(output)) if output else None
        json_file = outputs.enter_context(files.opened(json_path)) if json_path else None
        cost = _measured(words, user, delays)
        # A failure from here on is no reason for another exit status than the command's.
        # The report is written all the same.
        with _reporting_errors():
            if text_file and not append:
                files.empty(text_file)
        with _reporting_errors():
            if json_file:
                if not append:
                    files.empty(json_file)
                about = formats.about("run", cost.version)
                files.write(json_file, formats.encode({**about, **cost.to_dict()}) + "\n")
        with _reporting_errors():
            _tell(cost, text_file, parts, with_tree)
    launch.die_like(cost.ended.status)


@contextmanager
def _reporting_errors() -> Iterator[None]:
    """Print an error, and go on: the command has run, and its status stands."""
    try:
        yield
    except (TaskstatsError, OSError, MemoryError) as error:
        errors.told(error).show()
    except Exception as error:  # whatever it is, the status is the command's
        click.echo(f"Error: {texts.printable(repr(error))}", err=True)


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
        caller = texts.printable(caller)
        click.echo(f"the command runs as root; --user {caller} runs it as {caller}", err=True)


def _tell(
    cost: Cost, file: io.FileIO | None, parts: tuple[gnu_time.Part, ...] | None, with_tree: bool
) -> None:
    """Writes the report, or the line that was asked for instead, to the file or stderr.

    It goes to stderr too if the file cannot be written.
    """
    text = io.StringIO()
    _print(cost, text if file else sys.stderr, parts, with_tree)
    if file:
        try:
            files.write(file, text.getvalue())
        except OSError as error:
            errors.told(error).show()
            _print(cost, sys.stderr, parts, with_tree)
    if parts is not None:
        output = writer(sys.stderr)
        for line in report.doubts(cost):
            output.print(line)


def _print(
    cost: Cost, text: TextIO, parts: tuple[gnu_time.Part, ...] | None, with_tree: bool
) -> None:
    if parts is not None:
        text.write(gnu_time.render(parts, gnu_time.Values.of(cost)) + "\n")
        return
    output = writer(text, colours=text is sys.stderr)
    for line in report.lines(cost, output.width, with_tree):
        output.print(line)
