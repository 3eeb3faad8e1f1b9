"""Record and Batch: views of the fixed-size rows that the C shim fills.

A batch is a buffer of rows, and nothing is taken out of it until somebody reads a field.
"""

import struct
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from itertools import repeat, starmap
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias, overload

from taskstats.births import Births
from taskstats.errors import field_unavailable
from taskstats.fields import DELAYS, FIELDS, SUMMED, Field, KernelFields
from taskstats.presence import DELAY_EXCEEDS, EXIT, LAST, PAIRED, SETTLED
from taskstats.rows import HEADER, NO_CPU, ROW, Columns, Kind, text_of

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


#: The keys of `Record.to_dict` that are not fields of the kernel's struct: unit, meaning.
HEADER_KEYS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "kind": ("text", 'What the record is about: "task" or "group"'),
        "id": ("pid", "The pid of a task (a thread), the tgid of a group"),
        "version": ("version", "The struct's version"),
        "cpu": ("cpu", "CPU of the listener's socket that it came by"),
        "seq": ("number", "The kernel's number on that CPU, or the request's"),
        "lost_before": ("records", "Records lost on this CPU since its previous one"),
        "received_ns": ("ns since epoch", "When it was read"),
        "exit": ("bool", "Sent by the kernel at exit, not asked for"),
        "last": ("bool", "The last thread of its process"),
        "delay_exceeds_elapsed": ("bool", "A delay is longer than the task has lived"),
        "delays_measured": ("bool", "Delays other than cpu were measured; none if that is unknown"),
        "final_cpu_ns": ("ns", "All of its time on a CPU, teardown included; from the probe"),
        "start_ns": ("ns since boot", "Start; with the pid it identifies the task; from the probe"),
        "cgroup_id": ("inode", "Its cgroup's id: the inode of the directory; from the probe"),
        "cgroup": ("text", "Path of its cgroup; from the probe"),
    }
)


# ---- one record ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Delay:
    """One kind of delay of a record (kernel/delayacct.c).

    Attributes:
        count: How often the task waited.
        total_ns: For how long in all, nanoseconds.
        max_ns: The longest wait; None where the kernel does not keep it (before version 15), for a
            group, and when count is 0.
        min_ns: The shortest, likewise.
        max_at: When the longest ended; None likewise, and where the struct lacks it: before version
            17, or of fewer than 688 bytes.
        exceeds_elapsed: The total is longer than the task has lived, so it is not to be believed
            (seen on Linux 6.18 in blkio). None where the record has no elapsed time.
        measured: True if it surely was measured. None if that cannot be told, and 0 may mean
            either: see Record.delays_measured.
    """

    count: int
    total_ns: int
    max_ns: int | None
    min_ns: int | None
    max_at: datetime | None
    exceeds_elapsed: bool | None
    measured: bool | None


