"""The shim's C tests on another architecture, by qemu's user emulation: s390x is big-endian."""

import re
import subprocess
import time
from pathlib import Path

from machines.guest import ROOT
from machines.result import Result, need
from machines.table import Machine

#: Program -> its Debian package.
NEEDED = {
    "s390x-linux-gnu-gcc": "gcc-s390x-linux-gnu",
    "qemu-s390x-static": "qemu-user-static",
    "make": "make",
}


def run(machine: Machine, cache: Path) -> Result:
    """Compiles the tests, and runs them: each is a program, and says what it checked."""
    need(NEEDED)
    started = time.monotonic()
    made = subprocess.run(
        [
            *("make", "--no-print-directory", "ctest", f"CTEST_BUILD={cache}"),
            *("CC=s390x-linux-gnu-gcc", "RUN=qemu-s390x-static -L /usr/s390x-linux-gnu"),
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=machine.limit,
    )
    print(made.stdout, flush=True)
    passed = len(re.findall(r"^\w+: .*\b[1-9]\d* checks$", made.stdout, re.MULTILINE))
    programs = len(list((ROOT / "tests/c").glob("test_*.c")))
    failed = made.returncode != 0 or passed != programs
    return Result(
        machine.name,
        "failed" if failed else "passed",
        f"make's exit status is {made.returncode}" if failed else "programs of C",
        passed=passed,
        failed=programs - passed,
        seconds=time.monotonic() - started,
    )
