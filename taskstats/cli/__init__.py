"""The command `taskstats`: one file a subcommand."""

import sys


def main() -> None:
    """Runs the command line; says what to install where its extra is missing."""
    try:
        import click  # noqa: F401
        import rich  # noqa: F401
    except ModuleNotFoundError:
        sys.exit("taskstats: the command line needs its extra: pip install '.[cli]'")
    from taskstats.cli.main import taskstats

    taskstats()
