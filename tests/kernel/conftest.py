"""Tests here need the real kernel and CAP_NET_ADMIN; else they are skipped, or fail if required."""

import signal
from collections.abc import Iterator

import pytest
from support.requirements import skip, why_not_here


@pytest.fixture(scope="session")
def obstacle() -> str | None:
    """What keeps these tests from running."""
    return why_not_here()


@pytest.fixture(autouse=True)
def _kernel(obstacle: str | None) -> None:
    if obstacle:
        skip(obstacle)


@pytest.fixture
def as_usual(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As a shell starts its children: with buffers, and with Ctrl-C not ignored."""
    for name in ("PYTHONUNBUFFERED", "COLUMNS", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
