"""Gate: a command runs once its process was admitted, whatever thread starts it."""

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from taskstats import TaskstatsError
from taskstats.gate import Gate


@pytest.fixture
def gate() -> Iterator[Gate]:
    one = Gate()
    yield one
    one.close()


def test_a_command_runs_once_it_is_admitted(gate: Gate, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    seen: list[tuple[int, bool]] = []
    process = gate.start(["touch", str(ran)], lambda pid: seen.append((pid, ran.exists())))
    assert process.wait() == 0
    assert seen == [(process.pid, False)]
    assert ran.exists()


def test_a_command_that_is_refused_never_runs(gate: Gate, tmp_path: Path) -> None:
    def refuse(_: int) -> None:
        raise ValueError("not this one")

    with pytest.raises(ValueError, match="not this one"):
        gate.start(["touch", str(tmp_path / "ran")], refuse)
    assert not (tmp_path / "ran").exists()
    assert gate.start(["true"], lambda _: None).wait() == 0


def test_a_command_that_is_killed_at_the_gate_is_an_error(gate: Gate) -> None:
    def kill(pid: int) -> None:
        os.kill(pid, 9)
        raise ProcessLookupError("it is gone")

    with pytest.raises(ProcessLookupError, match="it is gone"):
        gate.start(["true"], kill)
    assert gate.start(["true"], lambda _: None).wait() == 0


def test_a_start_that_is_interrupted_leaves_the_gate_as_it_was(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process may be at the gate then, admitted or not."""
    at_the_gate = threading.Event()

    def fork_and_raise(*_: Any, preexec_fn: Callable[[], None], **__: Any) -> None:
        if os.fork() == 0:
            preexec_fn()
            os._exit(0)
        assert at_the_gate.wait(10)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(subprocess, "Popen", fork_and_raise)
        gate.start(["true"], lambda _: at_the_gate.set())
    os.wait()
    assert gate.start(["true"], lambda _: None).wait() == 0


def test_a_command_that_is_not_there_is_an_error(gate: Gate) -> None:
    with pytest.raises(FileNotFoundError):
        gate.start(["/no/such"], lambda _: None)


def test_any_thread_may_start_a_command(gate: Gate) -> None:
    pids: dict[int, int] = {}

    def start(number: int) -> None:
        with gate.start(["true"], lambda pid: pids.update({number: pid})) as process:
            assert pids[number] == process.pid

    threads = [threading.Thread(target=start, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(pids.values())) == 20


def test_no_descriptor_is_left(gate: Gate) -> None:
    def descriptors() -> set[str]:
        return {path.name for path in Path("/proc/self/fd").iterdir()}

    before = descriptors()
    gate.start(["true"], lambda _: None).wait()
    with pytest.raises(FileNotFoundError):
        gate.start(["/no/such"], lambda _: None)
    assert descriptors() == before


def test_closed_standard_streams_are_no_harm() -> None:
    """Its pipes would be the command's streams if they had the numbers 0, 1 and 2."""
    program = """
import os, subprocess
os.closerange(0, 3)
from taskstats.gate import Gate
gate = Gate()
process = gate.start(["echo", "told"], lambda _: None, stdout=subprocess.PIPE)
assert process.communicate()[0] == b"told\\n"
gate.close()
os._exit(5)
"""
    done = subprocess.run([sys.executable, "-c", program], timeout=60)
    assert done.returncode == 5


def test_a_closed_gate_starts_nothing() -> None:
    gate = Gate()
    gate.close()
    gate.close()
    with pytest.raises(TaskstatsError, match="it is closed"):
        gate.start(["true"], lambda _: None)
