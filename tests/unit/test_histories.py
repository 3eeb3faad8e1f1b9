"""The model of tests/support/histories.py tells what is true, and shows what it is made for."""

import errno
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import Phase, find, given, settings
from support.histories import (
    Advance,
    DoubleFork,
    Drain,
    Drained,
    Ended,
    Exec,
    Exit,
    ExitFamily,
    ExitThread,
    Fork,
    History,
    Job,
    LateTick,
    Lose,
    Process,
    Read,
    Reap,
    StartJob,
    StartThread,
    Step,
    histories,
)

from taskstats import Batch, Record

NEWEST = -1  # for `of`


def played(*steps: Step, n_cpus: int = 1, batch_rows: int = 1024) -> list[Drained]:
    return list(History(steps, n_cpus, batch_rows))


def records(drains: list[Drained]) -> list[tuple[Record, Ended]]:
    """All records, each with what is true of it."""
    pairs = []
    for drained in drains:
        read = [record for batch in drained.batches for record in batch]
        pairs += zip(read, drained.truth, strict=True)
    return pairs


def only(*steps: Step) -> tuple[Record, Ended]:
    (pair,) = records(played(*steps))
    return pair


# ---- what is true ----------------------------------------------------------------------------


def test_a_record_is_of_the_job_of_its_process() -> None:
    (other, of_other), (child, of_child), (root, of_root) = records(
        played(
            Fork(),
            StartJob(of=0),
            Fork(of=NEWEST),
            Exit(of=0, code=3),
            Exit(of=NEWEST, signal=9),
            Exit(of=0),
        )
    )
    assert (of_other.job, other.exit_code) == (None, 3)
    assert of_root.job is of_child.job
    assert (child.ac_ppid, child.exit_signal) == (root.id, 9)
    assert (other.ac_uid, child.ac_uid, root.ac_ppid) == (0, 1000, 1)
    assert other.is_last
    assert other.is_exit
    assert other.group is None


def test_an_orphan_stays_of_its_job() -> None:
    """It may be given to init, and its record says nothing else."""
    pairs = records(
        played(
            StartJob(of=0, shared=True),
            Fork(of=NEWEST),
            Exit(of=0),
            Fork(of=NEWEST),
            Exit(),
            Exit(),
        )
    )
    assert [record.ac_ppid for record, _ in pairs] == [1, 1, 1]
    (job,) = {truth.job for _, truth in pairs}
    assert job is not None


def test_a_jobs_root_is_given_its_orphans_while_it_lives() -> None:
    pairs = records(played(StartJob(), DoubleFork(of=NEWEST), Exit(of=NEWEST), Exit(of=NEWEST)))
    (middle, _), (orphan, _), (root, _) = pairs
    assert middle.ac_ppid == orphan.ac_ppid == root.id
    assert middle.id != orphan.id
    assert len({truth.job for _, truth in pairs}) == 1


def test_orphans_of_several_jobs_come_under_one_subreaper() -> None:
    job = [StartJob(of=1, shared=True), Fork(of=NEWEST), Exit(of=-2)]
    history = History([Fork(), *job, *job], 1)
    list(history)
    keeper, orphan, other = history.alive
    assert orphan.parent is other.parent is keeper
    assert [one.job for one in history.alive] == [None, *history.jobs]


def test_a_job_within_a_job() -> None:
    history = History([StartJob(), Fork(of=NEWEST), StartJob(of=NEWEST), StartJob(of=0)], 1)
    list(history)
    outer, inner, beside = history.jobs
    assert inner.enclosing == [inner, outer]
    assert outer.within is beside.within is None
    assert [one.job for one in history.alive] == [outer, outer, inner, beside]


def test_a_start_is_told_at_once() -> None:
    history = History([StartJob(), Fork(of=NEWEST), Exit(of=0)], 1)
    told: list[tuple[Job, Batch]] = []
    history.started = lambda job: told.append((job, history.look_up([job.root.tgid, 1, 77])))
    list(history)
    ((job, answer),) = told
    assert job.root.children == []
    assert [record.id for record in answer] == [job.root.tgid, 1], "it has just begun"
    assert answer.errors == {77: errno.ESRCH}
    assert not answer[0].is_exit
    assert (answer[0].cpu, answer[0].received_ns, answer[0].lost_before) == (None, None, 0)


# ---- how threads and processes end -----------------------------------------------------------


def test_threads_bring_their_group_with_the_last() -> None:
    pairs = records(
        played(
            Fork(), StartThread(), Advance(us=5), ExitThread(code=2), Advance(us=7), ExitThread()
        )
    )
    (leader, _), (last, truth) = pairs
    assert (leader.is_last, leader.group, leader.exit_code) == (False, None, 2)
    assert (last.is_last, truth.last, last.ac_tgid) == (True, True, leader.id)
    assert last.group is not None
    assert last.group.id == leader.id
    assert last.group.cpu_count == 2
    runs = [leader.cpu_run_virtual_total, last.cpu_run_virtual_total]
    assert runs == [6000, 8000]
    assert last.group.cpu_run_virtual_total == sum(runs)
    assert last.ac_tgetime > last.ac_etime


