"""Datagrams made for the purpose: every version and size of struct, every way to be wrong."""

import errno
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import wire
from support.wire import NULL, SAMPLE, UNKNOWN, Kind, Value, aggregate, attribute, datagram, message

import taskstats
from taskstats import (
    AccessDenied,
    FieldUnavailable,
    NoSuchTask,
    ProtocolError,
    Record,
    TaskstatsError,
    _native,
)
from taskstats.errors import REASONS
from taskstats.rows import ROW, STATS_AT

ffi: Any = _native.ffi
lib: Any = _native.lib

TASK: tuple[Kind, ...] = ("task",)
GROUP: tuple[Kind, ...] = ("group",)
BOTH: tuple[Kind, ...] = ("task", "group")

layouts = pytest.mark.parametrize(("version", "size"), [*wire.LAYOUTS, wire.RIVAL])
versions = pytest.mark.parametrize("version", [*wire.SIZES, 18])


def ours(data: bytes) -> list[wire.Aggregate] | None:
    """What the package makes of a datagram, in the terms of wire.decode."""
    try:
        return wire.view(taskstats.decode(data))
    except TaskstatsError:
        return None


def reason_of(data: bytes) -> str:
    with pytest.raises(ProtocolError) as caught:
        taskstats.decode(data)
    return caught.value.reason


def raising(record: Record) -> set[str]:
    """The fields that the record says it lacks."""
    absent = set()
    for name in wire.FIELDS:
        try:
            getattr(record, name)
        except FieldUnavailable:
            absent.add(name)
    return absent


def sample(version: int, size: int, kind: Kind = "task") -> dict[str, Value]:
    """The fields of wire.SAMPLE that such a whole struct has."""
    return {
        name: SAMPLE[name]
        for name in wire.layout(version, size)
        if name in wire.FIELDS and (kind == "task" or wire.MEMBERS[name].summed)
    }


# ---- versions and sizes ----------------------------------------------------------------------


@layouts
def test_a_whole_struct_has_every_field_of_its_version(version: int, size: int) -> None:
    batch = taskstats.decode(datagram(version, size, BOTH))
    for record, one in zip((*batch, *batch.groups), wire.view(batch), strict=True):
        assert one.values == sample(version, size, one.kind)
        assert (one.version, one.size) == (version, size)
        assert raising(record) == set(wire.FIELDS) - set(one.values)


@versions
def test_any_size_is_read_up_to_its_last_whole_field(version: int) -> None:
    for size in range(2, 720):
        data = datagram(version, size, BOTH, fill=0)
        batch = taskstats.decode(data)
        (task, group) = wire.view(batch)
        assert [task, group] == wire.decode(data), size
        # A row has the newest layout whatever was sent, and zeros for what was not.
        newest = wire.pack(17, 688, task.values, fill=0)
        assert bytes(batch.data)[STATS_AT + 2 :] == newest[2:] + bytes(ROW - STATS_AT - 688), size


@pytest.mark.parametrize("more", [1, 8, 128, 60_000])
@versions
def test_what_a_later_kernel_appends_is_left_alone(version: int, more: int) -> None:
    size = max(wire.SIZES.get(version, 688), 561) + more  # past what tells 14 from 15
    (task,) = wire.view(taskstats.decode(datagram(version, size)))
    assert (task.values, task.size) == (sample(version, size), size)


@pytest.mark.parametrize("size", [561, 568, 576, 592, 640, 687])
@pytest.mark.parametrize("version", [17, 18])
def test_a_short_struct_of_version_17_has_no_moments(version: int, size: int) -> None:
    """Another layout of 592 bytes was proposed: what stands in their place may be anything."""
    data = datagram(version, size, BOTH)
    assert wire.pack(version, size)[560:] == b"\xee" * (size - 560)
    batch = taskstats.decode(data)
    for record, one in zip((*batch, *batch.groups), wire.view(batch), strict=True):
        assert one.values == sample(16, 560, one.kind)
        assert raising(record) == set(wire.FIELDS) - set(one.values)
    for rows in batch, batch.groups:
        assert bytes(rows.data)[STATS_AT + 560 :] == bytes(ROW - STATS_AT - 560)
    assert batch[0].delays["cpu"].max_at is None
    with pytest.raises(FieldUnavailable, match=f"688 bytes or more; the kernel sent {size}"):
        _ = batch[0].cpu_delay_max_ts


