"""The group of subcommands, and how errors end it."""

import sys
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

import click

from taskstats.cli import errors, streams
from taskstats.errors import TaskstatsError

_NAMES = ("exits", "run", "query", "cgroup", "fields", "doctor")


class _Subcommands(Mapping[str, click.Command]):
    """The subcommands by name. Each is imported when it is used, since that takes time.

    A subcommand is the function NAME of the module taskstats.cli.NAME.
    """

    def __getitem__(self, name: str) -> click.Command:
        if name not in _NAMES:
            raise KeyError(name)
        command: click.Command = getattr(import_module(f"taskstats.cli.{name}"), name)
        return command

    def __iter__(self) -> Iterator[str]:
        return iter(_NAMES)

    def __len__(self) -> int:
        return len(_NAMES)


class _Group(click.Group):
    """Ends on an error of this package or the system with one line."""

    def main(self, *arguments: Any, **settings: Any) -> Any:
        try:
            return super().main(*arguments, **settings)
        except OSError as error:
            if error.filename == "stdout":
                streams.abandon(sys.stdout)
            errors.told(error).show()
            sys.exit(1)

    def make_context(self, *arguments: Any, **settings: Any) -> click.Context:
        try:
            return super().make_context(*arguments, **settings)
        except click.ClickException as error:
            raise errors.cleaned(error) from error.__cause__

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.ClickException as error:
            raise errors.cleaned(error) from error.__cause__
        except TaskstatsError as error:
            raise errors.told(error) from error


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="linux-taskstats")
def taskstats() -> None:
    """Linux per-task accounting: query any task, hear every exit.

    Queries and listening need CAP_NET_ADMIN; `taskstats doctor` says what is missing and how to
    fix it. Without an option the commands write tables for people, with --json or --csv lines for
    programs: the kernel's names and integer units, and what is derived with its unit in the name.

    \b
    Without full root (bpf and perfmon are for final CPU times and cgroups):
      sudo setpriv --reuid=USER --regid=GROUP --init-groups \\
        --inh-caps=+net_admin,+bpf,+perfmon \\
        --ambient-caps=+net_admin,+bpf,+perfmon TASKSTATS exits

    \b
    Completion, for instance in bash:
      eval "$(_TASKSTATS_COMPLETE=bash_source taskstats)"

    \b
    Exit status: 0 done; 1 an error, a pid or path that could not be had, or
    not ready to listen (doctor); 2 wrong usage; 3 records lost or unreadable
    (exits --strict). run has those of its command.
    """


taskstats.commands = _Subcommands()  # type: ignore[assignment]  # click only reads it
