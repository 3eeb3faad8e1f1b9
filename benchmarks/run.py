"""One run of the benchmarks: refused on a noisy machine, published if it is complete."""

import shutil
import time
from collections.abc import Generator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import machine
import noise
import pytest
import report
from figures import Measurement
from report import plots
from report.terminal import lines_of

_FILES = set(Path(__file__).parent.glob("test_*.py"))

#: When the machine is looked at, as messages and results name it.
BEFORE, BETWEEN, AFTER = "before", "between benchmarks", "after"

#: Programs that benchmarks start, and the Debian package of each.
PROGRAMS = {
    "cc": "gcc",
    "valgrind": "valgrind",
    "/usr/bin/time": "time",
    "perf": "linux-perf",
    "strace": "strace",
}

REGARDLESS = "To measure all the same, and publish nothing: --noisy"


def add_options(parser: pytest.Parser) -> None:
    group = parser.getgroup("figures")
    group.addoption(
        "--report",
        type=Path,
        metavar="DIR",
        help="publish a complete run as DIR/benchmarks.md, its results and plots beside that",
    )
    group.addoption(
        "--noisy",
        action="store_true",
        help="measure also where others use the machine; nothing is published",
    )


class Run:
    """A pytest plugin.

    Attributes:
        measured: What the benchmarks have told.
        conclusion: What became of the run: lines for its end.
    """

    def __init__(self, config: pytest.Config) -> None:
        option = config.option
        self.measured: list[Measurement] = []
        self.conclusion: list[str] = []
        self._is_timed = not (option.benchmark_disable or option.collectonly)
        self._is_judged = self._is_timed and not option.noisy
        self._directory: Path | None = option.report
        self._names_single_tests = any("::" in argument for argument in config.args)
        self._deselected = 0
        self._passed = 0
        self._meanwhile = noise.Probe()

    def tell(self, measurement: Measurement) -> None:
        """Takes what a benchmark has measured, and prints it, for -s and for what fails."""
        for line in lines_of(measurement):
            print("\n" + ", ".join(filter(None, line)), end="")
        self.measured.append(measurement)

    # ---- what pytest calls -------------------------------------------------------------------

    def pytest_deselected(self, items: list[pytest.Item]) -> None:
        self._deselected += len(items)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._passed += report.when == "call" and report.passed

    def pytest_runtest_logfinish(self) -> None:
        if self._is_judged:
            self._meanwhile.look(*noise.SHORT)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        began, start = datetime.now(UTC), time.monotonic()
        if self._directory and (reasons := self._partial(session)):
            raise pytest.UsageError("--report is for a complete run: " + "; ".join(reasons))
        if missing := [name for name in PROGRAMS if not shutil.which(name)]:
            packages = " ".join(PROGRAMS[name] for name in missing)
            raise pytest.UsageError(f"not found: {', '.join(missing)} (apt install {packages})")
        seen = {BEFORE: self._look()} if self._is_judged else {}
        if complaints := noise.complaints(seen):
            lines = ["this machine is too noisy to measure on", *complaints, REGARDLESS]
            raise pytest.UsageError("\n  ".join(lines))

        result = yield

        if self._is_judged:
            seen |= {BETWEEN: self._meanwhile.sample(), AFTER: self._look()}
        took = time.monotonic() - start
        if complaints := noise.complaints(seen):
            self.conclusion = ["NOISY: these figures are not to be believed", *complaints]
            raise session.Failed("noisy")
        all_passed = self._passed == session.testscollected
        if all_passed and not self._left_out(session) and (names := plots.empty(self.measured)):
            self.conclusion = [f"these plots would show nothing: {', '.join(names)}"]
            raise session.Failed("incomplete")
        if not self._directory:
            return result
        if not all_passed:
            self.conclusion = [f"nothing was written to {self._directory}: not every test passed"]
            raise session.Failed("incomplete")
        report.publish(
            report.Results(
                began=began.isoformat(timespec="seconds"),
                took_s=round(took),
                machine=machine.machine(),
                rivals=machine.rivals(),
                noise={when: asdict(sample) for when, sample in seen.items()},
                measurements=self.measured,
            ),
            self._directory,
        )
        self.conclusion = [f"published: {self._directory / report.PAGE}"]
        return result

    # ---- how it judges -----------------------------------------------------------------------

    @staticmethod
    def _look() -> noise.Sample:
        probe = noise.Probe()
        probe.look(*noise.LONG)
        return probe.sample()

    def _partial(self, session: pytest.Session) -> list[str]:
        """Why this is known not to be a complete run."""
        reasons = {
            "nothing is timed": not self._is_timed,
            "nothing is judged with --noisy": self._is_timed and not self._is_judged,
        }
        return [reason for reason, is_so in reasons.items() if is_so] + self._left_out(session)

    def _left_out(self, session: pytest.Session) -> list[str]:
        """What of the benchmarks is not run."""
        missing = sorted(path.name for path in _FILES - {item.path for item in session.items})
        reasons = {
            "single tests were named": self._names_single_tests,
            f"{self._deselected} tests are deselected": self._deselected,
            f"not all files are run ({', '.join(missing)})": missing,
        }
        return [reason for reason, is_so in reasons.items() if is_so]