@pytest.mark.parametrize("kinds", [TASK, GROUP, BOTH])
@pytest.mark.parametrize("version", range(4))
def test_versions_before_4_are_refused(version: int, kinds: tuple[Kind, ...]) -> None:
    assert reason_of(datagram(version, 328, kinds)) == "version"


@pytest.mark.parametrize("group_version", [0, 13])
def test_a_group_has_the_version_of_its_task(group_version: int) -> None:
    data = datagram(16, kinds=BOTH, group_version=group_version)
    assert ours(data) == ours(datagram(16, kinds=BOTH))


# ---- attributes ------------------------------------------------------------------------------

DECORATIONS: dict[str, dict[str, Any]] = {
    "NULL before the struct": {"inside": (NULL, b"")},
    "NULL after the struct": {"inside": (b"", NULL)},
    "NULL before the aggregate": {"outside": (NULL, b"")},
    "NULL after the aggregate": {"outside": (b"", NULL)},
    "NULL with a payload": {"inside": (attribute(wire.TYPE_NULL, b"\1\0\0\0"), b"")},
    "unknown inside": {"inside": (UNKNOWN, UNKNOWN)},
    "unknown outside": {"outside": (UNKNOWN, UNKNOWN)},
    "nested": {"nested": True},
    "all": {"inside": (NULL, UNKNOWN), "outside": (UNKNOWN, NULL), "nested": True},
}


@pytest.mark.parametrize("kinds", [TASK, GROUP, BOTH])
@pytest.mark.parametrize("options", DECORATIONS.values(), ids=DECORATIONS)
def test_padding_flags_and_unknown_attributes_change_nothing(
    options: dict[str, Any], kinds: tuple[Kind, ...]
) -> None:
    plain = ours(datagram(17, kinds=kinds))
    assert plain is not None
    assert [one.kind for one in plain] == list(kinds)
    assert ours(datagram(17, kinds=kinds, **options)) == plain


def test_the_aggregates_may_come_in_any_order() -> None:
    assert ours(datagram(kinds=("group", "task"))) == ours(datagram(kinds=BOTH))


@pytest.mark.parametrize(("port", "is_exit"), [(0, True), (4242, False)])
def test_only_an_exit_comes_from_port_0(port: int, is_exit: bool) -> None:
    batch = taskstats.decode(datagram(kinds=BOTH, port=port, seq=2**32 - 1))
    assert [r.is_exit for r in (*batch, *batch.groups)] == [is_exit, is_exit]
    assert [r.seq for r in (*batch, *batch.groups)] == [2**32 - 1] * 2


PID = attribute(wire.TYPE_PID, struct.pack("=I", 7))
STATS = attribute(wire.TYPE_STATS, wire.pack(16, 560))
TASK_PART = aggregate("task", 7, wire.pack(16, 560))


def nest(*parts: bytes) -> bytes:
    return message(attribute(wire.TYPE_AGGR_PID, b"".join(parts)))


def header(size: int, type_: int) -> bytes:
    return struct.pack("=IHHII", size, type_, 0, 0, 0)


