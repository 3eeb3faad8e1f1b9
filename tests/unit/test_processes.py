"""ProcessFold and Process: records of threads become processes, in any order and any batches."""

import itertools
import json
import random
import struct
import tracemalloc
import weakref
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import wire

import taskstats
from taskstats import Batch, FieldUnavailable, Process, ProcessFold
from taskstats.fields import DELAYS
from taskstats.presence import SETTLED
from taskstats.processes import PROCESS_KEYS
from taskstats.rows import HEADER, PROBED, ROW

AXSIG, AGROUP = 0x10, 0x20
LATER_NS = 10**12  # more than anybody would wait
START_NS = 1_700_000_000_123_456_789
EMPTY = Batch(b"")
VERSIONS = (12, 13, 14, 15, 16, 17)

#: What has no total: ids, moments, and the age of the process, which each thread repeats.
NO_TOTAL = {"ac_btime64", "ac_tgetime", "ac_exe_dev", "ac_exe_inode"}
WORDS = [name for name, m in wire.MEMBERS.items() if m.format == "Q" and name not in NO_TOTAL]
GROUP_WORDS = [name for name in WORDS if wire.MEMBERS[name].summed]
OTHER_COUNTS = [f"{delay}_count" for delay in DELAYS[1:]]

Values = dict[str, Any]


# ---- making records --------------------------------------------------------------------------


def thread(pid: int, tgid: int = 100, seed: int | None = None, **values: Any) -> Values:
    """What a thread's record holds: numbers unlike those of other threads, but for `values`."""
    chance = random.Random(pid if seed is None else seed)
    numbers = {name: chance.randrange(1, 10**6) for name in WORDS}
    plain = {"ac_pid": pid, "ac_tgid": tgid, "ac_flag": 0, "ac_exitcode": 0, "ac_etime": 10**9}
    return {**wire.SAMPLE, **numbers, **plain, **values}


def last(pid: int, tgid: int = 100, **values: Any) -> Values:
    """The same of the last thread."""
    return thread(pid, tgid, ac_flag=AGROUP, **values)


def group_of(threads: Iterable[Values], **values: Any) -> Values:
    """What the kernel sums over these."""
    every = list(threads)
    return {name: sum(one[name] for one in every) for name in GROUP_WORDS} | values


def sent(task: Values, group: Values | None = None, version: int = 17, port: int = 0) -> bytes:
    """The datagram of an exit; of one of several threads that ends a process, with its group."""
    size = wire.SIZES[version]
    parts = [wire.aggregate("task", task["ac_pid"], wire.pack(version, size, task, fill=0))]
    if group is not None:
        stats = wire.pack(version, size, group, fill=0)
        parts.append(wire.aggregate("group", task["ac_tgid"], stats))
    return wire.message(*parts, port=port)


def batch_of(
    *datagrams: bytes, ns: int | Sequence[int] = START_NS, emptied_ns: int | None = None
) -> Batch:
    """One batch of them, read at `ns`, or each at its own."""
    made = taskstats.decode(b"".join(datagrams))
    times = [ns] * len(made) if isinstance(ns, int) else ns
    data = bytearray(made.data)
    for row, time in enumerate(times):
        struct.pack_into("=Q", data, row * ROW + HEADER["received_ns"][0], time)
    return Batch(bytes(data), made.groups, emptied_ns=emptied_ns)


def process_of(threads: Sequence[Values], version: int = 17, **group: Any) -> list[bytes]:
    """The datagrams of a process, whose last thread is the last of these."""
    *others, end = threads
    sums = group_of(threads, **group)
    return [*(sent(one, None, version) for one in others), sent(end, sums, version)]


def fold(*datagrams: bytes) -> list[Process]:
    """The processes of one batch."""
    made = ProcessFold()
    return made.feed(batch_of(*datagrams)) + made.flush()


def folded(*datagrams: bytes) -> Process:
    (process,) = fold(*datagrams)
    return process


def filler(at_ns: int = START_NS, emptied_ns: int | None = None) -> Batch:
    """Another process's end at this moment."""
    return batch_of(sent(last(9, 9)), ns=at_ns, emptied_ns=emptied_ns)


def totals_of(
    threads: Sequence[Values], group: Mapping[str, int] | None = None, version: int = 17
) -> dict[str, int]:
    """The totals that a process of these threads has, by plain arithmetic."""
    measured = any(one[name] for one in threads for name in OTHER_COUNTS)
    made = {}
    for name in wire.layout(version, wire.SIZES[version]):
        if name not in WORDS or (not measured and name.startswith(DELAYS[1:])):
            continue
        column = [one[name] for one in threads]
        if name.startswith("hiwater") or name.endswith("_max"):
            made[name] = max(column)
        elif name.endswith("_min"):
            made[name] = min(filter(None, column), default=0)
        else:
            made[name] = sum(column)
        if name in (group or {}):
            made[name] = max(made[name], group[name])  # type: ignore[index]
    return made


