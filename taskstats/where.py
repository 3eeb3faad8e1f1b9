"""Where: which exits a listener is to hear, compiled to a socket filter that the kernel runs.

The filter is classic BPF (Documentation/networking/filter.rst), attached to each socket. It reads
the datagram as the kernel lays it out (kernel/taskstats.c:mk_reply), and lets in what it does not
know: an error is no record.
"""

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from taskstats import presence

#: The first struct version whose ac_flag tells the last thread of a process (AGROUP).
FIRST_WITH_LAST = 12

_LITTLE = sys.byteorder == "little"
_BITS_32 = 2**32


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """Which exits to hear: those for which all of this holds.

    The kernel decides, before a record takes room or wakes anybody. Records are of threads; with
    anything but `last` and `uid`, a process's records may come without those of its other threads.

    Attributes:
        uid: The real user id (ac_uid), or a range of them, as in range(1000, 60000).
        failed: Only those that ended by a signal or with another status than 0 (ac_exitcode).
        last: Only the last thread of each process (AGROUP in ac_flag); needs struct version 12.
        min_elapsed: Only tasks that lived so many seconds at least (ac_etime).
        one_in: Of those that are left, one in so many, at random.

    Raises:
        ValueError: A number that makes no sense, or nothing is asked for.
    """

    uid: int | range | None = None
    failed: bool = False
    last: bool = False
    min_elapsed: float = 0.0
    one_in: int = 1

    def __post_init__(self) -> None:
        uids = self.uids
        if uids is not None and not (uids and 0 <= uids[0] <= uids[-1] < _BITS_32):
            raise ValueError(f"uid is a user id or an ascending range of them, not {self.uid!r}")
        if uids is not None and uids.step != 1:
            raise ValueError(f"uid is a range without gaps, not {self.uid!r}")
        if not 0 <= self.min_elapsed < 2**63 / 1e6:  # also if it is no number
            raise ValueError(f"min_elapsed is a number of seconds, not {self.min_elapsed}")
        if not 1 <= self.one_in < _BITS_32:
            raise ValueError(f"one_in is a number from 1 to 2**32 - 1, not {self.one_in}")
        selective = self.min_elapsed > 0 or self.one_in > 1
        if uids is None and not (self.failed or self.last or selective):
            raise ValueError("Where() keeps every exit: leave it out, or say what to keep")

    @property
    def uids(self) -> range | None:
        """The user ids, as a range."""
        return range(self.uid, self.uid + 1) if isinstance(self.uid, int) else self.uid

    @property
    def min_elapsed_us(self) -> int:
        """The least ac_etime, microseconds."""
        return math.ceil(self.min_elapsed * 1_000_000)


# ---- instructions ----------------------------------------------------------------------------


class Instruction(NamedTuple):
    """One of a program's, as in struct sock_filter."""

    code: int
    jt: int
    jf: int
    k: int


# linux/bpf_common.h: class | size or operation | mode or source
_LD, _LDX, _ALU, _JMP, _RET = 0x00, 0x01, 0x04, 0x05, 0x06
_W, _H, _B = 0x00, 0x08, 0x10
_IMM, _ABS, _IND = 0x00, 0x20, 0x40
_MOD = 0x90
_JEQ, _JGT, _JSET = 0x10, 0x20, 0x40

_RANDOM = 0xFFFFF000 + 56  # SKF_AD_OFF + SKF_AD_RANDOM

_WHOLE = 0xFFFFFFFF  # how much of the datagram to keep
_NEXT = ""


class _Step(NamedTuple):
    """An instruction whose jumps are labels: "keep", "drop", or "" for the next one."""

    code: int
    k: int
    yes: str = _NEXT
    no: str = _NEXT
    label: str = ""


def _load(size: int, offset: int) -> _Step:
    """Loads from the struct, whose place X holds."""
    return _Step(_LD | size | _IND, offset)


def _jump(test: int, k: int, yes: str = _NEXT, no: str = _NEXT) -> _Step:
    return _Step(_JMP | test, k, yes, no)


def _as_loaded(value: int, size: int) -> int:
    """A number of this machine's byte order as BPF loads it, which is big-endian."""
    return int.from_bytes(value.to_bytes(size, sys.byteorder), "big")