#: what is wrong -> a datagram, the reason why it is refused.
WRONG: dict[str, tuple[bytes, str]] = {
    "half a header": (datagram()[:15], "length"),
    "zeros": (bytes(32), "length"),
    "length below a header": (header(15, wire.FAMILY), "length"),
    "longer than the datagram": (datagram()[:-1], "length"),
    "no generic header": (header(18, wire.FAMILY) + bytes(4), "length"),
    "half an error": (header(18, wire.NLMSG_ERROR) + bytes(4), "length"),
    "bytes after a message": (datagram() + bytes(3), "length"),
    "the other byte order": (datagram(order=wire.FOREIGN), "byte-order"),
    "a control message": (header(20, 4) + bytes(4), "unexpected"),
    "another family": (message(TASK_PART, type_=wire.NLCTRL), "unexpected"),
    "another command": (message(TASK_PART, command=5), "unexpected"),
    "an error above zero": (wire.answer(3), "unexpected"),
    "no errno": (wire.answer(-4096), "unexpected"),
    "no attribute": (message(), "attribute"),
    "no aggregate": (message(NULL, UNKNOWN), "attribute"),
    "an empty aggregate": (nest(), "attribute"),
    "no id": (nest(STATS), "attribute"),
    "no struct": (nest(PID), "attribute"),
    "the id of another kind": (nest(attribute(wire.TYPE_TGID, bytes(4)), STATS), "attribute"),
    "two ids": (nest(PID, PID, STATS), "attribute"),
    "two structs": (nest(PID, STATS, STATS), "attribute"),
    "an id of 3 bytes": (nest(attribute(wire.TYPE_PID, bytes(3)), STATS), "attribute"),
    "an id of 8 bytes": (nest(attribute(wire.TYPE_PID, bytes(8)), STATS), "attribute"),
    "an empty struct": (nest(PID, attribute(wire.TYPE_STATS)), "attribute"),
    "half a version": (nest(PID, attribute(wire.TYPE_STATS, b"\x10")), "attribute"),
    "two tasks in a message": (message(TASK_PART, TASK_PART), "attribute"),
    "a second task without a struct": (
        message(TASK_PART, attribute(wire.TYPE_AGGR_PID, PID)),
        "attribute",
    ),
    "half an attribute": (message(TASK_PART, b"\4\0"), "attribute"),
    "half an attribute inside": (nest(PID, STATS, b"\4\0"), "attribute"),
    "an attribute below its header": (message(b"\3\0\0\0", TASK_PART), "attribute"),
    "an old struct": (datagram(3, 264), "version"),
}

wrong = pytest.mark.parametrize(("bad", "reason"), WRONG.values(), ids=WRONG)


@wrong
def test_what_is_wrong_is_refused_with_its_reason(bad: bytes, reason: str) -> None:
    assert reason_of(bad) == reason
    assert wire.decode(bad) is None


def test_nothing_at_all_is_refused() -> None:
    assert reason_of(b"") == "length"


# ---- several messages ------------------------------------------------------------------------


def test_messages_of_one_datagram_are_read_in_order_and_groups_stay_with_their_tasks() -> None:
    first, second = (datagram(16, kinds=BOTH, seq=1), datagram(10, kinds=BOTH, seq=2))
    alone = datagram(13, kinds=GROUP, seq=3)
    others = wire.answer(0) + message(type_=wire.NLMSG_NOOP) + message(type_=wire.NLMSG_DONE)
    data = first + others + alone + second
    batch = taskstats.decode(data)
    assert wire.view(batch) == wire.decode(data)
    assert [(r.seq, r.version) for r in batch] == [(1, 16), (2, 10)]
    assert [r.seq for r in batch.groups] == [1, 3, 2]
    assert [r.group and r.group.seq for r in batch] == [1, 2]


@wrong
def test_a_wrong_second_message_refuses_the_first_too(bad: bytes, reason: str) -> None:
    assert reason_of(datagram(kinds=BOTH) + bad) == reason


def fill_sink(data: bytes, capacity: int, *arrays: str) -> tuple[int, str, list[int]]:
    """ts_decode into arrays with one row taken in each: result, reason, rows taken then."""
    rows = {name: ffi.new("struct ts_record[]", capacity) for name in arrays}
    sink = ffi.new("struct ts_sink *", {"capacity": capacity, "n_tasks": 1, "n_groups": 1, **rows})
    rc = lib.ts_decode(ffi.from_buffer(data), len(data), sink)
    return rc, REASONS[sink.reason], [sink.n_tasks, sink.n_groups]


