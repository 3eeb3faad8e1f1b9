"""What the modules share of the C shim: memory for rows, handles, and where an open failed."""

from typing import Any

from taskstats._native import ffi, lib
from taskstats.errors import STEPS, TaskstatsError, from_errno

#: Makes arrays of rows from the shim's memory, not cleared.
new_rows = ffi.new_allocator(lib.ts_alloc, lib.ts_free, should_clear_after_alloc=False)


def new_cell(kind: str, close: Any, keep: object = None) -> Any:
    """A cell for a handle that the shim opens: closed and freed with the cell.

    It is made before the open, so that an interrupt right after it leaves nothing behind.

    Args:
        kind: The handle's struct.
        close: What closes it.
        keep: What the shim looks at until then.
    """

    def destroy(cell: Any, _keep: object = keep) -> None:
        if cell[0]:
            close(cell[0])
            lib.ts_free(cell[0])

    return ffi.gc(ffi.new(f"struct {kind} **"), destroy)


def opening_error(operation: str, rc: int, opened: Any, about: str = "") -> TaskstatsError:
    """The error for an open that failed."""
    return from_errno(operation, -rc, STEPS[opened.step], about)
