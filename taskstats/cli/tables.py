"""Rows as lines of text: columns that are left out, never cut, where the terminal is narrow."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from rich.cells import cell_len, set_cell_size

from taskstats.cli.lines import Line
from taskstats.cli.texts import Row

_GAP = 1


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table.

    Attributes:
        name: The key of a row that it shows.
        header: Its heading.
        text: A row's cell.
        width: Cells that it takes; a wider number spills over. 0 is no limit.
        cut: Whether a wider text is cut, with a mark, instead of spilling over too.
        right: Aligned to the right, as numbers are.
        leave: Left out on a narrow terminal, the highest first; 0 is never left out.
        style: The rich style of a row's cell.
        least: For an elastic column, the cells that it needs: on a terminal it takes what the other
            columns leave.
        shorten: For a text wider than the column, a shorter text of so many cells. None to cut it.
    """

    name: str
    header: str
    text: Callable[[Row], str]
    width: int = 0
    right: bool = True
    leave: int = 0
    style: Callable[[Row], str] | None = None
    cut: bool = True
    least: int = 0
    shorten: Callable[[str, int], str] | None = None


def widened(columns: Iterable[Column], rows: Sequence[Row]) -> list[Column]:
    """The columns as wide as these rows need."""
    return [_widened(column, rows) for column in columns]


def _widened(column: Column, rows: Sequence[Row]) -> Column:
    needed = max([cell_len(column.header), *(cell_len(column.text(row)) for row in rows)])
    return replace(column, width=needed, least=min(column.least, needed))


def fitted(columns: Sequence[Column], width: int) -> tuple[list[Column], list[Column]]:
    """Those that a terminal of this width has room for, and those left out."""
    kept = list(columns)
    for column in sorted(columns, key=lambda column: -column.leave):
        if _room(kept, width) >= 0 or not column.leave:
            break
        kept.remove(column)
    left_out = [column for column in columns if column not in kept]
    room = max(_room(kept, width), 0)
    return [replace(c, width=c.least + room) if c.least else c for c in kept], left_out


def _room(columns: Sequence[Column], width: int) -> int:
    """The cells that these columns leave on a line."""
    return width + _GAP - sum((column.least or column.width) + _GAP for column in columns)


def heading(columns: Sequence[Column]) -> Line:
    """The line of headings."""
    cells = [_cell(column, column.header) for column in columns]
    return Line((" " * _GAP).join(cells).rstrip(), style="bold")


def line(columns: Sequence[Column], row: Row) -> Line:
    """A row's line."""
    cells = [_cell(column, column.text(row)) for column in columns]
    made = Line((" " * _GAP).join(cells).rstrip())
    start = 0
    for column, cell in zip(columns, cells, strict=True):
        if column.style:
            made.stylize(column.style(row), start, start + len(cell))
        start += len(cell) + _GAP
    return made


def _cell(column: Column, text: str) -> str:
    missing = column.width - cell_len(text)
    if column.right:
        return " " * missing + text
    if missing < 0 and column.cut and column.width:
        if column.shorten:
            text = column.shorten(text, column.width)
            return text + " " * (column.width - cell_len(text))
        return set_cell_size(text, column.width - 1) + "…"
    return text + " " * missing
