"""`taskstats run`: a command, and what it really cost."""

import io
import os
import pwd
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import click

from taskstats import host, launch
from taskstats.cgroup_cpu import OwnCgroup
from taskstats.cli import errors, formats, gnu_time, options, report, texts
from taskstats.cli.costs import Costs
from taskstats.cli.following import Follower
from taskstats.client import Client
from taskstats.delayacct import measured_delays
from taskstats.errors import TaskstatsError
from taskstats.exits import ExitListener
from taskstats.fields import FIELDS
from taskstats.jobs import JobTracker

_FIRST_WITH_PROCESSES = FIELDS["ac_tgid"].since
_REMEMBERED = 250_000  # processes for the tree, 50 MB
_JOB = "run"

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
    except (click.ClickException, TaskstatsError, OSError) as error:
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
@click.option("-o", "--output", type=click.Path(), metavar="FILE", help="The report goes there.")
@click.option("--append", is_flag=True, help="Append to the files; else they are made anew.")
@click.option(
    "--json",
    "json_path",
    type=click.Path(),
    metavar="FILE",
    help="All figures: a line. The kernel rounds read_* and write_* down to 1,024 for each thread: "
    "of short-lived ones little is left. In total, commands and executables, the records' sums, is "
    "also what the command's own process used before its exec, which before_exec tells.",
)
@click.option(
    "--tree",
    "with_tree",
    is_flag=True,
    help="The processes too, those alike as one: CPU time with all below, and life.",
)
@click.option(
    "--format",
    "parts",
    type=_TimeFormat(),
    metavar="TEXT",
    help="A line of figures instead, as GNU time's: '%e %U %S %M'.",
)
@click.option(
    "--delays", is_flag=True, help="Have all kinds of delay measured, and a table of them."
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
    """Run a command, and tell what it and all its descendants cost, down to the shortest-lived.

    The command runs as without this: same streams, terminal, process group and signals (one that
    somebody sends to the whole group it gets twice); but none of the capabilities that this needs.
    At its end stands on stderr a line of totals and a table by command name.

    CPU is what the kernel tells at the end (wait4, or the cgroup where the command has one of its
    own); the rows are the kernel's records, taken as each process began to exit. What it used
    after that is the row (exit teardown), and so is what was not added up by then: CPU is - where
    that is all. RUN-WAIT is time ready to run and waiting for a CPU, LONGEST the life of the one
    that lived longest; other delays are n/m, not measured, without --delays. A process that is
    still running at the end is listed, and in no sum but a cgroup's CPU.

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
    ended = None
    with ExitStack() as files:
        text_file = files.enter_context(_opened(output)) if output else None
        json_file = files.enter_context(_opened(json_path)) if json_path else None
        try:
            with ExitStack() as stack:
                listener = stack.enter_context(ExitListener(probe="auto"))
                client = stack.enter_context(Client())
                version = _version(client)
                if delays:
                    stack.enter_context(measured_delays())
                cgroup = OwnCgroup.find()
                command = stack.enter_context(launch.Command(words, user))
                tracker = JobTracker(client.pids, remember=_REMEMBERED)
                # Children of the program that we were before an exec: siblings, no part of this.
                for pid in command.others:
                    tracker.start(pid, pid, subreaper=os.getpid())
                tracker.start(command.pid, _JOB, subreaper=os.getpid())
                command.await_gate()
                waited = client.pid(command.pid).delays
                follower = Follower(listener, tracker)
                follower.start()
                ended = _waited(command, words[0])
                cgroup_ns = cgroup.cpu_ns() if cgroup else None
                settled = follower.finish()
                usage = tracker.usage(_JOB, _tasks())
                costs = Costs(words, command.pid, ended, waited, usage, cgroup_ns, settled)
            # Signals are this process's again: a report that cannot be written is not waited for.
            if not append:
                _empty(file for file in (text_file, json_file) if file)
            if json_file:
                about = formats.about("run", version)
                _write(json_file, formats.encode({**about, **costs.to_dict()}) + "\n")
            _tell(costs, text_file, parts, with_tree)
        except (TaskstatsError, OSError) as error:
            if ended is None:
                raise
            errors.told(error).show()  # the command has run: its status stands
    launch.die_like(ended.status)


def _version(client: Client) -> int:
    """The struct's version, if it tells processes apart."""
    version = client.pid().version
    if version < _FIRST_WITH_PROCESSES:
        raise click.ClickException(
            f"struct version {version} does not name processes ({_FIRST_WITH_PROCESSES} does)"
        )
    return version


def _waited(command: launch.Command, name: str) -> launch.Ended:
    """The command's end; if it could not be run, that of this program."""
    try:
        return command.wait()
    except OSError as error:
        if error.filename != name:  # it did not come to that
            raise
        click.echo(f"taskstats: {texts.printable(name)}: {error.strerror}", err=True)
        sys.exit(launch.exit_status(error))


def _tasks() -> list[int]:
    """The ids of all tasks, if this process has a child left."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return []
    return host.tasks()


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
    costs: Costs, file: io.FileIO | None, parts: tuple[gnu_time.Part, ...] | None, with_tree: bool
) -> None:
    """Writes the report to the file or stderr, or the line that was asked for instead."""
    text = io.StringIO() if file else sys.stderr
    console = formats.console(text, colours=file is None)
    if parts is None:
        width = console.width if text.isatty() else None
        lines = report.lines(costs, width, with_tree)
    else:
        text.write(gnu_time.render(parts, costs.gnu_values()) + "\n")
        console, lines = formats.console(sys.stderr), report.doubts(costs)
    for line in lines:
        console.print(line)
    if isinstance(text, io.StringIO) and file:
        _write(file, text.getvalue())