@pytest.mark.parametrize(
    ("data", "capacity", "arrays", "result"),
    [
        (datagram(kinds=BOTH), 2, ("tasks", "groups"), (2, "accepted", [2, 2])),
        (datagram(kinds=TASK), 2, ("tasks",), (1, "accepted", [2, 1])),
        (datagram(kinds=GROUP), 2, ("groups",), (1, "accepted", [1, 2])),
        (datagram(kinds=BOTH), 1, ("tasks", "groups"), (-errno.EBADMSG, "room", [1, 1])),
        (datagram(kinds=TASK), 1, ("tasks", "groups"), (-errno.EBADMSG, "room", [1, 1])),
        (datagram(kinds=GROUP), 1, ("tasks", "groups"), (-errno.EBADMSG, "room", [1, 1])),
        (datagram(kinds=BOTH), 2, ("tasks",), (-errno.EBADMSG, "room", [1, 1])),
        (datagram(kinds=BOTH), 2, ("groups",), (-errno.EBADMSG, "room", [1, 1])),
        (datagram(kinds=BOTH) * 2, 2, ("tasks", "groups"), (-errno.EBADMSG, "room", [1, 1])),
        (datagram() + wire.answer(-3), 3, ("tasks", "groups"), (-3, "answer", [1, 1])),
        (wire.answer(0), 1, (), (0, "accepted", [1, 1])),
    ],
)
def test_records_are_appended_all_or_none(
    data: bytes, capacity: int, arrays: tuple[str, ...], result: tuple[int, str, list[int]]
) -> None:
    assert fill_sink(data, capacity, *arrays) == result


@wrong
def test_a_refusal_appends_nothing(bad: bytes, reason: str) -> None:
    refused = (-errno.EBADMSG, reason, [1, 1])
    assert fill_sink(datagram(kinds=BOTH) + bad, 9, "tasks", "groups") == refused


@pytest.mark.parametrize(
    ("code", "error"),
    [(errno.ESRCH, NoSuchTask), (errno.EPERM, AccessDenied), (errno.EINVAL, TaskstatsError)],
)
@pytest.mark.parametrize("before", [b"", datagram()], ids=["alone", "after a record"])
def test_the_kernels_error_is_raised(code: int, error: type[TaskstatsError], before: bytes) -> None:
    with pytest.raises(error) as caught:
        taskstats.decode(before + wire.answer(-code))
    assert type(caught.value) is error
    assert caught.value.errno == code


# ---- the argument ----------------------------------------------------------------------------


@pytest.mark.parametrize("type_", [bytes, bytearray, memoryview])
def test_any_bytes_will_do(type_: type) -> None:
    data = datagram(kinds=BOTH)
    assert ours(type_(data)) == wire.decode(data)


@pytest.mark.parametrize("wrong_type", ["text", 7, None])
def test_what_is_not_bytes_is_a_type_error(wrong_type: object) -> None:
    with pytest.raises(TypeError):
        taskstats.decode(wrong_type)


def test_a_batch_does_not_follow_the_datagram_it_came_from() -> None:
    data = bytearray(datagram())
    batch = taskstats.decode(data)
    data[:] = bytes(len(data))
    assert wire.view(batch) == wire.decode(datagram())


# ---- a delay longer than the time elapsed ----------------------------------------------------

DELAYS = ("cpu", "blkio", "swapin", "freepages", "thrashing", "compact", "wpcopy", "irq")


def exceeds(data: bytes) -> list[bool]:
    batch = taskstats.decode(data)
    return [record.delay_exceeds_elapsed for record in (*batch, *batch.groups)]


def delayed(name: str, ns: int, etime: int = 5) -> dict[str, Value]:
    totals = {f"{delay}_delay_total": 0 for delay in DELAYS}
    return {**SAMPLE, **totals, f"{name}_delay_total": ns, "ac_etime": etime}


@pytest.mark.parametrize("name", DELAYS)
@layouts
def test_a_delay_that_exceeds_the_elapsed_time_is_flagged(
    version: int, size: int, name: str
) -> None:
    has = f"{name}_delay_total" in wire.layout(version, size)
    for ns, flagged in (6_000, False), (6_001, has), (2**64 - 1, has):
        # ac_etime is rounded down: 5 may be 5.999 microseconds.
        assert exceeds(datagram(version, size, BOTH, delayed(name, ns), fill=0)) == [flagged] * 2


