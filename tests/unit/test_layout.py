"""One struct told four times: fields.tsv, FIELDS, the compiled struct, the header of a row."""

import struct
from itertools import pairwise
from typing import Any

import pytest
from support import wire

from taskstats import FIELDS, _native, presence, tables
from taskstats.births import Births
from taskstats.cgroups.paths import MADE, REMOVED, RENAMED
from taskstats.errors import REASONS
from taskstats.fields import BOTH, DELAYS, TASK
from taskstats.rows import HEADER, PROBED, ROW, STATS_AT

ffi: Any = _native.ffi

#: C type -> format of the struct module.
FORMATS = {
    "char[32]": "32s",
    "int8_t": "b",
    "struct ts_timespec": "qq",
    "uint8_t": "B",
    "uint8_t[3]": "3s",
    "uint16_t": "H",
    "uint32_t": "I",
    "uint64_t": "Q",
}

NOT_FIELDS = {"version", "ac_pad"}

fields = pytest.mark.parametrize("name", FIELDS)


def members(type_: str) -> dict[str, tuple[int, str]]:
    """name -> (offset, format) of a compiled struct's members, without the padding."""
    return {
        name: (member.offset, FORMATS[member.type.cname])
        for name, member in ffi.typeof(type_).fields
        if not name.startswith("pad_") and name != "stats"
    }


def constants(type_: str) -> dict[str, int]:
    return {name: value for value, name in ffi.typeof(type_).elements.items()}


def test_fields_are_the_kernels_members_but_for_version_and_padding() -> None:
    assert set(wire.MEMBERS) - set(FIELDS) == NOT_FIELDS
    assert list(FIELDS) == [field.name for field in FIELDS.values()] == wire.FIELDS
    assert [field.index for field in FIELDS.values()] == list(range(len(FIELDS)))


@fields
def test_a_field_is_as_the_table_of_the_kernels_members_has_it(name: str) -> None:
    field, member = FIELDS[name], wire.MEMBERS[name]
    assert (field.offset, field.format, field.since) == (member.offset, member.format, member.since)
    assert presence.size_of(name) == struct.calcsize("=" + field.format) == member.size
    assert field.kinds == (BOTH if member.summed else TASK)


@fields
def test_a_field_says_what_it_is(name: str) -> None:
    field = FIELDS[name]
    assert field.unit
    assert field.__doc__ == field.doc
    assert field.group in {"identity", "status", "time", "memory", "io", "switches", *DELAYS}
    assert repr(field) == f"<Field {name} [{field.unit}] since version {field.since}>"


@pytest.mark.parametrize("delay", DELAYS)
def test_each_delay_has_its_fields(delay: str) -> None:
    names = {name for name, field in FIELDS.items() if field.group == delay}
    extremes = {f"{delay}_delay_{suffix}" for suffix in ("max", "min", "max_ts")}
    assert names == {f"{delay}_count", f"{delay}_delay_total"} | extremes


def test_the_compiled_struct_is_the_kernels() -> None:
    kernels = {member.name: (member.offset, member.format) for member in wire.MEMBERS.values()}
    assert members("struct ts_stats") == kernels
    assert ffi.sizeof("struct ts_stats") == wire.SIZES[17]


def test_the_compiled_struct_has_no_hidden_padding() -> None:
    for type_ in "struct ts_stats", "struct ts_record":
        every = [(m.offset, ffi.sizeof(m.type)) for _, m in ffi.typeof(type_).fields]
        ends = [(0, 0), *every, (ffi.sizeof(type_), 0)]
        assert all(at + size == following for (at, size), (following, _) in pairwise(ends))


def test_a_row_is_the_compiled_record() -> None:
    assert ffi.sizeof("struct ts_record") == ROW == 752
    assert ffi.offsetof("struct ts_record", "stats") == STATS_AT == 40
    assert members("struct ts_record") == HEADER | PROBED


def test_a_birth_is_the_compiled_one() -> None:
    assert ffi.sizeof("struct ts_birth") == Births.ROW
    assert members("struct ts_birth") == Births.MEMBERS


def test_changes_of_cgroups_have_the_numbers_of_the_shim() -> None:
    numbers = {"TS_CGROUP_MADE": MADE, "TS_CGROUP_RENAMED": RENAMED, "TS_CGROUP_REMOVED": REMOVED}
    assert constants("enum ts_cgroup_change_kind") == numbers


@fields
def test_a_column_stands_where_the_compiled_struct_has_the_field(name: str) -> None:
    dtype = tables._dtype(frozenset({name}))
    assert dtype.itemsize == ROW
    assert dtype.fields is not None
    format_, offset = dtype.fields[name][:2]
    assert offset == STATS_AT + ffi.offsetof("struct ts_stats", name)
    assert format_.itemsize == wire.MEMBERS[name].size


def test_reasons_and_flags_are_those_of_the_shim() -> None:
    names = {f"TS_{name.upper().replace('-', '_')}": i for i, name in enumerate(REASONS)}
    assert constants("enum ts_reason") == names | {"TS_REASONS": len(REASONS)}

    flags = constants("enum ts_flag")
    assert flags == {name: getattr(presence, name.removeprefix("TS_")) for name in flags}
