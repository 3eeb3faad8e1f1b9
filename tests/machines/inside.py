"""Runs the tests in the guest, and tells the host how they ended."""

import json
import os
import sys
from collections import Counter
from pathlib import Path

import pytest


class Counts:
    """How each test ended, once: one that fails and is then torn down badly has failed once."""

    def __init__(self) -> None:
        self.passed: set[str] = set()
        self.failed: set[str] = set()
        self.skips: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed.add(report.nodeid)
        elif report.skipped:
            assert isinstance(report.longrepr, tuple)
            self.skips[report.longrepr[2].removeprefix("Skipped: ")] += 1
        elif report.when == "call":
            self.passed.add(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.failed.add(report.nodeid)


def main() -> None:
    result, *tests = sys.argv[1:]
    counts = Counts()
    options = ["-v", "--color=no", "-p", "no:cacheprovider", "--durations=10"]
    status = pytest.main([*options, *tests], plugins=[counts])
    from taskstats import Client  # not before pytest rewrites the plugin's assertions

    with Client() as client:
        version = client.pid().version
    told = {
        "release": os.uname().release,
        "version": version,
        "status": int(status),
        "passed": len(counts.passed - counts.failed),
        "failed": len(counts.failed),
        "skips": counts.skips,
    }
    unfinished = Path(result + ".unfinished")
    unfinished.write_text(json.dumps(told))
    unfinished.rename(result)


if __name__ == "__main__":
    main()
