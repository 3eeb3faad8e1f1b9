"""Processes that follow orders, and the truth about which processes they made. See kin.c."""

import itertools
import os
import select
import struct
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import IO, NamedTuple, Self

from support import compiled

_HEAD = struct.Struct("=II24x")
_MADE = struct.Struct("=QII16s")
_ROOM = 1_000_000

#: The real user of all, which they keep unless they are told to become another one.
UID = 1_100_000_000 + os.getpid()
#: Another user, and both.
OTHER = UID + 1
USERS = range(UID, OTHER + 1)

#: Seconds after which a workload that does not answer is taken for stuck.
_STUCK = 300.0


class Made(NamedTuple):
    """A process that was made.

    Attributes:
        name: Its ac_comm.
        pid: Its id; 0 where it was made in another PID namespace.
        by_ns: It has started before this moment of CLOCK_BOOTTIME.
    """

    name: str
    pid: int
    by_ns: int


class Kin:
    """A process that follows orders, and makes others with its name.

    Attributes:
        name: Its ac_comm.
        pid: Its id.
    """

    def __init__(self, family: "Family", name: str, orders: IO[bytes], answers: int) -> None:
        self._family = family
        self._orders = orders
        self._answers = answers
        self._said = b""
        self.name = name
        self.pid = 0

    def send(self, order: str) -> None:
        """Gives an order, and does not wait for the answer."""
        self._orders.write(order.encode() + b"\n")
        self._orders.flush()

    def answer(self) -> int:
        """Waits for the answer to an order."""
        while b"\n" not in self._said:
            ready, _, _ = select.select([self._answers], [], [], _STUCK)
            said = os.read(self._answers, 100) if ready else b""
            if not said:
                raise RuntimeError(f"{self.name} does not answer")
            self._said += said
        line, _, self._said = self._said.partition(b"\n")
        return int(line)

    def order(self, order: str) -> int:
        """Gives an order, and waits for the answer."""
        self.send(order)
        return self.answer()

    def spawn(self, name: str, pid: int = 0) -> "Kin":
        """Has it make a process that follows orders too.

        Args:
            name: The ac_comm of the new process.
            pid: The id that it gets; 0 for any.

        Raises:
            FileExistsError: Another process has this id now.
            RuntimeError: The kernel refuses it for another reason.
        """
        pipes, child = self._family.expect(name)
        made = self.order(f"spawn {name} {pid} {pipes}")
        if made == -17:
            raise FileExistsError(f"there is a process {pid}")
        if made < 0:
            raise RuntimeError(f"clone3 failed: {os.strerror(-made)}")
        child.pid = made
        return child


class Family:
    """Kin, and a file in which they write down what they make.

    Close it once all have been told to exit: `await_end` waits for that.
    """

    def __init__(self) -> None:
        self._stack = ExitStack()
        folder = self._stack.enter_context(tempfile.TemporaryDirectory())
        self._folder = Path(folder)
        self._folder.chmod(0o755)
        self._truth = self._folder / "truth"
        self._truth.write_bytes(_HEAD.pack(0, _ROOM))
        os.truncate(self._truth, _HEAD.size + _ROOM * _MADE.size)
        self._lives, self._life = os.pipe()
        self._numbers = itertools.count()
        self._first: list[subprocess.Popen[bytes]] = []

    def begin(self, name: str) -> Kin:
        """Starts a process that is a child of this one."""
        process = subprocess.Popen(
            [compiled.program("kin"), self._folder, name, str(UID)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=[self._life],
            start_new_session=True,
        )
        self._first.append(process)
        assert process.stdin is not None
        assert process.stdout is not None
        kin = Kin(self, name, process.stdin, process.stdout.fileno())
        kin.pid = process.pid
        return kin

    def begin_nanny(self, name: str) -> Kin:
        """Starts a process that inherits the orphans of its descendants, and reaps all."""
        nanny = self.begin(name)
        assert nanny.order("care") == 0
        return nanny

    def expect(self, name: str) -> tuple[str, Kin]:
        """Makes the pipes of a process that is about to be made, which it finds by their name."""
        ends = []
        pipes = str(next(self._numbers))
        for suffix in ("in", "out"):
            path = self._folder / f"{pipes}.{suffix}"
            os.mkfifo(path)
            ends.append(os.open(path, os.O_RDWR | os.O_CLOEXEC))
        orders = self._stack.enter_context(os.fdopen(ends[0], "wb", buffering=0))
        self._stack.callback(os.close, ends[1])
        return pipes, Kin(self, name, orders, ends[1])

    def end(self) -> None:
        """Lets those that `begin` has started exit, and waits until all of the family have.

        Their records have been built then: a process closes its files after that
        (kernel/exit.c:do_exit).
        """
        os.close(self._life)
        self._life = -1
        for process in self._first:
            assert process.stdin is not None
            process.stdin.close()
        ready, _, _ = select.select([self._lives], [], [], _STUCK)
        assert ready, "some of the family do not exit"
        for process in self._first:
            assert process.wait() == 0

    def made(self) -> list[Made]:
        """All processes that were made so far. A new one says its name first of all."""
        while True:
            data = self._truth.read_bytes()
            n, _ = _HEAD.unpack_from(data)
            rows = [*_MADE.iter_unpack(data[_HEAD.size : _HEAD.size + n * _MADE.size])]
            if all(written for _, _, written, _ in rows):
                return [
                    Made(name.rstrip(b"\0").decode(), pid, by_ns) for by_ns, pid, _, name in rows
                ]
            time.sleep(0.001)

    def counts(self, names: Iterable[str]) -> Counter[str]:
        """How many processes of these names were made so far."""
        wanted = set(names)
        return Counter(one.name for one in self.made() if one.name in wanted)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._first:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout):
                assert pipe is not None
                pipe.close()
        if self._life >= 0:
            os.close(self._life)
        os.close(self._lives)
        self._stack.close()
