"""`taskstats run` where something fails: whose exit status it has."""

import errno
import importlib
from typing import Any

import pytest
from click.testing import CliRunner, Result
from support.made_up_cost import cost

from taskstats.cli.run import run
from taskstats.errors import CostUnknown, from_errno

run_module = importlib.import_module("taskstats.cli.run")


def ran(monkeypatch: pytest.MonkeyPatch, outcome: Any, *options: str) -> Result:
    """What becomes of a command whose measurement ends so."""

    def measure(*_: object, **__: object) -> object:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(run_module, "measure", measure)
    return CliRunner().invoke(run, [*options, "make"])


def test_the_status_is_the_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    result = ran(monkeypatch, cost(status=0x300))
    assert result.exit_code == 3
    assert "exit 3" in result.stderr


def test_a_failure_before_the_command_is_125(monkeypatch: pytest.MonkeyPatch) -> None:
    thread = ran(monkeypatch, from_errno("monitor", errno.EAGAIN, "thread"))
    assert thread.exit_code == 125
    assert "cannot start a thread: " in thread.stderr
    assert "Raise the limit: ulimit -u" in thread.stderr
    memory = ran(monkeypatch, MemoryError())
    assert memory.exit_code == 125
    assert "not enough memory" in memory.stderr


def test_a_failure_after_the_command_has_its_status(monkeypatch: pytest.MonkeyPatch) -> None:
    error = CostUnknown("monitor", "the cost of the command is not known", status=0x700)
    result = ran(monkeypatch, error)
    assert result.exit_code == 7
    assert result.stderr == "Error: the cost of the command is not known\n"


def test_a_report_without_memory_leaves_the_status(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(run_module, "_tell", fail)
    result = ran(monkeypatch, cost(status=0x700))
    assert result.exit_code == 7
    assert "not enough memory" in result.stderr


def test_without_the_probe_undecided_records_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    result = ran(monkeypatch, cost(undecided=12))
    told = "incomplete: 12 records could not be assigned to a job, and may be the command's"
    assert told in result.stderr.splitlines()
