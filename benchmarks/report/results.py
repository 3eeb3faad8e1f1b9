"""The results of a run, as they stand in results.json."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from figures import Comparison, Measurement, Rows, Value

SCHEMA = 1
NAME = "benchmarks/results.json"

#: Digits kept of a figure: more than any clock here is good for.
DIGITS = 5

_KINDS: dict[str, type[Measurement]] = {
    "comparison": Comparison,
    "value": Value,
    "rows": Rows,
}


@dataclass(frozen=True)
class Results:
    """A complete run.

    Attributes:
        began: When, in UTC, as ISO 8601.
        took_s: For how many seconds.
        machine: What it was made on, name -> text.
        rivals: Name -> version, less, more.
        noise: What was seen of it, when -> sample, as in noise.py.
        measurements: In the order in which they were made.
    """

    began: str
    took_s: float
    machine: Mapping[str, str]
    rivals: Mapping[str, Mapping[str, str]]
    noise: Mapping[str, Mapping[str, Any]]
    measurements: Sequence[Measurement]


def read(directory: Path) -> Results:
    """Those below a directory.

    Raises:
        ValueError: They are of another schema.
    """
    found = json.loads((directory / NAME).read_text(encoding="utf-8"))
    if found.pop("schema") != SCHEMA:
        raise ValueError(f"{directory / NAME} is not of schema {SCHEMA}")
    found["measurements"] = [_KINDS[one.pop("kind")](**one) for one in found["measurements"]]
    return Results(**found)


def write(results: Results, directory: Path) -> None:
    """To below a directory: one line a key, and one a measurement."""
    parts = {"schema": SCHEMA, **vars(results)}
    kinds = {kind: name for name, kind in _KINDS.items()}
    measurements = [{"kind": kinds[type(one)], **asdict(one)} for one in parts.pop("measurements")]
    lines = [f" {_json(name)}: {_json(part)}" for name, part in parts.items()]
    lines.append(' "measurements": [\n  ' + ",\n  ".join(map(_json, measurements)) + "\n ]")
    path = directory / NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def _json(part: Any) -> str:
    return json.dumps(_rounded(part), ensure_ascii=False)


def _rounded(part: Any) -> Any:
    match part:
        case float():
            return float(f"{part:.{DIGITS}g}")
        case dict():
            return {name: _rounded(value) for name, value in part.items()}
        case list() | tuple():
            return [_rounded(value) for value in part]
    return part
