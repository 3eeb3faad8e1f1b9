"""The commands against a peer that plays the kernel, and what needs no kernel at all."""

import csv
import dataclasses
import errno
import io
import json
import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from support import fake_kernel, wire
from support.fake_kernel import FakeKernel, Request

import taskstats
from taskstats import FIELDS, Batch, ExitListener, ExitStats, host
from taskstats.cli import doctor as doctor_command
from taskstats.cli import exits as exits_command
from taskstats.cli.formats import JsonLines, Table
from taskstats.cli.main import taskstats as command
from taskstats.cost import COST_KEYS
from taskstats.diagnosis import Check, Diagnosis
from taskstats.fields import RELEASES
from taskstats.processes import PROCESS_KEYS, ProcessFold
from taskstats.records import HEADER_KEYS
from taskstats.rows import HEADER, PROBED, ROW
from taskstats.totals import TOTALS_KEYS

ROOT = Path(__file__).parents[2]
AGROUP = 0x20


def run(*arguments: str, obj: Any = None) -> Result:
    result = CliRunner().invoke(command, list(arguments), obj=obj)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def objects(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def ending(version: int = 17, **values: Any) -> bytes:
    """The exit of a process of one thread."""
    plain = {"ac_flag": AGROUP, "ac_tgid": values.get("ac_pid", 7), "ac_exitcode": 0, "ac_uid": 0}
    return wire.datagram(version, values={**wire.SAMPLE, "ac_pid": 7, **plain, **values}, fill=0)


def answers(request: Request, version: int = 17, **values: Any) -> Iterable[bytes]:
    """What a kernel with every task there is would answer."""
    if request.is_query:
        kind: wire.Kind = "task" if request.attribute == fake_kernel.PID else "group"
        ids = {"ac_pid": request.id, "ac_tgid": request.id}
        yield wire.datagram(
            version,
            kinds=(kind,),
            values={**wire.SAMPLE, **ids, **values},
            seq=request.seq,
            port=request.sender,
        )
    if request.wants_ack:
        yield fake_kernel.error(request, 0)


class Ending:
    """A kernel of a struct version, on whose CPU 0 these exits come as soon as it is heard.

    Attributes:
        sent: Set once they have been.
    """

    def __init__(self, version: int, exits: Iterable[bytes]) -> None:
        self.version = version
        self.exits = [*exits]
        self.sent = threading.Event()

    def __call__(self, request: Request) -> Iterable[bytes]:
        yield from answers(request, self.version)
        if request.attribute == fake_kernel.REGISTER and not self.sent.is_set():
            yield from self.exits
            self.sent.set()


def heard(*arguments: str, version: int = 17, exits: Iterable[bytes] = (ending(),)) -> Result:
    """`taskstats exits` where these end."""
    kernel = Ending(version, exits)
    listener = exits_command._listener

    def listener_with_all(*arguments: Any) -> Any:
        made = listener(*arguments)
        kernel.sent.wait()
        return made

    with FakeKernel(kernel) as peer, pytest.MonkeyPatch.context() as patch:
        patch.setattr(exits_command, "_listener", listener_with_all)
        return run("exits", *arguments, "--for", "0", obj=peer.endpoint())


# ---- exits -----------------------------------------------------------------------------------

EXITS = (
    ending(ac_pid=1, ac_comm=b"cc1", ac_uid=1000),
    ending(ac_pid=2, ac_comm=b"cc1plus", ac_exitcode=1 << 8),
    ending(ac_pid=3, ac_comm=b"as", ac_exitcode=9, ac_uid=4_000_000_001),
)


@pytest.mark.parametrize(
    ("options", "pids"),
    [
        ([], [1, 2, 3]),
        (["--comm", "cc*"], [1, 2]),
        (["--comm", "cc"], []),
        (["--failed"], [2, 3]),
        (["--user", "root"], [2]),
        (["--user", "4000000001"], [3]),
        (["--user", "root", "--failed", "--comm", "cc1p?us"], [2]),
        (["--count", "2"], [1, 2]),
        (["--failed", "--count", "1"], [2]),
    ],
)
@pytest.mark.parametrize("threads", [[], ["--threads"]])
def test_which_are_written(options: list[str], threads: list[str], pids: list[int]) -> None:
    result = heard("--json", *threads, *options, exits=EXITS)
    assert result.exit_code == 0
    assert [one["id" if threads else "pid"] for one in objects(result.stdout)[1:]] == pids


def test_a_table_of_processes() -> None:
    result = heard(exits=EXITS)
    header, *rows = result.stdout.splitlines()
    assert " ".join(header.split()) == "TIME PID PPID USER COMMAND STATUS ELAPSED CPU PEAK RSS THR"
    assert [row.split()[1] for row in rows] == ["1", "2", "3"]
    assert " 0 " in rows[0]
    assert "FAIL 1" in rows[1]
    assert "KILL (9)" in rows[2]
    assert "4000000001" in rows[2]
    assert result.stderr.splitlines()[-1] == ("received 3, lost 0, kernel's own count n/a")


def test_a_table_of_records() -> None:
    thread = ending(ac_pid=5, ac_tgid=4, ac_flag=0)
    both = wire.datagram(
        17, kinds=("task", "group"), values={**wire.SAMPLE, "ac_pid": 6, "ac_tgid": 4}, fill=0
    )
    result = heard("--threads", exits=(thread, both))
    rows = [row.split() for row in result.stdout.splitlines()[1:]]
    assert [row[1] for row in rows] == ["5", "6", "4"]
    assert "(whole process)" in result.stdout


def test_a_process_of_several_threads_is_one_line() -> None:
    fold = [fake_kernel.frame(f"exit_thread{n}") for n in range(4)]
    (line,) = objects(heard("--json", exits=fold).stdout)[1:]
    assert (line["kind"], line["threads"], line["complete"]) == ("process", 4, True)
    (row,) = heard(exits=fold[1:]).stdout.splitlines()[1:]
    assert row.endswith(" 3+")


def test_threads_that_the_kernel_does_not_sum_are_neither_all_nor_too_few() -> None:
    both = wire.datagram(
        17,
        kinds=("task", "group"),
        values={**wire.SAMPLE, "ac_pid": 4, "ac_tgid": 4, "ac_flag": AGROUP, "cpu_count": 0},
        fill=0,
    )
    assert heard(exits=(both,)).stdout.splitlines()[1].endswith(" 1?")
    assert objects(heard("--json", exits=(both,)).stdout)[1]["complete"] is None


def test_a_process_that_was_not_asked_for_any_more_is_a_process() -> None:
    fold = [fake_kernel.frame(f"exit_thread{n}") for n in range(4)]
    result = heard("--count", "1", "--json", exits=[*fold[1:], ending()])
    assert [one.get("pid") for one in objects(result.stdout)[1:]] == [7]
    assert "received 4, lost 0" in result.stderr
    assert "no process yet" not in result.stderr


def test_what_could_not_be_read_is_told_and_with_strict_a_status() -> None:
    malformed, truncated = ending()[:-4], ending() + bytes(1 << 16)
    for unreadable in (malformed, truncated):
        result = heard("--json", "--strict", exits=(ending(), unreadable))
        assert len(objects(result.stdout)) == 2
        assert "received 1, lost 0" in result.stderr
        assert "; datagrams refused: 1" in result.stderr
        assert result.exit_code == 3
    assert heard("--json", "--strict").exit_code == 0


@pytest.mark.parametrize(
    ("counts", "status"),
    [
        ({}, 0),
        ({"lost": 1}, 3),
        ({"truncated": 1}, 3),
        ({"malformed": 1}, 3),
        ({"foreign": 1, "unexplained": 1}, 0),  # no record of the kernel's
    ],
)
def test_what_strict_counts(counts: dict[str, int], status: int) -> None:
    stats = ExitListener.stats

    def changed(self: ExitListener) -> ExitStats:
        return dataclasses.replace(stats(self), **counts)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ExitListener, "stats", changed)
        assert heard("--json", "--strict").exit_code == status


