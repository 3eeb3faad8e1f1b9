"""Runs a command on a pseudo-terminal of a given width."""

import fcntl
import os
import pty
import re
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
