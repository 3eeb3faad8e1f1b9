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


def run(folder: Path, program: str, *tests: str) -> str:
    (folder / "scheduler.py").write_text(program)
    for number, text in enumerate(tests):
        (folder / f"test_{number}.py").write_text(text)
    answered = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "."],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    return answered.stdout


def test_all_tests_pass(tmp_path: Path) -> None:
    pages = (TESTS, COMPLETE, README)
    numbers = [text.count("def test_") for text in pages]
    assert min(numbers) > 0
    assert re.search(rf"^{sum(numbers)} passed in", run(tmp_path, PROGRAM, *pages), re.MULTILINE)


def test_its_tests_can_fail(tmp_path: Path) -> None:
    """A scheduler that counts a job's first process alone, and believes that nothing is lost."""
    careless = PROGRAM.replace("self.processes += 1", "self.processes = 1").replace(
        "self.complete &=", "self.complete ="
    )
    careless = careless.replace("= self._listener.stats().lost == 0", "= True")
    assert "3 failed" in run(tmp_path, careless, TESTS)