THREE = (thread(100), thread(101), last(102))


# ---- when a process is given out -------------------------------------------------------------


def test_a_process_of_one_thread_is_given_out_at_once() -> None:
    made = ProcessFold()
    only = last(7, 7, ac_exitcode=3 << 8)
    (process,) = made.feed(batch_of(sent(only)))
    assert (process.pid, process.threads, process.complete) == (7, 1, True)
    assert (process.exit_code, process.status_certain) == (3, True)
    assert process.totals == totals_of([only])
    assert (made.held, made.forgotten) == (0, 0)


def test_processes_of_one_batch_come_in_its_order() -> None:
    assert [process.pid for process in fold(*(sent(last(i, i)) for i in (5, 3, 8)))] == [5, 3, 8]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
def test_the_last_threads_record_may_come_before_the_others(order: tuple[int, ...]) -> None:
    datagrams = process_of(THREE)
    made = ProcessFold()
    for fed, i in enumerate(order, 1):
        given_out = made.feed(batch_of(datagrams[i]))
        assert (made.held, len(given_out)) == ((fed, 0) if fed < 3 else (0, 1))
    (process,) = given_out
    assert (process.pid, process.threads, process.complete) == (100, 3, True)
    assert process.record.ac_pid == 102
    assert process.totals == totals_of(THREE)
    assert made.held == 0


def test_threads_that_ended_without_the_last_are_no_process() -> None:
    made = ProcessFold()
    made.feed(batch_of(sent(THREE[0]), sent(THREE[1])))
    assert (made.feed(EMPTY), made.held) == ([], 2)


#: One of whose threads is not heard of, and another such process.
LACKING = process_of(THREE)[1:]
OTHER_LACKING = process_of([thread(200, 200), last(201, 200)])[1:]


def pids_of(processes: Iterable[Process]) -> list[int]:
    return [process.pid for process in processes]


def test_an_empty_batch_gives_out_those_that_wait() -> None:
    made = ProcessFold()
    assert made.feed(EMPTY) == []
    assert made.feed(batch_of(*LACKING, *OTHER_LACKING)) == []
    assert pids_of(made.feed(EMPTY)) == [100, 200]
    assert made.feed(EMPTY) == made.flush() == []


def test_a_process_waits_until_the_queues_were_emptied_after_its_end() -> None:
    made = ProcessFold()
    assert made.feed(batch_of(*LACKING)) == []
    assert pids_of(made.feed(filler(START_NS + LATER_NS))) == [9]
    assert made.held == 2
    processes = made.feed(filler(START_NS + LATER_NS, emptied_ns=1))
    assert pids_of(processes) == [9, 100]
    assert (processes[1].threads, processes[1].complete, made.held) == (2, False, 0)


def test_the_batch_of_its_end_may_be_ahead_of_another_queue() -> None:
    made = ProcessFold()
    one, two, end = process_of(THREE)
    assert made.feed(batch_of(one, end, emptied_ns=1)) == []
    (process,) = made.feed(batch_of(two))
    assert (process.threads, process.complete) == (3, True)


def test_only_those_that_ended_in_an_earlier_batch_are_given_out() -> None:
    made = ProcessFold()
    made.feed(batch_of(*LACKING))
    assert pids_of(made.feed(batch_of(*OTHER_LACKING, emptied_ns=1))) == [100]
    assert pids_of(made.feed(filler(emptied_ns=2))) == [9, 200]


def test_a_pid_that_ends_again_begins_to_wait_again() -> None:
    made = ProcessFold()
    made.feed(batch_of(*LACKING))
    again = process_of([thread(101, seed=7), last(102, seed=8)])[1:]
    (first,) = made.feed(batch_of(*again, emptied_ns=1))
    assert (first.threads, first.record) == (2, batch_of(*LACKING)[1])
    assert [process.threads for process in made.feed(filler(emptied_ns=2))] == [1, 1]


def test_a_record_in_the_batch_that_empties_the_queues_counts() -> None:
    made = ProcessFold()
    one, two, end = process_of(THREE, cpu_count=0)  # whether it is complete cannot be told
    made.feed(batch_of(one, end))
    processes = made.feed(batch_of(sent(last(9, 9)), two, emptied_ns=1))
    assert [(process.pid, process.threads) for process in processes] == [(9, 1), (100, 3)]


