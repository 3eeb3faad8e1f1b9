"""A batch as NumPy and Arrow columns. Imported when used: needs the extras."""

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np

from taskstats.fields import FIELDS, Field
from taskstats.presence import DELAY_EXCEEDS, EXIT, LAST, SHAPE_FLAGS
from taskstats.rows import HEADER, NO_CPU, ROW, STATS_AT, text_of

if TYPE_CHECKING:
    import pyarrow as pa

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


def _dtype(names: list[str]) -> "np.dtype[Any]":
    members = [(name, offset, _FORMATS[format_]) for name, (offset, format_) in HEADER.items()]
    members += [
        (name, STATS_AT + FIELDS[name].offset, _FORMATS[FIELDS[name].format]) for name in names
    ]
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
    return np.frombuffer(batch.data, _dtype([name for name in FIELDS if name in batch.fields]))


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
    return pa.schema(header + fields)


def _texts(raw: "np.ndarray[Any, Any]", mask: Any) -> "pa.Array":
    pa = _pyarrow()

    try:
        return pa.array(raw, pa.binary(), mask=mask).cast(pa.string())
    except pa.ArrowInvalid:
        return pa.array([text_of(one) for one in raw.tolist()], pa.string(), mask=mask)


def _absent(batch: "Batch") -> dict[str, Any]:
    """name -> which rows lack the field: None for no row, True for all, else a mask."""
    if len(batch.columns.shapes()) <= 1:
        return {name: None if name in batch.fields else True for name in FIELDS}
    rows = np.frombuffer(batch.data, _dtype([]))
    structs = rows["version"].astype("i8") << 16 | rows["size"]
    shapes = structs << 8 | rows["flags"] & SHAPE_FLAGS
    _, first, which = np.unique(shapes, return_index=True, return_inverse=True)
    has = [batch.columns.fields_of(row) for row in first.tolist()]
    absent: dict[str, Any] = {}
    for name in FIELDS:
        lacking = np.array([name not in names for names in has])
        absent[name] = None if not lacking.any() else True if lacking.all() else lacking[which]
    return absent


def to_arrow(batch: "Batch") -> "pa.RecordBatch":
    """See Batch.to_arrow."""
    pa = _pyarrow()

    whole = schema()
    rows = np.frombuffer(batch.data, _dtype(list(FIELDS)))
    # One transposing copy makes every 64-bit field a contiguous column.
    words = np.ascontiguousarray(np.frombuffer(batch.data, "u8").reshape(-1, ROW // 8).T)

    def signed(name: str) -> "np.ndarray[Any, Any]":
        return rows[name].astype("i8")

    cpu, received = signed("cpu"), signed("received_ns")
    columns = [
        pa.array(signed("id")),
        pa.array(np.full(len(rows), batch.kind), pa.string()),
        pa.array(signed("version")),
        pa.array(cpu, mask=cpu == NO_CPU),
        pa.array(signed("seq")),
        pa.array(signed("lost_before")),
        pa.array(received, whole.field("received_at").type, mask=received == 0),
        *(pa.array(rows["flags"] & bit != 0) for bit in (EXIT, LAST, DELAY_EXCEEDS)),
    ]
    for name, lacking in _absent(batch).items():
        field, type_ = FIELDS[name], whole.field(name).type
        at = (STATS_AT + field.offset) // 8
        if lacking is True:
            columns.append(pa.nulls(len(rows), type_))
        elif field.format == "32s":
            columns.append(_texts(rows[name], lacking))
        elif field.format == "qq":
            moments = words[at].view("i8") * 1_000_000_000 + words[at + 1].view("i8")
            never = moments == 0 if lacking is None else lacking | (moments == 0)
            columns.append(pa.array(moments, type_, mask=never))
        elif field.format == "Q":
            column = words[at] if name in _UNSIGNED else words[at].view("i8")
            columns.append(pa.array(column, mask=lacking))
        else:
            columns.append(pa.array(signed(name), mask=lacking))
    return pa.RecordBatch.from_arrays(columns, schema=whole)


def to_stream(batch: "Batch", requested_schema: object | None) -> Any:
    """The batch as an Arrow C stream capsule of one record batch."""
    pa = _pyarrow()

    table = pa.Table.from_batches([to_arrow(batch)])
    return table.__arrow_c_stream__(requested_schema)
