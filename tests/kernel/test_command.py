"""The command `taskstats`, as a shell runs it."""

import contextlib
import csv
import ctypes
import errno
import io
import json
import mmap
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner
from support import child, raw
from support.asking import DEREGISTER, REQUEST, attribute, message
from support.command import STORM, TASKSTATS, ended, listening, mine, objects, overflow, run
from support.requirements import lacks, needs_processes

from taskstats import Client, host
from taskstats.cli.exits import _PATIENCE
from taskstats.cli.main import taskstats
from taskstats.fields import DELAYS

pytestmark = pytest.mark.usefixtures("as_usual")


# ---- exits -----------------------------------------------------------------------------------


def test_a_line_for_every_process() -> None:
    with listening("--json") as process:
        made = [(child.spawn_and_reap(i, uid=child.NOBODY), i) for i in range(200)]
        output, errors = ended(process)
    assert process.returncode == 0
    lines = mine(output)
    assert sorted((one["pid"], one["exit_code"]) for one in lines) == sorted(made)
    assert {one["kind"] for one in lines} == {"process"}
    assert {one["uid"] for one in lines} == {child.NOBODY}
    assert {one["threads"] for one in lines} == {1}
    assert ", lost 0, kernel's own count " in errors


_PIDFD_GETFD = 438  # the same number on every machine


def end_registration(pid: int) -> None:
    """Deregisters a process's listener by its own sockets, as another program with rights may."""
    wanted = attribute(DEREGISTER, host.possible_cpus().encode() + b"\0")
    request = message(raw.family(), wanted, flags=REQUEST)
    libc = ctypes.CDLL(None, use_errno=True)
    process = os.pidfd_open(pid)
    for name in os.listdir(f"/proc/{pid}/fd"):
        fd = libc.syscall(_PIDFD_GETFD, process, int(name), 0)
        if fd < 0 and ctypes.get_errno() == errno.ENOSYS:
            lacks("pidfd_getfd (Linux 5.6)")
        assert fd >= 0
        with contextlib.suppress(OSError), socket.socket(fileno=fd) as one:  # no socket: ENOTSOCK
            if one.family == socket.AF_NETLINK:
                one.send(request)
            continue
        os.close(fd)
    os.close(process)


@pytest.mark.parametrize("options", [[], ["--threads"]])
def test_strict_fails_if_the_registration_was_ended(options: list[str]) -> None:
    with listening("--json", "--strict", *options) as process:
        end_registration(process.pid)
        for _ in range(100):
            child.spawn_and_reap()
        _, errors = ended(process)
    assert process.returncode == 3
    assert re.search(r"\nincomplete: of \d+ exits that the kernel counted, \d+ were", errors)


@pytest.mark.parametrize("options", [[], ["--threads"]])
def test_strict_is_satisfied_by_a_whole_stream(options: list[str]) -> None:
    with listening("--json", "--strict", *options) as process:
        for _ in range(100):
            child.spawn_and_reap()
        _, errors = ended(process)
    assert (process.returncode, "incomplete" in errors) == (0, False), errors


