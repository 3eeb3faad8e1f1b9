"""Cases: What is sent at an exit, and how it is numbered."""

import signal

from support import wire

from conformance import messages
from conformance.messages import AXSIG
from conformance.queries import FORGETS
from conformance.table import Otherwise, Outcome, Table
from conformance.world import World, eventually

table = Table()
case = table.case

_NO_AGROUP = "before struct version 12 there was no AGROUP"
_LEADERS_ONLY = "before struct version 12 only a leader's record had a status"


# ---- who, and how it ended -------------------------------------------------------------------


@case(
    "exit-of-a-process",
    ("fill_stats", "identity and figures of a task"),
    ("taskstats_exit", "the last of its group has AGROUP"),
    ("taskstats_exit", "the group is told if not the last or never of several"),
    ("taskstats_tgid_alloc", "a process of one thread has none"),
    expects={"told": ["PID"], "port": 0, "comm": b"accounted", "code": 3 << 8, "flags": ["AGROUP"]},
    otherwise=(
        Otherwise(
            {"told": ["PID"], "port": 0, "comm": b"accounted", "code": 3 << 8, "flags": []},
            _NO_AGROUP,
        ),
    ),
)
def process(world: World) -> Outcome:
    with world.listening() as one:
        task = world.spawn("accounted", cpu=world.cpus[0])
        world.exit(task, 3)
        sent = one.exits(task)
        (found,) = (messages.record(message) for message in sent)
    assert found is not None
    return {
        "told": [messages.told(message, one.family) for message in sent],
        "port": found.port,
        "comm": found.values["ac_comm"],
        "code": found["ac_exitcode"],
        "flags": found.flags,
    }


@case(
    "exit-record-is-built-before-the-parent-hears",
    ("send_cpu_listeners", "one listener gets the message itself"),
    expects=[1] * 10,
)
def before_the_parent(world: World) -> Outcome:
    counts = []
    with world.listening() as one:
        for _ in range(10):
            task = world.spawn()
            world.exit_group(task)
            counts.append(len(one.heard(task)))
    return counts


def _ended(world: World, signal_: int = 0, code: int = 0) -> Outcome:
    with world.listening() as one:
        task = world.spawn(cpu=world.cpus[0])
        world.exit_group(task, code, signal=signal_)
        (found,) = one.heard(task)
    return {"code": found["ac_exitcode"] & 0xFF7F, "flags": set(found.flags) - {"AGROUP"}}


@case(
    "status-of-exit-group",
    ("fill_stats", "identity and figures of a task"),
    expects={"code": 250 << 8, "flags": set()},
)
def exit_group(world: World) -> Outcome:
    return _ended(world, code=250)


@case(
    "status-of-a-killed-one",
    ("fill_stats", "identity and figures of a task"),
    expects={"code": signal.SIGKILL, "flags": {"AXSIG"}},
)
def killed(world: World) -> Outcome:
    return _ended(world, signal.SIGKILL)


@case(
    "status-of-one-that-dumps-core",
    ("fill_stats", "identity and figures of a task"),
    expects={"code": signal.SIGABRT, "flags": {"ACORE", "AXSIG"}},
)
def dumped(world: World) -> Outcome:
    """With no core file, either: the bit 0x80 of the status is not looked at."""
    return _ended(world, signal.SIGABRT)


@case(
    "forked-and-no-exec",
    ("fill_stats", "identity and figures of a task"),
    expects=["AFORK", "AGROUP"],
    otherwise=(Otherwise(["AFORK"], _NO_AGROUP),),
)
def forked(world: World) -> Outcome:
    with world.listening() as one:
        pid = world.forked_exit(world.cpus[0])
        (found,) = one.heard(pid)
    return found.flags


@case(
    "executable-at-the-exit",
    ("exe_add_tsk", "there is an executable"),
    expects={"ac_exe_dev": "as before", "ac_exe_inode": "as before", "hiwater_rss": "not 0"},
    needs=("struct version 12",),
)
def executable(world: World) -> Outcome:
    """The record is built before the memory goes."""
    with world.listening() as one:
        task = world.spawn(cpu=world.cpus[0])
        before = world.query(task)
        world.exit(task)
        (found,) = one.heard(task)
    names = ("ac_exe_dev", "ac_exe_inode")
    same = {name: "as before" if found[name] == before[name] else "another" for name in names}
    return same | {"hiwater_rss": "not 0" if found["hiwater_rss"] else 0}


