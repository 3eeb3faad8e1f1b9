"""TASKSTATS datagrams written and read with `struct` and tests/data/fields.tsv, not the package.

The layout of a message is that of kernel/taskstats.c:mk_reply.
"""

import csv
import struct
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeAlias

Kind: TypeAlias = Literal["task", "group"]
Value: TypeAlias = int | bytes

DATA = Path(__file__).parent.parent / "data"
NATIVE = "<" if sys.byteorder == "little" else ">"
FOREIGN = "<>".strip(NATIVE)

FAMILY, COMMAND = 0x1F, 2  # a family id as good as any; TASKSTATS_CMD_NEW
NLMSG_NOOP, NLMSG_ERROR, NLMSG_DONE, NLCTRL = 1, 2, 3, 0x10
TYPE_PID, TYPE_TGID, TYPE_STATS, TYPE_AGGR_PID, TYPE_AGGR_TGID, TYPE_NULL = range(1, 7)
NLA_F_NESTED, NLA_TYPE_MASK = 0x8000, 0x3FFF

#: kind -> type of its aggregate, type of its id, member that is its id.
KINDS: dict[Kind, tuple[int, int, str]] = {
    "task": (TYPE_AGGR_PID, TYPE_PID, "ac_pid"),
    "group": (TYPE_AGGR_TGID, TYPE_TGID, "ac_tgid"),
}

#: version -> bytes of its struct.
SIZES = {4: 272, 5: 288, 6: 312, 7: 328, 8: 328, 9: 344, 10: 352, 11: 368, 12: 400, 13: 416}
SIZES |= {14: 432, 15: 560, 16: 560, 17: 688}

#: A layout that was proposed as version 17: with SOFTIRQ delays in place of the moments, which a
#: struct of version 17 has only if it is as long as mainline's.
RIVAL = (17, 592)

#: Every layout that a kernel has sent, as (version, size). Release candidates of 6.14 had the
#: layout of 15 under version 14, for a while with the maxima alone.
MOVED = ((14, 496), (14, 560), (15, 560))
LAYOUTS = tuple(sorted({*SIZES.items(), *MOVED}))


# ---- the struct ------------------------------------------------------------------------------


class Member(NamedTuple):
    """A row of fields.tsv. The format "qq" is a timespec, here one int of nanoseconds."""

    name: str
    format: str
    offset: int
    moved: int | None  # its offset in version 15
    since: int
    summed: bool  # over the threads of a group

    @property
    def size(self) -> int:
        return struct.calcsize("=" + self.format)


_FORMATS = {
    "__u8": "B",
    "__u16": "H",
    "__u32": "I",
    "__u64": "Q",
    "struct __kernel_timespec": "qq",
}


