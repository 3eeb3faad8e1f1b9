"""Records of threads folded into processes. No I/O: it runs on a replayed stream as well."""

import operator
from collections.abc import Callable, KeysView, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache, cached_property
from types import MappingProxyType
from typing import Any

from taskstats.fields import DELAY_FIELDS, DELAYS
from taskstats.presence import DELAY_EXCEEDS, LAST, PAIRED, SETTLED
from taskstats.records import Batch, Record
from taskstats.sums import FINAL_CPU, TOTALS, Reading, Sums, read, values_of

#: The keys of `Process.to_dict`, but for the totals, which have the kernel's names: unit, meaning.
PROCESS_KEYS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "kind": ("text", 'What the line is about: "process"'),
        "pid": ("pid", "Process id (the kernel's tgid)"),
        "ppid": ("pid", "Process id of its parent when it ended"),
        "uid": ("uid", "Real user id, of the leader where it was heard"),
        "gid": ("gid", "Real group id, likewise"),
        "comm": ("text", "Command name, likewise"),
        "exit_code": ("status", "Status it exited with, 0 to 255; none if a signal ended it"),
        "exit_signal": ("signal", "Signal that ended it; none if none did"),
        "status_certain": ("bool", "The leader's record told the same status as the last thread's"),
        "threads": ("threads", "Threads whose record was heard"),
        "complete": (
            "bool",
            "Its threads heard add up to the kernel's own sums; none if it keeps none",
        ),
        "received_ns": ("ns since epoch", "When the record of its end was read"),
        "started_seconds": ("s since epoch", "When it began, good to a second"),
        "elapsed_seconds": ("s", "Time since it began (ac_tgetime)"),
        "cpu_seconds": (
            "s",
            "Time on a CPU: final_cpu_ns where that is known, else cpu_run_virtual_total; none if "
            "nothing was added up",
        ),
        "final_cpu_ns": ("ns", "All of its time on a CPU; none if not known of each thread"),
        "start_ns": ("ns since boot", "Start; with the pid it identifies the process"),
        "cgroup_id": ("inode", "Its cgroup's id: the inode of the directory"),
        "cgroup": ("text", "Path of its cgroup"),
        "peak_rss_bytes": (
            "bytes",
            "Peak resident size (hiwater_rss); none if the kernel has none",
        ),
        "delays_measured": ("bool", "Delays other than cpu were measured; none if that is unknown"),
        "delay_exceeds_elapsed": (
            "bool",
            "A delay is longer than its task has lived; none if that is unknown, as of one alive",
        ),
    }
)


_OTHER_COUNTS = operator.itemgetter(*(TOTALS.index(f"{delay}_count") for delay in DELAYS[1:]))
_CPU_COUNT = TOTALS.index("cpu_count")
_CPU_DELAY = TOTALS.index("cpu_delay_total")
_CPU_RUN = TOTALS.index("cpu_run_virtual_total")
_FINAL_CPU = TOTALS.index(FINAL_CPU)


@cache
def _present(
    fields: frozenset[str], measured: bool
) -> tuple[tuple[str, ...], Callable[[Sequence[int]], tuple[int, ...]]]:
    """Those of TOTALS that a record with these fields has, and what takes their values."""
    kept = [
        (at, name)
        for at, name in enumerate(TOTALS)
        if name in fields and (measured or name not in DELAY_FIELDS)
    ]
    return tuple(name for _, name in kept), operator.itemgetter(*(at for at, _ in kept))


@cache
def _blank(fields: frozenset[str]) -> Mapping[str, None]:
    """Those of TOTALS that a record with these fields has, in order, without values."""
    return dict.fromkeys(name for name in TOTALS if name in fields)


