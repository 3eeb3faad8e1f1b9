"""kernel.task_delayacct is on for as long as somebody measures, and then as it was."""

import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from taskstats import AccessDenied, TaskstatsError, Unavailable, delayacct, diagnosis
from taskstats.delayacct import measured_delays

HOLDER = """
import sys
from pathlib import Path
from taskstats import delayacct
delayacct.RECORD, delayacct._GUARD, delayacct._SWITCH = map(Path, sys.argv[1:])
with delayacct.measured_delays():
    print("measuring", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def switch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that plays the switch, off."""
    path = tmp_path / "task_delayacct"
    path.write_text("0\n")
    monkeypatch.setattr(delayacct, "RECORD", tmp_path / "run/delays")
    monkeypatch.setattr(delayacct, "_GUARD", tmp_path / "run/guard")
    monkeypatch.setattr(delayacct, "_SWITCH", path)
    return path


def is_on(switch: Path) -> bool:
    return switch.read_text().strip() == "1"


@contextmanager
def holder() -> Iterator["subprocess.Popen[str]"]:
    """Another process that measures until it is given a line."""
    paths = map(str, (delayacct.RECORD, delayacct._GUARD, delayacct._SWITCH))
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", HOLDER, *paths]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "measuring\n"
        yield process


def leave(process: "subprocess.Popen[str]") -> None:
    process.communicate("\n")
    assert process.returncode == 0


def test_it_is_on_meanwhile(switch: Path) -> None:
    with measured_delays():
        assert is_on(switch)
        assert delayacct.state() == "held"
    assert not is_on(switch)
    assert delayacct.state() == "none"


def test_it_is_put_back_after_an_exception_too(switch: Path) -> None:
    with pytest.raises(KeyError), measured_delays():
        raise KeyError
    assert not is_on(switch)


def test_what_was_on_stays_on(switch: Path) -> None:
    switch.write_text("1\n")
    with measured_delays():
        assert is_on(switch)
    assert is_on(switch)
    assert delayacct.state() == "none"


@pytest.mark.parametrize("first_leaves_first", [True, False])
def test_the_last_one_puts_it_back(first_leaves_first: bool, switch: Path) -> None:
    with holder() as first, holder() as second:
        order = (first, second) if first_leaves_first else (second, first)
        leave(order[0])
        assert is_on(switch)
        assert delayacct.state() == "held"
        leave(order[1])
    assert not is_on(switch)


def test_who_was_killed_leaves_it_on_and_the_next_puts_it_back(switch: Path) -> None:
    with holder() as killed:
        killed.kill()
        killed.wait()
        assert is_on(switch)
        assert delayacct.state() == "left"
    with measured_delays():
        assert delayacct.state() == "held"
    assert not is_on(switch)
    assert delayacct.state() == "none"


def test_one_of_two_is_killed(switch: Path) -> None:
    with holder() as killed, holder() as other:
        killed.kill()
        killed.wait()
        assert delayacct.state() == "held"
        leave(other)
    assert not is_on(switch)


def test_a_zero_that_somebody_wrote_stays(switch: Path) -> None:
    with measured_delays():
        switch.write_text("0\n")
    assert switch.read_text() == "0\n"


def test_no_program_that_is_run_keeps_it_on(switch: Path) -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, close_fds=False) as before:
        with (
            measured_delays(),
            subprocess.Popen(["cat"], stdin=subprocess.PIPE, close_fds=False) as program,
        ):
            inherited = {str(fd.readlink()) for fd in Path(f"/proc/{program.pid}/fd").iterdir()}
            assert not any("/run/" in path for path in inherited if str(switch.parent) in path)
            program.communicate()
        before.communicate()
    assert not is_on(switch)


def test_a_kernel_without_the_switch(switch: Path) -> None:
    switch.unlink()
    with pytest.raises(Unavailable, match="task_delayacct"), measured_delays():
        pass


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_it_takes_root(switch: Path) -> None:
    switch.chmod(0o444)
    with pytest.raises(AccessDenied, match="takes root"), measured_delays():
        pass


def test_a_directory_that_others_can_write_is_refused(switch: Path) -> None:
    delayacct.RECORD.parent.mkdir()
    delayacct.RECORD.parent.chmod(0o777)
    with pytest.raises(TaskstatsError) as caught, measured_delays():
        pass
    assert caught.value.errno == errno.EPERM
    assert not is_on(switch)


def test_a_link_is_not_followed(switch: Path, tmp_path: Path) -> None:
    delayacct.RECORD.parent.mkdir()
    delayacct.RECORD.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(TaskstatsError), measured_delays():
        pass
    assert not (tmp_path / "elsewhere").exists()
    assert not is_on(switch)


def test_doctor_tells_what_was_left(switch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis.host, "task_delayacct", lambda: is_on(switch))
    with holder() as process:
        held = diagnosis._delays(None)
        process.kill()
        process.wait()
        left = diagnosis._delays(None)
    assert "runs" in held.finding
    assert (left.state, "killed" in left.finding) == ("warn", True)
    assert "kernel.task_delayacct=0" in left.mend
    assert str(delayacct.RECORD) in left.mend
