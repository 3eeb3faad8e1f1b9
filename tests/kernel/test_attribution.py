"""Each process is assigned to its job, or counted as undecided: on the real kernel.

Six trackers follow the same processes at once: with births and by records alone, each with a
reader that reads at once, one that stops in the middle while its listener's thread goes on, and one
that reads after everything has ended. The processes write down which they are (support/kin.c); the
trackers must agree with that.
"""

import contextlib
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from support import pids
from support.kin import OTHER, Family, Kin
from support.requirements import needs_probe, needs_processes
from support.scale import scaled

from taskstats import Batch, ExitListener, probe
from taskstats.jobs import JobTracker, Usage

#: How many processes a test makes; `make attribution-proof` asks for 40,000.
PROCESSES = int(os.environ.get("TASKSTATS_ATTRIBUTION_PROCESSES") or scaled(1_000, 200))
#: How long a reader stops, seconds.
STOP = float(os.environ.get("TASKSTATS_ATTRIBUTION_STOP") or 0.3)

RCVBUF = 512 << 20  # bytes for each CPU, used only while records wait
RING = 64 << 20
BUFFER = 256 << 20

JOBS = 20
HELD = 10


@dataclass(frozen=True)
class Truth:
    """What is true of a job.

    Attributes:
        counts: How many processes it has, by name. No process of another job has such a name.
        moments: For each name and pid, the moments of CLOCK_BOOTTIME before which they started.
    """

    counts: Counter[str]
    moments: dict[tuple[str, int], list[int]]


class Ear:
    """A listener, a tracker, and a thread that reads.

    Args:
        births: Whether there is a probe.
        reading: "prompt"; "stopped", for a while after `stop`; or "late", after the end.
        may_nest: Says whether there are PID namespaces below the initial one.
    """

    def __init__(self, births: bool, reading: str, may_nest: Callable[[], bool]) -> None:
        self.births = births
        self.reading = reading
        self.name = f"{'births' if births else 'records'}, {reading}"
        self.listener = ExitListener(
            probe="require" if births else "off",
            settle=30,
            buffer=BUFFER if reading == "stopped" else 0,
            rcvbuf=RCVBUF,
            rcvbuf_total=RCVBUF * (os.cpu_count() or 1),
        )
        self.tracker = JobTracker(births=births, remember=1_000_000, may_nest=may_nest)
        self._stop = threading.Event()
        self._emptied_ns = 0
        self._births_lost = 0
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._read)
        if reading != "late":
            self._thread.start()

    def _read(self) -> None:
        try:
            for batch in self.listener.batches(timeout=0.02):
                self._feed(batch)
                if self._stop.is_set() and self.reading == "stopped":
                    self._stop.clear()
                    time.sleep(STOP)
        except BaseException as error:
            self._failure = error

    def _feed(self, batch: Batch) -> None:
        self.tracker.feed(batch)
        self._births_lost = max(self._births_lost, batch.births.lost)
        if batch.emptied_ns is not None:
            self._emptied_ns = batch.emptied_ns

    def stop(self) -> None:
        """Stops the reader for a while, if it is one that stops."""
        self._stop.set()

    def catch_up(self) -> None:
        """Waits until all that has ended before was read."""
        now = time.monotonic_ns()
        while self._emptied_ns < now and self._thread.is_alive():
            time.sleep(0.001)

    def finish(self) -> None:
        """Reads to the end. Nothing must be lost."""
        self.listener.stop()
        if self.reading == "late":
            self._read()
        else:
            self._thread.join()
        if self._failure:
            raise self._failure
        self.tracker.flush()
        stats = self.listener.stats()
        self.tracker.note_lost(stats.lost)
        assert stats.lost == 0
        assert self._births_lost == 0
        assert not stats.probe or stats.probe.ends_lost == stats.probe.births_lost == 0

    def close(self) -> None:
        self.listener.close()
        if self._thread.ident is not None:
            self._thread.join()