def test_the_first_object_is_about_the_stream() -> None:
    with listening("--json") as process:
        child.spawn_and_reap()
        output, _ = ended(process)
    head = objects(output)[0]
    assert head["kind"] == "stream"
    assert head["kernel"] == os.uname().release
    assert head["boot_id"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert head["schema"] == 1
    assert head["package_version"]


THREADED = """
import os, threading
threads = [threading.Thread(target=int) for _ in range(5)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


def test_with_threads_the_kernel_keeps_what_is_not_asked_for() -> None:
    with listening("--json", "--threads", "--failed", "--user", "nobody") as process:
        made = [
            child.spawn_and_reap(status, uid)
            for status, uid in ((3, child.NOBODY), (0, child.NOBODY), (3, None), (0, None))
        ]
        output, errors = ended(process)
    assert made[0] in {one["id"] for one in objects(output)[1:]}
    assert not {one["id"] for one in objects(output)[1:]} & set(made[1:])
    totals = re.match(
        r"received (\d+), lost 0, filtered (\d+), kernel's own count \d+(;|$)",
        errors.splitlines()[-1],
    )
    assert totals, errors
    assert int(totals[1]) == len(objects(output)) - 1
    assert int(totals[2]) >= 3


def test_threads_are_one_process_or_the_kernels_own_records() -> None:
    with listening("--json") as process:
        pid = subprocess.Popen([sys.executable, "-c", THREADED])
        pid.wait()
        output, _ = ended(process)
    (line,) = [one for one in mine(output) if one["pid"] == pid.pid]
    assert (line["threads"], line["complete"], line["exit_code"]) == (6, True, 0)

    with listening("--json", "--threads") as process:
        pid = subprocess.Popen([sys.executable, "-c", THREADED])
        pid.wait()
        output, errors = ended(process)
    records = objects(output)[1:]
    tasks = [one for one in records if one.get("ac_tgid") == pid.pid]
    assert len(tasks) == 6
    assert [one["id"] for one in records if one["kind"] == "group"] == [pid.pid]
    assert f"received {len([one for one in records if one['kind'] == 'task'])}, lost 0" in errors


def test_a_signal_that_ended_it() -> None:
    with listening("--json") as killing, listening() as showing:
        victim = subprocess.Popen(["sleep", "1000"])
        victim.kill()
        victim.wait()
        output, _ = ended(killing)
        table, _ = ended(showing)
    (line,) = [one for one in mine(output) if one["pid"] == victim.pid]
    assert (line["exit_code"], line["exit_signal"]) == (None, 9)
    (row,) = [row for row in table.splitlines() if f" {victim.pid} " in row]
    assert "KILL (9)" in row


def test_filters() -> None:
    with listening("--json", "--failed", "--user", "nobody", "--comm", "py*") as process:
        failed = child.spawn_and_reap(3, uid=child.NOBODY)
        child.spawn_and_reap(0, uid=child.NOBODY)
        child.spawn_and_reap(3)
        output, _ = ended(process)
    assert [one["pid"] for one in mine(output)] == [failed]


def test_chosen_fields_in_each_format() -> None:
    names = "pid,comm,exit_code"
    for options in (["--json"], ["--csv"], []):
        with listening(*options, "--fields", names) as process:
            pid = child.spawn_and_reap(7)
            output, _ = ended(process)
        if options == ["--json"]:
            (line,) = [one for one in objects(output) if one.get("pid") == pid]
            assert list(line) == ["kind", "pid", "comm", "exit_code"]
        elif options == ["--csv"]:
            rows = list(csv.DictReader(io.StringIO(output)))
            (row,) = [row for row in rows if row["pid"] == str(pid)]
            assert list(row) == ["kind", "pid", "comm", "exit_code", "cpu", "lost"]
            assert row["exit_code"] == "7"
        else:
            assert output.splitlines()[0].split() == ["pid", "comm", "exit_code"]
            (words,) = [line.split() for line in output.splitlines() if str(pid) in line.split()]
            assert words[0] == str(pid)
            assert words[-1] == "7"


def test_csv_has_a_column_for_every_field() -> None:
    with listening("--csv") as process:
        shell = subprocess.Popen(["sh", "-c", "exit 1"])
        shell.wait()
        output, _ = ended(process)
    rows = list(csv.DictReader(io.StringIO(output)))
    (row,) = [row for row in rows if row["pid"] == str(shell.pid)]
    assert None not in row
    assert (row["kind"], row["exit_code"], row["exit_signal"]) == ("process", "1", "")
    assert int(row["ac_minflt"]) > 0


def test_so_many_lines() -> None:
    with listening("--json", "--count", "3", "--comm", "py*") as process:
        made = [child.spawn_and_reap() for _ in range(10)]
        output, errors = process.communicate()
    assert process.returncode == 0
    written = [one["pid"] for one in objects(output)[1:]]
    assert len(written) == 3
    assert set(written) & set(made)
    assert errors.startswith("received ")


def test_one_cpu_only() -> None:
    cpu = min(os.sched_getaffinity(0))
    with listening("--json", "--threads", "--cpus", str(cpu)) as process:
        child.spawn_and_reap()
        output, errors = ended(process)
    assert {one["cpu"] for one in objects(output)[1:]} <= {cpu}
    # The count is of all CPUs: a uniprocessor's one is all.
    assert ("kernel's own count n/a" in errors) is (host.possible_cpus() != str(cpu))


def test_a_cpu_that_does_not_exist() -> None:
    assert "65535" in run("exits", "--cpus", "65535", status=2).stderr


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
    assert any(f" {pid} " in line and "FAIL 1" in line for line in output.splitlines())
    assert "lost 0" in errors
    assert "Traceback" not in errors


@pytest.mark.parametrize("gap", [0, 100e-6, 200e-6, 1e-3])
def test_two_signals_at_once_are_one(gap: float) -> None:
    """As timeout(1) sends them: to the command, then to its group."""
    with listening("--json") as process:
        made = [child.spawn_and_reap() for _ in range(20)]
        first = time.monotonic()
        process.terminate()
        while time.monotonic() < first + gap:
            pass
        process.terminate()
        output, errors = process.communicate()
    if process.returncode == -signal.SIGTERM:
        assert time.monotonic() - first > _PATIENCE, "the machine was busy: they were two"
        return
    assert process.returncode == 0
    assert sorted(one["pid"] for one in mine(output)) == sorted(made)
    assert errors.startswith("received ")


def test_a_second_signal_ends_it_should_nobody_read() -> None:
    with listening("--json") as process:
        for _ in range(200):  # more than its pipe holds
            child.spawn_and_reap()
        while process.poll() is None:
            process.terminate()
            time.sleep(0.1)
    assert process.returncode == -signal.SIGTERM


def test_an_alarm_that_was_blocked_comes() -> None:
    program = f"""
import os, signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
os.execv({TASKSTATS!r}, ["taskstats", "exits", "--for", "0.1"])
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60, capture_output=True)


