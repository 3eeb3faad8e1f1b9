"""Reading what was drained: in a Python loop, and as Arrow columns."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from figures import Figures, nanoseconds
from support.fake_kernel import frame

import taskstats
from taskstats import Batch

ROWS = 4096

pytestmark = pytest.mark.usefixtures("one_cpu")


@pytest.fixture
def rows() -> bytes:
    return bytes(taskstats.decode(frame("exit")).data) * ROWS


def read_all(pairs: Iterable[tuple[int, int]]) -> None:
    for _pid, _elapsed in pairs:
        pass


def test_two_fields_in_a_loop(figures: Figures, rows: bytes) -> None:
    def attributes() -> None:
        for record in Batch(rows):
            _pid, _elapsed = record.ac_pid, record.ac_etime

    def columns() -> None:
        batch = Batch(rows)
        read_all(zip(batch.columns["ac_pid"], batch.columns["ac_etime"], strict=True))

    tuples = [(record.ac_pid, record.ac_etime) for record in Batch(rows)]
    ways: dict[str, Any] = {
        "of records": attributes,
        "of columns": columns,
        "tuples": lambda: read_all(tuples),
    }
    seen = figures.turns(
        {name: lambda way=way: nanoseconds(way) / ROWS for name, way in ways.items()}  # type: ignore[misc]
    )
    for name in ("of records", "of columns"):
        figures.compare(
            f"two fields of a record, {name}",
            {"ours": seen[name], "floor, a list of tuples": seen["tuples"]},
        )
    figures.value("two fields of a record", seen["of records"], "ns", at_most=600)


def test_to_arrow(figures: Figures, rows: bytes) -> None:
    words = np.frombuffer(rows, "u8").reshape(ROWS, -1)
    assert Batch(rows).to_arrow().num_rows == ROWS
    seen = figures.turns(
        {
            "ours": lambda: nanoseconds(lambda: Batch(rows).to_arrow()) / ROWS,
            "floor": lambda: nanoseconds(lambda: np.ascontiguousarray(words.T)) / ROWS,
        }
    )
    figures.compare("to_arrow, a row", {"ours": seen["ours"], "floor, transposing": seen["floor"]})
    figures.value("to_arrow", [1e9 / ns for ns in seen["ours"]], "rows/s", at_least=2e6)