@pytest.mark.parametrize("later", [0, LATER_NS])
def test_when_a_record_is_read_does_not_matter(later: int) -> None:
    made = ProcessFold()
    one, two, end = process_of(THREE)
    made.feed(batch_of(one, ns=START_NS - later))
    assert made.feed(batch_of(end)) == []
    assert pids_of(made.feed(filler(START_NS + later))) == [9]
    (process,) = made.feed(batch_of(two, ns=START_NS + 2 * later))
    assert (process.threads, process.complete) == (3, True)


def test_a_record_that_comes_too_late_is_held_and_in_no_process() -> None:
    made = ProcessFold()
    one, two, end = process_of(THREE)
    made.feed(batch_of(one, end))
    _, process = made.feed(filler(emptied_ns=1))
    made.feed(batch_of(two))
    assert (process.threads, process.complete) == (2, False)
    assert (made.held, made.forgotten) == (1, 0)


# ---- any order, any batches ------------------------------------------------------------------

CROWD = (
    (*(thread(100 + i) for i in range(4)), last(104, ac_exitcode=7 << 8)),
    (thread(201, 200), thread(202, 200), last(200, 200)),
    (thread(300, 300, ac_exitcode=9), last(301, 300, ac_exitcode=9)),
    (last(400, 400),),
)
CROWD_SENT = [
    datagram
    for threads in CROWD
    for datagram in (process_of(threads) if threads[1:] else [sent(threads[0])])
]


@given(order=st.permutations(CROWD_SENT), cuts=st.sets(st.integers(1, len(CROWD_SENT) - 1)))
def test_any_order_and_any_batches_give_the_same_processes(
    order: list[bytes], cuts: set[int]
) -> None:
    made = ProcessFold()
    given_out: list[Process] = []
    for start, stop in itertools.pairwise([0, *sorted(cuts), len(order)]):
        given_out += made.feed(batch_of(*order[start:stop]))
        assert stop == sum(process.threads for process in given_out) + made.held
    given_out += made.flush()
    assert (made.held, made.forgotten, len(given_out)) == (0, 0, len(CROWD))
    by_pid = {process.pid: process for process in given_out}
    for threads in CROWD:
        process = by_pid[threads[0]["ac_tgid"]]
        leader = next(one for one in threads if one["ac_pid"] == one["ac_tgid"])
        assert (process.threads, process.complete) == (len(threads), True)
        assert process.record.ac_pid == threads[-1]["ac_pid"]
        assert process.status_certain == (leader["ac_exitcode"] == threads[-1]["ac_exitcode"])
        assert process.totals == totals_of(threads)


records = st.tuples(
    st.integers(1, 4),  # the tgid
    st.integers(0, 2),  # the thread
    st.sampled_from(["thread", "alone", "ends a group"]),
    st.integers(0, 1),  # waits that another thread had, which was not heard
)
emptied = st.sampled_from([None, 1])


@given(st.lists(st.tuples(st.lists(records, max_size=6), emptied), max_size=12), st.integers(1, 3))
def test_every_record_fed_is_in_a_process_or_held_or_forgotten(
    batches: list[tuple[list[tuple[int, int, str, int]], int | None]], capacity: int
) -> None:
    made = ProcessFold(capacity)
    given_out: list[Process] = []
    fed, ends = 0, 0
    for batch, emptied_ns in batches:
        datagrams = []
        for tgid, number, kind, waits in batch:
            one = thread(tgid + number * 10, tgid, ac_flag=0 if kind == "thread" else AGROUP)
            group = group_of([one], cpu_count=one["cpu_count"] + waits)
            datagrams.append(sent(one, group if kind == "ends a group" else None))
            ends += kind != "thread"
        given_out += made.feed(batch_of(*datagrams, emptied_ns=emptied_ns) if batch else EMPTY)
        fed += len(batch)
        assert fed == sum(process.threads for process in given_out) + made.held + made.forgotten
        assert made.held >= 0
    given_out += made.flush()
    assert fed == sum(process.threads for process in given_out) + made.held + made.forgotten
    assert len(given_out) == ends


# ---- totals ----------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
def test_totals_are_sums_and_extremes_of_the_fields_that_the_version_has(version: int) -> None:
    process = folded(*process_of(THREE, version))
    assert process.totals == totals_of(THREE, version=version)
    offsets = [taskstats.FIELDS[name].offset for name in process.totals]
    assert offsets == sorted(offsets)


@pytest.mark.parametrize(
    ("version", "absent", "present"),
    [
        (12, "wpcopy_count", "compact_count"),
        (13, "irq_count", "wpcopy_count"),
        (14, "irq_delay_max", "irq_count"),
    ],
)
def test_a_field_that_the_version_lacks_has_no_total(
    version: int, absent: str, present: str
) -> None:
    for process in (folded(*process_of(THREE, version)), folded(sent(last(7, 7), None, version))):
        assert absent not in process.totals
        assert absent not in process.to_dict()
        assert present in process.totals


