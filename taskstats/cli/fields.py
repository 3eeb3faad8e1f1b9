"""`taskstats fields`: every field, its unit, its origin and its meaning."""

from collections.abc import Iterator, Mapping

import click
from rich.table import Table

from taskstats.cli import formats, options, tables, texts
from taskstats.cli.tables import Column
from taskstats.fields import FIELDS, RELEASES
from taskstats.processes import PROCESS_KEYS, TOTALS
from taskstats.records import HEADER_KEYS

_NAMES = ("name", "unit", "since", "kernel", "records", "meaning")
_LEAST_MEANING = 38  # cells


@click.command()
@options.formats
def fields(format_name: str | None) -> None:
    """List every field: name, unit, since which struct version and kernel, for which records.

    RECORDS says what carries it: a task (one thread), a group (the kernel's sum over a process), a
    process (the line of `exits`). KERNEL is the first release from kernel.org; distributions
    backport. At the end stand the keys that are not the kernel's.
    """
    rows = [*_kernel_fields(), *_own("process", PROCESS_KEYS), *_own("task, group", HEADER_KEYS)]
    if format_name is None:
        _print(rows)
        return
    output = formats.for_programs(format_name, _NAMES)
    output.head()
    output.rows(rows)


def _kernel_fields() -> Iterator[texts.Row]:
    for name, field in FIELDS.items():
        kinds = [kind for kind in ("task", "group") if kind in field.kinds]
        yield {
            "kind": "field",
            "name": name,
            "unit": field.unit,
            "since": field.since,
            "kernel": RELEASES[field.since],
            "records": ", ".join([*kinds, *(["process"] if name in TOTALS else [])]),
            "meaning": field.doc,
        }


def _own(records: str, keys: Mapping[str, tuple[str, str]]) -> Iterator[texts.Row]:
    for name, (unit, meaning) in keys.items():
        yield {
            "kind": "field",
            "name": name,
            "unit": unit,
            "since": None,
            "kernel": None,
            "records": records,
            "meaning": meaning,
        }


def _print(rows: list[texts.Row]) -> None:
    console = formats.console()
    meaning = Column("meaning", "MEANING", lambda row: str(row["meaning"]), right=False)
    if not console.is_terminal:
        output = formats.Table([*tables.widened(_columns(), rows), meaning])
        output.head()
        output.rows(rows)
        return
    columns, missing = tables.fitted(
        tables.widened(_columns(), rows), console.width - _LEAST_MEANING - 1
    )
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    for column in columns:
        table.add_column(column.header, no_wrap=True, justify="right" if column.right else "left")
    table.add_column(meaning.header)
    for row in rows:
        table.add_row(*(column.text(row) for column in columns), meaning.text(row))
    console.print(table)
    if remark := formats.left_out(missing, console.width):
        console.print(remark)


def _columns() -> list[Column]:
    return [
        Column("name", "NAME", lambda row: str(row["name"]), right=False),
        Column("unit", "UNIT", lambda row: str(row["unit"]), right=False, leave=1),
        Column("since", "SINCE", lambda row: texts.of(row, "since"), leave=3),
        Column("kernel", "KERNEL", lambda row: texts.of(row, "kernel"), leave=4),
        Column("records", "RECORDS", lambda row: str(row["records"]), right=False, leave=2),
    ]
