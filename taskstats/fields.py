"""One table of every field of the kernel's accounting struct: offset, unit, version, meaning.

The table is the body of `KernelFields`; `Record` inherits it, so that each field is an attribute
of a record, and `FIELDS` lists it. Facts: include/uapi/linux/taskstats.h, kernel/taskstats.c,
kernel/tsacct.c, kernel/delayacct.c.
"""

from collections.abc import Mapping, Sequence
from itertools import count
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar, overload

T = TypeVar("T")

TASK = frozenset({"task"})
BOTH = frozenset({"task", "group"})

#: The kinds of delay, in the kernel's order. Each has the fields NAME_count and
#: NAME_delay_total, and where the kernel has them NAME_delay_max, _min and _max_ts.
DELAYS = ("cpu", "blkio", "swapin", "freepages", "thrashing", "compact", "wpcopy", "irq")


_INDEX = count()


class _Batch(Protocol):
    _columns: list[Sequence[Any] | None]

    def _column(self, field: "Field[Any]", row: int) -> Sequence[Any]: ...


class Field(property, Generic[T]):
    """One field. Read on a record it is the value; read on the class it is this description.

    Attributes:
        name: The kernel's name.
        index: Its place in the table.
        offset: Bytes from the start of the newest struct (version 17).
        format: As in the struct module; "qq" is a timespec, given as one int in ns.
        since: The struct version that introduced it.
        unit: What its integer counts.
        group: What it is about: identity, status, time, memory, io, switches, or a delay's name.
        kinds: The kinds of record that carry it: "task", "group".
        doc: Its meaning.
    """

    name: str

    def __init__(
        self,
        offset: int,
        format: str,  # noqa: A002 - the struct module's word
        since: int,
        unit: str,
        group: str,
        kinds: frozenset[str],
        doc: str,
    ) -> None:
        self.index = next(_INDEX)
        self.offset = offset
        self.format = format
        self.since = since
        self.unit = unit
        self.group = group
        self.kinds = kinds
        self.doc = doc

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name
        index = self.index

        # A property's getter is called straight from C, which a __get__ of ours would not be. A
        # list is read in half the time of a dict.
        def read(record: "KernelFields") -> T:
            column = record._batch._columns[index]
            if column is None:
                column = record._batch._column(self, record._row)
            value: T = column[record._row]
            return value

        super().__init__(read)
        self.__doc__ = self.doc

    if TYPE_CHECKING:

        @overload
        def __get__(self, record: None, owner: type | None = None) -> "Field[T]": ...
        @overload
        def __get__(self, record: "KernelFields", owner: type | None = None) -> T: ...
        def __get__(self, record: Any, owner: type | None = None) -> Any: ...

    def __repr__(self) -> str:
        return f"<Field {self.name} [{self.unit}] since version {self.since}>"