@pytest.mark.parametrize("values", [(5, 0, 3), (0, 0, 4), (0, 0, 0), (2, 9, 7)], ids=str)
def test_the_smallest_is_of_those_that_are_not_0_and_the_largest_of_all(
    values: tuple[int, ...],
) -> None:
    extremes = ("cpu_delay_min", "wpcopy_delay_min", "cpu_delay_max", "hiwater_rss", "hiwater_vm")
    ends = (0, 0, AGROUP)
    threads = [
        thread(100 + i, **dict.fromkeys(extremes, value), ac_flag=ends[i])
        for i, value in enumerate(values)
    ]
    least = min([value for value in values if value] or [0])
    for order in itertools.permutations(process_of(threads)):
        totals = folded(*order).totals
        expected = (least, least, max(values), max(values), max(values))
        assert tuple(totals[name] for name in extremes) == expected


def test_a_groups_sum_counts_where_it_is_larger() -> None:
    sums = group_of(THREE)
    more = {name: value + 5 for name, value in sums.items() if name.startswith(("cpu", "blkio"))}
    less = {name: value - 5 for name, value in sums.items() if name not in more}
    process = folded(*process_of(THREE, **more, **less))
    assert {"cpu_run_virtual_total", "blkio_delay_total"} <= more.keys()
    assert {"nvcsw", "ac_utime"} <= less.keys()
    assert process.totals == totals_of(THREE, more)
    assert process.cpu_seconds == more["cpu_run_virtual_total"] / 1e9


def test_what_the_kernel_does_not_sum_over_a_group_is_of_the_threads_alone() -> None:
    unsummed = {name: 10**12 for name in WORDS if name not in GROUP_WORDS}
    assert {"ac_minflt", "hiwater_rss", "cpu_delay_max"} <= unsummed.keys()
    assert folded(*process_of(THREE, **unsummed)).totals == totals_of(THREE)


NO_WAITS = {name: 0 for name in WORDS if name.startswith(DELAYS[1:])}
UNMEASURED = tuple({**one, **NO_WAITS} for one in THREE)


@pytest.mark.parametrize("threads", [UNMEASURED, UNMEASURED[2:]], ids=["several", "one"])
def test_delays_that_were_not_measured_have_no_totals(threads: Sequence[Values]) -> None:
    datagrams = process_of(threads) if threads[1:] else [sent(threads[0])]
    process = folded(*datagrams)
    assert process.delays_measured is None
    assert process.totals == totals_of(threads)
    delays = {name for name in process.totals if name.startswith(DELAYS)}
    cpu = {"cpu_count", "cpu_delay_total", "cpu_delay_max", "cpu_delay_min"}
    runs = {"cpu_run_real_total", "cpu_run_virtual_total", "cpu_scaled_run_real_total"}
    assert delays == cpu | runs


@pytest.mark.parametrize("count", OTHER_COUNTS)
@pytest.mark.parametrize("at", range(3))
def test_one_delay_that_was_measured_in_one_thread_tells_of_the_others(at: int, count: str) -> None:
    threads = list(UNMEASURED)
    threads[at] = {**threads[at], count: 1}
    process = folded(*process_of(threads))
    assert process.delays_measured is True
    assert process.totals == totals_of(threads)
    assert {f"{name}_delay_total" for name in DELAYS} <= process.totals.keys()


def test_a_delay_that_the_group_alone_tells_of_was_measured() -> None:
    process = folded(*process_of(UNMEASURED, wpcopy_count=4, wpcopy_delay_total=40))
    assert process.delays_measured is True
    assert (process.totals["wpcopy_count"], process.totals["wpcopy_delay_total"]) == (4, 40)


@pytest.mark.parametrize("at", [None, 0, 1, 2])
def test_a_delay_longer_than_the_life_of_its_thread_is_flagged(at: int | None) -> None:
    threads = list(THREE)
    if at is not None:
        threads[at] = {**threads[at], "ac_etime": 1, "blkio_delay_total": 2001}
    for order in itertools.permutations(process_of(threads)):
        assert folded(*order).delay_exceeds_elapsed is (at is not None)
    alone = last(7, 7, ac_etime=1, blkio_delay_total=2001)
    assert folded(sent(alone)).delay_exceeds_elapsed is True


# ---- who it was, and how it ended ------------------------------------------------------------