@case(
    "ids-at-an-exit-are-the-initial-namespaces",
    ("fill_stats", "ids as the asker's namespaces number them"),
    expects={"ac_pid": "as outside"},
    needs=("PID namespaces",),
)
def ids_at_exit(world: World) -> Outcome:
    """Of the first process of a new PID namespace."""
    with world.listening() as one:
        pid = world.forked_exit(world.cpus[0], in_a_pid_namespace=True)
        (found,) = one.heard(pid)
    return {"ac_pid": "as outside" if found["ac_pid"] == pid else found["ac_pid"]}


# ---- groups ----------------------------------------------------------------------------------

_LAST = {"told": [["PID"], ["PID"], ["PID+TGID"]], "AGROUP": [False, False, True]}


@case(
    "threads-of-a-process",
    ("taskstats_exit", "the group is told if not the last or never of several"),
    ("taskstats_exit", "the last of several threads brings the group"),
    ("taskstats_exit", "the last of its group has AGROUP"),
    ("taskstats_tgid_alloc", "the first of several threads to exit brings them"),
    expects=_LAST,
    otherwise=(Otherwise(_LAST | {"AGROUP": [False] * 3}, _NO_AGROUP),),
)
def threads(world: World) -> Outcome:
    with world.listening() as one:
        leader = world.spawn(cpu=world.cpus[0])
        order = [world.thread(leader), world.thread(leader), leader]
        for task in order:
            world.exit(task)
        return _each(one.exits(*order), one.family, [task.pid for task in order])


def _each(sent: list[bytes], family: int, pids: list[int]) -> Outcome:
    told: dict[int, list[str]] = {pid: [] for pid in pids}
    last = dict.fromkeys(pids, False)
    for message in sent:
        found = messages.record(message)
        assert found is not None
        told[found.id].append(messages.told(message, family))
        last[found.id] = "AGROUP" in found.flags
    return {"told": list(told.values()), "AGROUP": list(last.values())}


@case(
    "a-leader-that-ends-first",
    ("taskstats_exit", "the last of several threads brings the group"),
    ("taskstats_exit", "the last of its group has AGROUP"),
    expects={"told": [["PID"], ["PID+TGID"]], "AGROUP": [False, True]},
    otherwise=(Otherwise({"told": [["PID"], ["PID+TGID"]], "AGROUP": [False, False]}, _NO_AGROUP),),
)
def leader_first(world: World) -> Outcome:
    """The group comes with whoever is the last."""
    with world.listening() as one:
        leader = world.spawn(cpu=world.cpus[0])
        thread = world.thread(leader)
        world.exit(leader)
        world.exit(thread)
        return _each(one.exits(leader, thread), one.family, [leader.pid, thread.pid])


@case(
    "a-thread-that-ended-long-ago",
    ("taskstats_tgid_alloc", "the group has sums already"),
    ("taskstats_exit", "the last of several threads brings the group"),
    expects="PID+TGID",
)
def ended_long_ago(world: World) -> Outcome:
    """Alone again, a process that once had a second thread is still a group."""
    leader = world.spawn(cpu=world.cpus[0])
    world.exit(world.thread(leader))
    with world.listening() as one:
        world.exit(leader)
        (message,) = one.exits(leader)
        return messages.told(message, one.family)


@case(
    "sums-of-the-group-at-its-end",
    ("fill_tgid_exit", "adds a thread that exits to its group"),
    ("taskstats_exit", "the last of several threads brings the group"),
    ("taskstats_exit", "a thread of a group is added to its sums"),
    expects={"cpu_count": "the threads' sum", "cpu_run_virtual_total": "the threads' sum"},
    needs=("delay accounting",),
)
def sums_at_the_end(world: World) -> Outcome:
    # A thread is added to its group before its record is filled: a tick in between adds to the
    # record alone. Then another group shows it.
    for _ in range(5):
        records, group = _group_at_its_end(world)
        found = {
            name: "the threads' sum" if group[name] == sum(r[name] for r in records) else "another"
            for name in ("cpu_count", "cpu_run_virtual_total")
        }
        if "another" not in found.values():
            break
    return found


