"""Columns: aligned, never cutting a number, left out where the terminal is narrow."""

from dataclasses import replace

import pytest
from rich.cells import cell_len

from taskstats.cli import columns, tables
from taskstats.cli.tables import Column
from taskstats.fields import FIELDS
from taskstats.processes import PROCESS_KEYS

NAME = Column("name", "NAME", lambda row: row["name"], 6, right=False)
SIZE = Column("size", "SIZE", lambda row: row["size"], 5, leave=1)
KIND = Column("kind", "KIND", lambda _: "k", 4, leave=2)


def test_a_line() -> None:
    line = tables.line([NAME, SIZE], {"name": "ab", "size": "12"})
    assert line.plain == "ab        12"
    assert tables.heading([NAME, SIZE]).plain == "NAME    SIZE"


def test_a_text_that_is_too_long_is_cut_and_shows_it() -> None:
    assert tables.line([NAME, SIZE], {"name": "abcdefgh", "size": "1"}).plain == "abcde…     1"


def test_a_text_without_a_width_is_whole() -> None:
    assert tables.line([replace(NAME, width=0)], {"name": "abcdefgh"}).plain == "abcdefgh"


def test_a_number_that_is_too_long_is_not_cut() -> None:
    assert tables.line([NAME, SIZE], {"name": "a", "size": "1234567"}).plain == "a      1234567"


@pytest.mark.parametrize("name", ["日本語", "日本語語", "é"])
def test_wide_characters_keep_the_columns(name: str) -> None:
    line = tables.line([NAME, SIZE], {"name": name, "size": "1"}).plain
    assert cell_len(line) == 12
    assert line.endswith("     1")


@pytest.mark.parametrize(
    ("width", "kept"),
    [
        (17, [NAME, SIZE, KIND]),
        (16, [NAME, SIZE]),
        (12, [NAME, SIZE]),
        (11, [NAME]),
        (1, [NAME]),
    ],
)
def test_columns_are_left_out_in_their_order(width: int, kept: list[Column]) -> None:
    here, left_out = tables.fitted([NAME, SIZE, KIND], width)
    assert here == kept
    assert [*here, *left_out] == [NAME, SIZE, KIND]


PLACE = Column("place", "PLACE", lambda row: row["place"], right=False, leave=3, least=7)


@pytest.mark.parametrize(("width", "cells"), [(19, None), (20, 7), (30, 17)])
def test_an_elastic_column_takes_what_is_left(width: int, cells: int | None) -> None:
    here, left_out = tables.fitted([NAME, PLACE, SIZE], width)
    assert [column.width for column in here if column.least] == ([cells] if cells else [])
    assert [column.name for column in left_out] == ([] if cells else ["place"])


def test_an_elastic_column_needs_no_more_than_its_rows() -> None:
    rows = [{"name": "abcdef", "place": "/", "size": "12345"}]
    wide = tables.widened([NAME, PLACE, SIZE], rows)
    (_, place, _), left_out = tables.fitted(wide, 18)
    assert (place.width, left_out) == (5, [])


def test_a_column_may_shorten_its_texts_itself() -> None:
    column = replace(PLACE, width=4, shorten=lambda text, width: text[-width + 1 :])
    assert tables.line([column, SIZE], {"place": "abcdef", "size": "1"}).plain == "def      1"
    whole = replace(column, cut=False)
    assert tables.line([whole, SIZE], {"place": "abcdef", "size": "1"}).plain == "abcdef     1"


def test_a_style_covers_its_cell() -> None:
    red = Column("name", "NAME", lambda _: "日本", 6, right=False, style=lambda _: "red")
    line = tables.line([SIZE, red, KIND], {"size": "1234567"})
    (span,) = line.spans
    assert line.plain[span.start : span.end].strip() == "日本"
    assert tables.line([NAME], {"name": "x"}).spans == []


def test_widths_follow_the_rows() -> None:
    (column,) = tables.widened([NAME], [{"name": "abcdefghij"}, {"name": "x"}])
    assert column.width == 10
    (column,) = tables.widened([NAME], [])
    assert column.width == 4


@pytest.mark.parametrize("name", [*FIELDS, *PROCESS_KEYS])
def test_there_is_a_column_for_every_key(name: str) -> None:
    column = columns.column_of(name)
    assert column.header == name
    assert column.text({}) == "-"
