"""What the kernel writes into a record.

Of a task: kernel/taskstats.c:fill_stats with kernel/tsacct.c and kernel/delayacct.c. Of a group:
fill_stats_for_tgid and fill_tgid_exit.
"""

from collections.abc import Callable
from typing import TypeAlias

from taskstats.emulator.options import Layout, Quirks
from taskstats.emulator.structs import Value
from taskstats.emulator.tasks import Process, Task, Tasks
from taskstats.fields import DELAYS, FIELDS

Values: TypeAlias = dict[str, Value]

# ac_flag, include/uapi/linux/acct.h
AFORK, ACORE, AXSIG, AGROUP = 0x01, 0x08, 0x10, 0x20

#: The first version that tells the last thread (AGROUP), and the status of each thread, not of
#: leaders alone.
_EVERY_THREADS_END = 12

_TIMES = ("ac_etime", "ac_utime", "ac_stime", "nvcsw", "nivcsw")
_DELAYS = tuple(n for n, f in FIELDS.items() if "group" in f.kinds and n not in _TIMES)
_EXTREMES = tuple(
    name
    for delay in DELAYS
    for name in (f"{delay}_delay_max", f"{delay}_delay_min", f"{delay}_delay_max_ts")
)

#: Accounts for I/O are in KiB inside (kernel/tsacct.c:xacct_add_tsk), calls too.
_ROUNDED = (
    *("read_char", "write_char", "read_syscalls", "write_syscalls"),
    *("read_bytes", "write_bytes", "cancelled_write_bytes"),
)

#: What goes with the memory and the executable, as a task exits.
_OF_THE_MEMORY = ("hiwater_rss", "hiwater_vm", "ac_exe_dev", "ac_exe_inode")


def _number(task: Task, name: str) -> int:
    return task.used.get(name, 0)


def _elapsed_us(tasks: Tasks, task: Task) -> int:
    # No task lives for less; a group that sums up to 0 would be one of an older kernel.
    return max(1, (tasks.now_ns - task.started_ns) // 1000)


def of_task(
    tasks: Tasks, task: Task, layout: Layout, id_of: Callable[[Task | None], int], last: bool
) -> Values:
    """A task's record.

    Args:
        tasks: The clock, and who there is.
        task: Whose.
        layout: Of what version.
        id_of: The id of a task, in the namespace of whoever will read it.
        last: It is the last of its group, and exiting.
    """
    elapsed = _elapsed_us(tasks, task)
    # Whole seconds of now less whole seconds of the elapsed time (kernel/tsacct.c:bacct_add_tsk).
    began = tasks.booted + tasks.now_ns // 10**9 - elapsed // 10**6
    leader = task.process.leader
    values: Values = {**task.figures}
    values |= {
        "ac_comm": task.comm,
        "ac_pid": id_of(task),
        "ac_tgid": id_of(leader),
        "ac_ppid": id_of(task.parent),
        "ac_uid": task.uid,
        "ac_gid": task.gid,
        "ac_etime": elapsed,
        "ac_tgetime": _elapsed_us(tasks, leader),
        "ac_btime": min(began, 2**32 - 1),
        "ac_btime64": began,
    }
    flags = _number(task, "ac_flag") | task.flags
    if task.is_leader and task.forked:
        flags |= AFORK
    if last and layout.version >= _EVERY_THREADS_END:
        flags |= AGROUP
    values["ac_flag"] = flags
    if task.is_leader or layout.version >= _EVERY_THREADS_END:
        values["ac_exitcode"] = task.exit_code
    values |= {name: _number(task, name) & ~1023 for name in _ROUNDED}
    if task.exited:
        values |= dict.fromkeys(_OF_THE_MEMORY, 0)
    return values


def _add(sums: dict[str, int], task: Task, names: tuple[str, ...], tasks: Tasks) -> None:
    own = task.figures | {"ac_etime": _elapsed_us(tasks, task)}
    for name in names:
        sums[name] = sums.get(name, 0) + own.get(name, 0)
    # Not the greatest of all: what the last one had.
    sums.update({name: _number(task, name) for name in _EXTREMES})


def add_exiting(tasks: Tasks, task: Task, quirks: Quirks) -> None:
    """Adds a thread that exits to the sums of its group."""
    sums = task.process.sums
    if sums is not None:
        _add(sums, task, _DELAYS if quirks.forgets_dead_threads else _DELAYS + _TIMES, tasks)


def of_group(tasks: Tasks, process: Process) -> Values:
    """A group's record on request: those that have exited, and those that live."""
    sums = dict(process.sums or {})
    for task in process.living:
        _add(sums, task, _DELAYS + _TIMES, tasks)
    return dict(sums)
