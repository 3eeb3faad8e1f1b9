"""1 to 512 CPUs: a drain of as many sockets, and what the silent ones cost."""

import resource
from collections.abc import Iterator
from functools import partial

import pytest
from fake_exits import FakeExits
from figures import Figures
from floors import Floors

pytestmark = pytest.mark.usefixtures("one_cpu", "descriptors")

SOCKETS = (1, 8, 64, 512)
RECORDS = 10_240
WAKEUPS = 2000
TARGET = 1.15


@pytest.fixture
def descriptors() -> Iterator[None]:
    """As many as a listener on all CPUs and its floor need, and some."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4 * max(SOCKETS), hard), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("sockets", SOCKETS)
def test_one_record_in_each_socket(figures: Figures, floors: Floors, sockets: int) -> None:
    drains = RECORDS // sockets
    with FakeExits(floors, cpus=sockets) as exits:
        seen = figures.turns(
            {"ours": partial(exits.ours, 1, drains), "floor": partial(exits.floor, 1, drains)}
        )
        exits.check()
    figures.compare(
        "a record in each socket",
        seen,
        at={"sockets": sockets},
        targets={"floor": TARGET} if sockets == max(SOCKETS) else None,
    )


@pytest.mark.parametrize("sockets", SOCKETS[1:])
def test_silent_sockets_cost_nothing(figures: Figures, floors: Floors, sockets: int) -> None:
    with FakeExits(floors) as one, FakeExits(floors, cpus=sockets) as many:
        middle = many.ports[sockets // 2]
        seen = figures.turns(
            {
                "ours": partial(many.ours, 1, WAKEUPS, ports=[middle]),
                "ours, of one socket": partial(one.ours, 1, WAKEUPS),
            }
        )
        one.check()
        many.check()
    figures.compare(
        "a wakeup for one record",
        seen,
        at={"sockets": sockets},
        targets={"ours, of one socket": TARGET} if sockets == max(SOCKETS) else None,
    )
