"""Record and Batch: as attributes, as values, as a sequence, as columns."""

import copy
import gc
import json
import pickle
import re
import struct
import sys
import weakref
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from support import wire

import taskstats
from taskstats import FIELDS, Batch, Delay, FieldUnavailable, Record
from taskstats.fields import DELAYS
from taskstats.presence import DELAY_EXCEEDS, LOST_BEFORE, SETTLED
from taskstats.rows import HEADER, PROBED, ROW

BOTH: tuple[wire.Kind, ...] = ("task", "group")
GROUP: tuple[wire.Kind, ...] = ("group",)

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def batch_of(
    version: int = 17,
    kinds: tuple[wire.Kind, ...] = ("task",),
    *,
    size: int | None = None,
    seq: int = 0,
    port: int = 0,
    **values: Any,
) -> Batch:
    """The batch of one datagram; what `values` does not say is as in wire.SAMPLE."""
    every = {**wire.SAMPLE, **values}
    data = wire.datagram(version, size, kinds, every, seq=seq, port=port, fill=0)
    return taskstats.decode(data)


def record_of(version: int = 17, port: int = 0, **values: Any) -> Record:
    return batch_of(version, port=port, **values)[0]


def group_of(version: int = 17, port: int = 0, **values: Any) -> Record:
    return batch_of(version, GROUP, port=port, **values).groups[0]


def joined(*batches: Batch) -> Batch:
    """The tasks of several batches in one."""
    return Batch(b"".join(bytes(batch.data) for batch in batches))


def paired(n: int) -> Batch:
    """`n` tasks, each with its group; `seq` tells which belong together."""
    values = [{**wire.SAMPLE, "ac_pid": 100 + i, "ac_tgid": 200 + i} for i in range(n)]
    parts = (wire.datagram(16, None, BOTH, one, seq=i) for i, one in enumerate(values))
    return taskstats.decode(b"".join(parts))


def with_header(batch: Batch, **header: int) -> Batch:
    """Its rows with other values in their header."""
    data = bytearray(batch.data)
    for start in range(0, len(data), ROW):
        for name, value in header.items():
            offset, format_ = HEADER[name]
            struct.pack_into("=" + format_, data, start + offset, value)
    return Batch(bytes(data))


#: What the probe says of the second of three records: the others are not settled, or in no cgroup.
FINAL = {"final_cpu_ns": 5_000_000_001, "start_ns": 123, "cgroup_id": 42}
PATHS = {42: "/a/b", 43: "/c"}
BIRTHS = [(10, 1, 100, 1, 42), (11, 2, 10, 1, 44)]  # pid, start, maker, its start, cgroup


def with_probe(batch: Batch, row: int, **values: int) -> Batch:
    """The batch with what the probe says of one row."""
    data = bytearray(batch.data)
    data[row * ROW + HEADER["flags"][0]] |= SETTLED
    for name, value in values.items():
        offset, format_ = PROBED[name]
        struct.pack_into("=" + format_, data, row * ROW + offset, value)
    births = b"".join(
        struct.pack("=QQQII", start, makers_start, cgroup, pid, maker)
        for pid, start, maker, makers_start, cgroup in BIRTHS
    )
    return Batch(bytes(data), batch.groups, births=births, path_of=PATHS.get)


def settled() -> Batch:
    """Three records: not settled, settled, and settled without a cgroup."""
    batch = with_probe(joined(*[batch_of(ac_pid=pid) for pid in (1, 2, 3)]), 1, **FINAL)
    return with_probe(batch, 2, final_cpu_ns=7, start_ns=9)


# ---- a record's attributes -------------------------------------------------------------------


def test_the_header_of_a_record_from_a_query() -> None:
    batch = batch_of(16, BOTH, seq=5, port=42, ac_pid=7, ac_tgid=6)
    assert [(r.id, r.kind, r.seq) for r in (*batch, *batch.groups)] == [
        (7, "task", 5),
        (6, "group", 5),
    ]
    (record,) = batch
    assert (record.version, record.size, record.cpu) == (16, 560, None)
    assert (record.lost_before, record.received_at, record.is_exit) == (0, None, False)


def test_the_header_of_a_record_from_a_listener() -> None:
    ns = 1_700_000_000_123_456_789
    batch = with_header(batch_of(), cpu=3, lost_before=2, received_ns=ns, flags=LOST_BEFORE)
    (record,) = batch
    assert (record.cpu, record.lost_before) == (3, 2)
    assert record.received_at == datetime(2023, 11, 14, 22, 13, 20, 123456, UTC)
    assert record.to_dict().items() >= {"cpu": 3, "lost_before": 2, "received_ns": ns}.items()


@pytest.mark.parametrize(
    ("flag", "version", "is_last"), [(0, 16, False), (0x20, 16, True), (0x3F, 12, True)]
)
def test_agroup_marks_the_last_of_a_group(flag: int, version: int, is_last: bool) -> None:
    assert record_of(version, ac_flag=flag).is_last is is_last


