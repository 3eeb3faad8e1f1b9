"""Complete records where the probe has it hard: lost events, missing rights, odd ends of tasks."""

import ctypes
import errno
import mmap
import os
import platform
import struct
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest
from support import child, compiled
from support.requirements import needs_probe, needs_processes, skip
from support.scale import scaled
from support.storm import CPUS, Storm, everywhere
from support.task import Process

from taskstats import AccessDenied, Birth, ExitListener, Record, TaskstatsError, Where, host, probe

_LAST_PID = Path("/proc/sys/kernel/ns_last_pid")


@pytest.fixture(autouse=True)
def _probe() -> None:
    needs_probe()
    needs_processes()


def boot_ns() -> int:
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def rest_of(listener: ExitListener) -> tuple[list[Record], list[Birth]]:
    """All that a listener has not handed out, once it is stopped."""
    listener.stop()
    batches = list(listener.batches())
    return [one for batch in batches for one in batch], [
        one for batch in batches for one in batch.births
    ]


def check_counts(listener: ExitListener, records: list[Record]) -> None:
    """Each record received is settled or unsettled, and was handed out as such."""
    stats = listener.stats()
    assert stats.probe is not None
    settled = sum(one.is_settled for one in records)
    assert stats.received == len(records)
    assert (stats.probe.settled, stats.probe.unsettled, stats.probe.waiting) == (
        settled,
        len(records) - settled,
        0,
    )


def check_settled(
    listener: ExitListener, records: list[Record], births: list[Birth], at_first: set[int]
) -> None:
    """Each of these records is settled, unless the ring lost its end or its pid was given again.

    Args:
        listener: Whose they are.
        records: They.
        births: All that it reported.
        at_first: The tasks that there were when it opened.
    """
    stats = listener.stats()
    assert stats.probe is not None
    owners = Counter(birth.pid for birth in births) + Counter(at_first)
    alone = [one for one in records if not one.is_settled and owners[one.id] < 2]
    assert len(alone) <= stats.probe.ends_lost + stats.probe.births_lost


def record_of(pid: int, records: list[Record]) -> Record:
    """The record of the last child of this process that had the pid."""
    return [one for one in records if one.id == pid and one.ac_ppid == os.getpid()][-1]


