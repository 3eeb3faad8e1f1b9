"""Records as the kernel lays them out (kernel/taskstats.c:mk_reply)."""

import struct
from collections.abc import Mapping
from functools import cache
from typing import TypeAlias

from taskstats import presence
from taskstats.emulator import messages
from taskstats.emulator.options import Layout
from taskstats.fields import FIELDS
from taskstats.rows import Kind

#: A field's value; a timespec is an int of ns.
Value: TypeAlias = int | bytes

# include/uapi/linux/taskstats.h
COMMAND_NEW = 2
_TYPE_STATS, _TYPE_NULL = 3, 6
_TYPES: dict[Kind, tuple[int, int]] = {"task": (4, 1), "group": (5, 2)}  # the nest, the id in it

_VERSION = struct.Struct("=H")
_BEFORE_ATTRIBUTES = messages.HEADER_SIZE + messages.GENERIC_HEADER_SIZE
_BEFORE_STRUCT = 16  # headers of the nest, the id and the struct, and the id


@cache
def _places(layout: Layout) -> dict[str, tuple[int, struct.Struct]]:
    offsets = presence.offsets(layout.version, layout.bytes)
    return {name: (at, struct.Struct("=" + FIELDS[name].format)) for name, at in offsets.items()}


def pack(layout: Layout, values: Mapping[str, Value], version: int | None = None) -> bytes:
    """The struct; what this version does not have is left out, what has no value is 0.

    What has grown too big begins at 0 again.
    """
    made = bytearray(layout.bytes)
    _VERSION.pack_into(made, 0, layout.version if version is None else version)
    places = _places(layout)
    for name, value in values.items():
        if name in places:
            at, format_ = places[name]
            if format_.size == 16 and isinstance(value, int):
                format_.pack_into(made, at, *divmod(value, 10**9))
            elif isinstance(value, int) and value > 0:
                format_.pack_into(made, at, value % 2 ** (8 * format_.size))
            else:
                format_.pack_into(made, at, value)
    return bytes(made)


def has(layout: Layout, name: str) -> bool:
    """Whether the struct has the field."""
    return name in _places(layout)


def offset_in_record(layout: Layout, name: str) -> int:
    """Where a field of the task stands in a message."""
    padding = 4 if layout.padding else 0
    return _BEFORE_ATTRIBUTES + _BEFORE_STRUCT + padding + _places(layout)[name][0]


#: Where the id of the task stands in a message.
ID_AT = _BEFORE_ATTRIBUTES + 8


def aggregate(layout: Layout, kind: Kind, id_: int, stats: bytes, at: int) -> bytes:
    """The nest of one record that begins at this offset of the message."""
    nest, id_type = _TYPES[kind]
    parts = [messages.attribute(id_type, struct.pack("=I", id_))]
    if layout.padding and (at + 12) % 8 == 0:  # then the struct would stand at 4 mod 8
        parts.append(messages.attribute(_TYPE_NULL))
    parts.append(messages.attribute(_TYPE_STATS, stats))
    return messages.attribute(nest, b"".join(parts))


def record(
    layout: Layout,
    family: int,
    *records: tuple[Kind, int, bytes],
    port: int = 0,
    seq: int = 0,
) -> bytes:
    """A message with these records: each its kind, its id and its struct."""
    nests: list[bytes] = []
    for kind, id_, stats in records:
        at = _BEFORE_ATTRIBUTES + sum(map(len, nests))
        nests.append(aggregate(layout, kind, id_, stats, at))
    return messages.message(family, COMMAND_NEW, nests, port=port, seq=seq)
