"""Cases: CPU lists, who is registered where, and who gets what."""

import socket
from collections.abc import Sequence

from conformance import messages
from conformance.generic import NO_NETNSOK
from conformance.messages import DEREGISTER, REGISTER, Request, attribute, deregister, register
from conformance.table import Otherwise, Outcome, Table
from conformance.world import Listener, World, eventually

table = Table()
case = table.case


# ---- lists -----------------------------------------------------------------------------------

_READ = ("parse", "a list that is read")
_NONE = ("parse", "a list that is none")

for name, text in [
    ("one-cpu", "0"),
    ("a-comma-at-the-end", "0,"),
    ("two-commas", "0,,0"),
    ("a-space-before", " 0"),
    ("a-space-behind", "0 "),
    ("a-newline-at-the-end", "0\n"),
    ("letters-behind-a-newline", "0\nabc"),
    ("a-newline-before", "\n0"),
    ("a-range-of-one", "0-0"),
    ("a-group", "0-0:1/2"),
    ("nothing", ""),
    ("a-space", " "),
]:

    @case(
        f"list-{name}",
        _READ,
        ("cmd_attr_register_cpumask", "registers"),
        ("cmd_attr_deregister_cpumask", "deregisters"),
        expects=[["ACK"], ["ACK"]],
    )
    def list_read(world: World, text: str = text) -> Outcome:
        with world.listener() as one:
            return [one.ask(register(text)), one.ask(deregister(text))]


for name, text, since in [("N", "N", "5.12"), ("a-range-to-N", "N-N", "5.12")]:

    @case(
        f"list-{name}",
        _READ,
        expects=["ACK"],
        otherwise=(Otherwise(["EINVAL"], f"lib/bitmap.c reads N since Linux {since}"),),
    )
    def list_alias(world: World, text: str = text) -> Outcome:
        return world.ask(deregister(text))


@case(
    "list-all",
    _READ,
    ("add_del_listener", "a CPU that is not possible"),
    expects="read",
    otherwise=(Otherwise("not read", "lib/bitmap.c reads all since Linux 5.13"),),
)
def list_all(world: World) -> Outcome:
    """All up to the last possible one; and so none where there is a hole."""
    has_hole = world.lacks("a hole among the possible CPUs") is None
    told = world.ask(deregister("all"))
    return "read" if told == (["EINVAL"] if has_hole else ["ACK"]) else "not read"


for name, text in [
    ("letters", "abc"),
    ("a-number-below-0", "-1"),
    ("a-range-without-its-end", "0-"),
    ("two-ranges-at-once", "0-0-0"),
    ("letters-behind-a-number", "0x0"),
    ("a-group-of-none", "0-0:1/0"),
    ("a-group-that-uses-more", "0-0:2/1"),
    ("a-group-cut", "0-0:1"),
    ("a-group-of-a-number", "0:1/1"),
    ("letters-behind-a-newline-before-all", "\nabc"),
    ("letters-behind-a-group-and-a-newline", "0-0:1/2\nabc"),
    ("the-last-number-of-32-bits", "4294967295"),
]:

    @case(
        f"list-{name}",
        _NONE,
        ("cmd_attr_register_cpumask", "the list is refused"),
        ("cmd_attr_deregister_cpumask", "the list is refused"),
        expects=[["EINVAL"], ["EINVAL"]],
    )
    def list_none(world: World, text: str = text) -> Outcome:
        with world.listener() as one:
            return [one.ask(register(text)), one.ask(deregister(text))]


@case("list-a-range-backwards", _NONE, expects=["EINVAL"], needs=("two CPUs",))
def backwards(world: World) -> Outcome:
    return world.ask(register(f"{world.cpus[1]}-{world.cpus[0]}"))


@case("list-a-number-beyond-32-bits", _NONE, expects=["EOVERFLOW"])
def overflow(world: World) -> Outcome:
    return world.ask(register("4294967296"))


_BUILT_FOR_MORE = Otherwise(
    {"next": ["EINVAL"], "a range": ["EINVAL"]},
    "where masks have as many bits as the kernel is built for (nr_cpumask_bits is NR_CPUS) the "
    "list can be read, and add_del_listener refuses it",
)


@case(
    "list-a-cpu-beyond-the-last",
    _NONE,
    expects={"next": ["ERANGE"], "a range": ["ERANGE"]},
    otherwise=(_BUILT_FOR_MORE,),
)
def beyond(world: World) -> Outcome:
    n = world.n_cpus
    return {"next": world.ask(register(str(n))), "a range": world.ask(register(f"0-{n}"))}


