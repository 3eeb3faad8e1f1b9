"""JobMonitor on the real kernel: several jobs at once, started from any thread."""

import os
import select
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import cgroups
from support.requirements import needs_probe, needs_processes
from support.storm import Storm

from taskstats import Finished, JobMonitor, TaskstatsError

SHELL = "/bin/sh"


@pytest.fixture(autouse=True)
def _processes() -> None:
    needs_processes()
    needs_probe()


@pytest.fixture
def monitor() -> Iterator[JobMonitor]:
    with JobMonitor(probe="require") as one:
        yield one


def children(number: int, status: int = 0) -> list[str]:
    """A shell with so many children."""
    script = f"i=0; while [ $i -lt {number} ]; do /bin/true; i=$((i+1)); done; exit {status}"
    return [SHELL, "-c", script]


def names(finished: Finished) -> dict[str, int]:
    return {comm: totals.processes for comm, totals in finished.usage.commands.items()}


def test_two_jobs_at_once_have_their_own_children(monitor: JobMonitor) -> None:
    monitor.start(children(30, 3), "one")
    monitor.start(children(50), "two")
    one, two = monitor.finish("one"), monitor.finish("two")
    assert names(one) == {"sh": 1, "true": 30}
    assert names(two) == {"sh": 1, "true": 50}
    assert (one.returncode, two.returncode) == (3, 0)
    assert one.complete
    assert two.complete


