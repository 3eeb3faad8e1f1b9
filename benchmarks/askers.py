"""Those that ask, each in a fresh process that stays for all rounds. See rivals/asking.py."""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from threading import Timer
from typing import Any, Self

_HERE = Path(__file__).parent

#: Seconds for an answer, which takes a few at most: one that waits in vain is killed.
_PATIENCE = 180


class Asker:
    """A rival that has been started, on the CPU of its caller.

    Args:
        name: Of its file in rivals/.
    """

    def __init__(self, name: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "rivals.asking", name],
            cwd=_HERE,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ns(self, how: str, pids: Sequence[int], times: int) -> float:
        """ns a task, to ask about these so many times.

        How: "one" by one, one by one "awaited" in an event loop, or as "many" in a call.
        With ", read" behind it the figures of each are read, too.
        """
        took: int = self._tell(how, pids, times)
        return took / times / len(pids)

    def figures(self, pids: Sequence[int]) -> list[dict[str, Any]]:
        """What is read of each, which is the same by any way."""
        shown: list[dict[str, Any]] = self._tell("show", pids, 1)
        return shown

    def _tell(self, how: str, pids: Sequence[int], times: int) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        deadline = Timer(_PATIENCE, self._process.kill)
        deadline.start()
        try:
            self._process.stdin.write(json.dumps([how, list(pids), times]) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        finally:
            deadline.cancel()
        assert answer, f"no answer from {self._process.args!r}"
        return json.loads(answer)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
