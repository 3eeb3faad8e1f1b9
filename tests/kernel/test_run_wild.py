"""`taskstats run` of a tree that forks as fast as it can, beside another one.

TASKSTATS_WILD says how many processes the tree has: `make wild-proof` runs it with 200,000.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import compiled
from support.requirements import needs_probe
from support.storm import Storm

PROCESSES = int(os.environ.get("TASKSTATS_WILD", "5000"))
TASKSTATS = str(Path(sys.executable).with_name("taskstats"))


def test_a_wild_tree_is_counted_to_the_last_process(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    needs_probe()
    wild = str(compiled.program("wild"))
    path = tmp_path / "figures"
    with Storm("processes", rate=2000) as storm:
        storm.begin()
        began = time.monotonic()
        run = subprocess.Popen([TASKSTATS, "run", "--json", str(path), "--", wild, str(PROCESSES)])
        _, status, usage = os.wait4(run.pid, 0)
        run.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - began
        assert storm.finish() > 0
    figures = json.loads(path.read_text())
    assert (run.returncode, figures["lost"], figures["complete"]) == (0, 0, True)
    assert figures["total"]["processes"] == PROCESSES + 1
    assert {one["comm"] for one in figures["commands"]} == {"wild"}
    # The children that were waited for are the tree: what is left is our own.
    tree = figures["wait4"]["user_ns"] + figures["wait4"]["system_ns"]
    own = usage.ru_utime + usage.ru_stime - tree / 1e9
    with capsys.disabled():
        print(
            f"\n{PROCESSES} processes in {seconds:.1f} s: run used {own:.2f} s of CPU, "
            f"{own / PROCESSES * 1e6:.1f} us each, and at most {usage.ru_maxrss >> 10} MiB"
        )
