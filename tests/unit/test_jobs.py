"""JobTracker: whose each record is, in any order; what is held, given up, and counted."""

import errno
import struct
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
from support import wire

import taskstats
from taskstats import Batch, ExitListener, FieldUnavailable
from taskstats.emulator import EmulatedKernel
from taskstats.jobs import OTHERS, JobTracker
from taskstats.rows import HEADER, ROW

AGROUP = 0x20
T0 = 1_700_000_000_000_000_000
MS = 1_000_000
EMPTY = Batch(b"")


def ended(
    pid: int,
    ppid: int,
    comm: str = "task",
    *,
    of_threads: bool = False,
    unheard: int = 0,
    **values: Any,
) -> bytes:
    """The datagram of a process that has ended; of one thread, or the last of several.

    `unheard` is how often its other threads waited for a CPU, by the kernel's sums.
    """
    its = {
        **wire.SAMPLE,
        "ac_pid": pid,
        "ac_tgid": pid,
        "ac_ppid": ppid,
        "ac_comm": comm.encode(),
        "ac_flag": AGROUP,
        "ac_exitcode": 0,
        "ac_btime64": 1_700_000_000,
        "cpu_run_virtual_total": 1000,
        "hiwater_rss": 10,
        "ac_tgetime": 5000,
        **values,
    }
    stats = wire.pack(16, wire.SIZES[16], its, fill=0)
    aggregates = [wire.aggregate("task", its["ac_pid"], stats)]
    if of_threads:
        sums = {**its, "cpu_count": its["cpu_count"] + unheard}
        packed = wire.pack(16, wire.SIZES[16], sums, fill=0)
        aggregates.append(wire.aggregate("group", pid, packed))
    return wire.message(*aggregates)


def batch(*datagrams: bytes, ms: int = 0, lost: Mapping[int, int] | None = None) -> Batch:
    """A batch read so many milliseconds after the first; `lost` before some of its rows."""
    decoded = taskstats.decode(b"".join(datagrams))
    data = bytearray(decoded.data)
    for row in range(len(datagrams)):
        struct.pack_into("=Q", data, row * ROW + HEADER["received_ns"][0], T0 + ms * MS)
        if lost and row in lost:
            struct.pack_into("=I", data, row * ROW + HEADER["lost_before"][0], lost[row])
            data[row * ROW + HEADER["flags"][0]] |= 4
    return Batch(bytes(data), decoded.groups)


class World:
    """Living processes, as a query tells of them: pid -> parent."""

    def __init__(self, **parents: int) -> None:
        self.parents = {int(pid.removeprefix("p")): parent for pid, parent in parents.items()}
        self.asked: list[int] = []
        self.lived = 5000  # us

    def __call__(self, pids: Sequence[int]) -> Batch:
        self.asked += pids
        known = [pid for pid in pids if pid in self.parents]
        rows = []
        for pid in known:
            made = bytearray(taskstats.decode(self._record(pid)).data)
            made[HEADER["flags"][0]] = 0  # not an exit
            rows.append(bytes(made))
        errors = {pid: errno.ESRCH for pid in pids if pid not in known}
        return Batch(b"".join(rows), errors=errors)

    def _record(self, pid: int) -> bytes:
        return ended(pid, self.parents[pid], hiwater_vm=9, ac_tgetime=self.lived)


def counts(tracker: JobTracker) -> dict[str, int]:
    """What became of the records, but for what is 0."""
    names = ("attributed", "outside", "unattributed", "ambiguous", "evicted", "waiting")
    return {name: getattr(tracker, name) for name in names if getattr(tracker, name)}


def heard(tracker: JobTracker, *batches: Batch) -> dict[str, int]:
    """The same after these batches and an empty one."""
    for one in (*batches, EMPTY):
        tracker.feed(one)
    return counts(tracker)


# ---- whose it is -----------------------------------------------------------------------------


def test_a_child_of_the_root_is_the_jobs() -> None:
    tracker = JobTracker()
    tracker.start(10, "a")
    assert heard(tracker, batch(ended(11, 10, "x"), ended(12, 10, "y"))) == {"attributed": 2}
    usage = tracker.close("a")
    assert {comm: one.processes for comm, one in usage.commands.items()} == {"x": 1, "y": 1}
    assert usage.complete


