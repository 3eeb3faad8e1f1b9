"""The command `taskstats`, as tests start it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.requirements import needs_processes
from support.storm import Storm
from taskstats import host

TASKSTATS = str(Path(sys.executable).parent / "taskstats")


@contextmanager
def listening(*options: str, **also: Any) -> Iterator[subprocess.Popen[str]]:
    """`taskstats exits`, from when it listens. A remark may come first: that there is no probe."""
    if "--threads" not in options:
        needs_processes()
    with subprocess.Popen(
        [TASKSTATS, "exits", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **also,
    ) as process:
        assert process.stderr is not None
        assert any(line.startswith("listening") for line in process.stderr)
        yield process


def run(*arguments: str, status: int = 0) -> subprocess.CompletedProcess[str]:
    answered = subprocess.run([TASKSTATS, *arguments], capture_output=True, text=True, timeout=60)
    assert answered.returncode == status, answered.stderr
    assert "Traceback" not in answered.stderr
    return answered


def ended(process: subprocess.Popen[str]) -> tuple[str, str]:
    """What it wrote, after SIGTERM."""
    process.terminate()
    output, errors = process.communicate()
    assert "Traceback" not in errors
    return output, errors


def objects(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def mine(output: str) -> list[dict[str, Any]]:
    """The lines of this process's children."""
    return [one for one in objects(output) if one.get("ppid") == os.getpid()]


#: More than the queue of a CPU holds: 96 MiB, but at most 2 % of the memory. A thread's record has
#: 2,304 bytes there, or with an allocator that rounds nothing up somewhat over 1,024.
STORM = min(60_000, host.memory_bytes() // 50 // 1_024)


def overflow(cpu: int, *processes: subprocess.Popen[str]) -> None:
    """Stops them, and has more exit on their CPU than they have room for."""
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    with Storm("threads", cpu=cpu, exits=STORM) as storm:
        storm.begin()
        assert storm.finish() == STORM
