"""Allocations that fail when a test says so, each by the name of what finds no memory."""

import errno
from typing import Literal, TypeAlias, get_args

from taskstats.emulator.errors import Refused

#: A reply or record; a request's cpumask; the copy of its CPU list; a registration; a copy of a
#: record for one more listener; the sums of a group.
Site: TypeAlias = Literal["reply", "cpumask", "cpulist", "listener", "clone", "group"]

SITES: tuple[Site, ...] = get_args(Site)


class Faults:
    """Counts down to the allocation that fails, each site by itself."""

    def __init__(self) -> None:
        self._left: dict[Site, int] = {}

    def fail(self, site: Site, after: int = 0) -> None:
        """Lets the next allocation fail, or after so many the one that follows."""
        if site not in SITES:
            raise ValueError(f"allocations are {', '.join(SITES)}, not {site!r}")
        self._left[site] = after

    def finds_none(self, site: Site) -> bool:
        """Whether this allocation fails."""
        if site not in self._left:
            return False
        left = self._left[site]
        if left:
            self._left[site] = left - 1
            return False
        del self._left[site]
        return True

    def allocate(self, site: Site) -> None:
        """An allocation.

        Raises:
            Refused: ENOMEM.
        """
        if self.finds_none(site):
            raise Refused(errno.ENOMEM)