@pytest.mark.parametrize("order", [(13, 12, 11), (11, 12, 13), (12, 13, 11)])
def test_a_chain_is_followed_in_any_order(order: tuple[int, ...]) -> None:
    tracker = JobTracker()
    tracker.start(10, "a")
    parents = {13: 12, 12: 11, 11: 10}
    sent = [ended(pid, parents[pid]) for pid in order]
    assert heard(tracker, batch(*sent)) == {"attributed": 3}


@pytest.mark.parametrize("gap", [0, 5, 99])
def test_a_parents_record_may_be_read_before_its_childs(gap: int) -> None:
    tracker = JobTracker()
    tracker.start(10, "a")
    first, then = batch(ended(11, 10)), batch(ended(12, 11), ms=gap)
    assert heard(tracker, first, then) == {"attributed": 2}


def test_what_descends_from_no_root_is_outside() -> None:
    tracker = JobTracker(World(p7=1, p1=0))
    tracker.start(10, "a")
    assert heard(tracker, batch(ended(8, 7), ended(9, 1), ended(6, 0))) == {"outside": 3}
    assert tracker.close("a").total.processes == 0


def test_a_living_parent_is_asked_for_once() -> None:
    world = World(p20=10, p10=1, p1=0)
    tracker = JobTracker(world)
    tracker.start(10, "a")
    world.asked.clear()
    batches = [batch(ended(30 + n, 20), ms=n) for n in range(5)]
    assert heard(tracker, *batches) == {"attributed": 5}
    assert world.asked == [20]


def test_a_childs_end_tells_that_what_was_asked_is_old() -> None:
    """Pid 20 ends, and is given to a process outside."""
    world = World(p20=10, p10=1, p1=0)
    tracker = JobTracker(world)
    tracker.start(10, "a")
    assert heard(tracker, batch(ended(30, 20)), batch(ended(20, 10), ms=10)) == {"attributed": 2}
    world.parents[20] = 1
    again = batch(ended(31, 20), ms=500), batch(ended(32, 20), ms=501)
    assert heard(tracker, *again) == {"attributed": 2, "outside": 2}


def test_an_orphan_comes_back_to_its_root_or_subreaper() -> None:
    tracker = JobTracker()
    tracker.start(10, "own")
    tracker.start(21, "named", subreaper=20)
    sent = batch(ended(12, 10), ended(22, 20), ended(21, 20))
    assert heard(tracker, sent) == {"attributed": 3}
    assert tracker.close("own").total.processes == 1
    assert tracker.close("named").total.processes == 2


def test_orphans_of_several_jobs_of_one_subreaper_are_counted_as_such() -> None:
    tracker = JobTracker()
    tracker.start(21, "a", subreaper=20)
    tracker.start(22, "b", subreaper=20)
    sent = batch(ended(31, 21), ended(32, 22), ended(33, 20), ended(21, 20))
    assert heard(tracker, sent) == {"attributed": 3, "unattributed": 1}
    usages = [tracker.close(name) for name in ("a", "b")]
    assert [one.total.processes for one in usages] == [2, 1]
    assert [one.unattributed for one in usages] == [1, 1]
    assert not any(one.complete for one in usages)


def test_an_orphan_of_a_job_that_was_closed_is_not_the_next_ones() -> None:
    tracker = JobTracker()
    tracker.start(21, "a", subreaper=20)
    tracker.close("a")
    tracker.start(22, "b", subreaper=20)
    assert heard(tracker, batch(ended(33, 20))) == {"unattributed": 1}


def test_a_child_of_an_orphan_shares_its_fate() -> None:
    tracker = JobTracker()
    tracker.start(21, "a", subreaper=20)
    tracker.start(22, "b", subreaper=20)
    assert heard(tracker, batch(ended(34, 33), ended(33, 20))) == {"unattributed": 2}


def test_a_job_within_a_job_is_part_of_it() -> None:
    tracker = JobTracker(World(p20=15, p15=10, p10=1, p1=0))
    tracker.start(10, "outer")
    tracker.start(20, "inner")
    assert heard(tracker, batch(ended(30, 20), ended(31, 15))) == {"attributed": 2}
    assert tracker.usage("outer").total.processes == 2
    assert tracker.close("inner").total.processes == 1
    assert heard(tracker, batch(ended(32, 20), ms=200)) == {"attributed": 3}
    assert tracker.close("outer").total.processes == 3