_TIMES = ("ac_etime", "nvcsw", "nivcsw")


@case(
    "times-of-the-group-at-its-end",
    ("fill_tgid_exit", "adds a thread that exits to its group"),
    expects={"nvcsw": "the threads' sum", "nivcsw": "the threads' sum", "ac_etime": "not 0"},
    otherwise=(Otherwise(dict.fromkeys(_TIMES, "0"), FORGETS),),
)
def times_at_the_end(world: World) -> Outcome:
    records, group = _group_at_its_end(world)
    if not any(group[name] for name in _TIMES):
        return dict.fromkeys(_TIMES, "0")
    names = ("nvcsw", "nivcsw")
    return {
        n: "the threads' sum" if group[n] == sum(r[n] for r in records) else group[n] for n in names
    } | {"ac_etime": "not 0" if group["ac_etime"] else 0}


@case(
    "version-of-the-group-at-its-end",
    ("taskstats_exit", "the last of several threads brings the group"),
    expects="that of the struct",
    otherwise=(
        Otherwise("0", 'before "taskstats: set version in TGID exit notifications" it is not set'),
    ),
)
def version_at_the_end(world: World) -> Outcome:
    _, group = _group_at_its_end(world)
    return "that of the struct" if group.version == world.version else str(group.version)


@case(
    "nothing-but-sums-at-the-groups-end",
    ("taskstats_exit", "the last of several threads brings the group"),
    expects={"id": "its leader's", "beyond sums": []},
)
def nothing_but_sums(world: World) -> Outcome:
    _, group = _group_at_its_end(world)
    extremes = ("_delay_max", "_delay_min")
    return {
        "id": "its leader's",
        "beyond sums": [
            name
            for name in group.nothing_but
            if not wire.MEMBERS[name].summed and not any(part in name for part in extremes)
        ],
    }


def _group_at_its_end(world: World) -> tuple[list[messages.Record], messages.Record]:
    """The records of three threads, and their group's; the leader ends second."""
    with world.listening() as one:
        leader = world.spawn(cpu=world.cpus[0])
        order = [world.thread(leader), leader, world.thread(leader)]
        for task in order:
            world.exit(task)
        sent = one.exits(*order)
    records = [messages.record(message) for message in sent]
    groups = [messages.record(message, "TGID") for message in sent]
    (group,) = (one for one in groups if one is not None)
    assert group.id == leader.pid
    return [one for one in records if one is not None], group


@case(
    "nobody-listens-while-threads-end",
    ("taskstats_exit", "a thread of a group is added to its sums"),
    ("taskstats_exit", "nobody listens on this CPU"),
    expects="of both threads",
    needs=("delay accounting",),
)
def nobody_listens(world: World) -> Outcome:
    """A thread that nobody heard is in the group's sums all the same."""
    leader = world.spawn(cpu=world.cpus[0])
    thread = world.thread(leader)
    before = world.query(thread)
    world.exit(thread)
    with world.listening() as one:
        world.exit(leader)
        (message,) = one.exits(leader)
    own, group = messages.record(message), messages.record(message, "TGID")
    assert own is not None
    assert group is not None
    return (
        "of both threads"
        if group["cpu_count"] >= own["cpu_count"] + before["cpu_count"]
        else ("of one")
    )


@case(
    "exit-group-of-several-threads",
    ("taskstats_exit", "the last of several threads brings the group"),
    expects={"records": 3, "groups": 1, "codes": {5 << 8}},
    otherwise=(Otherwise({"records": 3, "groups": 1, "codes": {0, 5 << 8}}, _LEADERS_ONLY),),
)
def exit_group_of_several(world: World) -> Outcome:
    with world.listening() as one:
        leader = world.spawn()
        threads = [leader, world.thread(leader), world.thread(leader)]
        world.exit_group(threads[1], 5)
        sent = one.exits(*threads)
    records = [messages.record(message) for message in sent]
    return {
        "records": len(records),
        "groups": sum(messages.record(message, "TGID") is not None for message in sent),
        "codes": {record["ac_exitcode"] for record in records if record is not None},
    }


