"""Random trees of processes, each of which is known by number. See tree.c."""

import os
import struct
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from support import compiled

_TRUTH = struct.Struct("=QQII")

#: Processes of a group.
GROUP = 41

#: The user of all its processes, and of no others.
UID = 1_000_000_000 + os.getpid()


@dataclass(frozen=True, slots=True)
class Truth:
    """What is true of a process.

    Attributes:
        name: Its ac_comm.
        pid: Its id.
        after_ns: It started after this moment of CLOCK_BOOTTIME,
        before_ns: and before this one.
        maker: The process that called fork, by its place in `Tree.truths`.
    """

    name: str
    pid: int
    after_ns: int
    before_ns: int
    maker: int


class Tree:
    """A process that makes random trees, and groups that are killed at once.

    Args:
        processes: How many in trees.
        groups: How many process groups, of 41 each.
        seed: Of the trees.

    Attributes:
        pid: Its own.
    """

    def __init__(self, processes: int, groups: int, seed: int) -> None:
        self._processes = processes
        with tempfile.NamedTemporaryFile(delete=False) as file:
            self._path = Path(file.name)
        os.chown(self._path, UID, -1)
        self._popen = subprocess.Popen(
            [compiled.program("tree"), *map(str, (seed, processes, groups)), self._path],
            stdin=subprocess.PIPE,
            user=UID,
            extra_groups=[],
        )
        self.pid = self._popen.pid

    def begin(self) -> None:
        """Lets it make them."""
        assert self._popen.stdin is not None
        self._popen.stdin.write(b"\n")
        self._popen.stdin.close()

    def has_ended(self) -> bool:
        """Whether it and all that it made have ended, and been reaped."""
        return self._popen.poll() is not None

    def truths(self) -> list[Truth]:
        """Of each process, once it has ended; the first is itself, and its moments are 0."""
        assert self._popen.wait() == 0
        rows = _TRUTH.iter_unpack(self._path.read_bytes())
        return [
            Truth(f"{self.pid:x}-{number:x}", pid, before, after, maker)
            for number, (before, after, pid, maker) in enumerate(rows)
        ]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._popen.kill()
        self._popen.wait()
        self._path.unlink()