def counted_and_heard(
    *options: str, counted: int, leaving: int | None = 0, witness: int | None = 9, **counts: int
) -> Result:
    """`taskstats exits`, where the kernel counts this many exits and these numbers were heard."""
    books = iter([1000, 1000 + counted])
    stats = ExitListener.stats

    def changed(self: ExitListener) -> ExitStats:
        return dataclasses.replace(stats(self), witness=witness, **counts)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ExitListener, "stats", changed)
        patch.setattr(host, "leaving_tasks", lambda: leaving)
        patch.setattr(host, "exits_by_the_books", lambda: next(books))
        return heard("--json", "--cpus", "0", *options)


@pytest.mark.parametrize(
    ("counts", "missing"),
    [
        ({"counted": 740, "received": 232}, 508),
        ({"counted": 740, "received": 232, "truncated": 507, "malformed": 1}, 0),
        ({"counted": 740, "received": 232, "witness": None}, 0),  # on some of the CPUs
        ({"counted": 740, "received": 232, "leaving": None}, 0),  # /proc hides processes
        ({"counted": 19, "received": 0}, 19),
        ({"counted": 18, "received": 0}, 0),
        ({"counted": 28, "received": 0, "leaving": 10}, 0),
        ({"counted": 29, "received": 0, "leaving": 10}, 29),
        ({"counted": 10_000, "received": 9_882}, 0),
        ({"counted": 10_000, "received": 9_881}, 119),
        ({"counted": 0, "received": 900}, 0),
    ],
)
def test_exits_that_the_kernel_counted_and_nobody_heard(
    counts: dict[str, Any], missing: int
) -> None:
    usual = counted_and_heard(**counts)
    strict = counted_and_heard("--strict", **counts)
    unreadable = counts.get("malformed", 0)
    remark = f"{missing} were neither received nor lost"
    assert (remark in usual.stderr, usual.exit_code) == (missing > 0, 0)
    assert remark in strict.stderr if missing else "incomplete" not in strict.stderr
    assert strict.exit_code == (3 if missing or unreadable else 0)


