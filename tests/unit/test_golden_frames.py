"""Datagrams captured from six kernels, against an independent decoder."""

import errno
import struct
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pytest
from support import wire

import taskstats
from taskstats import FieldUnavailable, NoSuchTask, ProtocolError, TaskstatsError

FRAMES = sorted((wire.DATA / "frames").glob("*/*.bin"))
BIG_ENDIAN = {"s390x-6.1"}

RECORDS = ("pid", "tgid", "exit", "exit_thread0", "exit_thread1", "exit_thread2", "exit_thread3")
OTHERS = ("ack_deregister", "ack_register", "ctrl", "err_badmask", "err_esrch")

#: kernel -> (version, bytes of struct), as tests/data/fields.tsv's versions have it.
KERNELS = {
    "amd64-5.10": (10, 352),
    "amd64-6.1": (13, 416),
    "amd64-7.3": (17, 688),
    "host618": (16, 560),
    "s390x-6.1": (13, 416),
    "uml61": (13, 416),
}


def is_native(frame: Path) -> bool:
    return (frame.parent.name in BIG_ENDIAN) == (wire.NATIVE == ">")


def name_of(frame: Path) -> str:
    return f"{frame.parent.name}/{frame.stem}"


def frames(*stems: str, native: bool = True) -> pytest.MarkDecorator:
    """Runs a test with each of these frames, of this machine's byte order or of the other."""
    chosen = [f for f in FRAMES if f.stem in stems and is_native(f) == native]
    return pytest.mark.parametrize("frame", chosen, ids=name_of)


def ours(data: bytes) -> list[wire.Aggregate] | None:
    """What the package makes of a datagram, in the terms of wire.decode."""
    try:
        return wire.view(taskstats.decode(data))
    except TaskstatsError:
        return None


def test_every_frame_is_here() -> None:
    expected = {f"{kernel}/{stem}" for kernel in KERNELS for stem in (*RECORDS, *OTHERS)}
    assert set(map(name_of, FRAMES)) == expected


@frames("pid", "exit", "exit_thread3")
def test_the_independent_encoder_writes_what_kernels_write(frame: Path) -> None:
    datagram = frame.read_bytes()
    aligns = frame.parent.name == "uml61"  # brings each struct to 8 bytes by a TYPE_NULL
    made = b""
    for one in wire.decode(datagram) or ():
        start = 20 + len(made) + 16
        padding = wire.NULL if aligns and start % 8 else b""
        stats = datagram[start + len(padding) :][: one.size]
        packed = wire.pack(one.version, one.size, wire.unpack(stats, one.version), fill=0)
        packed = stats[:2] + packed[2:]  # a group's own version may be 0
        made += wire.aggregate(one.kind, one.id, packed, (padding, b""))
    _, family, _, seq, port = struct.unpack_from("=IHHII", datagram)
    assert wire.message(made, seq=seq, port=port, type_=family) == datagram


@frames(*RECORDS)
def test_records_are_what_the_kernel_sent(frame: Path) -> None:
    datagram = frame.read_bytes()
    batch = taskstats.decode(datagram)
    assert wire.view(batch) == wire.decode(datagram)
    assert {(r.version, r.size) for r in (*batch, *batch.groups)} == {KERNELS[frame.parent.name]}


@frames(*RECORDS)
def test_what_the_kernel_did_not_send_or_fill_is_unavailable(frame: Path) -> None:
    datagram = frame.read_bytes()
    batch = taskstats.decode(datagram)
    for record, one in zip((*batch, *batch.groups), wire.decode(datagram) or (), strict=True):
        for name in set(wire.FIELDS) - set(one.values):
            with pytest.raises(FieldUnavailable, match=name):
                getattr(record, name)


@frames(*RECORDS)
def test_a_group_offers_sums_alone(frame: Path) -> None:
    for group in taskstats.decode(frame.read_bytes()).groups:
        offered = {name for name in wire.FIELDS if hasattr(group, name)}
        assert {"cpu_count", "cpu_run_virtual_total"} <= offered
        assert all(wire.MEMBERS[name].summed for name in offered)
        assert not any("_delay_m" in name for name in offered)


