"""What tests of the real kernel need, and what becomes of them without it."""

import os

import pytest

from taskstats import Client, TaskstatsError

REQUIRED = bool(os.environ.get("TASKSTATS_REQUIRE_KERNEL"))


def why_not_here() -> str | None:
    """What keeps the tests of the real kernel from running; None if nothing does."""
    try:
        Client().close()
    except TaskstatsError as error:
        return str(error)
    return None


def skip(reason: str) -> None:
    """Skips a test of the real kernel, unless it is required: then it fails."""
    if REQUIRED:
        pytest.fail(f"TASKSTATS_REQUIRE_KERNEL is set, and this cannot run here: {reason}")
    pytest.skip(reason)
