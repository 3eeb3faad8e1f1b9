"""Each record names the process that it is of, and each birth the process that made it."""

import mmap
import os
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from support import pids
from support.requirements import needs_probe
from support.scale import scaled
from support.storm import CPUS
from support.task import Process
from support.tree import GROUP, UID, Tree, Truth

from taskstats import Birth, ExitListener, ExitStats, Record, Where, host, probe

#: How many processes; `make identity-proof` asks for 30,000.
PROCESSES = int(os.environ.get("TASKSTATS_IDENTITIES") or scaled(3_000, 300))
#: For a late reader: so many that each pid has several owners.
BACKLOG = max(PROCESSES, scaled(10_000, 300))


@dataclass
class Heard:
    """What a listener reported of a tree.

    Attributes:
        records: The records of each name, each with the number of its batch.
        births: The births of each (pid, start), each with its place in the stream of births and
            the number of its batch.
        starts: The starts of all processes that had a pid; 0 if before the listener.
        stats: The counters at the end.
    """

    records: dict[str, list[tuple[int, Record]]]
    births: dict[tuple[int, int], tuple[int, int, Birth]]
    starts: dict[int, list[int]]
    stats: ExitStats


@pytest.fixture
def few_pids() -> Iterator[None]:
    """The kernel soon gives each pid again."""
    needs_probe()
    with pids.few():
        yield


def _hear(tree: Tree, late: bool = False) -> Heard:
    """What a listener hears of the tree; late, if nobody reads until all have ended.

    A late reader finds all ends there are in the ring: records without one need not wait long.
    """
    # The filter keeps the records of other programs out: their number does not matter then.
    with ExitListener(probe="require", settle=0.5 if late else 5, where=Where(uid=UID)) as listener:
        at_first = host.tasks()
        tree.begin()
        if late:
            tree.truths()
            listener.stop()
        batches = []
        for batch in listener.batches(timeout=0.05):
            batches.append(batch)
            if tree.has_ended():
                listener.stop()
    heard = Heard(defaultdict(list), {}, defaultdict(list), listener.stats())
    for tid in at_first:
        heard.starts[tid].append(0)
    for number, batch in enumerate(batches):
        for birth in batch.births:
            key = (birth.pid, birth.start_ns)
            assert key not in heard.births
            heard.births[key] = (len(heard.births), number, birth)
            heard.starts[birth.pid].append(birth.start_ns)
        for record in batch:
            heard.records[record.comm].append((number, record))
    return heard


def _check(truths: list[Truth], heard: Heard) -> None:
    """Whatever the listener says is true, and it counts what it does not say."""
    identities: dict[int, tuple[int, int]] = {}  # by the number of the process
    for number, truth in enumerate(truths[1:], 1):  # the first began before the listener
        maker = truths[truth.maker].pid  # another program may make a process of this pid at once
        starts = [
            start
            for start in heard.starts[truth.pid]
            if truth.after_ns <= start <= truth.before_ns
            and heard.births[truth.pid, start][2].maker_pid == maker
        ]
        assert len(starts) <= 1
        if starts:
            identities[number] = (truth.pid, starts[0])
    births_missing = len(truths) - 1 - len(identities)

    records_missing, unsettled = 0, []
    for number, truth in enumerate(truths):
        found = heard.records[truth.name]
        assert len(found) <= 1
        records_missing += not found
        for batch, record in found:
            assert record.id == truth.pid
            if not record.is_settled:
                unsettled.append(truth)
            elif number in identities:
                assert (record.id, record.start_ns) == identities[number]
            elif number == 0:
                identities[0] = (record.id, record.start_ns)
            else:
                assert truth.after_ns <= record.start_ns <= truth.before_ns
            if number and number in identities:
                assert heard.births[identities[number]][1] <= batch

    for number, truth in enumerate(truths):
        place, _, birth = heard.births.get(identities.get(number, (0, 0)), (0, 0, None))
        if birth and truth.maker in identities:
            assert (birth.maker_pid, birth.maker_start_ns) == identities[truth.maker]
            if truth.maker:
                assert heard.births[identities[truth.maker]][0] < place

    # All is there but what was counted as lost. Two ends may fit a record only if two
    # processes had its pid.
    counted = heard.stats.probe
    assert counted is not None
    assert births_missing <= counted.births_lost
    assert records_missing <= heard.stats.lost
    alone = [truth for truth in unsettled if len(heard.starts[truth.pid]) < 2]
    assert len(alone) <= counted.ends_lost + counted.births_lost
    again = sum(len(heard.starts[truth.pid]) > 1 for truth in truths)
    print(
        f"{len(truths)} processes, {again} of a pid given again, {len(unsettled)} unsettled,"
        f" {len(alone)} of those of a pid given once; lost: {births_missing} births,"
        f" {records_missing} records, {counted.ends_lost} ends"
    )


@pytest.mark.usefixtures("few_pids")
def test_trees_are_told_apart_though_pids_wrap() -> None:
    with Tree(processes=PROCESSES, groups=0, seed=os.getpid()) as tree:
        heard = _hear(tree)
        _check(tree.truths(), heard)


@pytest.mark.usefixtures("few_pids")
def test_a_late_reader_tells_trees_apart() -> None:
    with Tree(processes=BACKLOG, groups=0, seed=os.getpid()) as tree:
        heard = _hear(tree, late=True)
        _check(tree.truths(), heard)


@pytest.mark.usefixtures("few_pids")
def test_what_a_late_reader_lost_is_not_mixed_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ring has room for the ends of few of the owners of each pid."""
    size = max(mmap.PAGESIZE, 1 << (4 * BACKLOG).bit_length())
    monkeypatch.setattr(probe, "default_ring_bytes", lambda: size)
    with Tree(processes=BACKLOG, groups=0, seed=os.getpid()) as tree:
        heard = _hear(tree, late=True)
        _check(tree.truths(), heard)
    assert heard.stats.probe is not None
    assert heard.stats.probe.ends_lost > 0


@pytest.mark.usefixtures("few_pids")
def test_groups_killed_at_once_are_told_apart() -> None:
    with Tree(processes=0, groups=PROCESSES // GROUP, seed=0) as tree:
        heard = _hear(tree)
        _check(tree.truths(), heard)


def test_tasks_that_hardly_get_a_cpu_are_told_apart() -> None:
    needs_probe()
    cpu = CPUS[0]
    with (
        Process(cpu=cpu) as spinner,
        Tree(processes=scaled(50, 10), groups=0, seed=os.getpid()) as tree,
    ):
        os.sched_setaffinity(tree.pid, [cpu])
        os.setpriority(os.PRIO_PROCESS, tree.pid, 19)
        os.sched_setscheduler(tree.pid, os.SCHED_IDLE, os.sched_param(0))
        spinner.leader.spin()
        heard = _hear(tree)
        _check(tree.truths(), heard)
