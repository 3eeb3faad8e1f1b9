"""measure on the real kernel: what it returns, and what it leaves behind."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import cgroups
from support.command import TASKSTATS
from support.requirements import needs_probe, needs_processes

import taskstats
from taskstats import TaskstatsError
from taskstats.cost import COST_KEYS

SHELL = "/bin/sh"


@pytest.fixture(autouse=True)
def _processes() -> None:
    needs_processes()


def measured(program: str) -> subprocess.CompletedProcess[str]:
    """What a program prints that measures: pytest has other children, and threads."""
    words = [sys.executable, "-c", f"import taskstats\n{program}"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done


def test_it_returns_what_json_has() -> None:
    needs_probe()
    program = """
import json
cost = taskstats.measure(["sh", "-c", "for i in 1 2 3; do /bin/true; done; exit 4"])
assert cost.usage.commands["true"].processes == 3
assert cost.complete
print(json.dumps(cost.to_dict()))
"""
    figures = json.loads(measured(program).stdout)
    assert list(figures) == list(COST_KEYS)
    assert figures["exit_code"] == 4
    names = {one["comm"]: one["processes"] for one in figures["commands"]}
    assert names == {"sh": 1, "true": 3}
    assert figures["undecided"] == 0


def test_without_the_probe_every_record_is_counted() -> None:
    program = """
cost = taskstats.measure(["sh", "-c", "for i in 1 2 3; do /bin/true; done"], probe="off")
used = cost.usage
assert cost.settled
assert used.total.processes <= 4 <= used.total.processes + used.undecided + used.lost, used
assert cost.complete is (used.undecided + used.lost == 0)
assert cost.to_dict()["probe"] is None
"""
    measured(program)


def test_it_leaves_the_process_as_it_was() -> None:
    program = """
import ctypes, signal, threading
def state():
    flag = ctypes.c_int()
    ctypes.CDLL(None).prctl(37, ctypes.byref(flag), 0, 0, 0)
    handlers = [signal.getsignal(number) for number in (2, 15, 17, 20)]
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    return flag.value, mask, handlers, threading.active_count()
before = state()
for _ in range(2):
    taskstats.measure(["true"])
    assert state() == before, state()
"""
    measured(program)


def test_it_runs_as_a_user() -> None:
    assert measured('taskstats.measure(["id", "-un"], user="nobody")').stdout == "nobody\n"


def test_another_thread_is_refused() -> None:
    raised: list[TaskstatsError] = []

    def run() -> None:
        try:
            taskstats.measure(["true"])
        except TaskstatsError as error:
            raised.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert "Use JobMonitor" in str(raised[0])


def test_a_command_that_cannot_be_run_is_an_error() -> None:
    program = """
try:
    taskstats.measure(["/no/such"])
except FileNotFoundError as error:
    print(error.filename)
"""
    assert measured(program).stdout == "/no/such\n"


def test_after_its_end_a_failure_has_its_status() -> None:
    program = """
import os
from taskstats.reader import Reader
def fail(self):
    raise MemoryError
Reader.catch_up = fail
try:
    taskstats.measure(["sh", "-c", "exit 4"])
except taskstats.CostUnknown as error:
    print(os.waitstatus_to_exitcode(error.status), error)
"""
    told = measured(program).stdout
    assert told.startswith("4 monitor: the cost of the command, which ended with 4, is not known")


# ---- where there can be no more threads ------------------------------------------------------


@pytest.fixture
def few() -> Iterator[Path]:
    """A cgroup that may limit processes and threads."""
    needs_probe()
    with cgroups.made("pids") as path:
        yield path


def run_in(cgroup: Path, script: str, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    words = [TASKSTATS, "run", "--json", str(tmp_path / "j"), SHELL, "-c", script]
    enter = f'echo $$ > {cgroup}/cgroup.procs; exec "$@"'
    return subprocess.run(
        [SHELL, "-c", enter, SHELL, *words], capture_output=True, text=True, timeout=60
    )


def test_no_thread_is_needed_at_the_end(few: Path, tmp_path: Path) -> None:
    done = run_in(few, f"/bin/true; echo 1 > {few}/pids.max; exit 7", tmp_path)
    assert (done.returncode, "Traceback" in done.stderr) == (7, False)
    assert "exit 7" in done.stderr
    figures = json.loads((tmp_path / "j").read_text())
    assert figures["complete"] is True
    assert figures["total"]["processes"] == 2


@pytest.mark.parametrize(
    ("limit", "told"),
    [
        (1, "listen: cannot start a thread: "),
        (2, "Resource temporarily unavailable"),
        (3, "cannot start a thread: "),
    ],
)
def test_without_a_thread_the_command_never_runs(
    limit: int, told: str, few: Path, tmp_path: Path
) -> None:
    (few / "pids.max").write_text(str(limit))
    done = run_in(few, f"echo ran > {tmp_path}/ran", tmp_path)
    assert (done.returncode, "Traceback" in done.stderr) == (125, False)
    assert told in done.stderr
    assert not (tmp_path / "ran").exists()


def test_a_monitor_says_what_to_do(few: Path) -> None:
    (few / "pids.max").write_text("1")
    program = """
import taskstats
try:
    taskstats.JobMonitor()
except taskstats.TaskstatsError as error:
    print(error)
"""
    enter = f'echo $$ > {few}/cgroup.procs; exec "$@"'
    words = [SHELL, "-c", enter, SHELL, sys.executable, "-c", program]
    told = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True).stdout
    assert "cannot start a thread: the limit" in told
    assert "pids.max" in told
