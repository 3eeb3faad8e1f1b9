"""What became of a kernel, and the table of them all."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Outcome = Literal["passed", "failed", "skipped"]


class CannotBeHad(Exception):
    """Why a kernel cannot be run here, which is nobody's mistake: it is skipped."""


class Broken(Exception):
    """A kernel that did not do what it must: it fails."""


def need(programs: Mapping[str, str]) -> None:
    """Programs, by name or path, each with its Debian package.

    Raises:
        CannotBeHad: Some are not installed.
    """
    missing = [package for program, package in programs.items() if not shutil.which(program)]
    if missing:
        raise CannotBeHad(f"needs the Debian packages {', '.join(missing)}")


@dataclass(frozen=True)
class Result:
    """How many tests passed, failed and were skipped; of a kernel without any, why.

    Attributes:
        skips: Reason -> how many tests.
    """

    name: str
    outcome: Outcome
    reason: str = ""
    release: str = ""
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    skips: dict[str, int] = field(default_factory=dict)
    seconds: float = 0


def table(results: Sequence[Result]) -> str:
    """A line for each kernel, and one for each reason that tests of it were skipped for."""
    rows = [("kernel", "release", "passed", "failed", "skipped", "seconds", "")]
    for one in results:
        counts = [one.passed, one.failed, one.skipped]
        ran = any(counts)
        numbers = [str(n) if ran else "-" for n in (*counts, round(one.seconds))]
        said = " ".join(filter(None, ("" if one.outcome == "passed" else one.outcome, one.reason)))
        rows.append((one.name, one.release or "-", *numbers, said))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            cell.rjust(width) if 2 <= i <= 5 else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    lines += [f"{one.name}: {n} skipped: {why}" for one in results for why, n in one.skips.items()]
    return "\n".join(lines)