def _members() -> Iterator[Member]:
    with (DATA / "fields.tsv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
            format_ = "b" if row["unit"].startswith("signed 8-bit") else _FORMATS.get(row["ctype"])
            yield Member(
                row["name"],
                format_ if format_ and row["array_len"] == "1" else row["array_len"] + "s",
                int(row["offset_x86_64"]),
                None if row["v15_offset"] == "-" else int(row["v15_offset"]),
                int(row["introduced_version"].split()[0]),
                row["live_tgid"].startswith("sum"),
            )


MEMBERS = {member.name: member for member in _members()}
FIELDS = [name for name in MEMBERS if name not in ("version", "ac_pad")]


def layout(version: int, size: int) -> dict[str, int]:
    """name -> offset of the members that a struct of this version and size may hold."""
    if (version, size) not in MOVED and version != 15:
        most = version if size >= SIZES[17] else min(version, 16)  # see RIVAL
        return {m.name: m.offset for m in MEMBERS.values() if m.since <= most}
    offsets = {m.name: m.moved for m in MEMBERS.values() if m.moved is not None}
    if (version, size) == (14, 496):
        minima = [at for name, at in offsets.items() if name.endswith("_min")]
        return {
            name: at - 8 * sum(minimum < at for minimum in minima)
            for name, at in offsets.items()
            if at not in minima
        }
    return offsets


def _sample(index: int, member: Member) -> Value:
    match member.format:
        case "b":
            return -7
        case "B":
            return index
        case "I":
            return 70_000 + index  # more than 16 bits
        case "Q":
            return 10**12 + index  # more than 32 bits
        case "qq":
            return (1_700_000_000 + index) * 10**9 + index
    return b"sample"


#: A value for each member, unlike all the others. No delay exceeds the elapsed time.
SAMPLE: Mapping[str, Value] = {
    name: _sample(index, MEMBERS[name]) for index, name in enumerate(FIELDS)
}


def pack(
    version: int,
    size: int,
    values: Mapping[str, Value] = SAMPLE,
    *,
    fill: int = 0xEE,
    order: str = NATIVE,
) -> bytes:
    """A struct, cut or continued to `size`; what no member takes is `fill`."""
    made = bytearray([fill]) * max(size, SIZES[17])
    struct.pack_into(order + "H", made, 0, version)
    for name, at in layout(version, size).items():
        value, format_ = values.get(name), MEMBERS[name].format
        if value is not None:
            parts = divmod(value, 10**9) if format_ == "qq" and isinstance(value, int) else (value,)
            struct.pack_into(order + format_, made, at, *parts)
    return bytes(made[:size])


def unpack(
    stats: bytes, version: int, kind: Kind = "task", exit_: bool = False, order: str = NATIVE
) -> dict[str, Value]:
    """The fields that a struct holds, whole and filled by the kernel for this kind of record."""
    made: dict[str, Value] = {}
    for name, at in layout(version, len(stats)).items():
        member = MEMBERS[name]
        if name not in FIELDS or at + member.size > len(stats):
            continue
        if kind == "group" and not member.summed:
            continue
        parts = struct.unpack_from(order + member.format, stats, at)
        if member.format == "qq":
            made[name] = parts[0] * 10**9 + parts[1]
        else:
            made[name] = parts[0] if isinstance(parts[0], int) else parts[0].split(b"\0")[0]
    if kind == "task" or made.get("ac_etime"):
        return made
    # Older kernels sum no times over a group, nor at its exit the switches; and of a zombie that
    # never had a second thread every kernel sends zeros.
    if not any(
        made.get(f"cpu_{name}") for name in ("count", "run_real_total", "run_virtual_total")
    ):
        return {}
    unsummed = {"ac_etime", "ac_utime", "ac_stime"} | ({"nvcsw", "nivcsw"} if exit_ else set())
    return {name: value for name, value in made.items() if name not in unsummed}


# ---- writing ---------------------------------------------------------------------------------


def attribute(type_: int, payload: bytes = b"", order: str = NATIVE) -> bytes:
    """An attribute with its padding."""
    return struct.pack(order + "HH", 4 + len(payload), type_) + payload + bytes(-len(payload) % 4)


NULL = attribute(TYPE_NULL)
UNKNOWN = attribute(77, b"later")


def aggregate(
    kind: Kind,
    id_: int,
    stats: bytes,
    inside: tuple[bytes, bytes] = (b"", b""),
    *,
    nested: bool = False,
    order: str = NATIVE,
) -> bytes:
    """AGGR_PID or AGGR_TGID; `inside` stands before and after its struct."""
    type_, id_type, _ = KINDS[kind]
    parts = (
        attribute(id_type, struct.pack(order + "I", id_), order),
        inside[0],
        attribute(TYPE_STATS, stats, order),
        inside[1],
    )
    return attribute(type_ | (NLA_F_NESTED if nested else 0), b"".join(parts), order)


def message(
    *attributes: bytes,
    seq: int = 0,
    port: int = 0,
    type_: int = FAMILY,
    command: int = COMMAND,
    order: str = NATIVE,
) -> bytes:
    """A generic netlink message; one from port 0 is an exit, a reply carries the asker's."""
    body = bytes([command, 1, 0, 0]) + b"".join(attributes)
    return struct.pack(order + "IHHII", 16 + len(body), type_, 0, seq, port) + body


def answer(error: int, order: str = NATIVE) -> bytes:
    """An NLMSG_ERROR: an ACK where `error` is 0."""
    return struct.pack(order + "IHHIIi16x", 36, NLMSG_ERROR, 0, 0, 0, error)


def datagram(
    version: int = 16,
    size: int | None = None,
    kinds: Iterable[Kind] = ("task",),
    values: Mapping[str, Value] = SAMPLE,
    *,
    inside: tuple[bytes, bytes] = (b"", b""),
    outside: tuple[bytes, bytes] = (b"", b""),
    nested: bool = False,
    group_version: int | None = None,
    seq: int = 0,
    port: int = 0,
    fill: int = 0xEE,
    order: str = NATIVE,
) -> bytes:
    """One message with an aggregate for each of `kinds`."""
    size = SIZES[version] if size is None else size
    stats = pack(version, size, values, fill=fill, order=order)
    parts = []
    for kind in kinds:
        own = stats
        if kind == "group" and group_version is not None:
            own = struct.pack(order + "H", group_version) + stats[2:]
        id_ = values.get(KINDS[kind][2], 0)
        assert isinstance(id_, int)
        parts.append(aggregate(kind, id_, own, inside, nested=nested, order=order))
    return message(outside[0], *parts, outside[1], seq=seq, port=port, order=order)


# ---- reading ---------------------------------------------------------------------------------


class Aggregate(NamedTuple):
    """What one aggregate tells."""

    kind: Kind
    id: int
    group: int | None  # the tgid that came with a task
    version: int
    size: int
    seq: int
    exit: bool
    last: bool
    values: dict[str, Value]


def view(batch: Any) -> list[Aggregate]:
    """The package's batch in the terms of `decode`, by the attributes of its records."""
    return [_view(record) for record in (*batch, *batch.groups)]


def _view(record: Any) -> Aggregate:
    carried = record.to_dict()  # asking each absent field for its reason takes too long
    return Aggregate(
        record.kind,
        record.id,
        record.group and record.group.id,
        record.version,
        record.size,
        record.seq,
        record.is_exit,
        record.is_last,
        {name: getattr(record, name) for name in FIELDS if name in carried},
    )


class _Refused(Exception):
    pass


def _hold(condition: bool) -> None:
    if not condition:
        raise _Refused


def decode(data: bytes, order: str = NATIVE) -> list[Aggregate] | None:
    """The tasks of a datagram, then its groups; None if it is to be refused."""
    try:
        _hold(bool(data))
        found = [one for message in _messages(data, order) for one in _aggregates(*message, order)]
    except _Refused:
        return None
    return sorted(found, key=lambda one: one.kind == "group")


def _messages(data: bytes, order: str) -> Iterator[tuple[int, int, int, bytes]]:
    while data:
        _hold(len(data) >= 16)
        size, type_, _, seq, port = struct.unpack_from(order + "IHHII", data)
        _hold(16 <= size <= len(data))
        yield type_, seq, port, data[16:size]
        data = data[size + -size % 4 :]


def _attributes(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    while data:
        _hold(len(data) >= 4)
        size, type_ = struct.unpack_from(order + "HH", data)
        _hold(4 <= size <= len(data))
        yield type_ & NLA_TYPE_MASK, data[4:size]
        data = data[size + -size % 4 :]


def _aggregates(type_: int, seq: int, port: int, body: bytes, order: str) -> Iterator[Aggregate]:
    if type_ == NLMSG_ERROR:
        _hold(len(body) >= 4 and body[:4] == bytes(4))
    if type_ in (NLMSG_NOOP, NLMSG_ERROR, NLMSG_DONE):
        return
    _hold(type_ > NLCTRL and len(body) >= 4 and body[0] == COMMAND)

    found: dict[Kind, tuple[int, bytes]] = {}
    attributes = list(_attributes(body[4:], order))
    for kind, (nest_type, id_type, _) in KINDS.items():
        for nest in (payload for type_, payload in attributes if type_ == nest_type):
            inner = list(_attributes(nest, order))
            ids = [payload for type_, payload in inner if type_ == id_type]
            structs = [payload for type_, payload in inner if type_ == TYPE_STATS]
            _hold(kind not in found and [len(id_) for id_ in ids] == [4] and len(structs) == 1)
            _hold(len(structs[0]) >= 2)
            found[kind] = struct.unpack(order + "I", ids[0])[0], structs[0]

    _hold(bool(found))
    (version,) = struct.unpack_from(order + "H", (found.get("task") or found["group"])[1])
    _hold(version >= 4)
    for kind, (id_, stats) in found.items():
        values = unpack(stats, version, kind, port == 0, order)
        flag = values.get("ac_flag", 0)
        yield Aggregate(
            kind,
            id_,
            found["group"][0] if kind == "task" and "group" in found else None,
            version,
            len(stats),
            seq,
            port == 0,
            bool(isinstance(flag, int) and flag & 0x20),
            values,
        )


def lengths(data: bytes) -> Iterator[tuple[int, str]]:
    """Where the lengths of a well-formed message stand, and their format."""
    yield 0, "I"
    if struct.unpack_from("=H", data, 4)[0] > NLCTRL:
        yield from _lengths(data, 20, len(data))


def _lengths(data: bytes, at: int, end: int) -> Iterator[tuple[int, str]]:
    while at < end:
        size, type_ = struct.unpack_from("=HH", data, at)
        yield at, "H"
        if type_ & NLA_TYPE_MASK in (TYPE_AGGR_PID, TYPE_AGGR_TGID):
            yield from _lengths(data, at + 4, at + size)
        at += size + -size % 4
