"""The shim's engine for jobs (csrc/jobs.c): which job a process belongs to, and the sums."""

import os
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from taskstats._native import ffi, lib
from taskstats.accounts import EndedProcess
from taskstats.processes import Process
from taskstats.records import Batch
from taskstats.rows import text_of
from taskstats.sums import TOTALS

NO_JOB = 0xFFFFFFFF
UNDECIDED = 0xFFFFFFFE

#: What a batch needs before it is fed (enum ts_need): the clock; a look at what its records are.
NEEDS_CLOCK, UNLIKE = lib.TS_NEEDS_CLOCK, lib.TS_UNLIKE

_ROWS = ffi.typeof("struct ts_record[]")
_BIRTHS = ffi.typeof("struct ts_birth[]")

#: The first and the last nanosecond of CLOCK_BOOTTIME at which a process can have started.
Start = tuple[int, int]


class Command(NamedTuple):
    """What the processes of one command have used within a job: struct ts_totals."""

    comm: str
    executable: tuple[int, int]
    totals: Any


class Member(NamedTuple):
    """A living process of a job, and the CPU time of its threads that have ended."""

    pid: int
    start: Start
    cpu_ns: int
    job: int


class Engine:
    """One engine. One thread at a time may use it.

    Args:
        capacity: The most processes that are known at once.
        since_ns: CLOCK_BOOTTIME: all births since then are to come.
    """

    def __init__(self, capacity: int, since_ns: int) -> None:
        cell = ffi.new("struct ts_jobs **")
        check(lib.ts_jobs_new(capacity, since_ns, cell))
        self._jobs = ffi.gc(cell[0], lib.ts_jobs_free)
        self._feed = ffi.new("struct ts_feed *")
        self._counts = ffi.new("struct ts_jobs_counts *")
        self._ids = ffi.new("uint64_t[1024]")

    @property
    def jobs(self) -> Any:
        """struct ts_jobs, valid as long as the engine is there."""
        return self._jobs

    # -- jobs

    def start(self, root: int, start: Start, remember: int, outer: int = NO_JOB) -> int:
        """Begin a job, and return its number; without a root (0) one by cgroup.

        Raises:
            FileExistsError: The process is the root of a job.
            OSError: There is no room.
        """
        wanted = ffi.new("struct ts_job_wanted *")
        wanted.root, wanted.outer, wanted.remember = root, outer, remember
        wanted.start_ns, wanted.start_end_ns = start
        number = ffi.new("uint32_t *")
        check(lib.ts_jobs_start(self._jobs, wanted, number))
        return int(number[0])

    def join(self, job: int, pid: int, start: Start) -> None:
        """Make a living process one of the job's."""
        check(lib.ts_jobs_join(self._jobs, job, pid, *start))

    def close(self, job: int) -> None:
        """End a job; what it has belongs to the job that it is within."""
        check(lib.ts_jobs_close(self._jobs, job))

    def put_within(self, job: int, outer: int) -> None:
        """Put a job within another one, or with NO_JOB within none."""
        check(lib.ts_jobs_put_within(self._jobs, job, outer))

    # -- the stream

    def new_cgroups(self, batch: Batch) -> list[int]:
        """The ids of the cgroups in a batch that have no place yet."""
        found = lib.ts_jobs_new_cgroups(
            self._jobs, rows_of(batch), len(batch), self._ids, len(self._ids)
        )
        return ffi.unpack(self._ids, found) if found else []

    def place_cgroup(self, id: int, job: int) -> None:  # noqa: A002
        """Say which job the exits in a cgroup belong to: NO_JOB for none, or UNDECIDED."""
        check(lib.ts_jobs_place_cgroup(self._jobs, id, job))

    def forget_cgroups(self) -> None:
        """Forget the places of all cgroups."""
        lib.ts_jobs_forget_cgroups(self._jobs)

    def check(self, batch: Batch) -> int:
        """What a batch needs before it is fed: NEEDS_CLOCK, UNLIKE."""
        return int(lib.ts_jobs_check(self._jobs, rows_of(batch), len(batch)))

    def accept(self, batch: Batch) -> None:
        """Say that a batch was looked at: records like the last one are no longer UNLIKE."""
        lib.ts_jobs_accept(self._jobs, rows_of(batch), len(batch))

    def feed(self, batch: Batch, boot_ns: int) -> None:
        """Take a batch of a stream with births.

        Args:
            batch: The batch.
            boot_ns: CLOCK_REALTIME at the boot, if it needs the clock.
        """
        feed, births = self._feed, batch.births
        feed.tasks, feed.n_tasks = rows_of(batch), len(batch)
        feed.groups, feed.n_groups = rows_of(batch.groups), len(batch.groups)
        feed.births, feed.n_births = ffi.from_buffer(_BIRTHS, births.data), len(births)
        feed.births_lost = births.lost
        feed.emptied = batch.emptied_ns is not None
        feed.boot_ns = boot_ns
        check(lib.ts_jobs_feed(self._jobs, feed))

    def flush(self) -> None:
        """Add the processes that wait for records of other threads, as they are."""
        lib.ts_jobs_flush(self._jobs)

    def lose(self, records: int) -> None:
        """Count lost records for each job."""
        lib.ts_jobs_lose(self._jobs, records)

    def give_up(self, records: int) -> None:
        """Count records that were given up for each job."""
        lib.ts_jobs_give_up(self._jobs, records)

    # -- reading

    @property
    def counts(self) -> Any:
        """struct ts_jobs_counts, valid until the next call."""
        lib.ts_jobs_count(self._jobs, self._counts)
        return self._counts

    def job(self, number: int) -> Any:
        """struct ts_job_counts of a job."""
        counts = ffi.new("struct ts_job_counts *")
        check(lib.ts_job_count(self._jobs, number, counts))
        return counts

    def within(self, job: int) -> list[int]:
        """The numbers of the jobs within a job, and its own."""
        room = lib.ts_job_within(self._jobs, job, ffi.NULL, 0)
        numbers = ffi.new("uint32_t[]", room)
        lib.ts_job_within(self._jobs, job, numbers, room)
        return [*numbers]

    def commands(self, job: int) -> list[Command]:
        """The sums of a job alone, by command."""
        room = self.job(job).n_commands
        rows = ffi.new("struct ts_command[]", room)
        found = lib.ts_job_commands(self._jobs, job, rows, room)
        return [
            Command(_text(row.comm), (row.exe_dev, row.exe_inode), _copied(row.totals))
            for row in rows[0:found]
        ]

    def ended(self, job: int) -> Iterator[EndedProcess]:
        """The ended processes of a job alone that are remembered."""
        room = self.job(job).remembered
        rows = ffi.new("struct ts_ended[]", room)
        for row in rows[0 : lib.ts_job_ended(self._jobs, job, rows, room)]:
            yield EndedProcess(
                pid=row.pid,
                ppid=row.ppid,
                comm=_text(row.comm),
                cpu_ns=row.cpu_ns,
                elapsed_us=row.elapsed_us,
                status=row.status,
                received_ns=row.received_ns,
                start_ns=row.start_ns or None,
                maker_pid=row.maker_pid or None,
                maker_start_ns=row.maker_start_ns if row.maker_pid else None,
            )

    def owner(self, pid: int, start: Start) -> int:
        """The number of a process's job: NO_JOB, or UNDECIDED if a birth was lost."""
        return int(lib.ts_jobs_of(self._jobs, pid, *start))

    def members(self) -> list[Member]:
        """The living processes of all jobs."""
        room = lib.ts_jobs_members(self._jobs, ffi.NULL, 0)
        rows = ffi.new("struct ts_member[]", room)
        lib.ts_jobs_members(self._jobs, rows, room)
        return [
            Member(row.pid, (row.start_ns, row.start_end_ns), row.cpu_ns, row.job) for row in rows
        ]


