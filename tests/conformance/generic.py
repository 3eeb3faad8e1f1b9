"""Cases: Generic netlink, before and after the commands."""

import socket
import sys

from conformance import messages
from conformance.messages import (
    CGROUP_GET,
    CTRL_ATTR_FAMILY_ID,
    CTRL_ATTR_FAMILY_NAME,
    CTRL_ATTR_HDRSIZE,
    CTRL_ATTR_VERSION,
    CTRL_CMD_GETFAMILY,
    FD,
    NLA_F_NESTED,
    NLA_F_NET_BYTEORDER,
    NLCTRL,
    NLM_F_ACK,
    NLM_F_DUMP,
    NLM_F_ECHO,
    NLM_F_REQUEST,
    PID,
    REGISTER,
    TGID,
    Request,
    attribute,
    pid,
    u32,
)
from conformance.table import Otherwise, Outcome, Table
from conformance.world import NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK, World

table = Table()
case = table.case

NO_NETNSOK = (
    "the family had no netnsok (Linux 5.10), and was there in the initial network namespace alone"
)

#: Above any pid there can be (PID_MAX_LIMIT).
NOBODY = 1 << 30


# ---- datagrams and messages ------------------------------------------------------------------


@case(
    "several-in-one-datagram",
    ("netlink_rcv_skb", "several messages in one datagram"),
    ("netlink_rcv_skb", "an error is told unasked"),
    expects=["PID", "ESRCH", "TGID", "EINVAL", "PID"],
)
def several(world: World) -> Outcome:
    id_ = world.own_pid
    quiet = NLM_F_REQUEST
    return world.ask(
        pid(id_, quiet),
        pid(NOBODY, quiet),
        messages.tgid(id_, quiet),
        Request(flags=quiet),
        pid(id_, quiet),
    )


@case(
    "ack-comes-after-the-reply",
    ("netlink_rcv_skb", "acknowledged if asked, after the reply"),
    expects=["PID", "ACK", "PID"],
)
def ack_after_reply(world: World) -> Outcome:
    return world.ask(pid(world.own_pid), pid(world.own_pid, NLM_F_REQUEST))


@case(
    "a-refused-request-has-no-second-ack",
    ("netlink_rcv_skb", "an error is told unasked"),
    expects=["ESRCH"],
)
def no_second_ack(world: World) -> Outcome:
    return world.ask(pid(NOBODY))


@case("not-a-request", ("netlink_rcv_skb", "not a request"), expects=["PID"])
def not_a_request(world: World) -> Outcome:
    return world.ask(pid(world.own_pid, 0), pid(world.own_pid, NLM_F_REQUEST))


@case("not-a-request-with-ack", ("netlink_rcv_skb", "not a request"), expects=["ACK"])
def not_a_request_with_ack(world: World) -> Outcome:
    return world.ask(pid(world.own_pid, NLM_F_ACK))


@case("control-message", ("netlink_rcv_skb", "a control message"), expects=["ACK"])
def control_message(world: World) -> Outcome:
    return world.ask(Request(type=1), Request(type=15, flags=NLM_F_REQUEST))


for name, length in [("too-long", 4096), ("zero", 0), ("shorter-than-a-header", 15)]:

    @case(
        f"message-length-{name}",
        ("netlink_rcv_skb", "a length that cannot be ends it"),
        expects=["PID", "ACK"],
    )
    def length_that_cannot_be(world: World, length: int = length) -> Outcome:
        good = pid(world.own_pid)
        return world.ask(good, Request(good.attributes, length=length), good)


@case("no-generic-header", ("genl_rcv_msg", "shorter than its header"), expects=["EINVAL"])
def no_generic_header(world: World) -> Outcome:
    return world.ask(Request(headless=True))


@case(
    "reply-has-number-and-port-of-the-request",
    ("prepare_reply", "a reply has the request's number and port"),
    ("netlink_unicast", "the header's port is not looked at"),
    expects={"numbers": [1, 2, 2], "ports": "the asker's"},
)
def number_and_port(world: World) -> Outcome:
    with world.listener() as one:
        request = pid(world.own_pid)
        one.send(
            Request(request.attributes, flags=NLM_F_REQUEST, port=424242),
            Request(request.attributes, port=1),
        )
        heads = [messages.header(answer) for answer in one.answers()]
        ports = {head.port for head in heads}
        return {
            "numbers": [head.seq for head in heads],
            "ports": "the asker's" if ports == {one.port} else ports,
        }


