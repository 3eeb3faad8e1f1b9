"""What a guest runs, and how it tells its host.

The guest's root is the host's, read-only. A folder of the host's is writable in it, for what it
tells; it is hidden below a file system in memory where tests write.
"""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from machines.result import Broken, Result
from machines.table import Machine

ROOT = Path(__file__).parents[2]
TESTS = ("tests/kernel", "tests/conformance")
#: They test the command alone, and take longest where a CPU is emulated.
NOT_OF_THE_KERNEL = "tests/kernel/test_terminal.py"


@dataclass(frozen=True)
class Folder:
    """A folder for one guest, the same path on both sides.

    Attributes:
        path: With `init`, its first program.
        told: What it tells its host; writable there.
        scratch: Where the guest mounts memory.
    """

    path: Path

    @property
    def told(self) -> Path:
        return self.path / "told"

    @property
    def scratch(self) -> Path:
        return self.path / "scratch"


@contextmanager
def folder(machine: Machine, writable: str) -> Iterator[Folder]:
    """A folder with the guest's first program; `writable` is the command that mounts `told`."""
    path = Path(tempfile.mkdtemp(prefix=f"{machine.name}-"))
    path.chmod(0o755)  # for the guest's other users
    try:
        made = Folder(path)
        made.told.mkdir()
        made.scratch.mkdir()
        init = path / "init"
        variables = {
            "TOLD": str(made.told),
            "SCRATCH": str(made.scratch),
            "ROOT": str(ROOT),
            "PYTHON": sys.executable,
            "TESTS": " ".join((*TESTS, f"--ignore={NOT_OF_THE_KERNEL}")),
            "TASKSTATS_TEST_SCALE": str(machine.scale),
            "TASKSTATS_LACKS": ",".join(sorted(machine.lacks)),
        }
        shell = [f"export {name}={shlex.quote(value)}" for name, value in variables.items()]
        template = Path(__file__).with_name("init.sh").read_text()
        first, rest = template.split("\n", 1)
        init.write_text("\n".join([first, *shell, f"WRITABLE={shlex.quote(writable)}", rest]))
        init.chmod(0o755)
        yield made
    finally:
        shutil.rmtree(path)


class Ended(NamedTuple):
    """What a guest wrote on its console, and its exit status."""

    console: str
    status: int


def run(
    command: Sequence[str | Path], limit: float, environment: Mapping[str, str] | None = None
) -> Ended:
    """Runs a guest until it halts, and shows its console.

    Raises:
        Broken: It has not halted in time. Nothing of it is left.
    """
    console = []
    with subprocess.Popen(
        ["timeout", "-k", "2", str(limit), *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, **(environment or {})},
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                console.append(line.decode(errors="replace").rstrip())
                print(console[-1], flush=True)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)  # timeout, and through it the guest
    if process.returncode in (124, 128 + signal.SIGKILL, -signal.SIGKILL):
        raise Broken(f"not halted after {limit:.0f} s")
    return Ended("\n".join(console), process.returncode)


def result(machine: Machine, made: Folder, started: float, ended: Ended) -> Result:
    """What the guest told: see inside.py. It passes only if all of it is there, and as it must be.

    Raises:
        Broken: It told nothing, or not what it must.
    """
    try:
        told = json.loads((made.told / "result.json").read_text())
    except FileNotFoundError:
        raise Broken(f"it ended before its tests, with status {ended.status}") from None
    wrong = []
    if told["version"] != machine.version:
        wrong.append(f"struct version {told['version']}, not {machine.version}")
    if told["status"] != 0:
        wrong.append(f"pytest's exit status is {told['status']}")
    if told["passed"] == 0:
        wrong.append("no test passed")
    return Result(
        machine.name,
        "failed" if wrong or told["failed"] else "passed",
        ", ".join(wrong),
        told["release"],
        told["passed"],
        told["failed"],
        sum(told["skips"].values()),
        told["skips"],
        time.monotonic() - started,
    )