LEADER = thread(100, ac_comm=b"caf\xe9", ac_uid=1, ac_gid=2, ac_ppid=3, ac_exitcode=5 << 8)
WORKER = thread(101, ac_comm=b"worker", ac_uid=6, ac_gid=7, ac_ppid=8, ac_exitcode=9)
END = last(102, ac_comm=b"end", ac_uid=11, ac_gid=12, ac_ppid=13, ac_exitcode=14 << 8)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
def test_the_name_and_the_user_are_the_leaders_the_rest_is_the_last_threads(
    order: tuple[int, ...],
) -> None:
    datagrams = process_of([LEADER, WORKER, END])
    process = folded(*(datagrams[i] for i in order))
    assert (process.comm, process.uid, process.gid) == (r"caf\xe9", 1, 2)
    assert (process.ppid, process.exit_code, process.exit_signal) == (13, 14, None)
    assert process.status_certain is False
    assert repr(process) == r"<Process 100 'caf\\xe9', 3 threads>"


def test_without_the_leaders_record_the_last_threads_stands_for_it() -> None:
    one, two = process_of([WORKER, END])
    for process in (folded(one, two), folded(two, one)):
        assert (process.comm, process.uid, process.gid) == ("end", 11, 12)
        assert process.status_certain is False


def test_a_leader_that_is_the_last_is_its_own() -> None:
    leader = last(100, ac_comm=b"main", ac_uid=1, ac_gid=2, ac_exitcode=4 << 8)
    process = folded(*process_of([WORKER, leader]))
    assert (process.comm, process.uid, process.gid) == ("main", 1, 2)
    assert (process.exit_code, process.status_certain) == (4, True)


@pytest.mark.parametrize(
    ("leader", "end", "certain"),
    [(9, 9, True), (9, 7 << 8, False), (7 << 8, 9, False), (7 << 8, 7 << 8, True)],
)
def test_the_status_is_certain_if_the_leader_told_the_same(
    leader: int, end: int, certain: bool
) -> None:
    threads = [{**LEADER, "ac_exitcode": leader}, WORKER, {**END, "ac_exitcode": end}]
    process = folded(*process_of(threads))
    assert process.status_certain is certain
    expected = (None, 9) if end == 9 else (7, None)
    assert (process.exit_code, process.exit_signal) == expected


def test_when_it_began_and_how_long_it_lived_are_the_processs_not_the_threads() -> None:
    moments = {"ac_btime64": 1_700_000_100, "ac_etime": 2_000_000, "ac_tgetime": 5_500_000}
    process = folded(*process_of([LEADER, {**END, **moments}]))
    assert process.elapsed_seconds == 5.5
    assert process.started_at == datetime.fromtimestamp(1_700_000_097, UTC)
    assert process.to_dict()["started_seconds"] == 1_700_000_097
    assert process.received_at == datetime(2023, 11, 14, 22, 13, 20, 123456, UTC)


def test_time_on_a_cpu_is_none_where_nothing_was_added_up() -> None:
    assert folded(sent(last(7, 7, cpu_run_virtual_total=0))).cpu_seconds is None
    run = {"cpu_run_virtual_total": 250_000_000}
    assert folded(sent(last(7, 7, **run))).cpu_seconds == 0.25


def test_the_peak_is_in_bytes_and_none_where_the_kernel_has_none() -> None:
    sizes = [{**one, "hiwater_rss": size} for one, size in zip(THREE, (3, 8, 0), strict=True)]
    assert folded(*process_of(sizes)).peak_rss_bytes == 8192
    assert folded(sent(last(7, 7, hiwater_rss=0))).peak_rss_bytes is None


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("datagrams", [process_of, lambda threads, v: [sent(threads[-1], None, v)]])
def test_a_dict_is_the_process_ready_for_json(version: int, datagrams: Any) -> None:
    process = folded(*datagrams([LEADER, WORKER, END], version))
    made = process.to_dict()
    assert list(made) == [*PROCESS_KEYS, *process.totals]
    assert json.loads(json.dumps(made)) == made
    assert (made["kind"], made["received_ns"]) == ("process", START_NS)
    attributes = PROCESS_KEYS.keys() - {"kind", "received_ns", "started_seconds"}
    assert {name: made[name] for name in attributes} == {
        name: getattr(process, name) for name in attributes
    }
    assert {name: made[name] for name in process.totals} == process.totals


def test_a_dict_has_none_for_delays_that_were_not_measured() -> None:
    made = folded(*process_of(UNMEASURED, 13)).to_dict()
    in_order = [name for name in wire.layout(13, wire.SIZES[13]) if name in WORDS]
    assert set(made) == {*PROCESS_KEYS, *in_order}
    unmeasured = {name for name in in_order if name.startswith(DELAYS[1:])}
    assert {name for name in in_order if made[name] is None} == unmeasured
    assert made["delays_measured"] is None
    assert json.loads(json.dumps(made)) == made


