"""docs/conformance.md is what the table of cases and the results make."""

import json
import runpy
from pathlib import Path

import pytest
from conformance.cases import CASES

DOCS = Path(__file__).parents[2] / "docs"
RESULTS = sorted((DOCS / "conformance").glob("*.json"))


def test_the_page_is_up_to_date() -> None:
    made = runpy.run_path(str(DOCS / "make_conformance.py"))["page"]()
    assert made == (DOCS / "conformance.md").read_text(), "run docs/make_conformance.py"


def test_there_are_results_of_the_emulation_and_of_a_kernel() -> None:
    assert {json.loads(path.read_text())["emulated"] for path in RESULTS} == {True, False}


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_no_case_is_missing_and_none_differs(path: Path) -> None:
    results = json.loads(path.read_text())
    cases = results["cases"]
    # The last run on User-Mode Linux is older than the cases about the probe.
    is_older = results["world"].startswith("User-Mode Linux")
    expected = [
        case.id for case in CASES if case.id in cases or not (is_older and "a probe" in case.needs)
    ]
    assert list(cases) == expected, "run tests/conformance again on that kernel"
    assert [id_ for id_, result in cases.items() if result["verdict"] == "differs"] == []
    without = [id_ for id_, r in cases.items() if r["verdict"] != "agrees" and not r["reason"]]
    assert without == []
