"""A process that has delays measured, and leaves when it is told."""

import os
import signal
from typing import Self

from taskstats.delayacct import measured_delays


class Holder:
    """It has entered when it is there.

    Attributes:
        pid: Its id.
    """

    def __init__(self) -> None:
        answers, answering = os.pipe()
        ordered, self._orders = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._orders)
            try:
                with measured_delays():
                    os.write(answering, b".")
                    os.read(ordered, 1)
            finally:
                os._exit(0)
        os.close(answering)
        os.close(ordered)
        with open(answers, "rb", 0) as entered:  # noqa: PTH123 - a descriptor
            assert entered.read(1) == b".", "it could not enter"
        self._ended = False

    def leave(self) -> None:
        """It leaves, and is gone."""
        os.write(self._orders, b".")
        self._reap()

    def kill(self) -> None:
        """It dies without leaving."""
        os.kill(self.pid, signal.SIGKILL)
        self._reap()

    def _reap(self) -> None:
        os.waitpid(self.pid, 0)
        os.close(self._orders)
        self._ended = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._ended:
            self.kill()
