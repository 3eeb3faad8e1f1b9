"""Who turns delay accounting on, and what the last one leaves."""

import errno
import os
import signal
import stat
import subprocess
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from support import child
from support.holder import Holder

from taskstats import AccessDenied, TaskstatsError, Unavailable, delayacct, host
from taskstats.delayacct import measured_delays, standing

CAP_DAC_READ_SEARCH = 2


@pytest.fixture(autouse=True)
def switch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A switch that is off, and a directory for the locks that is not there yet."""
    path = tmp_path / "task_delayacct"
    path.write_text("0\n")
    monkeypatch.setattr(host, "TASK_DELAYACCT", path)
    monkeypatch.setattr(delayacct, "DIRECTORY", tmp_path / "run")
    return path


def is_on(switch: Path) -> bool:
    return switch.read_text() == "1\n"


# ---- whoever comes and leaves ----------------------------------------------------------------


def test_it_is_on_for_a_while(switch: Path) -> None:
    assert standing() == "nobody"
    assert not delayacct.DIRECTORY.exists(), "who only looks changes nothing"
    with measured_delays():
        assert is_on(switch)
        assert standing() == "holder"
    assert switch.read_text() == "0\n"
    assert standing() == "nobody"


def test_an_error_inside_goes_its_way_and_the_switch_back(switch: Path) -> None:
    with pytest.raises(ZeroDivisionError), measured_delays():
        raise ZeroDivisionError
    assert not is_on(switch)


def test_others_see_that_there_is_a_record_and_cannot_lock_it() -> None:
    before = os.umask(0o077)
    try:
        with measured_delays():
            modes = {path.name: path.stat().st_mode for path in delayacct.DIRECTORY.iterdir()}
            assert modes == dict.fromkeys(("guard", "task_delayacct"), stat.S_IFREG | 0o600)
            assert stat.S_IMODE(delayacct.DIRECTORY.stat().st_mode) == 0o755
    finally:
        os.umask(before)


def test_in_one_process_too_the_last_one_restores(switch: Path) -> None:
    with ExitStack() as second:
        with measured_delays():
            second.enter_context(measured_delays())
        assert is_on(switch)
    assert not is_on(switch)


@pytest.mark.parametrize("first_ends", [Holder.leave, Holder.kill])
@pytest.mark.parametrize("then", [Holder.leave, Holder.kill])
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_two_that_overlap(
    switch: Path,
    order: tuple[int, int],
    first_ends: Callable[[Holder], None],
    then: Callable[[Holder], None],
) -> None:
    with Holder() as first, Holder() as second:
        holders = (first, second)
        first_ends(holders[order[0]])
        assert is_on(switch)
        assert standing() == "holder"
        then(holders[order[1]])
    restored = then is Holder.leave
    assert is_on(switch) is not restored
    assert standing() == ("nobody" if restored else "leftover")


def test_many_that_come_and_leave_at_once(switch: Path) -> None:
    def comes_and_leaves() -> bool:
        seen = True
        for _ in range(50):
            with measured_delays():
                seen &= is_on(switch)
        return seen

    def ends_well() -> None:
        os._exit(not comes_and_leaves())

    pids = []
    for _ in range(6):
        pid = os.fork()
        if pid == 0:
            try:
                ends_well()
            finally:
                os._exit(1)
        pids.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in pids] == [0] * 6
    assert not is_on(switch)
    assert standing() == "nobody"


# ---- crashes ---------------------------------------------------------------------------------


def test_the_next_one_takes_a_leftover_over(switch: Path) -> None:
    with Holder() as dead:
        dead.kill()
    assert is_on(switch)
    assert standing() == "leftover"
    with measured_delays():
        assert standing() == "holder"
    assert not is_on(switch), "that it was 1 after the crash is not what was there before"


def test_a_record_without_the_switch_means_nothing(switch: Path) -> None:
    with Holder() as dead:
        dead.kill()
    switch.write_text("0\n")  # it died between the two steps, or somebody set it back
    with measured_delays():
        assert is_on(switch)
    assert not is_on(switch)


def test_what_cannot_be_set_leaves_no_record(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(host, "TASK_DELAYACCT", tmp_path / "nowhere" / "switch")
    monkeypatch.setattr(host, "task_delayacct", lambda: False)
    with pytest.raises(TaskstatsError, match="nowhere/switch"), measured_delays():
        pytest.fail("it was let in")
    assert standing() == "nobody"


def test_the_command_that_mends_waits_for_no_holder() -> None:
    command = delayacct.for_leftover().removeprefix("sudo ").replace("sysctl ", "echo ")
    with Holder() as holder:
        assert subprocess.run(command, shell=True).returncode != 0
        assert standing() == "holder"
        holder.kill()
    assert standing() == "leftover"
    mended = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert mended.stdout == "kernel.task_delayacct=0\n"
    assert standing() == "nobody"


# ---- set by hand -----------------------------------------------------------------------------


def test_what_was_on_before_is_not_touched(switch: Path) -> None:
    switch.write_text("1\n")
    os.utime(switch, (0, 0))
    with measured_delays():
        assert standing() == "nobody"
    assert is_on(switch)
    assert switch.stat().st_mtime == 0, "it was written"


def test_off_by_hand_stays_off(switch: Path) -> None:
    with measured_delays():
        switch.write_text("0\n")
        os.utime(switch, (0, 0))
    assert switch.stat().st_mtime == 0, "it was written"
    assert standing() == "nobody"


def test_off_by_hand_is_on_again_for_who_comes_later(switch: Path) -> None:
    with measured_delays():
        switch.write_text("0\n")
        with measured_delays():
            assert is_on(switch)
        assert is_on(switch)
    assert not is_on(switch)


def test_on_before_then_off_by_hand_then_on_for_another(switch: Path) -> None:
    switch.write_text("1\n")
    with measured_delays():
        switch.write_text("0\n")
        with measured_delays():
            assert is_on(switch)
        assert is_on(switch), "the first one is the last"
    assert not is_on(switch)


# ---- children --------------------------------------------------------------------------------


def test_a_command_inherits_no_lock() -> None:
    with measured_delays():
        listed = subprocess.run(
            ["ls", "-l", "/proc/self/fd"], close_fds=False, capture_output=True, text=True
        )
    assert "/proc/" in listed.stdout
    assert str(delayacct.DIRECTORY) not in listed.stdout


def test_a_child_keeps_no_lock_of_one_that_has_left(switch: Path) -> None:
    with ExitStack() as stack:
        with measured_delays():
            stack.enter_context(child.beside(signal.pause))
        assert not is_on(switch)
        with measured_delays():
            pass
        assert not is_on(switch), "the child was taken for a holder"


def test_a_child_that_leaves_is_no_holder(switch: Path) -> None:
    with ExitStack() as stack:
        stack.enter_context(measured_delays())
        child.run(lambda: stack.pop_all().close())
        assert is_on(switch)
        assert standing() == "holder"
    assert not is_on(switch)


# ---- refused ---------------------------------------------------------------------------------


def test_a_kernel_without_the_switch(switch: Path) -> None:
    switch.unlink()
    with pytest.raises(Unavailable, match=r"Linux 5\.14") as caught, measured_delays():
        pytest.fail("it was let in")
    assert caught.value.errno == errno.ENOENT
    assert not delayacct.DIRECTORY.exists()


def heed_modes() -> None:
    """Gives up root's right to open whatever it likes."""
    if host.has("sys_admin"):
        child.become(0)


