"""Commands that fix the setup."""

import errno
import os
import shutil
import sys
from pathlib import Path

import pytest

from taskstats import fixes, host


def test_the_command_is_an_absolute_path(monkeypatch: pytest.MonkeyPatch) -> None:
    beside = str(Path(sys.executable).with_name("taskstats"))
    monkeypatch.setattr(sys, "argv", ["-c"])
    assert fixes.command() == beside
    monkeypatch.setattr(sys, "argv", ["/nowhere/taskstats"])
    assert fixes.command() == beside
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert fixes.command() == (shutil.which("taskstats") or "taskstats")


def test_a_folder_that_may_not_be_searched_is_no_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refused(_path: Path) -> bool:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "is_file", refused)
    monkeypatch.setattr(shutil, "which", {"taskstats": "/usr/bin/taskstats"}.get)
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "taskstats")])
    assert fixes.command() == "/usr/bin/taskstats"


def test_a_working_directory_that_is_gone_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def gone() -> str:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    monkeypatch.setattr(os, "getcwd", gone)
    monkeypatch.setattr(sys, "argv", ["./taskstats"])
    assert fixes.command() == str(Path(sys.executable).with_name("taskstats"))


@pytest.mark.parametrize(
    ("user", "gains", "barred", "behind"),
    [
        (True, True, False, ""),
        (None, True, False, ""),
        (False, True, False, "  # on the host"),
        (True, False, False, "  # on the host"),
        (True, True, True, "  # from a shell without no_new_privs (NoNewPrivileges=no)"),
        (False, True, True, "  # on the host"),
    ],
)
def test_where_sudo_can_do_it(
    monkeypatch: pytest.MonkeyPatch, user: bool | None, gains: bool, barred: bool, behind: str
) -> None:
    monkeypatch.setattr(host, "in_initial_namespace", {"user": user}.__getitem__)
    monkeypatch.setattr(host, "may_gain", lambda *names: gains or names != ("sys_admin",))
    monkeypatch.setattr(host, "no_new_privs", lambda: barred)
    assert fixes.sudo_gives("sys_admin") is (behind == "")
    assert fixes.with_sudo("true", "sys_admin") == f"sudo true{behind}"
    assert fixes.for_delays() == f"sudo sysctl kernel.task_delayacct=1{behind}"


def test_a_view_of_proc_that_is_whole_needs_no_fix() -> None:
    assert fixes.for_proc("whole", "doctor") == ""
