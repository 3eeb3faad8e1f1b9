"""`taskstats run` on the real kernel: what it counts, beside others who count."""

import json
import os
import re
import resource
import shlex
import signal
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import terminal
from support.command import STORM, TASKSTATS
from support.requirements import lacks, needs_probe, needs_processes, needs_program, skip
from support.storm import CPUS, Storm

import taskstats

SHELL = "/bin/sh"


@pytest.fixture(autouse=True)
def _processes() -> None:
    needs_processes()
    needs_probe()  # without, what is undecided depends on when it is read


class Run:
    """A command run by `taskstats run`.

    Attributes:
        status: Its exit status, or minus the signal.
        output: What it wrote to stdout.
        errors: What stands on stderr, the report last.
        figures: What --json has written.
    """

    def __init__(self, path: Path, *words: str, options: tuple[str, ...] = (), **also: Any) -> None:
        file = path / f"{uuid.uuid4().hex}.json"
        command = [TASKSTATS, "run", *options, "--json", str(file), "--", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, **also)
        assert "Traceback" not in done.stderr
        self.status, self.output, self.errors = done.returncode, done.stdout, done.stderr
        written = file.read_text()
        self.figures: dict[str, Any] = json.loads(written) if written else {}

    @property
    def total(self) -> dict[str, Any]:
        total: dict[str, Any] = self.figures["total"]
        return total

    def processes(self, comm: str) -> int:
        """How many of one name."""
        return sum(c["processes"] for c in self.figures["commands"] if c["comm"] == comm)


def test_two_hundred_short_lived_children_are_two_hundred(tmp_path: Path) -> None:
    run = Run(tmp_path, SHELL, "-c", "for i in $(seq 200); do /bin/true; done")
    assert run.processes("true") == 200
    assert run.processes("sh") + run.processes("seq") == run.total["processes"] - 200 in (2, 3)
    assert run.figures["complete"] is True
    assert run.figures["lost"] == 0
    assert run.status == 0
    assert re.search(r"^true +200 +0 ", run.errors, re.MULTILINE)


def counted_by_strace(trace: Path) -> tuple[int, int]:
    """Processes and threads that strace has seen, itself not among them."""
    begun: set[str] = set()
    unfinished: dict[str, str] = {}
    made, threads = 0, 0
    for line in trace.read_text(errors="replace").splitlines():
        pid, told = line.split(maxsplit=1)
        begun.add(pid)
        if told.endswith("<unfinished ...>"):
            unfinished[pid] = told
            continue
        if told.startswith("<... "):
            told = unfinished.pop(pid, "") + told
        if re.match(r"(clone|clone3|fork|vfork)\(", told) and re.search(r"= \d+$", told):
            made += 1
            threads += "CLONE_THREAD" in told
    assert len(begun) == made + 1
    return len(begun) - threads, len(begun)


MAKEFILE = """
OBJECTS := $(foreach n,1 2 3 4 5 6 7 8,o$(n).o)
program: $(OBJECTS)
\tgcc -o $@ $^ main.c
o%.o: ; echo 'int f$*(void) { return $*; }' > o$*.c && gcc -c -o $@ o$*.c
"""

POOL = """
import multiprocessing
with multiprocessing.Pool(4) as pool:
    assert sum(pool.map(abs, range(1000))) == 499500
"""


@pytest.mark.parametrize("workload", ["make", "pool"])
def test_processes_are_as_many_as_strace_counts(workload: str, tmp_path: Path) -> None:
    needs_program("strace")
    needs_program("make")
    (tmp_path / "Makefile").write_text(MAKEFILE)
    (tmp_path / "main.c").write_text("int main(void) { return 0; }\n")
    words = {"make": ["make", "-s", "-j4"], "pool": [sys.executable, "-c", POOL]}[workload]
    trace = tmp_path / "trace"
    strace = ["strace", "-f", "-qq", "-s", "0", "-e", "trace=process", "-o", str(trace)]
    run = Run(tmp_path, *strace, *words, cwd=tmp_path)
    processes, threads = counted_by_strace(trace)
    assert run.status == 0
    assert run.figures["complete"] is True
    assert run.total["processes"] - run.processes("strace") == processes > 4
    assert run.total["threads"] - run.processes("strace") == threads