@pytest.mark.parametrize("on", [False, True])
def test_without_the_right(switch: Path, tmp_path: Path, on: bool) -> None:
    def enters() -> str:
        heed_modes()
        with measured_delays():
            return "in"

    switch.write_text(f"{on:d}\n")
    tmp_path.chmod(0o555)
    if on:
        assert child.run(enters) == "in", "it needs none"
        return
    with pytest.raises(AccessDenied, match="only root may set") as caught:
        child.run(enters)
    assert caught.value.mend.startswith("sudo sysctl kernel.task_delayacct=1")


def test_who_may_not_look_is_told_that_there_is_a_record() -> None:
    def looks() -> str:
        heed_modes()
        return standing()

    with Holder() as holder:
        guard = delayacct.DIRECTORY / "guard"
        guard.chmod(0)
        assert child.run(looks) == "hidden"
        guard.chmod(0o600)
        holder.leave()
        guard.chmod(0)
    assert child.run(looks) == "nobody"


def test_a_link_in_place_of_the_directory(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    delayacct.DIRECTORY.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(TaskstatsError, match="root's alone") as caught, measured_delays():
        pytest.fail("it was let in")
    assert not isinstance(caught.value, AccessDenied)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_directory_that_others_may_write(switch: Path) -> None:
    delayacct.DIRECTORY.mkdir()
    delayacct.DIRECTORY.chmod(0o757)
    with pytest.raises(TaskstatsError, match="root's alone") as caught, measured_delays():
        pytest.fail("it was let in")
    assert not isinstance(caught.value, AccessDenied)
    assert not is_on(switch)


@pytest.mark.skipif(not host.has("sys_admin"), reason="root alone can give a directory away")
def test_a_directory_of_another_user() -> None:
    delayacct.DIRECTORY.mkdir(0o755)
    os.chown(delayacct.DIRECTORY, child.NOBODY, child.NOBODY)
    with pytest.raises(TaskstatsError, match="root's alone") as caught, measured_delays():
        pytest.fail("it was let in")
    assert not isinstance(caught.value, AccessDenied)


@pytest.mark.skipif(not host.has("sys_admin"), reason="root's directory is made by root")
@pytest.mark.parametrize("on", [False, True])
def test_another_user_and_the_directory_that_root_made(switch: Path, on: bool) -> None:
    def enters() -> str:
        child.become(child.NOBODY, CAP_DAC_READ_SEARCH)  # to get to the temporary directory
        with measured_delays():
            return "in"

    with measured_delays():
        pass
    switch.write_text(f"{on:d}\n")
    if on:
        assert child.run(enters) == "in"
        return
    with pytest.raises(AccessDenied, match="only root may set"):
        child.run(enters)


@pytest.mark.parametrize("name", ["guard", "task_delayacct"])
def test_a_link_in_place_of_a_file(tmp_path: Path, name: str) -> None:
    (tmp_path / "kept").write_text("kept")
    delayacct.DIRECTORY.mkdir(0o755)
    (delayacct.DIRECTORY / name).symlink_to(tmp_path / "kept")
    with pytest.raises(TaskstatsError, match="root's alone"), measured_delays():
        pytest.fail("it was let in")
    assert (tmp_path / "kept").read_text() == "kept"