@pytest.mark.parametrize(
    ("word", "port", "code", "signal"),
    [
        (0, 0, 0, None),
        (7 << 8, 0, 7, None),
        (255 << 8, 0, 255, None),
        (9, 0, None, 9),
        (0x80 | 6, 0, None, 6),  # with a core
        (0x1_0000 | 7 << 8, 0, 7, None),
        (0, 42, None, None),  # a query: it may be alive
        (7 << 8, 42, 7, None),  # a query of a zombie
        (9, 42, None, 9),
    ],
)
def test_an_exit_code_and_a_signal_are_told_apart(
    word: int, port: int, code: int | None, signal: int | None
) -> None:
    record = record_of(port=port, ac_exitcode=word)
    assert (record.exit_code, record.exit_signal) == (code, signal)


@pytest.mark.parametrize(
    ("version", "seconds"), [(9, 2**32 - 1), (10, 5_000_000_000), (17, 5_000_000_000)]
)
def test_the_start_is_in_utc_and_from_64_bits_where_there_are(version: int, seconds: int) -> None:
    started = record_of(version, ac_btime=2**32 - 1, ac_btime64=5_000_000_000).started_at
    assert started.tzinfo is UTC
    assert started == EPOCH + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"cat", "cat"),
        (b"", ""),
        ("größe".encode(), "größe"),
        (b"caf\xe9", r"caf\xe9"),
        (b"kworker/0:1-eve", "kworker/0:1-eve"),
        (b"x" * 32, "x" * 32),  # no NUL at all
    ],
)
def test_a_name_is_bytes_and_text(raw: bytes, text: str) -> None:
    batch = batch_of(ac_comm=raw)
    assert (batch[0].ac_comm, batch[0].comm, batch[0].to_dict()["ac_comm"]) == (raw, text, text)
    assert batch.to_arrow()["ac_comm"].to_pylist() == [text]


@pytest.mark.parametrize("nice", [-20, -1, 0, 19])
def test_nice_is_signed_everywhere(nice: int) -> None:
    batch = batch_of(ac_nice=nice)
    assert batch[0].ac_nice == batch[0].to_dict()["ac_nice"] == nice
    assert batch.to_numpy()["ac_nice"].tolist() == [nice]
    assert batch.to_arrow()["ac_nice"].to_pylist() == [nice]


def test_derived_values_are_in_the_units_they_name() -> None:
    record = record_of(ac_etime=1_500_000, cpu_run_virtual_total=250_000_000, hiwater_rss=3)
    assert record.elapsed_seconds == 1.5
    assert record.cpu_seconds == 0.25
    assert record.peak_rss_bytes == 3072


def test_cpu_time_that_was_not_added_up_is_absent() -> None:
    record = record_of(cpu_run_virtual_total=0)
    assert record.cpu_run_virtual_total == 0
    assert not hasattr(record, "cpu_seconds")


def test_a_task_without_an_address_space_has_no_peak() -> None:
    record = record_of(hiwater_rss=0)
    assert record.hiwater_rss == 0
    assert not hasattr(record, "peak_rss_bytes")


# ---- delays ----------------------------------------------------------------------------------

AT = datetime(2023, 11, 14, 22, 13, 20, 123456, UTC)
BLKIO: dict[str, Any] = {
    "blkio_count": 3,
    "blkio_delay_total": 60,
    "blkio_delay_max": 30,
    "blkio_delay_min": 10,
    "blkio_delay_max_ts": 1_700_000_000_123_456_789,
    "ac_etime": 1,
}
NO_WAITS: dict[str, Any] = {f"{name}_count": 0 for name in DELAYS}


@pytest.mark.parametrize(
    ("record", "delay"),
    [
        (record_of(17, **BLKIO), Delay(3, 60, 30, 10, AT, False, True)),
        (record_of(16, **BLKIO), Delay(3, 60, 30, 10, None, False, True)),
        (record_of(14, **BLKIO), Delay(3, 60, None, None, None, False, True)),
        (group_of(17, **BLKIO), Delay(3, 60, None, None, None, False, True)),
        (group_of(17, port=1, **BLKIO), Delay(3, 60, None, None, None, None, True)),
        (group_of(17, **BLKIO | {"ac_etime": 0}), Delay(3, 60, None, None, None, None, True)),
        (
            record_of(17, **BLKIO | {"blkio_delay_total": 2_001}),
            Delay(3, 2_001, 30, 10, AT, True, True),
        ),
        (
            record_of(17, **BLKIO | {"blkio_delay_max_ts": 0}),
            Delay(3, 60, 30, 10, None, False, True),
        ),
        (
            record_of(17, **BLKIO | {"blkio_count": 0, "blkio_delay_total": 0}),
            Delay(0, 0, None, None, None, False, True),
        ),
        (
            record_of(17, **BLKIO | NO_WAITS | {"blkio_delay_total": 0}),
            Delay(0, 0, None, None, None, False, None),
        ),
        (
            group_of(17, **BLKIO | {"blkio_count": 0, "blkio_delay_total": 0}),
            Delay(0, 0, None, None, None, False, None),
        ),
    ],
    ids=[
        "all",
        "before the moments",
        "before the extremes",
        "group",
        "living group",
        "group without times",
        "too long",
        "no moment",
        "never, but others were measured",
        "never, or not measured",
        "group whose other delays were measured",
    ],
)
def test_a_delay(record: Record, delay: Delay) -> None:
    assert record.delays["blkio"] == delay


