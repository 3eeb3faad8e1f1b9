"""Makes docs/conformance.md from the table of cases and the results in docs/conformance/.

Run it after a change of either; a test compares. Results are written by a run of tests/conformance
with TASKSTATS_CONFORMANCE_RESULTS=docs/conformance in the environment, one file a kernel.
"""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from conformance.branches import BRANCHES
from conformance.cases import THEMES
from conformance.table import Case

PAGE = Path(__file__).with_name("conformance.md")
RESULTS = Path(__file__).with_name("conformance")

MARKS = {"agrees": "✓", "otherwise": "≈", "not applicable": "·", "differs": "✗"}

INTRODUCTION = """\
# Conformance

One list of cases, for the emulated kernel (`taskstats.emulator`) and for real ones: what a client
sends or does, and what it is told. `tests/conformance` runs it; this page is made from that table
and from the last run on each kernel, by `docs/make_conformance.py`.

The functions are those of kernel/taskstats.c at revision 79d2e1919a27, and of generic netlink and
kernel/exit.c as far as this family shows them, and of kernel/fork.c and kernel/sched/core.c as far
as the probe shows them; the branches are named in our words.

| mark | |
| --- | --- |
| ✓ | as expected |
| ≈ | otherwise, by design of that kernel or before a change |
| (nothing) | the case is newer than the last run on that kernel |
| · | the case does not apply |
| ✗ | differs |

The numbers beside them are those of the reasons at the end.
"""


class Reasons:
    """Each reason once, numbered as they come."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def mark(self, result: dict[str, str]) -> str:
        """What stands in a cell."""
        mark, reason = MARKS[result["verdict"]], result.get("reason")
        if not reason:
            return mark
        return f"{mark} {self.numbers.setdefault(reason, len(self.numbers) + 1)}"


def results() -> list[dict[str, Any]]:
    """Those of each kernel, the emulated ones first."""
    read = [json.loads(path.read_text(encoding="utf-8")) for path in RESULTS.glob("*.json")]
    return sorted(read, key=lambda r: (r["emulated"] is False, -r["struct"]["version"], r["world"]))


def page() -> str:
    """The whole page."""
    return "\n".join(_page(results())) + "\n"


def _page(kernels: list[dict[str, Any]]) -> Iterator[str]:
    reasons = Reasons()
    keys = [chr(ord("A") + i) for i in range(len(kernels))]
    yield INTRODUCTION
    yield from _table(["", "kernel", "struct", *MARKS.values()], _kernels(keys, kernels))
    for title, cases in THEMES.items():
        yield f"\n## {title}\n"
        rows = ([*_about(case), *_marks(case, kernels, reasons)] for case in cases)
        yield from _table(["case", "function: branch", "expected", *keys], rows)
    yield "\n## Branches that no client can observe\n"
    unseen = (
        [_escaped(f"{b.function}: {b.name}"), _escaped(b.unseen)] for b in BRANCHES if b.unseen
    )
    yield from _table(["function: branch", "why"], unseen)
    yield "\n## Reasons\n"
    yield from (f"{number}. {_escaped(reason)}" for reason, number in reasons.numbers.items())


def _kernels(keys: list[str], kernels: list[dict[str, Any]]) -> Iterator[list[str]]:
    for key, kernel in zip(keys, kernels, strict=True):
        count = Counter(result["verdict"] for result in kernel["cases"].values())
        struct = f"version {kernel['struct']['version']}, {kernel['struct']['size']} bytes"
        yield [key, kernel["world"], struct, *(str(count[verdict]) for verdict in MARKS)]


def _about(case: Case) -> list[str]:
    covers = "<br>".join(_escaped(f"{function}: {name}") for function, name in case.covers)
    return [case.id, covers, _escaped(_text(case.expects))]


def _marks(case: Case, kernels: list[dict[str, Any]], reasons: Reasons) -> list[str]:
    run = [kernel["cases"].get(case.id) for kernel in kernels]
    return [reasons.mark(result) if result else "" for result in run]


def _table(head: list[str], rows: Iterator[list[str]]) -> Iterator[str]:
    for row in (head, ["---"] * len(head), *rows):
        yield f"| {' | '.join(row)} |"


def _text(value: Any) -> str:
    match value:
        case bool():
            return "yes" if value else "no"
        case bytes():
            return f'"{value.decode()}"'
        case dict():
            return "; ".join(f"{key}: {_text(part)}" for key, part in value.items()) or "nothing"
        case set():
            return " and ".join(sorted(map(str, value))) or "nothing"
        case list():
            brackets = any(isinstance(part, list) for part in value)
            parts = [f"[{_text(part)}]" if brackets else _text(part) for part in value]
            return ", ".join(parts) or "nothing"
    return str(value)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("_", "\\_").replace("<", "&lt;")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
