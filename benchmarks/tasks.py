"""Processes to ask about, as many as are wanted. See tasks.c."""

import subprocess
from pathlib import Path
from typing import Self

from support import compiled


class Tasks:
    """A process and its children, which wait, so that their figures stay as they are.

    Args:
        n: How many children.

    Attributes:
        pid: That of the process.
        pids: Those of its children.
    """

    def __init__(self, n: int) -> None:
        self._process = subprocess.Popen(
            [compiled.program("tasks", Path(__file__).parent), str(n)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.pid = self._process.pid
        self.pids = [int(pid) for pid in self._process.stdout.readline().split()]
        if len(self.pids) < n:
            self.__exit__()
            raise RuntimeError(f"no room for {n:,} processes")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()  # the end of its stdin; it reaps its children, and ends
