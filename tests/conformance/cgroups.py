"""Cases: Cgroups."""

import os
import socket
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path

from support.task import until

from conformance import messages
from conformance.messages import CGROUP_GET, FD, NLM_F_REQUEST, Request, cgroup, u32
from conformance.table import Otherwise, Outcome, Table
from conformance.world import State, World

table = Table()
case = table.case

#: In the order of struct cgroupstats.
COUNTS = ("nr_sleeping", "nr_running", "nr_stopped", "nr_uninterruptible", "nr_io_wait")
_NOT = ("cgroupstats_user_cmd", "not a cgroup that can be counted")
_COUNTS = ("cgroupstats_user_cmd", "counts")


def _counts(world: World, fd: int) -> dict[str, int]:
    """The counts that are not 0."""
    answer = world.reply(Request(u32(FD, fd), CGROUP_GET, NLM_F_REQUEST))
    (stats,) = messages.attributes(answer)
    values = struct.unpack("=5Q", stats.payload)
    return {name: value for name, value in zip(COUNTS, values, strict=True) if value}


@case(
    "cgroup-reply",
    _COUNTS,
    expects={"length": 64, "command": 5, "attribute": 1, "payload": 40},
    needs=("cgroups of version 1",),
)
def reply(world: World) -> Outcome:
    with world.cgroup(1) as fd:
        answer = world.reply(Request(u32(FD, fd), CGROUP_GET, NLM_F_REQUEST))
    (stats,) = messages.attributes(answer)
    return {
        "length": len(answer),
        "command": answer[16],
        "attribute": stats.type,
        "payload": len(stats.payload),
    }


@case(
    "cgroup-reply-and-ack",
    _COUNTS,
    expects=["CGROUPSTATS", "ACK"],
    needs=("cgroups of version 1",),
)
def reply_and_ack(world: World) -> Outcome:
    with world.cgroup(1) as fd:
        return world.ask(cgroup(fd))


@case(
    "cgroup-of-nobody",
    _COUNTS,
    expects={},
    needs=("cgroups of version 1",),
)
def empty(world: World) -> Outcome:
    with world.cgroup(1) as fd:
        return _counts(world, fd)


def _one_that_is(world: World, state: State) -> Outcome:
    with world.one_that_is(state) as task, world.cgroup(1, task) as fd:
        return _counts(world, fd)


for state, counted in [
    ("sleeping", "nr_sleeping"),
    ("running", "nr_running"),
    ("stopped", "nr_stopped"),
]:

    @case(
        f"cgroup-of-one-that-is-{state}",
        _COUNTS,
        expects={counted: 1},
        needs=("cgroups of version 1",),
    )
    def one_that_is(world: World, state: State = state) -> Outcome:  # type: ignore[assignment]
        return _one_that_is(world, state)


@case(
    "cgroup-of-one-that-sleeps-freezable",
    _COUNTS,
    expects={},
    otherwise=(
        Otherwise(
            {"nr_sleeping": 1},
            'before "freezer,sched: rewrite core freezer logic" (Linux 6.1) the state had no bit '
            "for it",
        ),
    ),
    needs=("cgroups of version 1",),
)
def freezable(world: World) -> Outcome:
    return _one_that_is(world, "freezable")


for state, counted in [("uninterruptible", "nr_uninterruptible"), ("io wait", "nr_io_wait")]:

    @case(
        f"cgroup-of-one-in-{state.replace(' ', '-')}",
        _COUNTS,
        expects={counted: 1},
        needs=("cgroups of version 1", "a file system of the asker's"),
    )
    def one_in(world: World, state: State = state) -> Outcome:  # type: ignore[assignment]
        return _one_that_is(world, state)


@case(
    "cgroup-counts-threads",
    _COUNTS,
    expects={"nr_sleeping": 3},
    needs=("cgroups of version 1",),
)
def counts_threads(world: World) -> Outcome:
    leader = world.spawn()
    threads = [world.thread(leader), world.thread(leader)]
    with world.cgroup(1, leader, *threads) as fd:
        return _counts(world, fd)


@case(
    "cgroup-of-a-zombie",
    _COUNTS,
    expects={},
    needs=("cgroups of version 1",),
)
def of_a_zombie(world: World) -> Outcome:
    task = world.spawn()
    with world.cgroup(1, task) as fd:
        world.exit_group(task, zombie=True)
        return _counts(world, fd)


