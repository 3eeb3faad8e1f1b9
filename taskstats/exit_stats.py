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
class ExitStats(Counts):
    """What a listener has seen: sums over its CPUs, and each of them.

    Attributes:
        witness: Exits by the kernel's own books (host.exits_by_the_books) from the opening of the
            listener until now, or until `stop`; None unless it listens on every CPU, and where
            /proc cannot be read. Read a moment before or after the rest, and a task counts there
            when it is reaped: equal when all is quiet.
        cpus: Each CPU's own, ascending.
    """

    witness: int | None
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


def total(cpus: list[CpuStats], wakeups: int, witness: int | None) -> ExitStats:
    """All CPUs together."""
    sums: dict[str, Any] = {field.name: _sum(cpus, field.name) for field in fields(Counts)}
    return ExitStats(**sums | {"wakeups": wakeups}, witness=witness, cpus=tuple(cpus))