def test_waiting_for_a_cpu_is_always_measured() -> None:
    assert record_of(**NO_WAITS).delays["cpu"].measured is True


def test_one_delay_that_was_measured_tells_of_the_others() -> None:
    assert record_of(**NO_WAITS).delays_measured is None
    assert record_of(**NO_WAITS | {"cpu_count": 1}).delays_measured is None
    assert record_of(4).delays_measured is True
    for name in DELAYS[1:]:
        record = record_of(**NO_WAITS | {f"{name}_count": 1})
        assert record.delays_measured is True
        assert all(delay.measured for delay in record.delays.values())


@pytest.mark.parametrize(("version", "n"), [(4, 3), (7, 4), (9, 5), (11, 6), (13, 7), (14, 8)])
def test_delays_are_those_the_version_has(version: int, n: int) -> None:
    assert tuple(record_of(version).delays) == DELAYS[:n]


def test_a_delay_beyond_the_time_elapsed_is_flagged_on_the_record_and_in_every_table() -> None:
    bogus: dict[str, Any] = {**BLKIO, "blkio_delay_total": 10**9}
    batch = joined(batch_of(16), batch_of(16, **bogus))
    assert [record.delay_exceeds_elapsed for record in batch] == [False, True]
    assert [record.to_dict()["delay_exceeds_elapsed"] for record in batch] == [False, True]
    assert [record.delays["blkio"].exceeds_elapsed for record in batch] == [False, True]
    assert batch.to_arrow()["delay_exceeds_elapsed"].to_pylist() == [False, True]
    assert (batch.to_numpy()["flags"] & DELAY_EXCEEDS != 0).tolist() == [False, True]
    assert batch.totals()[None]["delay_exceeds_elapsed"] == 1


# ---- what is absent --------------------------------------------------------------------------

NOTHING: dict[str, Any] = dict.fromkeys(
    ("ac_etime", "cpu_count", "cpu_run_real_total", "cpu_run_virtual_total"), 0
)

ABSENT: dict[str, tuple[Record, str, str]] = {
    "version": (record_of(13), "irq_count", "version 14; the kernel sent 13"),
    "moved": (batch_of(14, size=496)[0], "irq_delay_min", "version 15; the kernel sent 14"),
    "size": (batch_of(17, size=300)[0], "ac_stimescaled", "sent 300 bytes .* ends at 304"),
    "moment": (batch_of(17, size=592)[0], "cpu_delay_max_ts", "688 bytes .* the kernel sent 592"),
    "group": (group_of(), "ac_uid", "does not fill it in a group's record; ask for its tasks"),
    "extreme": (group_of(), "cpu_delay_max_ts", "keeps one thread's value in a group's record"),
    "times": (group_of(ac_etime=0), "nvcsw", "does not sum it over a group's threads"),
    "zombie": (group_of(**NOTHING), "cpu_count", "summed nothing for this group"),
}


@pytest.mark.parametrize(("record", "name", "why"), ABSENT.values(), ids=ABSENT)
def test_an_absent_field_says_why(record: Record, name: str, why: str) -> None:
    with pytest.raises(FieldUnavailable, match=f"{name}: .*{why}") as caught:
        getattr(record, name)
    assert isinstance(caught.value, AttributeError)
    assert not hasattr(record, name)
    assert getattr(record, name, "absent") == "absent"
    assert name not in record.to_dict()
    assert name not in dir(record)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("comm", "ac_comm"),
        ("exit_code", "ac_exitcode"),
        ("exit_signal", "ac_exitcode"),
        ("started_at", "ac_btime"),
        ("peak_rss_bytes", "hiwater_rss"),
    ],
)
def test_what_is_derived_from_an_absent_field_is_absent(name: str, field: str) -> None:
    with pytest.raises(FieldUnavailable, match=f"read {field}: "):
        getattr(group_of(), name)


def test_a_group_without_times_keeps_its_switches_unless_it_exits() -> None:
    kept = {port: hasattr(group_of(port=port, ac_etime=0), "nvcsw") for port in (0, 42)}
    assert kept == {0: False, 42: True}


def test_dir_lists_what_can_be_read() -> None:
    listed = set(dir(record_of(13)))
    assert {"wpcopy_count", "comm", "delays"} <= listed
    assert "irq_count" not in listed


