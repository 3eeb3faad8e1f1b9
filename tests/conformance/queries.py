"""Cases: Queries, and what is in a reply."""

from support import wire

from conformance import messages
from conformance.generic import NO_NETNSOK, NOBODY
from conformance.messages import (
    DEREGISTER,
    NLM_F_REQUEST,
    PID,
    REGISTER,
    TGID,
    Request,
    cpus,
    pid,
    tgid,
    u32,
)
from conformance.table import Otherwise, Outcome, Table
from conformance.world import World

table = Table()
case = table.case

FORGETS = (
    'before "taskstats: retain dead thread stats in TGID queries" times and switches of threads '
    "that ended are not kept"
)

#: What the kernel keeps of a group; extremes are of one thread.
_SUMMED = {name for name, member in wire.MEMBERS.items() if member.summed}
_EXTREME = {name for name in wire.MEMBERS if "_delay_max" in name or "_delay_min" in name}


# ---- which attribute decides -----------------------------------------------------------------


@case(
    "register-before-all",
    ("taskstats_user_cmd", "REGISTER comes first"),
    expects={"told": ["ACK"], "registered": True},
)
def register_first(world: World) -> Outcome:
    own = u32(PID, world.own_pid) + u32(TGID, world.own_pid)
    text = world.possible
    both = cpus(DEREGISTER, text) + cpus(REGISTER, text)
    with world.listener() as one:
        told = one.ask(Request(own + both))
        task = world.spawn(cpu=world.cpus[0])
        world.exit(task)
        heard = one.heard(task)
        one.send(messages.deregister(text))
        return {"told": told, "registered": len(heard) == 1}


@case(
    "deregister-before-queries",
    ("taskstats_user_cmd", "then DEREGISTER"),
    expects={"told": ["ACK"], "registered": False},
)
def deregister_second(world: World) -> Outcome:
    own = u32(PID, world.own_pid) + u32(TGID, world.own_pid)
    with world.listening() as one:
        told = one.ask(Request(own + cpus(DEREGISTER, world.possible)))
        task = world.spawn(cpu=world.cpus[0])
        world.exit(task)
        return {"told": told, "registered": bool(one.heard(task))}


@case("pid-before-tgid", ("taskstats_user_cmd", "then PID"), expects=["PID", "ACK"])
def pid_before_tgid(world: World) -> Outcome:
    return world.ask(Request(u32(TGID, NOBODY) + u32(PID, world.own_pid)))


@case("tgid-last", ("taskstats_user_cmd", "then TGID"), expects=["TGID", "ACK"])
def tgid_last(world: World) -> Outcome:
    return world.ask(tgid(world.own_pid))


@case("no-attribute", ("taskstats_user_cmd", "none of them"), expects=["EINVAL"])
def no_attribute(world: World) -> Outcome:
    return world.ask(Request())


# ---- who is not there ------------------------------------------------------------------------

for name, make in [("pid", pid), ("tgid", tgid)]:

    @case(
        f"{name}-of-nobody",
        (f"cmd_attr_{name}", "no such task"),
        (f"fill_stats_for_{name}", "no such task"),
        expects={"unknown": ["ESRCH"], "0": ["ESRCH"], "-1": ["ESRCH"], "reaped": ["ESRCH"]},
    )
    def of_nobody(world: World, make=make) -> Outcome:  # type: ignore[no-untyped-def]
        task = world.spawn()
        world.exit(task)
        ids = {"unknown": NOBODY, "0": 0, "-1": -1, "reaped": task.pid}
        return {who: world.ask(make(id_)) for who, id_ in ids.items()}


# ---- the message -----------------------------------------------------------------------------


def _structure(datagram: bytes) -> Outcome:
    """Types and lengths of attributes, the struct's as "struct"; and what is around them."""
    nests = []
    for nest in messages.attributes(datagram):
        parts = messages.inside(nest, datagram)
        nests.append(
            [nest.type]
            + [
                [part.type, "struct" if part.type == wire.TYPE_STATS else len(part.payload)]
                for part in parts
                if part.type != wire.TYPE_NULL
            ]
        )
    head = messages.header(datagram)
    command, version = datagram[16:18]
    return {"flags": head.flags, "command": command, "version": version, "nests": nests}