def summed(process: Process) -> tuple[Any, Any]:
    """What a process of several threads has used: struct ts_sums, struct ts_ended."""
    sums, ended = ffi.new("struct ts_sums *"), ffi.new("struct ts_ended *")
    record = process.record
    sums.values = [process.totals.get(name, 0) for name in TOTALS]
    sums.threads, sums.unsettled = process.threads, process.unsettled
    sums.exceeding = process.delay_exceeds_elapsed
    ended.received_ns, ended.cpu_ns = record.received_ns, process.cpu_ns
    ended.elapsed_us, ended.status = record.ac_tgetime, record.ac_exitcode
    ended.pid, ended.ppid, ended.comm = process.pid, process.ppid, process.comm.encode()
    ended.exe_dev, ended.exe_inode = record.ac_exe_dev, record.ac_exe_inode
    return sums, ended


def added(totals: Iterable[Any]) -> Any:
    """Sums of sums: struct ts_totals."""
    made = ffi.new("struct ts_totals *")
    for one in totals:
        lib.ts_totals_add_totals(made, one)
    return made


def _copied(totals: Any) -> Any:
    """A copy with memory of its own."""
    return ffi.new("struct ts_totals *", totals)


def rows_of(batch: Batch) -> Any:
    """struct ts_record of each row, valid as long as the batch is there."""
    return ffi.from_buffer(_ROWS, batch.data)


def _text(raw: Any) -> str:
    return text_of(bytes(ffi.buffer(raw)).partition(b"\0")[0])


def check(rc: int) -> None:
    """Raise the OSError that a function of the shim returned, if it is one."""
    if rc < 0:
        raise OSError(-rc, os.strerror(-rc))