def test_who_was_once_of_two_threads_brings_a_group() -> None:
    *_, (last, _) = records(played(Fork(), StartThread(), ExitThread(thread=1), Exit()))
    assert last.group is not None
    assert last.group.cpu_count == 2


def test_children_stay_until_the_last_thread_has_ended() -> None:
    history = History(
        [Fork(), StartThread(), Fork(of=1), ExitThread(of=0), Drain(), ExitThread(of=0)], 1
    )
    assert history.next_drain()
    parent, child = history.alive
    assert child.parent is parent
    list(history)
    assert child.parent is history.init


def test_an_exec_by_another_thread_takes_the_leaders_pid() -> None:
    """A pid has two records of one process, and the thread's own id is free."""
    pairs = records(played(Fork(), StartThread(), Exec(thread=1), StartThread(again=0), Exit()))
    (old, of_old), (new, of_new), (thread, _) = pairs
    assert of_old.process is of_new.process
    assert old.id == new.id == thread.ac_tgid == 1000
    assert (old.ac_flag & 0x30, old.exit_code, new.is_last) == (0x10, 0, False)
    assert thread.id == 1001
    assert thread.group is not None
    assert thread.group.cpu_count == 3
    assert (old.comm, new.comm) == ("init", "program-1")
    assert old.ac_exe_inode != new.ac_exe_inode


def test_zombies_are_there_until_they_are_reaped() -> None:
    history = History([Fork(), Fork(of=1), Exit(of=1, code=4, zombie=True), Drain(), Reap()], 1)
    assert history.next_drain()
    (record,) = history.look_up([1001])
    assert (record.exit_code, record.hiwater_rss, record.ac_ppid) == (4, 0, 1000)
    list(history)
    assert history.look_up([1001]).errors == {1001: errno.ESRCH}


def test_init_reaps_what_it_is_given() -> None:
    history = History([Fork(), Fork(of=1), Exit(of=1, zombie=True), Exit(zombie=True)], 1)
    list(history)
    assert set(history.look_up([1000, 1001]).errors) == {1000, 1001}


# ---- how records are read --------------------------------------------------------------------


def test_what_happens_between_two_turns_is_read_in_two_drains() -> None:
    """The parent's record is here, and the child's, who ended before, comes with the next drain."""
    first, second, _ = played(
        *[StartJob(cpu=1), Fork(of=NEWEST, cpu=0), Read(), Advance(us=10)],
        *[Exit(of=1), Exit(of=0), Read()],
        n_cpus=2,
    )
    ((parent, of_parent),), ((child, of_child),) = records([first]), records([second])
    assert child.ac_ppid == parent.id
    assert of_child.ended_us < of_parent.ended_us
    assert (parent.cpu, child.cpu) == (1, 0)
    assert first.received_ns == parent.received_ns < second.received_ns
    started = of_parent.ended_us - parent.ac_etime
    assert started * 1000 < first.received_ns


def test_a_family_that_exits_within_a_drain_is_read_in_two() -> None:
    first, second, _ = played(
        Fork(cpu=1), Fork(of=1, cpu=0), Fork(of=1, cpu=1), ExitFamily(within=True), n_cpus=2
    )
    assert [record.id for record, _ in records([first])] == [1002, 1000]
    ((record, _),) = records([second])
    assert (record.id, record.ac_ppid) == (1001, 1000)


def test_a_loss_stands_before_the_next_record_of_its_cpu() -> None:
    history = History(
        [*[Fork(cpu=0)] * 4, Fork(cpu=1), Lose(cpu=0), Lose(cpu=0), *[Exit()] * 5], n_cpus=2
    )
    found = [record for record, _ in records(list(history))]
    assert [(one.cpu, one.seq, one.lost_before) for one in found] == [
        (0, 2, 2),
        (0, 3, 0),
        (1, 0, 0),
    ]
    assert [one.seq for one in history.lost] == [0, 1]


def test_batches_have_no_more_than_they_may() -> None:
    (drained, _) = played(*[Fork(), StartThread(), Exit(thread=1)] * 3, batch_rows=4)
    assert [len(batch) for batch in drained.batches] == [4, 2]
    groups = [record.group for record, _ in records([drained]) if record.is_last]
    assert [group and (group.id, group.cpu) for group in groups] == [
        (1000, 0),
        (1002, 0),
        (1004, 0),
    ]


def test_a_pid_is_used_again_at_once() -> None:
    (first, of_first), (second, of_second) = records(
        played(StartJob(), Exit(), Fork(again=0), Exit())
    )
    assert first.id == second.id
    assert (of_first.process is of_second.process, of_second.job) == (False, None)


