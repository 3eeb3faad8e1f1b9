"""What a case is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from conformance.world import Need, World

#: A plain value: words, numbers, truths, and lists and dicts of them.
Outcome: TypeAlias = Any

Branch: TypeAlias = tuple[str, str]  # function, and the branch's name in branches.py


@dataclass(frozen=True)
class Otherwise:
    """What other kernels do instead, by design or before a change, and why."""

    outcome: Outcome
    reason: str


@dataclass(frozen=True)
class Case:
    """One thing that a kernel does.

    Attributes:
        id: Its name.
        covers: The branches that it goes through, the one that it is about first.
        does: The scenario: what a client does, and is told.
        expects: What it is told.
        otherwise: What other kernels may tell.
        needs: What a world must have; where it lacks that, the case does not apply.
    """

    id: str
    covers: tuple[Branch, ...]
    does: Callable[[World], Outcome]
    expects: Outcome
    otherwise: tuple[Otherwise, ...] = ()
    needs: tuple[Need, ...] = ()


@dataclass(frozen=True)
class Result:
    """What came of a case in a world: "agrees", "otherwise", "not applicable" or "differs".

    Attributes:
        verdict: That.
        reason: Why it does not apply, or may be otherwise; or what differs.
    """

    verdict: str
    reason: str = ""


class Table:
    """The cases of one theme."""

    def __init__(self) -> None:
        self.cases: list[Case] = []

    def case(
        self,
        id_: str,
        *covers: Branch,
        expects: Outcome,
        otherwise: tuple[Otherwise, ...] = (),
        needs: tuple[Need, ...] = (),
    ) -> Callable[[Callable[[World], Outcome]], Callable[[World], Outcome]]:
        """Decorates the scenario of a case."""

        def add(does: Callable[[World], Outcome]) -> Callable[[World], Outcome]:
            self.cases.append(Case(id_, covers, does, expects, otherwise, needs))
            return does

        return add


def judge(case: Case, world: World) -> Result:
    """Runs a case in a world."""
    for need in case.needs:
        reason = world.lacks(need)
        if reason:
            return Result("not applicable", reason)
    outcome = case.does(world)
    if outcome == case.expects:
        return Result("agrees")
    for other in case.otherwise:
        if outcome == other.outcome:
            return Result("otherwise", other.reason)
    return Result("differs", f"{outcome!r}")