# ---- the program -----------------------------------------------------------------------------

# Where these stand in a datagram: the type in nlmsghdr, and the attribute after the id's.
_MESSAGE_TYPE, _ATTRIBUTE_TYPE = 4, 34
_NLMSG_ERROR, _TYPE_NULL = 2, 6
_STRUCT, _STRUCT_AFTER_PADDING = 36, 40

_AGROUP = 0x20


def _head() -> Iterator[_Step]:
    """Lets errors in; X becomes the place of the struct."""
    yield _Step(_LD | _H | _ABS, _MESSAGE_TYPE)
    yield _jump(_JEQ, _as_loaded(_NLMSG_ERROR, 2), yes="keep")
    yield _Step(_LD | _H | _ABS, _ATTRIBUTE_TYPE)
    yield _Step(_LDX | _W | _IMM, _STRUCT_AFTER_PADDING)
    yield _jump(_JEQ, _as_loaded(_TYPE_NULL, 2), yes="tests")
    yield _Step(_LDX | _W | _IMM, _STRUCT)


def _bytes(offset: int, value: int, size: int) -> list[tuple[int, int]]:
    """The bytes of a number in the struct, the highest first: where each is, and its value."""
    places = range(offset + size - 1, offset - 1, -1) if _LITTLE else range(offset, offset + size)
    return list(zip(places, value.to_bytes(size, "big"), strict=True))


def _at_least(after: str, offset: int, value: int, size: int) -> Iterator[_Step]:
    """Goes on at `after` if the number is that large, else drops.

    Byte by byte, since BPF has 32 bits and the other byte order.
    """
    for place, byte in _bytes(offset, value, size):
        yield _load(_B, place)
        yield _jump(_JGT, byte, yes=after)
        yield _jump(_JEQ, byte, no="drop")


def _at_most(after: str, offset: int, value: int, size: int) -> Iterator[_Step]:
    for place, byte in _bytes(offset, value, size):
        yield _load(_B, place)
        yield _jump(_JGT, byte, yes="drop")
        yield _jump(_JEQ, byte, no=after)


def _tests(where: Where, offsets: dict[str, int]) -> Iterator[tuple[str, list[_Step]]]:
    """The tests, the cheapest first: a label for what comes after each, and its steps."""
    if where.failed:
        steps = [_load(_W, offsets["ac_exitcode"]), _jump(_JEQ, 0, yes="drop")]
        yield "after failed", steps
    if where.last:
        steps = [_load(_B, offsets["ac_flag"]), _jump(_JSET, _AGROUP, no="drop")]
        yield "after last", steps
    if where.uids is not None:
        first, last = where.uids[0], where.uids[-1]
        at = offsets["ac_uid"]
        if first == last:
            yield "after uid", [_load(_W, at), _jump(_JEQ, _as_loaded(first, 4), no="drop")]
        else:
            yield "after first uid", list(_at_least("after first uid", at, first, 4))
            yield "after last uid", list(_at_most("after last uid", at, last, 4))
    if where.min_elapsed_us:
        at = offsets["ac_etime"]
        steps = list(_at_least("after elapsed", at, where.min_elapsed_us, 8))
        yield "after elapsed", steps
    if where.one_in > 1:
        yield (
            "after one in",
            [
                _Step(_LD | _W | _ABS, _RANDOM),
                _Step(_ALU | _MOD, where.one_in),
                _jump(_JEQ, 0, no="drop"),
            ],
        )


def compile_for(where: Where, version: int, size: int) -> list[Instruction]:
    """The program for a kernel that sends this version and size of struct."""
    steps = list(_head())
    labels = {"tests": len(steps)}
    for after, test in _tests(where, presence.offsets(version, size)):
        steps += test
        labels[after] = len(steps)
    labels["keep"] = len(steps)
    labels["drop"] = len(steps) + 1
    steps += [_Step(_RET, _WHOLE), _Step(_RET, 0)]

    def distance(at: int, label: str) -> int:
        return labels[label] - at - 1 if label else 0

    return [
        Instruction(step.code, distance(at, step.yes), distance(at, step.no), step.k)
        for at, step in enumerate(steps)
    ]