@case(
    "ack-and-error-with-cap-ack",
    ("netlink_ack", "repeats the request, or its header alone"),
    expects=[["ACK", 36, True, "header repeated"], ["ESRCH", 36, True, "header repeated"]],
)
def capped(world: World) -> Outcome:
    with world.listener() as one:
        sent = [Request(type=1), pid(NOBODY)]
        one.send(*sent)
        return [
            [
                messages.told(answer, one.family),
                len(answer),
                bool(messages.header(answer).flags & messages.NLM_F_CAPPED),
                "header repeated"
                if answer[20:36] == request.bytes(one.family, seq)[:16]
                else answer[20:].hex(),
            ]
            for seq, (request, answer) in enumerate(zip(sent, one.answers(), strict=True), 1)
        ]


@case(
    "error-without-cap-ack",
    ("netlink_ack", "repeats the request, or its header alone"),
    expects=["ESRCH", "request repeated", False],
    needs=("options of the sender's socket",),
)
def uncapped(world: World) -> Outcome:
    with world.listener(options=()) as one:
        one.send(pid(NOBODY))
        (answer,) = one.answers()
        return [
            messages.told(answer, one.family),
            "request repeated" if answer[20:] == pid(NOBODY).bytes(one.family, 1) else answer.hex(),
            bool(messages.header(answer).flags & messages.NLM_F_CAPPED),
        ]


@case(
    "extended-ack",
    ("netlink_ack", "extended: what was wrong, and where"),
    expects={"text": "Attribute failed policy validation", "offset": 20, "of ESRCH": None},
    needs=("options of the sender's socket",),
)
def extended(world: World) -> Outcome:
    with world.listener(options=(NETLINK_EXT_ACK,)) as one:
        one.send(Request(attribute(PID)), pid(NOBODY))
        policy, other = one.answers()
        start = 20 + 24  # the header, the errno, and the request of 24 bytes that is repeated
        told = {part.type: part.payload for part in messages.attributes(policy, start)}
        return {
            "text": told[messages.NLMSGERR_ATTR_MSG].rstrip(b"\0").decode(),
            "offset": int.from_bytes(told[messages.NLMSGERR_ATTR_OFFS], sys.byteorder),
            "of ESRCH": None if len(other) == 20 + 28 else other.hex(),
        }


@case(
    "strict-checking-of-the-socket",
    ("nla_validate", "too long"),
    expects=["PID", "ACK"],
    needs=("options of the sender's socket",),
)
def strict_socket(world: World) -> Outcome:
    with world.listener(options=(NETLINK_GET_STRICT_CHK,)) as one:
        return one.ask(Request(u32(77, 1) + attribute(PID, _number(world.own_pid) + bytes(4))))


@case(
    "queue-of-the-asker-is-full",
    ("send_reply", "the asker's queue is full"),
    expects={"first": "PID", "all": False, "in order": True},
)
def full_queue(world: World) -> Outcome:
    with world.listener(rcvbuf=16384) as one:
        one.send(*[pid(world.own_pid, NLM_F_REQUEST)] * 300)
        with world.listener() as other:  # its answers come after all of the first one's
            other.answers()
        answers = one.waiting()
        numbers = [messages.header(answer).seq for answer in answers]
        told = [messages.told(answer, one.family) for answer in answers]
        return {
            "first": told[0],
            "all": told.count("PID") == 300,
            "in order": numbers == sorted(numbers),
        }


@case(
    "a-lost-reply-counts-two-drops",
    ("send_reply", "the asker's queue is full"),
    ("netlink_overrun", "counts drops"),
    expects=2,
    needs=("drops that the socket counts",),
)
def lost_reply(world: World) -> Outcome:
    """Its error does not fit either."""
    with world.listener(rcvbuf=16384) as one:
        one.send(*[pid(world.own_pid, NLM_F_REQUEST)] * 300)
        before = one.drops()
        one.send(pid(world.own_pid, NLM_F_REQUEST))
        return one.drops() - before


