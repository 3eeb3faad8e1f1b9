"""Options that commands share, and the kinds of values that they take."""

import math
import pwd
from collections.abc import Callable
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from taskstats.cgroups import hierarchies
from taskstats.fields import FIELDS
from taskstats.processes import PROCESS_KEYS
from taskstats.records import HEADER_KEYS
from taskstats.sums import TOTALS

Command = TypeVar("Command", bound=Callable[..., Any])

_LONGEST = 1_000_000_000  # seconds

#: What --fields takes: of a process's line, of a task's record.
PROCESS_NAMES = (*PROCESS_KEYS, *TOTALS)
RECORD_NAMES = (*HEADER_KEYS, *FIELDS)


def formats(command: Command) -> Command:
    """Gives a command --json and --csv; it takes `format_name`."""
    command = click.option(
        "--csv",
        "format_name",
        flag_value="csv",
        help="Comma-separated values, with a heading. A "
        "single quote precedes a text that begins with = + - or @.",
    )(command)
    return click.option("--json", "format_name", flag_value="json", help="One JSON object a line.")(
        command
    )


def cgroup_hierarchy(command: Command) -> Command:
    """Gives a command --cgroup-hierarchy; it takes `hierarchy`."""
    return click.option(
        "--cgroup-hierarchy",
        "hierarchy",
        type=Hierarchy(),
        metavar="NAME",
        help="Show cgroups of this hierarchy: 'unified' for version 2, or a controller of version "
        "1, as in 'memory'. By default that of cpuacct if it is of version 1, else version 2.",
    )(command)


class Hierarchy(click.ParamType):  # type: ignore[type-arg]
    """The name of a cgroup hierarchy."""

    name = "hierarchy"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            hierarchies.choose(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        return str(value)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        known = [hierarchies.UNIFIED]
        known += [name for one in hierarchies.hierarchies() for name in one.controllers]
        return [CompletionItem(name) for name in known if name.startswith(incomplete)]


class User(click.ParamType):  # type: ignore[type-arg]
    """A user's name or number."""

    name = "user"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return pwd.getpwnam(value).pw_uid
        except KeyError:
            if value.isdecimal() and len(value) <= 10 and int(value) < 2**32:
                return int(value)
            self.fail(f"there is no user {value!r}", param, ctx)

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        names = sorted(user.pw_name for user in pwd.getpwall())
        return [CompletionItem(name) for name in names if name.startswith(incomplete)]


class Account(User):
    """A user who has an entry in the user database."""

    def convert(  # type: ignore[override]
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> pwd.struct_passwd:
        uid = super().convert(value, param, ctx)
        try:
            return pwd.getpwuid(uid)
        except KeyError:
            self.fail(f"user {uid} has no entry in the user database", param, ctx)


class Seconds(click.ParamType):  # type: ignore[type-arg]
    """A length of time."""

    name = "seconds"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        try:
            seconds = float(value)
        except ValueError:
            seconds = math.nan
        if not 0 <= seconds <= _LONGEST:
            self.fail(f"{value!r} is not a number of seconds up to {_LONGEST:,}", param, ctx)
        return seconds


class Names(click.ParamType):  # type: ignore[type-arg]
    """Keys of a process's line or of a record, separated by commas."""

    name = "names"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        return tuple(dict.fromkeys(name.strip() for name in value.split(",") if name.strip()))

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        before, comma, last = incomplete.rpartition(",")
        names = RECORD_NAMES if ctx.params.get("threads") else PROCESS_NAMES
        return [CompletionItem(before + comma + name) for name in names if name.startswith(last)]