@case(
    "exec-by-another-thread-than-the-leader",
    ("taskstats_exit", "the group is told if not the last or never of several"),
    ("taskstats_exit", "the last of several threads brings the group"),
    expects={
        "records": [[b"task", "PID", True], [b"renamed", "PID+TGID", False]],
        "of the thread's own id": 0,
    },
)
def exec_by_thread(world: World) -> Outcome:
    """Two records of one pid: the old leader, who is killed, and in the end the new program."""
    with world.listening() as one:
        leader = world.spawn(cpu=world.cpus[0])
        thread = world.thread(leader, world.cpus[0])
        pid, tid = leader.pid, thread.pid
        world.exit(world.exec(thread))
        sent = one.exits(pid, tid)
    found = [(messages.record(message), messages.told(message, one.family)) for message in sent]
    return {
        "records": [
            [record.values["ac_comm"], told, bool(record["ac_flag"] & AXSIG)]
            for record, told in found
            if record is not None and record.id == pid
        ],
        "of the thread's own id": sum(record is None or record.id == tid for record, _ in found),
    }


# ---- numbers ---------------------------------------------------------------------------------


def _exit_on(world: World, cpu: int) -> int:
    task = world.spawn(cpu=cpu)
    world.exit(task)
    return task.pid


@case(
    "numbers-go-up-by-one-an-exit",
    ("prepare_reply", "an exit takes the next number of its CPU"),
    expects={"heard": 10, "no number is missing": True},
)
def numbers(world: World) -> Outcome:
    def attempt() -> Outcome:
        with world.listening(world.cpus[0]) as one:
            pids = {_exit_on(world, world.cpus[0]) for _ in range(10)}
            return _complete(one.heard(), pids)

    complete = {"heard": 10, "no number is missing": True}
    return complete if eventually(lambda: attempt() == complete) else attempt()


@case(
    "an-exit-of-a-group-is-one-number",
    ("prepare_reply", "an exit takes the next number of its CPU"),
    expects=True,
)
def group_is_one_number(world: World) -> Outcome:
    def attempt() -> bool:
        with world.listening(world.cpus[0]) as one:
            leader = world.spawn(cpu=world.cpus[0])
            world.exit(world.thread(leader, world.cpus[0]))
            world.exit(leader)
            _exit_on(world, world.cpus[0])
            return _without_hole(one.heard())

    return eventually(attempt)


def _without_hole(records: list[messages.Record]) -> bool:
    """Whether no number is missing.

    Records of other tasks may overtake each other. One that migrates as it exits leaves a hole.
    """
    found = sorted(record.seq for record in records)
    return found == list(range(found[0], found[0] + len(found)))


@case(
    "numbers-stand-still-while-nobody-listens",
    ("taskstats_exit", "nobody listens on this CPU"),
    ("prepare_reply", "an exit takes the next number of its CPU"),
    expects=True,
)
def numbers_stand_still(world: World) -> Outcome:
    cpu = world.cpus[0]

    def attempt() -> bool:
        with world.listening(cpu) as one:
            _exit_on(world, cpu)
            before = one.heard()[-1].seq
        for _ in range(5):
            _exit_on(world, cpu)
        with world.listening(cpu) as one:
            _exit_on(world, cpu)
            return one.heard()[0].seq == before + 1

    return eventually(attempt)


@case(
    "each-cpu-has-numbers-of-its-own",
    ("prepare_reply", "an exit takes the next number of its CPU"),
    expects=[{"heard": 5, "no number is missing": True}] * 2,
    needs=("two CPUs",),
)
def numbers_of_each_cpu(world: World) -> Outcome:
    """Exits by turns on two CPUs; others may exit as well."""
    first, second = world.cpus[:2]

    def attempt() -> Outcome:
        with world.listening(first) as one, world.listening(second) as other:
            pids = {_exit_on(world, cpu) for _ in range(5) for cpu in (first, second)}
            return [_complete(listener.heard(), pids) for listener in (one, other)]

    complete = [{"heard": 5, "no number is missing": True}] * 2
    return complete if eventually(lambda: attempt() == complete) else attempt()


