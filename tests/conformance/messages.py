"""Requests written, and answers told in words, with `struct` and tests/support/wire.py alone."""

import errno
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from support import wire
from support.asking import CGROUP_GET, DEREGISTER, GET, PID, REGISTER, TGID, attribute

# include/uapi/linux/{netlink,genetlink,taskstats,cgroupstats}.h
NLM_F_REQUEST, NLM_F_ACK, NLM_F_ECHO, NLM_F_DUMP = 1, 4, 8, 0x300
NLM_F_CAPPED, NLM_F_ACK_TLVS = 0x100, 0x200
NLA_F_NESTED, NLA_F_NET_BYTEORDER = 0x8000, 0x4000
NLMSG_ERROR, NLCTRL = wire.NLMSG_ERROR, wire.NLCTRL
NLMSGERR_ATTR_MSG, NLMSGERR_ATTR_OFFS = 1, 2
CTRL_CMD_NEWFAMILY, CTRL_CMD_GETFAMILY = 1, 3
CTRL_ATTR_FAMILY_ID, CTRL_ATTR_FAMILY_NAME, CTRL_ATTR_VERSION, CTRL_ATTR_HDRSIZE = 1, 2, 3, 4
NEW, CGROUP_NEW = 2, 5
FD = 1
CGROUP_STATS = 1

AFORK, ACORE, AXSIG, AGROUP = 0x01, 0x08, 0x10, 0x20
FLAGS = {"AFORK": AFORK, "ACORE": ACORE, "AXSIG": AXSIG, "AGROUP": AGROUP}


# ---- requests --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Request:
    """One message. What is None is as it should be."""

    attributes: bytes = b""
    command: int = GET
    flags: int = NLM_F_REQUEST | NLM_F_ACK
    type: int | None = None
    version: int = 1
    reserved: int = 0
    length: int | None = None
    port: int = 0
    headless: bool = field(default=False)  # no generic netlink header

    def bytes(self, family: int, seq: int) -> bytes:
        """It, as it is sent; padded, so that another may follow."""
        body = struct.pack("=BBH", self.command, self.version, self.reserved) + self.attributes
        if self.headless:
            body = b""
        size = 16 + len(body)
        length = size if self.length is None else self.length
        type_ = family if self.type is None else self.type
        header = struct.pack("=IHHII", length, type_, self.flags, seq, self.port)
        return header + body + bytes(-size % 4)


def u32(type_: int, value: int) -> bytes:
    """An attribute with a number, negative ones too."""
    return attribute(type_, struct.pack("=I", value & 0xFFFFFFFF))


def cpus(type_: int, text: str | bytes) -> bytes:
    """REGISTER or DEREGISTER with a list; a str gets its NUL."""
    return attribute(type_, text.encode() + b"\0" if isinstance(text, str) else text)


def pid(id_: int, flags: int = NLM_F_REQUEST | NLM_F_ACK) -> Request:
    return Request(u32(PID, id_), flags=flags)


def tgid(id_: int, flags: int = NLM_F_REQUEST | NLM_F_ACK) -> Request:
    return Request(u32(TGID, id_), flags=flags)


def register(text: str | bytes) -> Request:
    return Request(cpus(REGISTER, text))


def deregister(text: str | bytes) -> Request:
    return Request(cpus(DEREGISTER, text))


def cgroup(fd: int) -> Request:
    return Request(u32(FD, fd), CGROUP_GET)


# ---- answers ---------------------------------------------------------------------------------


class Header(NamedTuple):
    """The netlink header."""

    length: int
    type: int
    flags: int
    seq: int
    port: int


def header(datagram: bytes) -> Header:
    return Header(*struct.unpack_from("=IHHII", datagram))


class Attribute(NamedTuple):
    """One attribute, and where in the message its payload begins."""

    type: int
    at: int
    payload: bytes


