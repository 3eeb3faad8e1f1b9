"""What generic netlink does with a datagram of requests before and after the commands.

net/netlink/af_netlink.c:netlink_rcv_skb and netlink_ack, net/netlink/genetlink.c, lib/nlattr.c.
"""

import errno
import struct
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, TypeAlias

from taskstats.emulator import commands, messages
from taskstats.emulator.errors import Refused
from taskstats.emulator.listeners import Delivery
from taskstats.emulator.messages import Message
from taskstats.emulator.state import State

_U16, _U32 = struct.Struct("=H"), struct.Struct("=I")

#: The id of nlctrl, which tells the others'.
NLCTRL = 0x10

# include/uapi/linux/genetlink.h
_NEW_FAMILY, _GET_FAMILY, _GET_POLICY = 1, 3, 10
_FAMILY_ID, _FAMILY_NAME, _FAMILY_VERSION, _HEADER_SIZE, _MAX_ATTRIBUTE = 1, 2, 3, 4, 5
_NAME_SIZE = 16

#: A number, a list of CPUs, or the name of a family.
_Type: TypeAlias = Literal["u16", "u32", "string", "name"]

#: The least payload that passes. More is let pass too: the policy is the liberal one.
_LEAST: dict[_Type, int] = {"u16": 2, "u32": 4, "string": 1, "name": 0}


class _Command(NamedTuple):
    """One of a family's: what it needs, and of what type its attributes are."""

    handler: commands.Handler
    needs_net_admin: bool
    policy: Mapping[int, _Type]


class _Family(NamedTuple):
    """A family.

    Attributes:
        strict_from: From this command on the whole header is looked at (resv_start_op).
    """

    name: bytes
    version: int
    strict_from: int
    commands: Mapping[int, _Command]


def _get_family(state: State, request: Message, attributes: commands.Attributes) -> bytes:
    """CTRL_CMD_GETFAMILY: of a name and an id, the name decides (ctrl_getfamily)."""
    families = _families(state)
    if _FAMILY_NAME in attributes:
        name = attributes[_FAMILY_NAME].partition(b"\0")[0]
        id_ = next((id_ for id_, family in families.items() if family.name == name), 0)
    elif _FAMILY_ID in attributes:
        (id_,) = _U16.unpack_from(attributes[_FAMILY_ID])
    else:
        raise Refused(errno.EINVAL)
    if id_ not in families:
        raise Refused(errno.ENOENT)
    numbers = [(_FAMILY_VERSION, families[id_].version), (_HEADER_SIZE, 0), (_MAX_ATTRIBUTE, 0)]
    told = [
        (_FAMILY_NAME, families[id_].name + b"\0"),
        (_FAMILY_ID, _U16.pack(id_)),
        *((type_, _U32.pack(number)) for type_, number in numbers),
    ]
    attrs = [messages.attribute(*one) for one in told]
    return messages.message(
        NLCTRL,
        _NEW_FAMILY,
        attrs,
        port=request.port,
        seq=request.seq,
        version=_CONTROLLER.version,
    )


_CONTROLLER = _Family(
    b"nlctrl",
    2,
    _GET_POLICY + 1,
    {_GET_FAMILY: _Command(_get_family, False, {_FAMILY_ID: "u16", _FAMILY_NAME: "name"})},
)

_TASKSTATS = _Family(
    b"TASKSTATS",
    1,
    commands.CGROUP_GET + 1,
    {
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
    },
)

_KNOWN_FLAGS = messages.NLM_F_REQUEST | messages.NLM_F_ACK | messages.NLM_F_ECHO


def _families(state: State) -> dict[int, _Family]:
    """Those that there are, by id."""
    return {NLCTRL: _CONTROLLER, state.family: _TASKSTATS}


def _attributes(command: _Command, data: bytes) -> dict[int, bytes]:
    """The known ones; of a type that comes again, the last (nla_parse)."""
    found = {}
    for type_, payload in messages.attributes(data):
        if type_ in command.policy:
            _validate(command.policy[type_], payload)
            found[type_] = payload
    return found


def _validate(type_: _Type, payload: bytes) -> None:
    """Whether a payload passes (validate_nla)."""
    if len(payload) < _LEAST[type_]:
        raise Refused(errno.ERANGE)
    if type_ == "name":
        if b"\0" not in payload[:_NAME_SIZE]:
            raise Refused(errno.EINVAL)
        if len(payload.removesuffix(b"\0")) >= _NAME_SIZE:
            raise Refused(errno.ERANGE)


def _do(state: State, request: Message) -> bytes | None:
    """One request; its reply, if there is one (genl_rcv_msg)."""
    family = _families(state).get(request.type)
    if family is None:
        raise Refused(errno.ENOENT)
    if len(request.body) < messages.GENERIC_HEADER_SIZE:
        raise Refused(errno.EINVAL)
    header = messages.generic(request)
    dump = request.flags & messages.NLM_F_DUMP == messages.NLM_F_DUMP
    flags = request.flags & ~messages.NLM_F_DUMP if dump else request.flags
    if header.command >= family.strict_from and (header.reserved or flags & ~_KNOWN_FLAGS):
        raise Refused(errno.EINVAL)
    command = family.commands.get(header.command)
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