class _Threads:
    """What is kept of the threads of one process that have ended."""

    __slots__ = ("exceeds", "leader", "records", "sums", "unsettled", "unsettled_ns")

    def __init__(self) -> None:
        self.records = 0
        self.unsettled = 0
        self.unsettled_ns = 0  # CPU time by the records of those
        self.sums = Sums(gather=16)
        self.exceeds = False
        self.leader: _Leader | None = None

    def add(self, batch: Batch, row: int, reading: Reading) -> None:
        columns = batch.columns
        self.sums.add([reading])
        self.records += 1
        flags = columns["flags"][row]
        if flags & DELAY_EXCEEDS:
            self.exceeds = True
        if not flags & SETTLED:
            self.unsettled += 1
            self.unsettled_ns += columns["cpu_run_virtual_total"][row]
        if columns["ac_pid"][row] == columns["ac_tgid"][row]:  # cheaper than a Record of each
            self.leader = _leader(batch[row])


@dataclass(frozen=True, slots=True)
class _Leader:
    comm: str
    uid: int
    gid: int
    status: int
    start_ns: int | None


def _leader(record: Record) -> _Leader | None:
    """Who it is, if the record is the leader's."""
    if record.ac_pid != record.ac_tgid:
        return None
    start_ns = record.start_ns if record.is_settled else None
    return _Leader(record.comm, record.ac_uid, record.ac_gid, record.ac_exitcode, start_ns)