@pytest.mark.parametrize(
    ("data", "flags"),
    [
        (datagram(16, kinds=BOTH, values=delayed("irq", 6_001), port=1), [True, False]),
        (datagram(16, kinds=BOTH, values=delayed("irq", 6_001, etime=0)), [False, False]),
        (datagram(16, kinds=BOTH, values=delayed("irq", 2**64 - 1, 2**64 - 1)), [False, False]),
        (datagram(16, kinds=BOTH, values=delayed("irq", 2**64 - 1, 2**64 // 1000)), [False, False]),
        (datagram(16, kinds=BOTH, values=delayed("irq", 2**64 - 1, 2**64 // 1000 - 1)), [True] * 2),
        (datagram(16, 144, BOTH, delayed("cpu", 6_001)), [False, False]),
        (datagram(13, 432, BOTH, delayed("cpu", 0)), [False, False]),
    ],
    ids=[
        "a living group is not judged",
        "no time, no judgement",
        "the greatest time",
        "the first that no delay is longer than",
        "the last that one is",
        "a struct without the time is not judged",
        "what lies past the version's last field is no delay",
    ],
)
def test_only_what_can_be_judged_is_flagged(data: bytes, flags: list[bool]) -> None:
    assert exceeds(data) == flags


# ---- anything --------------------------------------------------------------------------------

_VALUES = {
    "b": st.integers(-128, 127),
    "B": st.integers(0, 2**8 - 1),
    "I": st.integers(0, 2**32 - 1),
    "Q": st.integers(0, 2**64 - 1),
    "qq": st.integers(-(2**63), 2**63 - 1),
    "32s": st.binary(max_size=32),
}

values_of_all_fields = st.fixed_dictionaries(
    {name: _VALUES[wire.MEMBERS[name].format] for name in wire.FIELDS}
)
any_size = st.one_of(st.sampled_from(sorted({*wire.SIZES.values(), 496})), st.integers(2, 1000))

#: What may stand between the parts of a message, and changes nothing.
between = st.lists(st.sampled_from([NULL, UNKNOWN, attribute(wire.TYPE_NULL, b"\1\0\0\0")]))
around = st.tuples(between.map(b"".join), between.map(b"".join))
any_message = st.fixed_dictionaries(
    {
        "kinds": st.sampled_from([TASK, GROUP, BOTH, BOTH[::-1]]),
        "inside": around,
        "outside": around,
        "nested": st.booleans(),
        "port": st.sampled_from([0, 4242]),
    }
)


@given(st.integers(4, 20), any_size, values_of_all_fields, any_message)
def test_what_was_written_is_read(
    version: int, size: int, values: dict[str, Value], options: dict[str, Any]
) -> None:
    offsets = wire.layout(version, size)
    whole = {n for n, at in offsets.items() if at + wire.MEMBERS[n].size <= size}
    expected = {name: value for name, value in values.items() if name in whole}
    if isinstance(comm := expected.get("ac_comm"), bytes):
        expected["ac_comm"] = comm.split(b"\0")[0]

    data = datagram(version, size, values=values, **options)
    read = wire.view(taskstats.decode(data))
    assert {one.kind for one in read} == set(options["kinds"])
    assert read[0].kind == "group" or read[0].values == expected
    assert read == wire.decode(data)


FRAMES = [path.read_bytes() for path in sorted((wire.DATA / "frames").glob("*/*.bin"))]
SEEDS = [datagram(v, s, BOTH) for v, s in (*wire.LAYOUTS, wire.RIVAL)] + [
    datagram(16) + datagram(17),
    *FRAMES,
]


@st.composite
def mutants(draw: st.DrawFn) -> bytes:
    """A datagram with bytes changed, mostly among its headers, perhaps a piece cut out."""
    data = bytearray(draw(st.sampled_from(SEEDS)))
    places = st.one_of(st.integers(0, 43), st.integers(0, len(data) - 1))
    for at, byte in draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=6)):
        data[min(at, len(data) - 1)] = byte
    start, size = draw(st.tuples(places, st.sampled_from([0, 0, 0, 1, 4, 8, 64, 2000])))
    del data[start : start + size]
    return bytes(data)


noise = st.binary(max_size=200)
raw = st.one_of(
    noise,
    noise.map(message),
    noise.map(nest),
    st.builds(lambda junk: nest(PID, STATS, junk), noise),
    st.builds(lambda stats: nest(PID, attribute(wire.TYPE_STATS, stats)), noise),
    mutants(),
)


@settings(max_examples=500)
@given(raw)
def test_anything_is_refused_or_read_as_independently(data: bytes) -> None:
    assert ours(data) == wire.decode(data)