class KernelFields:
    """The table. Times named ac_* are in microseconds, delays and cpu_run_* in nanoseconds.

    The fields *_delay_max_ts need a struct of 688 bytes or more, whatever its version.
    """

    __slots__ = ("_batch", "_row")

    _batch: _Batch
    _row: int

    # fmt: off
    # name  offset, format, since version, unit, group, kinds, meaning
    ac_exitcode               = Field[int](4,    "I",    2, "wait status",    "status",    TASK, "Exit status as wait(2) gives it; of this thread, and 0 while it runs")
    ac_flag                   = Field[int](8,    "B",    2, "bits",           "status",    TASK, "AFORK 1, ASU 2, ACOMPAT 4, ACORE 8, AXSIG 16, AGROUP 32 (last of its group, at exit)")
    ac_nice                   = Field[int](9,    "b",    2, "nice",           "identity",  TASK, "Nice value, -20 to 19")
    cpu_count                 = Field[int](16,   "Q",    1, "events",         "cpu",       BOTH, "Number of waits for a CPU")
    cpu_delay_total           = Field[int](24,   "Q",    1, "ns",             "cpu",       BOTH, "Total of waits for a CPU")
    blkio_count               = Field[int](32,   "Q",    1, "events",         "blkio",     BOTH, "Number of waits for block I/O")
    blkio_delay_total         = Field[int](40,   "Q",    1, "ns",             "blkio",     BOTH, "Total of waits for block I/O")
    swapin_count              = Field[int](48,   "Q",    1, "events",         "swapin",    BOTH, "Number of waits for swap-in")
    swapin_delay_total        = Field[int](56,   "Q",    1, "ns",             "swapin",    BOTH, "Total of waits for swap-in")
    cpu_run_real_total        = Field[int](64,   "Q",    1, "ns",             "time",      BOTH, "User and system time, as the kernel samples or accounts it")
    cpu_run_virtual_total     = Field[int](72,   "Q",    1, "ns",             "time",      BOTH, "Time on a CPU, the scheduler's own sum; an exit record lacks the last time slice and the teardown of memory")
    ac_comm                   = Field[bytes](80, "32s",  2, "text",           "identity",  TASK, "Command name, 15 bytes at most, in no particular encoding")
    ac_sched                  = Field[int](112,  "B",    2, "policy",         "identity",  TASK, "Scheduling policy, SCHED_* of sched.h")
    ac_uid                    = Field[int](120,  "I",    2, "uid",            "identity",  TASK, "Real user id")
    ac_gid                    = Field[int](124,  "I",    2, "gid",            "identity",  TASK, "Real group id")
    ac_pid                    = Field[int](128,  "I",    2, "pid",            "identity",  TASK, "Id of the task (the thread)")
    ac_ppid                   = Field[int](132,  "I",    2, "pid",            "identity",  TASK, "Process id of its parent")
    ac_btime                  = Field[int](136,  "I",    2, "s since epoch",  "time",      TASK, "Start, seconds since the epoch, 32 bits; made anew at each query, no identity")
    ac_etime                  = Field[int](144,  "Q",    2, "us",             "time",      BOTH, "Time since the start, monotonic; of a group, the sum over its threads")
    ac_utime                  = Field[int](152,  "Q",    2, "us",             "time",      BOTH, "User time; sampled at ticks on many kernels")
    ac_stime                  = Field[int](160,  "Q",    2, "us",             "time",      BOTH, "System time; sampled at ticks on many kernels")
    ac_minflt                 = Field[int](168,  "Q",    2, "faults",         "memory",    TASK, "Page faults without I/O")
    ac_majflt                 = Field[int](176,  "Q",    2, "faults",         "memory",    TASK, "Page faults with I/O")
    coremem                   = Field[int](184,  "Q",    2, "MB*us",          "memory",    TASK, "Integral of resident size over CPU time")
    virtmem                   = Field[int](192,  "Q",    2, "MB*us",          "memory",    TASK, "Integral of virtual size over CPU time")
    hiwater_rss               = Field[int](200,  "Q",    2, "KiB",            "memory",    TASK, "Peak resident size of the whole process; 0 for kernel threads and zombies")
    hiwater_vm                = Field[int](208,  "Q",    2, "KiB",            "memory",    TASK, "Peak virtual size of the whole process; 0 for kernel threads and zombies")
    read_char                 = Field[int](216,  "Q",    2, "bytes",          "io",        TASK, "Bytes read by system calls, rounded down to 1,024")
    write_char                = Field[int](224,  "Q",    2, "bytes",          "io",        TASK, "Bytes written by system calls, rounded down to 1,024")
    read_syscalls             = Field[int](232,  "Q",    2, "calls",          "io",        TASK, "Read system calls, rounded down to 1,024")
    write_syscalls            = Field[int](240,  "Q",    2, "calls",          "io",        TASK, "Write system calls, rounded down to 1,024")
    read_bytes                = Field[int](248,  "Q",    3, "bytes",          "io",        TASK, "Bytes fetched from storage, rounded down to 1,024")
    write_bytes               = Field[int](256,  "Q",    3, "bytes",          "io",        TASK, "Bytes sent to storage, rounded down to 1,024")
    cancelled_write_bytes     = Field[int](264,  "Q",    3, "bytes",          "io",        TASK, "Bytes of dirty pages that were never written, rounded down to 1,024")
    nvcsw                     = Field[int](272,  "Q",    5, "switches",       "switches",  BOTH, "Voluntary context switches; an exit record lacks the last one")
    nivcsw                    = Field[int](280,  "Q",    5, "switches",       "switches",  BOTH, "Involuntary context switches")
    ac_utimescaled            = Field[int](288,  "Q",    6, "us",             "time",      TASK, "User time scaled to CPU frequency, where the CPU can (powerpc, s390)")
    ac_stimescaled            = Field[int](296,  "Q",    6, "us",             "time",      TASK, "System time scaled to CPU frequency, where the CPU can (powerpc, s390)")
    cpu_scaled_run_real_total = Field[int](304,  "Q",    6, "ns",             "time",      BOTH, "cpu_run_real_total scaled to CPU frequency, where the CPU can")
    freepages_count           = Field[int](312,  "Q",    7, "events",         "freepages", BOTH, "Number of waits for memory reclaim")
    freepages_delay_total     = Field[int](320,  "Q",    7, "ns",             "freepages", BOTH, "Total of waits for memory reclaim")
    thrashing_count           = Field[int](328,  "Q",    9, "events",         "thrashing", BOTH, "Number of waits for thrashing pages")
    thrashing_delay_total     = Field[int](336,  "Q",    9, "ns",             "thrashing", BOTH, "Total of waits for thrashing pages")
    ac_btime64                = Field[int](344,  "Q",   10, "s since epoch",  "time",      TASK, "Start, seconds since the epoch; made anew at each query, no identity")
    compact_count             = Field[int](352,  "Q",   11, "events",         "compact",   BOTH, "Number of waits for memory compaction")
    compact_delay_total       = Field[int](360,  "Q",   11, "ns",             "compact",   BOTH, "Total of waits for memory compaction")
    ac_tgid                   = Field[int](368,  "I",   12, "pid",            "identity",  TASK, "Id of the thread group (the process)")
    ac_tgetime                = Field[int](376,  "Q",   12, "us",             "time",      TASK, "Time since the start of the group's leader")
    ac_exe_dev                = Field[int](384,  "Q",   12, "dev",            "identity",  TASK, "Device of the executable: minor & 0xff, major << 8, rest of minor << 12")
    ac_exe_inode              = Field[int](392,  "Q",   12, "inode",          "identity",  TASK, "Inode of the executable; 0 for kernel threads and zombies")
    wpcopy_count              = Field[int](400,  "Q",   13, "events",         "wpcopy",    BOTH, "Number of waits for copies of write-protected pages")
    wpcopy_delay_total        = Field[int](408,  "Q",   13, "ns",             "wpcopy",    BOTH, "Total of waits for copies of write-protected pages")
    irq_count                 = Field[int](416,  "Q",   14, "events",         "irq",       BOTH, "Number of interruptions by IRQs")
    irq_delay_total           = Field[int](424,  "Q",   14, "ns",             "irq",       BOTH, "Total of interruptions by IRQs")
    cpu_delay_max             = Field[int](432,  "Q",   15, "ns",             "cpu",       TASK, "Longest of the waits for a CPU")
    cpu_delay_min             = Field[int](440,  "Q",   15, "ns",             "cpu",       TASK, "Shortest of the waits for a CPU")
    blkio_delay_max           = Field[int](448,  "Q",   15, "ns",             "blkio",     TASK, "Longest of the waits for block I/O")
    blkio_delay_min           = Field[int](456,  "Q",   15, "ns",             "blkio",     TASK, "Shortest of the waits for block I/O")
    swapin_delay_max          = Field[int](464,  "Q",   15, "ns",             "swapin",    TASK, "Longest of the waits for swap-in")
    swapin_delay_min          = Field[int](472,  "Q",   15, "ns",             "swapin",    TASK, "Shortest of the waits for swap-in")
    freepages_delay_max       = Field[int](480,  "Q",   15, "ns",             "freepages", TASK, "Longest of the waits for memory reclaim")
    freepages_delay_min       = Field[int](488,  "Q",   15, "ns",             "freepages", TASK, "Shortest of the waits for memory reclaim")
    thrashing_delay_max       = Field[int](496,  "Q",   15, "ns",             "thrashing", TASK, "Longest of the waits for thrashing pages")
    thrashing_delay_min       = Field[int](504,  "Q",   15, "ns",             "thrashing", TASK, "Shortest of the waits for thrashing pages")
    compact_delay_max         = Field[int](512,  "Q",   15, "ns",             "compact",   TASK, "Longest of the waits for memory compaction")
    compact_delay_min         = Field[int](520,  "Q",   15, "ns",             "compact",   TASK, "Shortest of the waits for memory compaction")
    wpcopy_delay_max          = Field[int](528,  "Q",   15, "ns",             "wpcopy",    TASK, "Longest of the waits for copies of write-protected pages")
    wpcopy_delay_min          = Field[int](536,  "Q",   15, "ns",             "wpcopy",    TASK, "Shortest of the waits for copies of write-protected pages")
    irq_delay_max             = Field[int](544,  "Q",   15, "ns",             "irq",       TASK, "Longest of the interruptions by IRQs")
    irq_delay_min             = Field[int](552,  "Q",   15, "ns",             "irq",       TASK, "Shortest of the interruptions by IRQs")
    cpu_delay_max_ts          = Field[int](560,  "qq",  17, "ns since epoch", "cpu",       TASK, "When the longest of the waits for a CPU ended, by CLOCK_REALTIME; 0 if there was none")
    blkio_delay_max_ts        = Field[int](576,  "qq",  17, "ns since epoch", "blkio",     TASK, "When the longest of the waits for block I/O ended, by CLOCK_REALTIME; 0 if there was none")
    swapin_delay_max_ts       = Field[int](592,  "qq",  17, "ns since epoch", "swapin",    TASK, "When the longest of the waits for swap-in ended, by CLOCK_REALTIME; 0 if there was none")
    freepages_delay_max_ts    = Field[int](608,  "qq",  17, "ns since epoch", "freepages", TASK, "When the longest of the waits for memory reclaim ended, by CLOCK_REALTIME; 0 if there was none")
    thrashing_delay_max_ts    = Field[int](624,  "qq",  17, "ns since epoch", "thrashing", TASK, "When the longest of the waits for thrashing pages ended, by CLOCK_REALTIME; 0 if there was none")
    compact_delay_max_ts      = Field[int](640,  "qq",  17, "ns since epoch", "compact",   TASK, "When the longest of the waits for memory compaction ended, by CLOCK_REALTIME; 0 if there was none")
    wpcopy_delay_max_ts       = Field[int](656,  "qq",  17, "ns since epoch", "wpcopy",    TASK, "When the longest of the waits for copies of write-protected pages ended, by CLOCK_REALTIME; 0 if there was none")
    irq_delay_max_ts          = Field[int](672,  "qq",  17, "ns since epoch", "irq",       TASK, "When the longest of the interruptions by IRQs ended, by CLOCK_REALTIME; 0 if there was none")
    # fmt: on