class Process:
    """A process that has ended, made of the records of its threads.

    Its status, parent and age are those of the last thread's record, which carries AGROUP; the
    name and the user are the leader's, where its record was heard.

    Attributes:
        record: The last thread's record.
        threads: How many threads' records make it up. A thread other than the leader that execs
            takes the leader's place: then the old leader's record counts, and the caller's is the
            last.
        complete: True for a process that never had a second thread, and where the records heard
            add up to the kernel's own sums for the group (kernel/taskstats.c:fill_tgid_exit).
            False where threads ended before the stream began, or records were lost, or where
            what was held is of an earlier process with this pid; then `threads` and the totals
            can be too high. None where the kernel keeps no such sums (without
            CONFIG_TASK_DELAY_ACCT).
    """

    def __init__(
        self, batch: Batch, row: int, threads: _Threads | None, complete: bool | None
    ) -> None:
        self.record = Record(batch, row)
        self.threads = threads.records if threads else 1
        self.complete = complete
        self._row = batch, row
        self._threads = threads

    @property
    def _leader(self) -> _Leader | None:
        return self._threads.leader if self._threads else None

    @property
    def pid(self) -> int:
        """The process's id (the kernel's tgid)."""
        return self.record.ac_tgid

    @property
    def ppid(self) -> int:
        """The parent's, when it ended."""
        return self.record.ac_ppid

    @property
    def uid(self) -> int:
        """Real user id."""
        leader = self._leader
        return leader.uid if leader else self.record.ac_uid

    @property
    def gid(self) -> int:
        """Real group id."""
        leader = self._leader
        return leader.gid if leader else self.record.ac_gid

    @property
    def comm(self) -> str:
        r"""The command name; bytes that are not UTF-8 read \xNN."""
        leader = self._leader
        return leader.comm if leader else self.record.comm

    @property
    def exit_code(self) -> int | None:
        """The status it exited with; None if a signal ended it."""
        return self.record.exit_code

    @property
    def exit_signal(self) -> int | None:
        """The signal that ended it; None if none did."""
        return self.record.exit_signal

    @property
    def status_certain(self) -> bool:
        """Whether the leader's record told the same status as the last thread's.

        Threads have a status each; that of the last is the process's nearly always. False too
        where the leader's record was not heard.
        """
        if self._threads is None:
            return True
        return self._leader is not None and self._leader.status == self.record.ac_exitcode

    @property
    def received_at(self) -> datetime | None:
        """When the drain that took the last thread's record began, in UTC."""
        return self.record.received_at

    @property
    def started_at(self) -> datetime:
        """When it began, in UTC, good to a second."""
        return datetime.fromtimestamp(self._started_seconds, UTC)

    @property
    def _started_seconds(self) -> int:
        before = (self.record.ac_tgetime - self.record.ac_etime) // 1_000_000
        return self.record.ac_btime64 - before

    @property
    def elapsed_seconds(self) -> float:
        """Since it began."""
        return self.record.ac_tgetime / 1e6

    @cached_property
    def totals(self) -> dict[str, int]:
        """field -> sum over the threads, in the kernel's units.

        hiwater_* and *_delay_max are the largest, *_delay_min the smallest. Of what the kernel
        sums over the group itself, its sum where that is larger: it knows the threads that were
        not heard. A field that this kernel does not have, and a delay that was not measured, has
        no key.
        """
        batch, row = self._row
        values = self._threads.sums.values if self._threads else values_of(batch.data, row)
        group = self.record.group
        measured = any(_OTHER_COUNTS(values)) or (group is not None and group.delays_measured)
        names, those = _present(self.record.fields, bool(measured))
        made = dict(zip(names, those(values), strict=True))
        if group is not None:
            for name in group.fields & made.keys():
                made[name] = max(made[name], getattr(group, name))
        return made

    @property
    def unsettled(self) -> int:
        """How many of its threads' records have no final CPU time."""
        return self._threads.unsettled if self._threads else int(not self.record.is_settled)

    @property
    def cpu_ns(self) -> int:
        """All its threads on a CPU, in ns: the final figures, as far as they are known.

        For the others it is what their records say (cpu_run_virtual_total), and for threads that
        were not heard what the kernel's sum over the group says.
        """
        if self._threads is None:
            return _cpu_ns(self.record)
        heard = self._threads.sums.values[_FINAL_CPU] + self._threads.unsettled_ns
        return max(heard, self.totals["cpu_run_virtual_total"])

    @property
    def cpu_seconds(self) -> float | None:
        """`cpu_ns` in seconds; None where nothing was added up yet."""
        return self.cpu_ns / 1e9 or None

    @property
    def final_cpu_ns(self) -> int | None:
        """All of its time on a CPU, in ns; None if that is not known of each of its threads."""
        return None if self.unsettled or self.complete is False else self.cpu_ns

    @property
    def start_ns(self) -> int | None:
        """When it started, ns of CLOCK_BOOTTIME, as in `Record.start_ns`; None if not known."""
        if self._threads is None:
            return self.record.start_ns if self.record.is_settled else None
        return self._leader.start_ns if self._leader else None

    @property
    def cgroup_id(self) -> int | None:
        """The id of its cgroup at its end, as in `Record.cgroup_id`; None if not known."""
        return self._probed.get("cgroup_id")

    @property
    def cgroup(self) -> str | None:
        """The path of its cgroup at its end, as in `Record.cgroup`; None if not known."""
        return self._probed.get("cgroup")

    @cached_property
    def _probed(self) -> dict[str, Any]:
        return self.record.probed_to_dict()

    @property
    def peak_rss_bytes(self) -> int | None:
        """Its peak resident size, as in `Record.peak_rss_bytes`; None where the kernel has none."""
        return self.totals["hiwater_rss"] * 1024 or None

    @property
    def delays_measured(self) -> bool | None:
        """True if a delay other than "cpu" was measured; None if none was seen."""
        return "blkio_count" in self.totals or None

    @property
    def delay_exceeds_elapsed(self) -> bool:
        """A delay of a thread is longer than it has lived: the kernel's error."""
        return self._threads.exceeds if self._threads else self.record.delay_exceeds_elapsed

    def to_dict(self) -> dict[str, Any]:
        """PROCESS_KEYS and the totals, ready for JSON; None for a delay that was not measured."""
        return {
            "kind": "process",
            "pid": self.pid,
            "ppid": self.ppid,
            "uid": self.uid,
            "gid": self.gid,
            "comm": self.comm,
            "exit_code": self.exit_code,
            "exit_signal": self.exit_signal,
            "status_certain": self.status_certain,
            "threads": self.threads,
            "complete": self.complete,
            "received_ns": self.record.received_ns,
            "started_seconds": self._started_seconds,
            "elapsed_seconds": self.elapsed_seconds,
            "cpu_seconds": self.cpu_seconds,
            "final_cpu_ns": self.final_cpu_ns,
            "start_ns": self.start_ns,
            "cgroup_id": self.cgroup_id,
            "cgroup": self.cgroup,
            "peak_rss_bytes": self.peak_rss_bytes,
            "delays_measured": self.delays_measured,
            "delay_exceeds_elapsed": self.delay_exceeds_elapsed,
            **_blank(self.record.fields),
            **self.totals,
        }

    def __repr__(self) -> str:
        return f"<Process {self.pid} {self.comm!r}, {self.threads} threads>"


