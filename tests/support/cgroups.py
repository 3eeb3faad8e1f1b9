"""Cgroups that a test makes, and commands in them."""

import os
import subprocess
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from support.requirements import skip
from taskstats import Client
from taskstats.cgroups import hierarchies


def mount_of(hierarchy: str | None) -> Path:
    """Where a hierarchy is mounted; that of CPU accounting if it is None."""
    try:
        chosen = hierarchies.choose(hierarchy)
    except ValueError as error:
        skip(str(error))
    if chosen.mount is None or chosen.root != "/":
        skip(f"the hierarchy {chosen.name} is not mounted here")
    assert chosen.mount is not None
    return chosen.mount


@contextmanager
def made(hierarchy: str | None = None) -> Iterator[Path]:
    """The directory of a new cgroup below the root, removed in the end with all below it."""
    path = mount_of(hierarchy) / f"taskstats-{uuid.uuid4().hex}"
    try:
        path.mkdir()
    except OSError as error:
        skip(f"no cgroup can be made in {path.parent}: {error}")
    try:
        yield path
    finally:
        for directory, *_ in os.walk(path, topdown=False):
            Path(directory).rmdir()


def usage(cgroup: Path) -> int:
    """The CPU time of all that ran in it, in ns."""
    version_1 = cgroup / "cpuacct.usage"
    if version_1.exists():
        return int(version_1.read_text())
    for line in (cgroup / "cpu.stat").read_text().splitlines():
        name, value = line.split()
        if name == "usage_usec":
            return int(value) * 1000
    raise AssertionError(cgroup)


def run_in(cgroup: Path, command: Sequence[str], cwd: Path | None = None) -> tuple[int, int]:
    """Run a command in a cgroup.

    Returns:
        Its pid, and the CPU time in ns that it had used before it came to the cgroup.
    """
    begin = ["sh", "-c", 'echo ready; read -r _; exec "$@" >/dev/null 2>&1', "sh", *command]
    with (
        Client() as client,
        subprocess.Popen(begin, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=cwd) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.readline()
        while Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "S":
            os.sched_yield()
        (cgroup / "cgroup.procs").write_text(str(process.pid))
        before = client.pid(process.pid).cpu_run_virtual_total
        process.stdin.write(b"\n")
        process.stdin.close()
        assert process.wait() == 0, command
        return process.pid, before