@case(
    "enobufs-once-before-what-is-queued",
    ("netlink_overrun", "tells ENOBUFS once"),
    expects=["ENOBUFS", "PID"],
    needs=("ENOBUFS after an overflow",),
)
def enobufs(world: World) -> Outcome:
    with world.listener(rcvbuf=16384, options=()) as one:
        one.send(*[pid(world.own_pid, NLM_F_REQUEST)] * 300)
        told = []
        for _ in range(2):
            try:
                told.append(messages.told(one.socket.recv(4096), one.family))
            except OSError as error:
                told.append(messages.name_of(error))
        return told


# ---- families and commands -------------------------------------------------------------------


@case("unknown-family", ("genl_rcv_msg", "no such family"), expects=["ENOENT"])
def unknown_family(world: World) -> Outcome:
    return world.ask(Request(type=0xFFF0))


def _lookup(name: str) -> Request:
    payload = name.encode() + b"\0"
    return Request(
        attribute(CTRL_ATTR_FAMILY_NAME, payload), CTRL_CMD_GETFAMILY, NLM_F_REQUEST, NLCTRL
    )


@case(
    "family-by-name",
    ("family", "its name, version and header"),
    expects={"id": "the one that answers", "name": "TASKSTATS", "version": 1, "header": 0},
)
def family_by_name(world: World) -> Outcome:
    with world.listener() as one:
        one.send(_lookup("TASKSTATS"))
        (answer,) = one.answers()
        told = {part.type: part.payload for part in messages.attributes(answer)}
        id_ = int.from_bytes(told[CTRL_ATTR_FAMILY_ID], sys.byteorder)
        return {
            "id": "the one that answers" if id_ == one.family else id_,
            "name": told[CTRL_ATTR_FAMILY_NAME].rstrip(b"\0").decode(),
            "version": int.from_bytes(told[CTRL_ATTR_VERSION], sys.byteorder),
            "header": int.from_bytes(told[CTRL_ATTR_HDRSIZE], sys.byteorder),
        }


@case(
    "family-from-another-network-namespace",
    ("family", "seen from every network namespace"),
    expects=["NEWFAMILY"],
    otherwise=(Otherwise(["ENOENT"], NO_NETNSOK),),
    needs=("network namespaces",),
)
def family_from_elsewhere(world: World) -> Outcome:
    return world.as_("root of a network namespace", lambda w: w.ask(_lookup("TASKSTATS")))


@case("family-by-an-unknown-name", ("ctrl_getfamily", "no such family"), expects=["ENOENT"])
def unknown_name(world: World) -> Outcome:
    return world.ask(_lookup("taskstats"))


@case(
    "unknown-commands",
    ("taskstats_ops", "no other command, and no dump"),
    expects={0: ["EOPNOTSUPP"], 2: ["EOPNOTSUPP"], 3: ["EOPNOTSUPP"], 5: ["EOPNOTSUPP"]},
)
def unknown_commands(world: World) -> Outcome:
    attributes = u32(PID, world.own_pid)
    return {command: world.ask(Request(attributes, command)) for command in (0, 2, 3, 5)}


@case("dump", ("taskstats_ops", "no other command, and no dump"), expects=["EOPNOTSUPP"] * 2)
def dump(world: World) -> Outcome:
    flags = NLM_F_REQUEST | NLM_F_DUMP
    return world.ask(Request(flags=flags)) + world.ask(Request(command=CGROUP_GET, flags=flags))


@case(
    "version-echo-and-reserved-are-not-looked-at",
    ("genl_rcv_msg", "version and echo are not looked at"),
    ("family", "reserved bytes count above CGROUPSTATS_CMD_GET"),
    expects=["PID", "PID", "PID"],
)
def not_looked_at(world: World) -> Outcome:
    attributes = u32(PID, world.own_pid)
    return world.ask(
        Request(attributes, flags=NLM_F_REQUEST, version=99),
        Request(attributes, flags=NLM_F_REQUEST | NLM_F_ECHO),
        Request(attributes, flags=NLM_F_REQUEST, reserved=1),
    )


_BEFORE_STRICT = Otherwise(
    ["EOPNOTSUPP"],
    'before "genetlink: start to validate reserved header bytes" (Linux 6.1) none are looked at',
)


@case(
    "reserved-bytes-of-a-later-command",
    ("family", "reserved bytes count above CGROUPSTATS_CMD_GET"),
    expects=["EINVAL"],
    otherwise=(_BEFORE_STRICT,),
)
def reserved(world: World) -> Outcome:
    return world.ask(Request(command=CGROUP_GET + 1, reserved=1))


