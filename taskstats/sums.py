"""Sums over the rows of threads: what may be added up is, of extremes the extreme is kept."""

import operator
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeAlias

from taskstats.fields import DELAY_FIELDS, DELAYS, SUMMED
from taskstats.rows import ROW, Picker


def _most(values: Sequence[int], before: int) -> int:
    return max(before, max(values))


def _least(values: Sequence[int], before: int) -> int:
    """The smallest of those that are not 0, which stands for none."""
    return min(filter(None, (before, *values)), default=0) if any(values) else before


#: The CPU time that the probe adds: 0 in a row that is not settled.
FINAL_CPU = "final_cpu_ns"

#: field -> how the values of threads, and what there was before, become one.
_FOLDS: dict[str, Callable[[Sequence[int], int], int]] = dict.fromkeys((*SUMMED, FINAL_CPU), sum)
_FOLDS |= dict.fromkeys(("hiwater_rss", "hiwater_vm"), _most)
_FOLDS |= {f"{name}_delay_max": _most for name in DELAYS}
_FOLDS |= {f"{name}_delay_min": _least for name in DELAYS}
_PICKER = Picker(_FOLDS)

#: The fields of sums, in the order of the row.
TOTALS = _PICKER.names

_COUNTS = Picker(f"{name}_count" for name in DELAYS[1:])

#: What is read of a row, as `read` gives it: see Layout.
Reading: TypeAlias = tuple[Any, ...]

#: What is read besides what is summed up: who it was, and how it ended.
_HEAD = (
    *("flags", "ac_exitcode", "ac_comm", "ac_ppid", "ac_tgid", "ac_tgetime"),
    *("ac_exe_dev", "ac_exe_inode"),
)


class Layout:
    """Where the values of a reading are.

    Args:
        names: Those of TOTALS that it has.

    Attributes:
        picker: Reads it.
        width: How many values there are.
        at: The name of a value -> where it is.
        sums: Where one of TOTALS is, its place in TOTALS, and how it is folded.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.picker = Picker((*_HEAD, *names))
        self.width = len(self.picker.names)
        self.at = {name: place for place, name in enumerate(self.picker.names)}
        self.sums = [(self.at[name], TOTALS.index(name), _FOLDS[name]) for name in names]

    def getter(self, *names: str) -> Callable[[Reading], Any]:
        """What takes several values of a reading."""
        return operator.itemgetter(*(self.at[name] for name in names))


# Delays are read only of batches where one was measured, which on most machines are none.
_WITH_DELAYS = Layout(TOTALS)
_WITHOUT = Layout([name for name in TOTALS if name not in DELAY_FIELDS])

LAYOUTS = (_WITHOUT, _WITH_DELAYS)


def read(data: memoryview, rows: Sequence[int] | None = None) -> list[Reading]:
    """Reads rows, all or some, so that Sums may add them: many at once, which is faster."""
    if rows is not None and len(rows) * ROW < len(data):
        data = memoryview(b"".join([data[row * ROW : (row + 1) * ROW] for row in rows]))
    measured = any(map(any, _COUNTS.rows(data)))
    return list((_WITH_DELAYS if measured else _WITHOUT).picker.rows(data))


def values_of(data: memoryview, row: int) -> tuple[int, ...]:
    """One row's values of TOTALS; 0 where it does not have the field."""
    return _PICKER.read(data, row)


class Sums:
    """What rows add up to. To add one is cheap: it is added up later, with others.

    Args:
        gather: How many readings wait: of 16 each costs twice what it does of 64.
    """

    __slots__ = ("_gather", "_values", "_waiting")

    def __init__(self, gather: int) -> None:
        self._gather = gather
        self._waiting: list[Reading] = []
        self._values = [0] * len(TOTALS)

    def add(self, readings: Iterable[Reading]) -> None:
        """Adds rows."""
        self._waiting += readings
        if len(self._waiting) >= self._gather:
            self._add_up()

    def add_values(self, values: Iterable[int]) -> None:
        """Adds other sums."""
        for at, (name, value) in enumerate(zip(TOTALS, values, strict=True)):
            self._values[at] = _FOLDS[name]((value,), self._values[at])

    @property
    def values(self) -> tuple[int, ...]:
        """Those of TOTALS; 0 where no row has the field."""
        self._add_up()
        return tuple(self._values)

    def _add_up(self) -> None:
        waiting, self._waiting = self._waiting, []
        for layout in LAYOUTS:
            rows = [one for one in waiting if len(one) == layout.width]
            if rows:
                self._take(layout, list(zip(*rows, strict=True)))

    def _take(self, layout: Layout, columns: Sequence[Sequence[int]]) -> None:
        """Adds what waited, by columns."""
        for at, place, fold in layout.sums:
            self._values[place] = fold(columns[at], self._values[place])