def _cpu_ns(record: Record) -> int:
    return record.final_cpu_ns if record.is_settled else record.cpu_run_virtual_total


def check_exits(batch: Batch) -> None:
    """Checks that processes can be made of a batch.

    Raises:
        FieldUnavailable: The kernel's struct is older than version 12.
        ValueError: It is of groups, or of a query's answers.
    """
    if batch.kind == "group" or not batch[0].is_exit:
        raise ValueError(f"processes are made of the task records of exits, not of {batch!r}")
    if "ac_tgid" not in batch.fields:
        for record in batch:
            _ = record.ac_tgid  # one of them says why


class ProcessFold:
    """Folds the records of exits into processes.

    Records of one process come from several CPUs, between which there is no order: the last
    thread's record may be read before the others. So a process is given out at the first of these:

    - at once, if it never had a second thread;
    - when the records heard add up to the kernel's own sums for the group;
    - with a later batch than that of the last thread's record which has left the queues empty
      (`Batch.emptied_ns`), or with an empty batch: then the missing records do not come;
    - when another process with its pid ends, beyond the capacity, and at `flush`.

    When the caller reads does not matter. A batch that was replayed has no `emptied_ns`.

    What is held of processes that have not ended is bounded: beyond `capacity` the one heard of
    longest ago is forgotten.

    Args:
        capacity: The most processes to hold of those that live, and of those that wait to be given
            out; up to 15 KB each, with delays 30.

    Attributes:
        held: Records held, of processes not yet given out.
        forgotten: Records given up: beyond the capacity, or of a process whose pid now is that of
            one that never had a second thread.
            Every record fed is in a process given out, held, or forgotten.
    """

    def __init__(self, capacity: int = 16_384) -> None:
        if capacity < 1:
            raise ValueError(f"capacity is a number of processes from 1, not {capacity}")
        self.capacity = capacity
        self.held = 0
        self.forgotten = 0
        self._living: dict[int, _Threads] = {}  # by tgid; the one heard of last is last
        self._ending: dict[int, tuple[Batch, _Threads]] = {}  # by tgid, in the order of their ends

    def feed(self, batch: Batch, rows: Sequence[int] | None = None) -> list[Process]:
        """The processes that have ended.

        Args:
            batch: Task records of exits; an empty one says that nothing more comes for now, and
                gives out those that wait.
            rows: Which of them; None for all.

        Raises:
            FieldUnavailable: The kernel's struct is older than version 12, and tells neither
                thread groups nor their ends.
            ValueError: The batch is of groups, or of a query's answers.
        """
        if not batch:
            return self.flush()
        check_exits(batch)
        flags, tgids = batch.columns["flags"], batch.columns["ac_tgid"]
        made: list[Process] = []
        # What this batch brings of other processes may be ahead of other threads' records.
        waiting = [] if batch.emptied_ns is None else list(self._ending.items())
        rows = range(len(batch)) if rows is None else rows
        several = [row for row in rows if flags[row] & (LAST | PAIRED) != LAST]
        readings = iter(read(batch.data, several))
        for row in rows:
            tgid = tgids[row]
            if flags[row] & (LAST | PAIRED) == LAST:
                made += self._alone(tgid, batch, row)
            elif flags[row] & LAST:
                made += self._last(tgid, batch, row, next(readings))
            elif tgid in self._ending:
                self._ending[tgid][1].add(batch, row, next(readings))
                self.held += 1
                made += self._end_if_complete(tgid)
            else:
                self._hold(tgid, batch, row, next(readings))
        made += [self._end(tgid) for tgid, one in waiting if self._ending.get(tgid) is one]
        return made

    def flush(self) -> list[Process]:
        """The processes that wait for records of other threads, as they are."""
        return [self._end(tgid) for tgid in list(self._ending)]

    @property
    def waiting_since(self) -> int | None:
        """When the record of the oldest process was read that waits to be given out, if any does.

        In ns since the epoch.
        """
        last = next(iter(self._ending.values()), None)
        return last[0][0].received_ns if last else None

    @property
    def holding(self) -> KeysView[int]:
        """Ids of processes that live, as far as is heard, and threads of which have ended."""
        return self._living.keys()

    def heard_of(self, tgid: int) -> tuple[int, ...] | None:
        """What those threads add up to: values of TOTALS; None if there are none."""
        threads = self._living.get(tgid)
        return threads.sums.values if threads else None

    # -- one process

    def _alone(self, tgid: int, batch: Batch, row: int) -> list[Process]:
        """The process that never had another thread, after one that waits to end with its pid."""
        before = [self._end(tgid)] if tgid in self._ending else []
        if tgid in self._living:  # another process, which had this pid
            self._forget(self._living.pop(tgid))
        return [*before, Process(batch, row, None, complete=True)]

    def _last(self, tgid: int, batch: Batch, row: int, reading: Reading) -> list[Process]:
        """Takes the last thread's record; gives out whoever must make room for it."""
        before = [self._end(tgid)] if tgid in self._ending else []
        threads = self._living.pop(tgid, None) or _Threads()
        threads.add(batch, row, reading)
        # A copy: the record is kept for a while, and would keep the whole batch.
        self._ending[tgid] = batch[row : row + 1], threads
        self.held += 1
        before += self._end_if_complete(tgid)
        if len(self._ending) > self.capacity:
            before.append(self._end(next(iter(self._ending))))
        return before

    def _end_if_complete(self, tgid: int) -> list[Process]:
        last, threads = self._ending[tgid]
        return [self._end(tgid)] if _is_complete(last[0], threads) else []

    def _end(self, tgid: int) -> Process:
        last, threads = self._ending.pop(tgid)
        self.held -= threads.records
        # An exec by another thread leaves two records of the leader's pid; the last one is it.
        threads.leader = _leader(last[0]) or threads.leader
        return Process(last, 0, threads, _is_complete(last[0], threads))

    def _hold(self, tgid: int, batch: Batch, row: int, reading: Reading) -> None:
        threads = self._living.pop(tgid, None) or _Threads()
        threads.add(batch, row, reading)
        self._living[tgid] = threads
        self.held += 1
        if len(self._living) > self.capacity:
            self._forget(self._living.pop(next(iter(self._living))))

    def _forget(self, threads: _Threads) -> None:
        self.held -= threads.records
        self.forgotten += threads.records


def _is_complete(record: Record, threads: _Threads) -> bool | None:
    """Whether the threads heard add up to what the kernel summed over the group, if it did.

    Every thread that ever ran has a cpu_count, so a missing one does not go unnoticed. Their waits
    for a CPU add up to the nanosecond, so one of an earlier process with this pid does not either.
    The kernel adds a thread to its group a moment before it fills the thread's own record: a tick
    between the two adds to its time there.
    """
    group = record.group
    if group is None or "cpu_count" not in group.fields or not group.cpu_count:
        return None
    values = threads.sums.values
    return (
        values[_CPU_COUNT] == group.cpu_count
        and values[_CPU_DELAY] == group.cpu_delay_total
        and values[_CPU_RUN] >= group.cpu_run_virtual_total
    )
