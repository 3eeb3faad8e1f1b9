"""The cgroup hierarchies of this machine: the unified one, and those of version 1."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

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
    for line in Path("/proc/self/cgroup").read_bytes().splitlines():
        number, names, _ = os.fsdecode(line).split(":", 2)
        controllers = tuple(filter(None, names.split(",")))
        if int(number) and (not controllers or controllers[0].startswith("name=")):
            continue
        # Of several mounts, the one that shows most.
        places = [(root, point) for of, root, point in mounts if of == frozenset(controllers)]
        root, point = min(places, key=lambda place: len(place[0]), default=("/", None))
        found.append(Hierarchy(int(number), controllers, Path(point) if point else None, root))
    return sorted(found, key=lambda one: one.number)


def _mounts() -> Iterator[tuple[frozenset[str], str, str]]:
    """Each mount's controllers (none: version 2), what it shows, and where."""
    names = {os.fsdecode(line).split("\t")[0] for line in _controllers()}
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        place, _, system = map(os.fsdecode, line.partition(b" - "))
        kind, _, options = system.split(" ", 2)
        root, point = place.split(" ")[3:5]
        if kind == "cgroup2":
            yield frozenset(), root, point
        elif kind == "cgroup":
            controllers = frozenset(options.split(",")) & names
            if controllers:
                yield controllers, root, point


def _controllers() -> list[bytes]:
    return Path("/proc/cgroups").read_bytes().splitlines()[1:]


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
        elif (name or "cpuacct") in one.controllers:
            return one
    if name is None or name == UNIFIED:
        return unified
    names = ", ".join([UNIFIED, *(each for one in known for each in one.controllers)])
    raise ValueError(f"there is no cgroup hierarchy {name!r} here; there are: {names}")
