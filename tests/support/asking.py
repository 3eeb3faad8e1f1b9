"""Requests written byte by byte, and a bare socket that sends them and takes what comes."""

import socket
import struct
from typing import Self

from support import wire
from taskstats import Endpoint

GET, CGROUP_GET = 1, 4
PID, TGID, REGISTER, DEREGISTER = 1, 2, 3, 4
REQUEST, ACK = 1, 4
_PATIENCE = 60  # seconds: a failure, not a hang
_SOL_NETLINK, _CAP_ACK, _NO_ENOBUFS = 270, 10, 5


def attribute(type_: int, payload: bytes = b"", length: int | None = None) -> bytes:
    """An attribute with its padding, and on demand with a length that is not its own."""
    made = wire.attribute(type_, payload)
    return made if length is None else struct.pack("=H", length) + made[2:]


def message(
    type_: int,
    *attributes: bytes,
    command: int = GET,
    flags: int = REQUEST | ACK,
    seq: int = 1,
) -> bytes:
    """A generic netlink request."""
    body = bytes([command, 1, 0, 0]) + b"".join(attributes)
    return struct.pack("=IHHII", 16 + len(body), type_, flags, seq, 0) + body


class Port:
    """A socket connected to an endpoint, without the package.

    Attributes:
        number: Its port.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, endpoint.protocol)
        self._socket.settimeout(_PATIENCE)
        self._socket.setsockopt(_SOL_NETLINK, _CAP_ACK, 1)
        self._socket.setsockopt(_SOL_NETLINK, _NO_ENOBUFS, 1)
        self._socket.connect((endpoint.port, 0))
        self.number: int = self._socket.getsockname()[0]

    def send(self, datagram: bytes) -> None:
        self._socket.send(datagram)

    def receive(self) -> bytes:
        """The next datagram."""
        return self._socket.recv(1 << 16)

    def waiting(self) -> list[bytes]:
        """All that has come."""
        found = []
        self._socket.setblocking(False)  # MSG_DONTWAIT alone: Python waits all the same
        try:
            while True:
                found.append(self._socket.recv(1 << 16))
        except BlockingIOError:
            return found
        finally:
            self._socket.settimeout(_PATIENCE)

    def errno(self, request: bytes) -> int:
        """Sends a request that gets no reply but an ACK or an error; its errno."""
        self.send(request)
        (code,) = struct.unpack_from("=i", self.receive(), 16)
        return -int(code)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()
