"""Who is registered on which CPU, and the numbers of its records.

kernel/taskstats.c:listener_array, taskstats_seqnum.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from taskstats.emulator.errors import Refused
from taskstats.emulator.faults import Faults
from taskstats.emulator.ledger import Ledger

#: What became of a datagram: it is queued, there was no room, or nobody has that port.
Delivery: TypeAlias = Literal["queued", "full", "gone"]


@dataclass(eq=False, slots=True)
class Listener:
    """One registration. `reachable`: its port is one of the initial network namespace."""

    port: int
    reachable: bool


class Listeners:
    """The registrations of all CPUs.

    Args:
        cpus: The possible CPUs.
        deliver: Sends a datagram to a port.
        ledger: Where that is counted.
        faults: What finds no memory.
    """

    def __init__(
        self,
        cpus: Iterable[int],
        deliver: Callable[[int, bytes | bytearray], Delivery],
        ledger: Ledger,
        faults: Faults,
    ) -> None:
        self._on: dict[int, list[Listener]] = {cpu: [] for cpu in cpus}
        self._next_seq = dict.fromkeys(self._on, 0)
        self._deliver = deliver
        self._ledger = ledger
        self._faults = faults

    def ports(self, cpu: int) -> list[int]:
        """The ports registered on a CPU; the newest is served first."""
        return [listener.port for listener in self._on[cpu]]

    def heard(self, cpu: int) -> bool:
        """Whether anybody is registered on a CPU."""
        return bool(self._on[cpu])

    def register(self, port: int, cpus: Iterable[int], reachable: bool) -> None:
        """Adds a port to CPUs; where it is already, nothing changes.

        Raises:
            Refused: ENOMEM. Then the port is on none of these CPUs, also where it was before.
        """
        chosen = sorted(cpus)
        for cpu in chosen:
            try:
                self._faults.allocate("listener")
            except Refused:
                self.deregister(port, chosen)
                raise
            if port not in self.ports(cpu):
                self._on[cpu].insert(0, Listener(port, reachable))

    def deregister(self, port: int, cpus: Iterable[int]) -> None:
        """Takes a port off CPUs."""
        for cpu in cpus:
            self._on[cpu] = [one for one in self._on[cpu] if one.port != port]

    # -- records

    def number(self, cpu: int) -> int:
        """The next record's number on a CPU."""
        seq = self._next_seq[cpu]
        self._next_seq[cpu] = (seq + 1) & 0xFFFFFFFF
        return seq

    def set_number(self, cpu: int, seq: int) -> None:
        """Makes this the next record's number."""
        self._next_seq[cpu] = seq & 0xFFFFFFFF

    def send(self, cpu: int, datagram: bytes | bytearray) -> None:
        """Sends a record to all of a CPU's listeners; those that are gone are removed."""
        listeners = self._on[cpu]
        gone = []
        for i, listener in enumerate(listeners):
            if i < len(listeners) - 1 and self._faults.finds_none("clone"):
                break
            outcome = self._deliver(listener.port, datagram) if listener.reachable else "gone"
            if outcome == "gone":
                gone.append(listener)
            else:
                self._ledger.sent(listener.port, 1, outcome == "full")
        for listener in gone:
            listeners.remove(listener)

    def lose(self, cpu: int, count: int) -> None:
        """So many records of a CPU find no room with any of its listeners.

        Of those that are out of reach, the first of the records tells.
        """
        if self._on[cpu] and count:
            reachable = [one for one in self._on[cpu] if one.reachable]
            self._on[cpu] = reachable
            self.set_number(cpu, self._next_seq[cpu] + (count if reachable else 1))
            for listener in reachable:
                self._ledger.sent(listener.port, count, count)