@case(
    "cgroup-asked-by-an-ordinary-user",
    ("taskstats_ops", "CGROUPSTATS_CMD_GET needs nothing"),
    _COUNTS,
    expects=["CGROUPSTATS", "ACK"],
    needs=("cgroups of version 1",),
)
def by_a_user(world: World) -> Outcome:
    with world.cgroup(1) as fd:
        return world.as_("an ordinary user", lambda w: w.ask(cgroup(fd)))


@case("cgroup-of-version-2", _NOT, expects=["EINVAL"], needs=("cgroups of version 2",))
def version_2(world: World) -> Outcome:
    with world.cgroup(2) as fd:
        return world.ask(cgroup(fd))


@case("file-of-a-cgroup", _NOT, expects=["EINVAL"], needs=("files of a cgroup",))
def file_of_a_cgroup(world: World) -> Outcome:
    with world.cgroup(1) as directory:
        fd = os.open("cgroup.procs", os.O_RDONLY, dir_fd=directory)
        try:
            return world.ask(cgroup(fd))
        finally:
            os.close(fd)


@case(
    "no-cgroup-at-all",
    _NOT,
    expects={
        "a directory": ["EINVAL"],
        "a file": ["EINVAL"],
        "a device": ["EINVAL"],
        "a pipe": ["EINVAL"],
        "a socket": ["EINVAL"],
    },
)
def no_cgroup(world: World) -> Outcome:
    ours, theirs = socket.socketpair()
    reading, writing = os.pipe()
    with tempfile.TemporaryDirectory() as folder, ours, theirs:
        fds = {
            "a directory": os.open(folder, os.O_RDONLY),
            "a file": os.open(__file__, os.O_RDONLY),
            "a device": os.open(os.devnull, os.O_RDONLY),
            "a pipe": reading,
            "a socket": ours.fileno(),
        }
        told = {name: world.ask(cgroup(fd)) for name, fd in fds.items()}
        for name, fd in fds.items():
            if name != "a socket":
                os.close(fd)
        os.close(writing)
    return told


def _path_only() -> int:
    return os.open("/", os.O_PATH)


def _closed() -> int:
    fd = os.open("/", os.O_RDONLY)
    high = os.dup2(fd, 900)
    os.close(high)
    os.close(fd)
    return high


for name, open_ in [("closed", _closed), ("path-only", _path_only), ("negative", lambda: -1)]:

    @case(
        f"descriptor-{name}",
        ("cgroupstats_user_cmd", "the descriptor is not open"),
        expects={"with an ACK asked": ["ACK"], "without": []},
    )
    def not_open(world: World, open_: Callable[[], int] = open_) -> Outcome:
        fd = open_()
        try:
            return {
                "with an ACK asked": world.ask(cgroup(fd)),
                "without": world.ask(Request(u32(FD, fd), CGROUP_GET, NLM_F_REQUEST)),
            }
        finally:
            if open_ is _path_only:
                os.close(fd)


@case(
    "cgroup-without-a-descriptor",
    ("cgroupstats_user_cmd", "no descriptor in the request"),
    expects=[["EINVAL"], ["EINVAL"]],
)
def no_descriptor(world: World) -> Outcome:
    return [world.ask(Request(command=CGROUP_GET)), world.ask(Request(u32(2, 0), CGROUP_GET))]


@case(
    "cgroup-that-was-removed",
    _NOT,
    expects="ENOENT",
    needs=("cgroups of version 1",),
)
def was_removed(world: World) -> Outcome:
    """Not at once: the kernel takes it apart later, and until then it is empty."""
    with world.cgroup(1) as fd:
        Path(f"/proc/self/fd/{fd}").readlink().rmdir()
        told: list[list[str]] = []

        def is_gone() -> bool:
            told.append(world.ask(cgroup(fd)))
            return told[-1] != ["CGROUPSTATS", "ACK"]

        until(is_gone)
    (last,) = told[-1]
    return last


@case(
    "cgroup-without-memory-for-the-reply",
    ("cgroupstats_user_cmd", "no memory for the message"),
    expects=[["ENOMEM"], ["CGROUPSTATS", "ACK"]],
    needs=("an allocation that fails",),
)
def no_memory(world: World) -> Outcome:
    with world.cgroup(1) as fd:
        world.fail("reply")
        return [world.ask(cgroup(fd)), world.ask(cgroup(fd))]


@case(
    "cgroup-without-memory-is-told-before-it-is-looked-at",
    ("cgroupstats_user_cmd", "no memory for the message"),
    _NOT,
    expects=["ENOMEM"],
    needs=("an allocation that fails",),
)
def no_memory_first(world: World) -> Outcome:
    fd = os.open(os.devnull, os.O_RDONLY)
    try:
        world.fail("reply")
        return world.ask(cgroup(fd))
    finally:
        os.close(fd)