def test_a_roots_own_end_is_the_jobs() -> None:
    tracker = JobTracker()
    tracker.start(10, "a")
    assert heard(tracker, batch(ended(11, 10), ended(10, 1))) == {"attributed": 2}
    # Its pid is another's then.
    assert heard(tracker, batch(ended(12, 10), ended(10, 0), ms=500)) == {
        "attributed": 2,
        "outside": 2,
    }


def of_total(tracker: JobTracker, job: str) -> tuple[int, bool]:
    usage = tracker.usage(job)
    return usage.total.processes, usage.complete


def test_a_job_with_a_named_subreaper_is_within_whose_that_is() -> None:
    tracker = JobTracker(World(p22=20, p21=20, p20=10, p10=1, p1=0))
    tracker.start(10, "outer")
    for root, job in ((21, "a"), (22, "b")):
        tracker.start(root, job, subreaper=20)
    assert heard(tracker, batch(ended(31, 21), ended(32, 22))) == {"attributed": 2}
    assert [of_total(tracker, job) for job in ("outer", "a", "b")] == [
        (2, True),
        (1, True),
        (1, True),
    ]


@pytest.mark.parametrize("settled", [True, False])
def test_what_a_closed_job_leaves_is_of_the_one_around_it(settled: bool) -> None:
    tracker = JobTracker(World(p20=10, p10=1, p1=0))
    tracker.start(10, "outer")
    tracker.start(20, "inner")
    tracker.feed(batch(ended(20, 10)))
    if settled:
        tracker.flush()
    tracker.close("inner")
    assert heard(tracker, batch(ended(21, 20), ms=5)) == {"attributed": 2}
    assert of_total(tracker, "outer") == (2, True)


def test_what_may_be_of_two_jobs_is_missing_in_the_one_around_them() -> None:
    tracker = JobTracker(World(p21=10, p20=10, p10=1, p1=0))
    tracker.start(10, "outer")
    tracker.start(20, "a")
    tracker.start(21, "b")
    assert heard(tracker, batch(ended(30, 20), ended(40, 30), ended(30, 21))) == {
        "attributed": 2,
        "ambiguous": 1,
    }
    assert tracker.usage("outer").ambiguous == 1
    assert not tracker.usage("outer").complete


def test_an_orphan_of_before_is_not_of_a_job_that_begins() -> None:
    tracker = JobTracker(World(p22=20, p21=20, p20=1, p1=0))
    tracker.start(22, "other", subreaper=19)
    tracker.start(21, "a", subreaper=20)
    tracker.feed(batch(ended(30, 20)))
    tracker.start(23, "b", subreaper=20)
    assert heard(tracker) == {"unattributed": 1}
    assert [tracker.usage(job).unattributed for job in ("other", "a", "b")] == [0, 1, 0]


def test_a_pid_with_two_owners_within_a_drain_is_ambiguous() -> None:
    tracker = JobTracker()
    tracker.start(10, "a")
    sent = batch(ended(11, 10), ended(12, 11), ended(11, 0))
    assert heard(tracker, sent) == {"attributed": 1, "outside": 1, "ambiguous": 1}
    usage = tracker.close("a")
    assert (usage.ambiguous, usage.complete) == (1, False)


def test_a_pid_with_two_owners_in_one_job_is_not() -> None:
    tracker = JobTracker()
    tracker.start(10, "a")
    sent = batch(ended(11, 10), ended(12, 11), ended(11, 10))
    assert heard(tracker, sent) == {"attributed": 3}


def test_a_pid_that_is_used_again_later_is_told_apart() -> None:
    tracker = JobTracker()
    tracker.start(10, "a")
    early = batch(ended(12, 11), ended(11, 10))
    late = batch(ended(13, 11), ms=400), batch(ended(11, 0), ms=405)
    assert heard(tracker, early, *late) == {"attributed": 2, "outside": 2}


# ---- what is held, and for how long ----------------------------------------------------------