@pytest.mark.parametrize("options", [("--json",), ("--csv",), ()])
def test_exits_ends_quietly_with_its_reader(options: tuple[str, ...]) -> None:
    with listening(*options, "--comm", "no such name") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        errors = process.stderr.read()  # ends by itself: nothing more is written
    assert process.returncode == 0
    assert errors.startswith("received ")


def test_head_ends_a_storm_at_once() -> None:
    with listening("--json") as process:
        head = subprocess.Popen(["head", "-n", "1"], stdin=process.stdout, stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        for _ in range(1000):
            child.spawn_and_reap()
        output, _ = head.communicate()
        errors = process.stderr.read()
    assert process.returncode == 0
    assert json.loads(output)["kind"] == "stream"
    assert errors.count("\n") == 1
    assert errors.startswith("received ")


def losses_in(output: str, format_: str, cpu: int) -> list[int]:
    """How many records each line says are lost, on this CPU."""
    if format_ == "--json":
        losses = [one for one in objects(output) if one["kind"] == "loss"]
        assert {(one["cpu"], *one) for one in losses} == {(cpu, "kind", "cpu", "lost")}
        return [one["lost"] for one in losses]
    if format_ == "--csv":
        rows = csv.DictReader(io.StringIO(output))
        return [int(row["lost"]) for row in rows if row["kind"] == "loss"]
    return [int(line.split()[1]) for line in output.splitlines() if line.startswith("-- ")]


def test_a_loss_is_a_line_and_with_strict_a_status() -> None:
    cpu = min(os.sched_getaffinity(0))
    formats = ("--json", "--csv", "")
    common = ("--threads", "--comm", "nobody", "--cpus", str(cpu), "--strict")
    with ExitStack() as stack:
        processes = [
            stack.enter_context(listening(*filter(None, [format_]), *common)) for format_ in formats
        ]
        overflow(cpu, *processes)
        for process in processes:
            process.send_signal(signal.SIGCONT)
        outputs = stack.enter_context(ThreadPoolExecutor()).map(ended, processes)
        for process, format_, (output, errors) in zip(processes, formats, outputs, strict=True):
            assert process.returncode == 3
            words = errors.splitlines()[-1].split(",")[:2]
            received, lost = (int(word.split()[1]) for word in words)
            assert lost > 0
            assert received + lost >= STORM
            assert sum(losses_in(output, format_, cpu)) == lost


# ---- query -----------------------------------------------------------------------------------


def test_query_agrees_with_proc() -> None:
    head, record = objects(run("query", "--json", str(os.getpid())).stdout)
    assert head["kind"] == "stream"
    assert (record["ac_pid"], record["ac_ppid"]) == (os.getpid(), os.getppid())
    assert record["ac_uid"] == os.getuid()
    assert record["ac_comm"] == Path("/proc/self/comm").read_text().strip()


@contextmanager
def second_thread() -> Iterator[int]:
    """A thread of this process, by its id."""
    started, done = threading.Event(), threading.Event()
    ids = []

    def wait() -> None:
        ids.append(threading.get_native_id())
        started.set()
        done.wait()

    thread = threading.Thread(target=wait)
    thread.start()
    started.wait()
    try:
        yield ids[0]
    finally:
        done.set()
        thread.join()


def test_a_process_has_its_leaders_name_and_its_threads_sums() -> None:
    needs_processes()
    with second_thread() as tid:
        _, *records = objects(run("query", "--json", str(os.getpid()), str(tid)).stdout)
        # Asked for by any of its threads, and once.
        _, process = objects(run("query", "--json", "--tgid", str(tid), str(os.getpid())).stdout)
    assert [record["ac_tgid"] for record in records] == [os.getpid()] * 2
    assert process["kind"] == "process"
    assert (process["pid"], process["ppid"]) == (os.getpid(), os.getppid())
    assert process["uid"] == os.getuid()
    assert process["comm"] == Path("/proc/self/comm").read_text().strip()
    assert process["threads"] >= 2
    assert process["nvcsw"] >= sum(record["nvcsw"] for record in records)
    assert "ac_minflt" not in process, "the kernel does not sum it over a process"


def test_every_process() -> None:
    before = set(host.processes())
    _, *processes = objects(run("query", "--json", "--all").stdout)
    pids = [process["pid"] for process in processes]
    assert pids == sorted(set(pids))
    assert {1, os.getpid()} <= set(pids)
    assert set(pids) >= {pid for pid in before if Path(f"/proc/{pid}").exists()}


def test_which_pids_are_gone() -> None:
    answered = run("query", "--tgid", str(os.getpid()), "5000000", status=1)
    assert f" {os.getppid()} " in answered.stdout
    assert answered.stderr == "taskstats: pid 5000000: No such process\n"


def copy_pages() -> None:
    """Writes to pages that were shared: each is copied, which is a delay."""
    page = mmap.PAGESIZE
    anonymous = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    with mmap.mmap(-1, 64 * page, flags=anonymous) as memory:
        for at in range(0, len(memory), page):
            memory[at]  # the zero page
        for at in range(0, len(memory), page):
            memory[at] = 1


@contextmanager
def delayed(measured: bool) -> Iterator[int]:
    """A child that has had delays; if they are measured, one of them was counted.

    User-Mode Linux measures in ticks (it has the sched_clock of kernel/sched/clock.c), and a delay
    of none is not counted (kernel/delayacct.c:delayacct_end).
    """
    words, its_words = os.pipe()

    def wait() -> None:
        with Client() as client:
            copy_pages()
            while measured and not client.pid().delays_measured:
                copy_pages()
        os.write(its_words, b"x")
        signal.pause()

    with child.beside(wait) as pid:
        os.close(its_words)
        assert os.read(words, 1) == b"x"
        yield pid
    os.close(words)


#: Of those that are measured only where it is asked for; later versions have more of them.
DELAY_TOTALS = [f"{name}_delay_total" for name in DELAYS if name != "cpu"]


@pytest.mark.parametrize("options", [[], ["--tgid"]])
def test_delays_that_were_not_measured_are_not_zero(options: list[str]) -> None:
    switch = Path("/proc/sys/kernel/task_delayacct")
    if not switch.exists():  # before Linux 5.14
        lacks("kernel.task_delayacct")
    before = switch.read_text()
    try:
        shown = {}
        for value in ("0", "1"):
            switch.write_text(value)
            with delayed(value == "1") as pid:
                shown[value] = run("query", *options, str(pid)).stdout
                _, row = objects(run("query", *options, "--json", str(pid)).stdout)
                measured = row["delays_measured"]
                assert measured is (True if value == "1" else None)
                delays = {name: row[name] for name in DELAY_TOTALS if name in row}
                assert {total is None for total in delays.values()} == {value == "0"}
    finally:
        switch.write_text(before)
    assert "fix: sudo sysctl kernel.task_delayacct=1" in shown["0"]
    assert "n/m: not measured" in shown["0"]
    *_, cgroup = shown["0"].splitlines()[0].split()
    assert cgroup == "CGROUP"
    assert shown["0"].splitlines()[1].split()[-len(delays) - 1 : -1] == ["n/m"] * len(delays)
    assert "n/m" not in shown["1"]


def test_a_name_cannot_write_to_the_terminal() -> None:
    def named() -> list[str]:
        Path("/proc/self/comm").write_bytes(b"\x1b[2J\nexit")
        me = str(os.getpid())
        return [run("query", *options, me).stdout for options in ([], ["--tgid"], ["--csv"])]

    for output in child.run(named):
        assert "\\x1b[2J\\x0aexit" in output
        assert "\x1b" not in output


# ---- cgroup, doctor --------------------------------------------------------------------------


def test_cgroups() -> None:
    mounts = [path for _, path in host.cgroup_mounts()]
    if not mounts:
        pytest.fail("no cgroup is mounted")
    answered = run("cgroup", "--json", *mounts, "/tmp", status=1)
    _, *rows = objects(answered.stdout)
    assert [row["path"] for row in rows] == mounts
    sources = {1: "kernel", 2: "proc"}
    assert [row["source"] for row in rows] == [
        sources[version] for version, _ in host.cgroup_mounts()
    ]
    assert [row["nr_io_wait"] is None for row in rows] == [row["source"] == "proc" for row in rows]
    assert answered.stderr.startswith("taskstats: cgroup /tmp: ")


def test_the_doctor_finds_all_well() -> None:
    _, *checks = objects(run("doctor", "--json").stdout)
    states = {check["what"]: check["state"] for check in checks[:9]}  # then come the probe's
    assert list(states) == [
        "kernel",
        "family",
        "proc",
        "listen",
        "delays",
        "buffers",
        "descriptors",
        "cgroups",
        "self-test",
    ]
    assert {name for name, state in states.items() if state != "ok"} <= {"delays"}
    counted = re.match(
        r"200 exits, 200 heard, kernel's own count (\d+)( \(\d+ of other tasks\))?$",
        checks[8]["finding"],
    )
    assert counted
    assert int(counted[1]) >= 200


NAMESPACES = [
    (["--user", "--map-root-user"], "not the initial user namespace", "--userns=host"),
    (["--pid", "--fork", "--mount-proc"], "not the initial PID namespace", "--pid=host"),
    (["--pid", "--fork"], "not the initial PID namespace", "--pid=host"),
    (["--net"], "not the initial network namespace", "nsenter --target 1 --net"),
]

ALL_THREE = ["--user", "--map-root-user", "--pid", "--fork", "--net", "--mount-proc"]
if Path("/proc/self/ns/net").stat().st_ino == host.INITIAL_NET_INODE:
    NAMESPACES.append(
        (
            ALL_THREE,
            "not the initial user, PID and network namespace",
            "--userns=host --pid=host --network=host",
        )
    )
else:  # before Linux 6.18 process 1 tells the initial one, and here that is another process 1
    NAMESPACES.append(
        (ALL_THREE, "not the initial user and PID namespace", "--userns=host --pid=host")
    )


@pytest.mark.parametrize(("unshare", "finding", "mend"), NAMESPACES)
def test_the_doctor_in_a_namespace(unshare: list[str], finding: str, mend: str) -> None:
    answered = subprocess.run(
        ["unshare", *unshare, TASKSTATS, "doctor", "--json"], capture_output=True, text=True
    )
    assert answered.returncode == 1, answered.stderr
    checks = {one["what"]: one for one in objects(answered.stdout)[1:]}
    assert checks["listen"]["state"] == "fail"
    assert checks["listen"]["finding"] == finding
    assert mend in checks["listen"]["mend"]
    assert TASKSTATS in checks["listen"]["mend"]
    assert checks["self-test"]["state"] == "fail"
    if "--net" in unshare and checks["family"]["state"] == "fail":  # as 5.10 has it
        lacks("other network namespaces")
    assert checks["family"]["state"] == "ok"


def test_where_no_thread_can_be_started_listening_works() -> None:
    # Without --fork: what it starts would be in the new namespace, which a thread may not.
    commands = (["exits", "--for", "0.1"], ["doctor"])
    exits, doctor = (
        subprocess.run(["unshare", "--pid", TASKSTATS, *one], capture_output=True, text=True)
        for one in commands
    )
    assert exits.returncode == doctor.returncode == 0
    assert "Traceback" not in exits.stderr + doctor.stderr
    assert "warn  self-test    not run: can't start new thread (" in doctor.stdout


@pytest.mark.parametrize(
    ("unshare", "error"),
    [
        (["--user", "--map-root-user"], "CAP_NET_ADMIN in the initial user namespace"),
        (["--pid", "--fork", "--mount-proc"], "PID namespace"),
        (["--net"], "network namespace"),
    ],
)
def test_exits_in_a_namespace(unshare: list[str], error: str) -> None:
    answered = subprocess.run(
        ["unshare", *unshare, TASKSTATS, "exits"], capture_output=True, text=True
    )
    assert answered.returncode == 1
    assert answered.stdout == ""
    assert error in answered.stderr
    assert f"More: {TASKSTATS} doctor" in answered.stderr
    assert "Traceback" not in answered.stderr


def test_the_ids_of_another_pid_namespaces_proc_are_not_believed() -> None:
    # There /proc shows a process 1, of the machine, and ours is another.
    inside = f'"{TASKSTATS}" query --all; "{TASKSTATS}" query --tgid 1; "{TASKSTATS}" cgroup "$0"'
    v2 = next(path for version, path in host.cgroup_mounts() if version == 2)
    answered = subprocess.run(
        ["unshare", "--pid", "--fork", "sh", "-c", inside, v2], capture_output=True, text=True
    )
    assert f"Try: sudo unshare --mount-proc {TASKSTATS} query --all" in answered.stderr
    header, row, *remarks = answered.stdout.splitlines()
    assert row.split()[3] == "sh"
    assert row[header.index("THR") : header.index("THR") + 3].strip() == "-"
    assert "- under THR: /proc is of another PID namespace" in remarks
    assert "some of its threads cannot be seen from here" in answered.stderr


def test_hidden_processes_are_not_silently_left_out() -> None:
    def as_nobody_with_hidden_processes() -> tuple[int, str]:
        child.unshare(child.CLONE_NEWNS)
        mount = "mount --make-rprivate / && mount -t proc -o hidepid=2 proc /proc"
        subprocess.run(mount, shell=True, check=True)
        child.become(child.NOBODY, child.CAP_NET_ADMIN)
        result = CliRunner().invoke(taskstats, ["query", "--all"])
        return result.exit_code, result.output

    status, output = child.run(as_nobody_with_hidden_processes)
    assert status == 1
    assert output.startswith("Error: --all: /proc hides processes (hidepid)")


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("exits", "listen: /proc is not mounted, or not whole [ENOENT]"),
        ("query --all", "--all: /proc is not mounted, or not whole. Try: sudo unshare"),
    ],
)
def test_what_needs_proc_says_so(command: str, told: str) -> None:
    inside = f'umount -l /proc; "{TASKSTATS}" {command}'
    answered = subprocess.run(
        ["unshare", "--mount", "sh", "-c", inside], capture_output=True, text=True
    )
    assert answered.returncode == 1
    assert told in answered.stderr
    assert "Traceback" not in answered.stderr


