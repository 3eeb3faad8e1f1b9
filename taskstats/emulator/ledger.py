"""What was sent to each port, counted where the shim reads it (csrc/peer.c)."""

import mmap
from typing import Any

from taskstats._native import ffi

_PLACES = 1 << 14
_BYTES = _PLACES * len(ffi.buffer(ffi.new("struct ts_sent *")))


class Ledger:
    """A hash table in memory that is shared with the shim, also that of a child that this process
    forks; ports are only ever added.

    Attributes:
        native: The array of struct ts_sent, for an `Endpoint`.
    """

    def __init__(self) -> None:
        shared = mmap.mmap(-1, _BYTES)
        self.native = ffi.from_buffer("struct ts_sent[]", shared)
        self._places: dict[int, Any] = {}

    def sent(self, port: int, count: int, dropped: int = 0) -> None:
        """Counts records that were sent to the port, and those for which it had no room."""
        place = self._places.get(port)
        if place is None:
            place = self._places[port] = self._new(port)
        # In this order: who reads the second has read the first.
        place.dropped = (place.dropped + dropped) & 0xFFFFFFFF
        place.offered = (place.offered + count) & 0xFFFFFFFF

    def _new(self, port: int) -> Any:
        if len(self._places) > _PLACES // 2:
            raise RuntimeError(f"an emulated kernel counts for {_PLACES // 2:,} ports at most")
        at = port % _PLACES
        while self.native[at].port:
            at = (at + 1) % _PLACES
        self.native[at].port = port
        return self.native[at]