def test_what_is_fed_waits_for_its_parents_record() -> None:
    tracker = JobTracker()
    tracker.start(10, "a")
    tracker.feed(batch(ended(12, 11)))
    assert counts(tracker) == {"waiting": 1}
    assert tracker.settled_until == T0
    tracker.feed(batch(ended(11, 10), ms=50))
    assert counts(tracker) == {"waiting": 2}
    tracker.feed(batch(ended(13, 10), ms=151))
    assert counts(tracker) == {"waiting": 1, "attributed": 2}
    assert tracker.settled_until == T0 + 151 * MS
    tracker.feed(EMPTY)
    assert tracker.settled_until is None


def test_patience_ends() -> None:
    tracker = JobTracker(patience=1.0)
    tracker.start(10, "a")
    for ms in (0, 999):
        tracker.feed(batch(ended(12 + ms, 11 + ms), ms=ms))
    assert counts(tracker) == {"waiting": 2}
    tracker.feed(batch(ended(5, 10), ms=1100))
    tracker.feed(EMPTY)
    assert counts(tracker) == {"attributed": 1, "evicted": 1, "waiting": 1}
    usage = tracker.usage("a")
    assert (usage.evicted, usage.complete) == (1, False)


def test_a_parent_whose_memory_is_taken_down_keeps_its_children() -> None:
    """Its record comes at the beginning of that, and a child ends before it is done."""
    tracker = JobTracker(World())
    tracker.start(10, "a")
    parent, child = batch(ended(11, 10)), batch(ended(12, 11), ms=500)
    assert heard(tracker, parent, child) == {"attributed": 1, "waiting": 1}
    assert heard(tracker, batch(ended(13, 0), ms=1600)) == {"attributed": 2, "outside": 1}


def test_what_is_held_is_bounded_by_number() -> None:
    tracker = JobTracker(capacity=100)
    tracker.start(10, "a")
    for n in range(50):
        sent = [ended(1000 + 20 * n + k, 5000 + n) for k in range(20)]
        heard(tracker, batch(*sent, ms=n))
        tracker.flush()
        assert tracker.waiting == min(20 * n + 20, 100)  # the oldest are given up, and no others
    assert counts(tracker) == {"evicted": 900, "waiting": 100}


def test_what_descends_from_what_was_given_up_is_given_up() -> None:
    tracker = JobTracker()
    tracker.start(10, "a")
    tracker.feed(batch(ended(13, 12), ended(12, 11)))
    tracker.feed(batch(ended(14, 10), ms=1100))
    assert heard(tracker) == {"attributed": 1, "evicted": 2}


def test_a_clock_that_is_set_back_keeps_nothing_waiting() -> None:
    tracker = JobTracker()
    tracker.start(10, "a")
    tracker.feed(batch(ended(11, 10), ms=10_000))
    tracker.feed(batch(ended(12, 10), ms=0))
    tracker.feed(batch(ended(13, 10), ms=120))
    assert counts(tracker) == {"attributed": 2, "waiting": 1}


def test_a_failing_query_loses_nothing() -> None:
    def refuse(_pids: Sequence[int]) -> Batch:
        raise PermissionError

    tracker = JobTracker(World())
    tracker.start(10, "a")
    tracker._ancestry._query = refuse
    tracker.feed(batch(ended(11, 10), ended(13, 12)))
    with pytest.raises(PermissionError):
        tracker.feed(EMPTY)
    assert counts(tracker) == {"attributed": 1, "waiting": 1}
    tracker._ancestry._query = None
    assert heard(tracker, batch(ended(12, 10), ms=10)) == {"attributed": 3}


def test_a_start_that_cannot_ask_has_not_been() -> None:
    def refuse(_pids: Sequence[int]) -> Batch:
        raise PermissionError

    world = World(p21=20, p20=1, p1=0)
    tracker = JobTracker(world)
    tracker._ancestry._query = refuse
    with pytest.raises(PermissionError):
        tracker.start(21, "a", subreaper=20)
    tracker._ancestry._query = world
    tracker.start(21, "a", subreaper=20)
    assert heard(tracker, batch(ended(30, 20))) == {"attributed": 1}


def test_the_oldest_that_waits_says_until_when_all_is_settled() -> None:
    """One of several threads is held after what was read later."""
    tracker = JobTracker()
    tracker.start(10, "a")
    tracker.feed(batch(ended(51, 50, of_threads=True, unheard=1)))
    tracker.feed(batch(ended(52, 50), ms=40))
    assert heard(tracker) == {"waiting": 2}
    assert [end.pid for end in tracker._held[50]] == [52, 51]
    assert tracker.settled_until == T0


