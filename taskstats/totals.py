"""What processes that have ended add up to: of a job, of a command name, of an executable."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from taskstats._native import ffi
from taskstats.fields import DELAY_FIELDS, DELAYS
from taskstats.sums import TOTALS

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


def totals_of(native: Any, fields: Iterable[str]) -> Totals:
    """The totals that the shim has added up (struct ts_totals), of records with these fields."""
    values = ffi.unpack(native.sums, len(TOTALS))
    measured = any(values[at] for at in _OTHER_COUNTS)
    kept = {
        name: value
        for name, value in zip(TOTALS, values, strict=True)
        if name in fields and (measured or name not in DELAY_FIELDS)
    }
    return Totals(
        processes=native.processes,
        threads=native.threads,
        unsettled=native.unsettled,
        cpu_ns=native.cpu_ns,
        statuses=_counted(native.statuses),
        signals=_counted(native.signals),
        longest_seconds=native.longest_us / 1e6,
        delay_exceeds_elapsed=native.exceeding,
        sums=kept,
    )


def _counted(numbers: Any) -> dict[int, int]:
    return {at: number for at, number in enumerate(ffi.unpack(numbers, len(numbers))) if number}