@case(
    "flags-of-a-later-command",
    ("family", "reserved bytes count above CGROUPSTATS_CMD_GET"),
    expects=["EINVAL"],
    otherwise=(_BEFORE_STRICT,),
)
def flags_of_a_later_command(world: World) -> Outcome:
    return world.ask(Request(command=CGROUP_GET + 1, flags=NLM_F_REQUEST | 0x1000))


# ---- rights ----------------------------------------------------------------------------------


def _all_kinds(world: World) -> Outcome:
    id_ = world.own_pid
    kinds = {
        "PID": pid(id_),
        "TGID": messages.tgid(id_),
        "REGISTER": messages.register("0"),
        "DEREGISTER": messages.deregister("0"),
        "no attribute": Request(),
        "an attribute too short": Request(attribute(PID)),
    }
    return {name: world.ask(request) for name, request in kinds.items()}


_ALL_EPERM = {
    "PID": ["EPERM"],
    "TGID": ["EPERM"],
    "REGISTER": ["EPERM"],
    "DEREGISTER": ["EPERM"],
    "no attribute": ["EPERM"],
    "an attribute too short": ["EPERM"],
}


@case(
    "an-ordinary-user",
    ("taskstats_ops", "GET needs CAP_NET_ADMIN"),
    ("genl_rcv_msg", "rights are looked at before attributes"),
    expects=_ALL_EPERM,
)
def ordinary_user(world: World) -> Outcome:
    return world.as_("an ordinary user", _all_kinds)


@case(
    "root-without-the-capability",
    ("taskstats_ops", "GET needs CAP_NET_ADMIN"),
    expects=_ALL_EPERM,
)
def root_without_capability(world: World) -> Outcome:
    return world.as_("root without CAP_NET_ADMIN", _all_kinds)


@case(
    "root-of-a-user-namespace",
    ("taskstats_ops", "GET needs CAP_NET_ADMIN"),
    expects=_ALL_EPERM,
    needs=("user namespaces",),
)
def root_of_user_namespace(world: World) -> Outcome:
    return world.as_("root of a user namespace", _all_kinds)


@case(
    "unknown-command-without-the-capability",
    ("genl_rcv_msg", "no such command, before rights are looked at"),
    expects=["EOPNOTSUPP"],
)
def unknown_command_of_a_user(world: World) -> Outcome:
    return world.as_("an ordinary user", lambda w: w.ask(Request(command=3)))


@case(
    "capability-lost-after-the-opening",
    ("genl_rcv_msg", "rights of who opened and of who sends"),
    expects=["EPERM"],
    needs=("rights that are lost or gained after the opening",),
)
def lost_after_opening(world: World) -> Outcome:
    with world.listener() as one:
        return world.as_("an ordinary user", lambda w: one.ask(pid(w.own_pid)))


def _ask_on_a_users_socket(world: World, connected: bool) -> Outcome:
    """A user opens it, and hands it to who may ask."""

    def open_and_hand_over(w: World) -> None:
        with w.listener() as one:
            socket.send_fds(theirs, [b"x"], [one.socket.fileno()])

    ours, theirs = socket.socketpair()
    with ours, theirs:
        world.as_("an ordinary user", open_and_hand_over)
        _, (fd,), _, _ = socket.recv_fds(ours, 1, 1)
    with world.listener() as one:
        one.close()
        one.socket = socket.socket(fileno=fd)
        if connected:
            one.connect()
        return one.ask(pid(world.own_pid))


@case(
    "capability-gained-after-the-opening",
    ("genl_rcv_msg", "rights of who opened and of who sends"),
    expects=["EPERM"],
    needs=("rights that are lost or gained after the opening",),
)
def gained_after_opening(world: World) -> Outcome:
    return _ask_on_a_users_socket(world, connected=True)


@case(
    "capability-gained-and-the-receiver-named",
    ("genl_rcv_msg", "rights of who opened and of who sends"),
    expects=["PID", "ACK"],
    needs=("rights that are lost or gained after the opening",),
)
def gained_and_named(world: World) -> Outcome:
    """Whose datagram names its receiver answers for it, whoever opened the socket."""
    return _ask_on_a_users_socket(world, connected=False)


