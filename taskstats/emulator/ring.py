"""A ring buffer as the kernel's BPF programs write it (kernel/bpf/ringbuf.c), in shared memory."""

import mmap
import struct
import threading
from typing import Any, Literal, TypeAlias

from taskstats._native import ffi

#: The kinds of events, as csrc/events.h numbers them from 1 on.
EventKind: TypeAlias = Literal["end", "birth", "cgroup"]
NUMBERS: dict[EventKind, int] = {"end": 1, "birth": 2, "cgroup": 3}

#: Before each event: its bytes, and a word of the kernel's that is not read.
HEADER = struct.Struct("=II")

_PAGE = mmap.PAGESIZE
_WORD = 8
_DATA_AT = 2 * _PAGE


class Ring:
    """One ring: a page with the reader's position, a page with the writer's, the data, the losses.

    Args:
        size: Bytes of data, a power of two of at least 4,096.
        clock: Where the emulated CLOCK_MONOTONIC is, nanoseconds.

    Attributes:
        native: The shim's struct ts_peer_ring. It does not keep the memory alive: this object does.
    """

    def __init__(self, size: int, clock: Any) -> None:
        self._memory = mmap.mmap(-1, _DATA_AT + size + _PAGE)
        self._size = size
        self._position = 0  # what is written, up to here
        self._limit = size - 1  # what may be written, as last seen
        self._consumer = ffi.from_buffer("uint64_t[]", self._memory)
        self._producer = self._consumer + _PAGE // _WORD
        self._losses = self._consumer + (_DATA_AT + size) // _WORD
        self._barrier = threading.Lock()
        self.native = ffi.new(
            "struct ts_peer_ring *",
            {
                "consumer": self._consumer,
                "producer": self._producer,
                "data": self._consumer + _DATA_AT // _WORD,
                "size": size,
                "losses": self._losses,
                "now": clock,
            },
        )

    def write(self, kind: EventKind, event: bytes) -> None:
        """Write an event and its header, padded to 8 bytes. Without room it is lost and counted."""
        begin, end = self._position, self._position + len(event)
        if end > self._limit:
            # kernel/bpf/ringbuf.c:__bpf_ringbuf_reserve: the last byte is never filled.
            self._limit = self._consumer[0] + self._size - 1
            if end > self._limit:
                self.lose(kind)
                return
        at = begin % self._size
        before_end = self._size - at
        start = _DATA_AT + at
        if len(event) <= before_end:
            self._memory[start : start + len(event)] = event
        else:
            self._memory[start : start + before_end] = event[:before_end]
            self._memory[_DATA_AT : _DATA_AT + len(event) - before_end] = event[before_end:]
        with self._barrier:  # on CPUs that reorder stores, the event is there first
            self._position = end
        self._producer[0] = end

    def lose(self, kind: EventKind) -> None:
        """Count an event that found no room."""
        self._losses[NUMBERS[kind]] += 1
