"""The hierarchy of cgroups that the probe names: directories in a tree, each with an id."""

import itertools
from dataclasses import dataclass, field

_ROOT_ID = 1
_FIRST_ID = (1 << 32) + 1  # an id has 64 bits (fs/kernfs/dir.c:__kernfs_new_node)


@dataclass(eq=False, slots=True)
class ControlGroup:
    """A cgroup of the hierarchy that the probe names.

    Attributes:
        id: Its id, the inode number of its directory on a real kernel. It is never used again.
        name: The name of its directory; "" for the root.
        parent: The cgroup above; None for the root.
        children: The cgroups right below, by name.
        removed: Whether it has been removed.
    """

    id: int
    name: str
    parent: "ControlGroup | None" = None
    children: "dict[str, ControlGroup]" = field(default_factory=dict, repr=False)
    removed: bool = False

    @property
    def path(self) -> str:
        """The path from the root of the hierarchy, "/" for the root."""
        if self.parent is None:
            return "/"
        return f"{self.parent.path.rstrip('/')}/{self.name}"


class Hierarchy:
    """All cgroups.

    Attributes:
        root: The cgroup that every task is below.
    """

    def __init__(self) -> None:
        self.root = ControlGroup(_ROOT_ID, "")
        self._ids = itertools.count(_FIRST_ID)
        self._by_id = {_ROOT_ID: self.root}

    def paths(self) -> dict[int, str]:
        """The path of each cgroup that there is, by id."""
        return {cgroup.id: cgroup.path for cgroup in list(self._by_id.values())}

    def make(self, path: str) -> ControlGroup:
        """A new cgroup.

        Raises:
            ValueError: It exists, or there is none above it.
        """
        first, *names = path.rstrip("/").split("/")
        if first or not all(names):
            raise ValueError(f"a path of a cgroup is like /a/b, not {path!r}")
        above = self.root
        for name in names[:-1]:
            if name not in above.children:
                raise ValueError(f"there is no cgroup {name!r} in {above.path}")
            above = above.children[name]
        name = names[-1] if names else ""
        if not names or name in above.children:
            raise ValueError(f"there is a cgroup {path} already")
        made = ControlGroup(next(self._ids), name, above)
        above.children[name] = self._by_id[made.id] = made
        return made

    def rename(self, cgroup: ControlGroup, name: str) -> None:
        """Give a cgroup another name (kernel/cgroup/cgroup-v1.c:cgroup1_rename).

        Raises:
            ValueError: It is the root or was removed, or the name is taken or none.
        """
        above = self._parent(cgroup)
        if not name or "/" in name or name in above.children:
            raise ValueError(f"no new name in {above.path}: {name!r}")
        above.children[name] = above.children.pop(cgroup.name)
        cgroup.name = name

    def remove(self, cgroup: ControlGroup) -> None:
        """Remove a cgroup without tasks.

        Raises:
            ValueError: It is the root, was removed, or has cgroups below it.
        """
        above = self._parent(cgroup)
        if cgroup.children:
            raise ValueError(f"{cgroup.path} has cgroups below it")
        del above.children[cgroup.name], self._by_id[cgroup.id]
        cgroup.removed = True

    @staticmethod
    def _parent(cgroup: ControlGroup) -> ControlGroup:
        if cgroup.parent is None:
            raise ValueError("this is the root")
        if cgroup.removed:
            raise ValueError(f"{cgroup.path} was removed")
        return cgroup.parent
