"""A client written by hand with socket and struct, as one finds it in blogs."""

import errno
import os
import socket
import struct
import sys
from collections.abc import Callable, Collection, Iterator, Mapping

LESS = (
    "Tasks, not groups. Asks one by one, about many too. Eight figures at fixed offsets, which are "
    "others in version 15. Believes any sender, checks no length, version or number: after an "
    "answer that came late, each one is another task's. Not for several threads. "
    "Exits: one socket for all CPUs, one record at a time, of which it reads three members. Of a "
    "loss it is told ENOBUFS, not how many; until its queue is empty the kernel drops what comes."
)
MORE = "Nothing to install, nothing to compile; fits a page."

NETLINK_GENERIC = 16
GENL_ID_CTRL = 16
SO_RCVBUFFORCE = 33

#: Where the struct stands in a datagram without padding.
STRUCT_AT = 36

#: ac_pid, and ac_etime; between them are ac_ppid and ac_btime.
PID_AND_ELAPSED = struct.Struct("=L12xQ")


def version() -> str:
    return "socket and struct of Python {}.{}.{}".format(*sys.version_info[:3])


def message(kind: int, command: int, attribute: int, value: bytes) -> bytes:
    padded = value + b"\0" * (-len(value) % 4)
    body = struct.pack("=BBxxHH", command, 1, 4 + len(value), attribute) + padded
    return struct.pack("=LHHLL", 16 + len(body), kind, 1, 1, 0) + body


def connect() -> tuple[socket.socket, int]:
    """A socket, and the number of the family."""
    one = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_GENERIC)
    one.bind((0, 0))
    one.send(message(GENL_ID_CTRL, 3, 2, b"TASKSTATS\0"))
    reply = one.recv(65536)
    at = 20
    while at < len(reply):
        size, kind = struct.unpack_from("=HH", reply, at)
        if kind == 1:
            return one, struct.unpack_from("=H", reply, at + 4)[0]
        at += size + 3 & ~3
    raise LookupError("TASKSTATS")


class Queries:
    def __init__(self) -> None:
        self._socket, self._family = connect()

    def one(self, pid: int) -> dict[str, object]:
        self._socket.send(message(self._family, 1, 1, struct.pack("=L", pid)))
        reply = self._socket.recv(65536)
        kind = struct.unpack_from("=H", reply, 4)[0]
        if kind == 2:
            code = -struct.unpack_from("=i", reply, 16)[0]
            raise OSError(code, f"no task {pid}")
        at = STRUCT_AT
        cpu_count, cpu_delay, blkio_count, blkio_delay = struct.unpack_from("=4Q", reply, at + 16)
        swapin_count, swapin_delay = struct.unpack_from("=2Q", reply, at + 48)
        user, system = struct.unpack_from("=2Q", reply, at + 152)
        read_bytes, write_bytes = struct.unpack_from("=2Q", reply, at + 248)
        comm = reply[at + 80 : at + 112].split(b"\0")[0].decode()
        return {
            "comm": comm,
            "cpu": (cpu_count, cpu_delay),
            "blkio": (blkio_count, blkio_delay),
            "swapin": (swapin_count, swapin_delay),
            "utime": user,
            "stime": system,
            "read_bytes": read_bytes,
            "write_bytes": write_bytes,
        }

    def close(self) -> None:
        self._socket.close()


def figures(answer: dict[str, object]) -> dict[str, object]:
    return answer


def decode(datagram: bytes) -> tuple[int, int]:
    pid, elapsed = PID_AND_ELAPSED.unpack_from(datagram, STRUCT_AT + 128)
    return pid, elapsed


class Exits:
    """One socket for all CPUs, one recv a record; it goes on after ENOBUFS."""

    def __init__(self, storms: Collection[int], *, rcvbuf: int | None = None) -> None:
        self._socket, family = connect()
        if rcvbuf:
            self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, rcvbuf // 2)
        cpus = f"0-{os.sysconf('SC_NPROCESSORS_CONF') - 1}\0"
        self._socket.send(message(family, 1, 3, cpus.encode()))
        self._storms = storms
        self._overruns = 0
        self.seen = 0

    def first(self) -> None:
        next(self._records())

    def count(self) -> None:
        for record in self._records():
            pid, ppid = struct.unpack_from("=LL", record, STRUCT_AT + 128)
            (tgid,) = struct.unpack_from("=L", record, STRUCT_AT + 368)
            if ppid in self._storms or (tgid in self._storms and pid != tgid):
                self.seen += 1

    def each(self, take: Callable[[int, bytes], object]) -> None:
        for record in self._records():
            (ppid,) = struct.unpack_from("=L", record, STRUCT_AT + 132)
            take(ppid, record[STRUCT_AT + 80 : STRUCT_AT + 112])

    def told(self) -> Mapping[str, int]:
        queue = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF)
        return {"overruns": self._overruns, "queue": queue}

    def _records(self) -> Iterator[bytes]:
        while True:
            try:
                yield self._socket.recv(65536)
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                self._overruns += 1
