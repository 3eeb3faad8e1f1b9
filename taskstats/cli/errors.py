"""How errors are told."""

import click

from taskstats import fixes
from taskstats.errors import AccessDenied, TaskstatsError, Unavailable


def told(
    error: click.ClickException | TaskstatsError | OSError | MemoryError,
) -> click.ClickException:
    """An error as a command ends on it: a line, and where more is to be found."""
    if isinstance(error, click.ClickException):
        return error
    if isinstance(error, MemoryError):
        return click.ClickException("not enough memory: raise the limit, ulimit -v or -d")
    if isinstance(error, AccessDenied | Unavailable):
        return click.ClickException(f"{error}\nMore: {fixes.command()} doctor")
    if isinstance(error, TaskstatsError) or not error.strerror:
        return click.ClickException(str(error))
    about = f"{error.filename}: " if error.filename else ""
    return click.ClickException(f"{about}{error.strerror}")
