"""The probe's ring, read without the package: by csrc/ring.h and csrc/events.h alone.

The programs that write it are the package's, opened by its shim; what they wrote is read here.
"""

import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from taskstats._native import ffi, lib
from taskstats.cgroups.hierarchies import Hierarchy
from taskstats.shim import new_cell, opening_error

SIZE = 1 << 21

_HEADER = struct.Struct("=II")
_END, _BIRTH, _CHANGE = struct.Struct("=4I6Q"), struct.Struct("=4I3Q"), struct.Struct("=IIQ1024s")
_BUSY, _DISCARDED = 1 << 31, 1 << 30
_CHANGES = {1: "made", 2: "renamed", 3: "removed"}
_RINGBUF, _ARRAY = 27, 2  # include/uapi/linux/bpf.h: enum bpf_map_type


class End(NamedTuple):
    """struct ts_end_event."""

    pid: int
    tgid: int
    runs: int
    start_ns: int
    began_ns: int
    ended_ns: int
    cpu_ns: int
    waited_ns: int
    cgroup_id: int


class Birth(NamedTuple):
    """struct ts_birth_event."""

    pid: int
    maker_pid: int
    start_ns: int
    maker_start_ns: int
    cgroup_id: int


class Change(NamedTuple):
    """struct ts_cgroup_event; what happened in words."""

    what: str
    id: int
    path: str


Event = End | Birth | Change


def _event(content: bytes) -> Event:
    (kind,) = struct.unpack_from("=I", content)
    if kind == 1:
        return End(*_END.unpack(content)[1:])
    if kind == 2:
        _, pid, maker, _, *times = _BIRTH.unpack(content)
        return Birth(pid, maker, *times)
    assert kind == 3, f"no such event: {kind}"
    _, change, id_, path = _CHANGE.unpack(content)
    return Change(_CHANGES[change], id_, os.fsdecode(path.partition(b"\0")[0]))


@dataclass(eq=False)
class Ring:
    """A ring that nobody else reads.

    Args:
        consumer: The page of the consumer's position, which is written.
        producer: That of the producer's.
        data: The data.
        losses: What found no room, by kind: a u64 each.
        keep: What the memory belongs to.
    """

    consumer: Any
    producer: Any
    data: Any
    losses: Any
    keep: object = None

    def new(self) -> list[Event]:
        """What has been written since the last call."""
        return list(self._events())

    def _events(self) -> Iterator[Event]:
        (at,) = struct.unpack_from("@Q", self.consumer)
        size = len(self.data)
        while at != struct.unpack_from("@Q", self.producer)[0]:
            length, _ = _HEADER.unpack_from(self.data, at % size)
            if length & _BUSY:
                return
            content = length & ~_DISCARDED
            begin = (at + _HEADER.size) % size
            whole = bytes(self.data[begin : begin + content])
            whole += bytes(self.data[: content - len(whole)])
            at += (_HEADER.size + content + 7) & ~7
            struct.pack_into("@Q", self.consumer, 0, at)
            if not length & _DISCARDED:
                yield _event(whole)

    def lost(self) -> list[int]:
        """How many ends, births and changes found no room."""
        return list(struct.unpack_from("@3Q", self.losses, 8))


def peers(native: Any) -> Ring:
    """The ring of a peer that plays the kernel: the shim's struct ts_peer_ring."""
    page = mmap.PAGESIZE
    sizes = {"consumer": page, "producer": page, "data": native.size, "losses": 32}
    parts = {name: ffi.buffer(getattr(native, name), n) for name, n in sizes.items()}
    return Ring(**parts, keep=native)


@contextmanager
def kernels(hierarchy: Hierarchy) -> Iterator[Ring]:
    """The kernel's, by the package's programs; nobody else reads it.

    Raises:
        TaskstatsError: The kernel refuses.
    """
    controller = ffi.new("char[]", hierarchy.controllers[0].encode() if hierarchy.number else b"")
    wanted = ffi.new("struct ts_probe_wanted *", {"ring_size": SIZE})
    if hierarchy.number:
        wanted.controller, wanted.hierarchy = controller, hierarchy.number
    cell = new_cell("ts_probe", lib.ts_probe_close)
    opened = ffi.new("struct ts_opened *")
    before = _maps()
    rc = lib.ts_probe_open(wanted, cell, opened)
    if rc < 0:
        raise opening_error("probe", rc, opened)
    with ExitStack() as stack:
        stack.callback(lib.ts_probe_close, cell[0])
        fds = {kind: fd for fd, kind in _maps().items() if fd not in before}
        page, read = mmap.PAGESIZE, mmap.PROT_READ
        ring, losses = fds[_RINGBUF], fds[_ARRAY]
        places = {
            "consumer": mmap.mmap(ring, page),
            "producer": mmap.mmap(ring, page, prot=read, offset=page),
            "data": mmap.mmap(ring, SIZE, prot=read, offset=2 * page),
            "losses": mmap.mmap(losses, page, prot=read),
        }
        for place in places.values():
            stack.enter_context(place)
        yield Ring(**places)


def _maps() -> dict[int, int]:
    """The BPF maps that this process has open: descriptor -> type."""
    found = {}
    for link in Path("/proc/self/fd").iterdir():
        try:
            if link.readlink().name == "anon_inode:bpf-map":
                info = Path(f"/proc/self/fdinfo/{link.name}").read_text()
                found[int(link.name)] = int(info.partition("map_type:")[2].split()[0])
        except FileNotFoundError:  # the directory's own descriptor
            continue
    return found
