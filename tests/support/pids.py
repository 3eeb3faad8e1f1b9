"""Fewer pids, so that they are soon given again."""

import fcntl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.requirements import skip
from taskstats import host

_PID_MAX = Path("/proc/sys/kernel/pid_max")
_RESERVED = 300  # the kernel does not give these again (kernel/pid.c: RESERVED_PIDS)
_SPARE = 1_024  # for other programs
_RESTORE = f"read -r _; echo $0 >{_PID_MAX}"


@contextmanager
def few(pids: int | None = None, *, spare: int = _SPARE) -> Iterator[int]:
    """Pids are given again after some thousands, until the end, whatever becomes of this process.

    Only one process of the machine has few pids at a time, and there are enough for the others.

    Args:
        pids: The limit, kernel.pid_max. None for the least that leaves room.
        spare: How many more processes there may be then.

    Yields:
        The limit.
    """
    with _PID_MAX.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        before = file.read().strip()
        # It restores them at the end of its input: also when this process is killed.
        with subprocess.Popen(
            ["sh", "-c", _RESTORE, before],
            stdin=subprocess.PIPE,
            pass_fds=[file.fileno()],
            start_new_session=True,
        ):
            limit = pids or _RESERVED + 2 * len(host.tasks()) + spare
            try:
                _PID_MAX.write_text(str(limit))
            except OSError as error:
                skip(f"{_PID_MAX} cannot be set: {error}")
            yield limit
        assert _PID_MAX.read_text().strip() == before
