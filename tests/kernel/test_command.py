"""The command `taskstats`, as a shell runs it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from support import child

TASKSTATS = str(Path(sys.executable).parent / "taskstats")


@contextmanager
def listening(*options: str) -> Iterator[subprocess.Popen[str]]:
    """`taskstats exits`, from when it hears."""
    with subprocess.Popen(
        [TASKSTATS, "exits", *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("listening")
        yield process


def test_exits_hears_200_of_200() -> None:
    with listening("--json", "--for", "1000") as process:
        made = [(child.spawn_and_reap(i, uid=child.NOBODY), i) for i in range(200)]
        process.terminate()
        output, errors = process.communicate()
    records = [json.loads(line) for line in output.splitlines()]
    mine = [r for r in records if r.get("ac_ppid") == os.getpid()]
    assert process.returncode == 0
    assert sorted((r["ac_pid"], r["ac_exitcode"] >> 8) for r in mine) == sorted(made)
    assert {r["ac_uid"] for r in mine} == {child.NOBODY}
    assert {"id", "kind", "cpu", "seq", "ac_pid", "ac_exitcode"} <= set(records[0])
    assert f"received {len([r for r in records if r['kind'] == 'task'])}, lost 0" in errors


def test_exits_ends_by_itself() -> None:
    with listening("--for", "0.1") as process:
        _, errors = process.communicate()
    assert process.returncode == 0
    assert errors.startswith("received ")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("options", [(), ("--for", "1000")])
def test_exits_ends_quietly_at_a_signal(options: tuple[str, ...], number: signal.Signals) -> None:
    with listening(*options) as process:
        pid = child.spawn_and_reap(1)
        process.send_signal(number)
        output, errors = process.communicate()
    assert process.returncode == 0
    assert any(line.split()[:2] == ["task", str(pid)] for line in output.splitlines())
    assert "lost 0" in errors
    assert "Traceback" not in errors


def test_exits_ends_quietly_when_its_reader_does() -> None:
    with listening("--json") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        while process.poll() is None:
            child.spawn_and_reap()
        errors = process.stderr.read()
    assert "Traceback" not in errors


def test_query_agrees_with_proc() -> None:
    answered = subprocess.run(
        [TASKSTATS, "query", "--json", str(os.getpid())], check=True, capture_output=True
    )
    record = json.loads(answered.stdout)
    assert (record["ac_pid"], record["ac_ppid"]) == (os.getpid(), os.getppid())
    assert record["ac_uid"] == os.getuid()
    assert record["ac_comm"] == Path("/proc/self/comm").read_text().strip()


def test_query_tells_which_ids_are_gone() -> None:
    answered = subprocess.run(
        [TASKSTATS, "query", "--tgid", str(os.getpid()), "5000000"], capture_output=True, text=True
    )
    assert answered.returncode == 1
    assert answered.stdout.startswith("group")
    assert answered.stderr == "taskstats: pid 5000000: No such process\n"


def test_a_name_cannot_write_to_the_terminal() -> None:
    def named() -> str:
        Path("/proc/self/comm").write_bytes(b"\x1b[2J\nexit")
        command = [TASKSTATS, "query", str(os.getpid())]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    output = child.run(named)
    assert "\\x1b[2J\\x0aexit" in output
    assert output.count("\n") == 1
    assert "\x1b" not in output


@pytest.mark.parametrize(
    "arguments", [("query", "-1"), ("query", "99999999999"), ("exits", "--for", "inf")]
)
def test_arguments_that_make_no_sense(arguments: tuple[str, ...]) -> None:
    answered = subprocess.run([TASKSTATS, *arguments], capture_output=True, text=True)
    assert answered.returncode == 2
    assert "Traceback" not in answered.stderr


def test_without_the_capability_it_says_what_to_do() -> None:
    def through_click() -> tuple[int, str]:
        from click.testing import CliRunner

        from taskstats.cli.main import taskstats

        os.setuid(child.NOBODY)
        result = CliRunner().invoke(taskstats, ["query", "1"])
        return result.exit_code, result.output

    code, output = child.run(through_click)
    assert code == 1
    assert "CAP_NET_ADMIN" in output
    assert "setpriv" in output