class Ears:
    """All trackers, and what they say."""

    def __init__(self, ears: Sequence[Ear], case: str) -> None:
        self.all = ears
        self._case = case
        self._wrong: list[str] = []

    def start(self, root: Kin, id_: str, *, subreaper: int | None = None) -> None:
        for ear in self.all:
            ear.tracker.start(root.pid, id_, subreaper=subreaper)

    def stop(self) -> None:
        for ear in self.all:
            ear.stop()

    def finish(self) -> None:
        for ear in self.all:
            ear.finish()

    def check(self, id_: str, truth: Truth) -> None:
        """Compare what is said of a job with what is true."""
        for ear in self.all:
            self.compare(ear, ear.tracker.usage(id_), truth)

    def compare(self, ear: Ear, usage: Usage, truth: Truth) -> None:
        found = Counter({comm: totals.processes for comm, totals in usage.commands.items()})
        wrong = (found - truth.counts).total()
        missing = (truth.counts - found).total()
        said = (
            f"{self._case}; {ear.name}; {usage.id}: {truth.counts.total()} processes,"
            f" wrong {wrong}, missing {missing}, undecided {usage.undecided},"
            f" lost {usage.lost}, evicted {usage.evicted}, complete {usage.complete}"
        )
        print(said)
        declared = usage.undecided + usage.lost + usage.evicted
        if ear.births:
            right = missing == 0 and usage.complete
        else:
            right = missing <= declared and not (missing and usage.complete)
        if wrong or not right or (not wrong and (why := _differs(usage, truth))):
            extra = dict((found - truth.counts).items())
            self._wrong.append(f"{said}: {extra or why if right else 'not declared'}")

    def verdict(self) -> None:
        assert not self._wrong, "\n".join(self._wrong)


def _differs(usage: Usage, truth: Truth) -> str:
    """Which process is not the one that it is said to be; "" if none is."""
    starts: dict[tuple[str, int], list[int | None]] = {}
    for one in usage.processes:
        starts.setdefault((one.comm, one.pid), []).append(one.start_ns)
    anywhere = {comm for comm, pid in truth.moments if not pid}
    for (comm, pid), those in starts.items():
        if comm in anywhere:
            continue
        moments = truth.moments.get((comm, pid), [])
        if len(those) > len(moments):
            return f"{comm} {pid} ended {len(those)} times, and was made {len(moments)} times"
        known = sorted(start for start in those if start is not None)
        if len(known) == len(moments) and not all(map(int.__lt__, known, moments)):
            return f"{comm} {pid} started at {known}, and before {moments}"
    return ""


@dataclass
class Scene:
    """Everything that a test has."""

    ears: Ears
    family: Family
    jobs: Kin
    strangers: Kin

    def truth(self, *names: str, living: Counter[str] | None = None) -> Truth:
        moments: dict[tuple[str, int], list[int]] = {}
        counts: Counter[str] = Counter()
        for one in self.family.made():
            if one.name in names:
                counts[one.name] += 1
                moments.setdefault((one.name, one.pid), []).append(one.by_ns)
        for those in moments.values():
            those.sort()
        return Truth(counts - (living or Counter()), moments)

    def end(self) -> None:
        self.family.end()
        self.ears.finish()


