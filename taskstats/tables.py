"""A batch as NumPy and Arrow columns. Imported when used: needs the extras."""

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from taskstats.fields import FIELDS, Field
from taskstats.presence import DELAY_EXCEEDS, EXIT, LAST, SETTLED, SHAPE_FLAGS, size_of
from taskstats.rows import HEADER, NO_CPU, PROBED, ROW, STATS_AT, text_of

if TYPE_CHECKING:
    import pyarrow as pa

    from taskstats.births import Births
    from taskstats.records import Batch

_FORMATS: dict[str, Any] = {
    "b": "i1",
    "B": "u1",
    "H": "u2",
    "I": "u4",
    "Q": "u8",
    "32s": "S32",
    "qq": [("tv_sec", "i8"), ("tv_nsec", "i8")],
}

#: Numbers that may use all 64 bits.
_UNSIGNED = {"ac_exe_dev", "ac_exe_inode"}

#: Rows that are turned at once: they and their lines stay in a core's cache.
_BLOCK = 256


def _numbered(place: tuple[int, str]) -> tuple[int, str]:
    """A place in a row, with NumPy's word for its format."""
    offset, format_ = place
    return offset, _FORMATS[format_]


@cache
def _dtype(fields: frozenset[str], probed: frozenset[str] = frozenset()) -> "np.dtype[Any]":
    """Of rows with these fields. Making it takes longer than all else that to_numpy does."""
    members = [(name, offset, _FORMATS[format_]) for name, (offset, format_) in HEADER.items()]
    members += [
        (name, STATS_AT + field.offset, _FORMATS[field.format])
        for name, field in FIELDS.items()
        if name in fields
    ]
    members += [(name, *_numbered(PROBED[name])) for name in PROBED if name in probed]
    return np.dtype(
        {
            "names": [name for name, _, _ in members],
            "offsets": [offset for _, offset, _ in members],
            "formats": [format_ for _, _, format_ in members],
            "itemsize": ROW,
        }
    )


def to_numpy(batch: "Batch") -> "np.ndarray[Any, Any]":
    """See Batch.to_numpy."""
    return np.frombuffer(batch.data, _dtype(batch.fields, batch.columns.probed))


@cache
def _pyarrow() -> Any:
    try:
        import pyarrow
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error}; install the extra: pip install '.[arrow]'") from None
    return pyarrow


# ---- Arrow -----------------------------------------------------------------------------------


def _field_type(name: str, field: Field[Any]) -> "pa.DataType":
    pa = _pyarrow()

    if field.format == "32s":
        return pa.string()
    if field.format == "qq":
        return pa.timestamp("ns", "UTC")
    return pa.uint64() if name in _UNSIGNED else pa.int64()