@case(
    "list-a-cpu-in-a-hole",
    ("add_del_listener", "a CPU that is not possible"),
    expects=[["EINVAL"], ["EINVAL"], ["ACK"]],
    needs=("a hole among the possible CPUs",),
)
def hole(world: World) -> Outcome:
    missing = next(cpu for cpu in range(world.n_cpus) if cpu not in world.cpus)
    return [
        world.ask(register(str(missing))),
        world.ask(deregister(f"0-{world.n_cpus - 1}")),
        world.ask(deregister(world.possible)),
    ]


@case(
    "list-as-long-as-can-be",
    ("parse", "longer than the limit"),
    expects={"at the limit": ["ACK"], "beyond": ["E2BIG"], "limit": "100 + 6 times a number"},
)
def longest(world: World) -> Outcome:
    def ask(size: int) -> list[str]:
        return world.ask(deregister(b"0".ljust(size - 1, b",") + b"\0"))

    low, high = 100, 65000  # of an attribute's 16 bits
    assert ask(low) == ["ACK"]
    assert ask(high) == ["E2BIG"]
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if ask(middle) == ["ACK"] else (low, middle)
    return {
        "at the limit": ask(low),
        "beyond": ask(high),
        "limit": "100 + 6 times a number" if (low - 100) % 6 == 0 else low,
    }


@case(
    "list-too-long-is-told-before-it-is-read",
    ("parse", "longer than the limit"),
    expects=["E2BIG"],
)
def longest_of_letters(world: World) -> Outcome:
    return world.ask(register(b"x" * 65000))


_DROPS = (
    "before nla_strdup was used the copy had no room for a NUL, which took the last character's "
    "place"
)


@case(
    "list-without-a-nul",
    ("parse", "a list without a NUL"),
    expects={"0": ["ACK"], "00": ["ACK"], "0-": ["EINVAL"], "x": ["EINVAL"]},
    otherwise=(
        Otherwise(
            {"0": ["ACK"], "00": ["ACK"], "0-": ["ACK"], "x": ["ACK"]},
            _DROPS,
        ),
    ),
)
def without_nul(world: World) -> Outcome:
    return {text: world.ask(deregister(text.encode())) for text in ("0", "00", "0-", "x")}


@case(
    "list-without-a-nul-registers",
    ("parse", "a list without a NUL"),
    expects="as asked",
    otherwise=(Otherwise("nowhere", _DROPS),),
)
def without_nul_registers(world: World) -> Outcome:
    cpu = world.cpus[0]
    assert cpu < 10, "one character"
    with world.listener() as one:
        assert one.ask(register(str(cpu).encode())) == ["ACK"]
        task = world.spawn(cpu=cpu)
        world.exit(task)
        heard = one.heard(task)
        one.ask(deregister(world.possible))
    return "as asked" if heard else "nowhere"


@case(
    "list-after-its-nul",
    ("parse", "what follows the NUL is ignored"),
    expects=["ACK"],
)
def after_nul(world: World) -> Outcome:
    return world.ask(deregister(b"0\0junk"))


# ---- registering -----------------------------------------------------------------------------


def _exit_on(world: World, cpu: int) -> int:
    task = world.spawn(cpu=cpu)
    world.exit(task)
    return task.pid


def _hears(world: World, one: Listener, cpus: Sequence[int]) -> list[int]:
    """On how many times the exits of these CPUs are heard."""
    return [len(one.heard(_exit_on(world, cpu))) for cpu in cpus]


@case(
    "an-empty-list-registers-nothing",
    _READ,
    expects=[["ACK"], [0]],
    otherwise=(
        Otherwise(
            [["ACK"], [1]],
            'built for one CPU, for_each_cpu took it without a look at the mask before "cpumask: '
            'fix invalid uniprocessor mask assumption" (Linux 6.0)',
        ),
    ),
)
def empty_registers_nothing(world: World) -> Outcome:
    with world.listener() as one:
        return [one.ask(register("")), _hears(world, one, world.cpus[:1])]


@case(
    "register-on-all",
    ("add_del_listener", "registers on each CPU of the list"),
    ("cmd_attr_register_cpumask", "registers"),
    ("send_cpu_listeners", "one listener gets the message itself"),
    ("send_cpu_listeners", "all were there: none is removed"),
    expects="once on each",
)
def on_all(world: World) -> Outcome:
    cpus = world.cpus[:4]
    with world.listening() as one:
        heard = _hears(world, one, [*cpus, *cpus])
    return "once on each" if heard == [1] * 2 * len(cpus) else heard