def test_a_query_needs_no_proc() -> None:
    inside = f'umount -l /proc; "{TASKSTATS}" query --json 1; "{TASKSTATS}" query --tgid 1'
    shown = subprocess.check_output(["unshare", "--mount", "sh", "-c", inside], text=True)
    head, row, header, process, *remarks = shown.splitlines()
    assert json.loads(head)["boot_id"] is None
    assert json.loads(row)["ac_pid"] == 1
    assert process.split()[0] == "1"
    assert "- under THR: /proc is not mounted, or not whole" in remarks, header


def test_the_doctor_without_proc() -> None:
    inside = f'umount -l /proc; "{TASKSTATS}" doctor'
    answered = subprocess.run(
        ["unshare", "--mount", "sh", "-c", inside], capture_output=True, text=True
    )
    assert answered.returncode == 1
    assert "fail  proc         /proc is not mounted, or not whole" in answered.stdout
    assert f"fix: sudo unshare --mount-proc {TASKSTATS} doctor" in answered.stdout
    assert answered.stdout.endswith("not ready to listen (1 failure)\n")
    assert answered.stderr == ""


def test_query_works_in_a_pid_namespace_with_its_ids() -> None:
    answered = subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", TASKSTATS, "query", "--json", "--all"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert [one["pid"] for one in objects(answered.stdout)[1:]] == [1]


