"""A command run by `taskstats.launch`: what it is given, how it ends, which signals it gets."""

import contextlib
import errno
import itertools
import json
import os
import resource
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import launched
from support.terminal import Dialogue

from taskstats import launch
from taskstats.cli.run import run

PYTHON = sys.executable
TELLING = (PYTHON, "-P", str(Path(__file__).parents[1] / "support/telling.py"))


def quoted(*command: str) -> str:
    """The program that runs the command, for a shell's line."""
    return shlex.join(launched.words(*command))


# ---- what it is given ------------------------------------------------------------------------


def test_a_command_has_all_that_its_parent_has(tmp_path: Path) -> None:
    ask = (
        "import os, json, resource, sys; print(json.dumps([os.getpgrp(), os.getsid(0), os.getcwd(),"
        " os.umask(0), os.nice(0), resource.getrlimit(resource.RLIMIT_NOFILE),"
        " sorted(os.listdir('/proc/self/fd')), sys.stdin.read()]))"
    )

    def prepare() -> None:
        os.umask(0o027)
        os.nice(3)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft - 1, hard))

    def told(words: list[str]) -> list[object]:
        output = subprocess.run(
            words,
            cwd=tmp_path,
            input="text",
            capture_output=True,
            text=True,
            preexec_fn=prepare,
            check=True,
        ).stdout
        return list(json.JSONDecoder().raw_decode(output)[0])

    assert told(launched.words(PYTHON, "-c", ask)) == told([PYTHON, "-c", ask])


@pytest.mark.parametrize(
    "environment",
    [{"LANG": "C"}, {"LC_CTYPE": "C"}, {"LC_CTYPE": "POSIX", "PATH": "/bin"}, {"A": "\udcff"}],
)
def test_the_environment_is_the_one_that_was_given(environment: dict[str, str]) -> None:
    made = launched.run("/usr/bin/env", "-0", env=environment, errors="surrogateescape")
    assert made.stdout.removesuffix("out ").split("\0")[:-1] == [
        f"{name}={value}" for name, value in environment.items()
    ]


@pytest.mark.parametrize(
    ("ignored", "blocked"),
    [((), ()), ((signal.SIGINT, signal.SIGHUP), ()), ((signal.SIGCHLD,), (signal.SIGUSR1,))],
)
def test_dispositions_and_mask_are_those_of_the_start(
    ignored: tuple[int, ...], blocked: tuple[int, ...]
) -> None:
    def prepare() -> None:
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_IGN if number in ignored else signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

    lines = ["/bin/grep", "-E", "^Sig(Ign|Blk)", "/proc/self/status"]
    bare = subprocess.check_output(lines, text=True, preexec_fn=prepare)
    made = launched.run(*lines, preexec_fn=prepare)
    assert made.stdout == bare + "out "
    assert made.returncode == 0


def test_a_command_has_the_default_of_what_python_ignores() -> None:
    """Whether the caller ignored it is lost; env(1) can ignore it again."""

    def ignored(*words: str) -> int:
        status = ["/bin/grep", "^SigIgn", "/proc/self/status"]
        ignoring = signal.SIG_IGN
        made = launched.run(
            *words, *status, preexec_fn=lambda: signal.signal(signal.SIGPIPE, ignoring)
        )
        assert made.returncode == 0, made.stderr
        return int(made.stdout.split()[1], 16)

    pipe = 1 << (signal.SIGPIPE - 1)
    assert not ignored() & pipe
    assert "SIGPIPE and SIGXFSZ" in (run.help or "")
    option = "--ignore-signal"
    if option in subprocess.run(["env", "--help"], capture_output=True, text=True).stdout:
        assert ignored("env", f"{option}=PIPE") & pipe


# ---- how it ends -----------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0, 1, 7, 255])
def test_its_exit_status_is_ours(code: int) -> None:
    made = launched.run("sh", "-c", f"printf 'in '; exit {code}")
    assert (made.returncode, made.stdout) == (code, "in out ")


