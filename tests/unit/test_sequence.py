"""csrc/sequence.c by itself: where records are missing, and counters that wrap."""

import ctypes
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

SOURCE = Path(__file__).parents[2] / "csrc" / "sequence.c"
BITS_32 = 2**32


class Sequence(ctypes.Structure):
    _fields_ = [
        ("started", ctypes.c_int),
        ("next", ctypes.c_uint32),
        ("jumped", ctypes.c_int),
        ("after_jump", ctypes.c_uint32),
        ("placed", ctypes.c_uint64),
        ("missing", ctypes.c_uint64),
    ]


class Counter(ctypes.Structure):
    _fields_ = [("last", ctypes.c_uint32), ("total", ctypes.c_uint64)]


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Any:
    library = tmp_path_factory.mktemp("sequence") / "sequence.so"
    command = ["cc", "-std=gnu11", "-O1", "-shared", "-fPIC", SOURCE, "-o", library]
    subprocess.run(command, check=True)
    loaded = ctypes.CDLL(str(library))
    loaded.ts_sequence_follow.restype = ctypes.c_uint32
    loaded.ts_sequence_follow.argtypes = [
        ctypes.POINTER(Sequence),
        ctypes.c_uint32,
        ctypes.c_uint64,
    ]
    loaded.ts_sequence_unexplained.restype = ctypes.c_uint64
    loaded.ts_counter_follow.restype = ctypes.c_uint32
    return loaded


def follow(shim: Any, sequence: Sequence, seq: int, lost: int) -> int:
    return int(shim.ts_sequence_follow(ctypes.byref(sequence), seq % BITS_32, lost))


def unexplained(shim: Any, sequence: Sequence) -> int:
    return int(shim.ts_sequence_unexplained(ctypes.byref(sequence)))


starts = st.sampled_from([0, 1, BITS_32 - 1, BITS_32 - 7, 2**31 - 3, 2**31]) | st.integers(
    0, BITS_32 - 1
)
#: How many are lost before each record that is received.
losses = st.lists(st.sampled_from([0, 0, 0, 1, 2, 63, 64, 65, 1000, 100_000]), min_size=1)


@given(start=starts, losses=losses, early=st.booleans())
def test_each_loss_is_told_where_it_was(
    shim: Any, start: int, losses: list[int], early: bool
) -> None:
    """Also where the drops are read early: those after the record are counted already."""
    sequence = Sequence()
    assert follow(shim, sequence, start, 0) == 0
    seq, so_far = start, 0
    for lost in losses:
        seq += lost + 1
        so_far += lost
        assert follow(shim, sequence, seq, sum(losses) if early else so_far) == lost
    assert (sequence.placed, unexplained(shim, sequence)) == (sum(losses), 0)
    assert sequence.next == (seq + 1) % BITS_32


@given(start=starts, losses=losses, order=st.randoms(use_true_random=False))
def test_no_more_is_told_than_was_lost(
    shim: Any, start: int, losses: list[int], order: Any
) -> None:
    """Whatever order the numbers come in, a neighbour overtaking its neighbour or worse."""
    numbers, seq = [], start
    for lost in losses:
        seq += lost + 1
        numbers.append(seq)
    for i in range(len(numbers) - 1):
        if order.random() < 0.3:
            numbers[i : i + 2] = reversed(numbers[i : i + 2])
    sequence = Sequence()
    told = sum(follow(shim, sequence, number, sum(losses)) for number in (start, *numbers))
    assert told == sequence.placed <= sum(losses)


@given(start=starts, swaps=st.lists(st.integers(0, 60)))
def test_numbers_that_overtake_leave_no_hole(shim: Any, start: int, swaps: list[int]) -> None:
    numbers = list(range(start, start + 70))
    for at in swaps:
        numbers[at : at + 8] = reversed(numbers[at : at + 8])
    sequence = Sequence()
    # The first of all may have been overtaken itself, before anything was heard.
    assert follow(shim, sequence, start - 1, 0) == 0
    assert [follow(shim, sequence, number, 0) for number in numbers] == [0] * 70
    assert unexplained(shim, sequence) == 0


def test_a_hole_taken_for_a_loss_may_fill_up_late(shim: Any) -> None:
    """The drops are read early: 11 is the one that was lost, and 8 was overtaken."""
    sequence = Sequence()
    assert [follow(shim, sequence, 7, 0), follow(shim, sequence, 9, 1)] == [0, 1]
    assert [follow(shim, sequence, number, 1) for number in (8, 10, 12)] == [0, 0, 0]
    assert (sequence.placed, unexplained(shim, sequence)) == (1, 0)


@given(start=starts, steps=st.lists(st.integers(0, BITS_32 - 1)))
def test_a_counter_that_wraps(shim: Any, start: int, steps: list[int]) -> None:
    counter = Counter()
    shim.ts_counter_start(ctypes.byref(counter), start)
    now = start
    for step in steps:
        now += step
        assert shim.ts_counter_follow(ctypes.byref(counter), now % BITS_32) == step
    assert counter.total == sum(steps)
