"""How rows are written: a table for people, JSON lines and CSV for programs."""

import csv
import io
import json
import re
import textwrap
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import click

from taskstats import host
from taskstats.cli import tables, texts
from taskstats.cli.lines import Line, writer
from taskstats.cli.tables import Column
from taskstats.cli.texts import Row

#: The version of what JSON lines and CSV hold. A key may be added without a change of it.
SCHEMA = 1


class Format(ABC):
    """One way to write rows.

    Attributes:
        left_out: A remark on what there was no room for, or "".
    """

    left_out = ""

    @abstractmethod
    def head(self) -> None:
        """What comes first."""

    @abstractmethod
    def rows(self, rows: Iterable[Row]) -> None:
        """Writes rows, and hands them on to the reader at once."""

    @abstractmethod
    def loss(self, cpu: int, lost: int) -> None:
        """Says that records were lost here."""

    def note(self, text: str) -> None:  # noqa: B027 - programs want none
        """A remark for people, under the rows."""


def about(kind: str, struct_version: int | None) -> dict[str, Any]:
    """What programs need to know of what they read."""
    made: dict[str, Any] = {
        "kind": kind,
        "schema": SCHEMA,
        "kernel": host.kernel_release(),
        "boot_id": host.boot_id(),
        "package_version": _package_version(),
    }
    if struct_version is not None:
        made["struct_version"] = struct_version
    return made


def _package_version() -> str | None:
    """The version; None where the package's metadata is missing or may not be read."""
    from importlib.metadata import PackageNotFoundError, version  # takes time; people need none

    try:
        return version("linux-taskstats")
    except (PackageNotFoundError, OSError):
        return None


def left_out(columns: Sequence[Column], width: int) -> str:
    """A remark on the columns that a terminal had no room for."""
    names = ", ".join(column.header for column in columns)
    return textwrap.fill(f"left out at {width} columns: {names}", width) if names else ""


def wrapped(text: str, width: int) -> str:
    """The text in lines of so many cells."""
    return textwrap.fill(text, width, break_long_words=False, break_on_hyphens=False)


class Table(Format):
    """Text in columns; on a terminal as wide as that, elsewhere with all columns."""

    def __init__(self, columns: Sequence[Column]) -> None:
        self._writer = writer()
        if self._writer.width is not None:
            self._columns, missing = tables.fitted(columns, self._writer.width)
            self.left_out = left_out(missing, self._writer.width)
        else:
            self._columns = [replace(column, cut=False) for column in columns]

    def head(self) -> None:
        self._writer.print(tables.heading(self._columns))

    def rows(self, rows: Iterable[Row]) -> None:
        lines = [tables.line(self._columns, row) for row in rows]
        if lines:
            self._writer.print(*lines)

    def loss(self, cpu: int, lost: int) -> None:
        self._writer.print(Line(f"-- {lost} lost on CPU {cpu} before this line --", "red"))

    def note(self, text: str) -> None:
        self._writer.print(texts.printable_lines(text))


class JsonLines(Format):
    """One JSON object a line, the first about the stream."""

    def __init__(self, names: Sequence[str] = (), struct_version: int | None = None) -> None:
        self._names = names
        self._struct_version = struct_version

    def head(self) -> None:
        self._write([about("stream", self._struct_version)])

    def rows(self, rows: Iterable[Row]) -> None:
        if self._names:
            names = ("kind", *(name for name in self._names if name != "kind"))
            rows = ({name: row[name] for name in names if name in row} for row in rows)
        self._write(rows)

    def loss(self, cpu: int, lost: int) -> None:
        self._write([{"kind": "loss", "cpu": cpu, "lost": lost}])

    def _write(self, objects: Iterable[Row]) -> None:
        lines = "".join(f"{encode(one)}\n" for one in objects)
        if lines:
            click.echo(lines, nl=False)


_encode = json.JSONEncoder(separators=(",", ":")).encode

_SURROGATES = re.compile("[\ud800-\udfff]")


def encode(value: Any) -> str:
    r"""Return the value as JSON in one line, that strict parsers accept.

    Python has a byte that is not UTF-8 as a lone surrogate, which no UTF-8 text may hold. It
    becomes \xNN, as in the names of commands.
    """
    made = _encode(value)
    return _encode(_without_surrogates(value)) if "\\ud" in made else made


def _without_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return _SURROGATES.sub(lambda found: texts.printable(found[0]), value)
    if isinstance(value, Mapping):
        return {key: _without_surrogates(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_surrogates(one) for one in value]
    return value


class Csv(Format):
    """Comma-separated values: a line of names, then a line for each row.

    The first column is the kind. What a row does not have is empty. A text that a spreadsheet would
    take for a formula has a single quote in front.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = ("kind", *(name for name in names if name != "kind"))

    def head(self) -> None:
        self._write([self._names])

    def rows(self, rows: Iterable[Row]) -> None:
        self._write([_csv_cell(row.get(name)) for name in self._names] for row in rows)

    def loss(self, cpu: int, lost: int) -> None:
        self.rows([{"kind": "loss", "cpu": cpu, "lost": lost}])

    def _write(self, rows: Iterable[Iterable[Any]]) -> None:
        made = io.StringIO()
        csv.writer(made, lineterminator="\n").writerows(rows)
        if made.tell():
            click.echo(made.getvalue(), nl=False)


def _csv_cell(value: Any) -> Any:
    if isinstance(value, bool):
        return int(value)
    if not isinstance(value, str):
        return value
    return f"'{texts.printable(value)}" if value.startswith(_FORMULA) else texts.printable(value)


#: What makes a spreadsheet take a text for a formula.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def for_programs(name: str, csv_names: Sequence[str]) -> Format:
    """JSON lines, or CSV of these names."""
    return Csv(csv_names) if name == "csv" else JsonLines()