def test_what_a_filter_leaves_out_is_not_missing() -> None:
    for options in (["--threads", "--failed"], ["--threads", "--user", "root"]):
        result = counted_and_heard("--strict", *options, counted=740, received=232)
        assert (result.exit_code, "incomplete" in result.stderr) == (0, False)


def test_threads_of_which_no_process_was_heard_are_told() -> None:
    result = heard(exits=[ending(ac_pid=n, ac_tgid=4, ac_flag=0) for n in (5, 6)])
    assert "; records that wait for other threads: 2, given up: 0" in result.stderr
    again = [ending(ac_pid=5, ac_tgid=4, ac_flag=0), ending(ac_pid=4)]
    assert "; records that wait for other threads: 0, given up: 1" in heard(exits=again).stderr


def test_numbers_that_are_missing_beyond_the_lost_are_told() -> None:
    def numbered(seq: int) -> bytes:
        return ending()[:8] + struct.pack("=I", seq) + ending()[12:]

    result = heard(exits=map(numbered, (1, 2, 5, 6)))
    assert "; sequence numbers missing beyond those: 2" in result.stderr


def test_an_old_kernel_shows_tasks_and_says_so() -> None:
    result = heard("--json", version=11, exits=(ending(11),))
    told = "struct version 11 does not name processes (12 does): these lines are threads"
    assert told in result.stderr
    assert len(told) <= 80, "it fits a terminal, as the table does"
    assert [one["kind"] for one in objects(result.stdout)] == ["stream", "task"]


def test_unmeasured_delays_are_null_and_in_a_table_n_m() -> None:
    nothing = {name: 0 for name in wire.FIELDS if name.endswith("_count")} | {"irq_delay_total": 0}
    names = "cpu_delay_total,irq_delay_total"
    (line,) = objects(heard("--json", "--fields", names, exits=(ending(**nothing),)).stdout)[1:]
    assert line["cpu_delay_total"] == wire.SAMPLE["cpu_delay_total"]
    assert line["irq_delay_total"] is None
    assert heard("--fields", names, exits=(ending(**nothing),)).stdout.split()[-1] == "n/m"
    result = heard("--threads", "--fields", names, exits=(ending(**nothing),))
    assert result.stdout.split()[-1] == "n/m"


