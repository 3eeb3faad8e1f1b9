"""What counts as passed, failed and skipped when the tests run on other kernels."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from machines import __main__ as command
from machines import guest, uml
from machines.result import Broken, CannotBeHad, Result, table
from machines.table import MACHINES, Machine

MACHINE = Machine("one", "uml", "some-package", version=13, limit=60)
TOLD = {"release": "6.1.2", "version": 13, "status": 0, "passed": 3, "failed": 0, "skips": {"x": 2}}


@pytest.fixture
def folder() -> Iterator[guest.Folder]:
    with guest.folder(MACHINE, "true") as made:
        yield made


def told(folder: guest.Folder, **changed: Any) -> Result:
    (folder.told / "result.json").write_text(json.dumps({**TOLD, **changed}))
    return guest.result(MACHINE, folder, 0, guest.Ended("", 0))


def test_what_a_guest_tells_passes(folder: guest.Folder) -> None:
    one = told(folder)
    assert (one.outcome, one.passed, one.failed, one.skipped) == ("passed", 3, 0, 2)


@pytest.mark.parametrize(
    "changed",
    [{"version": 14}, {"status": 1}, {"passed": 0}, {"failed": 1}],
    ids=str,
)
def test_what_else_it_may_tell_fails(folder: guest.Folder, changed: dict[str, int]) -> None:
    assert told(folder, **changed).outcome == "failed"


def test_a_guest_that_tells_nothing_fails(folder: guest.Folder) -> None:
    with pytest.raises(Broken, match="ended before its tests"):
        guest.result(MACHINE, folder, 0, guest.Ended("", 0))


def test_a_guest_that_hangs_fails() -> None:
    with pytest.raises(Broken, match="not halted"):
        guest.run(["sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"], 0.1)


def boot(monkeypatch: pytest.MonkeyPatch, console: str, *, amx: bool) -> Result:
    """User-Mode Linux that writes this, and halts."""
    monkeypatch.setattr(uml, "_program", lambda *_: "linux.uml")
    monkeypatch.setattr(uml, "_has_amx", lambda: amx)
    monkeypatch.setattr(uml, "BUSYBOX", Path("/bin/true"))
    monkeypatch.setattr(guest, "run", lambda *_: guest.Ended(console, 134))
    return uml.run(MACHINE, Path("nowhere"))


PANIC = "ptrace set fp regs failed, errno = 14\nKernel panic - not syncing: Attempted to kill init!"


def test_registers_that_it_has_no_room_for_are_the_one_panic_that_skips(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(CannotBeHad, match="AMX"):
        boot(monkeypatch, PANIC, amx=True)
    with pytest.raises(Broken, match="Attempted to kill init"):
        boot(monkeypatch, PANIC, amx=False)
    with pytest.raises(Broken, match="not syncing: oops"):
        boot(monkeypatch, "Kernel panic - not syncing: oops", amx=True)


@pytest.mark.parametrize(
    ("ended", "all_of_them", "named"),
    [
        (Result("one", "passed", passed=1), 0, 0),
        (Result("one", "failed"), 1, 1),
        (CannotBeHad("no package"), 0, command.SKIPPED),
        (Broken("it hangs"), 1, 1),
    ],
    ids=["passed", "failed", "skipped", "broken"],
)
def test_exit_status(
    ended: Result | Exception, all_of_them: int, named: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*_: object) -> Result:
        if isinstance(ended, Exception):
            raise ended
        return ended

    monkeypatch.setattr(command, "MACHINES", (MACHINE,))
    monkeypatch.setitem(command.WAYS, "uml", run)
    assert command.main([]) == all_of_them
    assert command.main(["one"]) == named


def test_the_table_tells_why() -> None:
    shown = table([Result("one", "skipped", "no package"), Result("two", "failed", "it hangs")])
    assert "skipped no package" in shown
    assert "failed it hangs" in shown


def test_names_are_single() -> None:
    assert len({one.name for one in MACHINES}) == len(MACHINES)
