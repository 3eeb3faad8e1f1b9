"""The kernel's side of a listener, without the package: as a careless program makes one."""

import socket
import struct
from pathlib import Path

from support import wire
from support.asking import REGISTER, REQUEST, attribute, message
from support.descriptors import NETLINK_GENERIC


def register(port: int, cpus: str) -> socket.socket:
    """A listener that nobody reads, and that does not deregister; port 0 for any."""
    one = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_GENERIC)
    one.bind((port, 0))
    wanted = attribute(REGISTER, cpus.encode() + b"\0")
    one.send(message(family(), wanted, flags=REQUEST))
    return one


def family() -> int:
    """The id of the TASKSTATS family."""
    name = attribute(2, b"TASKSTATS\0")
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_GENERIC) as one:
        one.bind((0, 0))
        one.send(message(wire.NLCTRL, name, command=3, flags=REQUEST))
        reply = one.recv(4096)
    at = 20
    while at < len(reply):
        length, type_ = struct.unpack_from("=HH", reply, at)
        if type_ == 1:
            return int(struct.unpack_from("=H", reply, at + 4)[0])
        at += (length + 3) & ~3
    raise AssertionError("no family")


def sockets() -> dict[int, int]:
    """Port -> bytes waiting, of the generic netlink sockets of all processes."""
    lines = Path("/proc/net/netlink").read_text().splitlines()[1:]
    rows = [list(map(int, (*line.split()[1:3], line.split()[4]))) for line in lines]
    return {port: waiting for protocol, port, waiting in rows if protocol == NETLINK_GENERIC}
