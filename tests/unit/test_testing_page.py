"""The examples of docs/testing.md and of the README work as they stand, for any user."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def programs(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)


PROGRAM, TESTS, COMPLETE = programs("docs/testing.md")
(README,) = (text for text in programs("README.md") if "taskstats_kernel" in text)


def run(folder: Path, program: str, tests: str = TESTS) -> str:
    (folder / "scheduler.py").write_text(program)
    (folder / "test_scheduler.py").write_text(tests)
    answered = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "."],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    return answered.stdout


def test_its_tests_pass(tmp_path: Path) -> None:
    assert f"{TESTS.count('def test_')} passed" in run(tmp_path, PROGRAM)


def test_its_tests_can_fail(tmp_path: Path) -> None:
    """A scheduler that counts a job's first process alone, and believes that nothing is lost."""
    careless = PROGRAM.replace("self.processes += 1", "self.processes = 1").replace(
        "self.complete &=", "self.complete ="
    )
    careless = careless.replace("= self._listener.stats().lost == 0", "= True")
    assert "3 failed" in run(tmp_path, careless)


def test_those_of_complete_records_pass(tmp_path: Path) -> None:
    assert "2 passed" in run(tmp_path, "", COMPLETE)


def test_the_readmes_test_passes(tmp_path: Path) -> None:
    assert "1 passed" in run(tmp_path, "", README)