@case(
    "register-on-one-of-two",
    ("add_del_listener", "registers on each CPU of the list"),
    ("taskstats_exit", "nobody listens on this CPU"),
    expects=[1, 0],
    needs=("two CPUs",),
)
def on_one_of_two(world: World) -> Outcome:
    with world.listening(world.cpus[0]) as one:
        return _hears(world, one, world.cpus[:2])


@case(
    "register-again",
    ("add_del_listener", "is registered there already"),
    expects={"told": ["ACK"], "heard": [1], "after one deregistration": [0]},
)
def again(world: World) -> Outcome:
    cpus = world.cpus[:1]
    with world.listening() as one:
        told = one.ask(register(world.possible))
        heard = _hears(world, one, cpus)
        one.ask(deregister(world.possible))
        return {
            "told": told,
            "heard": heard,
            "after one deregistration": _hears(world, one, cpus),
        }


@case(
    "deregister",
    ("add_del_listener", "deregisters its own port"),
    ("cmd_attr_deregister_cpumask", "deregisters"),
    expects=[[1], ["ACK"], [0]],
)
def deregistered(world: World) -> Outcome:
    cpus = world.cpus[:1]
    with world.listening() as one:
        return [
            _hears(world, one, cpus),
            one.ask(deregister(world.possible)),
            _hears(world, one, cpus),
        ]


@case(
    "deregister-from-one-of-two",
    ("add_del_listener", "deregisters its own port"),
    expects=[0, 1],
    needs=("two CPUs",),
)
def deregistered_from_one(world: World) -> Outcome:
    with world.listening() as one:
        one.ask(deregister(str(world.cpus[0])))
        return _hears(world, one, world.cpus[:2])


@case(
    "deregister-what-was-never-registered",
    ("add_del_listener", "was not registered"),
    expects=["ACK"],
)
def never_registered(world: World) -> Outcome:
    return world.ask(deregister(world.possible))


@case(
    "deregister-does-not-touch-another-port",
    ("add_del_listener", "deregisters its own port"),
    ("add_del_listener", "was not registered"),
    expects=[["ACK"], [1]],
)
def of_another_port(world: World) -> Outcome:
    with world.listening() as one, world.listener() as other:
        return [other.ask(deregister(world.possible)), _hears(world, one, world.cpus[:1])]


@case(
    "a-list-beside-a-refused-one",
    ("taskstats_user_cmd", "REGISTER comes first"),
    ("cmd_attr_register_cpumask", "the list is refused"),
    expects=[["EINVAL"], [1]],
)
def refused_beside(world: World) -> Outcome:
    """The one that decides is refused: the other does nothing."""
    with world.listening() as one:
        both = messages.cpus(DEREGISTER, world.possible) + messages.cpus(REGISTER, "abc")
        return [one.ask(Request(both)), _hears(world, one, world.cpus[:1])]


@case(
    "listening-in-a-pid-namespace",
    ("add_del_listener", "another PID namespace"),
    expects=[["EINVAL"], ["EINVAL"], ["ERANGE"]],
    needs=("PID namespaces",),
)
def in_a_pid_namespace(world: World) -> Outcome:
    return world.as_(
        "root of a PID namespace",
        lambda w: [
            w.ask(register("0")),
            w.ask(deregister("0")),
            w.ask(Request(attribute(REGISTER))),
        ],
    )


@case(
    "a-list-that-is-none-in-a-pid-namespace",
    _NONE,
    ("add_del_listener", "another PID namespace"),
    expects=["E2BIG"],
    needs=("PID namespaces",),
)
def none_in_a_pid_namespace(world: World) -> Outcome:
    """The list is read first."""
    return world.as_("root of a PID namespace", lambda w: w.ask(register(b"0" * 65000)))


@case(
    "listening-in-another-network-namespace",
    ("send_cpu_listeners", "a port is looked up in the initial network namespace"),
    expects={"told": ["ACK"], "heard": [0]},
    otherwise=(Otherwise({"told": ["ENOENT"], "heard": [0]}, NO_NETNSOK),),
    needs=("network namespaces",),
)
def in_a_network_namespace(world: World) -> Outcome:
    def listen(w: World) -> Outcome:
        with w.listener() as one:
            told = one.ask(register(w.possible))
            return {"told": told, "heard": _hears(w, one, w.cpus[:1])}

    return world.as_("root of a network namespace", listen)


