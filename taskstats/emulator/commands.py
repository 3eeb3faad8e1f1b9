"""The two commands of the family (kernel/taskstats.c:taskstats_ops)."""

import errno
import struct
from collections.abc import Callable, Mapping
from typing import TypeAlias

from taskstats.emulator import accounting, cpumask, structs
from taskstats.emulator.errors import Refused
from taskstats.emulator.messages import Message, attribute, message
from taskstats.emulator.state import State
from taskstats.emulator.tasks import pid_of
from taskstats.rows import Kind

Attributes: TypeAlias = Mapping[int, bytes]

#: A command's reply; None where an ACK says all.
Handler: TypeAlias = Callable[[State, Message, Attributes], bytes | None]

# include/uapi/linux/{taskstats,cgroupstats}.h
GET, CGROUP_GET = 1, 4
_CGROUP_NEW = 5
PID, TGID, REGISTER, DEREGISTER = 1, 2, 3, 4
CGROUP_FD = 1
_CGROUP_STATS = 1

#: A CPU list may be as long as one that names every CPU of a kernel built for so many.
_NR_CPUS = 256
_U32 = struct.Struct("=I")


def get(state: State, request: Message, attributes: Attributes) -> bytes | None:
    """TASKSTATS_CMD_GET: the first of these that is there decides (taskstats_user_cmd)."""
    if REGISTER in attributes:
        _register(state, request.port, attributes[REGISTER])
        return None
    if DEREGISTER in attributes:
        state.listeners.deregister(request.port, _cpus(state, attributes[DEREGISTER]))
        return None
    if PID in attributes:
        return _reply(state, request, "task", attributes[PID])
    if TGID in attributes:
        return _reply(state, request, "group", attributes[TGID])
    raise Refused(errno.EINVAL)


# ---- listeners -------------------------------------------------------------------------------


def longest_list(state: State) -> int:
    """Bytes that a CPU list may have (TASKSTATS_CPUMASK_MAXLEN)."""
    return 100 + 6 * max(_NR_CPUS, state.n_cpus)


def _cpus(state: State, text: bytes) -> set[int]:
    """The CPUs that a request names (parse, add_del_listener)."""
    state.faults.allocate("cpumask")
    if len(text) > longest_list(state):
        raise Refused(errno.E2BIG)
    state.faults.allocate("cpulist")
    if state.quirks.drops_last_character and not text.endswith(b"\0"):
        text = text[:-1]
    cpus = cpumask.parse(text.partition(b"\0")[0], state.n_cpus)
    if not cpus <= set(state.cpus):
        raise Refused(errno.EINVAL)
    if not (state.caller.initial_user_namespace and state.caller.initial_pid_namespace):
        raise Refused(errno.EINVAL)
    return cpus


def _register(state: State, port: int, text: bytes) -> None:
    cpus = _cpus(state, text)
    state.listeners.register(port, cpus, state.caller.initial_network_namespace)


# ---- queries ---------------------------------------------------------------------------------


def _reply(state: State, request: Message, kind: Kind, value: bytes) -> bytes:
    state.faults.allocate("reply")
    (id_,) = _U32.unpack_from(value)
    in_namespace = not state.caller.initial_pid_namespace
    task = state.tasks.find(id_, in_namespace)
    if task is None:
        raise Refused(errno.ESRCH)
    if kind == "group":
        values = accounting.of_group(state.tasks, task.process)
    else:
        seen = state.tasks.id_in_namespace if in_namespace else pid_of
        values = accounting.of_task(state.tasks, task, state.layout, seen, last=False)
    stats = structs.pack(state.layout, values)
    return structs.record(
        state.layout, state.family, (kind, id_, stats), port=request.port, seq=request.seq
    )


def cgroup_get(state: State, request: Message, attributes: Attributes) -> bytes | None:
    """CGROUPSTATS_CMD_GET; nothing is said of a closed descriptor (cgroupstats_user_cmd)."""
    if CGROUP_FD not in attributes:
        raise Refused(errno.EINVAL)
    (fd,) = struct.unpack_from("=i", attributes[CGROUP_FD])
    opened = state.cgroups.opened(fd)
    if opened is None:
        return None
    state.faults.allocate("reply")
    counts = attribute(_CGROUP_STATS, state.cgroups.counts(opened))
    return message(state.family, _CGROUP_NEW, [counts], port=request.port, seq=request.seq)
