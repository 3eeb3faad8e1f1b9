"""What came of a run: one file a world, for docs/make_conformance.py.

They are written where the environment variable TASKSTATS_CONFORMANCE_RESULTS names a folder.
"""

import json
import os
import re
from pathlib import Path
from typing import Any

from conformance.table import Case, Result
from conformance.world import World

FOLDER = os.environ.get("TASKSTATS_CONFORMANCE_RESULTS")


class Results:
    """Those of all worlds of a run."""

    def __init__(self) -> None:
        self._worlds: dict[str, dict[str, Any]] = {}

    def add(self, world: World, case: Case, result: Result) -> None:
        """What came of a case."""
        title = world.title
        if title not in self._worlds:
            struct = {"version": world.version, "size": world.size}
            self._worlds[title] = {
                "world": title,
                "emulated": world.emulated,
                "struct": struct,
                "cases": {},
            }
        told = {"verdict": result.verdict}
        if result.reason:
            told["reason"] = result.reason
        self._worlds[title]["cases"][case.id] = told

    def write(self, folder: Path) -> None:
        """Writes a file a world, named after it."""
        folder.mkdir(parents=True, exist_ok=True)
        for title, told in self._worlds.items():
            name = re.sub(r"[^a-z0-9.]+", "-", title.lower())
            text = json.dumps(told, indent=1, ensure_ascii=False)
            (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")
