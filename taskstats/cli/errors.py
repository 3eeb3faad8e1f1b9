"""How errors are told."""

import os

import click

from taskstats import fixes
from taskstats.cli import texts
from taskstats.errors import AccessDenied, TaskstatsError, Unavailable


def told(
    error: click.ClickException | TaskstatsError | OSError | MemoryError,
) -> click.ClickException:
    """An error as a command ends on it: a line, and where more is to be found."""
    if isinstance(error, click.ClickException):
        return cleaned(error)
    if isinstance(error, MemoryError):
        return click.ClickException("not enough memory: raise the limit, ulimit -v or -d")
    if isinstance(error, AccessDenied | Unavailable):
        return cleaned(click.ClickException(f"{error}\nMore: {fixes.command()} doctor"))
    if isinstance(error, TaskstatsError) or not error.strerror:
        return cleaned(click.ClickException(str(error)))
    about = f"{texts.printable(os.fsdecode(error.filename))}: " if error.filename else ""
    return cleaned(click.ClickException(f"{about}{error.strerror}"))


def cleaned(error: click.ClickException) -> click.ClickException:
    """Return the error, with the control characters of its message escaped.

    A message may quote an argument or a path.
    """
    error.message = texts.printable_lines(error.message)  # type: ignore[misc]
    return error