def test_the_bound_holds_for_what_gathers() -> None:
    tracker = JobTracker(capacity=10)
    for n in range(100):
        tracker.feed(batch(ended(100 + n, 50)))
        assert tracker.waiting <= 40  # of each kind 10, and once more before some are given up


# ---- losses ----------------------------------------------------------------------------------


def test_a_loss_makes_every_open_job_incomplete() -> None:
    tracker = JobTracker()
    tracker.start(10, "a")
    tracker.start(20, "b")
    tracker.feed(batch(ended(11, 10), ended(12, 10), lost={1: 7}))
    tracker.close("b")
    tracker.note_lost(9)
    tracker.note_lost(9)
    usage = tracker.close("a")
    assert (usage.lost, usage.complete) == (9, False)


def test_after_a_loss_living_processes_are_asked_for_again() -> None:
    """Pid 20 may have ended unheard."""
    world = World(p20=10, p10=1, p1=0)
    tracker = JobTracker(world)
    tracker.start(10, "a")
    heard(tracker, batch(ended(30, 20)))
    world.parents[20] = 1
    sent = batch(ended(31, 20), ms=300, lost={0: 1})
    assert heard(tracker, sent) == {"attributed": 1, "outside": 1}


@pytest.mark.parametrize("pid", [10, 11])
@pytest.mark.parametrize("waits", [True, False])
def test_who_ended_before_a_job_began_is_not_its(pid: int, waits: bool) -> None:
    """Its parent's end was lost, and the pid is given to the root, or to a child of it."""
    world = World(p1=0)
    tracker = JobTracker(world)
    tracker.feed(batch(ended(12, pid), ended(13, 12)))
    if waits:
        assert heard(tracker) == {"waiting": 2}
    world.parents[10] = 1
    tracker.start(10, "a")
    then = batch(ended(11, 10), ms=300), batch(ended(10, 1), ms=310)
    assert heard(tracker, *then) == {"attributed": 2, "evicted": 2}
    usage = tracker.usage("a")
    assert (usage.total.processes, usage.evicted, usage.complete) == (2, 0, True)


def test_who_ended_before_a_job_was_attached_to_may_be_its() -> None:
    tracker = JobTracker()
    assert heard(tracker, batch(ended(12, 10))) == {"waiting": 1}
    tracker.attach(10, "a")
    assert heard(tracker, batch(ended(10, 1), ms=300)) == {"attributed": 2}


# ---- what a daemon meets in months -----------------------------------------------------------


def test_a_job_that_is_closed_after_its_subreapers_end_claims_no_orphans_of_the_next() -> None:
    tracker = JobTracker()
    tracker.start(21, "a", subreaper=20)
    heard(tracker, batch(ended(20, 0)), batch(ended(5, 0), ms=400))
    tracker.start(22, "b", subreaper=20)
    tracker.close("a")
    assert heard(tracker, batch(ended(33, 20), ms=900)) == {"attributed": 1, "outside": 2}


def test_a_subreaper_that_was_given_up_does_not_inherit_for_the_next_of_its_pid() -> None:
    tracker = JobTracker()
    tracker.start(21, "a", subreaper=20)
    heard(tracker, batch(ended(20, 19)))
    assert heard(tracker, batch(ended(5, 0), ms=1500)) == {"outside": 1, "evicted": 1}
    tracker.start(50, "b")
    heard(tracker, batch(ended(33, 20), ms=5000))
    assert counts(tracker) == {"outside": 1, "evicted": 1, "waiting": 1}


def test_where_nobody_exits_nothing_piles_up() -> None:
    tracker = JobTracker()
    tracker.start(10, "a")
    heard(tracker, batch(ended(11, 10)))
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for _ in range(10_000):
        tracker.flush()
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert after - before < 10_000


def test_a_clock_that_is_set_back_lets_no_ends_pile_up() -> None:
    tracker = JobTracker()
    tracker.start(10, "a")
    heard(tracker, batch(ended(11, 10), ms=3_600_000))
    for n in range(500):
        tracker.feed(batch(ended(1000 + n, 10), ms=10 * n))
    assert len(tracker._ancestry._ends) < 200


