"""The emulated kernel's storms: are they fast enough to load a listener?"""

import pytest
from fake_exits import RCVBUF, FakeExits
from figures import Figures, nanoseconds
from floors import Floors

from taskstats import ExitListener
from taskstats.emulator import EmulatedKernel

QUEUED = 20_000

pytestmark = pytest.mark.usefixtures("one_cpu")


def test_storm(figures: Figures, floors: Floors) -> None:
    with (
        EmulatedKernel(version=16) as kernel,
        ExitListener("0", rcvbuf=RCVBUF, rcvbuf_total=RCVBUF, endpoint=kernel.endpoint) as listener,
        FakeExits(floors) as fake,
    ):
        batches = listener.batches(timeout=0)

        def ours() -> float:
            took = nanoseconds(lambda: kernel.storm(QUEUED))
            assert sum(len(next(batches)) for _ in range(-(-QUEUED // 1024))) == QUEUED
            return took / QUEUED

        def floor() -> float:
            took = nanoseconds(lambda: fake.send(fake.ports[0], QUEUED))
            fake.drain(QUEUED)
            return took / QUEUED

        seen = figures.turns({"ours": ours, "floor, sendto in C": floor})
        stats = listener.stats()
        assert (stats.lost, stats.unexplained) == (0, 0)
        fake.check()
    figures.compare("an emulated exit", seen)
    figures.value("emulated exits", [1e9 / ns for ns in seen["ours"]], "exits/s", at_least=100_000)
