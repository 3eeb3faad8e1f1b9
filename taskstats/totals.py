"""What processes that have ended add up to: of a job, of a command name, of an executable."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from taskstats.fields import DELAY_FIELDS, DELAYS
from taskstats.presence import DELAY_EXCEEDS, SETTLED
from taskstats.processes import Process
from taskstats.sums import FINAL_CPU, TOTALS, Layout, Sums

_OTHER_COUNTS = tuple(TOTALS.index(f"{name}_count") for name in DELAYS[1:])

#: The keys of `Totals.to_dict`, but for the sums, which have the kernel's names: unit, meaning.
TOTALS_KEYS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "processes": ("processes", "Processes that have ended"),
        "threads": ("threads", "Threads of theirs whose record was heard"),
        "failed": ("processes", "Those that a signal ended, or that did not exit with 0"),
        "statuses": ("processes", "Exit status -> processes"),
        "signals": ("processes", "Number of the signal that ended them -> processes"),
        "unsettled": ("threads", "Those of the threads whose final CPU time is not known"),
        "cpu_seconds": (
            "s",
            "Time on a CPU: the final figures, of unsettled threads cpu_run_virtual_total; none if "
            "nothing was added up",
        ),
        "user_seconds": ("s", "User time as the kernel samples it (ac_utime)"),
        "system_seconds": ("s", "System time as the kernel samples it (ac_stime)"),
        "peak_rss_bytes": ("bytes", "Peak resident size of the largest (hiwater_rss)"),
        "longest_seconds": ("s", "How long the one that lived longest has lived"),
        "delays_measured": ("bool", "Delays other than cpu were measured; none if none was seen"),
        "delay_exceeds_elapsed": ("processes", "Those with a delay longer than they have lived"),
    }
)


@dataclass(frozen=True, slots=True)
class DelayTotal:
    """One kind of delay, of several processes (kernel/delayacct.c).

    Attributes:
        count: How often they waited.
        total_ns: For how long in all, nanoseconds.
        max_ns: The longest wait; None before struct version 15, and when count is 0.
        measured: True if it was measured for some of them at least; None if that cannot be told,
            and 0 may mean either.
    """

    count: int
    total_ns: int
    max_ns: int | None
    measured: bool | None


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over processes that have ended, at one moment.

    Attributes:
        processes: How many.
        threads: How many threads of theirs, each with a record of its own.
        unsettled: How many of these have no final CPU time: all, without a probe.
        cpu_ns: Time on a CPU: the final figures (`Record.final_cpu_ns`), and for unsettled threads
            what their records say (cpu_run_virtual_total).
        statuses: Exit status -> how many processes.
        signals: Number of the signal that ended them -> how many.
        longest_seconds: How long the one that lived longest has lived.
        delay_exceeds_elapsed: How many hold a delay that is not to be believed, since it is longer
            than they have lived; the sums include it.
        sums: The kernel's name -> sum, in the kernel's units; hiwater_* and *_delay_max are the
            largest, *_delay_min the smallest. A field that this kernel does not have, and a delay
            that was not measured, has no key. read_* and write_* are rounded down to 1,024 for each
            thread (kernel/tsacct.c:xacct_add_tsk).
    """

    processes: int
    threads: int
    unsettled: int
    cpu_ns: int
    statuses: Mapping[int, int]
    signals: Mapping[int, int]
    longest_seconds: float
    delay_exceeds_elapsed: int
    sums: Mapping[str, int]

    @property
    def failed(self) -> int:
        """How many processes a signal ended, or did not exit with 0."""
        return sum(self.statuses.values()) + sum(self.signals.values()) - self.statuses.get(0, 0)

    @property
    def cpu_seconds(self) -> float | None:
        """`cpu_ns` in seconds; None where nothing was added up."""
        return self.cpu_ns / 1e9 or None

    @property
    def user_seconds(self) -> float:
        """User time (ac_utime): many kernels sample it at ticks, and short processes show 0."""
        return self.sums.get("ac_utime", 0) / 1e6

    @property
    def system_seconds(self) -> float:
        """System time (ac_stime), sampled likewise."""
        return self.sums.get("ac_stime", 0) / 1e6

    @property
    def peak_rss_bytes(self) -> int | None:
        """Of the largest process, as in `Record.peak_rss_bytes`; None where the kernel has none."""
        return self.sums.get("hiwater_rss", 0) * 1024 or None

    @property
    def delays_measured(self) -> bool | None:
        """True if a delay other than "cpu" was measured; None if none was seen."""
        return "blkio_count" in self.sums or None

    @property
    def delays(self) -> dict[str, DelayTotal]:
        """The delays by name (fields.DELAYS): of those not measured, "cpu" alone."""
        sums = self.sums
        return {
            name: DelayTotal(
                count=sums[f"{name}_count"],
                total_ns=sums[f"{name}_delay_total"],
                max_ns=sums.get(f"{name}_delay_max") if sums[f"{name}_count"] else None,
                measured=True if name == "cpu" or sums[f"{name}_count"] else self.delays_measured,
            )
            for name in DELAYS
            if f"{name}_count" in sums
        }

    def to_dict(self) -> dict[str, Any]:
        """TOTALS_KEYS and the sums, ready for JSON; a delay that was not measured has no key."""
        own = {name: getattr(self, name) for name in TOTALS_KEYS}
        texts = {
            name: {str(k): n for k, n in own[name].items()} for name in ("statuses", "signals")
        }
        return {**own, **texts, **self.sums}


