"""How a record is written: a line of JSON, or a line for a person."""

import json

from taskstats.errors import FieldUnavailable
from taskstats.records import Record


def json_line(record: Record) -> str:
    """The record as one JSON object: the header's names and the kernel's field names."""
    return json.dumps(record.to_dict(), separators=(",", ":"))


def text_line(record: Record) -> str:
    """Kind, id, command, how it ended, elapsed and CPU time."""
    name = _printable(record.comm) if record.kind == "task" else ""
    status = ""
    if record.is_exit and record.kind == "task":
        signal = record.exit_signal
        status = f"signal {signal}" if signal else f"exit {record.exit_code}"
    try:
        times = f"{record.elapsed_seconds:.6f} s elapsed  {record.cpu_seconds:.6f} s CPU"
    except FieldUnavailable as error:
        times = error.what
    return f"{record.kind:<5}  {record.id:>8}  {name:<15}  {status:<9}  {times}"


def _printable(name: str) -> str:
    r"""The name with control characters as \xNN: a task may call itself anything."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in name)
