"""Sums over the rows of threads: what may be added up is, of extremes the extreme is kept."""

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

#: What is read of a row, as `read` gives it: values of TOTALS, all or some. See Layout.
Reading: TypeAlias = tuple[Any, ...]


class Layout:
    """Which values a reading has.

    Args:
        names: Those of TOTALS that it has.

    Attributes:
        picker: Reads them.
        width: How many they are.
        sums: Of each its place in TOTALS, and how it is folded.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self.picker = Picker(names)
        self.width = len(self.picker.names)
        self.sums = [(TOTALS.index(name), _FOLDS[name]) for name in self.picker.names]


# Delays are read only of batches where one was measured, which on most machines are none.
_WITH_DELAYS = Layout(TOTALS)
_WITHOUT = Layout([name for name in TOTALS if name not in DELAY_FIELDS])


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

    @property
    def values(self) -> tuple[int, ...]:
        """Those of TOTALS; 0 where no row has the field."""
        self._add_up()
        return tuple(self._values)

    def _add_up(self) -> None:
        waiting, self._waiting = self._waiting, []
        for layout in (_WITHOUT, _WITH_DELAYS):
            rows = [one for one in waiting if len(one) == layout.width]
            if rows:
                self._take(layout, list(zip(*rows, strict=True)))

    def _take(self, layout: Layout, columns: Sequence[Sequence[int]]) -> None:
        """Adds what waited, by columns."""
        for column, (place, fold) in zip(columns, layout.sums, strict=True):
            self._values[place] = fold(column, self._values[place])