_PLAIN = {"flags": 0, "command": messages.NEW, "version": 1}


@case(
    "structure-of-a-pid-reply",
    ("mk_reply", "of a task"),
    ("cmd_attr_pid", "replies"),
    ("send_reply", "sent to who asked"),
    expects=_PLAIN | {"nests": [[4, [1, 4], [3, "struct"]]]},
)
def structure_of_pid(world: World) -> Outcome:
    return _structure(world.reply(pid(world.spawn().pid, NLM_F_REQUEST)))


@case(
    "structure-of-a-tgid-reply",
    ("mk_reply", "of a group"),
    ("cmd_attr_tgid", "replies"),
    ("send_reply", "sent to who asked"),
    expects=_PLAIN | {"nests": [[5, [2, 4], [3, "struct"]]]},
)
def structure_of_tgid(world: World) -> Outcome:
    return _structure(world.reply(tgid(world.spawn().pid, NLM_F_REQUEST)))


@case(
    "structure-of-the-last-threads-exit",
    ("mk_reply", "of a group"),
    ("taskstats_exit", "the last of several threads brings the group"),
    expects=_PLAIN | {"nests": [[4, [1, 4], [3, "struct"]], [5, [2, 4], [3, "struct"]]]},
)
def structure_of_last_exit(world: World) -> Outcome:
    with world.listening() as one:
        leader = world.spawn(cpu=world.cpus[0])
        world.exit(world.thread(leader))
        world.exit(leader)
        (message,) = one.exits(leader)
        return _structure(message)


@case(
    "where-the-struct-stands",
    ("mk_reply", "the struct is aligned where that is needed"),
    expects={"PID": "behind the id", "exit": "behind the id", "type of the padding": []},
    otherwise=(
        Otherwise(
            {"PID": "divisible by 8", "exit": "divisible by 8", "type of the padding": [6]},
            "built for a machine that does not read 64 bits at any address "
            "(no CONFIG_HAVE_EFFICIENT_UNALIGNED_ACCESS), as User-Mode Linux is",
        ),
    ),
)
def where_the_struct_stands(world: World) -> Outcome:
    with world.listening() as one:
        task = world.spawn(cpu=world.cpus[0])
        reply = world.reply(pid(task.pid, NLM_F_REQUEST))
        world.exit(task)
        (message,) = one.exits(task)

    def place(datagram: bytes) -> str:
        found = messages.record(datagram)
        assert found is not None
        return {36: "behind the id", 40: "divisible by 8"}.get(found.at, str(found.at))

    (nest,) = messages.attributes(reply)
    others = {part.type for part in messages.inside(nest, reply)}
    padding = sorted(others - {wire.TYPE_PID, wire.TYPE_STATS})
    return {"PID": place(reply), "exit": place(message), "type of the padding": padding}


@case(
    "length-of-the-messages",
    ("taskstats_packet_size", "an id, a struct and the nest around them"),
    expects={"reply": "header, record", "last exit": "header, record, record"},
)
def lengths(world: World) -> Outcome:
    with world.listening() as one:
        leader = world.spawn(cpu=world.cpus[0])
        world.exit(world.thread(leader))
        reply = world.reply(pid(leader.pid, NLM_F_REQUEST))
        world.exit(leader)
        (message,) = one.exits(leader)
    found = messages.record(reply)
    assert found is not None
    before = found.at - 20
    names = {
        20 + before + world.size: "header, record",
        20 + 2 * (before + world.size): "header, record, record",
    }
    # The second struct of a padded message may need no padding.
    names.setdefault(16 + 2 * (before + world.size), "header, record, record")
    return {"reply": names[len(reply)], "last exit": names[len(message)]}


# ---- a task ----------------------------------------------------------------------------------


