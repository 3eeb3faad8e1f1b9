"""Emptying a full socket into batches, against a bare recvmmsg loop."""

from functools import partial

import numpy as np
import pytest
from fake_exits import FakeExits
from figures import Figures
from floors import Floors

pytestmark = pytest.mark.usefixtures("one_cpu")

RECORDS = 5 * 4096
FRAMES = {"exit": "a record", "exit_thread3": "a last thread's record"}  # 596 and 1,172 bytes


@pytest.mark.parametrize("queued", [RECORDS, 4096, 100])
@pytest.mark.parametrize("name", FRAMES)
def test_drain(figures: Figures, floors: Floors, name: str, queued: int) -> None:
    times = RECORDS // queued
    with FakeExits(floors, name=name) as exits:
        numpy_reads_it(exits)
        seen = figures.turns(
            {
                "ours": partial(exits.ours, queued, times),
                "floor": partial(exits.floor, queued, times),
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