@pytest.mark.parametrize("name", ["ac_utime", "irq_count", "id", "comm", "made_up"])
def test_a_record_cannot_be_written(name: str) -> None:
    record = record_of(13)
    with pytest.raises(AttributeError):
        setattr(record, name, 1)


# ---- a record as a value ---------------------------------------------------------------------


@pytest.mark.parametrize("version", wire.SIZES)
@pytest.mark.parametrize("kind", ["task", "group"])
def test_a_dict_is_the_record_ready_for_json(version: int, kind: wire.Kind) -> None:
    record = record_of(version) if kind == "task" else group_of(version)
    made = record.to_dict()
    assert json.loads(json.dumps(made)) == made
    header = {
        "id",
        "kind",
        "version",
        "seq",
        "lost_before",
        "exit",
        "last",
        "delay_exceeds_elapsed",
        "delays_measured",
    }
    sent = wire.layout(version, wire.SIZES[version])
    has = {name for name in FIELDS if name in sent and kind in FIELDS[name].kinds}
    assert made.keys() == header | has
    assert made.items() >= {n: v for n, v in wire.SAMPLE.items() if n in has - {"ac_comm"}}.items()


RECORDS: dict[str, Callable[[], Record]] = {
    "task": lambda: paired(3)[1],
    "group": lambda: paired(3).groups[1],
    "alone": lambda: record_of(10),
}
COPIES: dict[str, Callable[[Record], Record]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda record: pickle.loads(pickle.dumps(record)),
}


@pytest.mark.parametrize("make", RECORDS.values(), ids=RECORDS)
@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_a_copy_is_equal_and_lets_the_batch_go(
    make: Callable[[], Record], copied: Callable[[Record], Record]
) -> None:
    record = make()
    other = copied(record)
    assert other is not record
    assert (other, hash(other)) == (record, hash(record))
    assert (other.to_dict(), repr(other)) == (record.to_dict(), repr(record))
    assert other.group == record.group
    batch = weakref.ref(record._batch)
    del record
    assert batch() is None


def test_records_are_equal_by_value() -> None:
    assert record_of(ac_pid=1) == record_of(ac_pid=1)
    assert record_of(ac_pid=1) != record_of(ac_pid=2)
    assert record_of() != record_of(port=1)
    assert record_of() != "record"
    assert len({record_of(ac_pid=1), record_of(ac_pid=1), record_of(ac_pid=2)}) == 2


def test_repr() -> None:
    batch = batch_of(13, BOTH, ac_pid=7, ac_tgid=6, ac_comm=b"caf\xe9")
    assert repr(batch[0]) == r"<Record task 7 'caf\\xe9' v13>"
    assert repr(batch.groups[0]) == "<Record group 6 v13>"
    assert repr(batch) == "<Batch of 1 task records, 1 groups>"
    assert repr(Batch(b"", errors={1: 3})) == "<Batch of 0 task records, 1 errors>"
    cut = taskstats.decode(wire.datagram(16, 2))
    assert repr(cut[0]) == f"<Record task {cut[0].id} v16>"


def test_a_record_keeps_its_batch_alive_and_nothing_else_does() -> None:
    batch = batch_of(16, ac_pid=77)
    alive = weakref.ref(batch)
    record = batch[0]
    del batch
    gc.collect()
    assert alive() is not None
    assert record.ac_pid == 77
    gc.disable()
    try:
        del record
        assert alive() is None  # at once: no cycle keeps the buffer
    finally:
        gc.enable()


# ---- a batch as a sequence -------------------------------------------------------------------


def test_a_batch_behaves_as_a_sequence() -> None:
    batch = paired(4)
    assert len(batch) == 4
    assert [record.id for record in batch] == [100, 101, 102, 103]
    assert [batch[i].id for i in (-1, -4, 0, 3)] == [103, 100, 100, 103]
    assert [record.id for record in reversed(batch)] == [103, 102, 101, 100]
    assert batch[2] in batch
    assert batch
    assert not batch[4:]


def test_the_records_of_a_loop_are_those_of_the_rows() -> None:
    batch = paired(3)
    assert list(batch) == [batch[row] for row in range(3)]
    assert [record.group for record in batch] == list(batch.groups)
    assert pickle.loads(pickle.dumps(list(batch))) == list(batch)


@pytest.mark.parametrize("index", [4, -5, 2**63])
def test_there_is_no_row_beyond_the_last(index: int) -> None:
    with pytest.raises(IndexError):
        paired(4)[index]


@pytest.mark.parametrize(
    "rows",
    [slice(None), slice(1, 3), slice(-1, None), slice(None, None, 2), slice(None, None, -1)],
    ids=str,
)
def test_a_slice_is_a_copy_with_its_own_groups(rows: slice) -> None:
    batch = paired(4)
    part = batch[rows]
    expected = list(range(4))[rows]
    assert [(r.id, r.group and r.group.id) for r in part] == [(100 + i, 200 + i) for i in expected]
    assert [group.id for group in part.groups] == [200 + i for i in expected]
    assert list(part.groups.columns["row"]) == list(range(len(expected)))
    assert not np.shares_memory(np.frombuffer(part.data, "u1"), np.frombuffer(batch.data, "u1"))
    assert (part == batch) == (expected == [0, 1, 2, 3])


