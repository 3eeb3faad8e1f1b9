"""Cases: Whose child an orphan is."""

from conformance import messages
from conformance.table import Outcome, Table
from conformance.world import Task, World

table = Table()
case = table.case

_STAYS = ("find_new_reaper", "another thread of the parent lives")
_NEAREST = ("find_new_reaper", "the nearest subreaper above")
_INIT = ("find_new_reaper", "no subreaper above: init")
_ASKED = ("fill_stats_for_pid", "found")
_TOLD = ("fill_stats", "identity and figures of a task")


def _end(world: World, process: Task) -> None:
    """Nobody waits for it: it is a zombie, unless init is its parent."""
    world.exit_group(process, zombie=True)


def _parent(world: World, orphan: Task, **known: Task | int) -> str | int:
    """Its parent's name among those that are known."""
    ppid = world.query(orphan)["ac_ppid"]
    return _name(ppid, known)


def _name(ppid: int, known: dict[str, Task | int]) -> str | int:
    pids = {one if isinstance(one, int) else one.tgid: name for name, one in known.items()}
    return pids.get(ppid, ppid)


@case(
    "an-orphan-lives-on",
    _NEAREST,
    _ASKED,
    expects=["parent", "subreaper"],
)
def lives_on(world: World) -> Outcome:
    subreaper = world.spawn()
    parent = world.child(subreaper)
    orphan = world.child(parent)
    world.subreaper(subreaper)  # of those too that it has already
    known = {"subreaper": subreaper, "parent": parent}
    before = _parent(world, orphan, **known)
    _end(world, parent)
    return [before, _parent(world, orphan, **known)]


@case(
    "an-orphans-end",
    _NEAREST,
    _TOLD,
    expects=["subreaper", "subreaper"],
)
def ends(world: World) -> Outcome:
    """In its record, and as a zombie."""
    with world.listening() as one:
        subreaper = world.spawn()
        world.subreaper(subreaper)
        parent = world.child(subreaper)
        orphan = world.child(parent)
        _end(world, parent)
        _end(world, orphan)
        (found,) = one.heard(orphan)
        known = {"subreaper": subreaper, "parent": parent}
        return [_name(found["ac_ppid"], known), _parent(world, orphan, **known)]


@case(
    "an-orphan-without-a-subreaper",
    _INIT,
    _ASKED,
    _TOLD,
    expects={"asked": "init", "at its end": "init"},
)
def without(world: World) -> Outcome:
    """Init, or a subreaper above the program that runs this, as /proc says of another orphan."""
    init = world.reaper
    with world.listening() as one:
        parent = world.spawn()
        orphan = world.child(parent)
        world.exit_group(parent)
        asked = _parent(world, orphan, init=init)
        _end(world, orphan)
        (found,) = one.heard(orphan)
    return {"asked": asked, "at its end": _name(found["ac_ppid"], {"init": init})}


@case(
    "a-subreaper-that-ends",
    _NEAREST,
    expects=["near", "far"],
)
def hands_on(world: World) -> Outcome:
    """The nearest one, and after its end the next."""
    far = world.spawn()
    near = world.child(far)
    parent = world.child(near)
    orphan = world.child(parent)
    for one in (far, near):
        world.subreaper(one)
    told = []
    for ended in (parent, near):
        _end(world, ended)
        told.append(_parent(world, orphan, far=far, near=near, parent=parent))
    return told


@case(
    "a-subreaper-no-more",
    _INIT,
    expects="init",
)
def no_more(world: World) -> Outcome:
    init = world.reaper
    before = world.spawn()
    world.subreaper(before)
    parent = world.child(before)
    orphan = world.child(parent)
    world.subreaper(before, False)
    _end(world, parent)
    return _parent(world, orphan, before=before, parent=parent, init=init)


@case(
    "a-child-of-a-subreaper-is-none",
    _NEAREST,
    expects="subreaper",
)
def not_inherited(world: World) -> Outcome:
    subreaper = world.spawn()
    world.subreaper(subreaper)
    child = world.child(subreaper)
    parent = world.child(child)
    orphan = world.child(parent)
    _end(world, parent)
    return _parent(world, orphan, subreaper=subreaper, child=child, parent=parent)


@case(
    "a-subreaper-that-calls-exec",
    _NEAREST,
    expects=[b"renamed", "subreaper"],
)
def kept_across_exec(world: World) -> Outcome:
    subreaper = world.spawn()
    world.subreaper(subreaper)
    parent = world.child(subreaper)
    orphan = world.child(parent)
    subreaper = world.exec(subreaper)
    _end(world, parent)
    name = world.query(subreaper).values["ac_comm"]
    return [name, _parent(world, orphan, subreaper=subreaper, parent=parent)]


@case(
    "a-zombie-that-is-orphaned",
    _NEAREST,
    expects={"asked": ["PID", "ACK"], "parents": ["parent", "subreaper"]},
)
def zombie(world: World) -> Outcome:
    """Nobody waits for it."""
    subreaper = world.spawn()
    world.subreaper(subreaper)
    parent = world.child(subreaper)
    orphan = world.child(parent)
    known = {"subreaper": subreaper, "parent": parent}
    parents = []
    for ended in (orphan, parent):
        _end(world, ended)
        parents.append(_parent(world, orphan, **known))
    return {"asked": world.ask(messages.pid(orphan.pid)), "parents": parents}


@case(
    "a-parent-of-which-a-thread-lives",
    _STAYS,
    _NEAREST,
    expects=["parent", "subreaper"],
)
def thread_lives(world: World) -> Outcome:
    """Its leader has ended."""
    subreaper = world.spawn()
    world.subreaper(subreaper)
    parent = world.child(subreaper)
    thread = world.thread(parent)
    child = world.child(parent)
    known = {"subreaper": subreaper, "parent": parent}
    world.exit(parent)
    told = [_parent(world, child, **known)]
    _end(world, thread)
    return [*told, _parent(world, child, **known)]