# ---- without full root -----------------------------------------------------------------------

# The tests' interpreter may be where no other user can reach it, so these do what setpriv does in a
# child that has already loaded everything.


@pytest.mark.parametrize("command", [["query", "1"], ["exits"]])
def test_without_the_capability_it_says_what_to_do(command: list[str]) -> None:
    def as_nobody() -> tuple[int, str]:
        child.become(child.NOBODY)
        result = CliRunner().invoke(taskstats, command)
        return result.exit_code, result.output

    code, output = child.run(as_nobody)
    assert code == 1
    assert "CAP_NET_ADMIN" in output
    assert "setpriv" in output


def test_the_doctor_without_the_capability() -> None:
    def as_nobody() -> tuple[int, str]:
        child.become(child.NOBODY)
        result = CliRunner().invoke(taskstats, ["doctor"])
        return result.exit_code, result.output

    code, output = child.run(as_nobody)
    assert code == 1
    assert "fail  listen       no CAP_NET_ADMIN: " in output
    assert "fix: sudo /" in output
    assert output.splitlines()[-1].startswith("not ready to listen (3 failures")


def test_an_ordinary_user_with_the_capability_alone_needs_no_more() -> None:
    def as_nobody() -> list[tuple[int, str]]:
        child.become(child.NOBODY, child.CAP_NET_ADMIN)
        commands = (["doctor"], ["query", "--tgid", "1"], ["exits", "--for", "0.1"])
        results = [CliRunner().invoke(taskstats, command) for command in commands]
        return [(result.exit_code, result.output) for result in results]

    (doctor, found), (query, row), (exits, _) = child.run(as_nobody)
    assert (doctor, query, exits) == (0, 0, 0)
    assert "200 exits, 200 heard" in found
    assert row.splitlines()[1].split()[0] == "1"