def test_a_replayed_stream_has_no_time() -> None:
    made = ProcessFold()
    for datagram in LACKING:
        assert made.feed(taskstats.decode(datagram)) == []
    (single, process) = made.feed(taskstats.decode(sent(last(7, 7)))) + made.flush()
    assert (single.threads, process.threads) == (1, 2)
    assert process.received_at is process.to_dict()["received_ns"] is None


# ---- whether every thread was heard ----------------------------------------------------------

BOTH_COUNTS = ("cpu_count", "cpu_run_virtual_total")


@pytest.mark.parametrize(
    ("count", "run", "complete"),
    [(0, 0, True), (0, -1, True), (1, 0, False), (0, 1, False), (-1, -1, False), (1, -1, False)],
    ids=["equal", "overtaken by a tick", "a wait more", "time more", "too much", "a wait alone"],
)
def test_it_is_complete_if_the_threads_add_up_to_the_group(
    count: int, run: int, complete: bool
) -> None:
    sums = group_of(THREE)
    group = dict(zip(BOTH_COUNTS, (sums["cpu_count"] + count, 0), strict=True))
    group["cpu_run_virtual_total"] = sums["cpu_run_virtual_total"] + run
    assert folded(*process_of(THREE, **group)).complete is complete


@pytest.mark.parametrize("missing", [0, 1])
def test_it_is_not_complete_without_one_of_its_threads(missing: int) -> None:
    datagrams = process_of(THREE)
    del datagrams[missing]
    process = folded(*datagrams)
    assert (process.threads, process.complete) == (2, False)
    for name in GROUP_WORDS:
        assert process.totals[name] == sum(one[name] for one in THREE), name


def test_it_is_not_complete_with_threads_of_an_earlier_process_of_that_pid() -> None:
    made = ProcessFold()
    made.feed(batch_of(sent(thread(100, seed=1)), sent(thread(103))))  # its end was lost
    made.feed(batch_of(*process_of(THREE)))
    (process,) = made.flush()
    assert (process.threads, process.complete) == (5, False)


def test_it_is_not_known_to_be_complete_where_the_group_counts_no_waits() -> None:
    assert folded(*process_of(THREE, cpu_count=0)).complete is None


def test_it_is_not_known_to_be_complete_where_the_batch_was_made_without_groups() -> None:
    made = ProcessFold()
    made.feed(Batch(bytes(batch_of(*process_of(THREE, nvcsw=10**12)).data)))
    (process,) = made.flush()
    assert (process.threads, process.complete) == (3, None)
    assert process.totals == totals_of(THREE)


def test_it_is_not_known_to_be_complete_where_the_kernel_summed_nothing() -> None:
    process = folded(*process_of(THREE, **dict.fromkeys(GROUP_WORDS, 0)))
    assert (process.complete, process.threads) == (None, 3)


# ---- an exec, and pids used again ------------------------------------------------------------

OLD = thread(100, seed=1, ac_comm=b"old", ac_flag=AXSIG, ac_exitcode=9)
NEW = last(100, seed=2, ac_comm=b"new", ac_exitcode=3 << 8)


def test_a_thread_that_execs_takes_the_leaders_place_in_one_process() -> None:
    process = folded(*process_of([OLD, NEW]))
    assert (process.pid, process.threads, process.complete) == (100, 2, True)
    assert (process.comm, process.exit_code, process.status_certain) == ("new", 3, True)
    assert process.totals == totals_of([OLD, NEW])


def test_the_old_leaders_record_may_come_after_that_of_the_thread_that_took_its_place() -> None:
    process = folded(*reversed(process_of([OLD, NEW])))
    assert (process.threads, process.complete) == (2, True)
    assert (process.comm, process.exit_code, process.status_certain) == ("new", 3, True)


def test_threads_of_a_process_whose_pid_a_single_thread_has_now_are_forgotten() -> None:
    made = ProcessFold()
    made.feed(batch_of(*process_of(THREE)[:2]))
    new = last(100, seed=5)
    (process,) = made.feed(batch_of(sent(new)))
    assert (process.threads, process.complete) == (1, True)
    assert process.totals == totals_of([new])
    assert (made.held, made.forgotten) == (0, 2)


@pytest.mark.parametrize("several", [True, False])
def test_a_second_end_of_the_same_pid_gives_out_the_first(several: bool) -> None:
    made = ProcessFold()
    made.feed(batch_of(*LACKING))
    second = [last(100, seed=5, ac_comm=b"second")]
    given_out = made.feed(
        batch_of(*process_of(second, cpu_count=0) if several else [sent(second[0])])
    )
    assert [process.totals["ac_minflt"] for process in given_out[:1]] == [
        sum(one["ac_minflt"] for one in THREE[1:])
    ]
    assert made.held == several
    given_out += made.flush()
    assert [(process.pid, process.threads) for process in given_out] == [(100, 2), (100, 1)]
    assert given_out[1].totals == totals_of(second)
    assert (made.held, made.forgotten) == (0, 0)