# ---- attributes ------------------------------------------------------------------------------


def _number(value: int) -> bytes:
    return value.to_bytes(4, sys.byteorder)


for name, payload in [("empty", b""), ("of-two-bytes", b"\1\0")]:
    for attribute_name, type_, command, covered in [
        ("pid", PID, messages.GET, "policy of GET"),
        ("tgid", TGID, messages.GET, "policy of GET"),
        ("fd", FD, CGROUP_GET, "policy of CGROUPSTATS_CMD_GET"),
    ]:

        @case(
            f"{attribute_name}-{name}",
            ("taskstats_ops", covered),
            ("nla_validate", "too short"),
            expects=["ERANGE"],
        )
        def too_short(
            world: World, type_: int = type_, payload: bytes = payload, command: int = command
        ) -> Outcome:
            return world.ask(Request(attribute(type_, payload), command))


for attribute_name, type_ in [("register", REGISTER), ("deregister", messages.DEREGISTER)]:

    @case(
        f"{attribute_name}-empty",
        ("taskstats_ops", "policy of GET"),
        ("nla_validate", "too short"),
        expects=["ERANGE"],
    )
    def empty_list(world: World, type_: int = type_) -> Outcome:
        return world.ask(Request(attribute(type_)))


@case(
    "all-attributes-are-validated",
    ("taskstats_ops", "policy of GET"),
    ("nla_validate", "too short"),
    expects=["ERANGE"],
)
def all_validated(world: World) -> Outcome:
    """Also one that would not be used."""
    return world.ask(Request(u32(PID, world.own_pid) + attribute(TGID)))


@case(
    "attribute-of-eight-bytes",
    ("nla_validate", "too long"),
    expects=["PID", "ACK"],
)
def too_long(world: World) -> Outcome:
    return world.ask(Request(attribute(PID, _number(world.own_pid) + b"\xff" * 4)))


@case(
    "flags-in-the-attribute-type",
    ("nla_parse", "flags in the type are passed over"),
    expects=["PID", "PID"],
)
def flags_in_type(world: World) -> Outcome:
    return world.ask(
        *(
            Request(u32(PID | flag, world.own_pid), flags=NLM_F_REQUEST)
            for flag in (NLA_F_NESTED, NLA_F_NET_BYTEORDER)
        )
    )


@case(
    "attribute-twice",
    ("nla_parse", "of a type that comes twice the last counts"),
    expects=[["PID", "ACK"], ["ESRCH"]],
)
def twice(world: World) -> Outcome:
    own, none = u32(PID, world.own_pid), u32(PID, NOBODY)
    return [world.ask(Request(none + own)), world.ask(Request(own + none))]


@case(
    "unknown-attribute-beside-a-known-one",
    ("nla_parse", "unknown attributes are passed over"),
    expects=["PID", "ACK"],
)
def unknown_beside(world: World) -> Outcome:
    own = u32(PID, world.own_pid)
    return world.ask(Request(attribute(77, b"later") + own + attribute(0, b"zero")))


@case(
    "unknown-attribute-alone",
    ("nla_parse", "unknown attributes are passed over"),
    ("taskstats_user_cmd", "none of them"),
    expects=["EINVAL"],
)
def unknown_alone(world: World) -> Outcome:
    return world.ask(Request(u32(77, world.own_pid)))


for name, rest, answer in [
    ("three-bytes", b"\1\2\3", ["PID", "ACK"]),
    ("a-length-below-four", b"\2\0\2\0", ["PID", "ACK"]),
    ("a-length-beyond-the-message", b"\x40\0\2\0", ["PID", "ACK"]),
]:

    @case(
        f"after-the-attributes-{name}",
        ("nla_parse", "what is left after the last attribute"),
        expects=answer,
    )
    def left_over(world: World, rest: bytes = rest) -> Outcome:
        return world.ask(Request(u32(PID, world.own_pid) + rest))


for name, length in [("below-four", 2), ("beyond-the-message", 64)]:

    @case(
        f"attribute-length-{name}",
        ("nla_parse", "what is left after the last attribute"),
        ("taskstats_user_cmd", "none of them"),
        expects=["EINVAL"],
    )
    def length_of_attribute(world: World, length: int = length) -> Outcome:
        return world.ask(Request(attribute(PID, _number(world.own_pid), length)))
