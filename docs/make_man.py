"""Makes docs/taskstats.1, the man page, from the help of the commands.

Run it after a change of the help; a test compares.
"""

from collections.abc import Iterator
from importlib.metadata import version
from inspect import cleandoc
from pathlib import Path

import click

from taskstats.cli.main import taskstats

PAGE = Path(__file__).with_name("taskstats.1")


def page() -> str:
    """The whole page, in the language of man(7)."""
    return "\n".join(_page()) + "\n"


def _page() -> Iterator[str]:
    root = click.Context(taskstats, info_name="taskstats")
    title, *about = _paragraphs(taskstats)
    yield f'.TH TASKSTATS 1 "" "taskstats {version("linux-taskstats")}"'
    yield from (".SH NAME", f"taskstats \\- {_escaped(title.rstrip('.'))}")
    yield ".SH SYNOPSIS"
    for name, command in taskstats.commands.items():
        usage = " ".join(command.collect_usage_pieces(click.Context(command)))
        yield from (f".B taskstats {name}", _escaped(usage), ".br")
    yield ".SH DESCRIPTION"
    for paragraph in about:
        yield from _paragraph(paragraph)
    yield from _options(taskstats, root)
    yield ".SH COMMANDS"
    for name, command in taskstats.commands.items():
        yield f".SS taskstats {name}"
        for paragraph in _paragraphs(command):
            yield from _paragraph(paragraph)
        yield from _options(command, click.Context(command, root, info_name=name))


def _paragraphs(command: click.Command) -> list[str]:
    return cleandoc(command.help or "").split("\n\n")


def _paragraph(text: str) -> Iterator[str]:
    r"""Text, or after a \b, which is how click marks it, lines as they stand."""
    yield ".PP"
    if text.startswith("\b\n"):
        yield from (".nf", *map(_escaped, text.splitlines()[1:]), ".fi")
    else:
        yield from map(_escaped, text.splitlines())


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    for parameter in command.params:
        record = parameter.get_help_record(context)
        if isinstance(parameter, click.Option) and record:
            yield from (".TP", f".B {_escaped(record[0])}", _escaped(record[1]))


def _escaped(text: str) -> str:
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text.startswith((".", "'")) else text


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