ORPHAN = """
import os, sys
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.read(0, 1)  # until its parent is gone
        os.execv("/bin/sh", ["sh", "-c", "echo > done"])
    os._exit(0)
os.wait()
"""


def test_a_double_forked_orphan_is_the_commands_and_no_stranger_is(tmp_path: Path) -> None:
    script = f"""exec 3<>gate
        {shlex.quote(sys.executable)} -c {shlex.quote(ORPHAN)} <&3 3<&-
        echo >&3; read line < done"""
    for name in ("gate", "done"):
        os.mkfifo(tmp_path / name)
    with Storm("processes", rate=2000) as storm:
        storm.begin()
        run = Run(tmp_path, SHELL, "-c", script, cwd=tmp_path)
        assert storm.finish() > 0
    assert run.status == 0
    assert run.figures["complete"] is True
    names = {one["comm"]: one["processes"] for one in run.figures["commands"]}
    assert names.pop("sh") == 2  # the shell, and the orphan
    (python,) = names.values()
    assert python == 2
    # An orphan stands under the process that has made it, where the probe has seen that.
    tops = [one for one in run.figures["tree"] if one["parent"] is None]
    assert len(tops) == (1 if run.figures["probe"] else 2)


def test_two_at_once_have_a_hundred_children_each(tmp_path: Path) -> None:
    script = "read go < {}; i=0; while [ $i -lt 100 ]; do /bin/true; i=$((i+1)); done"
    running = []
    for name in ("one", "two"):
        os.mkfifo(tmp_path / name)
        json_path = tmp_path / f"{name}.json"
        words = [TASKSTATS, "run", "--json", str(json_path), "--", SHELL, "-c", script.format(name)]
        running.append((json_path, subprocess.Popen(words, cwd=tmp_path, stderr=subprocess.PIPE)))
    gates = [os.open(tmp_path / name, os.O_RDWR) for name in ("one", "two")]
    for gate in gates:
        os.write(gate, b"go\n")
    for json_path, process in running:
        process.communicate()
        os.close(gates.pop())
        figures = json.loads(json_path.read_text())
        names = {one["comm"]: one["processes"] for one in figures["commands"]}
        assert names == {"sh": 1, "true": 100}
        assert figures["complete"] is True


def test_a_run_within_a_run_is_right_as_well(tmp_path: Path) -> None:
    inner = tmp_path / "inner.json"
    script = "for i in 1 2 3 4 5; do /bin/true; done; exit 3"
    run = Run(tmp_path, TASKSTATS, "run", "--json", str(inner), SHELL, "-c", script)
    figures = json.loads(inner.read_text())
    assert {one["comm"]: one["processes"] for one in figures["commands"]} == {"sh": 1, "true": 5}
    assert run.status == figures["exit_code"] == 3
    assert run.processes("true") == 5
    assert run.processes("sh") == 1
    assert run.total["processes"] == 7  # the inner one too
    assert (run.figures["complete"], figures["complete"]) == (True, True)


# ---- CPU time and memory ---------------------------------------------------------------------


@pytest.fixture(params=["cgroup", "cgroup2"])
def cgroup(request: pytest.FixtureRequest) -> Iterator[Path]:
    """An empty cgroup that counts CPU time."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, _, right = line.partition(" - ")
        kind, _, options = right.split()
        if kind == request.param and (kind == "cgroup2" or "cpuacct" in options.split(",")):
            path = Path(left.split()[4]) / f"taskstats-{uuid.uuid4().hex}"
            break
    else:
        lacks(f"a {request.param} that counts CPU time")
    try:
        path.mkdir()
    except OSError as error:
        skip(f"no cgroup can be made in {path.parent}: {error}")
    yield path
    path.rmdir()


def cpu_of(cgroup: Path) -> float:
    """Seconds, by the kernel."""
    if (cgroup / "cpuacct.usage").exists():
        return int((cgroup / "cpuacct.usage").read_text()) / 1e9
    return int((cgroup / "cpu.stat").read_text().split()[1]) / 1e6


#: For each of its children it prints the pid, and the CPU time that wait4 tells.
BURN = """
import os, sys, time
for _ in range(100):
    child = os.fork()
    if child == 0:
        while time.process_time() < float(sys.argv[1]):
            pass
        os._exit(0)
    used = os.wait4(child, 0)[2]
    print(child, used.ru_utime + used.ru_stime)
