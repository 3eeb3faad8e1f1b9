"""Whatever is asked, the emulated kernel answers as the real one does."""

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.requirements import skip

from conformance import messages
from conformance.emulated import EmulatedWorld
from conformance.messages import Request, attribute, deregister
from conformance.real import RealWorld
from conformance.world import Listener
from taskstats.emulator import Quirks

#: As a list these are some; as a number no pid, for tasks are others there, and no descriptor.
_VALUES = [b"\xff\xff\xff\x7f", b"0\0\0\x7f", b"0,\0\x7f", b"\xff\xff\xff\xff"]

_PIECES = ["0", "1", "2", "10", "N", "-", ",", ":", "/", " ", "\n", "\t", "all", "ALL", "a", "x"]
_PIECES += ["0-0", "0-0:1/2", "4294967295", "4294967296", "\0", "0x1", "+1", "00", ";"]

lists = st.lists(st.sampled_from(_PIECES), max_size=8).map("".join).map(deregister)

attributes = st.builds(
    attribute,
    st.builds(
        int.__or__, st.sampled_from([0, 1, 2, 3, 4, 5, 77]), st.sampled_from([0, 0x8000, 0x4000])
    ),
    st.builds(
        lambda value, size: (value * 3)[:size],
        st.sampled_from(_VALUES),
        st.sampled_from([0, 1, 2, 3, 4, 5, 8, 12]),
    ),
    st.one_of(st.none(), st.sampled_from([0, 1, 3, 4, 5, 200])),
)

requests = st.builds(
    Request,
    st.lists(attributes, max_size=4).map(b"".join),
    command=st.one_of(st.just(1), st.sampled_from([0, 2, 3, 4, 5, 6, 255])),
    flags=st.sampled_from([0, 1, 4, 5, 9, 0xD, 0x105, 0x205, 0x301, 0x305, 0x405, 0xFFF5]),
    type=st.one_of(st.none(), st.sampled_from([0, 1, 2, 3, 15, 0xFFF0])),
    version=st.sampled_from([0, 1, 2]),
    reserved=st.sampled_from([0, 1]),
    headless=st.booleans(),
)


@pytest.fixture(scope="module")
def both(obstacle: str | None) -> Iterator[tuple[Listener, Listener]]:
    """A socket of each; the emulated kernel has the other's CPUs and its way with lists."""
    if obstacle:
        skip(obstacle)
    with RealWorld() as real:
        newer = Request(command=messages.CGROUP_GET + 1, reserved=1)
        if [*real.ask(deregister("all")), *real.ask(newer)] != ["ACK", "EINVAL"]:
            pytest.skip("an older kernel reads fewer lists and looks at less of a header")

        class Alike(EmulatedWorld):
            possible = real.possible
            quirks = Quirks(drops_last_character=real.ask(deregister(b"x")) == ["ACK"])

        with Alike() as emulated, real.listener() as one, emulated.listener() as other:
            yield one, other
            one.send(deregister(real.possible))


def told(one: Listener, asked: list[Request]) -> list[tuple[int, str]]:
    """Number and word of each answer."""
    one.seq = 0
    one.send(*asked)
    answers = [answer for answer in one.answers() if not messages.is_exit(answer)]
    return [(messages.header(answer).seq, messages.told(answer, one.family)) for answer in answers]


# The examples share a socket: what one of them registers, the next finds in both.
alike = settings(max_examples=300)


@alike
@given(asked=st.lists(lists, min_size=1, max_size=20))
def test_lists(both: tuple[Listener, Listener], asked: list[Request]) -> None:
    real, emulated = both
    assert told(emulated, asked) == told(real, asked)


@alike
@given(asked=st.lists(requests, min_size=1, max_size=20))
def test_requests(both: tuple[Listener, Listener], asked: list[Request]) -> None:
    real, emulated = both
    assert told(emulated, asked) == told(real, asked)