def cpu_ns_of_zombie(pid: int) -> int:
    """The CPU time that the scheduler has added up for a task that is dead and not reaped."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0])


# ---- a ring that is too small ----------------------------------------------------------------


_END = 72  # bytes that an end takes in the ring


def forks() -> int:
    """Tasks made since boot."""
    lines = Path("/proc/stat").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("processes "))


def test_what_a_small_ring_loses_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "default_ring_bytes", lambda: mmap.PAGESIZE)
    exits = scaled(2_000, 200)
    with Storm("processes", exits=exits) as storm:
        forks_before, opened = forks(), boot_ns()
        with ExitListener(probe="require", settle=0.1) as listener:
            first = next(listener.batches(timeout=0))
            storm.begin()
            assert storm.finish() == exits
            records, births = rest_of(listener)
            records = [*first, *records]
            births = [*first.births, *births]
            stats = listener.stats()
            forks_after, ended = forks(), boot_ns()
    assert stats.probe is not None
    assert stats.probe.births_lost > 0
    assert stats.probe.ends_lost > 0
    check_counts(listener, records)

    # Other programs make processes too, and threads, which are no births.
    assert exits <= len(births) + stats.probe.births_lost <= forks_after - forks_before
    made = [birth for birth in births if birth.maker_pid == storm.pid]
    assert len(made) < exits

    own = [one for one in records if one.ac_ppid == storm.pid and one.id != storm.pid]
    settled = [one for one in own if one.is_settled]
    assert exits - stats.lost <= len(own) <= exits
    # An end beside lost ones may be of another owner of the pid: its row is not settled either.
    in_the_ring = mmap.PAGESIZE // _END
    assert len(own) - len(settled) <= stats.probe.ends_lost + in_the_ring
    assert len({one.maker_start_ns for one in made}) <= 1
    for one in settled:
        assert opened <= one.start_ns
        assert one.start_ns + one.ac_etime * 1000 <= ended


def test_a_backlog_is_settled() -> None:
    with Storm("processes", exits=scaled(20_000, 2_000)) as storm:
        with ExitListener(probe="require", settle=5) as listener:
            at_first = set(host.tasks())
            storm.begin()
            exits = storm.finish()
            records, births = rest_of(listener)
    own = [one for one in records if one.ac_ppid == storm.pid and one.id != storm.pid]
    assert exits - listener.stats().lost <= len(own) <= exits
    check_settled(listener, own, births, at_first)
    check_counts(listener, records)


# ---- rights ----------------------------------------------------------------------------------


def refuse_bpf(error: int) -> None:
    """A seccomp filter: bpf(2) fails with this error from now on."""
    number = {"x86_64": 321, "aarch64": 280, "riscv64": 280}[platform.machine()]
    code = [
        (0x20, 0, 0, 0),  # load the number of the system call
        (0x15, 0, 1, number),  # is it bpf?
        (0x06, 0, 0, 0x00050000 | error),  # SECCOMP_RET_ERRNO
        (0x06, 0, 0, 0x7FFF0000),  # SECCOMP_RET_ALLOW
    ]
    lines = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *line) for line in code))
    program = ctypes.create_string_buffer(struct.pack("@HP", len(code), ctypes.addressof(lines)))
    libc = ctypes.CDLL(None, use_errno=True)
    address = ctypes.c_void_p(ctypes.addressof(program))
    libc.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
    if libc.prctl(22, 2, address, 0, 0) < 0:  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
        raise OSError(ctypes.get_errno(), "prctl")


def as_user(*capabilities: int) -> Callable[[], None]:
    return lambda: child.become(child.NOBODY, *capabilities)


@pytest.mark.parametrize(
    ("restrict", "kind", "words"),
    [
        (as_user(child.CAP_NET_ADMIN), AccessDenied, ("CAP_BPF", "CAP_PERFMON", "setpriv")),
        (as_user(child.CAP_NET_ADMIN, child.CAP_BPF), AccessDenied, ("CAP_PERFMON", "setpriv")),
        (lambda: refuse_bpf(errno.EPERM), AccessDenied, ("although", "seccomp")),
        (lambda: refuse_bpf(errno.ENOSYS), TaskstatsError, ("bpf",)),
    ],
    ids=["net_admin", "no_perfmon", "seccomp_eperm", "seccomp_enosys"],
)
def test_auto_goes_on_and_require_says_why_not(
    restrict: Callable[[], None], kind: type[TaskstatsError], words: tuple[str, ...]
) -> None:
    def listen() -> tuple[bool, int, TaskstatsError | None, TaskstatsError | None]:
        restrict()
        with ExitListener(probe="auto") as listener:
            pid = child.spawn_and_reap()
            records, births = rest_of(listener)
            heard = record_of(pid, records).id == pid
        try:
            ExitListener(probe="require").close()
        except TaskstatsError as error:
            return heard, len(births), listener.probe_error, error
        return heard, len(births), listener.probe_error, None

    heard, births, reason, error = child.run(listen)
    assert heard
    assert births == 0
    for one in (reason, error):
        assert isinstance(one, kind)
        assert [word for word in words if word not in str(one)] == []


def test_three_capabilities_are_enough() -> None:
    def listen() -> bool:
        child.become(child.NOBODY, child.CAP_NET_ADMIN, child.CAP_BPF, child.CAP_PERFMON)
        with ExitListener(probe="require", settle=5) as listener:
            at_first = set(host.tasks())
            pid = child.spawn_and_reap()
            records, births = rest_of(listener)
        check_settled(listener, [record_of(pid, records)], births, at_first)
        return True

    assert child.run(listen)


def test_a_user_namespace_is_refused() -> None:
    def open_one() -> TaskstatsError | None:
        child.unshare(child.CLONE_NEWUSER)
        try:
            ExitListener(probe="require").close()
        except TaskstatsError as error:
            return error
        return None

    error = child.run(open_one)
    assert isinstance(error, AccessDenied)
    assert "initial user namespace" in str(error)


# ---- several listeners, and fork -------------------------------------------------------------


def test_two_listeners_with_a_probe_are_each_right() -> None:
    made: dict[int, tuple[int, int]] = {}
    with (
        ExitListener(probe="require", settle=5, where=Where(failed=True)) as failed,
        ExitListener(CPUS[:1], probe="require", settle=5) as first,
    ):
        at_first = set(host.tasks())
        for number in range(scaled(200, 20)):
            cpu, code = CPUS[number // 2 % len(CPUS)], number % 2
            with child.only_on(cpu):
                made[child.spawn_and_reap(code)] = (cpu, code)
        heard = rest_of(failed), rest_of(first)
    wanted = (
        {pid for pid, (_, code) in made.items() if code},
        {pid for pid, (cpu, _) in made.items() if cpu == CPUS[0]},
    )
    for listener, (records, births), pids in zip((failed, first), heard, wanted, strict=True):
        own = [one for one in records if one.ac_ppid == os.getpid()]
        assert {one.id for one in own} <= pids
        assert len(own) >= len(pids) - listener.stats().lost
        check_settled(listener, own, births, at_first)
        check_counts(listener, records)
        starts = {(one.pid, one.start_ns) for one in births if one.maker_pid == os.getpid()}
        assert (
            listener.stats().probe.births_lost
            or {(one.id, one.start_ns) for one in own if one.is_settled} <= starts
        )


def test_the_child_of_a_fork_closes_and_the_parent_goes_on() -> None:
    with ExitListener(probe="require", settle=5) as listener:
        at_first = set(host.tasks())
        child.run(listener.close)
        pids = {child.spawn_and_reap() for _ in range(50)}
        records, births = rest_of(listener)
    own = [one for one in records if one.id in pids and one.ac_ppid == os.getpid()]
    assert len(own) >= len(pids) - listener.stats().lost
    check_settled(listener, own, births, at_first)
    check_counts(listener, records)


# ---- odd ends of tasks -----------------------------------------------------------------------


def test_a_zombie_is_settled_and_exact() -> None:
    with ExitListener(probe="require", settle=5) as listener:
        at_first = set(host.tasks())
        before = boot_ns()
        pid = child.spawn()
        after = boot_ns()
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        records, births = rest_of(listener)
    record = record_of(pid, records)
    check_settled(listener, [record], births, at_first)
    if record.is_settled:
        assert record.final_cpu_ns == cpu_ns_of_zombie(pid)
        assert before <= record.start_ns <= after
        # Nothing is left that has not been added up.
        _, _, usage = os.wait4(pid, 0)
        microseconds = round((usage.ru_utime + usage.ru_stime) * 1e6)
        assert record.final_cpu_ns // 1000 - 1 <= microseconds <= record.final_cpu_ns // 1000
    else:
        os.waitpid(pid, 0)


THREADED = """
import threading
def use(): sum(range(100_000))
threads = [threading.Thread(target=use) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""


def test_all_threads_of_a_process_are_settled() -> None:
    with ExitListener(probe="require", settle=5) as listener:
        at_first = set(host.tasks())
        pid = os.posix_spawn(sys.executable, [sys.executable, "-c", THREADED], os.environ)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        records, births = rest_of(listener)
    own = [one for one in records if one.ac_tgid == pid]
    assert len(own) >= 9 - listener.stats().lost
    check_settled(listener, own, births, at_first)
    final = cpu_ns_of_zombie(pid)
    _, _, usage = os.wait4(pid, 0)
    if len(own) == 9 and all(one.is_settled for one in own):
        assert [one.final_cpu_ns for one in own if one.id == pid] == [final]
        # wait4 lacks what a thread used after it was reaped by itself (kernel/exit.c).
        microseconds = round((usage.ru_utime + usage.ru_stime) * 1e6)
        assert sum(one.final_cpu_ns for one in own) // 1000 >= microseconds
        assert sum(one.cpu_run_virtual_total for one in own) // 1000 <= microseconds


@pytest.mark.skipif(len(CPUS) < 2, reason="there is one CPU")
@pytest.mark.parametrize("cpus", [None, CPUS[:1]])
def test_the_leader_of_before_an_exec_gets_no_end_of_the_new_program(
    cpus: list[int] | None,
) -> None:
    """The leader's last switch may come after its pid has gone to the thread that calls exec."""
    command = [compiled.program("exec_by_thread"), *map(str, CPUS[:2])]
    pids = []
    with ExitListener(cpus, probe="require", settle=0.5) as listener:
        for _ in range(scaled(60, 5)):
            with subprocess.Popen(command) as process:
                pids.append(process.pid)
        records, _ = rest_of(listener)
    leaders = [one for one in records if one.id in pids and one.comm == "exec_by_thread"]
    assert len(leaders) >= len(pids) - listener.stats().lost
    used = [one.final_cpu_ns for one in leaders if one.is_settled]
    if cpus is None and not listener.stats().lost:  # every end has a record
        assert len(used) > len(pids) * 3 // 4
    assert max(used, default=0) < 20_000_000


def test_exec_by_another_thread_is_right_or_counted() -> None:
    with ExitListener(probe="require", settle=5) as listener, Process("before", "after") as process:
        at_first = set(host.tasks())
        started = process.thread()
        leader_ns = cpu_ns_of_zombie(process.pid)
        started.exec()
        process.exit_group(process.leader)
        records, births = rest_of(listener)
        final = cpu_ns_of_zombie(process.pid)
    by_name = {one.comm: one for one in records if one.ac_tgid == process.pid}
    check_counts(listener, records)
    starts = {birth.start_ns for birth in births if birth.pid == process.pid}
    last = by_name["after"]
    check_settled(listener, [last], births, at_first)
    if last.is_settled:
        assert last.final_cpu_ns == final
        assert last.start_ns in starts
    old = by_name["before"]  # the leader, which was killed; the other took its pid and start
    if old.is_settled:
        assert old.final_cpu_ns >= leader_ns
        assert old.start_ns in starts
        assert not last.is_settled or old.start_ns == last.start_ns


def test_a_pid_given_again_at_once_is_two_tasks() -> None:
    if not _LAST_PID.exists():
        skip("this kernel cannot be asked to give a pid again")
    windows: dict[tuple[int, int | None], list[tuple[int, int]]] = defaultdict(list)
    with ExitListener(probe="require", settle=1) as listener:
        for _ in range(10_000):  # another program may take the pid
            pids = []
            for code in (1, 2):
                if pids:
                    _LAST_PID.write_text(str(pids[0] - 1))
                before = boot_ns()
                pids.append(child.spawn_and_reap(code))
                windows[pids[-1], code].append((before, boot_ns()))
            if pids[0] == pids[1]:
                break
        else:
            skip("other programs take each pid")
        records, _ = rest_of(listener)
    own = [one for one in records if one.id == pids[0] and one.ac_ppid == os.getpid()]
    assert len(own) >= 2 - listener.stats().lost
    for one in own:
        assert (one.id, one.exit_code) in windows
        assert not one.is_settled or any(
            before <= one.start_ns <= after for before, after in windows[one.id, one.exit_code]
        )


def test_opening_and_closing_in_a_storm_loses_no_count() -> None:
    with everywhere("processes", rate=5_000):
        for turn in range(20):
            listener = ExitListener(probe="require", settle=0.1)
            batches = [next(listener.batches())]
            if turn % 2:
                listener.stop()
                batches += listener.batches()
                listener.close()
            else:
                listener.close()
                batches += listener.batches()
            end = boot_ns()
            records = [one for batch in batches for one in batch]
            check_counts(listener, records)
            births = {(one.pid, one.start_ns) for batch in batches for one in batch.births}
            for one in records:
                if one.is_settled:
                    assert one.start_ns + one.ac_etime * 1000 <= end
                    assert one.final_cpu_ns >= one.cpu_run_virtual_total
            assert len(births) == sum(len(batch.births) for batch in batches)


TOUCHED = "import mmap; memory = mmap.mmap(-1, 256 << 20, flags=mmap.MAP_PRIVATE | 0x8020)"


@pytest.mark.parametrize("settle", [30, 0])
def test_a_task_that_takes_down_much_memory(settle: float) -> None:
    available = next(
        int(line.split()[1])
        for line in Path("/proc/meminfo").read_text().splitlines()
        if line.startswith("MemAvailable")
    )
    if available < 1 << 20:  # KiB
        pytest.skip("1 GiB of memory is not available")
    with ExitListener(probe="require", settle=settle) as listener:
        at_first = set(host.tasks())
        pid = os.posix_spawn(sys.executable, [sys.executable, "-c", TOUCHED], os.environ)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        records, births = rest_of(listener)
    final = cpu_ns_of_zombie(pid)
    os.waitpid(pid, 0)
    record = record_of(pid, records)
    check_counts(listener, records)
    if settle:
        check_settled(listener, [record], births, at_first)
    if record.is_settled:
        assert record.final_cpu_ns == final
        assert record.final_cpu_ns > record.cpu_run_virtual_total