@frames("pid")
def test_a_query_of_a_task(frame: Path) -> None:
    (record,) = taskstats.decode(frame.read_bytes())
    assert (record.id, record.kind, record.cpu) == (record.ac_pid, "task", None)
    assert (record.is_exit, record.exit_code, record.group) == (False, None, None)
    assert record.comm in ("init", "ts.amd64")
    assert record.started_at.year >= 2026


@frames("tgid")
def test_a_query_of_a_group(frame: Path) -> None:
    batch = taskstats.decode(frame.read_bytes())
    assert len(batch) == 0
    (group,) = batch.groups
    assert (group.kind, group.is_exit, group.group) == ("group", False, None)
    assert group.id > 0


@frames("exit")
def test_an_exit_of_a_process(frame: Path) -> None:
    (record,) = taskstats.decode(frame.read_bytes())
    assert (record.is_exit, record.exit_signal) == (True, None)
    assert record.exit_code == record.ac_exitcode >> 8
    assert record.is_last == (record.version >= 12)
    assert record.group is None


@frames("exit_thread3")
def test_the_last_exit_of_a_threaded_group(frame: Path) -> None:
    batch = taskstats.decode(frame.read_bytes())
    (record,) = batch
    assert record.group is not None
    assert record.group == batch.groups[0]
    assert record.is_last == (record.version >= 12)
    assert record.group.id == getattr(record, "ac_tgid", record.group.id)
    assert record.group.cpu_count > record.cpu_count


@frames("exit_thread0", "exit_thread1", "exit_thread2")
def test_an_exit_of_another_thread(frame: Path) -> None:
    batch = taskstats.decode(frame.read_bytes())
    (record,) = batch
    assert (record.is_exit, record.is_last, record.group) == (True, False, None)
    assert len(batch.groups) == 0


@frames("ack_register", "ack_deregister")
def test_an_ack_holds_nothing(frame: Path) -> None:
    batch = taskstats.decode(frame.read_bytes())
    assert (len(batch), len(batch.groups)) == (0, 0)


@frames("err_esrch")
def test_an_unknown_pid_is_no_such_task(frame: Path) -> None:
    with pytest.raises(NoSuchTask) as caught:
        taskstats.decode(frame.read_bytes())
    assert caught.value.errno == errno.ESRCH


@frames("err_badmask")
def test_another_error_keeps_its_errno(frame: Path) -> None:
    datagram = frame.read_bytes()
    with pytest.raises(TaskstatsError) as caught:
        taskstats.decode(datagram)
    assert type(caught.value) is TaskstatsError
    assert caught.value.errno == -struct.unpack_from("=i", datagram, 16)[0] == errno.ERANGE


@frames("ctrl")
def test_another_family_is_unexpected(frame: Path) -> None:
    with pytest.raises(ProtocolError) as caught:
        taskstats.decode(frame.read_bytes())
    assert caught.value.reason == "unexpected"


@frames(*RECORDS, *OTHERS, native=False)
def test_the_other_byte_order_is_refused(frame: Path) -> None:
    with pytest.raises(ProtocolError) as caught:
        taskstats.decode(frame.read_bytes())
    assert caught.value.reason == "byte-order"


@pytest.mark.parametrize("frame", FRAMES, ids=name_of)
def test_every_truncation_is_refused(frame: Path) -> None:
    datagram = frame.read_bytes()
    for size in range(len(datagram)):
        with pytest.raises(ProtocolError):
            taskstats.decode(datagram[:size])


@frames(*RECORDS, *OTHERS)
def test_every_truncation_that_hides_itself_reads_as_independently(frame: Path) -> None:
    datagram = frame.read_bytes()
    for size in range(16, len(datagram)):
        cut = struct.pack("=I", size) + datagram[4:size]
        assert ours(cut) == wire.decode(cut), size


def lies(datagram: bytes) -> Iterator[bytes]:
    """The datagram with one of its lengths wrong."""
    for at, format_ in wire.lengths(datagram):
        (true,) = struct.unpack_from("=" + format_, datagram, at)
        near = range(max(true - 8, 0), true + 9)
        for lie in chain(range(20), near, (0x7FFF, 0xFFFC, 0xFFFF)):
            lying = bytearray(datagram)
            struct.pack_into("=" + format_, lying, at, lie)
            yield bytes(lying)


@frames(*RECORDS, *OTHERS)
def test_a_lying_length_reads_as_independently(frame: Path) -> None:
    for lying in lies(frame.read_bytes()):
        assert ours(lying) == wire.decode(lying)
