"""What the emulated kernel encodes, the shim decodes: any figures, in every version and padding."""

import struct

from hypothesis import given
from hypothesis import strategies as st
from support import wire

from taskstats import FIELDS, decode
from taskstats.emulator import structs
from taskstats.emulator.options import Layout
from taskstats.emulator.structs import Value

FAMILY = 0x1F


def values_of(name: str) -> st.SearchStrategy[Value]:
    """Whatever the field can hold."""
    format_ = FIELDS[name].format
    if format_.endswith("s"):
        return st.binary(max_size=struct.calcsize(format_)).map(lambda b: b.partition(b"\0")[0])
    if format_ == "qq":
        return st.integers(0, 2**62)
    bits = 8 * struct.calcsize("=" + format_)
    return st.integers(-(2**7), 2**7 - 1) if format_ == "b" else st.integers(0, 2**bits - 1)


figures = st.fixed_dictionaries({}, optional={name: values_of(name) for name in FIELDS})
layouts = st.builds(
    lambda one, padding: Layout(*one, padding),
    st.sampled_from([*wire.LAYOUTS, wire.RIVAL]),
    st.booleans(),
)


@given(layouts, figures, st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_what_is_encoded_is_decoded(
    layout: Layout, values: dict[str, Value], pid: int, seq: int
) -> None:
    stats = structs.pack(layout, values)
    datagram = structs.record(layout, FAMILY, ("task", pid, stats), seq=seq)
    (record,) = decode(datagram)
    assert (record.id, record.seq, record.version, record.size) == (
        pid,
        seq,
        layout.version,
        layout.bytes,
    )
    carried = record.to_dict()
    read = {name: getattr(record, name) for name in FIELDS if name in carried}
    there = wire.layout(layout.version, layout.bytes)
    assert set(read) == set(there) & set(FIELDS)
    absent: dict[str, Value] = {name: b"" if name == "ac_comm" else 0 for name in read}
    assert read == absent | {name: value for name, value in values.items() if name in read}


@given(layouts, figures, figures)
def test_a_group_comes_behind_its_task(
    layout: Layout, task: dict[str, Value], group: dict[str, Value]
) -> None:
    records = [
        ("task", 1, structs.pack(layout, task)),
        ("group", 2, structs.pack(layout, group, version=0)),
    ]
    datagram = structs.record(layout, FAMILY, *records)  # type: ignore[arg-type]
    found = wire.decode(datagram)
    assert found is not None
    assert wire.view(decode(datagram)) == found
    assert [(one.kind, one.id) for one in found] == [("task", 1), ("group", 2)]