def test_any_thread_may_call_anything(monitor: JobMonitor) -> None:
    results: dict[int, Finished] = {}

    def work(number: int) -> None:
        for turn in range(3):
            monitor.start(children(number, number), (number, turn))
            monitor.usage((number, turn))
            results[3 * number + turn] = monitor.finish((number, turn))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 24
    for at, finished in results.items():
        assert names(finished) == {"sh": 1, "true": at // 3}
        assert finished.returncode == at // 3
        assert finished.complete


def test_what_ends_beside_a_storm_is_read(monitor: JobMonitor) -> None:
    with Storm("processes") as storm:
        storm.begin()
        monitor.start(children(20), "a")
        finished = monitor.finish("a")
        storm.finish()
    assert names(finished) == {"sh": 1, "true": 20}
    assert finished.settled


def test_an_orphan_is_of_its_job(monitor: JobMonitor, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "gate")
    script = "(sh -c 'read line < gate; exec /bin/true' &); exec /bin/false"
    process = monitor.start([SHELL, "-c", script], "a", cwd=tmp_path)
    assert process.wait() == 1
    (living,) = monitor.usage("a", living=True).living
    assert living.comm == "sh"
    orphan = os.pidfd_open(living.pid)
    (tmp_path / "gate").write_text("\n")
    assert select.select([orphan], [], [])[0]  # it has ended
    os.close(orphan)
    finished = monitor.finish("a")
    assert names(finished) == {"false": 1, "sh": 1, "true": 1}
    assert finished.complete


def test_a_process_that_somebody_else_started(monitor: JobMonitor) -> None:
    read, write = os.pipe()
    words = [SHELL, "-c", "read line; /bin/true; /bin/true"]
    with subprocess.Popen(words, stdin=read) as process:
        monitor.start(process.pid, "a")
        os.write(write, b"\n")
        process.wait()
        finished = monitor.finish("a")
    os.close(read)
    os.close(write)
    assert names(finished) == {"sh": 1, "true": 2}
    assert finished.returncode is None


def test_a_tree_that_runs_already(monitor: JobMonitor) -> None:
    script = "exec 3<&0; sh -c 'echo; read line; /bin/true; /bin/true' <&3 & wait"
    pipe = subprocess.PIPE
    with subprocess.Popen([SHELL, "-c", script], stdin=pipe, stdout=pipe) as it:
        assert it.stdin is not None
        assert it.stdout is not None
        it.stdout.readline()
        monitor.attach(it.pid, "a")
        it.stdin.write(b"\n")
        it.stdin.close()
        it.wait()
        finished = monitor.finish("a")
    assert finished.usage.commands["true"].processes == 2
    assert finished.usage.commands["sh"].processes == 2
    assert not finished.complete


def test_a_job_is_all_that_ends_in_a_cgroup(monitor: JobMonitor) -> None:
    with cgroups.made() as path:
        monitor.start(f"/{path.name}", "a")
        enter = f"echo $$ > {path}/cgroup.procs; /bin/true; /bin/true"
        subprocess.run([SHELL, "-c", enter], check=True)
        finished = monitor.finish("a")
    assert names(finished) == {"sh": 1, "true": 2}


# ---- the command -----------------------------------------------------------------------------


def test_a_command_has_what_popen_is_told(monitor: JobMonitor, tmp_path: Path) -> None:
    words = [SHELL, "-c", "pwd; echo $NAME; ls /proc/self/fd | wc -w"]
    how = {"cwd": tmp_path, "env": {"NAME": "value"}, "stdout": subprocess.PIPE, "text": True}
    process = monitor.start(words, "a", **how)
    output, _ = process.communicate()
    assert monitor.finish("a").returncode == 0
    assert output.split() == [str(tmp_path), "value", "4"]  # 0, 1, 2 and the directory


def test_signals_of_the_program_stay_as_they_are(monitor: JobMonitor) -> None:
    show = "import signal; print(sorted(signal.pthread_sigmask(0, [])), signal.getsignal(12))"
    words = [sys.executable, "-c", show]
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    plain = subprocess.run(words, stdout=subprocess.PIPE).stdout
    assert monitor.start(words, "a", stdout=subprocess.PIPE).communicate()[0] == plain
    monitor.finish("a")
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before
    for thread in Path("/proc/self/task").iterdir():
        if (thread / "comm").read_text().startswith("taskstats"):
            assert int((thread / "status").read_text().split("SigBlk:")[1].split()[0], 16)


@pytest.mark.parametrize(
    ("word", "error"), [("no-such-command", FileNotFoundError), ("/dev/null", PermissionError)]
)
def test_a_command_that_cannot_be_run_is_no_job(
    word: str, error: type[OSError], monitor: JobMonitor
) -> None:
    with pytest.raises(error):
        monitor.start([word], "a")
    with pytest.raises(KeyError):
        monitor.finish("a")
    monitor.start(["true"], "a")
    assert monitor.finish("a").returncode == 0


def test_a_command_whose_job_is_refused_never_runs(monitor: JobMonitor, tmp_path: Path) -> None:
    monitor.start(["true"], "a")
    with pytest.raises(ValueError, match="'a'"):
        monitor.start(["touch", str(tmp_path / "touched")], "a")
    assert monitor.finish("a").returncode == 0
    assert not (tmp_path / "touched").exists()


def test_a_command_that_runs_on_times_out(monitor: JobMonitor) -> None:
    process = monitor.start(["sleep", "1000"], "a")
    with pytest.raises(TimeoutError, match="'a'"):
        monitor.finish("a", timeout=0)
    assert [one.comm for one in monitor.usage("a", living=True).living] == ["sleep"]
    process.kill()
    assert monitor.finish("a").returncode == -signal.SIGKILL


def test_close_lets_a_command_go_on() -> None:
    with JobMonitor(probe="require") as monitor:
        process = monitor.start(["cat"], "a", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        raised: list[BaseException] = []

        def finish() -> None:
            try:
                monitor.finish("a")
            except TaskstatsError as error:
                raised.append(error)

        waiter = threading.Thread(target=finish)
        waiter.start()
    assert process.communicate(b"on")[0] == b"on"
    waiter.join()
    assert "it is closed" in str(raised[0])


def test_a_killed_program_leaves_no_command_at_the_gate(tmp_path: Path) -> None:
    """The program is killed while the command waits for its job."""
    name = uuid.uuid4().hex
    program = f"""
import os, signal
from taskstats import JobMonitor
monitor = JobMonitor(probe="require")
monitor._tracker.start = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
monitor.start(["touch", {str(tmp_path / name)!r}], "a")
"""
    done = subprocess.run([sys.executable, "-c", program], stdout=subprocess.PIPE, timeout=60)
    assert done.returncode == -signal.SIGKILL  # and stdout has ended: nobody has it open
    assert not (tmp_path / name).exists()
