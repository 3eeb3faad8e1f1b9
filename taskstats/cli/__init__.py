"""The command `taskstats`: one file a subcommand."""

import io
import os
import signal
import sys


def main() -> None:
    """Runs the command line; says what to install where its extra is missing."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends quietly, also while this loads
    try:
        import click  # noqa: F401
        import rich  # noqa: F401
    except ModuleNotFoundError:
        sys.exit("taskstats: the command line needs its extra: pip install '.[cli]'")
    from taskstats.cli.main import taskstats

    _mend_streams()
    taskstats()


def _mend_streams() -> None:
    """Gives a closed stream an end, and lets names pass that the locale has no letters for."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: PTH123, SIM115
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
            raw: object = stream.buffer
            if isinstance(raw, io.RawIOBase):
                setattr(sys, name, _buffered(stream, raw))


def _buffered(stream: io.TextIOWrapper, raw: io.RawIOBase) -> io.TextIOWrapper:
    """The stream with a buffer, where PYTHONUNBUFFERED took it.

    Without one, what is left of a write that a signal cuts short would be lost:
    https://github.com/python/cpython/issues/85393.
    """
    encoding, errors = stream.encoding, stream.errors
    stream.detach()
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding, errors, line_buffering=True)
