"""From the id of a cgroup to its path, also of a cgroup that has been removed."""

import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path

from taskstats import host
from taskstats.cgroups.hierarchies import Hierarchy
from taskstats.rows import text_of

#: How many removed cgroups are remembered.
_MOST_REMOVED = 65_536

MADE, RENAMED, REMOVED = 1, 2, 3  # enum ts_cgroup_change_kind of csrc/taskstats_shim.h


class CgroupPaths:
    """The paths of the cgroups of one hierarchy, by id.

    An id is the inode number of the cgroup's directory and is never used again
    (fs/kernfs/dir.c:__kernfs_new_node). Cgroups that exist at the start are listed; the probe's
    events keep the index up to date.

    Args:
        hierarchy: Whose cgroups.
        list_peers: What lists the cgroups of a peer that plays the kernel; None for the kernel.
    """

    def __init__(
        self,
        hierarchy: Hierarchy,
        list_peers: Callable[[], Mapping[int, str]] | None = None,
    ) -> None:
        self._hierarchy = hierarchy
        self._list_peers = list_peers
        self._lost: Callable[[], int] = lambda: 0
        self._listed_after = 0
        self._paths: dict[int, str] = {}
        self._removed: OrderedDict[int, str] = OrderedDict()

    def list_existing(self) -> None:
        """Add the cgroups that exist now."""
        self._listed_after = self._lost()
        if self._list_peers is not None:
            self._paths.update(self._list_peers())
            return
        mount = self._hierarchy.mount
        # In a cgroup namespace the mount shows other paths than the probe's events have.
        if mount is None or host.in_initial_namespace("cgroup") is False:
            return
        left = [(mount, os.path.normpath(self._hierarchy.root))]
        try:
            self._paths.setdefault(mount.stat().st_ino, left[0][1])
        except OSError:
            return
        while left:
            directory, path = left.pop()
            for name, inode in _children(directory):
                below = f"{path.rstrip('/')}/{text_of(os.fsencode(name))}"
                self._paths[inode] = below
                left.append((directory / name, below))

    def watch_losses(self, lost: Callable[[], int]) -> None:
        """Ask `lost` how many events have been lost so far.

        After a loss, an unknown id makes the cgroups be listed again. A rename that was lost (there
        are none in version 2) is not noticed: the cgroup keeps the path that it had.
        """
        self._lost = lost

    def apply(self, change: int, cgroup_id: int, path: str) -> None:
        """Take an event of the probe; an empty path was too long to be told."""
        if change == REMOVED:
            known = self._paths.pop(cgroup_id, path)
            if known:
                self._removed[cgroup_id] = known
            if len(self._removed) > _MOST_REMOVED:
                self._removed.popitem(last=False)
            return
        before = self._paths.get(cgroup_id) if change == RENAMED else None
        if path:
            self._paths[cgroup_id] = path
        else:
            self._paths.pop(cgroup_id, None)
        if before and path and before != path:
            start = f"{before}/"
            moved = [(one, its) for one, its in self._paths.items() if its.startswith(start)]
            self._paths.update((one, path + its[len(before) :]) for one, its in moved)

    def get(self, cgroup_id: int) -> str | None:
        r"""Return the path from the hierarchy's root ("/system.slice"); None if it is not known.

        Bytes that are not UTF-8 read \xNN.
        """
        found = self._paths.get(cgroup_id) or self._removed.get(cgroup_id)
        if found is None and self._lost() > self._listed_after:
            self.list_existing()
            found = self._paths.get(cgroup_id)
        return found


def _children(directory: Path) -> list[tuple[str, int]]:
    """The cgroups right below one: name and inode."""
    try:
        with os.scandir(directory) as entries:
            return [(one.name, one.inode()) for one in entries if one.is_dir(follow_symlinks=False)]
    except OSError:  # it has been removed meanwhile
        return []
