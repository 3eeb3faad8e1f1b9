"""The pytest plugin: the fixture `taskstats_kernel`."""

from collections.abc import Iterator

import pytest

from taskstats.emulator.kernel import EmulatedKernel


@pytest.fixture
def taskstats_kernel() -> Iterator[EmulatedKernel]:
    """An emulated kernel with four CPUs and the newest struct; see docs/testing.md.

    Its `endpoint` is what a program under test talks to; `spawn`, `advance`, `exit` and `lose` are
    what happens there. For another kernel, make an `EmulatedKernel` in a fixture of your own.
    """
    with EmulatedKernel() as kernel:
        yield kernel