def test_an_end_is_remembered_over_a_flush() -> None:
    tracker = JobTracker()
    tracker.start(10, "a")
    heard(tracker, batch(ended(11, 10)))
    heard(tracker, batch(ended(5, 10), ms=5))
    assert heard(tracker, batch(ended(12, 11), ms=10)) == {"attributed": 3}


def test_the_processes_of_jobs_within_a_job_are_bounded_together() -> None:
    tracker = JobTracker(World(p10=1, p1=0, **{f"p{pid}": 10 for pid in range(20, 25)}), remember=3)
    tracker.start(10, "outer")
    for root in range(20, 25):
        tracker.start(root, root)
        heard(tracker, batch(ended(root + 100, root), ended(root + 200, root)))
        tracker.close(root)
    usage = tracker.close("outer")
    assert (len(usage.processes), usage.forgotten, usage.total.processes) == (3, 7, 10)


def test_a_root_whose_end_was_lost_is_told_by_its_age_from_who_has_its_pid_now() -> None:
    world = World(p10=1, p1=0)
    tracker = JobTracker(world)
    tracker.start(10, "a")
    world.lived = 4000  # less than the root had lived
    heard(tracker, batch(ended(5, 0), lost={0: 1}))
    assert heard(tracker, batch(ended(11, 10, ac_tgetime=9), ms=300)) == {"outside": 2}


# ---- jobs ------------------------------------------------------------------------------------


def test_what_ended_before_it_was_attached_to_is_unknown() -> None:
    tracker = JobTracker()
    tracker.attach(10, "a")
    heard(tracker, batch(ended(11, 10)))
    usage = tracker.close("a")
    assert (usage.attached, usage.complete, usage.total.processes) == (True, False, 1)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda t: t.start(11, "a"), ValueError),
        (lambda t: t.start(10, "b"), ValueError),
        (lambda t: t.start(30, "b", subreaper=10), ValueError),
        (lambda t: t.start(5, "b", subreaper=6) or t.start(6, "c"), ValueError),
        (lambda t: t.usage("b"), KeyError),
        (lambda t: t.close("b"), KeyError),
        (lambda t: t.usage("a", [1]), ValueError),
        (lambda _: JobTracker(capacity=0), ValueError),
    ],
)
def test_what_cannot_be(call: Callable[[JobTracker], Any], error: type[Exception]) -> None:
    tracker = JobTracker()
    tracker.start(10, "a")
    with pytest.raises(error):
        call(tracker)
    assert tracker.close("a").total.processes == 0


def test_living_processes_are_told_apart() -> None:
    world = World(p20=10, p21=20, p10=1, p1=0, p7=1)
    tracker = JobTracker(world)
    tracker.start(20, "a", subreaper=10)
    usage = tracker.usage("a", [1, 7, 10, 20, 21, 999])
    assert [(one.pid, one.ppid, one.cpu_ns) for one in usage.living] == [
        (20, 10, 1000),
        (21, 20, 1000),
    ]
    assert usage.total.processes == 0


def test_living_orphans_of_several_jobs_are_told_of() -> None:
    tracker = JobTracker(World(p21=20, p22=20, p33=20, p20=1, p1=0))
    tracker.start(21, "a", subreaper=20)
    tracker.start(22, "b", subreaper=20)
    usage = tracker.usage("a", [20, 21, 22, 33])
    assert ([one.pid for one in usage.living], usage.unclear) == ([21], 1)


def test_the_processes_that_are_remembered_are_bounded() -> None:
    tracker = JobTracker(remember=3)
    tracker.start(10, "a")
    heard(tracker, batch(*(ended(pid, 10, "x") for pid in range(11, 16))))
    usage = tracker.close("a")
    assert [one.pid for one in usage.processes] == [11, 12, 13]
    assert (usage.forgotten, usage.total.processes) == (2, 5)
    first = usage.processes[0]
    assert (first.ppid, first.comm, first.cpu_ns, first.elapsed_us) == (10, "x", 1000, 5000)


def test_the_names_of_a_job_are_bounded() -> None:
    tracker = JobTracker()
    tracker.start(10, "a")
    for n in range(1100):
        tracker.feed(batch(ended(11, 10, f"name{n}"), ms=n))
    heard(tracker)
    usage = tracker.close("a")
    assert len(usage.commands) == 1025
    assert usage.commands[OTHERS].processes == 76
    assert usage.total.processes == 1100


