"""What the parts of the emulated kernel share."""

from dataclasses import dataclass

from taskstats.emulator.cgroups import Cgroups
from taskstats.emulator.events import Events
from taskstats.emulator.faults import Faults
from taskstats.emulator.hierarchy import Hierarchy
from taskstats.emulator.listeners import Listeners
from taskstats.emulator.options import Caller, Layout, Quirks
from taskstats.emulator.tasks import Tasks


@dataclass(slots=True)
class State:
    """All that there is in it.

    Attributes:
        cpus: The possible CPUs, ascending.
        family: The family's id.
    """

    cpus: list[int]
    family: int
    layout: Layout
    quirks: Quirks
    caller: Caller
    tasks: Tasks
    listeners: Listeners
    cgroups: Cgroups
    hierarchy: Hierarchy
    events: Events
    faults: Faults

    @property
    def n_cpus(self) -> int:
        """One more than the last CPU's number (nr_cpu_ids)."""
        return self.cpus[-1] + 1
