"""The command `taskstats`: one file a subcommand."""

import io
import os
import sys


def main() -> None:
    """Runs the command line; says what to install where its extra is missing."""
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