# ---- who gets what ---------------------------------------------------------------------------


@case(
    "several-listeners",
    ("send_cpu_listeners", "several listeners each get a copy"),
    expects=[1, 1, 1],
)
def several(world: World) -> Outcome:
    with world.listening() as a, world.listening() as b, world.listening() as c:
        pid = _exit_on(world, world.cpus[0])
        return [len(one.heard(pid)) for one in (a, b, c)]


@case(
    "a-listener-that-closed-disturbs-nobody",
    ("send_cpu_listeners", "a listener's port is gone: it is removed"),
    ("send_cpu_listeners", "several listeners each get a copy"),
    expects=[[1, 1], [1, 1]],
)
def closed(world: World) -> Outcome:
    cpu = world.cpus[0]
    with world.listening() as first, world.listener() as middle, world.listening() as last:
        middle.ask(register(world.possible))
        middle.close()
        pids = [_exit_on(world, cpu), _exit_on(world, cpu)]
        heard = [[record.id for record in one.heard(*pids)] for one in (first, last)]
    return [[ids.count(pid) for pid in pids] for ids in heard]


def _inherits(world: World, exit_between: bool) -> int:
    """How many exits a socket hears that never registered, at the port of one that did."""
    cpu = world.cpus[0]
    with world.listener() as one:
        one.ask(register(str(cpu)))
        port = one.port
        one.close()
        if exit_between:
            _exit_on(world, cpu)
    with world.listener(port=port) as later:
        heard = len(later.heard(_exit_on(world, cpu)))
        later.ask(deregister(world.possible))
        return heard


@case(
    "a-port-that-is-used-again-inherits",
    ("send_cpu_listeners", "a listener's port is gone: it is removed"),
    expects=True,
)
def inherits(world: World) -> Outcome:
    """Until an exit finds the port gone, whoever has it hears; another's exit may come between."""
    return eventually(lambda: _inherits(world, exit_between=False) == 1)


@case(
    "a-port-that-was-found-gone-is-removed",
    ("send_cpu_listeners", "a listener's port is gone: it is removed"),
    expects=0,
)
def removed(world: World) -> Outcome:
    return _inherits(world, exit_between=True)


@case(
    "a-listener-with-a-full-queue",
    ("send_cpu_listeners", "a listener's queue is full: it stays"),
    ("prepare_reply", "an exit takes the next number of its CPU"),
    expects={
        "heard all": False,
        "numbers of the lost": "used",
        "after it was emptied": "heard",
        "another listener": "heard all",
    },
)
def full(world: World) -> Outcome:
    cpu = world.cpus[0]
    with world.listening(cpu) as other, world.listening(cpu, rcvbuf=8192) as one:
        pids = [_exit_on(world, cpu) for _ in range(40)]
        all_ = other.heard(*pids)
        first = one.heard()
        one.make_room()
        after = one.heard(_exit_on(world, cpu))
        last = other.heard()[-1]
    return {
        "heard all": len({record.id for record in first} & set(pids)) == 40,
        "numbers of the lost": "used" if last.seq >= first[0].seq + 40 else "not",
        "after it was emptied": "heard" if after else "not heard",
        "another listener": "heard all" if len(all_) == 40 else len(all_),
    }


@case(
    "lost-records-count-one-drop-each",
    ("netlink_overrun", "counts drops"),
    ("send_cpu_listeners", "a listener's queue is full: it stays"),
    expects="as many as numbers are missing",
    needs=("drops that the socket counts",),
)
def drops(world: World) -> Outcome:
    cpu = world.cpus[0]
    with world.listening(cpu) as other, world.listening(cpu, rcvbuf=8192) as one:
        for _ in range(40):
            _exit_on(world, cpu)
        one.make_room()
        dropped = one.drops()
        pid = _exit_on(world, cpu)
        (last,) = other.heard(pid)  # others may exit later
        heard = {record.seq for record in one.heard()}
    missing = set(range(min(heard), last.seq + 1)) - heard
    return "as many as numbers are missing" if 0 < dropped == len(missing) else dropped


@case(
    "a-record-and-a-reply-in-one-queue",
    ("send_cpu_listeners", "one listener gets the message itself"),
    ("send_reply", "sent to who asked"),
    expects=["exit", "PID", "exit"],
)
def in_one_queue(world: World) -> Outcome:
    cpu = world.cpus[0]
    with world.listening(cpu) as one:
        first = _exit_on(world, cpu)
        one.send(messages.pid(world.own_pid, messages.NLM_F_REQUEST))
        before = one.answers()
        second = _exit_on(world, cpu)
        both = before + one.waiting()
    told = []
    for message in both:
        found = messages.record(message)
        assert found is not None
        if not messages.is_exit(message):
            told.append("PID")
        elif found.id in (first, second):
            told.append("exit")
    return told


