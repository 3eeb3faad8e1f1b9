"""Births: processes that were made, as the probe has seen them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, overload

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa


class Birth(NamedTuple):
    """A process was made (kernel/fork.c:kernel_clone, tracepoint sched_process_fork).

    A pid and a start time together identify a process for as long as the machine runs.

    Attributes:
        pid: The new process.
        start_ns: When it started, nanoseconds of CLOCK_BOOTTIME.
        maker_pid: The process that called fork: not always the parent, see CLONE_PARENT.
        maker_start_ns: When that started.
        cgroup_id: The cgroup that the new process starts in; None if it is not known.
        cgroup: The path of that cgroup; None if it is not known.
    """

    pid: int
    start_ns: int
    maker_pid: int
    maker_start_ns: int
    cgroup_id: int | None
    cgroup: str | None


class Births:
    """The births that came with a batch, in the order in which they happened.

    Attributes:
        data: The births, 32 bytes each: a read-only memoryview.
        path_of: From the id of a cgroup to its path.
        lost: How many births the ring has lost since the listener opened, as of this batch.
    """

    #: Bytes of a birth (csrc/taskstats_shim.h, struct ts_birth).
    ROW = 32
    #: name -> (offset, format) of its members.
    MEMBERS: Mapping[str, tuple[int, str]] = MappingProxyType(
        {
            "start_ns": (0, "Q"),
            "maker_start_ns": (8, "Q"),
            "cgroup_id": (16, "Q"),
            "pid": (24, "I"),
            "maker_pid": (28, "I"),
        }
    )

    def __init__(
        self,
        data: Any = b"",
        path_of: Callable[[int], str | None] = lambda _: None,
        lost: int = 0,
    ) -> None:
        self.data = memoryview(data).toreadonly()
        if len(self.data) % self.ROW:
            raise ValueError(f"births are rows of {self.ROW} bytes, not {len(self.data)} bytes")
        self.path_of = path_of
        self.lost = lost

    def __len__(self) -> int:
        return len(self.data) // self.ROW

    def column(self, name: str) -> Sequence[int]:
        """All values of one member of MEMBERS; 0 where a cgroup_id is not known."""
        offset, format_ = self.MEMBERS[name]
        words: Any = self.data.cast(format_)  # type: ignore[call-overload]
        column: Sequence[int] = words[offset // words.itemsize :: self.ROW // words.itemsize]
        return column

    @overload
    def __getitem__(self, index: int) -> Birth: ...
    @overload
    def __getitem__(self, index: slice) -> "Births": ...
    def __getitem__(self, index: int | slice) -> "Birth | Births":
        rows = range(len(self))[index]
        if isinstance(rows, int):
            return self._birth(rows)
        chosen = b"".join(self.data[row * self.ROW : (row + 1) * self.ROW] for row in rows)
        return Births(chosen, self.path_of, self.lost)

    def __iter__(self) -> Iterator[Birth]:
        return map(self._birth, range(len(self)))

    def _birth(self, row: int) -> Birth:
        values = {name: self.column(name)[row] for name in self.MEMBERS}
        cgroup_id = values.pop("cgroup_id") or None
        cgroup = self.path_of(cgroup_id) if cgroup_id else None
        return Birth(**values, cgroup_id=cgroup_id, cgroup=cgroup)

    def to_numpy(self) -> "np.ndarray[Any, Any]":
        """A structured array over the same memory, read-only. Needs NumPy."""
        from taskstats import tables

        array: np.ndarray[Any, Any] = tables.births_to_numpy(self)
        return array

    def to_arrow(self) -> "pa.RecordBatch":
        """The attributes of Birth as columns. Needs pyarrow."""
        from taskstats import tables

        return tables.births_to_arrow(self)

    def __eq__(self, other: object) -> bool:
        return self.data == other.data if isinstance(other, Births) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<{len(self)} Births>"
