"""Cases: What the probe sees.

The package's own listener reads the probe's ring, since there is no other reader.
"""

from conformance.table import Outcome, Table
from conformance.world import World

table = Table()
case = table.case

_PROCESS = ("kernel_clone", "a process is made")
_THREAD = ("kernel_clone", "a thread is made")
_LAST = ("do_task_dead", "a task's last switch")
_MADE = ("cgroup_mkdir", "a cgroup is made")
_REMOVED = ("cgroup_rmdir", "a cgroup is removed")


@case(
    "a-birth-names-its-maker",
    _PROCESS,
    expects=[["parent"], ["parent"]],
    needs=("a probe",),
)
def maker(world: World) -> Outcome:
    """Of a child, and of one whose maker has ended since."""
    with world.complete() as seen:
        parent = world.spawn()
        children = [world.child(parent), world.child(parent)]
        world.exit_group(children[0], zombie=True)
        world.exit_group(parent)
        world.exit_group(children[1], zombie=True)
        births, _ = seen()
    (own,) = births[parent.pid]
    names = {(own.pid, own.start_ns): "parent"}
    return [
        [names.get((one.maker_pid, one.maker_start_ns)) for one in births[child.pid]]
        for child in children
    ]


@case(
    "a-thread-has-no-birth",
    _THREAD,
    _PROCESS,
    expects={"process": 1, "thread": 0},
    needs=("a probe",),
)
def thread(world: World) -> Outcome:
    with world.complete() as seen:
        process = world.spawn()
        other = world.thread(process)
        world.exit_group(process)
        births, _ = seen()
    return {"process": len(births[process.pid]), "thread": len(births[other.pid])}


@case(
    "an-end-has-the-start-of-its-birth",
    _LAST,
    _PROCESS,
    expects=[True, True],
    needs=("a probe",),
)
def identity(world: World) -> Outcome:
    """And no less CPU time than the record."""
    with world.complete() as seen:
        process = world.spawn()
        world.exit_group(process)
        births, records = seen()
    (birth,), (record,) = births[process.pid], records[process.pid]
    used = record.final_cpu_ns >= record.cpu_run_virtual_total
    return [record.start_ns == birth.start_ns, used]


@case(
    "a-zombie-has-ended",
    _LAST,
    expects=[True],
    needs=("a probe",),
)
def zombie(world: World) -> Outcome:
    """Nobody has reaped it."""
    with world.complete() as seen:
        parent = world.spawn()
        child = world.child(parent)
        world.exit_group(child, zombie=True)
        _, records = seen()
    return [record.is_settled for record in records[child.pid]]


@case(
    "a-removed-cgroup-keeps-its-path",
    _MADE,
    _REMOVED,
    _LAST,
    expects={"birth": True, "ends": [True, True]},
    needs=("a probe",),
)
def cgroup(world: World) -> Outcome:
    """Of a process that was moved there, and of its child."""
    with world.complete() as seen:
        parent = world.spawn()
        with world.probed_cgroup(parent) as path:
            child = world.child(parent)
            world.exit_group(child, zombie=True)
            world.exit_group(parent)
        births, records = seen()
        (birth,) = births[child.pid]
        ends = [record.cgroup for task in (parent, child) for record in records[task.pid]]
        return {"birth": birth.cgroup == path, "ends": [one == path for one in ends]}


@case(
    "exec-by-a-thread-keeps-the-start",
    _LAST,
    _PROCESS,
    expects={"births": 1, "records": 2, "other starts": 0},
    needs=("a probe",),
)
def exec_by_a_thread(world: World) -> Outcome:
    """It takes over the leader's pid and start; of the two ends one may be in doubt."""
    with world.complete(settle=0.5) as seen:
        process = world.spawn()
        thread = world.thread(process)
        world.exit_group(world.exec(thread))
        births, records = seen()
    starts = {birth.start_ns for birth in births[process.pid]}
    ended = records[process.pid]
    others = [one for one in ended if one.is_settled and one.start_ns not in starts]
    return {
        "births": len(births[process.pid]),
        "records": len(ended),
        "other starts": len(others),
    }
