"""Lines of styled text, and how they are written.

Only a terminal shows styles. Elsewhere lines are plain, and rich is not imported: that takes longer
than most commands need for their work.
"""

import os
import sys
from abc import ABC, abstractmethod
from typing import NamedTuple, TextIO

from rich.cells import cell_len

_LEAST_WIDTH = 20  # cells; on less, lines wrap

#: Variables by which rich takes a file for a terminal.
_FORCING = ("FORCE_COLOR", "TTY_COMPATIBLE")


class Span(NamedTuple):
    """A part of a line that has a style of its own."""

    start: int
    end: int
    style: str


class Line:
    """Text with styles, named as rich does.

    Attributes:
        plain: The text.
        style: The style of all of it, or "".
        spans: The parts with more style than that.
    """

    __slots__ = ("plain", "spans", "style")

    def __init__(self, plain: str = "", style: str = "") -> None:
        self.plain = plain
        self.style = style
        self.spans: list[Span] = []

    def stylize(self, style: str, start: int, end: int) -> None:
        """Give a part a style; "" changes nothing."""
        if style:
            self.spans.append(Span(start, end, style))

    def append(self, text: str, style: str = "") -> None:
        """Add text at the end."""
        start = len(self.plain)
        self.plain += text
        self.stylize(style, start, len(self.plain))

    @property
    def cell_len(self) -> int:
        """The cells that it takes."""
        return cell_len(self.plain)


class Writer(ABC):
    """Writes lines to a file.

    Attributes:
        width: Cells that a line may take; None where the file is no terminal.
    """

    width: int | None = None

    @abstractmethod
    def print(self, *lines: Line | str) -> None:
        """Write these lines, in one piece."""


def writer(file: TextIO | None = None, *, colours: bool = True) -> Writer:
    """Return a writer to stdout, or to another file.

    Args:
        file: Another file than stdout.
        colours: Show styles if the file is a terminal, or if FORCE_COLOR says so.
    """
    file = file or sys.stdout
    if file.isatty() or (colours and any(map(os.environ.get, _FORCING))):
        return _Styled(file, colours)
    return _Plain(file)


class _Plain(Writer):
    def __init__(self, file: TextIO) -> None:
        self._file = file

    def print(self, *lines: Line | str) -> None:
        plain = [line if isinstance(line, str) else line.plain for line in lines]
        self._file.write("\n".join(plain) + "\n")
        self._file.flush()


class _Styled(Writer):
    def __init__(self, file: TextIO, colours: bool) -> None:
        from rich.console import Console

        self._console = Console(
            file=file,
            color_system="auto" if colours else None,
            highlight=False,
            markup=False,
            emoji=False,
            soft_wrap=True,
        )
        if file.isatty():
            self.width = max(self._console.width or 80, _LEAST_WIDTH)
            self._console.width = self.width

    def print(self, *lines: Line | str) -> None:
        from rich.text import Text

        made = []
        for line in lines:
            if isinstance(line, str):
                line = Line(line)
            text = Text(line.plain, line.style)
            for start, end, style in line.spans:
                text.stylize(style, start, end)
            made.append(text)
        self._console.print(Text("\n").join(made))
