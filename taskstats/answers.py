"""Answer: the record of one query, made a batch only when somebody needs one.

A batch, its columns and which fields they have would add half as much again to what the kernel
takes to answer. So that is found out when the first field is read, and each is read straight from
its row.
"""

import struct
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

from taskstats import presence
from taskstats._native import ffi
from taskstats.errors import field_unavailable
from taskstats.fields import FIELDS, Field
from taskstats.records import Batch, Record
from taskstats.rows import SHAPE, STATS_AT, Kind, Shape

_KINDS: dict[int, Kind] = {1: "task", 2: "group"}

#: Reads one field of a row: a sequence of one value.
Reader = Callable[[Any], Sequence[Any]]


class Answer(Record):
    """A record in a row of its own (`_cell`, a struct ts_record of the shim)."""

    __slots__ = ("_cell", "_data", "_made", "_readers")

    _row = 0
    _cell: Any
    _data: Any
    _made: Batch
    _readers: list[Reader] | None

    @property
    def kind(self) -> Kind:
        """What was accounted: "task" or "group"."""
        return _KINDS[self._cell.kind]

    @property
    def _batch(self) -> Batch:  # type: ignore[override]
        try:
            return self._made
        except AttributeError:
            self._made = Batch(ffi.buffer(self._cell), kind=self.kind)
            return self._made

    def _open(self) -> list[Reader]:
        """Makes what reads the row's fields."""
        self._data = data = ffi.buffer(self._cell)
        self._readers = readers = _readers_of(*SHAPE.unpack_from(data))
        return readers


def _attribute(field: Field[Any]) -> property:
    index = field.index

    def read(answer: Answer) -> Any:
        readers = answer._readers or answer._open()
        return readers[index](answer._data)[0]

    return property(read, doc=field.doc)


for _field in FIELDS.values():
    setattr(Answer, _field.name, _attribute(_field))


# ---- what reads a field ----------------------------------------------------------------------


def _reader(field: Field[Any]) -> Reader:
    unpack = struct.Struct(f"={STATS_AT + field.offset}x{field.format}").unpack_from
    if field.format == "32s":
        return lambda row: [text.partition(b"\0")[0] for text in unpack(row)]
    if field.format == "qq":
        return lambda row: [seconds * 1_000_000_000 + ns for seconds, ns in [unpack(row)]]
    return unpack


_READERS = [_reader(field) for field in FIELDS.values()]


def _absent(field: Field[Any], shape: Shape) -> Reader:
    def refuse(_row: Any) -> Sequence[Any]:
        raise field_unavailable(field.name, presence.why_absent(field.name, *shape))

    return refuse


@cache
def _readers_of(version: int, size: int, kind: int, flags: int) -> list[Reader]:
    """By Field.index; those of fields that such a row does not have raise FieldUnavailable."""
    shape = version, size, _KINDS[kind], flags & presence.SHAPE_FLAGS
    present = presence.present(*shape)
    return [
        reader if field.name in present else _absent(field, shape)
        for reader, field in zip(_READERS, FIELDS.values(), strict=True)
    ]
