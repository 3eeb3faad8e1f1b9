"""The netlink sockets that this process holds, found from outside the package."""

import ctypes
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

AF_UNSPEC = 0
NETLINK_GENERIC = 16

_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def opened(fd: int) -> Iterator[socket.socket]:
    """A socket object for a descriptor that belongs to somebody else."""
    with socket.socket(fileno=os.dup(fd)) as one:
        yield one


def is_socket(fd: int) -> bool:
    try:
        return str(Path(f"/proc/self/fd/{fd}").readlink()).startswith("socket:")
    except FileNotFoundError:  # that of the listing itself
        return False


def netlink_sockets(protocol: int) -> set[int]:
    """The descriptors of this process's netlink sockets of a protocol."""
    found = set()
    for fd in filter(is_socket, map(int, os.listdir("/proc/self/fd"))):
        with opened(fd) as one:
            if (one.family, one.proto) == (socket.AF_NETLINK, protocol):
                found.add(fd)
    return found


def port_of(fd: int) -> int:
    """The netlink port that a socket is bound to."""
    with opened(fd) as one:
        return int(one.getsockname()[0])


def disconnect(fd: int) -> None:
    """Puts a socket back to where it was between bind and connect."""
    address = struct.pack("=HHII", AF_UNSPEC, 0, 0, 0)
    assert _libc.connect(fd, address, len(address)) == 0


def leave_free(spare: int) -> list[int]:
    """Opens so many descriptors that only some more are left; returns those."""
    taken = []
    try:
        while True:
            taken.append(os.open(os.devnull, os.O_RDONLY))
    except OSError:
        for _ in range(spare):
            os.close(taken.pop())
    return taken