def _moment(name: str, ns: int) -> datetime:
    """A moment in UTC, to the microsecond; FieldUnavailable if no calendar has it."""
    try:
        whole = datetime.fromtimestamp(ns // 1_000_000_000, UTC)
    except (OverflowError, ValueError, OSError):
        raise field_unavailable(name, f"{ns} ns since the epoch is no date") from None
    return whole.replace(microsecond=ns % 1_000_000_000 // 1000)


class Record(KernelFields):
    """One task, or one group of tasks, as the kernel accounted it.

    The kernel's fields are attributes under their own names and in their own units (fields.FIELDS
    tells them); a field that the record does not carry raises FieldUnavailable. What is derived
    carries its unit in its name. A record is a view: it keeps its batch alive.
    """

    __slots__ = ()

    _batch: "Batch"

    def __init__(self, batch: "Batch", row: int) -> None:
        self._batch = batch
        self._row = row

    # -- the header

    def _header(self, name: str) -> int:
        value: int = self._batch.columns[name][self._row]
        return value

    @property
    def id(self) -> int:
        """The pid of a task (a thread, in the kernel's words), the tgid of a group."""
        return self._header("id")

    @property
    def kind(self) -> Kind:
        """What was accounted: "task" or "group"."""
        return self._batch.kind

    @property
    def version(self) -> int:
        """The struct's version, of the datagram's AGGR_PID part where it has one."""
        return self._header("version")

    @property
    def size(self) -> int:
        """Bytes of struct that the kernel sent."""
        return self._header("size")

    @property
    def cpu(self) -> int | None:
        """The CPU of the listener's socket that it came by; None for a query."""
        cpu = self._header("cpu")
        return None if cpu == NO_CPU else cpu

    @property
    def seq(self) -> int:
        """The kernel's number on that CPU, or the request's."""
        return self._header("seq")

    @property
    def lost_before(self) -> int:
        """Records lost on this CPU since its previous record."""
        return self._header("lost_before")

    @property
    def received_ns(self) -> int | None:
        """When the drain that took it began, ns since the epoch; None for a query."""
        return self._header("received_ns") or None

    @property
    def received_at(self) -> datetime | None:
        """The same as a moment in UTC, to the microsecond."""
        ns = self.received_ns
        return _moment("received_at", ns) if ns else None

    @property
    def fields(self) -> frozenset[str]:
        """The names of the fields that it carries."""
        return self._batch.columns.fields_of(self._row)

    @property
    def _flags(self) -> int:
        return self._header("flags")

    @property
    def is_exit(self) -> bool:
        """Sent by the kernel at exit, not asked for."""
        return bool(self._flags & EXIT)

    @property
    def is_last(self) -> bool:
        """The last thread of its group to exit: the process is gone (AGROUP)."""
        return bool(self._flags & LAST)

    @property
    def delay_exceeds_elapsed(self) -> bool:
        """A delay is longer than the task has lived, so it is not to be believed.

        Judged for tasks and for groups that have ended: a living group's delays may count dead
        threads that its elapsed time leaves out.
        """
        return bool(self._flags & DELAY_EXCEEDS)

    @property
    def group(self) -> "Record | None":
        """The group's record that came with this one: the last thread's, of several."""
        if self.kind == "group" or not self._flags & PAIRED or not self._batch.groups:
            return None
        return self._batch.groups[self._header("row")]

    # -- from the probe

    @property
    def is_settled(self) -> bool:
        """Whether the probe saw the end of the task.

        Then `final_cpu_ns` and `start_ns` are known, and mostly `cgroup_id` and `cgroup`.
        """
        return bool(self._flags & SETTLED)

    def _from_probe(self, name: str) -> int:
        if not self.is_settled:
            raise field_unavailable(name, "no probe has seen the end of this task")
        return self._batch.columns.of_probe(name)[self._row]

    @property
    def final_cpu_ns(self) -> int:
        """All of the task's time on a CPU in ns, with what it used after its record was made.

        It is `se.sum_exec_runtime` at the task's last switch (kernel/sched/core.c:__schedule), the
        figure that wait4 reports.

        Raises:
            FieldUnavailable: The listener has no probe, or the probe has not seen the end.
        """
        return self._from_probe("final_cpu_ns")

    @property
    def start_ns(self) -> int:
        """When the task started, in ns of CLOCK_BOOTTIME (`task_struct.start_boottime`).

        With the pid it identifies the task for as long as the machine runs. A thread that calls
        exec takes the start of the process's leader (fs/exec.c:de_thread).

        Raises:
            FieldUnavailable: As for `final_cpu_ns`.
        """
        return self._from_probe("start_ns")

    @property
    def cgroup_id(self) -> int:
        """The id of the task's cgroup at its end: the inode of the cgroup's directory.

        Of the hierarchy that the listener was opened with.

        Raises:
            FieldUnavailable: As for `final_cpu_ns`, and where the probe could not read it.
        """
        found = self._from_probe("cgroup_id")
        if not found:
            raise field_unavailable("cgroup_id", "the probe could not read it")
        return found

    @property
    def cgroup(self) -> str:
        """The path of the task's cgroup, as in /proc/PID/cgroup: "/system.slice/cron.service".

        Raises:
            FieldUnavailable: As for `cgroup_id`, and where the path is not known: it is longer
                than 1,022 bytes, or the cgroup was removed long ago.
        """
        path = self._batch.path_of(self.cgroup_id)
        if path is None:
            raise field_unavailable("cgroup", f"the path of cgroup {self.cgroup_id} is not known")
        return path

    # -- derived

    @property
    def comm(self) -> str:
        r"""The command name; bytes that are not UTF-8 read \xNN (`ac_comm` has the bytes)."""
        return text_of(self.ac_comm)

    @property
    def exit_code(self) -> int | None:
        """The status it exited with, 0 to 255.

        None if a signal ended it, and for a query that found 0: then it may be alive.
        """
        word = self.ac_exitcode
        if word & 0x7F or (word == 0 and not self.is_exit):
            return None
        return word >> 8 & 0xFF

    @property
    def exit_signal(self) -> int | None:
        """The signal that ended it; None if none did."""
        return self.ac_exitcode & 0x7F or None

    @property
    def started_at(self) -> datetime:
        """When it began, to the second, in UTC. Made anew at each query: not an identity."""
        has64 = "ac_btime64" in self.fields
        seconds = self.ac_btime64 if has64 else self.ac_btime
        return _moment("started_at", seconds * 1_000_000_000)

    @property
    def elapsed_seconds(self) -> float:
        """Since the start (ac_etime); of a group, the sum over its threads."""
        return self.ac_etime / 1e6

    @property
    def cpu_seconds(self) -> float:
        """Time on a CPU in seconds: `final_cpu_ns` where it is known.

        Elsewhere it is the scheduler's sum as the record has it (cpu_run_virtual_total,
        kernel/delayacct.c:delayacct_add_tsk). The scheduler adds up at switches and ticks, so this
        sum lacks up to a tick, 4 ms at 250 Hz. A record at exit also lacks the teardown of the
        task: of 300 runs of /bin/true the records had 16 % of the CPU time that wait4 told.

        Raises:
            FieldUnavailable: Also where the record says 0: nothing was added up yet.
        """
        if self.is_settled:
            return self.final_cpu_ns / 1e9
        if not self.cpu_run_virtual_total:
            raise field_unavailable("cpu_seconds", "the scheduler has not added up its time yet")
        return self.cpu_run_virtual_total / 1e9

    @property
    def peak_rss_bytes(self) -> int:
        """The process's peak resident size (hiwater_rss).

        The kernel does not add up its per-CPU counters for it, so it can be less than VmHWM in
        /proc: by up to 360 KiB, as far as was seen.

        Raises:
            FieldUnavailable: Also where the kernel says 0: for kernel threads, zombies, and
                processes too young for those counters.
        """
        if not self.hiwater_rss:
            raise field_unavailable("peak_rss_bytes", "the kernel has counted no memory for it")
        return self.hiwater_rss * 1024

    @property
    def delays_measured(self) -> bool | None:
        """True if a delay other than "cpu" was measured; None if none was seen.

        Those need kernel.task_delayacct=1 at the time of the fork, and are all measured then
        (kernel/delayacct.c:__delayacct_tsk_init). Since struct version 13, which counts copies of
        write-protected pages, hardly a measured task has none.
        """
        fields = self.fields
        counts = (f"{name}_count" for name in DELAYS if name != "cpu")
        return any(getattr(self, name) for name in counts if name in fields) or None

    @property
    def delays(self) -> dict[str, Delay]:
        """The delays that the record has, by name (fields.DELAYS)."""
        fields = self.fields
        # A group's threads can differ: they were made at different times.
        every = self.kind == "task" and self.delays_measured
        return {
            name: self._delay(name, fields, bool(every))
            for name in DELAYS
            if f"{name}_count" in fields
        }

    def _delay(self, name: str, fields: frozenset[str], measured: bool) -> Delay:
        count = getattr(self, f"{name}_count")
        total = getattr(self, f"{name}_delay_total")

        def extreme(suffix: str) -> Any:
            field = f"{name}_delay_{suffix}"
            return getattr(self, field) if count and field in fields else None

        max_ts = extreme("max_ts")
        elapsed = self.ac_etime if "ac_etime" in fields else 0
        judged = elapsed and (self.kind == "task" or self.is_exit)
        return Delay(
            count=count,
            total_ns=total,
            max_ns=extreme("max"),
            min_ns=extreme("min"),
            max_at=_moment(f"{name}_delay_max_ts", max_ts) if max_ts else None,
            exceeds_elapsed=total > (elapsed + 1) * 1000 if judged else None,
            measured=True if name == "cpu" or count or measured else None,
        )

    def to_dict(self) -> dict[str, Any]:
        """The header and every field that the record carries, ready for JSON.

        Integers in the kernel's units; `ac_comm` as text; a field that is absent has no key, and
        so have `cpu` and `received_ns` of a query.
        """
        made: dict[str, Any] = {"id": self.id, "kind": self.kind, "version": self.version}
        if self.cpu is not None:
            made["cpu"] = self.cpu
        made["seq"] = self.seq
        made["lost_before"] = self.lost_before
        if self.received_ns:
            made["received_ns"] = self.received_ns
        made["exit"] = self.is_exit
        made["last"] = self.is_last
        made["delay_exceeds_elapsed"] = self.delay_exceeds_elapsed
        made["delays_measured"] = self.delays_measured
        fields = self.fields
        made.update((name, getattr(self, name)) for name in FIELDS if name in fields)
        if "ac_comm" in made:
            made["ac_comm"] = self.comm
        return made | self.probed_to_dict()

    def probed_to_dict(self) -> dict[str, Any]:
        """What the probe adds: PROBED and `cgroup`; without a key, what is not known."""
        if not self.is_settled:
            return {}
        made: dict[str, Any] = {"final_cpu_ns": self.final_cpu_ns, "start_ns": self.start_ns}
        cgroup_id = self._from_probe("cgroup_id")
        if cgroup_id:
            made["cgroup_id"] = cgroup_id
            path = self._batch.path_of(cgroup_id)
            if path is not None:
                made["cgroup"] = path
        return made

    # -- as a value

    def _bytes(self) -> bytes:
        """The row but for the number of its companion, which depends on the batch."""
        start = self._row * ROW
        row = self._batch.data[start : start + ROW]
        return bytes(row[:20]) + bytes(row[24:])

    def __eq__(self, other: object) -> bool:
        return self._bytes() == other._bytes() if isinstance(other, Record) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._bytes())

    def __copy__(self) -> "Record":
        return self._batch[self._row : self._row + 1][0]

    def __deepcopy__(self, memo: dict[int, Any]) -> "Record":
        return self.__copy__()

    def __reduce__(self) -> tuple[Any, ...]:
        return Record, (self._batch[self._row : self._row + 1], 0)

    def __dir__(self) -> Iterable[str]:
        return sorted({*super().__dir__()} - (set(FIELDS) - self.fields))

    def __repr__(self) -> str:
        name = f" {self.comm!r}" if "ac_comm" in self.fields else ""
        return f"<Record {self.kind} {self.id}{name} v{self.version}>"


@cache  # an import statement for each batch would be a good part of what to_numpy takes
def _tables() -> Any:
    """The module of tables, which needs NumPy."""
    try:
        from taskstats import tables
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error}; install the extra: pip install '.[numpy]'") from None
    return tables


