"""The group of subcommands, and how errors and interrupts end it."""

import os
import sys
from typing import Any

import click

from taskstats.cli.exits import exits
from taskstats.cli.query import query
from taskstats.errors import TaskstatsError


class _Group(click.Group):
    """Ends on an error of this package or the system with one line, on a closed pipe with none."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except TaskstatsError as error:
            raise click.ClickException(str(error)) from error
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(0)
        except OSError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Group)
@click.version_option(package_name="linux-taskstats")
def taskstats() -> None:
    """Linux per-task accounting: query any task, hear every exit."""


taskstats.add_command(exits)
taskstats.add_command(query)
