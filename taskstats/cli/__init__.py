"""The command `taskstats`: one file a subcommand."""

import signal
import sys


def main() -> None:
    """Runs the command line; says what to install where its extra is missing."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C ends quietly while the rest loads
    try:
        import click  # noqa: F401
        import rich  # noqa: F401
    except ModuleNotFoundError:
        sys.exit("taskstats: the command line needs its extra: pip install '.[cli]'")
    from taskstats.cli import streams
    from taskstats.cli.main import taskstats

    streams.prepare()
    taskstats()
