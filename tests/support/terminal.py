"""Runs a command on a pseudo-terminal of a given width, or talks with a shell on one."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
from collections.abc import Sequence

_STYLE = re.compile(r"\x1b\[[0-9;]*m")


def run(command: Sequence[str], columns: int) -> tuple[int, str]:
    """Its exit status, and what it wrote to the terminal, without styles."""
    child, terminal = pty.fork()
    if child == 0:
        fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
        environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR")}
        os.execvpe(command[0], command, {**environment, "TERM": "xterm"})
    written = b""
    while True:
        try:
            some = os.read(terminal, 1 << 16)
        except OSError:  # the other end is closed
            break
        if not some:
            break
        written += some
    os.close(terminal)
    _, status = os.waitpid(child, 0)
    text = written.decode().replace("\r\n", "\n")
    return os.waitstatus_to_exitcode(status), _STYLE.sub("", text)


class Dialogue:
    """An interactive bash with job control, on a terminal of its own."""

    def __init__(self) -> None:
        self.pid, self._terminal = pty.fork()
        if self.pid == 0:
            environment = {**os.environ, "TERM": "xterm", "PS1": "ready> ", "HISTFILE": ""}
            os.execvpe("bash", ["bash", "--norc", "--noprofile", "--noediting", "-i"], environment)
        self._heard = ""
        self.expect("ready> ")

    def __enter__(self) -> "Dialogue":
        return self

    def __exit__(self, *_: object) -> None:
        os.kill(self.pid, signal.SIGKILL)  # the terminal goes, and its processes hear of it
        os.close(self._terminal)
        os.waitpid(self.pid, 0)

    def say(self, line: str) -> None:
        self.press(line + "\n")

    def press(self, keys: str) -> None:
        os.write(self._terminal, keys.encode())

    def expect(self, pattern: str) -> str:
        """What came up to the end of the pattern; its first group, if it has one."""
        while not (found := re.search(pattern, self._heard)):
            if not select.select([self._terminal], [], [], 60)[0]:
                raise TimeoutError(f"{pattern!r} not in {self._heard!r}")
            try:
                self._heard += os.read(self._terminal, 1 << 16).decode(errors="replace")
            except OSError as error:  # the other end is closed
                raise EOFError(f"{pattern!r} not in {self._heard!r}") from error
        before, self._heard = self._heard[: found.end()], self._heard[found.end() :]
        return found[1] if found.re.groups else before