@pytest.fixture(params=["least", "32768"])
def scene(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    needs_processes()
    needs_probe()
    monkeypatch.setattr(probe, "default_ring_bytes", lambda: RING)
    case = f"{request.function.__name__.removeprefix('test_')}; pid_max {request.param}"
    nests = request.function in _NESTED
    limit = None if request.param == "least" else int(request.param)
    with (
        pids.few(limit, spare=JOBS * 40),
        Family() as family,
        contextlib.ExitStack() as stack,
    ):
        jobs, strangers = family.begin_nanny("jobs"), family.begin_nanny("strangers")
        ears = []
        for births in (True, False):
            for reading in ("prompt", "stopped", "late"):
                ears.append(Ear(births, reading, lambda: nests))
                stack.callback(ears[-1].close)
        yield Scene(Ears(ears, case), family, jobs, strangers)


def _living(*names: str) -> Counter[str]:
    """How many processes of these names live, or were not waited for."""
    found: Counter[str] = Counter()
    for path in Path("/proc").glob("[0-9]*/comm"):
        with contextlib.suppress(OSError):
            comm = path.read_text().rstrip("\n")
            if comm in names:
                found[comm] += 1
    return found


def _await(family: Family, living: Counter[str]) -> None:
    """Wait until no more than these processes live.

    A scan of /proc may miss a process that is made meanwhile: so none is made during two of them.
    """
    while True:
        made = family.counts(living)
        scans = [_living(*living), _living(*living)]
        if family.counts(living) == made and not any(scan > living for scan in scans):
            return
        time.sleep(0.001)


def _successor(scene: Scene, nanny: Kin, name: str) -> Kin:
    """A process with the pid of a stranger that has ended, with children, just before."""
    while True:
        former = scene.strangers.spawn("stranger")
        former.order(f"wild {PROCESSES // 10} 1")
        former.send("exit")
        if one := _spawn_as(former.pid, nanny, name):
            return one


def _spawn_as(pid: int, nanny: Kin, name: str) -> Kin | None:
    """A process with this pid, once its owner has ended; None if another program gets it."""
    for _ in range(1000):
        with contextlib.suppress(FileExistsError):
            return nanny.spawn(name, pid)
        time.sleep(0.001)
    return None


def test_a_root_is_not_an_earlier_owner_of_its_pid(scene: Scene) -> None:
    stranger = scene.strangers.spawn("stranger")
    scene.ears.stop()
    stranger.order(f"children {PROCESSES}")
    root = _successor(scene, scene.jobs, "job")
    scene.ears.start(root, "job", subreaper=scene.jobs.pid)
    stranger.send(f"wild {PROCESSES // 4} 2")
    root.order(f"wild {PROCESSES // 2} 3")
    root.send("exit")
    stranger.answer()
    stranger.send("exit")
    scene.end()
    scene.ears.check("job", scene.truth("job"))
    scene.ears.verdict()


def test_jobs_of_all_shapes_at_once_are_told_apart(scene: Scene) -> None:
    roots = [scene.jobs.spawn(f"job{number}") for number in range(JOBS)]
    for root in roots:
        root.order(f"user {OTHER}")
        scene.ears.start(root, root.name, subreaper=scene.jobs.pid)
    for seed, root in enumerate(roots, os.getpid()):
        root.send(f"wild {PROCESSES // JOBS} {seed}")
    scene.ears.stop()
    for root in roots:
        root.answer()
        root.send("exit")
    scene.end()
    for root in roots:
        scene.ears.check(root.name, scene.truth(root.name))
    scene.ears.verdict()


def test_a_job_that_is_read_after_its_end_is_whole(scene: Scene) -> None:
    scene.ears.stop()
    root, stranger = scene.jobs.spawn("job"), scene.strangers.spawn("stranger")
    scene.ears.start(root, "job", subreaper=scene.jobs.pid)
    stranger.send(f"wild {PROCESSES} 1")
    root.order(f"wild {PROCESSES} 2")
    root.send("exit")
    stranger.answer()
    stranger.send("exit")
    scene.end()
    scene.ears.check("job", scene.truth("job"))
    scene.ears.verdict()


def test_a_wild_tree_has_nothing_of_another_users_storm(scene: Scene) -> None:
    root, storm = scene.jobs.spawn("job"), scene.strangers.spawn("stranger")
    root.order(f"user {OTHER}")
    scene.ears.start(root, "job")
    storm.send(f"children {2 * PROCESSES}")
    root.send(f"wild {PROCESSES} 1")
    scene.ears.stop()
    for one in (root, storm):
        one.answer()
        one.send("exit")
    scene.end()
    scene.ears.check("job", scene.truth("job"))
    scene.ears.verdict()


def test_orphans_of_a_closed_job_are_of_the_one_around_it(scene: Scene) -> None:
    outer = scene.jobs.spawn("outer")
    scene.ears.start(outer, "outer", subreaper=scene.jobs.pid)
    keeper = outer.spawn("outer")
    assert keeper.order("care") == 0
    inner = keeper.spawn("inner")
    scene.ears.start(inner, "inner", subreaper=keeper.pid)
    inner.order(f"wild {PROCESSES // 4} 1")
    scene.ears.stop()
    inner.order(f"orphans {PROCESSES // 8}")
    inner.order(f"hold {HELD}")
    living = Counter({"inner": 1 + HELD})
    _await(scene.family, living)
    closed = scene.truth("inner", living=living)
    for ear in scene.ears.all:
        if ear.reading == "late":
            ear.tracker.close("inner")
        else:
            ear.catch_up()
            ear.tracker.flush()
            scene.ears.compare(ear, ear.tracker.close("inner"), closed)
    inner.order("release")
    inner.order("reap")
    inner.order(f"orphans {PROCESSES // 8}")
    for one in (inner, keeper):
        one.send("exit")
    outer.order(f"wild {PROCESSES // 4} 1")  # it waits for the keeper too
    outer.send("exit")
    scene.end()
    scene.ears.check("outer", scene.truth("outer", "inner"))
    scene.ears.verdict()


def test_a_subreaper_is_not_an_earlier_owner_of_its_pid(scene: Scene) -> None:
    scene.ears.stop()
    keeper = _successor(scene, scene.jobs, "keeper")
    assert keeper.order("care") == 0
    root = keeper.spawn("job")
    scene.ears.start(root, "job", subreaper=keeper.pid)
    root.order(f"wild {PROCESSES // 2} 1")
    root.order(f"orphans {PROCESSES // 4}")
    root.send("exit")
    keeper.send("exit")
    scene.end()
    scene.ears.check("job", scene.truth("job"))
    scene.ears.verdict()


def test_processes_that_enter_another_jobs_namespace_stay_their_own(scene: Scene) -> None:
    host, guest = scene.jobs.spawn("host"), scene.jobs.spawn("guest")
    stranger = scene.strangers.spawn("stranger")
    for job in (host, guest):
        scene.ears.start(job, job.name, subreaper=scene.jobs.pid)
    host.order("enter 0")
    init = host.spawn("host")
    assert init.order("care") == 0
    for one in (guest, stranger):
        assert one.order(f"enter {init.pid}") == 0
    for one in (init, guest, stranger):
        one.send(f"wild {PROCESSES // 6} {one.pid}")
    scene.ears.stop()
    for one in (init, guest, stranger):
        one.answer()
        one.send(f"orphans {PROCESSES // 8}")
    for one in (init, guest, stranger):
        one.answer()
    _await(scene.family, Counter({"host": 2, "guest": 1, "stranger": 1}))
    for one in (init, host, guest, stranger):
        one.send("exit")
    scene.end()
    for job in (host, guest):
        scene.ears.check(job.name, scene.truth(job.name))
    scene.ears.verdict()


def test_a_pid_that_is_given_again_at_once_is_told_apart(scene: Scene) -> None:
    # A record that the probe could not complete tells its process's start to a second: in the first
    # second it may be of a process from before the births.
    time.sleep(1.1)
    roots = [scene.jobs.spawn(f"job{number}") for number in range(2)]
    for root in roots:
        scene.ears.start(root, root.name, subreaper=scene.jobs.pid)
    stranger = scene.strangers.spawn("stranger")
    scene.ears.stop()
    makers = [*roots, stranger]
    one: Kin | None = None
    for turn in range(max(6, PROCESSES // 100)):
        maker = makers[turn % 3]
        one = (one and _spawn_as(one.pid, maker, maker.name)) or maker.spawn(maker.name)
        one.order("orphans 10")
        one.order("children 10")
        one.send("exit")
        maker.order("reap")
    for maker in makers:
        maker.send("exit")
    scene.end()
    for root in roots:
        scene.ears.check(root.name, scene.truth(root.name))
    scene.ears.verdict()


#: The tests with PID namespaces.
_NESTED = {test_processes_that_enter_another_jobs_namespace_stay_their_own}
