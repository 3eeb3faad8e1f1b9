"""The README's programs do what it says."""

import re
import subprocess
import sys
from pathlib import Path

from support.requirements import needs_probe, needs_processes

README = (Path(__file__).parents[2] / "README.md").read_text()
TASKS, COMPLETE, FAILURES, PROCESSES, JOBS, MONITOR, _ = re.findall(
    r"```python\n(.*?)```", README, re.DOTALL
)


def run(program: str) -> subprocess.CompletedProcess[str]:
    answered = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], capture_output=True, text=True
    )
    assert answered.returncode == 0, answered.stderr
    return answered


def test_the_program_of_tasks_runs() -> None:
    needs_processes()
    answered = run(TASKS)
    shells = re.findall(r"^\d+ sh (\d) None$", answered.stdout, re.MULTILINE)
    assert {"0", "1", "2"} <= set(shells), "others may run a shell as well"
    received = re.search(r"^received (\d+), lost 0$", answered.stdout, re.MULTILINE)
    assert received is not None
    assert int(received[1]) >= 3
    assert len(TASKS.splitlines()) <= 40


def test_the_program_of_complete_records_runs() -> None:
    needs_probe()
    *lines, stats = run(COMPLETE).stdout.splitlines()
    births = [line for line in lines if line.startswith("process ")]
    records = [line for line in lines if line not in births]
    assert len(births) >= 2
    assert all(re.match(r"process \d+ made process \d+ in cgroup /", line) for line in births)
    assert all(re.match(r"\d+ .* \d+\.\d{6} s /", line) for line in records)
    settled = re.match(r"ProbeStats\(settled=(\d+), ", stats)
    assert settled
    assert len(records) == int(settled[1])


def test_the_program_of_failures_runs() -> None:
    assert re.search(r"^\d+ failed, \d+ others, lost 0$", run(FAILURES).stdout, re.MULTILINE)


def test_the_program_of_processes_runs() -> None:
    needs_processes()
    assert re.search(r"^\d+ sh 3 \d+$", run(PROCESSES).stdout, re.MULTILINE)


def test_the_program_of_jobs_runs() -> None:
    needs_processes()
    needs_probe()
    lines = run(JOBS).stdout.splitlines()
    assert lines[-1] == "complete"
    assert {tuple(line.split()[:2]) for line in lines[:-1]} == {("sh", "1"), ("true", "3")}


def test_the_program_of_two_jobs_runs() -> None:
    needs_processes()
    needs_probe()
    lines = run(MONITOR).stdout.splitlines()
    assert "compile returned 0 complete" in lines
    assert "test returned 3 complete" in lines
    counts = {tuple(line.split()[:3]) for line in lines if "returned" not in line}
    compiled = {("compile", "sh", "1"), ("compile", "true", "3")}
    assert counts == compiled | {("test", "sh", "1"), ("test", "false", "1")}
    assert len(MONITOR.splitlines()) <= 20
