"""Records are received straight into their rows, once the shape of the kernel's is known.

Whatever comes in whatever order, a listener's records are those that `decode` makes of each
datagram by itself.
"""

import struct
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import fake_kernel, wire
from support.fake_kernel import FRAMES, FakeKernel

from taskstats import Batch, ExitListener, Record, TaskstatsError, decode
from taskstats.rows import HEADER, ROW


def of_our_family(datagram: bytes) -> bytes:
    return datagram[:4] + struct.pack("=H", fake_kernel.FAMILY) + datagram[6:]


def captured() -> Iterator[tuple[str, bytes]]:
    for folder in sorted(FRAMES.iterdir()):
        if not folder.name.startswith("s390x"):
            for name in ("exit", "exit_thread0", "exit_thread3"):
                frame = of_our_family((folder / f"{name}.bin").read_bytes())
                yield f"{folder.name} {name}", frame


def emulated() -> Iterator[tuple[str, bytes]]:
    for version, size in (*wire.LAYOUTS, wire.RIVAL):
        for padding in (b"", wire.NULL):
            for kinds in (["task"], ["task", "group"]):
                name = f"{version} {size} {'padded ' * bool(padding)}{' '.join(kinds)}"
                yield name, wire.datagram(version, size, kinds, inside=(padding, b""))
    odd = wire.datagram(16, 560, ["task"], outside=(b"", wire.UNKNOWN))
    yield "with an unknown attribute behind", odd
    yield "with one in the nest", wire.datagram(16, 560, ["task"], inside=(b"", wire.UNKNOWN))
    yield "with its group first", of_group_first()
    yield "a group alone", wire.datagram(16, 560, ["group"])
    yield "longer than is known", wire.datagram(18, 800, ["task", "group"])
    yield "cut in a member", wire.datagram(16, 557, ["task"])
    yield "short", wire.datagram(16, 150, ["task"])


def of_group_first() -> bytes:
    stats = wire.pack(16, 560)
    return wire.message(wire.aggregate("group", 5, stats), wire.aggregate("task", 6, stats))


def damaged() -> Iterator[tuple[str, bytes]]:
    good = fake_kernel.exit_record(7, 77)
    yield "cut off", good[:-4]
    yield "cut in its head", good[:30]
    yield "short, and says so", struct.pack("=I", len(good) - 4) + good[4:-4]
    yield "with a wrong length", struct.pack("=I", len(good) + 4) + good[4:]
    yield "of another family", good[:4] + struct.pack("=H", 0x20) + good[6:]
    yield "another command", good[:16] + b"\7" + good[17:]
    yield "another attribute", good[:26] + b"\2" + good[27:]
    yield "of version 0", good[:36] + b"\0\0" + good[38:]
    yield "a reply", good[:12] + b"\1\0\0\0" + good[16:]
    yield "an ACK", fake_kernel.frame("ack_register")
    yield "too long", good + bytes(5000)
    pair = fake_kernel.exit_record(8, 78, "exit_thread3")
    yield "cut in its group", pair[:700]
    yield "with a damaged group", pair[:600] + b"\7" + pair[601:]
    yield "a second task instead of a group", pair[:598] + b"\4" + pair[599:]


#: More datagrams than one system call takes: TS_SLOTS of csrc/receive.h.
MANY = 70

GOOD = dict([*captured(), *emulated()])
BAD = dict(damaged())


def refused(datagram: bytes) -> bool:
    try:
        return not len(decode(datagram)) and not len(decode(datagram).groups)
    except TaskstatsError:
        return True


def values(record: Record) -> dict[str, Any]:
    """All that it tells but what the listener adds."""
    told = {"cpu", "received_ns"}
    made = {name: value for name, value in record.to_dict().items() if name not in told}
    if record.kind == "task" and record.group is not None:
        made["group"] = values(record.group)
    return made


