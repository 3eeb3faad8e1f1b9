"""The rows that the C shim fills, 728 bytes each, read in place: one field of all rows a column.

A row is a header of 40 bytes (HEADER) and the newest struct (fields.FIELDS).
"""

import struct
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, Literal

from taskstats import presence
from taskstats.errors import field_unavailable
from taskstats.fields import FIELDS

Kind = Literal["task", "group"]

ROW = 728
STATS_AT = 40
NO_CPU = 0xFFFF

#: name -> (offset, format) of a row's header (csrc/taskstats_shim.h, struct ts_record).
HEADER = {
    "id": (0, "I"),
    "version": (4, "H"),
    "size": (6, "H"),
    "kind": (8, "B"),
    "flags": (9, "B"),
    "cpu": (10, "H"),
    "seq": (12, "I"),
    "lost_before": (16, "I"),
    "row": (20, "I"),
    "received_ns": (24, "Q"),
}

_SHAPE = struct.Struct("=HHBB")  # version, size, kind, flags


def text_of(raw: bytes) -> str:
    r"""A command name as text: bytes that are not UTF-8 become \xNN."""
    return raw.decode("utf-8", "backslashreplace")


class _Texts(Sequence[bytes]):
    """A NUL-padded text field."""

    def __init__(self, data: memoryview, offset: int, size: int) -> None:
        self._data, self._offset, self._size = data, offset, size

    def __len__(self) -> int:
        return len(self._data) // ROW

    def __getitem__(self, row: Any) -> Any:
        start = row * ROW + self._offset
        return bytes(self._data[start : start + self._size]).partition(b"\0")[0]


class _Moments(Sequence[int]):
    """A timespec field, in nanoseconds since the epoch."""

    def __init__(self, data: memoryview, offset: int) -> None:
        words = data.cast("q")
        self._seconds = words[offset // 8 :: ROW // 8]
        self._nanoseconds = words[offset // 8 + 1 :: ROW // 8]

    def __len__(self) -> int:
        return len(self._seconds)

    def __getitem__(self, row: Any) -> Any:
        return self._seconds[row] * 1_000_000_000 + self._nanoseconds[row]


def _column(data: memoryview, offset: int, format_: str) -> Sequence[Any]:
    if format_ == "32s":
        return _Texts(data, offset, 32)
    if format_ == "qq":
        return _Moments(data, offset)
    size = struct.calcsize(format_)
    words: Any = data.cast(format_)  # type: ignore[call-overload]
    column: Sequence[Any] = words[offset // size :: ROW // size]
    return column


class Columns(dict[str, Sequence[Any]]):
    """name -> column, of the header and of the fields that every row has; made when first read.

    It refers to the buffer alone, not to the batch: a cycle would keep buffers from being reused.
    """

    def __init__(self, data: memoryview, kind: Kind) -> None:
        self._data = data
        self._kind = kind

    def __missing__(self, name: str) -> Sequence[Any]:
        if name in HEADER:
            column = _column(self._data, *HEADER[name])
        elif name in self.fields:
            field = FIELDS[name]
            column = _column(self._data, STATS_AT + field.offset, field.format)
        else:
            raise KeyError(name)
        self[name] = column
        return column

    @cached_property
    def shapes(self) -> frozenset[tuple[int, int, int]]:
        """The (version, size, flags) on which fields depend: one, but for replayed datagrams."""
        # A task's fields do not depend on its flags; of groups there are few.
        flags = self["flags"] if self._kind == "group" else [0] * len(self["flags"])
        rows = set(zip(self["version"], self["size"], flags, strict=True))
        return frozenset((v, size, f & presence.SHAPE_FLAGS) for v, size, f in rows)

    @cached_property
    def fields(self) -> frozenset[str]:
        """The names of the fields that every row has."""
        sets = [presence.present(v, size, self._kind, f) for v, size, f in self.shapes]
        return frozenset.intersection(*sets) if sets else frozenset()

    def fields_of(self, row: int) -> frozenset[str]:
        """The names of the fields that this row has."""
        return presence.present(*self._shape_of(row))

    def _shape_of(self, row: int) -> tuple[int, int, str, int]:
        version, size, _, flags = _SHAPE.unpack_from(self._data, row * ROW + 4)
        return version, size, self._kind, flags & presence.SHAPE_FLAGS

    def of_row(self, name: str, row: int) -> Sequence[Any]:
        """The column of a field that not every row has, if this one does.

        Raises:
            FieldUnavailable: It does not.
        """
        if name not in self.fields_of(row):
            why = presence.why_absent(name, *self._shape_of(row))
            raise field_unavailable(name, why) from None
        field = FIELDS[name]
        return _column(self._data, STATS_AT + field.offset, field.format)


class Picker:
    """Reads several 64-bit fields of one row at once, which is faster than one by one.

    Attributes:
        names: The fields, in the order of the struct.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.names = tuple(sorted(names, key=lambda name: FIELDS[name].offset))
        offsets = [STATS_AT + FIELDS[name].offset for name in self.names]
        gaps = [
            at - end for at, end in zip(offsets, [0, *(at + 8 for at in offsets)], strict=False)
        ]
        self._struct = struct.Struct("=" + "".join(f"{gap}xQ" for gap in gaps))

    def read(self, data: memoryview, row: int) -> tuple[int, ...]:
        """Their values; 0 where the row does not carry one."""
        return self._struct.unpack_from(data, row * ROW)
