"""512 CPUs: a drain of as many sockets, and what the silent ones cost."""

import resource
from collections.abc import Iterator
from functools import partial

import pytest
from fake_exits import FakeExits
from figures import Figures
from floors import Floors

pytestmark = pytest.mark.usefixtures("one_cpu", "descriptors")

CPUS = 512
DRAINS = 20
WAKEUPS = 2000


@pytest.fixture
def descriptors() -> Iterator[None]:
    """As many as a listener on all CPUs and its floor need, and some."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(4 * CPUS, hard), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_one_record_in_each_socket(figures: Figures, floors: Floors) -> None:
    with FakeExits(floors, cpus=CPUS) as exits:
        seen = figures.turns(
            {"ours": partial(exits.ours, 1, DRAINS), "floor": partial(exits.floor, 1, DRAINS)}
        )
        exits.check()
    figures.compare("a record in each socket", seen, at={"sockets": CPUS}, targets={"floor": 1.15})


def test_silent_sockets_cost_nothing(figures: Figures, floors: Floors) -> None:
    with FakeExits(floors) as one, FakeExits(floors, cpus=CPUS) as many:
        middle = many.ports[CPUS // 2]
        seen = figures.turns(
            {"one": partial(one.ours, 1, WAKEUPS), "many": partial(many.ours, 1, WAKEUPS, [middle])}
        )
        one.check()
        many.check()
    figures.compare(
        "a wakeup for one record",
        {"ours": seen["many"], "of one socket": seen["one"]},
        at={"sockets": CPUS},
        targets={"of one socket": 1.15},
    )