def test_a_slice_links_only_what_is_paired() -> None:
    data = (
        wire.datagram(kinds=BOTH, seq=0)
        + wire.datagram(seq=1)
        + wire.datagram(kinds=GROUP, seq=2)
        + wire.datagram(kinds=BOTH, seq=3)
    )
    part = taskstats.decode(data)[1:]
    assert [(r.seq, r.group and r.group.seq) for r in part] == [(1, None), (3, 3)]
    assert [group.seq for group in part.groups] == [3]


def test_a_record_whose_batch_was_made_without_groups_has_none() -> None:
    alone = Batch(bytes(paired(2).data))
    assert [record.group for record in alone] == [None, None]


def test_a_slice_of_groups_is_of_groups() -> None:
    part = paired(3).groups[1:]
    assert part.kind == "group"
    assert [record.id for record in part] == [201, 202]


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda b: pickle.loads(pickle.dumps(b))]
)
def test_a_copied_batch_is_equal(copied: Callable[[Batch], Batch]) -> None:
    batch = paired(2)
    batch.errors = {7: 3}
    other = copied(batch)
    assert other == batch
    assert dict(other.errors) == {7: 3}
    assert [r.group and r.group.id for r in other] == [200, 201]


def test_batches_are_equal_by_value() -> None:
    assert paired(2) == paired(2)
    assert paired(2) != paired(3)
    assert paired(2) != Batch(paired(2).data)  # no groups
    assert Batch(b"") != Batch(b"", kind="group")
    assert Batch(b"") != Batch(b"", errors={1: 3})
    assert Batch(b"") != []
    with pytest.raises(TypeError, match="unhashable"):
        hash(Batch(b""))


def test_an_empty_batch_is_empty_in_every_form() -> None:
    batch = taskstats.decode(wire.answer(0))
    assert (len(batch), list(batch), batch.fields) == (0, [], frozenset())
    assert (len(batch.to_numpy()), batch.totals()) == (0, {})
    arrow = batch.to_arrow()
    assert (arrow.num_rows, arrow.schema) == (0, batch_of().to_arrow().schema)


@pytest.mark.parametrize("type_", [bytes, bytearray])
def test_what_python_sees_is_read_only(type_: type) -> None:
    batch = Batch(type_(batch_of().data))
    assert batch.data.readonly
    with pytest.raises(TypeError):
        batch.data[0] = 1
    array = batch.to_numpy()
    assert not array.flags.writeable
    with pytest.raises(ValueError, match="WRITEABLE"):
        array.flags.writeable = True


@pytest.mark.skipif(sys.version_info < (3, 12), reason="__buffer__ came with Python 3.12")
def test_a_batch_is_a_buffer() -> None:
    batch: Any = batch_of()
    view = memoryview(batch)
    assert view.readonly
    assert view == batch.data


# ---- mixed versions --------------------------------------------------------------------------


def mixed() -> Batch:
    return joined(batch_of(10, ac_pid=10), batch_of(17, ac_pid=17), batch_of(15, ac_pid=15))


def test_a_record_of_a_mixed_batch_has_the_fields_of_its_own_version() -> None:
    batch = mixed()
    alone = {version: record_of(version, ac_pid=version) for version in (10, 17, 15)}
    assert [record.to_dict() for record in batch] == [r.to_dict() for r in alone.values()]
    assert batch.fields == batch_of(10).fields
    assert not hasattr(batch[0], "irq_count")
    assert batch[1].irq_count == batch[2].irq_count == wire.SAMPLE["irq_count"]
    assert batch[1].cpu_delay_max_ts == wire.SAMPLE["cpu_delay_max_ts"]
    assert [hasattr(record, "cpu_delay_max_ts") for record in batch] == [False, True, False]


@pytest.mark.parametrize("at", range(4))
def test_one_record_of_another_version_is_noticed_wherever_it_stands(at: int) -> None:
    versions = [17] * 4
    versions[at] = 13
    batch = joined(*map(batch_of, versions))
    assert batch.fields == batch_of(13).fields
    assert [hasattr(record, "irq_count") for record in batch] == [v == 17 for v in versions]


def differing_groups() -> Batch:
    """Groups with all sums, without times, without any, and with all again."""
    values: list[dict[str, Any]] = [{}, {"ac_etime": 0}, NOTHING, {}]
    parts = (batch_of(17, GROUP, **one).groups.data for one in values)
    return Batch(b"".join(map(bytes, parts)), kind="group")


