"""What generic netlink does with a datagram of requests before and after the commands.

net/netlink/af_netlink.c:netlink_rcv_skb and netlink_ack, net/netlink/genetlink.c, lib/nlattr.c.
"""

import errno
import struct
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

from taskstats.emulator import commands, messages
from taskstats.emulator.errors import Refused
from taskstats.emulator.listeners import Delivery
from taskstats.emulator.messages import Message
from taskstats.emulator.state import State

#: The id under which nlctrl tells the others', and the name that it knows here.
NLCTRL = 0x10
NAME = b"TASKSTATS"
_VERSION = 1

# include/uapi/linux/genetlink.h
_NEW_FAMILY, _GET_FAMILY = 1, 3
_FAMILY_ID, _FAMILY_NAME, _FAMILY_VERSION, _HEADER_SIZE, _MAX_ATTRIBUTE = 1, 2, 3, 4, 5


class _Command(NamedTuple):
    """One of a family's: what it needs, and of what type its attributes are."""

    handler: commands.Handler
    needs_net_admin: bool
    policy: Mapping[int, Literal["u32", "string"]]


_TASKSTATS = {
    commands.GET: _Command(
        commands.get,
        True,
        {
            commands.PID: "u32",
            commands.TGID: "u32",
            commands.REGISTER: "string",
            commands.DEREGISTER: "string",
        },
    ),
    commands.CGROUP_GET: _Command(commands.cgroup_get, False, {commands.CGROUP_FD: "u32"}),
}

#: The least payload that passes. More is let pass too: the policy is the liberal one.
_LEAST = {"u32": 4, "string": 1}

#: From this command on the whole header is looked at (resv_start_op).
_STRICT_FROM = commands.CGROUP_GET + 1
_KNOWN_FLAGS = messages.NLM_F_REQUEST | messages.NLM_F_ACK | messages.NLM_F_ECHO


def _get_family(state: State, request: Message, attributes: commands.Attributes) -> bytes:
    name = attributes.get(_FAMILY_NAME, b"").partition(b"\0")[0]
    if _FAMILY_NAME not in attributes:
        raise Refused(errno.EINVAL)
    if name != NAME:
        raise Refused(errno.ENOENT)
    told = [
        (_FAMILY_NAME, NAME + b"\0"),
        (_FAMILY_ID, struct.pack("=H", state.family)),
        *((type_, struct.pack("=I", n)) for type_, n in _FAMILY_FACTS),
    ]
    attrs = [messages.attribute(*one) for one in told]
    return messages.message(NLCTRL, _NEW_FAMILY, attrs, port=request.port, seq=request.seq)


_FAMILY_FACTS = ((_FAMILY_VERSION, _VERSION), (_HEADER_SIZE, 0), (_MAX_ATTRIBUTE, 0))

_CONTROLLER = {_GET_FAMILY: _Command(_get_family, False, {_FAMILY_NAME: "string"})}


def _attributes(command: _Command, data: bytes) -> dict[int, bytes]:
    """The known ones; of a type that comes again, the last (nla_parse)."""
    found = {}
    for type_, payload in messages.attributes(data):
        if type_ in command.policy:
            if len(payload) < _LEAST[command.policy[type_]]:
                raise Refused(errno.ERANGE)
            found[type_] = payload
    return found


def _do(state: State, request: Message) -> bytes | None:
    """One request; its reply, if there is one (genl_rcv_msg)."""
    known = {NLCTRL: _CONTROLLER, state.family: _TASKSTATS}.get(request.type)
    if known is None:
        raise Refused(errno.ENOENT)
    if len(request.body) < messages.GENERIC_HEADER_SIZE:
        raise Refused(errno.EINVAL)
    header = messages.generic(request)
    dump = request.flags & messages.NLM_F_DUMP == messages.NLM_F_DUMP
    flags = request.flags & ~messages.NLM_F_DUMP if dump else request.flags
    if header.command >= _STRICT_FROM and (header.reserved or flags & ~_KNOWN_FLAGS):
        raise Refused(errno.EINVAL)
    command = known.get(header.command)
    if command is None or dump:
        raise Refused(errno.EOPNOTSUPP)
    if command.needs_net_admin and not state.caller.net_admin:
        raise Refused(errno.EPERM)
    attributes = _attributes(command, request.body[messages.GENERIC_HEADER_SIZE :])
    return command.handler(state, request, attributes)


def answer(
    state: State, port: int, datagram: bytes, deliver: Callable[[int, bytes], Delivery]
) -> None:
    """Does what a datagram asks for, in order: each reply comes before its ACK.

    A bug, or a figure that is none, is EIO to who asked, who would else wait, and is raised in
    the end.
    """
    bug = None
    for request in messages.messages(port, datagram):
        code = 0
        if request.flags & messages.NLM_F_REQUEST and request.type >= messages.NLMSG_MIN_TYPE:
            try:
                reply = _do(state, request)
                if reply is not None and deliver(port, reply) == "full":
                    code = errno.EAGAIN
            except Refused as refusal:
                code = refusal.errno
            except Exception as error:
                code, bug = errno.EIO, bug or error
        if code or request.flags & messages.NLM_F_ACK:
            deliver(port, messages.error(request, code))
    if bug:
        raise bug
