"""The command's terminals, pipes and arguments. The exits are real; the kernel is not tested."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, Any

import pytest
from click.testing import CliRunner
from support import child, terminal
from support.command import TASKSTATS, ended, listening, mine, overflow, run
from support.requirements import needs_processes

from taskstats.cli.main import taskstats

pytestmark = pytest.mark.usefixtures("as_usual")


# ---- terminals -------------------------------------------------------------------------------


@pytest.mark.parametrize("columns", [80, 160])
@pytest.mark.parametrize(
    "command",
    [
        ["query", "1", "2"],
        ["query", "--all"],
        ["fields"],
        ["doctor"],
        ["cgroup", "/sys/fs/cgroup"],
        ["exits", "--count", "10"],
        ["exits", "--count", "10", "--threads"],
        ["--help"],
        ["exits", "--help"],
    ],
    ids=" ".join,
)
def test_every_table_fits_its_terminal(command: list[str], columns: int) -> None:
    storm = subprocess.Popen(["sh", "-c", "while :; do sleep 0.01; done"])
    try:
        status, text = terminal.run([TASKSTATS, *command], columns)
    finally:
        storm.kill()
        storm.wait()
    assert status == (1 if command[0] == "cgroup" and "/sys/fs/cgroup: " in text else 0), text
    assert len(text.splitlines()) > 1
    # What is to be copied whole, or is wrapped by the terminal. The totals may have more to say.
    remarks = ("fix: ", "left out at ", "taskstats: ", "received ")
    rows = [line for line in text.splitlines() if not line.strip().startswith(remarks)]
    assert max(map(len, rows)) <= columns


def test_a_narrow_terminal_leaves_columns_out_and_says_so() -> None:
    needs_processes()
    _, narrow = terminal.run([TASKSTATS, "query", "1"], 80)
    _, wide = terminal.run([TASKSTATS, "query", "1"], 200)
    assert "BLKIO DELAY" in wide
    assert "left out at 80 columns" in narrow
    assert "left out" not in wide
    _, narrow = terminal.run([TASKSTATS, "exits", "--for", "0"], 60)
    _, wide = terminal.run([TASKSTATS, "exits", "--for", "0"], 120)
    assert "left out at 60 columns: PPID" in narrow
    assert "left out" not in wide


@pytest.mark.parametrize("columns", [1, 20])
@pytest.mark.parametrize(
    "command", [["fields"], ["exits", "--for", "0"], ["query", "1"], ["doctor"]]
)
def test_a_tiny_terminal_is_no_error(command: list[str], columns: int) -> None:
    status, text = terminal.run([TASKSTATS, *command], columns)
    assert status == 0, text
    assert len(text.splitlines()) > 1


def test_a_pipe_is_no_terminal_whatever_the_environment_says() -> None:
    environment = {**os.environ, "FORCE_COLOR": "1"}
    shown = subprocess.check_output([TASKSTATS, "query", "1"], env=environment, text=True)
    assert "BLKIO DELAY" in shown
    assert "left out" not in shown


# ---- odd streams -----------------------------------------------------------------------------


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&- <&-"])
@pytest.mark.parametrize("command", ["query 1", "doctor", "exits --for 0.1 --json", "fields"])
def test_a_closed_stream_is_no_error(closed: str, command: str) -> None:
    shell = f'exec "$0" {command} {closed}'
    answered = subprocess.run(["sh", "-c", shell, TASKSTATS], capture_output=True, text=True)
    assert answered.returncode == 0
    assert "Traceback" not in answered.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "command",
    [
        "query 1",
        "doctor",
        "exits --for 1 --json",
        "fields --csv",
        "--help",
        "--version",
        "fields -h",
        "complete",
    ],
)
def test_a_full_disk_is_told(command: str, unbuffered: str) -> None:
    shell = f'exec "$0" {command} >/dev/full'
    if command == "complete":
        shell = '_TASKSTATS_COMPLETE=bash_source exec "$0" >/dev/full'
    answered = subprocess.run(
        ["sh", "-c", shell, TASKSTATS],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    )
    assert answered.returncode == 1
    assert answered.stderr.endswith("Error: stdout: No space left on device\n")
    assert ("received " in answered.stderr) is command.startswith("exits")
    assert "Traceback" not in answered.stderr


def test_a_name_that_the_locale_has_no_letters_for() -> None:
    def named() -> str:
        Path("/proc/self/comm").write_bytes("日本".encode())
        environment = {**os.environ, "LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
        command = [TASKSTATS, "query", str(os.getpid())]
        return subprocess.check_output(command, env=environment, text=True)

    assert "\\u65e5\\u672c" in child.run(named)


@contextmanager
def unread() -> Iterator[int]:
    """A pipe that nobody reads."""
    reading, writing = os.pipe()
    os.close(reading)
    yield writing
    os.close(writing)


@contextmanager
def full() -> Iterator[IO[str]]:
    """A disk that is full."""
    with open("/dev/full", "w") as disk:  # noqa: PTH123 - not a path of ours
        yield disk


@pytest.mark.parametrize("broken", [unread, full])
@pytest.mark.parametrize(
    ("command", "lines", "status"),
    [
        ("exits --json --for 0 --comm nobody", 1, 0),
        ("query --json 1 5000000", 2, 1),
        ("cgroup --json /tmp", 1, 1),
        ("exits --nonsense", 0, 2),
        ("query", 0, 2),
    ],
)
def test_an_stderr_that_fails_changes_nothing(
    command: str, lines: int, status: int, broken: Callable[[], AbstractContextManager[Any]]
) -> None:
    with broken() as stderr:
        answered = subprocess.run(
            [TASKSTATS, *command.split()], stdout=subprocess.PIPE, stderr=stderr, text=True
        )
    assert answered.returncode == status
    assert answered.stdout.count("\n") == lines


def test_a_closed_pipe_does_not_hide_a_loss() -> None:
    cpu = min(os.sched_getaffinity(0))
    with listening("--json", "--threads", "--cpus", str(cpu), "--strict") as process:
        overflow(cpu, process)
        assert process.stdout is not None
        process.stdout.close()
        process.send_signal(signal.SIGCONT)
        assert process.wait() == 3


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("--help", 0),
        ("--version", 0),
        ("fields", 0),
        ("fields --help", 0),
        ("query 1", 0),
        ("query 1 5000000", 1),
        ("cgroup /tmp", 1),
        ("exits --for 0", 0),
    ],
)
def test_a_pipe_that_nobody_reads_changes_no_status(command: str, status: int) -> None:
    with unread() as stdout:
        words = [TASKSTATS, *command.split()]
        answered = subprocess.run(words, stdout=stdout, stderr=subprocess.DEVNULL)
    assert answered.returncode == status


def test_not_ready_is_not_ready_whoever_reads_it() -> None:
    words = ["unshare", "--net", TASKSTATS, "doctor"]
    with unread() as stdout:
        answered = subprocess.run(words, stdout=stdout, stderr=subprocess.PIPE, text=True)
    assert (answered.returncode, answered.stderr) == (1, "")


def test_ctrl_c_while_it_starts_ends_it_without_a_word() -> None:
    slow = "import sys; sys.modules['click'] = None"  # then main ends by itself
    program = f"import os, signal; from taskstats.cli import main; {slow}\ntry: main()\nexcept"
    program += " SystemExit: os.kill(os.getpid(), signal.SIGINT)"
    answered = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert answered.returncode == -signal.SIGINT
    assert answered.stderr == ""


def test_what_is_ignored_stays_ignored() -> None:
    needs_processes()
    ignore = f"trap '' INT; exec \"{TASKSTATS}\" exits --json"
    with subprocess.Popen(
        ["sh", "-c", ignore], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert any(line.startswith("listening") for line in process.stderr)
        process.send_signal(signal.SIGINT)
        pid = child.spawn_and_reap()
        output, _ = ended(process)
    assert pid in [one["pid"] for one in mine(output)]


# ---- wrong usage -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ("query", "-1"),
        ("query", "99999999999"),
        ("query",),
        ("query", "--all", "1"),
        ("exits", "--for", "inf"),
        ("exits", "--for", "nan"),
        ("exits", "--for", "-1"),
        ("exits", "--for", "soon"),
        ("exits", "--user", "9" * 5000),
        ("exits", "--user", "4294967296"),
        ("exits", "--count", "0"),
        ("exits", "--user", "no such user"),
        ("exits", "--fields", "no_such_field"),
        ("exits", "--cpus", "x"),
        ("cgroup",),
        ("nothing",),
    ],
)
def test_arguments_that_make_no_sense(arguments: tuple[str, ...]) -> None:
    result = CliRunner().invoke(taskstats, arguments)
    assert isinstance(result.exception, SystemExit)
    assert result.exit_code == 2


def test_wrong_usage_is_told_on_stderr() -> None:
    answered = run("query", "-1", status=2)
    assert answered.stderr.startswith("Usage: taskstats query")
    assert answered.stdout == ""


def test_a_name_that_is_nearly_right() -> None:
    errors = run("exits", "--fields", "ac_utme", status=2).stderr
    assert "did you mean" in errors
    assert "ac_utime" in errors
