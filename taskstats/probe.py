"""The probe of a listener: BPF programs at each fork and at each task's last switch.

The kernel's exit record lacks the CPU time of the task's teardown, its cgroup, and an identity that
holds for more than a moment. The probe (csrc/programs.c) sees all three.
"""

import errno
import os
from typing import Any, Literal

from taskstats import host
from taskstats._native import ffi, lib
from taskstats.cgroups.hierarchies import Hierarchy, choose
from taskstats.cgroups.paths import CgroupPaths
from taskstats.endpoint import Endpoint
from taskstats.errors import TaskstatsError, from_errno
from taskstats.shim import new_cell, opening_error

#: Whether a listener has a probe: never, where it can be had, or else it is an error.
Mode = Literal["off", "auto", "require"]
MODES = ("off", "auto", "require")

_BYTES_A_CPU = 4 << 20  # half a second of 70,000 processes/s: an end of 72 bytes, a birth of 48
_MOST_BYTES = 128 << 20
_LEAST_BYTES = 1 << 20
_SHARE_OF_MEMORY = 200  # the ring is allocated whole, unlike the sockets' queues

_FIRST_WITHOUT_MEMLOCK = (5, 11)  # later kernels charge maps to the memory cgroup


class Probe:
    """An open probe.

    Args:
        endpoint: The kernel, or what plays it.
        hierarchy: The cgroup hierarchy to report.
        ring_bytes: The size of the ring, a power of two; None for 4 MiB a CPU, at most 128 MiB and
            half a percent of memory.

    Attributes:
        cell: The shim's handle.
        hierarchy: The cgroup hierarchy that it reports.
        paths: The paths of the cgroups.
        ring_bytes: The size of its ring.

    Raises:
        AccessDenied: CAP_BPF or CAP_PERFMON is missing, or locked memory for a kernel before 5.11.
        Unavailable: The kernel has no BTF, no ring buffer (before 5.8), or refuses the programs.
    """

    def __init__(
        self, endpoint: Endpoint, hierarchy: Hierarchy, ring_bytes: int | None = None
    ) -> None:
        self.hierarchy = hierarchy
        self.ring_bytes = default_ring_bytes() if ring_bytes is None else ring_bytes
        self.cell = new_cell("ts_probe", lib.ts_probe_close, endpoint)
        wanted = ffi.new("struct ts_probe_wanted *", {"ring_size": self.ring_bytes})
        controller = ffi.new("char[]", _btf_name(hierarchy).encode("ascii"))
        if hierarchy.version == 1:
            wanted.controller, wanted.hierarchy = controller, hierarchy.number
        if not endpoint.is_kernel:
            ring = endpoint.open_ring(self.ring_bytes) if endpoint.open_ring else None
            if ring is None:
                raise from_errno("probe", errno.EOPNOTSUPP, "peer")
            self._ring = wanted.peer = ring
        opened = ffi.new("struct ts_opened *")
        rc = lib.ts_probe_open(wanted, self.cell, opened)
        if rc < 0:
            raise _error(rc, opened)
        peers = None if endpoint.is_kernel else endpoint.list_cgroups or dict
        self.paths = CgroupPaths(hierarchy, peers)
        self.paths.list_existing()

    def close(self) -> None:
        """Detach the programs and give the ring back."""
        lib.ts_probe_close(self.cell[0])
        self._ring = None


def open_probe(
    mode: Mode, hierarchy: str | None, endpoint: Endpoint
) -> tuple[Probe | None, TaskstatsError | None]:
    """Open a probe as a listener's `probe=` says.

    Returns:
        The probe, if there is one, and why there is none where the mode is "auto".

    Raises:
        ValueError: No such mode or hierarchy.
        TaskstatsError: As Probe raises them, where the mode is "require".
    """
    if mode not in MODES:
        raise ValueError(f"probe is one of {', '.join(map(repr, MODES))}, not {mode!r}")
    if mode == "off":
        return None, None
    try:
        return Probe(endpoint, _chosen(hierarchy)), None
    except TaskstatsError as error:
        if mode == "require":
            raise
        return None, error


def _chosen(hierarchy: str | None) -> Hierarchy:
    try:
        return choose(hierarchy)
    except OSError as error:
        raise from_errno("probe", error.errno or errno.ENOENT, "cgroups") from error


def default_ring_bytes() -> int:
    """The size of a probe's ring, unless another one is asked for."""
    wanted = min(
        _BYTES_A_CPU * (os.cpu_count() or 1), host.memory_bytes() // _SHARE_OF_MEMORY, _MOST_BYTES
    )
    return max(1 << wanted.bit_length() - 1, _LEAST_BYTES)


def _btf_name(hierarchy: Hierarchy) -> str:
    """The controller as the kernel's enum cgroup_subsys_id calls it."""
    first = hierarchy.controllers[0] if hierarchy.controllers else ""
    return "io" if first == "blkio" else first


def _error(rc: int, opened: Any) -> TaskstatsError:
    """The error for a probe that could not be opened: EPERM has several causes."""
    if rc == -errno.EPERM and host.kernel_version() < _FIRST_WITHOUT_MEMLOCK and host.may_probe():
        return from_errno("probe", errno.EPERM, "memlock")
    if rc == -errno.EPERM and host.may_probe():
        return from_errno("probe", errno.EPERM, "sandbox")
    return opening_error("probe", rc, opened)