"""

#: Enters a cgroup. Prints the CPU time used until then.
ENTER = """
import os, sys, time
with open(sys.argv[2], "w") as procs:
    procs.write(str(os.getpid()))
print(time.process_time(), flush=True)
"""


def test_cpu_time_is_that_of_the_kernels_own_cgroup(tmp_path: Path, cgroup: Path) -> None:
    """The command puts itself in a cgroup, which counts all but what was used before that."""
    procs = str(cgroup / "cgroup.procs")
    run = Run(tmp_path, sys.executable, "-S", "-c", ENTER + BURN, "0.02", procs)
    truth = cpu_of(cgroup)
    used_before = float(run.output.split()[0])
    assert run.figures["cpu_seconds"] - used_before <= truth + 1e-5  # cgroup2 rounds down
    # A process that has been waited for may still be on its way off its CPU.
    assert truth <= run.figures["cpu_seconds"] * 1.01
    if run.figures["cpu_source"] == "records":  # for the same reason they may have more than wait4
        assert run.figures["unsettled"] == 0
        return
    assert run.figures["cpu_source"] == "wait4"
    rows = sum(one["cpu_seconds"] for one in run.figures["commands"])
    before = run.figures["before_exec"]
    rows -= (before["user_ns"] + before["system_ns"]) / 1e9
    added_up = rows + run.figures["teardown_seconds"]
    assert added_up == pytest.approx(run.figures["cpu_seconds"])
    rounding = 2e-6 * (run.figures["total"]["processes"] + 1)
    left = run.figures["unsettled"] > 0 or abs(run.figures["teardown_seconds"]) > rounding
    assert ("(exit teardown)" in run.errors) is left


TICK = time.clock_getres(6)  # CLOCK_MONOTONIC_COARSE, which ticks advance


def test_what_ticks_tell_of_short_processes_is_off_and_the_schedulers_sum_is_not() -> None:
    burnt = (0.02 // TICK + 0.5) * TICK  # half a tick from what any number of them can tell
    longer = taskstats.Where(min_elapsed=0.02)  # nobody reads meanwhile, and others may exit
    with taskstats.ExitListener(where=longer) as listener:
        words = [sys.executable, "-S", "-c", BURN, str(burnt)]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as parent:
            told, _ = parent.communicate()
        listener.stop()
        records = [record for batch in listener.batches() for record in batch]
    used: dict[int, float] = {}
    for pid, seconds in map(str.split, told.splitlines()):  # a busy machine gives a pid out again
        used[int(pid)] = max(float(seconds), used.get(int(pid), 0))
    burners = [record for record in records if record.ac_ppid == parent.pid]
    assert len(burners) == 100
    if not any(record.cpu_run_virtual_total % round(TICK * 1e9) for record in burners):
        lacks("a scheduler's clock finer than ticks")
    exact = [record.cpu_run_virtual_total / 1e9 for record in burners]
    sampled = [(record.ac_utime + record.ac_stime) / 1e6 for record in burners]
    for record, seconds in zip(burners, exact, strict=True):
        assert burnt <= seconds <= used[record.ac_pid] + 1e-5  # wait4's are rounded down
    off = [abs(one - other) for one, other in zip(exact, sampled, strict=True)]
    assert statistics.median(off) > TICK / 4


#: Its children are reaped by the kernel, and no part of what wait4 tells of it.
BLIND = """
import os, signal, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for _ in range(20):
    if os.fork() == 0:
        end = time.process_time() + 0.02
        while time.process_time() < end:
            pass
        os._exit(0)