class Tally(Sums):
    """Totals that grow.

    What is added, a reading each, is the record of a process that never had a second thread.
    """

    __slots__ = ("_cpu", "_exceeding", "_longest", "_more_threads", "_unsettled", "_words")

    def __init__(self) -> None:
        super().__init__(gather=64)
        self._words: Counter[int] = Counter()  # a status as wait(2) gives it -> processes
        self._more_threads = 0  # than processes
        self._longest = 0  # us
        self._exceeding = 0
        self._unsettled = 0  # threads
        self._cpu = 0  # ns

    def _take(self, layout: Layout, columns: Sequence[Sequence[int]]) -> None:
        super()._take(layout, columns)
        self._words.update(columns[layout.at["ac_exitcode"]])
        self._longest = max(self._longest, *columns[layout.at["ac_tgetime"]])
        flags = columns[layout.at["flags"]]
        self._exceeding += sum(map(DELAY_EXCEEDS.__and__, flags)) // DELAY_EXCEEDS
        settled = sum(map(SETTLED.__and__, flags)) // SETTLED
        self._unsettled += len(flags) - settled
        recorded, final = columns[layout.at["cpu_run_virtual_total"]], columns[layout.at[FINAL_CPU]]
        if settled < len(flags):  # a task that has ended has used some time
            final = [last or record for record, last in zip(recorded, final, strict=True)]
        self._cpu += sum(final)

    def add_process(self, process: Process) -> None:
        """Adds a process of several threads."""
        record, totals = process.record, process.totals
        self._words[record.ac_exitcode] += 1
        self._more_threads += process.threads - 1
        self._longest = max(self._longest, record.ac_tgetime)
        self._exceeding += process.delay_exceeds_elapsed
        self._unsettled += process.unsettled
        self._cpu += process.cpu_ns
        self.add_values([totals.get(name, 0) for name in TOTALS])

    def add_tally(self, other: "Tally") -> None:
        """Adds what another has counted."""
        self.add_values(other.values)
        self._words.update(other._words)
        self._more_threads += other._more_threads
        self._longest = max(self._longest, other._longest)
        self._exceeding += other._exceeding
        self._unsettled += other._unsettled
        self._cpu += other._cpu

    def totals(self, fields: Iterable[str]) -> Totals:
        """What has been counted so far, of the fields that these records carry."""
        values = self.values
        measured = any(values[at] for at in _OTHER_COUNTS)
        kept = {
            name: value
            for name, value in zip(TOTALS, values, strict=True)
            if name in fields and (measured or name not in DELAY_FIELDS)
        }
        processes = sum(self._words.values())
        statuses: Counter[int] = Counter()
        signals: Counter[int] = Counter()
        for word, number in self._words.items():
            if word & 0x7F:
                signals[word & 0x7F] += number
            else:
                statuses[word >> 8 & 0xFF] += number
        return Totals(
            processes=processes,
            threads=processes + self._more_threads,
            unsettled=self._unsettled,
            cpu_ns=self._cpu,
            statuses=dict(sorted(statuses.items())),
            signals=dict(sorted(signals.items())),
            longest_seconds=self._longest / 1e6,
            delay_exceeds_elapsed=self._exceeding,
            sums=kept,
        )