# ---- what is held ----------------------------------------------------------------------------


def of_process(tgid: int) -> Batch:
    return batch_of(sent(thread(tgid * 10, tgid)))


def test_beyond_the_capacity_the_one_heard_of_longest_ago_is_forgotten() -> None:
    made = ProcessFold(capacity=3)
    for tgid in (1, 2, 2, 3, 1):
        made.feed(of_process(tgid))
    assert (made.held, made.forgotten) == (5, 0)
    made.feed(of_process(4))
    assert (made.held, made.forgotten) == (4, 2)
    for tgid, heard in {1: 2, 2: 0, 3: 1, 4: 1}.items():
        end = last(tgid * 10 + 1, tgid)
        made.feed(batch_of(sent(end, group_of([end], cpu_count=0))))
        assert [process.threads for process in made.flush()] == [heard + 1], tgid


def test_processes_that_have_ended_do_not_count_against_the_capacity() -> None:
    made = ProcessFold(capacity=1)
    made.feed(batch_of(*LACKING))
    made.feed(of_process(5))
    assert (made.held, made.forgotten) == (3, 0)
    assert [process.threads for process in made.flush()] == [2]


def test_beyond_the_capacity_the_one_that_waits_longest_is_given_out() -> None:
    made = ProcessFold(capacity=2)
    ends = [process_of((last(tgid, tgid),), cpu_count=0) for tgid in (1, 2, 3)]
    assert [process.pid for end in ends for process in made.feed(batch_of(*end, ns=0))] == [1]
    assert [process.pid for process in made.flush()] == [2, 3]


@pytest.mark.parametrize("capacity", [0, -1])
def test_a_capacity_is_from_1(capacity: int) -> None:
    with pytest.raises(ValueError, match=f"number of processes from 1, not {capacity}"):
        ProcessFold(capacity)


@pytest.mark.parametrize("datagrams", [LACKING, process_of(THREE)[:1]], ids=["end", "no"])
def test_what_is_held_does_not_keep_a_batch(datagrams: list[bytes]) -> None:
    made = ProcessFold()
    singles = [sent(last(1000 + i, 1000 + i)) for i in range(20)]
    whole = batch_of(*datagrams, *singles)
    rows = np.frombuffer(bytes(whole.data), "u1").copy()
    batch = Batch(rows, whole.groups)
    alive = [weakref.ref(one) for one in (batch, rows, batch.groups)]
    del whole, rows
    assert len(made.feed(batch)) == 20
    del batch
    assert made.held == len(datagrams)
    assert [one() for one in alive] == [None] * 3


def test_a_process_that_is_held_takes_some_3_kb() -> None:
    made = ProcessFold()
    batch = batch_of(*(sent(thread(10_000 + i, i)) for i in range(500)))
    tracemalloc.start()
    made.feed(batch)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert made.held == 500
    assert 1_000 < size / 500 < 4_000


# ---- what is no record of an exit ------------------------------------------------------------


def test_a_struct_without_thread_groups_is_refused() -> None:
    made = ProcessFold()
    batch = batch_of(sent(last(7, 7), None, 11))
    with pytest.raises(FieldUnavailable, match="with struct version 12; the kernel sent 11"):
        made.feed(batch)
    assert (made.held, made.forgotten) == (0, 0)


def test_a_batch_that_is_refused_loses_no_process() -> None:
    made = ProcessFold()
    made.feed(batch_of(*LACKING))
    old = batch_of(sent(last(7, 7), None, 11), emptied_ns=1)
    with pytest.raises(FieldUnavailable):
        made.feed(old)
    assert [process.pid for process in made.flush()] == [100]


def test_groups_are_refused() -> None:
    groups = batch_of(*process_of(THREE)).groups
    with pytest.raises(ValueError, match="task records of exits, not of <Batch of 1 group"):
        ProcessFold().feed(groups)


def test_a_querys_answer_is_refused() -> None:
    made = ProcessFold()
    with pytest.raises(ValueError, match="task records of exits, not of <Batch of 1 task"):
        made.feed(taskstats.decode(sent(last(7, 7), port=42)))
    assert made.held == 0


# ---- captured from kernels -------------------------------------------------------------------

THREADS = [f"exit_thread{i}" for i in range(4)]  # the last is the leader's, with the group
NATIVE = ["amd64-6.1", "amd64-7.3", "host618", "uml61"] if wire.NATIVE == "<" else ["s390x-6.1"]


