"""decode: one raw datagram to records, for replay and tests."""

from typing import Any

from taskstats._native import ffi, lib
from taskstats.errors import from_errno, from_reason
from taskstats.records import Batch
from taskstats.rows import ROW
from taskstats.shim import new_rows

_LEAST_MESSAGE = 40  # bytes of the smallest message with a record in it


def decode(datagram: Any) -> Batch:
    """The records of one TASKSTATS datagram, all of them or an error.

    Args:
        datagram: What one recv gave, any bytes-like object.

    Returns:
        The task records; the group records are in `groups`. Both are empty for an ACK.

    Raises:
        ProtocolError: It is damaged, from a machine of the other byte order, of a struct version
            below 4, or not of this service; `reason` says which.
        NoSuchTask, AccessDenied, TaskstatsError: It is the kernel's error answer.
    """
    data = ffi.from_buffer("char[]", datagram)
    capacity = len(data) // _LEAST_MESSAGE + 1
    tasks = new_rows("struct ts_record[]", capacity)
    groups = new_rows("struct ts_record[]", capacity)
    sink = ffi.new("struct ts_sink *", {"tasks": tasks, "groups": groups, "capacity": capacity})
    rc = lib.ts_decode(data, len(data), sink)
    if rc < 0 and sink.reason == lib.TS_ANSWER:
        raise from_errno("decode", -rc)
    if rc < 0:
        raise from_reason("decode", sink.reason)
    return Batch(
        bytes(ffi.buffer(tasks, sink.n_tasks * ROW)),
        Batch(bytes(ffi.buffer(groups, sink.n_groups * ROW)), kind="group"),
    )
