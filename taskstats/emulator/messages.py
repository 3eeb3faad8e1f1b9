"""Netlink messages and attributes, read as the kernel reads requests and written as it answers."""

import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

# linux/netlink.h
NLMSG_ERROR = 2
NLMSG_MIN_TYPE = 0x10
NLM_F_REQUEST, NLM_F_ACK, NLM_F_ECHO, NLM_F_DUMP, NLM_F_CAPPED = 1, 4, 8, 0x300, 0x100
NLA_TYPE_MASK = 0x3FFF

_HEADER = struct.Struct("=IHHII")
_GENERIC = struct.Struct("=BBH")
_ATTRIBUTE = struct.Struct("=HH")
_ERROR = struct.Struct("=i")

HEADER_SIZE = _HEADER.size
GENERIC_HEADER_SIZE = _GENERIC.size

#: Where a message's type and number stand.
TYPE_AT, SEQ_AT = 4, 8


class Message(NamedTuple):
    """A request. `port` is the sender's, not what it wrote into the header."""

    port: int
    type: int
    flags: int
    seq: int
    header: bytes
    body: bytes


class Generic(NamedTuple):
    """The generic netlink header of a request."""

    command: int
    version: int
    reserved: int


def messages(port: int, datagram: bytes) -> Iterator[Message]:
    """The messages of a datagram, up to one whose length cannot be (netlink_rcv_skb)."""
    while len(datagram) >= HEADER_SIZE:
        size, type_, flags, seq, _ = _HEADER.unpack_from(datagram)
        if not HEADER_SIZE <= size <= len(datagram):
            return
        yield Message(port, type_, flags, seq, datagram[:HEADER_SIZE], datagram[HEADER_SIZE:size])
        datagram = datagram[size + -size % 4 :]


def generic(message: Message) -> Generic:
    """The generic netlink header; the body must be long enough."""
    return Generic(*_GENERIC.unpack_from(message.body))


def attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Type and payload of each attribute, up to one that cannot be (nla_ok)."""
    while len(data) >= _ATTRIBUTE.size:
        size, type_ = _ATTRIBUTE.unpack_from(data)
        if not _ATTRIBUTE.size <= size <= len(data):
            return
        yield type_ & NLA_TYPE_MASK, data[_ATTRIBUTE.size : size]
        data = data[size + -size % 4 :]


def attribute(type_: int, payload: bytes = b"") -> bytes:
    """One attribute, padded."""
    size = _ATTRIBUTE.size + len(payload)
    return _ATTRIBUTE.pack(size, type_) + payload + bytes(-size % 4)


def message(
    type_: int, command: int, attrs: Iterable[bytes], *, port: int, seq: int, version: int = 1
) -> bytes:
    """A generic netlink message; the version is that of the family."""
    body = _GENERIC.pack(command, version, 0) + b"".join(attrs)
    return _HEADER.pack(HEADER_SIZE + len(body), type_, 0, seq, port) + body


def error(request: Message, code: int) -> bytes:
    """The answer with an errno, 0 for an ACK, as to a socket with NETLINK_CAP_ACK."""
    body = _ERROR.pack(-code) + request.header
    size = HEADER_SIZE + len(body)
    return _HEADER.pack(size, NLMSG_ERROR, NLM_F_CAPPED, request.seq, request.port) + body
