"""The rows that the C shim fills, 752 bytes each, read in place: one field of all rows a column.

A row is a header of 40 bytes (HEADER), the newest struct (fields.FIELDS), and what the probe adds
(PROBED).
"""

import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

from taskstats import presence
from taskstats.errors import field_unavailable
from taskstats.fields import FIELDS, Field

Kind = Literal["task", "group"]

ROW = 752
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

#: name -> (offset, format) of what the probe adds; it means something in rows with the flag SETTLED
#: alone, and a cgroup_id of 0 is not known there either.
PROBED = {
    "final_cpu_ns": (728, "Q"),
    "start_ns": (736, "Q"),
    "cgroup_id": (744, "Q"),
}

_SHAPE = struct.Struct("=HHBB")  # version, size, kind, flags
_SHAPE_AT = 4

_UNSURE = {"cgroup_id"}

#: What a row's fields depend on: version, size, kind, and those of its flags that matter.
Shape = tuple[int, int, Kind, int]


def text_of(raw: bytes) -> str:
    r"""The name of a command or a cgroup as text: bytes that are not UTF-8 become \xNN."""
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
    words: Any = data.cast(format_)  # type: ignore[call-overload]
    size = words.itemsize
    column: Sequence[Any] = words[offset // size :: ROW // size]
    return column


class Columns(dict[str, Sequence[Any]]):
    """name -> column, of the header and of the fields that every row has; made when first read.

    So it is with what the probe adds: a column that some row lacks is a KeyError.

    It refers to the buffer alone, not to the batch: a cycle would keep buffers from being reused.
    """

    _fields: frozenset[str] | None = None

    def __init__(self, data: memoryview, kind: Kind) -> None:
        self._data = data
        self._kind = kind

    def __missing__(self, name: str) -> Sequence[Any]:
        if name in HEADER:
            column = _column(self._data, *HEADER[name])
        elif name in self.fields:
            column = self.of_field(FIELDS[name])
        elif name in self.probed:
            column = self.of_probe(name)
        else:
            raise KeyError(name)
        self[name] = column
        return column

    @property
    def fields(self) -> frozenset[str]:
        """The names of the fields that every row has."""
        if self._fields is None:
            sets = [presence.present(*shape) for shape in self.shapes()]
            if len(sets) == 1:  # of one alone, an intersection is a copy
                (self._fields,) = sets
            else:
                self._fields = frozenset.intersection(*sets) if sets else frozenset()
        return self._fields

    @property
    def probed(self) -> frozenset[str]:
        """The names of PROBED that every row has."""
        if not all(flags & presence.SETTLED for flags in self["flags"]):
            return frozenset()
        return frozenset(PROBED if all(self.of_probe("cgroup_id")) else PROBED.keys() - _UNSURE)

    def of_probe(self, name: str) -> Sequence[int]:
        """One of PROBED in all rows; 0 where it is not known."""
        return _column(self._data, *PROBED[name])

    def fields_of(self, row: int) -> frozenset[str]:
        """The names of the fields that this row has."""
        return presence.present(*self._shape_of(row))

    def shapes(self) -> set[Shape]:
        """The shapes of the rows: of tasks one, but for replayed datagrams."""
        if len(self._data) <= ROW:
            return {self._shape_of(0)} if self._data else set()
        if self._is_of_one_struct():
            version, size, kind, flags = self._shape_of(0)
            every = {flags} if kind == "task" else set(self["flags"])
            return {(version, size, kind, f & presence.SHAPE_FLAGS) for f in every}
        rows = set(zip(self["version"], self["size"], self["flags"], strict=True))
        return {(v, size, self._kind, f & presence.SHAPE_FLAGS) for v, size, f in rows}

    def _is_of_one_struct(self) -> bool:
        """Whether version and size, one word together, are the same in all rows."""
        words = _column(self._data, _SHAPE_AT, "I")
        return words[1:] == words[:-1]

    def _shape_of(self, row: int) -> Shape:
        version, size, _, flags = _SHAPE.unpack_from(self._data, row * ROW + _SHAPE_AT)
        return version, size, self._kind, flags & presence.SHAPE_FLAGS

    def of_field(self, field: Field[Any]) -> Sequence[Any]:
        """The field's column, made anew; rows that do not have the field count as well."""
        return _column(self._data, STATS_AT + field.offset, field.format)

    def of_row(self, field: Field[Any], row: int) -> Sequence[Any]:
        """The column of a field that not every row has, if this one does.

        Raises:
            FieldUnavailable: It does not.
        """
        if field.name not in self.fields_of(row):
            why = presence.why_absent(field.name, *self._shape_of(row))
            raise field_unavailable(field.name, why)
        return self.of_field(field)


class Picker:
    """Reads several numbers or texts of rows at once, which is faster than one by one.

    Texts come as they stand, 32 bytes with NULs.

    Args:
        names: Of the header, of fields, and of PROBED.

    Attributes:
        names: The same in the order of the row, in which values come.
    """

    def __init__(self, names: Iterable[str]) -> None:
        places = sorted((*_place(name), name) for name in names)
        self.names = tuple(name for _, _, name in places)
        end, format_ = 0, "="
        for offset, its, _ in places:
            format_ += f"{offset - end}x{its}"
            end = offset + struct.calcsize(f"={its}")
        self._struct = struct.Struct(f"{format_}{ROW - end}x")

    def read(self, data: memoryview, row: int) -> tuple[Any, ...]:
        """One row's values; 0 where it does not carry one."""
        return self._struct.unpack_from(data, row * ROW)

    def rows(self, data: memoryview | bytes | bytearray) -> Iterator[tuple[Any, ...]]:
        """The values of each row."""
        return self._struct.iter_unpack(data)


def _place(name: str) -> tuple[int, str]:
    """A value's offset in the row, and its format."""
    if name in HEADER:
        return HEADER[name]
    if name in PROBED:
        return PROBED[name]
    return STATS_AT + FIELDS[name].offset, FIELDS[name].format