def rows(batch: Batch) -> list[bytes]:
    """The rows as they are in memory, but for what the listener adds and a pair's numbers."""
    made = []
    for start in range(0, len(batch.data), ROW):
        row = bytearray(batch.data[start : start + ROW])
        for name in ("cpu", "row", "received_ns"):
            at, format_ = HEADER[name]
            row[at : at + struct.calcsize(format_)] = bytes(struct.calcsize(format_))
        made.append(bytes(row))
    return made


def test_what_is_damaged_here_is_damaged() -> None:
    ours = {"of another family", "a reply"}  # refused by who asked, not by what it is
    assert {name for name, datagram in BAD.items() if refused(datagram)} == set(BAD) - ours
    assert not any(refused(datagram) for datagram in GOOD.values())


@pytest.fixture(scope="module")
def peer() -> Iterator[tuple[FakeKernel, ExitListener]]:
    with (
        FakeKernel() as kernel,
        ExitListener("0", max_latency=0, endpoint=kernel.endpoint(cpus="0")) as listener,
    ):
        while not kernel.registered():
            pass
        yield kernel, listener


def check(peer: tuple[FakeKernel, ExitListener], names: list[str]) -> None:
    kernel, listener = peer
    before = listener.stats()
    for name in names:
        kernel.send(kernel.registered()[0], GOOD[name] if name in GOOD else BAD[name])
    batch = next(listener.batches(timeout=0))
    after = listener.stats()
    expected = [decode(GOOD[name]) for name in names if name in GOOD]
    tasks = [record for one in expected for record in one]
    assert [values(r) for r in batch] == [values(r) for r in tasks]
    groups = [values(record) for one in expected for record in one.groups]
    assert [values(r) for r in batch.groups] == groups
    assert rows(batch) == [row for one in expected for row in rows(one)]
    assert rows(batch.groups) == [row for one in expected for row in rows(one.groups)]
    assert after.received - before.received == len(tasks)
    bad = [name for name in names if name in BAD and name != "an ACK"]
    refused = after.malformed + after.truncated - before.malformed - before.truncated
    assert refused == len(bad)


@pytest.mark.parametrize("name", GOOD)
def test_each_layout_the_first_and_the_later_ones(
    peer: tuple[FakeKernel, ExitListener], name: str
) -> None:
    for number in (1, 1, MANY):
        check(peer, [name] * number)


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize(
    "good", ["host618 exit", "host618 exit_thread3", "uml61 exit", "15 560 task"]
)
def test_a_bad_one_harms_neither_neighbour(
    peer: tuple[FakeKernel, ExitListener], good: str, bad: str
) -> None:
    check(peer, [good] * 3)
    check(peer, [good, bad, good, good, bad, bad, good])


def test_a_second_message_in_a_datagram_takes_no_row_of_another(
    peer: tuple[FakeKernel, ExitListener],
) -> None:
    """The kernel sends one in each. A second one is counted, and that is all."""
    kernel, listener = peer
    check(peer, ["host618 exit"])
    malformed = listener.stats().malformed
    one, two, three, four = (fake_kernel.exit_record(n, n) for n in range(1, 5))
    for datagram in (one, two + three, four):
        kernel.send(kernel.registered()[0], datagram)
    assert [record.id for record in next(listener.batches(timeout=0))] == [1, 2, 4]
    assert listener.stats().malformed == malformed + 1
    assert listener.stats().cpus[0].refused["room"] == 1


def test_holes_are_seen_between_records_that_are_cut() -> None:
    with (
        FakeKernel() as kernel,
        ExitListener("0", max_latency=0, endpoint=kernel.endpoint(cpus="0")) as listener,
    ):
        while not kernel.registered():
            pass
        for numbers in ([100], [101, 102], [106, 107]):
            for seq in numbers:
                kernel.send(kernel.registered()[0], fake_kernel.exit_record(seq, seq))
            assert len(next(listener.batches(timeout=0))) == len(numbers)
        assert listener.stats().unexplained == 3


@given(names=st.lists(st.sampled_from([*GOOD, *BAD]), max_size=40))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
def test_any_mixture(peer: tuple[FakeKernel, ExitListener], names: list[str]) -> None:
    check(peer, names)