# ---- many ------------------------------------------------------------------------------------

#: From the id of a cgroup to its path; None if that is not known.
PathOf: TypeAlias = Callable[[int], str | None]

_UNKNOWN: Mapping[int, str] = MappingProxyType({})


class Batch:
    """A read-only sequence of records of one kind, in one buffer.

    It behaves as a sequence, and is none by its class: polars would take a Sequence row by row,
    and not look at the Arrow interface.

    What comes from the exit stream are task records; the group records among them stand in
    `groups`, a batch of its own, so that no sum counts anything twice. A slice is a copy, and
    does not keep the whole batch in memory.

    Attributes:
        data: The rows, 752 bytes each: a read-only memoryview.
        kind: "task" or "group".
        groups: The group records that came with these; `Record.group` finds a task's own.
        errors: For a query: id -> errno of the ids that have no record here.
        births: The processes that were made, from a listener with a probe: each is here, or in an
            earlier batch, before a record of the process or of its children. A slice has none.
        emptied_ns: Where the drain that brought these records has left none in the queues:
            CLOCK_MONOTONIC at its beginning. Every record that the kernel queued before that
            moment is in this batch or in an earlier one. Else None.
    """

    #: Columns that records have read, by Field.index: a list of its own once there is one.
    _columns: list[Sequence[Any] | None] = [None] * len(FIELDS)

    def __init__(
        self,
        data: Any,
        groups: "Batch | None" = None,
        errors: Mapping[int, int] | None = None,
        kind: Kind = "task",
        births: Any = b"",
        path_of: PathOf = _UNKNOWN.get,
        births_lost: int = 0,
        emptied_ns: int | None = None,
    ) -> None:
        view = memoryview(data).toreadonly()
        self.data = view if view.format == "B" else view.cast("B")
        if len(self.data) % ROW:
            raise ValueError(f"a batch is rows of {ROW} bytes, not {len(self.data)} bytes")
        self.kind = kind
        self.errors = errors or {}
        self.births = Births(births, path_of, births_lost)
        self.emptied_ns = emptied_ns
        self.path_of = path_of
        self._groups = groups
        self.columns = Columns(self.data, kind)

    @property
    def groups(self) -> "Batch":
        """The group records that came with these tasks."""
        return _NO_GROUPS if self._groups is None else self._groups

    @property
    def fields(self) -> frozenset[str]:
        """The names of the fields that every record here carries."""
        return self.columns.fields

    # -- as a sequence

    def __len__(self) -> int:
        return len(self.data) // ROW

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> "Batch": ...
    def __getitem__(self, index: int | slice) -> "Record | Batch":
        rows = range(len(self))[index]
        return self._copy(rows) if isinstance(rows, range) else Record(self, rows)

    def __iter__(self) -> Iterator[Record]:
        # A loop that reads two fields is a fifth faster without calls of Record.__init__.
        new = starmap(object.__new__, repeat((Record,), len(self)))
        for row, record in enumerate(new):
            record._batch = self
            record._row = row
            yield record

    def _column(self, field: Field[Any], row: int) -> Sequence[Any]:
        """The field's column; it is kept if every row has the field.

        Raises:
            FieldUnavailable: This row does not have it.
        """
        if field.name not in self.columns.fields:
            return self.columns.of_row(field, row)
        if self._columns is Batch._columns:
            self._columns = Batch._columns.copy()
        column = self._columns[field.index] = self.columns.of_field(field)
        return column

    def _copy(self, rows: range) -> "Batch":
        """Those rows and their groups, in buffers of their own."""
        if rows.step == 1:
            chosen = bytes(self.data[rows.start * ROW : rows.stop * ROW])
        else:
            chosen = b"".join(self.data[row * ROW : (row + 1) * ROW] for row in rows)
        if not self._groups:
            return Batch(chosen, kind=self.kind, path_of=self.path_of)
        data = bytearray(chosen)
        groups = bytearray()
        at = HEADER["row"][0]
        for new, row in enumerate(rows):
            if self.columns["flags"][row] & PAIRED:
                old = self.columns["row"][row]
                struct.pack_into("=I", data, new * ROW + at, len(groups) // ROW)
                groups += self._groups.data[old * ROW : (old + 1) * ROW]
                struct.pack_into("=I", groups, len(groups) - ROW + at, new)
        return Batch(bytes(data), Batch(bytes(groups), kind="group"), path_of=self.path_of)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Batch):
            return NotImplemented
        return (self.kind, self.data, self.errors, self.births) == (
            other.kind,
            other.data,
            other.errors,
            other.births,
        ) and self.groups.data == other.groups.data

    __hash__ = None  # type: ignore[assignment]

    def __reduce__(self) -> tuple[Any, ...]:
        births, path_of = bytes(self.births.data), self._known_paths().get
        rows, errors = bytes(self.data), dict(self.errors)
        more = births, path_of, self.births.lost, self.emptied_ns
        return Batch, (rows, self._groups, errors, self.kind, *more)

    def _known_paths(self) -> dict[int, str]:
        """The paths of its cgroups, as far as they are known now."""
        ids = {*self.columns.of_probe("cgroup_id"), *self.births.column("cgroup_id")}
        paths = {one: self.path_of(one) for one in ids if one}
        return {one: path for one, path in paths.items() if path is not None}

    def __buffer__(self, flags: int) -> memoryview:
        return self.data

    def __repr__(self) -> str:
        parts = [f"{len(self)} {self.kind} records"]
        if self._groups:
            parts.append(f"{len(self._groups)} groups")
        if self.errors:
            parts.append(f"{len(self.errors)} errors")
        return f"<Batch of {', '.join(parts)}>"

    # -- as columns

    def to_numpy(self) -> "np.ndarray[Any, Any]":
        """A structured array over the same memory, read-only, shape (len(self),).

        Its members are the header's and the fields that every record carries; a timespec is a
        pair (tv_sec, tv_nsec). So one record that is not settled leaves out `final_cpu_ns`,
        `start_ns` and `cgroup_id` for the whole batch; `to_arrow` has nulls. Needs NumPy.
        """
        array: np.ndarray[Any, Any] = _tables().to_numpy(self)
        return array

    def to_arrow(self) -> "pa.RecordBatch":
        """All fields of FIELDS as columns, null where a record does not carry them.

        Integers are signed 64 bits (ac_exe_dev and ac_exe_inode unsigned), moments are
        timestamps in UTC, units stand in each field's metadata. Needs pyarrow.
        """
        return _tables().to_arrow(self)

    def __arrow_c_array__(self, requested_schema: object | None = None) -> Any:
        return self.to_arrow().__arrow_c_array__(requested_schema)

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> Any:
        return _tables().to_stream(self, requested_schema)

    def totals(self, by: str | None = None) -> dict[Any, dict[str, int]]:
        """Sums over the records of every field that can be summed.

        Args:
            by: A field to group by, for instance "ac_comm" or "ac_uid"; None for one sum of all.

        Returns:
            The field's value (None without `by`) -> {"records", "delay_exceeds_elapsed" (how many
            hold a delay that is not to be believed, which these sums include), field: sum}. Only
            fields that every record carries.
        """
        rows_of: dict[Any, list[int]] = defaultdict(list)
        keys: Iterable[Any] = [None] * len(self) if by is None else self._keys(by)
        for row, key in enumerate(keys):
            rows_of[key].append(row)
        names = [name for name in SUMMED if name in self.fields]
        flags = self.columns["flags"]
        return {
            key: {
                "records": len(rows),
                "delay_exceeds_elapsed": sum(bool(flags[row] & DELAY_EXCEEDS) for row in rows),
            }
            | {name: sum(map(self.columns[name].__getitem__, rows)) for name in names}
            for key, rows in rows_of.items()
        }

    def _keys(self, by: str) -> Iterable[Any]:
        if by not in FIELDS:
            raise ValueError(f"no field {by!r}")
        values = (getattr(record, by) for record in self)
        return map(text_of, values) if FIELDS[by].format == "32s" else values


_NO_GROUPS = Batch(b"", kind="group")