@pytest.mark.parametrize("name", ["TERM", "KILL", "SEGV", "INT", "PIPE", "RTMIN", "ALRM", "QUIT"])
def test_its_signal_is_ours(name: str, tmp_path: Path) -> None:
    def prepare() -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.RLIM_INFINITY))

    words = ["sh", "-c", f"kill -{int(signal.Signals[f'SIG{name}'])} $$"]
    bare = subprocess.run(words, cwd=tmp_path, preexec_fn=prepare)
    made = launched.run(*words, cwd=tmp_path, preexec_fn=prepare)
    assert made.returncode == bare.returncode < 0
    assert made.stdout == "out "


def test_no_core_is_dumped_but_the_command_s() -> None:
    process = subprocess.Popen([PYTHON, "-c", "from taskstats import launch; launch.die_like(11)"])
    _, status = os.waitpid(process.pid, 0)
    process.returncode = 0
    assert os.WTERMSIG(status) == signal.SIGSEGV
    assert not os.WCOREDUMP(status)


def test_what_cannot_be_run(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("exit 3")
    (tmp_path / "orphan").write_text("#!/no/such/interpreter\n")
    (tmp_path / "orphan").chmod(0o755)
    for command, code, status in (
        ("no-such-command", errno.ENOENT, 127),
        ("", errno.ENOENT, 127),
        ("./missing", errno.ENOENT, 127),
        ("./orphan", errno.ENOENT, 127),
        (str(tmp_path), errno.EACCES, 126),
        ("./plain", errno.EACCES, 126),
        ("./plain/x", errno.ENOTDIR, 126),
        ("x" * 300, errno.ENAMETOOLONG, 126),
    ):
        made = launched.run(command, cwd=tmp_path)
        assert made.stderr == f"{command}: {os.strerror(code)}\n"
        assert (made.returncode, made.stdout) == (status, "")


def test_a_script_without_a_first_line_is_the_shell_s(tmp_path: Path) -> None:
    (tmp_path / "script").write_text('echo "$0 $1"; exit 3\n')
    (tmp_path / "script").chmod(0o755)
    made = launched.run("script", "word", env={"PATH": f"/nowhere:{tmp_path}"})
    assert made.stdout == f"{tmp_path}/script word\nout "
    assert made.returncode == 3


def test_a_command_that_is_not_let_go_never_runs(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from taskstats import launch\n"
        "before = signal.pthread_sigmask(0, []), signal.getsignal(17)\n"
        "with launch.Command(['touch', sys.argv[1]]) as command: pass\n"
        "assert (signal.pthread_sigmask(0, []), signal.getsignal(17)) == before\n"
        "try: os.kill(command.pid, 0)\n"
        "except ProcessLookupError: print('gone')"
    )
    made = subprocess.check_output([PYTHON, "-c", program, str(tmp_path / "made")], text=True)
    assert made == "gone\n"
    assert not (tmp_path / "made").exists()


def test_a_process_that_is_killed_at_the_gate_was_not_the_command(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys\nfrom taskstats import launch\n"
        "with launch.Command(['touch', sys.argv[1]]) as command:\n"
        "    command.await_gate()\n"
        "    os.kill(command.pid, signal.SIGKILL)\n"
        "    try:\n        command.wait()\n"
        "    except OSError as error:\n        print(error.strerror)\n"
    )
    done = subprocess.run(
        [PYTHON, "-c", script, tmp_path / "touched"], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "Killed before it was the command\n"), done.stderr
    assert not (tmp_path / "touched").exists()


# ---- what it costs ---------------------------------------------------------------------------

_BURN = "import time\nwhile time.process_time() < 0.2: pass\n"


def test_an_orphan_that_ends_before_the_command_is_counted() -> None:
    # It is gone for the shell once it has been reaped, which only we can do.
    begin = f'pid=$("{PYTHON}" -c "$1" >&2 & echo $!)'
    made = launched.run(
        *launched.shell(f"{begin}; while kill -0 $pid 2>&-; do sleep 0.01; done", _BURN)
    )
    told = launched.cost(made.stderr)["usage"]
    assert told["user_ns"] + told["system_ns"] >= 180_000_000


def test_a_grandchild_that_lives_on_is_not_waited_for() -> None:
    # It waits for the end of our pipe, and holds none of those that tell us the outcome.
    script = "exec 3<&0; cat <&3 >/dev/null 2>&1 & echo $!"
    with subprocess.Popen(
        launched.words("sh", "-c", script),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        living, out = process.stdout.read().split()
        assert process.wait() == 0
        os.kill(int(living), 0)
    assert out == "out"


def test_children_of_before_are_no_orphans_of_the_command() -> None:
    script = f'"{PYTHON}" -c "$1" & shift; exec "$@"'
    words = launched.words(PYTHON, "-c", _WAIT_FOR_OTHERS)
    made = subprocess.run(
        launched.shell(script, _BURN, *words), capture_output=True, text=True, check=True
    )
    told = launched.cost(made.stderr)["usage"]
    own_ns = int(made.stdout.split()[0])
    assert told["user_ns"] + told["system_ns"] - own_ns < 180_000_000, "the other one is counted"


#: Until the parent has no child but this one. Prints the CPU time that it has used.
_WAIT_FOR_OTHERS = """
import os, time
children = f"/proc/{os.getppid()}/task/{os.getppid()}/children"
while len(open(children).read().split()) > 1: os.sched_yield()
print(time.process_time_ns(), flush=True)
"""


def test_what_was_spent_before_exec_is_taken_off() -> None:
    told = launched.cost(launched.run("true").stderr)
    assert told["before"]["minor_faults"] > 0
    assert told["usage"]["minor_faults"] > 0
    assert told["usage"]["max_rss_bytes"] is None, "it was larger before its exec"
    orphaned = launched.run(*launched.shell("(true &) | cat"))
    assert launched.cost(orphaned.stderr)["usage"]["max_rss_bytes"] is None
    grown = launched.run(PYTHON, "-c", "bytearray(b'x') * (100 << 20)")
    assert launched.cost(grown.stderr)["usage"]["max_rss_bytes"] > 100 << 20


def test_usage_adds_up() -> None:
    one = launch.Usage(1, 2, 3 << 30, 4, 5, 6, 7, 8, 9)
    other = launch.Usage(10, 20, 1 << 30, 40, 50, 60, 70, 80, 90)
    assert one + other == launch.Usage(11, 22, 3 << 30, 44, 55, 66, 77, 88, 99)
    assert other.since(launch.Usage(1, 2, None, 4, 5, 6, 7, 8, 9)) == launch.Usage(
        9, 18, 1 << 30, 36, 45, 54, 63, 72, 81
    )
    assert other.since(one).max_rss_bytes is None


def test_a_command_whose_children_are_not_waited_for() -> None:
    script = "import os, signal; signal.signal(17, signal.SIG_IGN); os.fork() or os._exit(3)"
    assert launched.run(PYTHON, "-c", script).returncode == 0


# ---- signals sent by processes ---------------------------------------------------------------


@contextlib.contextmanager
def telling(*numbers: int, **settings: object) -> Iterator[subprocess.Popen[str]]:
    """One that tells its signals, run, and ready."""
    words = launched.words(*TELLING, *map(str, (*numbers, signal.SIGTERM)))
    with subprocess.Popen(
        words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **settings
    ) as process:  # type: ignore[call-overload]
        assert process.stdout.readline() == "ready\n"
        yield process


PASSED = (
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGHUP,
    signal.SIGUSR1,
    signal.SIGUSR2,
    signal.SIGALRM,
    signal.SIGWINCH,
    signal.SIGPIPE,
    signal.SIGABRT,
    signal.SIGRTMIN,
)


def test_signals_sent_to_us_are_passed_on() -> None:
    with telling(*PASSED) as process:
        assert process.stdout is not None
        for number in PASSED:
            process.send_signal(number)
            assert process.stdout.readline() == signal.Signals(number).name + "\n"
        process.terminate()
        output, _ = process.communicate()
    assert output == "SIGTERM\nout "
    assert process.returncode == 9


def test_what_the_command_sends_to_its_group_it_gets_once() -> None:
    script = 'trap "echo got" TERM; kill 0; kill -USR1 $PPID; echo on'
    made = launched.run("sh", "-c", script, start_new_session=True)
    assert made.stdout == "got\non\nout "
    assert made.returncode == 0


def test_an_alarm_set_before_is_the_command_s() -> None:
    program = (
        "import signal; from taskstats import launch\n"
        "with launch.Command(['sleep', '60']) as command:\n"
        "    signal.setitimer(signal.ITIMER_REAL, 0.001)\n"
        "    print(command.wait().status)"
    )
    made = subprocess.check_output([PYTHON, "-c", program], text=True)
    assert int(made) == signal.SIGALRM


def test_timeout_ends_it_and_the_cost_is_told() -> None:
    words = launched.words("sh", "-c", "echo up; exec sleep 1000")
    for seconds in (0.5 * 2**i for i in itertools.count()):
        made = subprocess.run(["timeout", str(seconds), *words], capture_output=True, text=True)
        if made.stdout:  # else the machine was busy, and the command had not begun
            break
    assert made.stdout == "up\nout "
    assert made.returncode == 124
    assert launched.cost(made.stderr)["status"] == signal.SIGTERM


def test_under_nohup_a_hangup_does_nothing() -> None:
    words = ["nohup", *launched.words("sh", "-c", "kill -HUP $$; echo on")]
    made = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert (made.returncode, made.stdout) == (0, "on\nout ")


def test_pipes_end_as_they_do_without_us() -> None:
    head = f"{quoted('yes')} 2>/dev/null | head -1; echo ${{PIPESTATUS[0]}}"
    assert subprocess.check_output(launched.shell(head), text=True) == "y\n141\n"
    inner = f"yes | {quoted('head', '-1')} 2>/dev/null; echo ${{PIPESTATUS[*]}}"
    assert subprocess.check_output(launched.shell(inner), text=True) == "y\nout 141 0\n"


# ---- a terminal and its shell ----------------------------------------------------------------


@pytest.mark.parametrize(("key", "name"), [("\x03", "SIGINT"), ("\x1c", "SIGQUIT")])
def test_a_key_reaches_the_command_once(key: str, name: str) -> None:
    numbers = (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
    with Dialogue() as bash:
        bash.say(quoted(*TELLING, *map(str, numbers)))
        bash.expect(r"\nready\r\n")
        bash.press(key)
        bash.expect(rf"{name}\r\n")
        child = int(subprocess.check_output(["pgrep", "-P", str(bash.pid)]))
        os.kill(child, signal.SIGTERM)
        assert name not in bash.expect(r"SIGTERM\r\n")
        bash.expect("ready> ")
        bash.say("echo =$?=")
        assert bash.expect(r"=(\d+)=\r") == "9"


def test_ctrl_c_ends_a_loop_as_it_does_without_us() -> None:
    with Dialogue() as bash:
        bash.say(f"for i in 1 2; do {quoted('sh', '-c', 'echo up; exec sleep 60')}; done")
        bash.expect(r"\nup\r\n")
        bash.press("\x03")
        assert "up\r\n" not in bash.expect("ready> ")
        bash.say("echo =$?=")
        assert bash.expect(r"=(\d+)=\r") == "130"


def test_ctrl_z_stops_and_fg_continues() -> None:
    with Dialogue() as bash:
        bash.say(quoted(*TELLING, str(int(signal.SIGCONT))))
        bash.expect(r"\nready\r\n")
        for _ in range(3):
            bash.press("\x1a")
            bash.expect(r"Stopped[^\n]*\n(?:.|\n)*ready> ")
            bash.say("fg")
            bash.expect(r"\nSIGCONT\r\n")
        bash.press("\x03")
        bash.expect("ready> ")


def test_ctrl_z_that_the_command_ignores_stops_nothing() -> None:
    with Dialogue() as bash:
        bash.say(quoted("bash", "-c", "trap '' TSTP; echo up; read line; echo got $line"))
        bash.expect(r"\nup\r\n")
        bash.press("\x1a")
        bash.say("a line")
        assert "Stopped" not in bash.expect(r"got a line\r\n")


def test_a_command_stopped_alone_is_seen_by_the_shell() -> None:
    with Dialogue() as bash:
        bash.say(quoted("sh", "-c", "kill -STOP $$; echo on"))
        bash.expect(r"Stopped[^\n]*\n(?:.|\n)*ready> ")
        bash.say("fg")
        bash.expect(r"\non\r\n")
        bash.expect("ready> ")


def test_a_background_job_that_reads_is_stopped() -> None:
    with Dialogue() as bash:
        bash.say(quoted("sh", "-c", "read line; echo got $line") + " &")
        bash.say("wait %1; echo waited")
        bash.expect(r"waited\r\nready> ")
        bash.say("jobs -l")
        bash.expect(r"Stopped \(tty input\)")
        bash.say("fg")
        bash.say("a line")
        bash.expect(r"got a line\r\n")


def test_a_shell_with_job_control_takes_the_terminal_and_gives_it_back() -> None:
    with Dialogue() as bash:
        inner = quoted("bash", "--norc", "--noprofile", "--noediting", "-i")
        bash.say(f"PS1='inner> ' {inner}")
        bash.expect(r"\ninner> ")
        bash.say("sh -c 'echo up; read line; echo got $line'")
        bash.expect(r"\nup\r\n")
        bash.press("\x1a")
        bash.expect(r"Stopped[^\n]*\n(?:.|\n)*inner> ")
        bash.say("fg")
        bash.say("a line")
        bash.expect(r"got a line\r\n")
        bash.expect("inner> ")
        bash.say("suspend")
        bash.expect(r"Stopped[^\n]*\n(?:.|\n)*ready> ")
        bash.say("fg")
        bash.say("echo =$((40 + 2))=")
        bash.expect(r"=42=\r\n")
        bash.say("exit 5")
        bash.expect(r"exit\r\n(?:.|\n)*ready> ")
        bash.say("echo =$?=")
        assert bash.expect(r"=(\d+)=\r") == "5"


@pytest.mark.skipif(not shutil.which("vim"), reason="needs vim")
def test_vim_is_stopped_and_goes_on(tmp_path: Path) -> None:
    with Dialogue() as bash:
        bash.say(quoted("vim", "-u", "NONE", "-i", "NONE", "-n", str(tmp_path / "text")))
        bash.expect("New")
        bash.press("ifirst\x1b\x1a")
        bash.expect(r"Stopped[^\n]*\n(?:.|\n)*ready> ")
        bash.say("fg")
        bash.expect("first")
        bash.press(":wq\r")
        bash.expect('"status": 0,')
    assert (tmp_path / "text").read_text() == "first\n"


def test_script_gives_it_a_terminal(tmp_path: Path) -> None:
    words = ["script", "-qec", quoted("sh", "-c", "tty; exit 4"), str(tmp_path / "log")]
    made = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert made.returncode == 4
    assert made.stdout.startswith("/dev/pts/")


def test_where_no_shell_could_continue_us_we_are_not_stopped() -> None:
    with telling(start_new_session=True) as process:
        assert process.stdout is not None
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
        command = int(children)
        os.kill(command, signal.SIGSTOP)
        while _line(command, "State") != "T":
            os.sched_yield()
        process.terminate()  # passed on to one that is stopped: only if we are not
        while not int(_line(command, "ShdPnd"), 16) >> (signal.SIGTERM - 1) & 1:
            assert _line(process.pid, "State") != "T"
        os.kill(command, signal.SIGCONT)
        output, _ = process.communicate()
    assert output == "SIGTERM\nout "
    assert process.returncode == 9


def _line(pid: int, name: str) -> str:
    status = Path(f"/proc/{pid}/status").read_text()
    return next(line for line in status.splitlines() if line.startswith(name)).split()[1]