def frame(kernel: str, stem: str) -> bytes:
    return (wire.DATA / "frames" / kernel / f"{stem}.bin").read_bytes()


@pytest.mark.parametrize("kernel", NATIVE)
def test_a_captured_process_is_complete_in_any_order(kernel: str) -> None:
    frames = [frame(kernel, stem) for stem in THREADS]
    heard = [wire.decode(data) or [] for data in frames]
    (version,) = {one.version for one in itertools.chain(*heard)}
    zeros = dict.fromkeys(WORDS, 0)
    tasks: list[Values] = [{**zeros, **task.values} for task, *_ in heard]
    (group,) = heard[-1][1:]
    sums = {name: value for name, value in group.values.items() if isinstance(value, int)}
    for order in itertools.permutations(frames):
        process = folded(*order)
        assert process.pid == group.id
        assert (process.threads, process.complete) == (4, True)
        assert (process.exit_code, process.status_certain) == (7, True)
        assert process.totals == totals_of(tasks, sums, version)


@pytest.mark.parametrize("kernel", NATIVE)
@pytest.mark.parametrize("missing", range(3))
def test_a_captured_process_without_a_thread_is_not(kernel: str, missing: int) -> None:
    frames = [frame(kernel, stem) for stem in THREADS]
    del frames[missing]
    process = folded(*frames)
    assert (process.threads, process.complete) == (3, False)


@pytest.mark.parametrize("kernel", NATIVE)
def test_a_captured_process_of_one_thread(kernel: str) -> None:
    data = frame(kernel, "exit")
    (task,) = wire.decode(data) or []
    process = folded(data)
    assert (process.pid, process.threads, process.complete) == (task.id, 1, True)


@pytest.mark.skipif(wire.NATIVE != "<", reason="captured on a little-endian machine")
def test_a_captured_exit_of_an_old_kernel_is_refused() -> None:
    with pytest.raises(FieldUnavailable, match="version 12; the kernel sent 10"):
        fold(frame("amd64-5.10", "exit"))


# ---- with a probe ----------------------------------------------------------------------------


def settled(batch: Batch, *rows: tuple[int, int]) -> Batch:
    """The batch, its first rows settled with these final CPU times and starts; 0: not settled."""
    data = bytearray(batch.data)
    for row, (final_ns, start_ns) in enumerate(rows):
        if final_ns:
            data[row * ROW + HEADER["flags"][0]] |= SETTLED
            at = row * ROW + PROBED["final_cpu_ns"][0]
            struct.pack_into("=QQQ", data, at, final_ns, start_ns, 42)
    return Batch(bytes(data), batch.groups, path_of={42: "/a"}.get)


def test_final_figures_of_threads_add_up() -> None:
    threads = [thread(100), thread(101), last(102)]
    run = [one["cpu_run_virtual_total"] for one in threads]
    batch = settled(batch_of(*process_of(threads)), (run[0] + 7, 5), (run[1] + 8, 6), (run[2], 6))
    made = ProcessFold()
    (process,) = made.feed(batch) + made.flush()
    assert (process.final_cpu_ns, process.unsettled) == (sum(run) + 15, 0)
    assert (process.start_ns, process.cgroup_id, process.cgroup) == (5, 42, "/a")
    assert process.cpu_seconds == (sum(run) + 15) / 1e9
    assert process.to_dict().items() >= {"final_cpu_ns": sum(run) + 15, "cgroup": "/a"}.items()
    assert "final_cpu_ns" not in process.totals


def test_without_each_threads_figure_there_is_no_final_one() -> None:
    threads = [thread(100), last(101)]
    run = [one["cpu_run_virtual_total"] for one in threads]
    made = ProcessFold()
    (process,) = made.feed(settled(batch_of(*process_of(threads)), (0, 0), (run[1] + 9, 6)))
    assert (process.final_cpu_ns, process.unsettled, process.start_ns) == (None, 1, None)
    assert process.cpu_ns == sum(run) + 9
    (alone,) = made.feed(settled(batch_of(sent(last(7, 7))), (11, 3)))
    assert (alone.final_cpu_ns, alone.start_ns, alone.cgroup) == (11, 3, "/a")


def test_threads_that_were_not_heard_leave_no_final_figure() -> None:
    heard, missing = last(101), thread(100)
    group = group_of([missing, heard])
    made = ProcessFold()
    made.feed(settled(batch_of(sent(heard, group)), (heard["cpu_run_virtual_total"] + 5, 6)))
    (process,) = made.flush()
    assert (process.complete, process.final_cpu_ns) == (False, None)
    assert process.cpu_ns == group["cpu_run_virtual_total"]