try:
    os.wait()
except ChildProcessError:
    pass
"""


def test_a_cgroup_of_its_own_is_believed(tmp_path: Path, cgroup: Path) -> None:
    procs = cgroup / "cgroup.procs"
    words = [TASKSTATS, "run", "--json", str(tmp_path / "j"), sys.executable, "-S", "-c", BLIND]
    enter = f"echo $$ > {procs}; exec {shlex.join(words)}"
    done = subprocess.run([SHELL, "-c", enter], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "j").read_text())
    assert figures["cpu_source"] == "cgroup"
    assert 0.4 < figures["cpu_seconds"] <= cpu_of(cgroup)


BUSY = """
import time
from taskstats.cgroup_cpu import OwnCgroup
cgroup = OwnCgroup.find()
for _ in range(200):
    end = time.perf_counter_ns() + 3_300_000
    while time.perf_counter_ns() < end:
        pass
    print(cgroup.cpu_ns())
"""


def test_the_own_time_is_left_out_of_the_cgroups(cgroup: Path) -> None:
    """The kernel adds a running thread's time to its cgroup's at each tick alone."""
    enter = f"echo $$ > {cgroup / 'cgroup.procs'}; exec {shlex.join([sys.executable, '-c', BUSY])}"
    said = subprocess.run([SHELL, "-c", enter], capture_output=True, text=True, check=True)
    assert max(abs(int(line)) for line in said.stdout.split()) < 1_000_000


def test_where_wait4_is_blind_the_records_are_believed(tmp_path: Path) -> None:
    run = Run(tmp_path, sys.executable, "-S", "-c", BLIND)
    wait4 = run.figures["wait4"]
    assert run.figures["cpu_source"] == "records"
    used = (wait4["user_ns"] + wait4["system_ns"]) / 1e9
    assert run.figures["cpu_seconds"] >= 0.4
    assert used < run.figures["cpu_seconds"] - 0.2, "of the children's 0.4 s it has seen nothing"
    assert run.figures["teardown_seconds"] is None
    assert "ignores SIGCHLD" in run.errors


def test_the_peak_of_a_short_lived_child_is_seen(tmp_path: Path) -> None:
    size = 300 << 20
    child = f"b = b'x' * {size}"
    script = f"{shlex.quote(sys.executable)} -S -c {shlex.quote(child)}; :"
    run = Run(tmp_path, SHELL, "-c", script)
    assert size <= run.total["peak_rss_bytes"] < size * 1.2
    assert re.search(r"peak 3\d\d MiB \(python", run.errors)


def record_of(*words: str) -> taskstats.Record:
    """The record of a command that was never a copy of a large process: posix_spawn uses vfork."""
    with taskstats.ExitListener() as listener:
        pid = os.posix_spawnp(words[0], words, os.environ)
        os.waitpid(pid, 0)
        listener.stop()
        (record,) = (one for batch in listener.batches() for one in batch if one.ac_pid == pid)
    return record


def test_delays_are_measured_for_it_alone(tmp_path: Path) -> None:
    switch = Path("/proc/sys/kernel/task_delayacct")
    if not switch.exists():
        lacks("kernel.task_delayacct")
    switched = switch.read_text()
    switch.write_text("0\n")
    try:
        run = Run(tmp_path, "cat", str(switch), options=("--delays",))
        without = Run(tmp_path, "cat", str(switch))
        assert switch.read_text() == "0\n"
        switch.write_text("1\n")
        spawned = record_of("cat", str(switch))
    finally:
        switch.write_text(switched)
    assert run.output == "1\n"
    if not spawned.wpcopy_count:
        lacks("waits for copies of write-protected pages")
    own = run.total["wpcopy_count"] - run.figures["before_exec"]["wpcopy_count"]
    assert 0 < own <= spawned.wpcopy_count + 10, "what it copied of us is not the command's"
    assert re.search(rf"^WPCOPY-WAIT +{own} ", run.errors, re.MULTILINE)
    assert without.output == "0\n"
    assert without.total["delays_measured"] is None
    assert "wpcopy_count" not in without.total
    assert "n/m" in without.errors
    assert "AVERAGE" not in without.errors


# ---- the command as its user expects ---------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "status", "told"),
    [
        ("exit 0", 0, "exit 0"),
        ("exit 7", 7, "exit 7"),
        ("kill -9 $$", -signal.SIGKILL, "killed by KILL (9)"),
        ("kill -TERM $$", -signal.SIGTERM, "killed by TERM (15)"),
    ],
)
def test_its_end_is_the_commands(script: str, status: int, told: str, tmp_path: Path) -> None:
    run = Run(tmp_path, SHELL, "-c", script)
    assert run.status == status
    assert told in run.errors


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["no-such-command"], 127),
        (["/dev/null"], 126),
        (["--no-such-option", "true"], 125),
        ([], 125),
        (["-o", "/no/such/directory/file", "true"], 125),
        (["--user", "no-such-user", "true"], 125),
    ],
)
def test_failures_have_statuses_of_their_own(words: list[str], status: int) -> None:
    done = subprocess.run([TASKSTATS, "run", *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == status
    assert "Traceback" not in done.stderr
    assert "wall" not in done.stderr


def test_without_the_right_nothing_is_run(tmp_path: Path) -> None:
    drop = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"]
    command = [*drop, TASKSTATS, "run", "touch", str(tmp_path / "touched")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 125
    assert "CAP_NET_ADMIN" in done.stderr
    assert not (tmp_path / "touched").exists()


def test_where_it_fails_the_report_of_before_stays(tmp_path: Path) -> None:
    report = tmp_path / "report"
    report.write_text("of before")
    command = [TASKSTATS, "run", "-o", str(report), "/no/such/command"]
    assert subprocess.run(command, capture_output=True, timeout=60).returncode == 127
    assert report.read_text() == "of before"
    command[-1] = "true"
    assert subprocess.run(command, capture_output=True, timeout=60).returncode == 0
    assert report.read_text().startswith("true  exit 0  ")


def test_stdin_is_the_commands_and_stdout_is_its_alone(tmp_path: Path) -> None:
    run = Run(tmp_path, "cat", input="a line\n")
    assert run.output == "a line\n"


def check_sigterm_is_for(*words: str) -> None:
    """A signal sent to `taskstats run` is for the shell that these words run."""
    script = "trap 'exit 5' TERM; echo ready; while :; do sleep 0.01; done"
    command = [TASKSTATS, "run", *words, script]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.terminate()
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 5
    assert "exit 5" in errors


def test_a_signal_sent_to_it_is_the_commands_and_the_report_comes() -> None:
    check_sigterm_is_for(SHELL, "-c")


def test_ctrl_c_ends_the_command_and_the_report_comes() -> None:
    """A shell ends its loop where what it ran has died by SIGINT; not where it exited with 130."""
    run = shlex.join([TASKSTATS, "run", SHELL, "-c", "echo up; exec sleep 1000"])
    with terminal.Dialogue() as bash:
        bash.say(f"for i in 1 2; do {run}; done")
        bash.expect(r"\nup\r\n")
        bash.press("\x03")
        bash.expect(r"  killed by INT \(2\)  .*  lost 0(?:.|\n)* LONGEST")
        assert "up\r\n" not in bash.expect("ready> ")
        bash.say("echo =$?=")
        bash.expect("=130=\r")


def test_ctrl_c_that_the_command_handles_is_its_alone() -> None:
    script = "trap 'exit 3' INT; echo up; while :; do sleep 0.01; done"
    with terminal.Dialogue() as bash:
        bash.say(shlex.join([TASKSTATS, "run", SHELL, "-c", script]))
        bash.expect(r"\nup\r\n")
        bash.press("\x03")
        bash.expect(r"  exit 3  .*  lost 0(?:.|\n)* LONGEST")
        bash.expect("ready> ")
        bash.say("echo =$?=")
        bash.expect("=3=\r")


SUDO = ("sudo", "-n", "-u", "nobody", SHELL, "-c")


@pytest.mark.parametrize(
    ("script", "status"),
    [
        ("id -un; cat; for i in 1 2 3 4 5; do /bin/true; done; exit 5", 5),
        ("id -un; cat; for i in 1 2 3 4 5; do /bin/true; done; kill -TERM $$", -signal.SIGTERM),
    ],
)
def test_what_sudo_runs_is_counted_and_ends_as_without_us(
    script: str, status: int, tmp_path: Path
) -> None:
    needs_program("sudo")
    run = Run(tmp_path, *SUDO, script, input="a line\n")
    assert (run.status, run.output) == (status, "nobody\na line\n")
    names = {one["comm"]: one["processes"] for one in run.figures["commands"]}
    assert names.pop("sudo") in (1, 2)  # the other watches over a terminal of its own
    assert names == {"sh": 1, "id": 1, "cat": 1, "true": 5}
    assert run.figures["complete"] is True


def test_a_signal_sent_to_it_goes_through_sudo() -> None:
    needs_program("sudo")
    check_sigterm_is_for(*SUDO)


def test_sudo_has_the_terminal_with_its_keys() -> None:
    """It has the terminal raw, and another one for its command; it stops its group by itself."""
    needs_program("sudo")
    with terminal.Dialogue() as bash:
        bash.say(shlex.join([TASKSTATS, "run", *SUDO, "echo up; cat; exec sleep 1000"]))
        bash.expect(r"\nup\r\n")
        bash.say("one")
        bash.expect(r"one\r\none\r\n")  # it runs cat: within vfork(2) a shell is not stopped
        bash.press("\x1a")
        bash.expect(r"Stopped[^\n]*\n(?:.|\n)*ready> ")
        bash.say("fg")
        bash.say("two")
        bash.expect(r"two\r\ntwo\r\n")
        bash.press("\x03")
        bash.expect(r"  killed by INT \(2\)  ")
        bash.expect("ready> ")
        bash.say("echo =$?=")
        bash.expect("=130=\r")


def test_what_lives_on_is_listed_and_in_no_sum(tmp_path: Path) -> None:
    run = Run(tmp_path, SHELL, "-c", "sleep 1000 >/dev/null 2>&1 & echo $!")
    sleeper = int(run.output)
    try:
        (living,) = run.figures["living"]
        assert (living["pid"], living["threads"]) == (sleeper, 1)
        assert run.processes("sleep") == 0
        assert "1 process still running" in run.errors
        (node,) = (one for one in run.figures["tree"] if one["living"])
        assert node["pid"] == sleeper
    finally:
        os.kill(sleeper, signal.SIGKILL)


def test_losses_are_told_on_the_first_line(tmp_path: Path) -> None:
    json_path = tmp_path / "j"
    command = [TASKSTATS, "run", "--json", str(json_path), SHELL, "-c", "echo ready; read line"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGSTOP)
        with Storm("threads", cpu=CPUS[0], exits=STORM) as storm:
            storm.begin()
            storm.finish()
        process.send_signal(signal.SIGCONT)
        _, errors = process.communicate("\n", timeout=60)
    figures = json.loads(json_path.read_text())
    assert figures["lost"] > 0
    assert figures["complete"] is False
    assert f"lost {figures['lost']}" in errors.splitlines()[0]
    assert "incomplete" in errors


def test_it_runs_as_another_user_without_rights(tmp_path: Path) -> None:
    script = "id -un; grep -h Cap /proc/self/status; umask"
    own: dict[str, Any] = {"options": ("--user", "nobody"), "start_new_session": True}
    run = Run(tmp_path, SHELL, "-c", script, **own)  # without the terminal of these tests
    name, *capabilities, umask = run.output.splitlines()
    assert name == "nobody"
    held = {line.split()[0]: int(line.split()[1], 16) for line in capabilities}
    assert not any(held[name] for name in ("CapInh:", "CapPrm:", "CapEff:", "CapAmb:"))
    assert held["CapBnd:"]
    before = os.umask(0)
    os.umask(before)
    assert int(umask, 8) == before


def test_another_user_cannot_type_into_our_terminal() -> None:
    needs_program("script")
    switch = Path("/proc/sys/dev/tty/legacy_tiocsti")
    refuses = switch.exists() and switch.read_text() == "0\n"
    words = shlex.join([TASKSTATS, "run", "--user", "nobody", "id", "-un"])
    with terminal.Dialogue() as bash:
        bash.say(f"{words} </dev/null 2>&1 | cat; echo =${{PIPESTATUS[0]}}=")
        bash.expect(r"nobody\r\n" if refuses else r"could type into this terminal \(TIOCSTI\)")
        bash.expect("=0=\r" if refuses else "=125=\r")
        bash.say(shlex.join(["script", "-qec", f"exec {words}", "/dev/null"]))
        bash.expect(r"nobody\r\n")


def test_sudo_is_warned_of(tmp_path: Path) -> None:
    run = Run(tmp_path, "true", env={**os.environ, "SUDO_USER": "nobody"})
    assert "--user nobody" in run.errors.splitlines()[0]


# ---- the report ------------------------------------------------------------------------------


def test_the_report_goes_to_a_file_and_may_be_appended(tmp_path: Path) -> None:
    report, figures = tmp_path / "report", tmp_path / "figures"
    for number in (1, 2):
        options = ["-o", str(report), "--json", str(figures), "--append", "--tree"]
        command = [TASKSTATS, "run", *options, SHELL, "-c", f"exit {number}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stdout, done.stderr) == (number, "", "")
    heads = [line for line in report.read_text().splitlines() if " wall " in line]
    assert [re.search(r"exit (\d)", head)[1] for head in heads] == ["1", "2"]  # type: ignore[index]
    assert [json.loads(line)["exit_code"] for line in figures.read_text().splitlines()] == [1, 2]


def test_gnu_times_format(tmp_path: Path) -> None:
    run = Run(tmp_path, SHELL, "-c", "exit 4", options=("--format", "%x %e %M %C"))
    assert re.fullmatch(r"4 \d+\.\d\d \d+ /bin/sh -c exit 4\n", run.errors)


def test_what_wait4_has_not_seen_is_told_beside_its_figures(tmp_path: Path) -> None:
    run = Run(tmp_path, sys.executable, "-S", "-c", BLIND, options=("--format", "%x"))
    assert re.fullmatch(r"0\nwait4 reports \d+\.\d+ s CPU of \d+\.\d+ s\n", run.errors)


def test_a_file_has_no_colours_whatever_the_terminal_is_to_have(tmp_path: Path) -> None:
    report = tmp_path / "report"
    forced = {**os.environ, "FORCE_COLOR": "1"}
    command = [TASKSTATS, "run", "-o", str(report), "false"]
    subprocess.run(command, env=forced, timeout=60)
    assert "\x1b" not in report.read_text()
    done = subprocess.run([*command[:2], "false"], env=forced, capture_output=True, timeout=60)
    assert b"\x1b" in done.stderr


def test_to_append_takes_a_file() -> None:
    command = [TASKSTATS, "run", "--append", "echo", "ran"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (125, "")
    assert "--append is for files" in done.stderr


def test_a_format_that_cannot_be_is_refused_before() -> None:
    command = [TASKSTATS, "run", "--format", "%K", "echo", "ran"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (125, "")
    assert "which Linux does not count" in done.stderr


def test_a_report_that_cannot_be_written_leaves_the_status() -> None:
    command = [TASKSTATS, "run", "-o", "/dev/full", SHELL, "-c", "exit 4"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 4
    assert "/dev/full: No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def small_files(size: int) -> Callable[[], None]:
    """What lets a process write files up to this size."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_a_failed_append_leaves_no_part_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "figures"
    command = [TASKSTATS, "run", "--json", str(path), "--append", SHELL, "-c", "exit 4"]
    settings: dict[str, Any] = {"capture_output": True, "text": True, "timeout": 60}
    subprocess.run(command, **settings)
    before = path.read_bytes()
    done = subprocess.run(command, preexec_fn=small_files(len(before) + 100), **settings)
    assert path.read_bytes() == before
    assert done.returncode == 4
    assert f"{path}: File too large" in done.stderr
    assert "  exit 4  " in done.stderr  # the report
    subprocess.run(command, **settings)
    assert [json.loads(line)["exit_code"] for line in path.read_text().splitlines()] == [4, 4]


