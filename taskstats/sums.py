"""Sums over the rows of threads: what may be added up is, of extremes the extreme is kept."""

from collections.abc import Callable, Iterable, Sequence

from taskstats.fields import DELAY_FIELDS, DELAYS, SUMMED
from taskstats.rows import Picker


def _most(values: Sequence[int], before: int) -> int:
    return max(before, *values)


def _least(values: Sequence[int], before: int) -> int:
    """The smallest of those that are not 0, which stands for none."""
    return min(filter(None, (before, *values)), default=0) if any(values) else before


#: field -> how the values of threads, and what there was before, become one.
_FOLDS: dict[str, Callable[[Sequence[int], int], int]] = dict.fromkeys(SUMMED, sum)
_FOLDS |= dict.fromkeys(("hiwater_rss", "hiwater_vm"), _most)
_FOLDS |= {f"{name}_delay_max": _most for name in DELAYS}
_FOLDS |= {f"{name}_delay_min": _least for name in DELAYS}
_PICKER = Picker(_FOLDS)
_FOLD_OF = tuple(_FOLDS[name] for name in _PICKER.names)

#: The fields of sums, in the order of the struct.
TOTALS = _PICKER.names

# Delays are read only of rows where one was measured, which on most machines are none.
_COUNTS = Picker(f"{name}_count" for name in DELAYS[1:])
_OTHERS = Picker(name for name in TOTALS if name not in DELAY_FIELDS)
_PLACES = tuple(TOTALS.index(name) for name in _OTHERS.names)


def values_of(data: memoryview, row: int) -> tuple[int, ...]:
    """One row's values of TOTALS; 0 where it does not have the field."""
    return _PICKER.read(data, row)


class Sums:
    """What rows add up to. To add one is cheap: it is read later, with others.

    Args:
        gather: How many rows wait, 728 bytes each: of 16 each costs twice what it does of 64.
    """

    __slots__ = ("_gather", "_rows", "_values", "_waiting")

    def __init__(self, gather: int) -> None:
        self._gather = gather
        self._rows = bytearray()
        self._waiting = 0
        self._values = [0] * len(TOTALS)

    def add(self, row: bytes | memoryview) -> None:
        """Adds a row, as it stands in a batch."""
        self._rows += row
        self._waiting += 1
        if self._waiting == self._gather:
            self._read()

    def add_values(self, values: Iterable[int]) -> None:
        """Adds other sums."""
        self._fold(range(len(TOTALS)), ((value,) for value in values))

    @property
    def values(self) -> tuple[int, ...]:
        """Those of TOTALS; 0 where no row has the field."""
        if self._waiting:
            self._read()
        return tuple(self._values)

    def _read(self) -> None:
        measured = any(map(any, _COUNTS.rows(self._rows)))
        picker, places = (_PICKER, range(len(TOTALS))) if measured else (_OTHERS, _PLACES)
        self._fold(places, zip(*picker.rows(self._rows), strict=True))
        self._rows = bytearray()
        self._waiting = 0

    def _fold(self, places: Iterable[int], columns: Iterable[Sequence[int]]) -> None:
        for at, column in zip(places, columns, strict=True):
            self._values[at] = _FOLD_OF[at](column, self._values[at])
