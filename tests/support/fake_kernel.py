"""A netlink peer in a thread that answers as a test tells it to. Needs no privilege."""

import errno
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from taskstats import Endpoint

NETLINK_USERSOCK = 2
FAMILY = 0x1F
GET, GET_FAMILY = 1, 3
PID, TGID, REGISTER, DEREGISTER = 1, 2, 3, 4
NLCTRL = 0x10

FRAMES = Path(__file__).parent.parent / "data" / "frames"


def frame(name: str, kernel: str = "host618") -> bytes:
    """A captured datagram."""
    return (FRAMES / kernel / f"{name}.bin").read_bytes()


@dataclass(frozen=True)
class Request:
    """One message of a client's datagram."""

    sender: int
    type: int
    flags: int
    seq: int
    command: int
    attribute: int
    value: bytes

    @property
    def id(self) -> int:
        """The pid or tgid that is asked for."""
        return int(struct.unpack("=I", self.value)[0])

    @property
    def wants_ack(self) -> bool:
        return bool(self.flags & 4)

    @property
    def is_query(self) -> bool:
        return self.type == FAMILY and self.attribute in (PID, TGID)


def requests(sender: int, datagram: bytes) -> Iterable[Request]:
    """The messages of a datagram from a client."""
    while datagram:
        size, type_, flags, seq, _ = struct.unpack_from("=IHHII", datagram)
        length, attribute = struct.unpack_from("=HH", datagram, 20)
        yield Request(
            sender, type_, flags, seq, datagram[16], attribute, datagram[24 : 20 + length]
        )
        datagram = datagram[(size + 3) & ~3 :]


def error(request: Request, code: int) -> bytes:
    """The kernel's answer with an errno; 0 is an ACK."""
    return struct.pack("=IHHIIi16x", 36, 2, 0x100, request.seq, request.sender, -code)


def record(request: Request) -> bytes:
    """The kernel's reply to a query: a captured one, of the id that was asked for."""
    reply = bytearray(frame("pid" if request.attribute == PID else "tgid"))
    struct.pack_into("=II", reply, 8, request.seq, request.sender)
    struct.pack_into("=I", reply, 28, request.id)
    if request.attribute == PID:
        struct.pack_into("=I", reply, 36 + 128, request.id)  # ac_pid
    return bytes(reply)


def exit_record(seq: int, pid: int, name: str = "exit") -> bytes:
    """A captured exit record, of another pid and number."""
    datagram = bytearray(frame(name))
    struct.pack_into("=I", datagram, 8, seq)
    struct.pack_into("=I", datagram, 28, pid)
    struct.pack_into("=I", datagram, 36 + 128, pid)
    return bytes(datagram)


def behave(request: Request) -> Iterable[bytes]:
    """What a kernel with every task there is would answer."""
    if request.type == NLCTRL:
        reply = bytearray(frame("ctrl"))
        struct.pack_into("=II", reply, 8, request.seq, request.sender)
        yield bytes(reply)
    elif request.is_query:
        yield record(request)
    if request.wants_ack:
        yield error(request, 0)


class FakeKernel:
    """The peer. `answer` gets each request and returns the datagrams to send back.

    Attributes:
        seen: Every request, in order.
    """

    def __init__(self, answer: Callable[[Request], Iterable[bytes]] = behave) -> None:
        self.answer = answer
        self.seen: list[Request] = []
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_USERSOCK)
        self._socket.bind((0, 0))
        self._socket.settimeout(60)  # a full queue is an error, not a hang
        self.port: int = self._socket.getsockname()[0]
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._serve)

    def endpoint(self, family: int = FAMILY, cpus: str = "0-1", timeout: float = 60.0) -> Endpoint:
        """The endpoint of this peer."""
        return Endpoint(
            protocol=NETLINK_USERSOCK,
            port=self.port,
            family=family,
            synchronous=False,
            timeout=timeout,
            cpus=cpus,
        )

    def registered(self) -> list[int]:
        """The ports that registered for exits, in the order of their CPUs."""
        return [r.sender for r in self.seen if r.attribute == REGISTER and r.type == FAMILY]

    def fileno(self) -> int:
        """Its socket, for a sender that is faster than `send`."""
        return self._socket.fileno()

    def send(self, port: int, datagram: bytes) -> None:
        """Sends by itself, as the kernel does at an exit."""
        self._socket.sendto(datagram, (port, 0))

    def _serve(self) -> None:
        while True:
            ready, _, _ = select.select([self._socket, self._woken], [], [])
            if self._woken in ready:
                return
            datagram, (sender, _) = self._socket.recvfrom(1 << 20)
            for request in requests(sender, datagram):
                self.seen.append(request)
                for reply in self.answer(request):
                    self._reply(sender, reply)

    def _reply(self, port: int, reply: bytes) -> None:
        try:
            self.send(port, reply)
        except OSError as problem:  # the client has gone
            if problem.errno != errno.ECONNREFUSED:
                raise

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._wake.send(b"x")
        self._thread.join()
        for one in (self._socket, self._wake, self._woken):
            one.close()
