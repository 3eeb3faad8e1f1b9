"""How much of its work a test does: all, but a part where tests/machines emulates the CPU."""

import os

SCALE = float(os.environ.get("TASKSTATS_TEST_SCALE", "1"))


def scaled(number: int, least: int = 1) -> int:
    """So many, or on a slow machine its part of them."""
    return max(least, int(number * SCALE))
