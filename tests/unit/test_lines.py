"""Lines of styled text, plain and on a terminal."""

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskstats.cli import lines
from taskstats.cli.lines import Line

_STYLE = re.compile(r"\x1b\[[0-9;]*m")


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def sample() -> Line:
    line = Line("total ", "bold")
    line.append("lost 7", "red")
    return line


@pytest.fixture(autouse=True)
def _usual_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "NO_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")


def written(file: io.StringIO, *printed: Line | str, colours: bool = True) -> str:
    lines.writer(file, colours=colours).print(*printed)
    return file.getvalue()


def test_a_terminal_shows_styles() -> None:
    text = written(Terminal(), sample(), "plain")
    bold, red = re.search(r"\x1b\[1m", text), re.search(r"\x1b\[1;31m", text)
    assert bold
    assert red
    assert bold.start() < red.start() == text.index("lost 7") - len(red[0])
    assert _STYLE.sub("", text) == "total lost 7\nplain\n"


@pytest.mark.parametrize("name", ["FORCE_COLOR", "TTY_COMPATIBLE"])
def test_the_environment_may_ask_for_styles(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "1")
    assert _STYLE.search(written(io.StringIO(), sample()))
    assert written(io.StringIO(), sample(), colours=False) == "total lost 7\n"
    assert lines.writer(io.StringIO()).width is None


def test_a_file_has_plain_lines_and_no_width() -> None:
    assert written(io.StringIO(), sample(), "plain") == "total lost 7\nplain\n"
    assert lines.writer(io.StringIO()).width is None


def test_a_terminal_has_a_width_with_room_for_text(monkeypatch: pytest.MonkeyPatch) -> None:
    for columns, width in (("100", 100), ("3", 20), ("0", 80)):
        monkeypatch.setenv("COLUMNS", columns)
        assert lines.writer(Terminal()).width == width


@given(st.lists(st.text().filter(str.isprintable), min_size=1, max_size=3))
def test_plain_and_styled_lines_have_the_same_text(texts: list[str]) -> None:
    printed = [Line(text, "bold") for text in texts]
    assert written(io.StringIO(), *printed) == _STYLE.sub("", written(Terminal(), *printed))


def test_no_style_is_no_span() -> None:
    line = Line("a")
    line.append("b", "")
    line.stylize("", 0, 1)
    assert (line.plain, line.spans, line.cell_len) == ("ab", [], 2)
