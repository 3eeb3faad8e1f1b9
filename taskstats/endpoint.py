"""Where the service is: the kernel, or a process that emulates it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from taskstats import host
from taskstats._native import ffi

NETLINK_USERSOCK = 2
NETLINK_GENERIC = 16


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Whom to talk to, and what differs between the kernel and an emulation of it.

    Attributes:
        protocol: The netlink protocol.
        port: The peer's netlink port; 0 is the kernel.
        family: The genetlink family's id; 0 to look it up by name.
        synchronous: Answers are queued when a send returns, so that an empty queue with an answer
            missing means that it was lost. True of the kernel alone.
        timeout: Longest wait for one answer, seconds.
        cpus: The possible CPUs as the kernel's list; None for this machine's.
        sent: Where a peer that plays the kernel counts what it has sent to each port: an array of
            the shim's struct ts_sent. None where the sockets count what they had no room for.
        open_ring: What makes a ring that a peer writes as the kernel's probe would: given its size
            in bytes, it returns the shim's struct ts_peer_ring, or None if it cannot make one.
        list_cgroups: What lists a peer's cgroups: the path of each by its id. None for the kernel,
            whose cgroups are directories.
    """

    protocol: int = NETLINK_GENERIC
    port: int = 0
    family: int = 0
    synchronous: bool = True
    timeout: float = 1.0
    cpus: str | None = None
    sent: Any = None
    open_ring: Callable[[int], Any] | None = None
    list_cgroups: Callable[[], Mapping[int, str]] | None = None

    @property
    def counts_exits(self) -> bool:
        """Whether it can be told how many exits a filter kept out."""
        return self.synchronous or self.sent is not None

    @property
    def possible_cpus(self) -> str:
        """The CPUs there can be, as the kernel's list."""
        return self.cpus or host.possible_cpus()

    @property
    def is_kernel(self) -> bool:
        """Whether it is the kernel of this machine."""
        return self.protocol == NETLINK_GENERIC and self.port == 0

    def native(self, clean: bool = True) -> tuple[Any, Any]:
        """The C struct, and the text that it points to: keep both while it is used.

        Args:
            clean: Let a new socket end the registrations that its port inherited.
        """
        cpus = ffi.new("char[]", self.possible_cpus.encode("ascii")) if clean else ffi.NULL
        made = ffi.new(
            "struct ts_endpoint *",
            {
                "protocol": self.protocol,
                "port": self.port,
                "family": self.family,
                "synchronous": self.synchronous,
                "timeout_ms": int(self.timeout * 1000),
                "cpus": cpus,
                "sent": ffi.NULL if self.sent is None else self.sent,
                "n_sent": 0 if self.sent is None else len(self.sent),
            },
        )
        return made, cpus


#: The kernel of this machine.
KERNEL = Endpoint()
