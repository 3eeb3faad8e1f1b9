"""Output files of a command: opened before it runs, written after it."""

import contextlib
import io
import os
import select
import stat


def opened(path: str) -> io.FileIO:
    """Open a file for appending, without a buffer.

    The report and the JSON may go to one file. Without a buffer a failed write is reported once,
    and not again when the file is closed.
    """
    return io.FileIO(path, "a")


def empty(file: io.FileIO) -> None:
    """Truncate a regular file; do nothing with a pipe or a device."""
    if _is_regular(file):
        file.truncate(0)


def write(file: io.FileIO, text: str) -> None:
    """Write the text, all of it or nothing.

    If a regular file has no room for all of it, the file gets its old size back: no part of a line
    stays, and what is appended later begins a line of its own.

    Raises:
        OSError: With the path as its `filename`.
    """
    data = text.encode(errors="backslashreplace")
    before = os.fstat(file.fileno()).st_size if _is_regular(file) else None
    written = 0
    try:
        while written < len(data):
            taken = file.write(data[written:])
            if taken is None:  # another process that has this pipe has made it non-blocking
                select.select([], [file], [])
            written += taken or 0
    except OSError as error:
        error.filename = file.name
        if before is not None:
            _cut_back(file, before, written)
        raise


def _cut_back(file: io.FileIO, before: int, written: int) -> None:
    """Give the file its old size, unless another process has appended to it as well."""
    with contextlib.suppress(OSError):
        if os.fstat(file.fileno()).st_size == before + written:
            file.truncate(before)


def _is_regular(file: io.FileIO) -> bool:
    return stat.S_ISREG(os.fstat(file.fileno()).st_mode)