def test_groups_of_one_struct_can_differ_in_what_was_summed() -> None:
    batch = differing_groups()
    assert [hasattr(group, "cpu_count") for group in batch] == [True, True, False, True]
    assert [hasattr(group, "ac_etime") for group in batch] == [True, False, False, True]
    assert batch.fields == frozenset()


# ---- columns ---------------------------------------------------------------------------------


def expected_column(batch: Batch, name: str) -> list[Any]:
    return [record.to_dict().get(name) for record in batch]


BATCHES: dict[str, Callable[[], Batch]] = {
    "one version": lambda: paired(3),
    "mixed": mixed,
    "groups": lambda: paired(3).groups,
    "groups without times": lambda: batch_of(17, GROUP, ac_etime=0).groups,
    "groups that differ": differing_groups,
    "v17": lambda: batch_of(17),
}
batches = pytest.mark.parametrize("make", BATCHES.values(), ids=BATCHES)


@batches
def test_numpy_sees_the_same_memory_and_the_fields_of_every_row(make: Callable[[], Batch]) -> None:
    batch = make()
    array = batch.to_numpy()
    assert np.shares_memory(array, np.frombuffer(batch.data, "u1"))
    assert array.shape == (len(batch),)
    every = [set(record.to_dict()) & set(FIELDS) for record in batch]
    assert array.dtype.names is not None
    assert list(array.dtype.names) == [
        *HEADER,
        *(n for n in FIELDS if n in set.intersection(*every)),
    ]
    assert array["id"].tolist() == [record.id for record in batch]
    for name in array.dtype.names[len(HEADER) :]:
        column = array[name].tolist()
        if FIELDS[name].format == "qq":
            column = [seconds * 10**9 + ns for seconds, ns in column]
        assert column == [getattr(record, name) for record in batch]


@batches
def test_arrow_has_every_field_and_null_where_it_is_absent(make: Callable[[], Batch]) -> None:
    batch = make()
    arrow = batch.to_arrow()
    arrow.validate(full=True)
    for name in FIELDS:
        column = arrow[name]
        if pa.types.is_timestamp(column.type):
            column = column.cast(pa.int64())
        assert column.to_pylist() == expected_column(batch, name), name
    for name in "id", "kind", "version", "cpu", "seq", "lost_before", "exit", "last":
        assert arrow[name].to_pylist() == expected_column(batch, name), name


def test_the_arrow_schema_is_the_same_for_every_batch() -> None:
    schemas = [make().to_arrow().schema for make in (*BATCHES.values(), settled)]
    assert all(schema.equals(schemas[0], check_metadata=True) for schema in schemas)
    assert schemas[0].names[-len(FIELDS) - 4 :] == [*FIELDS, *PROBED, "cgroup"]
    types = Counter(str(schemas[0].field(name).type) for name in FIELDS)
    assert types == {
        "int64": len(FIELDS) - 11,
        "uint64": 2,
        "string": 1,
        "timestamp[ns, tz=UTC]": 8,
    }


@pytest.mark.parametrize("name", FIELDS)
def test_a_field_of_the_arrow_schema_tells_its_unit(name: str) -> None:
    field = FIELDS[name]
    metadata = batch_of().to_arrow().schema.field(name).metadata
    assert metadata == {
        b"unit": field.unit.encode(),
        b"since": str(field.since).encode(),
        b"doc": field.doc.encode(),
    }


def test_arrow_of_a_listeners_records() -> None:
    ns = 1_700_000_000_123_456_789
    batch = with_header(batch_of(), cpu=3, lost_before=2, received_ns=ns)
    arrow = joined(batch, batch_of()).to_arrow()
    assert arrow["cpu"].to_pylist() == [3, None]
    assert arrow["received_at"].cast(pa.int64()).to_pylist() == [ns, None]
    assert arrow["lost_before"].to_pylist() == [2, 0]


@pytest.mark.parametrize("n", [255, 256, 257, 600])
def test_arrow_has_every_row_however_many(n: int) -> None:
    alone = [batch_of(17, ac_pid=70_000 + i, irq_delay_min=i, cpu_delay_max_ts=i) for i in range(n)]
    arrow = joined(*alone).to_arrow()
    assert arrow["ac_pid"].to_pylist() == arrow["id"].to_pylist() == list(range(70_000, 70_000 + n))
    assert arrow["irq_delay_min"].to_pylist() == list(range(n))
    assert arrow["cpu_delay_max_ts"].cast(pa.int64()).to_pylist() == [None, *range(1, n)]


def test_arrow_has_memory_of_its_own() -> None:
    data = bytearray(mixed().data)
    arrow = Batch(data).to_arrow()
    data[:] = bytes(len(data))
    assert arrow.equals(mixed().to_arrow())


def test_arrow_keeps_numbers_of_64_bits() -> None:
    arrow = batch_of(ac_exe_inode=2**64 - 1).to_arrow()
    assert arrow["ac_exe_inode"].to_pylist() == [2**64 - 1]


