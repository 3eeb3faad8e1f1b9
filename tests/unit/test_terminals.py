"""Whether another user's command may share the terminal."""

import errno
import os
import pwd
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from taskstats import TaskstatsError, measure, terminals

OTHER = 4_000_000_001


def account(uid: int = OTHER) -> pwd.struct_passwd:
    return pwd.struct_passwd(("other", "x", uid, uid, "", "/", "/bin/sh"))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> SimpleNamespace:
    """A terminal of ours that a shell reads, on a kernel with TIOCSTI."""
    own_stat, switch = tmp_path / "stat", tmp_path / "switch"
    own_stat.write_text("7 (a ) b) S 1 7 7 34823 7\n")
    switch.write_text("1\n")
    made = SimpleNamespace(owner=0, leader=1, parent=2, terminal=os.makedev(136, 7))
    stat = os.stat

    def stat_of(place: Any, **also: Any) -> Any:
        if place == "/dev/pts/7" and made.terminal:
            return SimpleNamespace(st_mode=0o20620, st_rdev=made.terminal, st_uid=made.owner)
        return stat(place, **also)

    monkeypatch.setattr(os, "stat", stat_of)
    monkeypatch.setattr(os, "getsid", lambda _pid: made.leader)
    monkeypatch.setattr(os, "getppid", lambda: made.parent)
    monkeypatch.setattr(terminals, "_OWN_STAT", own_stat)
    monkeypatch.setattr(terminals, "_SWITCH", switch)
    made.own_stat, made.switch = own_stat, switch
    return made


def test_a_shared_terminal_is_open_to_others(machine: SimpleNamespace) -> None:
    assert terminals.is_open_to(account())
    machine.switch.unlink()  # before Linux 6.2
    assert terminals.is_open_to(account())
    with pytest.raises(TaskstatsError, match="could type into this terminal") as caught:
        measure(["true"], user=account())
    assert caught.value.errno == errno.EPERM
    assert "sysctl dev.tty.legacy_tiocsti=0" in caught.value.mend


def test_a_terminal_that_is_not_found_is_taken_for_open(machine: SimpleNamespace) -> None:
    machine.terminal = 0
    assert terminals.is_open_to(account())
    machine.own_stat.unlink()
    assert terminals.is_open_to(account())


def test_the_caller_may_use_its_own_terminal(machine: SimpleNamespace) -> None:
    machine.owner = OTHER
    assert not terminals.is_open_to(account(os.getuid()))


def test_a_user_may_use_its_own_terminal(machine: SimpleNamespace) -> None:
    machine.owner = OTHER
    assert not terminals.is_open_to(account())


def test_without_a_terminal_there_is_nothing_to_type_into(machine: SimpleNamespace) -> None:
    machine.own_stat.write_text("7 (b) S 1 7 7 0 7\n")
    assert not terminals.is_open_to(account())


def test_a_kernel_that_refuses_to_push_input_is_enough(machine: SimpleNamespace) -> None:
    machine.switch.write_text("0\n")
    assert not terminals.is_open_to(account())


def test_the_leader_of_a_session_has_the_terminal_alone(machine: SimpleNamespace) -> None:
    machine.leader = os.getpid()
    assert not terminals.is_open_to(account())


def test_a_sudo_that_made_the_terminal_reads_nothing(
    machine: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {1: b"sudo\n", 2: b"bash\n"}
    read_bytes = Path.read_bytes

    def read(path: Path) -> bytes:
        found = path.match("/proc/*/comm")
        return names[int(path.parent.name)] if found else read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", read)
    machine.parent = 1
    assert not terminals.is_open_to(account())
    for leader, parent in ((2, 2), (2, 1)):
        machine.leader, machine.parent = leader, parent
        assert terminals.is_open_to(account())
