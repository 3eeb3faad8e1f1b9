"""Tests here need the real kernel and CAP_NET_ADMIN; else they are skipped, or fail if required."""

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