def test_arrow_shows_no_moment_that_never_was() -> None:
    never, once = batch_of(cpu_delay_max_ts=0), batch_of(cpu_delay_max_ts=10**9 + 1)
    for batch, expected in (
        (never, [None]),
        (joined(batch_of(16), never, once), [None, None, 10**9 + 1]),
    ):
        moments = batch.to_arrow()["cpu_delay_max_ts"]
        assert moments.cast(pa.int64()).to_pylist() == expected


def test_arrow_mixes_names_in_any_encoding() -> None:
    batch = joined(batch_of(ac_comm=b"caf\xe9"), batch_of(ac_comm="größe".encode()))
    assert batch.to_arrow()["ac_comm"].to_pylist() == [r"caf\xe9", "größe"]


NAMES = (b"", b"a" * 15, b"b" * 31, b"c" * 32, "größe".encode(), b"cut\0\xffgarbage", b"")
NO_UTF8 = (b"caf\xe9", "0123456789abcd€".encode()[:15], b"\xff" * 32, b"\xc3\0\xb6", b"caf\xe9")


@pytest.mark.parametrize("more", [(), NO_UTF8], ids=["UTF-8", "not all UTF-8"])
@pytest.mark.parametrize(
    "rows", [slice(None), slice(2, -1), slice(None, None, 3), slice(-1, None)], ids=str
)
def test_arrow_has_the_names_of_the_records(more: tuple[bytes, ...], rows: slice) -> None:
    batch = joined(*(batch_of(ac_comm=name) for name in NAMES + more))[rows]
    names = batch.to_arrow()["ac_comm"]
    names.validate(full=True)
    assert names.to_pylist() == [record.comm for record in batch]


@pytest.mark.parametrize("name", [b"cat", b"caf\xe9"])
def test_arrow_has_no_name_where_the_struct_was_cut_before_it(name: bytes) -> None:
    batch = joined(batch_of(17, size=104), batch_of(ac_comm=name), batch_of(17, size=104))
    assert batch.to_arrow()["ac_comm"].to_pylist() == [None, batch[1].comm, None]


# ---- other people's tables -------------------------------------------------------------------


@batches
def test_pyarrow_takes_a_batch_as_it_is(make: Callable[[], Batch]) -> None:
    batch = make()
    arrow = batch.to_arrow()
    assert pa.record_batch(batch).equals(arrow)
    assert pa.table(batch).equals(pa.Table.from_batches([arrow]))
    assert pa.RecordBatchReader.from_stream(batch).read_all() == pa.table(batch)


def test_polars_takes_a_batch_as_it_is() -> None:
    batch: Any = mixed()
    assert pl.DataFrame(batch).equals(pl.DataFrame(batch.to_arrow()))


@batches
def test_polars_takes_the_record_batch(make: Callable[[], Batch]) -> None:
    batch = make()
    frame = pl.from_arrow(batch.to_arrow())
    assert isinstance(frame, pl.DataFrame)
    assert frame["id"].to_list() == [record.id for record in batch]
    assert frame["irq_count"].to_list() == expected_column(batch, "irq_count")


@batches
def test_duckdb_takes_a_batch_as_it_is(make: Callable[[], Batch]) -> None:
    batch = make()
    with duckdb.connect() as connection:
        query = "SELECT id, kind, irq_count, ac_comm FROM batch"
        found = connection.execute(query).fetchall()
    names = ("id", "kind", "irq_count", "ac_comm")
    assert found == list(zip(*(expected_column(batch, name) for name in names), strict=True))


def test_a_consumer_may_ask_for_its_own_schema() -> None:
    wanted = pa.schema([pa.field(f.name, f.type) for f in batch_of().to_arrow().schema])
    assert pa.table(batch_of(), schema=wanted).schema.equals(wanted)


# ---- totals ----------------------------------------------------------------------------------

SUMMED = [
    name
    for name, field in FIELDS.items()
    if field.unit in {"ns", "us", "bytes", "events", "faults", "calls", "switches", "MB*us"}
    and "_delay_m" not in name
    and name != "ac_tgetime"
]


def many() -> Batch:
    names = (b"cat", b"caf\xe9", b"cat", b"make", b"cat")
    return joined(
        *(
            batch_of(17, ac_comm=name, ac_uid=i % 2, nvcsw=2**63 + i, hiwater_rss=9 + i)
            for i, name in enumerate(names)
        )
    )


@pytest.mark.parametrize("by", [None, "ac_comm", "ac_uid"])
def test_totals_are_those_of_a_plain_loop(by: str | None) -> None:
    batch = many()
    expected: dict[Any, Counter[str]] = {}
    for record in batch:
        sums = expected.setdefault(record.to_dict().get(by or ""), Counter())
        sums["records"] += 1
        for name in SUMMED:
            sums[name] += getattr(record, name)
    totals = batch.totals(by)
    assert totals.keys() == expected.keys()
    for key, sums in expected.items():
        assert {name: totals[key][name] for name in sums} == dict(sums)
        assert totals[key]["delay_exceeds_elapsed"] == 0


