"""What the kernel does as a task exits.

Its record: kernel/taskstats.c:taskstats_exit. Its end: kernel/exit.c:do_exit.
"""

from taskstats.emulator import accounting, structs
from taskstats.emulator.state import State
from taskstats.emulator.tasks import Task, pid_of
from taskstats.rows import Kind


def leave(state: State, task: Task, numbered_on: int | None = None, zombie: bool = False) -> None:
    """A task whose end is decided: it is accounted for, told of, and gone.

    Args:
        state: The kernel.
        task: It.
        numbered_on: The CPU whose number its record gets; None for the one that it is on.
        zombie: Its leader is not reaped, if it is the last of its group.
    """
    process = task.process
    alone = process.threads == [task]
    if process.sums is None and not alone and not state.faults.finds_none("group"):
        process.sums = {}
    accounting.add_exiting(state.tasks, task, state.quirks)
    if state.listeners.heard(task.cpu) and not state.faults.finds_none("reply"):
        seq = state.listeners.number(task.cpu if numbered_on is None else numbered_on)
        state.listeners.send(task.cpu, record(state, task, seq))
    state.tasks.end(task, zombie)
    state.events.end(task)


def record(state: State, task: Task, seq: int) -> bytes:
    """The message: of the task, and with the last one of several also of their group."""
    process = task.process
    last = process.living == [task]
    values = accounting.of_task(state.tasks, task, state.layout, pid_of, last)
    records: list[tuple[Kind, int, bytes]] = [
        ("task", task.pid, structs.pack(state.layout, values))
    ]
    if last and process.sums is not None:
        version = 0 if state.quirks.group_version_zero else None
        stats = structs.pack(state.layout, dict(process.sums), version)
        records.append(("group", task.tgid, stats))
    return structs.record(state.layout, state.family, *records, seq=seq)