# ---- whatever happens ------------------------------------------------------------------------


def job_by_makers(process: Process, jobs: list[Job]) -> Job | None:
    """The innermost job by who made whom, found anew."""
    roots = {job.root.number: job for job in jobs}
    while process.number not in roots and process.maker:
        process = process.maker
    return roots.get(process.number)


@given(histories())
def test_numbers_add_up(history: History) -> None:
    drains = list(history)
    pairs = records(drains)
    assert len(pairs) + len(history.lost) == len(history.ended)
    assert {id(truth) for _, truth in pairs}.isdisjoint(map(id, history.lost))
    told: Counter[int | None] = Counter()
    next_seq: Counter[int | None] = Counter()
    for record, _ in pairs:
        assert record.seq == next_seq[record.cpu] + record.lost_before
        next_seq[record.cpu] = record.seq + 1
        told[record.cpu] += record.lost_before
    assert sum(told.values()) <= len(history.lost)
    for drained in drains:
        assert [len(batch) for batch in drained.batches if not batch] == []
        assert {r.received_ns for b in drained.batches for r in b} <= {drained.received_ns}


@given(histories())
def test_each_record_is_its_process_at_its_end(history: History) -> None:
    drains = list(history)
    for record, truth in records(drains):
        assert truth.job is job_by_makers(truth.process, history.jobs)
        assert (record.ac_tgid, record.is_last) == (truth.process.tgid, truth.last)
        assert (record.cpu, record.seq, record.version) == (truth.cpu, truth.seq, 16)
        assert record.ac_uid == (1000 + truth.job.number if truth.job else 0)
        assert record.is_exit
        assert record.ac_tgetime >= record.ac_etime > 0
        assert record.cpu_run_virtual_total > 0
    ends = Counter(one.process.number for one in history.ended if one.last)
    assert set(ends.values()) <= {1}
    assert {one.number for one in history.alive}.isdisjoint(ends)


@given(histories())
def test_who_is_there_answers(history: History) -> None:
    everybody = range(1, 1200)
    while history.next_drain():
        answer = history.look_up(everybody)
        found = {record.id: record for record in answer}
        assert found.keys().isdisjoint(answer.errors)
        assert found.keys() | answer.errors.keys() == set(everybody)
        for process in history.alive:
            for thread in process.threads:
                assert found[thread.pid].ac_tgid == process.tgid
            assert process.parent is not None
            assert found[process.tgid].ac_ppid == process.parent.tgid
            assert process.parent is history.init or process.parent in history.alive
            assert process in process.parent.children


def has_parent_before_child(history: History) -> bool:
    """A parent's record is read in an earlier drain than that of its child, who ended first."""
    before: list[Ended] = []
    for drained in history:
        for late in drained.truth:
            if any(
                late.process.maker is early.process and late.ended_us < early.ended_us
                for early in before
                if early.last
            ):
                return True
        before += drained.truth
    return False


def has_pid_again(history: History) -> bool:
    """A pid of a job's process is one of no job, or of another, later."""
    list(history)
    ends: dict[int, Job | None] = {}
    for one in history.ended:
        if one.last and one.process.tgid in ends and ends[one.process.tgid] is not one.job:
            return True
        ends[one.process.tgid] = one.job
    return False


def has_orphan_at_init(history: History) -> bool:
    """A job's process says that init is its parent, and is not the job's first."""
    return any(
        record.ac_ppid == 1 and truth.job is not None and truth.job.root is not truth.process
        for record, truth in records(list(history))
    )


def has_loss_of_a_parent(history: History) -> bool:
    """The record of a job's process was lost that had made others."""
    list(history)
    makers = {one.process.maker for one in history.ended if one.job is not None}
    return any(one.process in makers and one.job is not None for one in history.lost)


def has_job_within_a_job(history: History) -> bool:
    list(history)
    return any(one.job is not None and one.job.within is not None for one in history.ended)


unshrunk = settings(max_examples=1000, database=None, phases=[Phase.generate])


@pytest.mark.parametrize(
    "shows",
    [
        has_parent_before_child,
        has_pid_again,
        has_orphan_at_init,
        has_loss_of_a_parent,
        has_job_within_a_job,
    ],
)
def test_what_is_hard_occurs(shows: Callable[[History], bool]) -> None:
    find(histories(), shows, settings=unshrunk)


def test_a_late_tick_leaves_the_second_before() -> None:
    in_time = records(played(Fork(), Exit(of=NEWEST), Drain()))
    late = records(played(LateTick(us=900_000), Fork(), Exit(of=NEWEST), Drain()))
    assert late[0][0].ac_btime64 == in_time[0][0].ac_btime64 - 1


@given(histories())
def test_a_history_is_told_as_it_is_made(history: History) -> None:
    again = eval(repr(history))
    assert [drained.batches for drained in history] == [drained.batches for drained in again]