@case(
    "identity-of-a-task",
    ("fill_stats", "identity and figures of a task"),
    ("fill_stats_for_pid", "found"),
    expects={
        "id": "the one asked for",
        "version": "that of the struct",
        "ac_pid": "its own",
        "ac_ppid": "the asker",
        "ac_uid": 12345,
        "ac_gid": 12345,
        "ac_comm": b"accounted",
        "ac_exitcode": 0,
        "ac_pad": b"",
        "flags": [],
    },
)
def identity(world: World) -> Outcome:
    task = world.spawn("accounted", uid=12345)
    found = world.query(task)
    return {
        "id": "the one asked for" if found.id == task.pid else found.id,
        "version": "that of the struct" if found.version == world.version else found.version,
        "ac_pid": "its own" if found["ac_pid"] == task.pid else found["ac_pid"],
        "ac_ppid": "the asker" if found["ac_ppid"] == world.own_pid else found["ac_ppid"],
        "ac_uid": found["ac_uid"],
        "ac_gid": found["ac_gid"],
        "ac_comm": found.values["ac_comm"],
        "ac_exitcode": found["ac_exitcode"],
        "ac_pad": found.values["ac_pad"],
        "flags": found.flags,
    }


@case(
    "version-and-size-belong-together",
    ("fill_stats", "identity and figures of a task"),
    expects=True,
)
def version_and_size(world: World) -> Outcome:
    found = world.query(world.spawn())
    return (found.version, found.size) in wire.LAYOUTS


@case(
    "name-of-sixteen-characters",
    ("fill_stats", "identity and figures of a task"),
    expects=b"abcdefghijklmno",
)
def long_name(world: World) -> Outcome:
    return world.query(world.spawn("abcdefghijklmnopqrstuvwxyz")).values["ac_comm"]


@case(
    "switches-of-a-task",
    ("fill_stats", "identity and figures of a task"),
    expects={"nvcsw": "not 0", "the same again": True},
)
def switches(world: World) -> Outcome:
    task = world.spawn()
    first, second = world.query(task), world.query(task)
    same = all(first[name] == second[name] for name in ("nvcsw", "nivcsw"))
    return {"nvcsw": "not 0" if first["nvcsw"] else 0, "the same again": same}


@case(
    "a-thread-of-a-process",
    ("fill_stats_for_pid", "found"),
    expects={"ac_pid": "its own", "ac_tgid": "its leader's", "ac_ppid": "the asker"},
    needs=("struct version 12",),
)
def of_a_thread(world: World) -> Outcome:
    leader = world.spawn()
    thread = world.thread(leader)
    found = world.query(thread)
    return {
        "ac_pid": "its own" if found["ac_pid"] == thread.pid else found["ac_pid"],
        "ac_tgid": "its leader's" if found["ac_tgid"] == leader.pid else found["ac_tgid"],
        "ac_ppid": "the asker" if found["ac_ppid"] == world.own_pid else found["ac_ppid"],
    }


@case(
    "executable-of-a-task",
    ("exe_add_tsk", "there is an executable"),
    expects={"ac_exe_dev": "not 0", "ac_exe_inode": "not 0"},
    needs=("struct version 12",),
)
def executable(world: World) -> Outcome:
    found = world.query(world.spawn())
    return {name: "not 0" if found[name] else 0 for name in ("ac_exe_dev", "ac_exe_inode")}


_NO_PROGRAM = {"ac_exe_dev": 0, "ac_exe_inode": 0, "hiwater_rss": 0, "hiwater_vm": 0}


@case(
    "executable-of-a-zombie",
    ("exe_add_tsk", "there is none"),
    expects=_NO_PROGRAM,
    needs=("struct version 12",),
)
def executable_of_a_zombie(world: World) -> Outcome:
    task = world.spawn()
    world.exit_group(task, zombie=True)
    found = world.query(task)
    return {name: found[name] for name in _NO_PROGRAM}


@case(
    "executable-of-a-kernel-thread",
    ("exe_add_tsk", "there is none"),
    expects=_NO_PROGRAM,
    needs=("struct version 12", "a task without a program"),
)
def executable_of_a_kernel_thread(world: World) -> Outcome:
    found = messages.record(world.reply(pid(world.kernel_thread(), NLM_F_REQUEST)))
    assert found is not None
    return {name: found[name] for name in _NO_PROGRAM}


