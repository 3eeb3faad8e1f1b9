"""Ten million records through one socket: memory stays as it is."""

import re
from pathlib import Path

import pytest
from fake_exits import FakeExits
from figures import Figures
from floors import Floors

FILL = 5 * 4096  # five batches
FILLS = 490
FIRST = 20  # fills, of 100 batches
MOST_GROWTH = 8 << 10  # KiB

pytestmark = pytest.mark.usefixtures("one_cpu")


def resident() -> int:
    """VmRSS in KiB."""
    found = re.search(r"^VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1])


def test_memory_is_flat(figures: Figures, floors: Floors) -> None:
    with FakeExits(floors) as exits:

        def fill_and_drain() -> int:
            exits.send(exits.ports[0], FILL)
            exits.drain(FILL)
            return resident()

        seen = figures.turns({"resident": fill_and_drain}, rounds=FILLS, warm_up=FIRST)["resident"]
        exits.check()
        records = exits.listener.stats().received
    assert records > 10_000_000
    figures.value(f"memory, {records:,} records: after 100 batches", seen[:1], "KiB")
    figures.value("memory: at the end", seen[-1:], "KiB")
    figures.value("memory: most growth", [max(seen) - seen[0]], "KiB", at_most=MOST_GROWTH)
    assert max(seen) - seen[0] <= MOST_GROWTH