@cache
def schema() -> "pa.Schema":
    """The columns of every batch: the header's, then the fields of FIELDS."""
    pa = _pyarrow()

    header = [
        pa.field("id", pa.int64(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("version", pa.int64(), nullable=False),
        pa.field("cpu", pa.int64()),
        pa.field("seq", pa.int64(), nullable=False),
        pa.field("lost_before", pa.int64(), nullable=False),
        pa.field("received_at", pa.timestamp("ns", "UTC")),
        pa.field("exit", pa.bool_(), nullable=False),
        pa.field("last", pa.bool_(), nullable=False),
        pa.field("delay_exceeds_elapsed", pa.bool_(), nullable=False),
    ]
    fields = [
        pa.field(
            name,
            _field_type(name, field),
            metadata={"unit": field.unit, "since": str(field.since), "doc": field.doc},
        )
        for name, field in FIELDS.items()
    ]
    probed = [
        pa.field("final_cpu_ns", pa.int64(), metadata={"unit": "ns"}),
        pa.field("start_ns", pa.int64(), metadata={"unit": "ns since boot"}),
        pa.field("cgroup_id", pa.int64(), metadata={"unit": "inode"}),
        pa.field("cgroup", pa.string()),
    ]
    return pa.schema(header + fields + probed)


@cache
def _types() -> dict[str, "pa.DataType"]:
    return {field.name: field.type for field in schema()}


def _texts(raw: "np.ndarray[Any, Any]", lacking: Any) -> "pa.Array":
    pa = _pyarrow()

    names = pa.array(raw, pa.binary(), mask=lacking)  # up to the first NUL
    try:
        return names.cast(pa.string())
    except pa.ArrowInvalid:
        coded = names.dictionary_encode()
        texts = [text_of(name) for name in coded.dictionary.to_pylist()]
        return pa.array(texts, pa.string()).take(coded.indices)


def _repeated(text: str, n: int) -> "pa.Array":
    """A text that is the same in all rows."""
    pa = _pyarrow()

    raw = text.encode()
    offsets = np.arange(n + 1, dtype="i4") * len(raw)
    return pa.StringArray.from_buffers(n, pa.py_buffer(offsets), pa.py_buffer(raw * n))


def _presence(batch: "Batch") -> tuple[frozenset[str], dict[str, Any]]:
    """The fields that some row has, and which rows lack those of them that not every row has."""
    if len(batch.columns.shapes()) <= 1:
        return batch.fields, {}
    rows = np.frombuffer(batch.data, _dtype(frozenset()))
    structs = rows["version"].astype("i8") << 16 | rows["size"]
    shapes = structs << 8 | rows["flags"] & SHAPE_FLAGS
    _, first, which = np.unique(shapes, return_index=True, return_inverse=True)
    has = [batch.columns.fields_of(row) for row in first.tolist()]
    some, every = frozenset.union(*has), frozenset.intersection(*has)
    lacking = {name: np.array([name not in names for names in has])[which] for name in some - every}
    return some, lacking


@cache
def _end(names: frozenset[str]) -> int:
    """How many words of a row hold its header and these fields."""
    end = max((FIELDS[name].offset + size_of(name) for name in names), default=0)
    return -(-(STATS_AT + end) // 8)


def _turned(rows: "np.ndarray[Any, Any]") -> "np.ndarray[Any, Any]":
    """A transposed copy: each word of all rows is a line of it, contiguous."""
    lines = np.empty(rows.shape[::-1], rows.dtype)
    for start in range(0, len(rows), _BLOCK):
        block = slice(start, start + _BLOCK)
        lines[:, block] = rows[block].T
    return lines


def _integers(lines: "np.ndarray[Any, Any]", offset: int, format_: str) -> Any:
    """One member of all rows, as signed integers of 64 bits."""
    line = lines[offset // 8]
    if format_ == "Q":
        return line
    members = line.view(_FORMATS[format_])
    size = members.itemsize
    return members[offset % 8 // size :: 8 // size].astype("i8")


def to_arrow(batch: "Batch") -> "pa.RecordBatch":
    """See Batch.to_arrow."""
    pa = _pyarrow()

    whole, types = schema(), _types()
    some, lacking = _presence(batch)
    rows = np.frombuffer(batch.data, "u1").reshape(-1, ROW)
    lines = _turned(rows.view("i8")[:, : _end(some)])

    def header(name: str) -> Any:
        return _integers(lines, *HEADER[name])

    cpu, received, flags = header("cpu"), header("received_ns"), header("flags")
    columns = [
        pa.array(header("id")),
        _repeated(batch.kind, len(batch)),
        pa.array(header("version")),
        pa.array(cpu, mask=cpu == NO_CPU),
        pa.array(header("seq")),
        pa.array(header("lost_before")),
        pa.array(received, mask=received == 0).view(types["received_at"]),
        *(pa.array(flags & bit != 0) for bit in (EXIT, LAST, DELAY_EXCEEDS)),
    ]
    for name, field in FIELDS.items():
        at, mask = STATS_AT + field.offset, lacking.get(name)
        if name not in some:
            column = pa.nulls(len(batch), types[name])
        elif field.format == "32s":
            column = _texts(rows[:, at : at + 32].view("S32")[:, 0], mask)
        elif field.format == "qq":
            moments = lines[at // 8] * 1_000_000_000 + lines[at // 8 + 1]
            never = moments == 0 if mask is None else mask | (moments == 0)
            column = pa.array(moments, mask=never).view(types[name])
        else:
            values = _integers(lines, at, field.format)
            column = pa.array(values.view("u8") if name in _UNSIGNED else values, mask=mask)
        columns.append(column)
    return pa.RecordBatch.from_arrays(columns + _probed(batch, flags), schema=whole)


def _probed(batch: "Batch", flags: Any) -> list["pa.Array"]:
    """The columns of PROBED, and the cgroups' paths."""
    pa = _pyarrow()

    unsettled = flags & SETTLED == 0
    if unsettled.all():
        types = _types()
        return [pa.nulls(len(batch), types[name]) for name in (*PROBED, "cgroup")]
    rows = np.frombuffer(batch.data, _dtype(frozenset(), frozenset(PROBED)))
    ids = rows["cgroup_id"].astype("i8")
    return [
        pa.array(rows["final_cpu_ns"].astype("i8"), mask=unsettled),
        pa.array(rows["start_ns"].astype("i8"), mask=unsettled),
        pa.array(ids, mask=ids == 0),
        _paths(ids, batch.path_of),
    ]


def _paths(ids: "np.ndarray[Any, Any]", path_of: Any) -> "pa.Array":
    """The path of each cgroup; null where it is not known."""
    pa = _pyarrow()

    some, which = np.unique(ids, return_inverse=True)
    paths = [path_of(one) if one else None for one in some.tolist()]
    return pa.array(paths, pa.string()).take(pa.array(which))


def to_stream(batch: "Batch", requested_schema: object | None) -> Any:
    """The batch as an Arrow C stream capsule of one record batch."""
    pa = _pyarrow()

    table = pa.Table.from_batches([to_arrow(batch)])
    return table.__arrow_c_stream__(requested_schema)


# ---- births ----------------------------------------------------------------------------------


def births_to_numpy(births: "Births") -> "np.ndarray[Any, Any]":
    """See Births.to_numpy."""
    members = births.MEMBERS
    dtype = np.dtype(
        {
            "names": list(members),
            "offsets": [offset for offset, _ in members.values()],
            "formats": [_FORMATS[format_] for _, format_ in members.values()],
            "itemsize": births.ROW,
        }
    )
    return np.frombuffer(births.data, dtype)


def births_to_arrow(births: "Births") -> "pa.RecordBatch":
    """See Births.to_arrow."""
    pa = _pyarrow()

    rows = births_to_numpy(births)
    ids = rows["cgroup_id"].astype("i8")
    names = ("pid", "start_ns", "maker_pid", "maker_start_ns")
    columns = {name: pa.array(rows[name].astype("i8")) for name in names}
    columns["cgroup_id"] = pa.array(ids, mask=ids == 0)
    columns["cgroup"] = _paths(ids, births.path_of)
    return pa.RecordBatch.from_pydict(columns)
