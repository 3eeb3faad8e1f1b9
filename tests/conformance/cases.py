"""All cases, by theme."""

from conformance import cgroups, exits, generic, listeners, orphans, probes, queries
from conformance.table import Case

#: What a module's first line says -> its cases.
THEMES: dict[str, list[Case]] = {
    (module.__doc__ or "").splitlines()[0].removeprefix("Cases: ").rstrip("."): module.table.cases
    for module in (generic, queries, listeners, exits, orphans, probes, cgroups)
}

CASES: tuple[Case, ...] = tuple(case for cases in THEMES.values() for case in cases)