@case(
    "a-zombie",
    ("fill_stats_for_pid", "found"),
    expects={"ac_exitcode": 7 << 8, "flags": [], "ac_comm": b"task", "then": ["ESRCH"]},
)
def zombie(world: World) -> Outcome:
    task = world.spawn()
    world.exit_group(task, 7, zombie=True)
    found = world.query(task)
    world.reap(task)
    return {
        "ac_exitcode": found["ac_exitcode"],
        "flags": found.flags,
        "ac_comm": found.values["ac_comm"],
        "then": world.ask(pid(task.pid)),
    }


@case(
    "ids-in-a-pid-namespace",
    ("fill_stats", "ids as the asker's namespaces number them"),
    expects={"id": 1, "ac_pid": 1, "ac_ppid": 0},
    needs=("PID namespaces",),
)
def ids_in_a_namespace(world: World) -> Outcome:
    """The asker is its first process; its parent is outside."""

    def ask(w: World) -> Outcome:
        found = messages.record(w.reply(pid(w.own_pid, NLM_F_REQUEST)))
        assert found is not None
        return {"id": found.id, "ac_pid": found["ac_pid"], "ac_ppid": found["ac_ppid"]}

    return world.as_("root of a PID namespace", ask)


@case(
    "tgid-in-a-pid-namespace",
    ("fill_stats_for_tgid", "adds each living thread"),
    expects=[["TGID", "ACK"], ["ESRCH"]],
    needs=("PID namespaces",),
)
def tgid_in_a_namespace(world: World) -> Outcome:
    outside = world.own_pid
    return world.as_("root of a PID namespace", lambda w: [w.ask(tgid(1)), w.ask(tgid(outside))])


@case(
    "queries-from-another-network-namespace",
    ("family", "seen from every network namespace"),
    expects=["PID", "ACK", "TGID", "ACK"],
    otherwise=(Otherwise(["ENOENT"] * 2, NO_NETNSOK),),
    needs=("network namespaces",),
)
def from_a_network_namespace(world: World) -> Outcome:
    return world.as_(
        "root of a network namespace", lambda w: w.ask(pid(w.own_pid), tgid(w.own_pid))
    )


# ---- a group ---------------------------------------------------------------------------------


@case(
    "what-a-group-has",
    ("fill_stats_for_tgid", "no thread has ended"),
    ("fill_stats_for_tgid", "adds each living thread"),
    expects={"id": "the one asked for", "version": "that of the struct", "beyond sums": []},
)
def what_a_group_has(world: World) -> Outcome:
    leader = world.spawn()
    world.thread(leader)
    found = world.query(leader, "TGID")
    return {
        "id": "the one asked for" if found.id == leader.pid else found.id,
        "version": "that of the struct" if found.version == world.version else found.version,
        "beyond sums": [n for n in found.nothing_but if n not in _SUMMED | _EXTREME],
    }


@case(
    "sums-of-living-threads",
    ("fill_stats_for_tgid", "no thread has ended"),
    ("fill_stats_for_tgid", "adds each living thread"),
    expects={"nvcsw": "not 0", "switches": "the threads' sum", "ac_etime": "more than one's"},
)
def sums_of_living(world: World) -> Outcome:
    leader = world.spawn()
    threads = [leader, world.thread(leader), world.thread(leader)]
    each = [world.query(thread) for thread in threads]
    group = world.query(leader, "TGID")
    summed = all(group[n] == sum(one[n] for one in each) for n in ("nvcsw", "nivcsw"))
    return {
        "nvcsw": "not 0" if group["nvcsw"] else 0,
        "switches": "the threads' sum" if summed else "another",
        "ac_etime": "more than one's" if group["ac_etime"] >= each[0]["ac_etime"] else "less",
    }


