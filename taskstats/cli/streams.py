"""Stdout and stderr as a program that must not lose a line needs them."""

import contextlib
import io
import os
import select
import sys
from typing import TextIO


def prepare() -> None:
    """Gives stdout and stderr a buffer, an end if they are closed, and every character a form.

    Nothing depends on who reads: once the reader of stdout is gone, and whatever befalls stderr,
    writing does nothing, and the command goes on to its own exit status.
    """
    sys.stdout = _prepared(sys.stdout, _Stdout)
    sys.stderr = _prepared(sys.stderr, _Stderr)


def abandon(stream: TextIO) -> None:
    """Sends the stream nowhere: what is still in its buffer is an error no more."""
    with open(os.devnull, "wb") as nowhere, contextlib.suppress(OSError):  # noqa: PTH123
        os.dup2(nowhere.fileno(), stream.fileno())


def reader_is_gone(stream: TextIO | io.FileIO) -> bool:
    """Whether the stream is a pipe, a socket or a terminal with nobody at its other end."""
    poll = select.poll()
    try:
        poll.register(stream.fileno(), 0)
    except OSError:  # no descriptor, as in a test
        return False
    return bool(poll.poll(0))


class _Stdout(io.FileIO):
    def write(self, data: bytes) -> int:  # type: ignore[override]
        while True:
            try:
                written = super().write(data)
            except OSError as error:
                if reader_is_gone(self):
                    return len(data)
                error.filename = "stdout"
                raise
            if written is not None:
                return written
            select.select([], [self], [])  # whoever shares it has made it non-blocking


class _Stderr(_Stdout):
    def write(self, data: bytes) -> int:  # type: ignore[override]
        try:
            return super().write(data)
        except OSError:
            return len(data)


def _prepared(stream: TextIO | None, kind: type[io.FileIO]) -> TextIO:
    if stream is None:  # it was closed
        return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    # Not the stream's own buffer: by PYTHONUNBUFFERED there is none, and what is left of a write
    # that a signal cuts short is lost (https://github.com/python/cpython/issues/85393).
    return io.TextIOWrapper(
        io.BufferedWriter(kind(stream.fileno(), "wb", closefd=False)),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=True,
    )
