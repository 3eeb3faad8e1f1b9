"""Results of the cases, and whether the real kernel can be had."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.requirements import why_not_here

from conformance.results import FOLDER, Results


@pytest.fixture(scope="session")
def results() -> Iterator[Results]:
    """Where results are gathered; written in the end, if that was asked for."""
    made = Results()
    yield made
    if FOLDER:
        made.write(Path(FOLDER))


@pytest.fixture(scope="session")
def obstacle() -> str | None:
    """What keeps cases from the real kernel."""
    return why_not_here()