def test_without_room_for_json_the_report_is_written(tmp_path: Path) -> None:
    report = tmp_path / "report"
    report.write_text("of before\n")
    command = [TASKSTATS, "run", "-o", str(report), "--json", "/dev/full", SHELL, "-c", "exit 4"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 4
    assert done.stderr == "Error: /dev/full: No space left on device\n"
    assert "  exit 4  " in report.read_text().splitlines()[0]


@pytest.mark.parametrize(("options", "figure"), [([], "  exit 4  "), (["--format", "%x"], "4\n")])
def test_a_report_without_room_goes_to_stderr(options: list[str], figure: str) -> None:
    command = [TASKSTATS, "run", "-o", "/dev/full", *options, SHELL, "-c", "exit 4"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 4
    error, _, report = done.stderr.partition("\n")
    assert error == "Error: /dev/full: No space left on device"
    assert figure in report


@pytest.mark.parametrize("option", ["-o", "--json"])
def test_a_planted_link_is_refused_before_the_command_runs(option: str, tmp_path: Path) -> None:
    shared, planted, victim = tmp_path / "shared", tmp_path / "shared/planted", tmp_path / "victim"
    shared.mkdir()
    shared.chmod(0o1777)
    victim.write_text("of before")
    planted.symlink_to(victim)
    os.chown(planted, 65534, 65534, follow_symlinks=False)
    command = [TASKSTATS, "run", option, str(planted), "echo", "ran"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (125, "")
    assert f"{planted}: refused, since it is a symbolic link of another user" in done.stderr
    assert victim.read_text() == "of before"


def test_json_of_an_argument_that_is_no_text_is_text(tmp_path: Path) -> None:
    run = Run(tmp_path, SHELL, "-c", "exit 4", os.fsdecode(b"caf\xe9"))
    assert run.figures["command"] == [SHELL, "-c", "exit 4", r"caf\xe9"]


def test_report_and_json_may_go_to_one_file(tmp_path: Path) -> None:
    path = tmp_path / "both"
    path.write_text("of before\n")
    command = [TASKSTATS, "run", "-o", str(path), "--json", str(path), SHELL, "-c", "exit 4"]
    assert subprocess.run(command, timeout=60).returncode == 4
    first, *lines = path.read_text().splitlines()
    assert json.loads(first)["exit_code"] == 4
    assert "  exit 4  " in lines[0]


def test_a_user_that_it_may_not_become_is_a_failure_of_ours() -> None:
    needs_program("setpriv")
    drop = ["setpriv", "--bounding-set=-setgid", "--inh-caps=-setgid"]
    command = [*drop, TASKSTATS, "run", "--user", "nobody", SHELL, "-c", "exit 4"]
    settings: dict[str, Any] = {"capture_output": True, "text": True, "timeout": 60}
    done = subprocess.run(command, start_new_session=True, **settings)
    assert done.returncode == 125
    assert "setgroups to nobody: Operation not permitted" in done.stderr


def test_the_name_of_what_is_not_found_cannot_write_on_the_terminal() -> None:
    command = [TASKSTATS, "run", "no\nsuch\a"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 127
    assert done.stderr == "taskstats: no\\x0asuch\\x07: No such file or directory\n"


def test_a_narrow_terminal_leaves_columns_out() -> None:
    status, text = terminal.run([TASKSTATS, "run", SHELL, "-c", "test -t 0 && test -t 2"], 60)
    assert status == 0
    table = text[text.index("COMMAND") :].splitlines()
    assert max(map(len, table)) <= 60
    assert "left out at 60 columns" in text
