"""Every case in every world, and every branch in some case."""

from collections import Counter

import pytest
from support.requirements import skip

from conformance.branches import BRANCHES
from conformance.cases import CASES
from conformance.emulated import WORLDS, EmulatedWorld
from conformance.real import RealWorld
from conformance.results import Results
from conformance.table import Case, judge
from conformance.world import World

by_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)


def hold(case: Case, kind: type[World], results: Results, *allowed: str) -> None:
    with kind() as world:
        result = judge(case, world)
        results.add(world, case, result)
    if result.verdict == "not applicable":
        pytest.skip(f"does not apply to {world.title}: {result.reason}")
    assert result.verdict in allowed, result.reason


@by_case
@pytest.mark.parametrize("kind", WORLDS, ids=lambda kind: kind.release)
def test_emulated(case: Case, kind: type[World], results: Results) -> None:
    newest = kind is EmulatedWorld  # which does nothing otherwise
    hold(case, kind, results, *(["agrees"] if newest else ["agrees", "otherwise"]))


@by_case
def test_real(case: Case, results: Results, obstacle: str | None) -> None:
    if obstacle:
        skip(obstacle)
    hold(case, RealWorld, results, "agrees", "otherwise")


def test_no_id_is_given_twice() -> None:
    assert [id_ for id_, count in Counter(case.id for case in CASES).items() if count > 1] == []


def test_every_branch_has_a_case_or_a_reason_why_no_client_sees_it() -> None:
    covered = {branch for case in CASES for branch in case.covers}
    known = {(branch.function, branch.name) for branch in BRANCHES}
    unseen = {(branch.function, branch.name) for branch in BRANCHES if branch.unseen}
    assert covered - known == set()
    assert known - covered - unseen == set()
    assert covered & unseen == set()