def attributes(datagram: bytes, at: int = 20, end: int | None = None) -> Iterator[Attribute]:
    """Those between two offsets of a message."""
    end = len(datagram) if end is None else end
    while at < end:
        length, type_ = struct.unpack_from("=HH", datagram, at)
        assert 4 <= length <= end - at, "the kernel's attributes fit"
        yield Attribute(type_, at + 4, datagram[at + 4 : at + length])
        at += length + -length % 4


def inside(nest: Attribute, datagram: bytes) -> list[Attribute]:
    """The attributes of a nest."""
    return list(attributes(datagram, nest.at, nest.at + len(nest.payload)))


#: Of two names for one number the kernel's.
ERRNO = errno.errorcode | {errno.EOPNOTSUPP: "EOPNOTSUPP"}

NAMES = {wire.TYPE_AGGR_PID: "PID", wire.TYPE_AGGR_TGID: "TGID"}


def told(datagram: bytes, family: int) -> str:
    """An answer in a word: ACK, an errno's name, or what the reply is about."""
    head = header(datagram)
    assert head.length == len(datagram), "one message a datagram"
    if head.type == NLMSG_ERROR:
        (code,) = struct.unpack_from("=i", datagram, 16)
        return ERRNO[-code] if code else "ACK"
    if head.type == family and datagram[16] == NEW:
        return "+".join(NAMES[one.type] for one in attributes(datagram))
    if head.type == family and datagram[16] == CGROUP_NEW:
        return "CGROUPSTATS"
    if (head.type, datagram[16]) == (NLCTRL, CTRL_CMD_NEWFAMILY):
        return "NEWFAMILY"
    return datagram.hex()


class Record(NamedTuple):
    """One aggregate: its id, the struct's version, size and offset, and all its members."""

    seq: int
    port: int
    id: int
    version: int
    size: int
    at: int
    values: dict[str, int | bytes]

    def __getitem__(self, name: str) -> int:  # type: ignore[override]
        """A member; those that are text stand in `values`."""
        value = self.values[name]
        assert isinstance(value, int)
        return value

    @property
    def flags(self) -> list[str]:
        """The names of ac_flag's bits."""
        return [name for name, bit in FLAGS.items() if self["ac_flag"] & bit]

    @property
    def nothing_but(self) -> list[str]:
        """The members that are not zero."""
        return [name for name, value in self.values.items() if value]


def record(datagram: bytes, kind: str = "PID") -> Record | None:
    """The record of a kind in a message; members as the task's version lays them out."""
    nests = {NAMES.get(one.type): one for one in attributes(datagram)}
    if kind not in nests:
        return None
    parts = {one.type: one for one in inside(nests[kind], datagram)}
    stats = parts[wire.TYPE_STATS]
    first = next(
        one for one in inside(next(iter(nests.values())), datagram) if one.type == wire.TYPE_STATS
    )
    (layout,) = struct.unpack_from("=H", first.payload)
    values = {
        name: _member(stats.payload, at, wire.MEMBERS[name].format)
        for name, at in wire.layout(layout, len(stats.payload)).items()
        if at + wire.MEMBERS[name].size <= len(stats.payload)
    }
    (id_,) = struct.unpack("=I", parts[wire.TYPE_PID if kind == "PID" else wire.TYPE_TGID].payload)
    version = values.pop("version")
    assert isinstance(version, int)
    head = header(datagram)
    return Record(head.seq, head.port, id_, version, len(stats.payload), stats.at, values)


def _member(stats: bytes, at: int, format_: str) -> int | bytes:
    parts = struct.unpack_from("=" + format_, stats, at)
    if format_ == "qq":
        return int(parts[0] * 10**9 + parts[1])
    return parts[0] if isinstance(parts[0], int) else parts[0].split(b"\0")[0]


def is_exit(datagram: bytes) -> bool:
    """It was sent at an exit, and is no answer."""
    head = header(datagram)
    return head.port == 0 and head.type > NLCTRL


def name_of(error: OSError) -> str:
    """The errno's name."""
    assert error.errno is not None
    return ERRNO[error.errno]