@case(
    "a-datagram-of-another-program-is-not-the-kernels",
    ("netlink_unicast", "the header's port is not looked at"),
    expects=True,
)
def foreign(world: World) -> Outcome:
    """Who may administrate the network may send to any port: the source tells."""
    with world.listener() as one, world.listener() as other:
        one.socket.sendto(b"x" * 16, (other.port, 0))
        _, (source, _) = other.socket.recvfrom(16, socket.MSG_DONTWAIT)
        return source == one.port


# ---- no memory -------------------------------------------------------------------------------


@case(
    "register-without-memory-for-a-listener",
    ("add_del_listener", "no memory for a listener: all of the list is undone"),
    expects={"told": ["ENOMEM"], "heard": [0, 0], "then": ["ACK"]},
    needs=("an allocation that fails", "two CPUs"),
)
def no_memory_for_listener(world: World) -> Outcome:
    """Also what was registered before, of the list's CPUs."""
    cpus = world.cpus[:2]
    with world.listening(cpus[0]) as one:
        world.fail("listener", after=1)
        told = one.ask(register(f"{cpus[0]},{cpus[1]}"))
        heard = _hears(world, one, cpus)
        return {"told": told, "heard": heard, "then": one.ask(register(str(cpus[0])))}


@case(
    "register-without-memory-spares-other-cpus",
    ("add_del_listener", "no memory for a listener: all of the list is undone"),
    expects=[["ENOMEM"], [1, 0]],
    needs=("an allocation that fails", "two CPUs"),
)
def no_memory_spares(world: World) -> Outcome:
    cpus = world.cpus[:2]
    with world.listening(cpus[0]) as one:
        world.fail("listener")
        return [one.ask(register(str(cpus[1]))), _hears(world, one, cpus)]


for name, site, covered in [
    ("the-mask", "cpumask", "no memory for the mask"),
    ("the-copy-of-the-list", "cpulist", None),
]:
    for verb, make in [("register", register), ("deregister", deregister)]:

        @case(
            f"{verb}-without-memory-for-{name}",
            (f"cmd_attr_{verb}_cpumask", covered)
            if covered
            else ("parse", "no memory for the copy"),
            expects=[["ENOMEM"], ["ACK"]],
            needs=("an allocation that fails",),
        )
        def no_memory_for_list(world: World, site: str = site, make=make) -> Outcome:  # type: ignore[no-untyped-def]
            world.fail(site)
            return [world.ask(make("0")), world.ask(make("0"))]


@case(
    "no-memory-for-the-first-copy",
    ("send_cpu_listeners", "no memory for a copy"),
    expects=[[False, False, False], [True, True, True]],
    needs=("an allocation that fails",),
)
def no_first_copy(world: World) -> Outcome:
    """Nobody gets it, its number is used, and nobody is removed."""
    return _copies(world, after=0)


@case(
    "no-memory-for-the-second-copy",
    ("send_cpu_listeners", "no memory for a copy"),
    expects=[[False, False, True], [True, True, True]],
    needs=("an allocation that fails",),
)
def no_second_copy(world: World) -> Outcome:
    """The newest listener is served first."""
    return _copies(world, after=1)


def _copies(world: World, after: int) -> Outcome:
    cpu = world.cpus[0]
    with world.listening(cpu) as a, world.listening(cpu) as b, world.listening(cpu) as c:
        world.fail("clone", after)
        pids = [_exit_on(world, cpu), _exit_on(world, cpu)]
        heard = [{record.id for record in one.heard(*pids)} for one in (a, b, c)]
    return [[pid in ids for ids in heard] for pid in pids]


@case(
    "query-without-memory-for-the-reply",
    ("prepare_reply", "no memory for the message"),
    ("cmd_attr_pid", "no memory for the message"),
    ("cmd_attr_tgid", "no memory for the message"),
    expects=[["ENOMEM"], ["ENOMEM"], ["PID", "ACK"]],
    needs=("an allocation that fails",),
)
def no_memory_for_reply(world: World) -> Outcome:
    told = []
    for make in (messages.pid, messages.tgid):
        world.fail("reply")
        told.append(world.ask(make(world.own_pid)))
    return [*told, world.ask(messages.pid(world.own_pid))]
