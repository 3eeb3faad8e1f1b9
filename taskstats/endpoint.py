"""Where the service is: the kernel, or a process that emulates it."""

from dataclasses import dataclass
from typing import Any

from taskstats import host
from taskstats._native import ffi, lib
from taskstats.errors import TaskstatsError, from_errno

NETLINK_USERSOCK = 2
NETLINK_GENERIC = 16

_STEPS = ("socket", "buffer", "connect", "family", "clean", "register", "epoll")


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
    """

    protocol: int = NETLINK_GENERIC
    port: int = 0
    family: int = 0
    synchronous: bool = True
    timeout: float = 1.0
    cpus: str | None = None

    @property
    def possible_cpus(self) -> str:
        """The CPUs there can be, as the kernel's list."""
        return self.cpus or host.possible_cpus()

    @property
    def is_kernel(self) -> bool:
        """Whether it is the kernel of this machine."""
        return self.protocol == NETLINK_GENERIC and self.port == 0

    def native(self) -> tuple[Any, Any]:
        """The C struct, and the text that it points to: keep both while it is used."""
        cpus = ffi.new("char[]", self.possible_cpus.encode("ascii"))
        made = ffi.new(
            "struct ts_endpoint *",
            {
                "protocol": self.protocol,
                "port": self.port,
                "family": self.family,
                "synchronous": self.synchronous,
                "timeout_ms": int(self.timeout * 1000),
                "cpus": cpus,
            },
        )
        return made, cpus


#: The kernel of this machine.
KERNEL = Endpoint()


def opening_error(operation: str, rc: int, opened: Any, about: str = "") -> TaskstatsError:
    """The error for an open that failed."""
    return from_errno(operation, -rc, _STEPS[opened.step], about)


def owned(handle: Any) -> Any:
    """A handle made by the shim, whose memory is freed with the Python object."""
    return ffi.gc(handle, lib.ts_free)


#: Makes arrays of rows from the shim's memory, not cleared.
new_rows = ffi.new_allocator(lib.ts_alloc, lib.ts_free, should_clear_after_alloc=False)
