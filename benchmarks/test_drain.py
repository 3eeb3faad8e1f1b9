"""Emptying a socket into batches, by how many records wait in it, against a bare recvmmsg loop.

The floor lets go what it has read; so where the records are used, the ratio tells what that costs.
"""

from collections.abc import Iterator
from functools import partial

import numpy as np
import pytest
from fake_exits import FakeExits, Use
from figures import Figures
from floors import Floors

from taskstats import Batch

pytestmark = pytest.mark.usefixtures("one_cpu")

RECORDS = 5 * 4096
QUEUED = (1, 10, 100, 1000, 4096, RECORDS)

#: Few records are drained as often as this: it is enough, and Arrow's columns take their time.
MOST_DRAINS = 500

# ---- bare ------------------------------------------------------------------------------------

FRAMES = {"exit": "a record", "exit_thread3": "a last thread's record"}  # 596 and 1,172 bytes


def times(queued: int) -> int:
    """How often so many are drained."""
    return min(RECORDS // queued, MOST_DRAINS)


@pytest.mark.parametrize("queued", QUEUED)
@pytest.mark.parametrize("name", FRAMES)
def test_drain(figures: Figures, floors: Floors, name: str, queued: int) -> None:
    with FakeExits(floors, name=name) as exits:
        numpy_reads_it(exits)
        seen = figures.turns(
            {
                "ours": partial(exits.ours, queued, times(queued)),
                "floor": partial(exits.floor, queued, times(queued)),
            }
        )
        exits.check()
    figures.compare(
        f"drain {FRAMES[name]}",
        seen,
        at={"queued": queued},
        targets={"floor": 1.10} if queued == RECORDS else None,
    )


def numpy_reads_it(exits: FakeExits) -> None:
    exits.send(exits.ports[0], RECORDS)
    rows = np.concatenate([batch.to_numpy() for batch in exits.batches(RECORDS)])
    assert (rows["seq"] == np.arange(RECORDS)).all()
    assert rows["ac_etime"].all()


# ---- and used --------------------------------------------------------------------------------


def read_records(batches: Iterator[Batch]) -> None:
    """Two fields of each, as attributes."""
    for batch in batches:
        for record in batch:
            _pid, _elapsed = record.ac_pid, record.ac_etime


def read_columns(batches: Iterator[Batch]) -> None:
    """The same two, as lists."""
    for batch in batches:
        columns = batch.columns
        for _pid, _elapsed in zip(columns["ac_pid"], columns["ac_etime"], strict=True):
            pass


def sum_numpy(batches: Iterator[Batch]) -> None:
    """One column's sum."""
    for batch in batches:
        batch.to_numpy()["ac_etime"].sum()


def make_arrow(batches: Iterator[Batch]) -> None:
    """Every column."""
    for batch in batches:
        batch.to_arrow()


USES: dict[str, Use] = {
    "drain into records, two fields read": read_records,
    "drain into columns, two of them read": read_columns,
    "drain into NumPy, one column summed": sum_numpy,
    "drain into Arrow, every column": make_arrow,
}


@pytest.mark.parametrize("queued", QUEUED)
def test_drain_and_use(figures: Figures, floors: Floors, queued: int) -> None:
    with FakeExits(floors) as exits:
        ways = {
            what: partial(exits.ours, queued, times(queued), use=use) for what, use in USES.items()
        }
        seen = figures.turns({**ways, "floor": partial(exits.floor, queued, times(queued))})
        exits.check()
    for what in USES:
        figures.compare(what, {"ours": seen[what], "floor": seen["floor"]}, at={"queued": queued})