@pytest.mark.parametrize("version", [12, 16, 17])
def test_csv_has_the_fields_of_this_kernel(version: int) -> None:
    result = heard("--csv", version=version, exits=(ending(version),))
    (row,) = csv.DictReader(io.StringIO(result.stdout))
    probed = {*PROBED, "cgroup"}
    assert set(PROCESS_KEYS) - probed < set(row)
    assert not probed & set(row), "there is no probe"
    fields = set(row) & set(FIELDS)
    assert fields == {name for name in fields if FIELDS[name].since <= version}
    assert {"nvcsw", "hiwater_rss", "wpcopy_count"} & fields == (
        {"nvcsw", "hiwater_rss"} | ({"wpcopy_count"} if version > 12 else set())
    )
    assert row["pid"] == "7"


def test_the_end_comes_on_time_whoever_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The listener is stopped while a line waits to be written."""
    stopped = threading.Event()
    registered, waited = [], []

    def answer(request: Request) -> Iterable[bytes]:
        yield from answers(request)
        if request.attribute == fake_kernel.REGISTER:
            registered.append(request.sender)
            yield ending()
        if request.attribute == fake_kernel.DEREGISTER and request.sender in registered:
            stopped.set()

    def slow(_written: object, batch: Batch, _fold: object) -> bool:
        if batch and not waited:
            signal.setitimer(signal.ITIMER_REAL, 1e-6)  # now the time is up
            waited.append(stopped.wait(60))
        return True

    monkeypatch.setattr(exits_command._Written, "write", slow)
    with FakeKernel(answer) as kernel:
        assert run("exits", "--for", "1000", obj=kernel.endpoint()).exit_code == 0
    assert waited == [True]


# ---- losses ----------------------------------------------------------------------------------


def with_losses(*lost: int) -> Batch:
    """A batch of ends, before each of which so many were lost on CPU 1."""
    made = taskstats.decode(b"".join(ending(ac_pid=n) for n in range(1, len(lost) + 1)))
    data = bytearray(made.data)
    for row, count in enumerate(lost):
        struct.pack_into("=I", data, row * ROW + HEADER["lost_before"][0], count)
        struct.pack_into("=H", data, row * ROW + HEADER["cpu"][0], 1)
    return Batch(bytes(data))


def stats_of(*lost: int) -> Any:
    cpus = [type("Cpu", (), {"cpu": cpu, "lost": count}) for cpu, count in enumerate(lost)]
    return type("Stats", (), {"cpus": cpus})


@pytest.mark.parametrize("threads", [False, True])
def test_a_loss_is_told_where_it_fell(threads: bool, capsys: pytest.CaptureFixture[str]) -> None:
    # What is not wanted hides no loss.
    written = exits_command._Written(JsonLines(), None, lambda one: one.comm != "sample")
    fold = None if threads else ProcessFold()
    written.write(with_losses(0, 3, 0, 4), fold)
    written = exits_command._Written(JsonLines(), None, lambda _: True)
    written.write(with_losses(2, 0, 3, 4), fold)
    written.write(with_losses(0, 0), fold)
    written.write_tail(stats_of(5, 9))
    lines = objects(capsys.readouterr().out)
    told = [
        one["lost"] if one["kind"] == "loss" else one.get("pid", one.get("id")) for one in lines
    ]
    assert told == [3, 4, 2, 1, 2, 3, 3, 4, 4, 1, 2, 5]
    assert [one["cpu"] for one in lines if one["kind"] == "loss"] == [1, 1, 1, 1, 1, 0]


def test_a_loss_in_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    exits_command._Written(Table([]), None, lambda _: True).write_tail(stats_of(0, 1))
    assert capsys.readouterr().out == "-- 1 lost on CPU 1 before this line --\n"


# ---- escape sequences ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ("fields", "\x1b[31m"),
        ("fields", "--\x1b[31m"),
        ("\x1b[31m",),
        ("--\x1b[31m",),
        ("cgroup", "/no/\x1b[31m"),
        ("run", "--\x1b[31m", "true"),
        ("run", "-o", "/no/\x1b[31m\n", "true"),
        ("exits", "--fields", "\x1b[31m"),
        ("exits", "--cpus", "\x1b[31m"),
        ("query", "--cgroup-hierarchy", "\x1b[31m", "1"),
    ],
)
def test_an_argument_writes_no_escape_sequence(arguments: tuple[str, ...]) -> None:
    result = run(*arguments)
    assert result.exit_code != 0
    assert "\x1b" not in result.output
    assert "\\x1b[31m" in result.output


def test_a_path_writes_no_line_of_its_own() -> None:
    output = run("run", "-o", "/no/a\nb", "true").output
    assert output == "Error: /no/a\\x0ab: No such file or directory\n"


def test_doctor_writes_no_escape_sequence(capsys: pytest.CaptureFixture[str]) -> None:
    checks = [
        Check("cgroups", "warn", "v2 at /a\x1b[2J", "why\x1b", "mount \x1b"),
        Check("probe", "warn", "not \x1b", "why"),
    ]
    doctor_command._print(Diagnosis(tuple(checks)))
    output = capsys.readouterr().out
    assert "\x1b" not in output
    assert "v2 at /a\\x1b[2J: why\\x1b" in output
    assert "fix: mount \\x1b" in output
    assert "no, because: not \\x1b" in output


def test_a_remark_writes_no_escape_sequence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(exits_command.fixes, "command", lambda: "'/a\x1b/taskstats'")
    assert exits_command._see_doctor("remark\x1b") == (
        "remark\\x1b; see: '/a\\x1b/taskstats' doctor"
    )
    Table([]).note("one\ntwo\x1b")
    assert capsys.readouterr().out == "one\ntwo\\x1b\n"


# ---- query -----------------------------------------------------------------------------------


def test_query_shows_tasks_and_which_could_not_be_had() -> None:
    def answer(request: Request) -> Iterable[bytes]:
        if request.is_query and request.id == 5:
            yield fake_kernel.error(request, 3)
        else:
            yield from answers(request)

    with FakeKernel(answer) as kernel:
        result = run("query", "--json", "4", "5", "6", obj=kernel.endpoint())
    assert [one["id"] for one in objects(result.stdout)[1:]] == [4, 6]
    assert result.exit_code == 1
    assert result.stderr == "taskstats: pid 5: No such process\n"


def test_before_records_told_their_process_proc_does() -> None:
    done = threading.Event()
    thread = threading.Thread(target=done.wait)
    thread.start()
    try:
        with FakeKernel(partial(answers, version=10)) as kernel:
            made = run("query", "--json", "--tgid", str(thread.native_id), obj=kernel.endpoint())
    finally:
        done.set()
        thread.join()
    assert [one["pid"] for one in objects(made.stdout)[1:]] == [os.getpid()]


def test_query_flags_a_delay_that_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "threads", lambda _: 1)
    day_us = 86_400 * 10**6
    delay = {"ac_etime": day_us, "ac_tgetime": day_us, "blkio_delay_total": 400 * 86_400 * 10**9}
    with FakeKernel(partial(answers, **delay)) as kernel:
        (row,) = objects(run("query", "--json", "--tgid", "4", obj=kernel.endpoint()).stdout)[1:]
        tables = [run("query", *o, "4", obj=kernel.endpoint()).stdout for o in ([], ["--tgid"])]
    assert row["delay_exceeds_elapsed"] is True
    for table in tables:
        assert " 400d 00h? " in table
        assert table.count("?") == 2, "the others are not in doubt"
        assert "?: in doubt, since one is longer than its task has lived, a kernel bug" in table


@pytest.mark.parametrize(
    ("switch", "reason"),
    [
        (False, "kernel.task_delayacct=0; it covers only tasks started after"),
        (True, "(started before kernel.task_delayacct=1), or has never waited"),
        (None, "or has never waited (kernel.task_delayacct cannot be read)"),
    ],
)
def test_why_a_delay_was_not_measured(
    monkeypatch: pytest.MonkeyPatch, switch: bool | None, reason: str
) -> None:
    monkeypatch.setattr(host, "task_delayacct", lambda: switch)
    never = {name: 0 for name in wire.FIELDS if name.endswith("_count")}
    with FakeKernel(partial(answers, **never)) as kernel:
        shown = run("query", "4", obj=kernel.endpoint()).stdout
    assert reason in shown


@pytest.mark.parametrize(
    ("view", "why"),
    [
        ("whole", "it has ended, or /proc does not tell"),
        ("partial", "/proc hides processes (hidepid)"),
        ("foreign", "/proc is of another PID namespace"),
    ],
)
def test_why_threads_are_not_counted(
    monkeypatch: pytest.MonkeyPatch, view: host.View, why: str
) -> None:
    monkeypatch.setattr(host, "proc_view", lambda: view)
    with FakeKernel(answers) as kernel:
        shown = run("query", "--tgid", "5000000", obj=kernel.endpoint()).stdout
    assert f"- under THR: {why}\n" in shown


def test_an_id_in_a_foreign_proc_is_another_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "proc_view", lambda: "foreign")
    monkeypatch.setattr(host, "tgid", lambda _: 1)
    with FakeKernel(partial(answers, version=10)) as kernel:
        made = run("query", "--json", "--tgid", "77", obj=kernel.endpoint())
    assert [one["pid"] for one in objects(made.stdout)[1:]] == [77]


def test_the_start_of_a_process_before_it_had_64_bits() -> None:
    with FakeKernel(partial(answers, version=9, ac_btime=1_700_000_000)) as kernel:
        made = run("query", "--json", "--tgid", "77", obj=kernel.endpoint())
    assert objects(made.stdout)[1]["started_seconds"] == 1_700_000_000


def test_all_leaves_out_only_what_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(request: Request) -> Iterable[bytes]:
        failures = {5: errno.ESRCH, 6: errno.ENOMEM}
        if request.is_query and request.id in failures:
            yield fake_kernel.error(request, failures[request.id])
        else:
            yield from answers(request)

    monkeypatch.setattr(host, "proc_view", lambda: "whole")
    monkeypatch.setattr(host, "processes", lambda: [4, 5, 6])
    with FakeKernel(answer) as kernel:
        made = run("query", "--json", "--all", obj=kernel.endpoint())
    assert [one["pid"] for one in objects(made.stdout)[1:]] == [4]
    assert made.stderr == "taskstats: pid 6: Cannot allocate memory\n"
    assert made.exit_code == 1


# ---- fields, help ----------------------------------------------------------------------------


def test_fields_lists_every_field_once() -> None:
    head, *rows = objects(run("fields", "--json").stdout)
    assert head["kind"] == "stream"
    names = [row["name"] for row in rows]
    assert names == [*FIELDS, *PROCESS_KEYS, *TOTALS_KEYS, *HEADER_KEYS, *COST_KEYS]
    for row in rows[: len(FIELDS)]:
        field = FIELDS[row["name"]]
        assert (row["unit"], row["since"], row["meaning"]) == (field.unit, field.since, field.doc)
        assert row["kernel"] == RELEASES[field.since]
        assert set(row["records"].split(", ")) - {"process", "total"} == field.kinds
    piped = run("fields").stdout.splitlines()[1:]
    assert [line.split()[0] for line in piped] == names
    assert all(line.endswith(row["meaning"]) for line, row in zip(piped, rows, strict=True))
    assert len(list(csv.reader(io.StringIO(run("fields", "--csv").stdout)))) == len(names) + 1


def test_the_keys_that_are_told_are_those_that_are_written() -> None:
    (process,) = ProcessFold().feed(taskstats.decode(ending()))
    assert list(process.to_dict())[: len(PROCESS_KEYS)] == list(PROCESS_KEYS)
    record = heard("--json", "--threads").stdout.splitlines()[1]
    assert set(json.loads(record)) - set(FIELDS) == set(HEADER_KEYS) - {*PROBED, "cgroup"}


def test_the_man_page_is_that_of_the_help() -> None:
    program = "import runpy; print(runpy.run_path('docs/make_man.py')['page'](), end='')"
    made = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert made.stdout == (ROOT / "docs/taskstats.1").read_text(), "run docs/make_man.py"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("taskstats d", {"doctor"}),
        ("taskstats exits --th", {"--threads"}),
        ("taskstats exits --user roo", {"root"}),
        ("taskstats exits --fields pid,exit_", {"pid,exit_code", "pid,exit_signal"}),
        ("taskstats exits --threads --fields ac_et", {"ac_etime"}),
    ],
)
def test_completion(words: str, expected: set[str]) -> None:
    program = "import sys; sys.argv = ['taskstats']; from taskstats.cli import main; main()"
    asked = {
        "_TASKSTATS_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split()) - 1),
    }
    answered = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, **asked}, capture_output=True, text=True
    )
    assert {line.partition(",")[2] for line in answered.stdout.splitlines()} == expected