def test_totals_leave_out_what_has_no_sum() -> None:
    (totals,) = many().totals().values()
    assert set(totals) == {"records", "delay_exceeds_elapsed", *SUMMED}


def test_totals_hold_only_what_every_record_carries() -> None:
    (totals,) = mixed().totals().values()
    assert "irq_delay_total" not in totals
    assert totals["cpu_count"] == sum(record.cpu_count for record in mixed())
    (group,) = paired(3).groups.totals().values()
    assert "read_bytes" not in group


def test_totals_by_what_is_no_field_or_absent() -> None:
    with pytest.raises(ValueError, match="made_up"):
        batch_of().totals(by="made_up")
    with pytest.raises(FieldUnavailable, match=re.escape("read ac_tgid")):
        mixed().totals(by="ac_tgid")


def test_a_buffer_that_is_no_rows() -> None:
    with pytest.raises(ValueError, match="rows of 752 bytes, not 1000"):
        Batch(bytes(1000))


def test_a_moment_that_is_no_date() -> None:
    with pytest.raises(FieldUnavailable, match="is no date"):
        _ = batch_of(17, ac_btime64=2**62)[0].started_at


# ---- what the probe adds ---------------------------------------------------------------------


def test_what_the_probe_adds_is_absent_where_it_is_not_known() -> None:
    unsettled, known, homeless = settled()
    assert {name: getattr(known, name) for name in FINAL} == FINAL
    assert (known.is_settled, known.cgroup, known.cpu_seconds) == (True, "/a/b", 5.000000001)
    assert (homeless.final_cpu_ns, homeless.start_ns) == (7, 9)
    for record, names in (unsettled, [*FINAL, "cgroup"]), (homeless, ["cgroup_id", "cgroup"]):
        for name in names:
            with pytest.raises(FieldUnavailable, match=name):
                getattr(record, name)
    assert unsettled.cpu_seconds == wire.SAMPLE["cpu_run_virtual_total"] / 1e9
    told = [set(record.to_dict()) & {*FINAL, "cgroup"} for record in settled()]
    assert told == [set(), {*FINAL, "cgroup"}, {"final_cpu_ns", "start_ns"}]


def test_a_cgroup_without_a_known_path_is_told_by_its_id() -> None:
    (record,) = with_probe(batch_of(), 0, **FINAL | {"cgroup_id": 99})
    assert record.to_dict()["cgroup_id"] == 99
    assert "cgroup" not in record.to_dict()
    with pytest.raises(FieldUnavailable, match="99"):
        _ = record.cgroup


def test_a_query_has_nothing_from_the_probe() -> None:
    with pytest.raises(FieldUnavailable, match="probe"):
        _ = record_of(port=42).final_cpu_ns


def test_columns_of_the_probe_are_there_if_every_row_has_them() -> None:
    batch = settled()
    assert list(batch[1:].columns["final_cpu_ns"]) == [FINAL["final_cpu_ns"], 7]
    assert list(batch[1:2].columns["cgroup_id"]) == [42]
    with pytest.raises(KeyError):
        _ = batch.columns["final_cpu_ns"]
    with pytest.raises(KeyError):
        _ = batch[1:].columns["cgroup_id"]
    assert batch[1:].to_numpy()["start_ns"].tolist() == [123, 9]
    assert not {*FINAL} & {*(batch.to_numpy().dtype.names or ())}


def test_arrow_has_null_for_what_the_probe_did_not_see() -> None:
    columns = settled().to_arrow().select([*PROBED, "cgroup"]).to_pydict()
    assert columns["final_cpu_ns"] == [None, FINAL["final_cpu_ns"], 7]
    assert columns["start_ns"] == [None, 123, 9]
    assert columns["cgroup_id"] == [None, 42, None]
    assert columns["cgroup"] == [None, "/a/b", None]


def test_births_are_tuples_and_columns() -> None:
    births = settled().births
    first, second = births
    assert first == taskstats.Birth(10, 1, 100, 1, 42, "/a/b")
    assert (second.maker_pid, second.cgroup_id, second.cgroup) == (10, 44, None)
    assert list(births.column("pid")) == births.to_numpy()["pid"].tolist() == [10, 11]
    table = births.to_arrow().to_pylist()
    assert [tuple(row[name] for name in first._fields) for row in table] == [first, second]
    assert births[1:][0] == second
    with pytest.raises(ValueError, match="rows of 32 bytes"):
        taskstats.Births(b"1")


def test_a_pickled_batch_keeps_its_cgroups_and_births() -> None:
    batch = settled()
    again = pickle.loads(pickle.dumps(batch))
    assert again == batch
    assert [again[1].cgroup, again[1:2][0].cgroup] == ["/a/b", "/a/b"]
    assert list(again.births) == list(batch.births)
    assert batch != Batch(batch.data)
