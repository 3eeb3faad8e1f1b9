"""`taskstats doctor`: check the setup and suggest fixes."""

import dataclasses
import sys
import textwrap
from collections.abc import Iterator

import click

from taskstats.cli import formats, options, texts
from taskstats.cli.lines import Line, writer
from taskstats.diagnosis import Check, Diagnosis
from taskstats.diagnosis import doctor as diagnose

_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}
_INDENT = 19


@click.command()
@options.formats
def doctor(format_name: str | None) -> None:
    """Check the setup for queries and listening, try both, and suggest fixes.

    The self-test starts 200 threads and listens for their exits. Doctor changes nothing.

    \b
    Exit status: 0 if listening works (there may be warnings), else 1.
    """
    found = diagnose()
    if format_name is None:
        _print(found)
    else:
        names = [field.name for field in dataclasses.fields(Check)]
        output = formats.for_programs(format_name, names)
        output.head()
        output.rows({"kind": "check", **dataclasses.asdict(check)} for check in found.checks)
    if not found.ready:
        raise SystemExit(1)


def _print(found: Diagnosis) -> None:
    output = writer()
    width = output.width or sys.maxsize
    for check in found.checks:
        first, *others = _lines(check, width)
        line = Line(first)
        line.stylize(_STYLES[check.state], 0, 4)
        output.print(line, *others)
    output.print(_complete(found, width))
    output.print(Line(_summary(found), "bold"))


def _lines(check: Check, width: int) -> Iterator[str]:
    """The check, wrapped; the fix on a line of its own, whole, to be copied."""
    text = check.finding if check.state == "ok" else f"{check.finding}: {check.why}"
    yield from textwrap.wrap(
        texts.printable(text),
        max(width, 2 * _INDENT),
        initial_indent=f"{check.state:<6}{check.what:<13}",
        subsequent_indent=" " * _INDENT,
        break_on_hyphens=False,
    )
    if check.mend:
        yield f"{'':{_INDENT}}fix: {texts.printable(check.mend)}"


def _complete(found: Diagnosis, width: int) -> str:
    reason = found.incomplete_because
    text = f"complete records: {f'no, because: {reason}' if reason else 'yes'}"
    return textwrap.fill(texts.printable(text), max(width, 2 * _INDENT), break_on_hyphens=False)


def _summary(found: Diagnosis) -> str:
    states = [check.state for check in found.checks]
    counts = [
        f"{n} {name}{'s' if n > 1 else ''}"
        for name, n in (("failure", states.count("fail")), ("warning", states.count("warn")))
        if n
    ]
    text = "ready to listen" if found.ready else "not ready to listen"
    return f"{text} ({', '.join(counts)})" if counts else text
