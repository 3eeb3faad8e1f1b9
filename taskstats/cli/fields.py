"""`taskstats fields`: every field, its unit, its origin and its meaning."""

import sys
import textwrap
from collections.abc import Iterator, Mapping

import click

from taskstats.cli import formats, options, tables, texts
from taskstats.cli.lines import writer
from taskstats.cli.tables import Column
from taskstats.cost import COST_KEYS
from taskstats.fields import FIELDS, RELEASES
from taskstats.processes import PROCESS_KEYS
from taskstats.records import HEADER_KEYS
from taskstats.sums import TOTALS
from taskstats.totals import TOTALS_KEYS

_NAMES = ("name", "unit", "since", "kernel", "records", "meaning")
_LEAST_MEANING = 38  # cells


@click.command()
@options.formats
def fields(format_name: str | None) -> None:
    """List every field: name, unit, since which struct version and kernel, for which records.

    RECORDS says what carries it: a task (one thread), a group (the kernel's sum over a process), a
    process (the line of `exits`), a total (of processes, in `run --json`), a run (all of `run
    --json`). KERNEL is the first release from kernel.org; distributions backport. The keys that are
    not the kernel's come last.
    """
    own = {
        "process": PROCESS_KEYS,
        "total": TOTALS_KEYS,
        "task, group": HEADER_KEYS,
        "run": COST_KEYS,
    }
    rows = [*_kernel_fields()]
    for records, keys in own.items():
        rows += _own(records, keys)
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
            "records": ", ".join([*kinds, *(["process", "total"] if name in TOTALS else [])]),
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
    """A line for each, the meaning at its end; under it, where the terminal is narrow."""
    output = writer()
    width = output.width or sys.maxsize
    columns, missing = tables.fitted(tables.widened(_columns(), rows), width)
    indent = sum(column.width + 1 for column in columns)
    beside = width - indent >= _LEAST_MEANING
    if beside:
        columns.append(Column("meaning", "MEANING", lambda row: str(row["meaning"]), right=False))
    else:
        indent = 4
    output.print(tables.heading(columns))
    for row in rows:
        lines = textwrap.wrap(row["meaning"], width - indent)
        first = lines.pop(0) if beside else ""
        output.print(tables.line(columns, {**row, "meaning": first}))
        for line in lines:
            output.print(" " * indent + line)
    if remark := formats.left_out(missing, width):
        output.print(remark)


def _columns() -> list[Column]:
    return [
        Column("name", "NAME", lambda row: str(row["name"]), right=False),
        Column("unit", "UNIT", lambda row: str(row["unit"]), right=False, leave=1),
        Column("since", "SINCE", lambda row: texts.of(row, "since"), leave=3),
        Column("kernel", "KERNEL", lambda row: texts.of(row, "kernel"), leave=4),
        Column("records", "RECORDS", lambda row: str(row["records"]), right=False, leave=2),
    ]
