"""Which fields a record has, and why it lacks the others."""

import struct
from collections.abc import Iterator
from functools import cache

from taskstats.fields import DELAYS, FIELDS

#: Bits of a record's flags (csrc/taskstats_shim.h, enum ts_flag).
LAST, PAIRED, LOST_BEFORE, DELAY_EXCEEDS, EXIT, NO_TIMES, NO_SUMS, SETTLED = (
    1 << bit for bit in range(8)
)

#: The flags on which a record's fields depend.
SHAPE_FLAGS = EXIT | NO_TIMES | NO_SUMS

_OLD_END = 432  # bytes of struct version 14, whose order version 15 broke

#: Bytes of a struct that has the moments of the longest delays (version 17). Another layout of
#: version 17 was proposed, with 592 bytes: a shorter struct may have other fields in their place.
_WITH_MOMENTS = 688


def size_of(name: str) -> int:
    """Bytes that the field takes in the struct."""
    return struct.calcsize(FIELDS[name].format)


def _extremes_inside(version: int, size: int) -> tuple[str, ...]:
    """The extremes that stand right after each delay's total, in the layouts that had them there.

    Version 15 did; so did release candidates that still called it 14 (commit 0bf2d838de1f).
    """
    if version == 15 or (version == 14 and size == 560):
        return ("max", "min")
    if version == 14 and size == 496:
        return ("max",)
    return ()


def _lacks_moments(name: str, size: int) -> bool:
    """Whether the field is a moment, and the struct too short to have moments."""
    return name.endswith("_delay_max_ts") and size < _WITH_MOMENTS


def _sent(version: int, size: int) -> Iterator[tuple[str, int]]:
    """The fields of the sender's layout, each with its end there."""
    extremes = _extremes_inside(version, size)
    moved = 0
    for name, field in FIELDS.items():
        if (extremes and field.offset >= _OLD_END) or _lacks_moments(name, size):
            continue
        end = field.offset + size_of(name) + moved
        if extremes or field.since <= version:
            yield name, end
        if name.endswith("_delay_total"):
            for extreme in extremes:
                moved += 8
                end += 8
                yield name.replace("total", extreme), end


@cache
def offsets(version: int, size: int) -> dict[str, int]:
    """Where each field stands in the struct that the kernel sent."""
    return {name: end - size_of(name) for name, end in _sent(version, size) if end <= size}


def _not_summed(flags: int) -> frozenset[str]:
    """What this group record leaves at zero although other kernels fill it."""
    if flags & NO_SUMS:
        return frozenset(FIELDS)
    if not flags & NO_TIMES:
        return frozenset()
    switches = {"nvcsw", "nivcsw"} if flags & EXIT else set()
    return frozenset({"ac_etime", "ac_utime", "ac_stime"} | switches)


@cache
def present(version: int, size: int, kind: str, flags: int) -> frozenset[str]:
    """The names of the fields that a record of this shape has.

    Args:
        version: The struct's version, of the datagram's AGGR_PID part.
        size: Bytes of struct that the kernel sent.
        kind: "task" or "group".
        flags: The record's flags; only those in SHAPE_FLAGS matter.
    """
    sent = {name for name, end in _sent(version, size) if end <= size}
    filled = {name for name in sent if kind in FIELDS[name].kinds}
    return frozenset(filled - _not_summed(flags) if kind == "group" else filled)


@cache
def why_absent(name: str, version: int, size: int, kind: str, flags: int) -> str:
    """The reason, for a person, why a record of this shape lacks the field."""
    field = FIELDS[name]
    sent = dict(_sent(version, size))
    if version >= field.since and _lacks_moments(name, size):
        return f"it needs a struct of {_WITH_MOMENTS} bytes or more; the kernel sent {size}"
    if name not in sent:
        return f"the field came with struct version {field.since}; the kernel sent {version}"
    if sent[name] > size:
        return f"the kernel sent {size} bytes of struct, and the field ends at {sent[name]}"
    if kind not in field.kinds:
        extreme = name.startswith(DELAYS) and "_delay_m" in name
        kept = "keeps one thread's value in" if extreme else "does not fill it in"
        return f"the kernel {kept} a group's record; ask for its tasks"
    if flags & NO_SUMS:
        return "the kernel summed nothing for this group: its threads had all ended"
    return "this kernel does not sum it over a group's threads"
