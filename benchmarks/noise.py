"""Whether the machine is quiet enough for its figures to be believed.

It is looked at before the first benchmark, for a moment after each, and after the last one: what
CPU time do others use while we sleep, and is the same work always as fast?
"""

import hashlib
import os
import statistics
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# What is too much. With each, what was seen on two virtual CPUs: on the quiet machine; beside a
# process that runs for 5 ms in 50; beside one that always runs. The tightest target allows 10 %
# over its floor, so 5 % of anything would be half of that. A drift may be as large: the sides of a
# comparison run by turns, and all have part in it.

#: Share of the busiest CPU that others use while we sleep: 0.5 %; 10 %; 100 %.
MOST_BUSY = 0.05
#: The same of the worst single look, so that somebody who runs for a moment is seen: 23 % in a
#: whole run, of what a benchmark had left to tidy up; 100 % beside one who runs then.
MOST_BUSY_LOOK = 0.40
#: Share of a CPU's time that its host gave to somebody else: 0.2 % at most, in each case.
MOST_STOLEN = 0.01
#: What interruptions add to the work, its mean to its median: 1.009; 1.025; 1.8.
MOST_STRETCH = 1.05
#: The slowest median of the work to the fastest, of all CPUs and samples: 1.02 within a minute,
#: 1.05 within a whole run, in each case.
MOST_DRIFT = 1.10

#: Seconds to sleep, and turns of work on each CPU.
LONG = (3.0, 50)
SHORT = (0.3, 3)

#: Seconds for what the last benchmark has left to end.
_SETTLING = 0.2
_IN_A_TURN = 20
_BUFFER = bytes(64 << 10)


@dataclass(frozen=True)
class Sample:
    """What was seen; of all CPUs the worst, but for the medians.

    Attributes:
        busy: Share of a CPU that others used while we slept.
        busiest: The same of the worst single look.
        stolen: Share of a CPU's time that the host gave to others, from first to last.
        stretch: Mean to median of a fixed piece of work.
        work_ns: Its median on each CPU.
    """

    busy: float
    busiest: float
    stolen: float
    stretch: float
    work_ns: Sequence[float]


class Probe:
    """Looks at the machine once or many times; its sample is of all that it has seen."""

    def __init__(self) -> None:
        self._cpus = sorted(os.sched_getaffinity(0))
        self._began = _ticks(self._cpus)
        self._slept: list[Counter[str]] = [Counter() for _ in self._cpus]
        self._busiest = 0.0
        self._works: list[list[int]] = [[] for _ in self._cpus]

    def look(self, seconds: float, turns: int) -> None:
        """Sleeps, then works on each CPU by turns."""
        time.sleep(_SETTLING)
        before = _ticks(self._cpus)
        time.sleep(seconds)
        for slept, now, then in zip(self._slept, _ticks(self._cpus), before, strict=True):
            look = now - then
            self._busiest = max(self._busiest, _busy(look))
            slept += look
        try:
            for _ in range(turns):
                for cpu, works in zip(self._cpus, self._works, strict=True):
                    os.sched_setaffinity(0, {cpu})
                    _work()  # the caches are warm after it
                    works.extend(_work() for _ in range(_IN_A_TURN))
        finally:
            os.sched_setaffinity(0, self._cpus)

    def sample(self) -> Sample:
        """What all looks together have seen."""
        passed = [now - then for now, then in zip(_ticks(self._cpus), self._began, strict=True)]
        medians = [statistics.median(works) for works in self._works]
        return Sample(
            busy=max(map(_busy, self._slept)),
            busiest=self._busiest,
            stolen=max(cpu["stolen"] / cpu.total() for cpu in passed),
            stretch=max(
                statistics.mean(works) / median
                for works, median in zip(self._works, medians, strict=True)
            ),
            work_ns=medians,
        )


def _ticks(cpus: Sequence[int]) -> list[Counter[str]]:
    """How each CPU has passed its time since boot: proc_stat(5)."""
    lines = [line.split() for line in Path("/proc/stat").read_text().splitlines()]
    times = {line[0]: list(map(int, line[1:9])) for line in lines if line[0].startswith("cpu")}
    found = []
    for cpu in cpus:
        user, nice, system, idle, iowait, irq, softirq, steal = times[f"cpu{cpu}"]
        busy = user + nice + system + irq + softirq
        found.append(Counter(busy=busy, stolen=steal, idle=idle + iowait))
    return found


def _busy(passed: Counter[str]) -> float:
    """The share of a CPU's time in which it did something."""
    return passed["busy"] / passed.total()


def _work() -> int:
    """ns that a fixed piece of work took; about half a million."""
    start = time.perf_counter_ns()
    for _ in range(16):
        hashlib.sha256(_BUFFER).digest()
    return time.perf_counter_ns() - start


def complaints(samples: Mapping[str, Sample]) -> list[str]:
    """Why figures taken meanwhile would not be believed; nothing if they would be.

    Args:
        samples: When it was, as text -> what was seen.
    """
    return [
        *(f"{when}: {what}" for when, sample in samples.items() for what in _too_much(sample)),
        *_drifted([median for sample in samples.values() for median in sample.work_ns]),
    ]


def _too_much(sample: Sample) -> Iterator[str]:
    if sample.busy > MOST_BUSY:
        yield (
            f"others used {sample.busy:.1%} of a CPU while the benchmarks slept (limit "
            f"{MOST_BUSY:.0%}). Stop them: top tells which they are"
        )
    elif sample.busiest > MOST_BUSY_LOOK:
        yield (
            f"others used {sample.busiest:.1%} of a CPU at one time while the benchmarks slept "
            f"(limit {MOST_BUSY_LOOK:.0%}). What runs now and then? Stop that: cron, timers"
        )
    if sample.stolen > MOST_STOLEN:
        yield (
            f"the host gave {sample.stolen:.1%} of a CPU's time to others (limit "
            f"{MOST_STOLEN:.0%}). Measure when its other guests are quiet"
        )
    if sample.stretch > MOST_STRETCH:
        yield (
            f"interruptions made the same work {sample.stretch - 1:.1%} longer than its median "
            f"(limit {MOST_STRETCH - 1:.0%}). Stop what else runs, or what the host runs besides"
        )


def _drifted(medians: Sequence[float]) -> Iterator[str]:
    drift = max(medians, default=1) / min(medians, default=1)
    if drift > MOST_DRIFT:
        yield (
            f"the same work took {drift - 1:.1%} longer on one CPU, or at one time, than at "
            f"another (limit {MOST_DRIFT - 1:.0%}). Set the CPUs' governor to performance, and "
            "let them cool"
        )
