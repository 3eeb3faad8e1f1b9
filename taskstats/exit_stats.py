"""What a listener has seen: its counters, for each CPU and in all."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from taskstats.errors import REASONS


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What one CPU's socket has seen since it was registered, or all of them together.

    Attributes:
        received: Records taken off its queue.
        lost: Records that the kernel built and could not queue. Once the queue is read empty,
            received + lost + filtered, and what was refused, is every exit there.
        filtered: Exits that `where` kept out; None without it, and on an endpoint that does not
            count. As of when the queue was last seen empty.
        unexplained: Sequence numbers missing beyond `lost`: a record may come late, or on the
            socket of the CPU that its task has left. Never part of `lost`. None with `where`,
            which leaves holes everywhere.
        foreign: Datagrams from another sender than the kernel.
        truncated: Datagrams longer than a receive slot.
        malformed: Datagrams that could not be decoded.
        wakeups: Drains that read this socket; of all, drains.
        rcvbuf: Bytes granted for the queue.
        queued: Bytes of it in use now.
    """

    received: int
    lost: int
    filtered: int | None
    unexplained: int | None
    foreign: int
    truncated: int
    malformed: int
    wakeups: int
    rcvbuf: int
    queued: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuStats(Counts):
    """What one CPU's socket has seen since it was registered.

    Attributes:
        cpu: The CPU.
        refused: Datagrams refused, by reason (errors.REASONS).
    """

    cpu: int
    refused: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeStats:
    """What a listener's probe has seen.

    Each record received is settled, unsettled, or waits.

    Attributes:
        settled: Records whose end the probe saw: final CPU time, start and cgroup are known.
        unsettled: Records handed out without: the end did not come within `settle`, was lost, or
            could be of another task with this pid.
        waiting: Records that wait for their end.
        ends_lost: Ends of tasks that the ring had no room for.
        births_lost: Births of processes that the ring had no room for.
        changes_lost: Cgroups made, renamed or removed that the ring had no room for.
        damaged: The ring held what cannot be, and is read no more.
        ring_bytes: The size of the ring.
    """

    settled: int
    unsettled: int
    waiting: int
    ends_lost: int
    births_lost: int
    changes_lost: int
    damaged: bool
    ring_bytes: int

    @property
    def lost(self) -> int:
        """All events that the ring had no room for."""
        return self.ends_lost + self.births_lost + self.changes_lost


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferStats:
    """The buffer that a listener's thread drains into.

    Attributes:
        bytes: The most memory that it takes.
        used: Bytes that wait in it now.
        most_used: The most bytes that have waited in it.
        waiting: Task records that wait in it now. They count as `received` already.
        full: How often it was full. The thread waited then, and the kernel's queues filled.
        full_seconds: How long it was full, in all.
    """

    bytes: int
    used: int
    most_used: int
    waiting: int
    full: int
    full_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ExitStats(Counts):
    """What a listener has seen: sums over its CPUs, and each of them.

    Attributes:
        witness: Exits by the kernel's own books (host.exits_by_the_books) from the opening of the
            listener until now, or until `stop`; None unless it listens on every CPU, and where
            /proc cannot be read. Read a moment before or after the rest, and a task counts there
            when it is reaped: equal when all is quiet.
        probe: What the probe has seen; None if the listener has none.
        buffer: The buffer of its thread; None if the listener has none.
        cpus: Each CPU's own, ascending.
    """

    witness: int | None
    probe: ProbeStats | None
    buffer: BufferStats | None
    cpus: tuple[CpuStats, ...]


# ---- from the shim ---------------------------------------------------------------------------

_NOT_MALFORMED = {"accepted", "foreign", "truncated"}


def cpu_stats(row: Any, filters: bool, metered: bool) -> CpuStats:
    """From the shim's struct ts_cpu_stats.

    Args:
        row: The struct.
        filters: The listener has a filter.
        metered: What that keeps out is counted.
    """
    refused = dict(zip(REASONS, row.refused, strict=True))
    return CpuStats(
        cpu=row.cpu,
        received=row.received,
        lost=row.lost,
        filtered=row.filtered if metered else None,
        unexplained=None if filters else row.unexplained,
        foreign=refused["foreign"],
        truncated=refused["truncated"],
        malformed=sum(n for reason, n in refused.items() if reason not in _NOT_MALFORMED),
        wakeups=row.wakeups,
        rcvbuf=row.rcvbuf,
        queued=row.queued,
        refused={reason: n for reason, n in refused.items() if n},
    )


def _sum(cpus: list[CpuStats], name: str) -> int | None:
    """The sum over the CPUs; None if that is what each says."""
    values = [getattr(cpu, name) for cpu in cpus]
    return None if None in values else sum(values)


def probe_stats(row: Any, ring_bytes: int) -> ProbeStats:
    """From the shim's struct ts_probe_stats."""
    return ProbeStats(
        settled=row.settled,
        unsettled=row.unsettled,
        waiting=row.held,
        ends_lost=row.ends_lost,
        births_lost=row.births_lost,
        changes_lost=row.changes_lost,
        damaged=bool(row.damaged),
        ring_bytes=ring_bytes,
    )


def buffer_stats(row: Any) -> BufferStats:
    """From the shim's struct ts_buffer_stats."""
    return BufferStats(
        bytes=row.bytes,
        used=row.used,
        most_used=row.most_used,
        waiting=row.waiting,
        full=row.full,
        full_seconds=row.full_ns / 1e9,
    )


def total(
    cpus: list[CpuStats],
    wakeups: int,
    witness: int | None,
    probe: ProbeStats | None,
    buffer: BufferStats | None,
) -> ExitStats:
    """All CPUs together."""
    sums: dict[str, Any] = {field.name: _sum(cpus, field.name) for field in fields(Counts)}
    return ExitStats(
        **sums | {"wakeups": wakeups},
        witness=witness,
        probe=probe,
        buffer=buffer,
        cpus=tuple(cpus),
    )
