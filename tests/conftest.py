"""What all tests share."""

import compileall
import ctypes
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A busy machine may be slow to make an example, or to run it. Neither is a failure.
settings.register_profile(
    "no deadline", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("no deadline")


def pytest_configure() -> None:
    """Prepare what the tests share."""
    _compile()
    _take_signals()


def _compile() -> None:
    """Compile the package once.

    Tests start the command hundreds of times. Each start would compile the package again if
    PYTHONDONTWRITEBYTECODE is set.
    """
    compileall.compile_dir(Path(__file__).parents[1] / "taskstats", quiet=2)


def _take_signals() -> None:
    """A shell that runs something in the background lets it ignore these, and tests send them."""
    for number, usual in (
        (signal.SIGINT, signal.default_int_handler),
        (signal.SIGQUIT, signal.SIG_DFL),
    ):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, usual)


@pytest.fixture(scope="module", autouse=True)
def _return_memory() -> Iterator[None]:
    """Return free memory to the kernel: a fork takes longer the more of it this process holds."""
    yield
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim:
        trim(0)
