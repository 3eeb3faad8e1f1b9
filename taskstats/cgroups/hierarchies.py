"""The cgroup hierarchies of this machine: the unified one, and those of version 1."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from taskstats.rows import text_of

_PROC = Path("/proc")

#: A space, a tab, a newline or a backslash in mountinfo (fs/proc_namespace.c:mangle).
_ESCAPED = re.compile(r"\\([0-7]{3})")

#: The name of the version 2 hierarchy in `cgroup_hierarchy=`.
UNIFIED = "unified"


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """A cgroup hierarchy.

    Attributes:
        number: As in /proc/PID/cgroup; 0 is version 2.
        controllers: The controllers of a version 1 hierarchy, "cpuacct" for instance.
        mount: The directory where it is mounted; None if it is not mounted here.
        root: The path of the cgroup that the mount shows: "/", but in a container.
    """

    number: int
    controllers: tuple[str, ...] = ()
    mount: Path | None = None
    root: str = "/"

    @property
    def version(self) -> int:
        """1 or 2."""
        return 1 if self.number else 2

    @property
    def name(self) -> str:
        """What `cgroup_hierarchy=` takes."""
        return ",".join(self.controllers) if self.number else UNIFIED


def hierarchies() -> list[Hierarchy]:
    """Return the hierarchies that this process is in, version 2 first.

    A version 1 hierarchy without controllers (name=systemd) is left out: the kernel keeps it
    where the probe does not read.
    """
    found = []
    mounts = list(_mounts())
    for number, names, _ in _memberships("self"):
        # A hierarchy may have a name as well.
        controllers = tuple(one for one in names.split(",") if one and not one.startswith("name="))
        if number and not controllers:
            continue
        # Of several mounts, the one that shows most.
        places = [(root, point) for of, root, point in mounts if of == frozenset(controllers)]
        root, point = min(places, key=lambda place: len(place[0]), default=("/", None))
        found.append(Hierarchy(number, controllers, Path(point) if point else None, root))
    return sorted(found, key=lambda one: one.number)


def cgroup_of(pid: int, hierarchy: Hierarchy) -> str | None:
    r"""Return the path of a living task's cgroup.

    Args:
        pid: A process or a thread, as /proc numbers it.
        hierarchy: The hierarchy of the cgroup.

    Returns:
        The path as in /proc/PID/cgroup, without " (deleted)" if the cgroup has been removed; bytes
        that are not UTF-8 read \xNN. None if /proc does not show the task, which may have ended.
    """
    try:
        found = [path for number, _, path in _memberships(pid) if number == hierarchy.number]
    except OSError:
        return None
    return found[0].removesuffix(" (deleted)") if found else None


def _memberships(pid: int | str) -> Iterator[tuple[int, str, str]]:
    """A task's cgroups: the number of the hierarchy, its controllers, the path."""
    # The name of a cgroup may contain any character but a newline.
    for line in (_PROC / str(pid) / "cgroup").read_bytes().split(b"\n"):
        if line:
            number, names, path = text_of(line).split(":", 2)
            yield int(number), names, path


def _mounts() -> Iterator[tuple[frozenset[str], str, str]]:
    """Each mount's controllers (none: version 2), what it shows, and where."""
    names = {os.fsdecode(line).split("\t")[0] for line in _controllers()}
    for line in (_PROC / "self/mountinfo").read_bytes().splitlines():
        place, _, system = map(os.fsdecode, line.partition(b" - "))
        kind, _, options = system.split(" ", 2)
        root, point = (_ESCAPED.sub(_unescaped, one) for one in place.split(" ")[3:5])
        if kind == "cgroup2":
            yield frozenset(), root, point
        elif kind == "cgroup":
            controllers = frozenset(options.split(",")) & names
            if controllers:
                yield controllers, root, point


def _unescaped(escape: re.Match[str]) -> str:
    return chr(int(escape[1], 8))


def _controllers() -> list[bytes]:
    return (_PROC / "cgroups").read_bytes().splitlines()[1:]


def choose(name: str | None) -> Hierarchy:
    """Return the hierarchy that a name means.

    Args:
        name: A controller of a version 1 hierarchy ("memory"), "unified" for version 2, or None:
            that of cpuacct where this is mounted as version 1, since it accounts the CPU time
            there, else version 2.

    Raises:
        ValueError: There is no such hierarchy here.
    """
    known = hierarchies()
    unified = Hierarchy(0)
    for one in known:
        if one.version == 2:
            unified = one
        elif ("cpuacct" if name is None else name) in one.controllers:
            return one
    if name is None or name == UNIFIED:
        return unified
    if name.startswith("name="):
        raise ValueError(f"the probe cannot read a hierarchy without a controller, as {name!r} is")
    names = ", ".join([UNIFIED, *(each for one in known for each in one.controllers)])
    raise ValueError(f"there is no cgroup hierarchy {name!r} here; there are: {names}")