def test_an_old_struct_is_refused() -> None:
    stats = wire.pack(11, wire.SIZES[11], wire.SAMPLE, fill=0)
    old = taskstats.decode(wire.message(wire.aggregate("task", 1, stats)))
    with pytest.raises(FieldUnavailable):
        JobTracker().feed(old)


# ---- totals ----------------------------------------------------------------------------------


def test_totals_are_sums_and_extremes() -> None:
    tracker = JobTracker()
    tracker.start(10, "a")
    heard(
        tracker,
        batch(
            ended(11, 10, "x", hiwater_rss=5, nvcsw=2, ac_exitcode=0x100, ac_exe_inode=1),
            ended(12, 10, "x", hiwater_rss=7, nvcsw=3, ac_exitcode=9, ac_exe_inode=2),
            ended(13, 10, "y", hiwater_rss=6, ac_tgetime=9_000_000, ac_exe_inode=2, nvcsw=0),
        ),
    )
    usage = tracker.close("a")
    x = usage.commands["x"]
    assert (x.processes, x.threads, x.failed) == (2, 2, 2)
    assert (x.statuses, x.signals) == ({1: 1}, {9: 1})
    assert (x.peak_rss_bytes, x.sums["nvcsw"]) == (7 * 1024, 5)
    assert usage.commands["y"].longest_seconds == 9.0
    assert usage.total.statuses == {0: 1, 1: 1}
    assert usage.total.failed == 2
    assert usage.total.cpu_seconds == 3e-6
    by_inode = {inode: one.processes for (_, inode), one in usage.executables.items()}
    assert by_inode == {1: 1, 2: 2}


UNMEASURED = {name: 0 for name in wire.MEMBERS if name.startswith(taskstats.fields.DELAYS[1:])}


def test_delays_that_were_not_measured_have_no_total() -> None:
    tracker = JobTracker()
    tracker.start(10, "a")
    heard(tracker, batch(ended(11, 10, **UNMEASURED)))
    total = tracker.usage("a").total
    assert (total.delays_measured, [*total.delays]) == (None, ["cpu"])
    heard(tracker, batch(ended(12, 10, **{**UNMEASURED, "wpcopy_count": 3}), ms=200))
    total = tracker.usage("a").total
    assert (total.delays_measured, total.delays["wpcopy"].count) == (True, 3)
    assert total.delays["blkio"].measured is True
    assert total.delays["blkio"].max_ns is None


# ---- on the emulated kernel ------------------------------------------------------------------


def test_threads_and_orphans_of_the_emulated_kernel(taskstats_kernel: EmulatedKernel) -> None:
    kernel = taskstats_kernel
    with (
        taskstats.Client(endpoint=kernel.endpoint) as client,
        ExitListener(endpoint=kernel.endpoint) as listener,
    ):
        tracker = JobTracker(client.pids, remember=10)
        daemon = kernel.spawn("stepd", hiwater_vm=1)
        daemon.subreaper = True
        tracker.start(daemon.pid, 1)
        shell = kernel.spawn("sh", parent=daemon)
        program = kernel.spawn("solver", parent=shell, cpu=1, hiwater_vm=1)
        worker = kernel.spawn("worker", group=program, cpu=2)
        stranger = kernel.spawn("other")
        kernel.advance(1.0, program, worker)
        kernel.exit(worker)
        (living,) = [
            one
            for one in tracker.usage(1, [task.pid for task in (program, worker, stranger)]).living
            if one.comm == "solver"
        ]
        kernel.exit(shell)  # the solver is the daemon's now
        kernel.exit(program, signal=9)
        kernel.exit(stranger)
        listener.stop()
        for one in listener.batches(timeout=0.1):
            tracker.feed(one)
        tracker.feed(EMPTY)
        usage = tracker.usage(1, [daemon.pid])
    assert living.cpu_ns == 1_000_000_000
    assert {comm: one.threads for comm, one in usage.commands.items()} == {"sh": 1, "solver": 2}
    assert usage.commands["solver"].cpu_seconds == 2.0
    assert usage.commands["solver"].signals == {9: 1}
    assert [one.ppid for one in usage.processes if one.comm == "solver"] == [daemon.pid]
    assert [one.comm for one in usage.living] == ["stepd"]
    assert usage.complete
    assert tracker.outside == 1
