"""The shim's parentage.c: which job a process belongs to, by its record and by who lives."""

from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple

from taskstats._native import ffi, lib
from taskstats.alive import Alive, Look, Moment
from taskstats.engine import Engine, check, rows_of, summed
from taskstats.processes import Process
from taskstats.records import Batch


class Several(NamedTuple):
    """A row of a process with several threads.

    Attributes:
        row: The row's number.
        last: Whether it is the last thread's.
        process: What to call `Parents.add` with, if it is.
    """

    row: int
    last: bool
    process: Any


class Parents:
    """Assigns processes to the jobs of an engine. One thread at a time may use it.

    Args:
        engine: Has the jobs.
        look: Looks up who lives.
        clock: Reads the clocks.
        capacity: The most processes that wait, and the most that are remembered.
        may_nest: Says whether there may have been a PID namespace below the initial one.
    """

    def __init__(
        self,
        engine: Engine,
        look: Look,
        clock: Callable[[], Moment],
        capacity: int,
        may_nest: Callable[[], bool],
    ) -> None:
        cell = ffi.new("struct ts_parentage **")
        check(lib.ts_parentage_new(engine.jobs, capacity, cell))
        self._parentage = ffi.gc(cell[0], lib.ts_parentage_free)
        self._engine = engine
        self._look = look
        self._clock = clock
        self._may_nest = may_nest
        self._moment = ffi.new("struct ts_moment *")
        self._counts = ffi.new("struct ts_parentage_counts *")
        self._number = ffi.new("uint32_t *")
        self._several = ffi.new("struct ts_several[]", 0)
        self._pids = ffi.new("uint32_t[]", 64)

    @property
    def counts(self) -> Any:
        """struct ts_parentage_counts, valid until the next call."""
        lib.ts_parentage_count(self._parentage, self._counts)
        return self._counts

    # -- jobs

    def start(self, number: int, root: Alive, subreaper: Alive | None) -> int:
        """Begin a job; return the number of the one that its root is of, NO_JOB or UNDECIDED.

        Raises:
            OSError: /proc cannot be read, or there is no memory (ENOMEM): it has not begun.
        """
        lineage, _kept = self._lineage(root)
        heir = _alive([subreaper]) if subreaper else ffi.NULL
        check(
            lib.ts_parentage_start(
                self._parentage, number, lineage, heir, self._judging(), self._number
            )
        )
        return int(self._number[0])

    def join(self, number: int, one: Alive, around: Collection[int]) -> None:
        """Make a living process one of a job's, unless it is of a job within that one.

        Call it for a parent before its children.

        Args:
            number: The job's.
            one: The process.
            around: The numbers of the jobs around it.
        """
        numbers, now = [*around], self._judging()
        check(
            lib.ts_parentage_join(
                self._parentage, number, _alive([one]), numbers, len(numbers), now
            )
        )

    def close(self, number: int, outer: int) -> None:
        """End a job: its processes are of the one that it is within, or of NO_JOB."""
        check(lib.ts_parentage_close(self._parentage, number, outer))

    def of_living(self, one: Alive) -> int:
        """The number of a living process's job: NO_JOB, or UNDECIDED."""
        lineage, _kept = self._lineage(one)
        lib.ts_parentage_of(self._parentage, lineage, self._judging(), self._number)
        return int(self._number[0])  # without memory UNDECIDED

    def _lineage(self, one: Alive) -> tuple[Any, Any]:
        """struct ts_lineage of a living process, and the memory that it refers to."""
        found: list[Alive] = []
        child, whole = one, True
        while child.ppid and whole:
            parents = self._look([child.ppid])
            whole = bool(parents) and parents[0].start_ns <= child.start_ns
            if whole:
                child = parents[0]
                whole = all(_who(child) != _who(other) for other in found)
            if whole:
                found.append(child)
        ancestors = _alive(found)
        lineage = ffi.new("struct ts_lineage *")
        own = _alive([one])
        lineage.one = own[0]  # a copy; own[0] alone would not keep the array
        lineage.ancestors, lineage.n, lineage.is_whole = ancestors, len(found), whole
        return lineage, ancestors

    # -- the stream

    def feed(self, batch: Batch) -> list[Several]:
        """Take a batch; return the rows that are to be added up by process."""
        n = len(batch)
        if len(self._several) < n:
            self._several = ffi.new("struct ts_several[]", n)
        found = lib.ts_parentage_feed(
            self._parentage, rows_of(batch), n, self._now(), self._several
        )
        several = self._several[0:found] if found else ()
        return [Several(one.row, bool(one.is_last), one.process) for one in several]

    def add(self, process: Any, sums: Process) -> None:
        """Take what a process of several threads has used: once for each last row."""
        lib.ts_parentage_add(self._parentage, process, *summed(sums), bool(sums.complete))

    def lose(self) -> None:
        """Say that records were lost before now."""
        lib.ts_parentage_lose(self._parentage, self._now())

    def settle(self, emptied_ns: int | None) -> None:
        """Assign what can be assigned.

        Args:
            emptied_ns: CLOCK_MONOTONIC: all records queued before this moment were fed.

        Raises:
            OSError: /proc cannot be read, or there was no memory (ENOMEM): jobs are marked.
        """
        moment = -1 if emptied_ns is None else emptied_ns
        self._find(lib.ts_parentage_settle(self._parentage, moment, self._judging()))

    def flush(self) -> None:
        """Assign all that waits; what needs more records is undecided.

        Raises:
            OSError: As `settle` raises it.
        """
        self._find(lib.ts_parentage_flush(self._parentage, self._judging()))

    def _find(self, wanted: int) -> None:
        """Look processes up, as long as some are wanted."""
        while wanted > 0:
            before_ns = self._moment.real_ns
            if len(self._pids) < wanted:
                self._pids = ffi.new("uint32_t[]", 2 * wanted)
            lib.ts_parentage_wanted(self._parentage, self._pids)
            found = [one for one in self._look(ffi.unpack(self._pids, wanted)) if not one.ended]
            wanted = lib.ts_parentage_found(
                self._parentage, _alive(found), len(found), before_ns, self._now()
            )
        check(wanted)

    # -- the clocks

    def _now(self) -> Any:
        moment = self._moment
        moment.boot_ns, moment.real_ns, moment.monotonic_ns = self._clock()
        return moment

    def _judging(self) -> Any:
        """The clocks, and whether there may ever have been another PID namespace."""
        if not self._moment.may_nest:
            self._moment.may_nest = self._may_nest()
        return self._now()


def _who(one: Alive) -> tuple[int, int]:
    return one.pid, one.start_ns


def _alive(found: Sequence[Alive]) -> Any:
    """struct ts_alive of each."""
    return ffi.new(
        "struct ts_alive[]",
        [(one.start_ns, one.pid, one.ppid, one.nested) for one in found],
    )