def _complete(records: list[messages.Record], pids: set[int]) -> dict[str, int | bool]:
    return {
        "heard": sum(record.id in pids for record in records),
        "no number is missing": _without_hole(records),
    }


@case(
    "numbers-are-the-same-for-all-listeners",
    ("send_cpu_listeners", "several listeners each get a copy"),
    expects=True,
)
def numbers_for_all(world: World) -> Outcome:
    cpu = world.cpus[0]
    with world.listening(cpu) as one, world.listening(cpu) as other:
        pids = [_exit_on(world, cpu) for _ in range(3)]
        return one.exits(*pids) == other.exits(*pids)


@case(
    "exit-that-migrates-between-two-steps",
    ("taskstats_exit", "looks for listeners on one CPU, counts on another"),
    expects={"heard on": "where it was looked for", "number of": "where it was counted"},
    needs=("a migration at the exit", "two CPUs"),
)
def migration(world: World) -> Outcome:
    first, second = world.cpus[:2]
    with world.listening(first) as one, world.listening(second) as other:
        for _ in range(3):
            _exit_on(world, second)
        last = other.heard()[-1].seq
        task = world.spawn(cpu=first)
        world.migrate(task, numbered_on=second)
        (stray,) = one.heard(task)
        heard_there = other.heard(task)
        _exit_on(world, second)
        hole = other.heard()[-1].seq - last
    return {
        "heard on": "both" if heard_there else "where it was looked for",
        "number of": "where it was counted" if (stray.seq, hole) == (last + 1, 2) else stray.seq,
    }


@case(
    "numbers-begin-again-at-0",
    ("prepare_reply", "an exit takes the next number of its CPU"),
    expects=[2**32 - 2, 2**32 - 1, 0, 1],
    needs=("a counter near its end",),
)
def numbers_begin_again(world: World) -> Outcome:
    cpu = world.cpus[0]
    with world.listening(cpu) as one:
        world.number_next(cpu, 2**32 - 2)
        pids = [_exit_on(world, cpu) for _ in range(4)]
        return [record.seq for record in one.heard(*pids)]


# ---- no memory -------------------------------------------------------------------------------


@case(
    "exit-without-memory-for-its-message",
    ("taskstats_exit", "no memory for the message"),
    ("prepare_reply", "no memory for the message"),
    expects={"heard": [True, False, True], "number missing": False},
    needs=("an allocation that fails",),
)
def no_memory_for_message(world: World) -> Outcome:
    cpu = world.cpus[0]
    with world.listening(cpu) as one:
        pids = [_exit_on(world, cpu)]
        world.fail("reply")
        pids += [_exit_on(world, cpu), _exit_on(world, cpu)]
        records = one.heard()
    heard = {record.id for record in records}
    return {
        "heard": [pid in heard for pid in pids],
        "number missing": records[-1].seq - records[0].seq != 1,
    }


@case(
    "exit-without-memory-for-its-groups-sums",
    ("taskstats_tgid_alloc", "no memory"),
    ("fill_tgid_exit", "no memory was found for the sums"),
    expects={"of two": ["PID", "PID"], "of three": ["PID", "PID", "PID+TGID"], "sums": "of two"},
    needs=("an allocation that fails",),
)
def no_memory_for_sums(world: World) -> Outcome:
    """It is tried again at the next exit, if there is another thread then."""
    with world.listening() as one:
        world.fail("group")
        leader = world.spawn(cpu=world.cpus[0])
        world.exit(world.thread(leader))
        world.exit(leader)
        of_two = [messages.told(message, one.family) for message in one.exits()]

        world.fail("group")
        leader = world.spawn(cpu=world.cpus[0])
        for thread in [world.thread(leader), world.thread(leader)]:
            world.exit(thread)
        world.exit(leader)
        sent = one.exits()
    records = [messages.record(message) for message in sent]
    group = messages.record(sent[-1], "TGID")
    assert group is not None
    last_two = sum(record["cpu_count"] for record in records[1:] if record is not None)
    return {
        "of two": of_two,
        "of three": [messages.told(message, one.family) for message in sent],
        "sums": "of two" if group["cpu_count"] == last_two else "another",
    }