@case(
    "delays-of-living-threads",
    ("fill_stats_for_tgid", "adds each living thread"),
    expects={"cpu_count": "the threads' sum", "cpu_run_virtual_total": "the threads' sum"},
    needs=("delay accounting",),
)
def delays_of_living(world: World) -> Outcome:
    leader = world.spawn()
    threads = [leader, world.thread(leader), world.thread(leader)]
    each = [world.query(thread) for thread in threads]
    group = world.query(leader, "TGID")
    return {
        name: "the threads' sum" if group[name] == sum(one[name] for one in each) else "another"
        for name in ("cpu_count", "cpu_run_virtual_total")
    }


@case(
    "a-group-by-any-of-its-threads",
    ("fill_stats_for_tgid", "adds each living thread"),
    expects={"id": "as asked", "nvcsw": "the same"},
)
def by_any_thread(world: World) -> Outcome:
    leader = world.spawn()
    thread = world.thread(leader)
    by_leader, by_thread = world.query(leader, "TGID"), world.query(thread, "TGID")
    return {
        "id": "as asked" if by_thread.id == thread.pid else by_thread.id,
        "nvcsw": "the same" if by_thread["nvcsw"] == by_leader["nvcsw"] else "another",
    }


@case(
    "delays-of-threads-that-ended",
    ("fill_stats_for_tgid", "begins with the sums of threads that ended"),
    ("fill_tgid_exit", "adds a thread that exits to its group"),
    ("taskstats_exit", "a thread of a group is added to its sums"),
    ("taskstats_tgid_alloc", "the first of several threads to exit brings them"),
    ("taskstats_tgid_alloc", "the group has sums already"),
    expects={"cpu_count": "kept", "cpu_run_virtual_total": "kept"},
    needs=("delay accounting",),
)
def delays_of_dead(world: World) -> Outcome:
    with world.listening() as one:
        leader = world.spawn()
        threads = [world.thread(leader), world.thread(leader)]
        for thread in threads:
            world.exit(thread)
        records = [*one.heard(*threads), world.query(leader)]
        group = world.query(leader, "TGID")
    return {
        name: "kept" if group[name] == sum(record[name] for record in records) else "another"
        for name in ("cpu_count", "cpu_run_virtual_total")
    }


@case(
    "switches-of-threads-that-ended",
    ("fill_stats_for_tgid", "begins with the sums of threads that ended"),
    ("fill_tgid_exit", "adds a thread that exits to its group"),
    expects={"nvcsw": "kept", "nivcsw": "kept"},
    otherwise=(Otherwise({"nvcsw": "forgotten", "nivcsw": "forgotten"}, FORGETS),),
)
def switches_of_dead(world: World) -> Outcome:
    with world.listening() as one:
        leader = world.spawn()
        thread = world.thread(leader)
        world.exit(thread)
        (dead,) = one.heard(thread)
        living = world.query(leader)
        group = world.query(leader, "TGID")
    kept = {n: living[n] + dead[n] for n in ("nvcsw", "nivcsw")}
    if all(group[n] == kept[n] for n in kept):
        return dict.fromkeys(kept, "kept")
    return {n: "forgotten" if group[n] == living[n] else "another" for n in kept}


@case(
    "a-leader-that-ended-first-is-not-counted-twice",
    ("fill_stats_for_tgid", "leaves out threads that have exited"),
    expects="counted once",
    needs=("delay accounting",),
)
def leader_ended_first(world: World) -> Outcome:
    with world.listening() as one:
        leader = world.spawn()
        thread = world.thread(leader)
        world.exit(leader)
        (dead,) = one.heard(leader)
        living = world.query(thread)
        group = world.query(leader, "TGID")
    total = dead["cpu_count"] + living["cpu_count"]
    return "counted once" if group["cpu_count"] == total else "another"


@case(
    "group-of-a-zombie-of-one-thread",
    ("fill_stats_for_tgid", "leaves out threads that have exited"),
    ("taskstats_tgid_alloc", "a process of one thread has none"),
    expects=[],
)
def group_of_a_zombie(world: World) -> Outcome:
    task = world.spawn()
    world.exit_group(task, zombie=True)
    return world.query(task, "TGID").nothing_but