#: name -> Field, in the order of the newest struct.
FIELDS: Mapping[str, Field[Any]] = MappingProxyType(
    {name: field for name, field in vars(KernelFields).items() if isinstance(field, Field)}
)

#: The fields whose sum over records means something: no ids, no moments, no extremes, and not the
#: age of the group, which each of its threads repeats.
SUMMED = tuple(
    name
    for name, field in FIELDS.items()
    if field.unit in {"ns", "us", "bytes", "events", "faults", "calls", "switches", "MB*us"}
    and not name.endswith(("_delay_max", "_delay_min"))
    and name != "ac_tgetime"
)

#: The fields of delays that are measured only for tasks made while kernel.task_delayacct=1.
DELAY_FIELDS = frozenset(name for name, field in FIELDS.items() if field.group in DELAYS[1:])

#: struct version -> the release of Linux that brought it. Distributions backport; 8 changed no
#: field, and 16 only moved those of 15 (also in 6.14.9).
RELEASES: Mapping[int, str] = MappingProxyType(
    {
        1: "2.6.18",
        2: "2.6.19",
        3: "2.6.20",
        5: "2.6.23",
        6: "2.6.24",
        7: "2.6.27",
        9: "4.20",
        10: "5.5",
        11: "5.17",
        12: "5.19",
        13: "6.0",
        14: "6.4",
        15: "6.14",
        17: "7.0",
    }
)
