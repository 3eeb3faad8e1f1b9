"""Where: which exits a listener is to hear, compiled to a socket filter that the kernel runs.

The filter is classic BPF (Documentation/networking/filter.rst), attached to each socket. It reads
the datagram as the kernel lays it out (kernel/taskstats.c:mk_reply), and lets errors in, which are
no records.
"""

import math
import sys
from dataclasses import dataclass
from typing import Literal, NamedTuple, TypeAlias

from taskstats import presence

#: The first struct version whose ac_flag tells the last thread of a process (AGROUP).
FIRST_WITH_LAST = 12

_BITS_32 = 2**32

ByteOrder: TypeAlias = Literal["little", "big"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """Which exits to hear: those for which all of this holds.

    The kernel decides, before a record takes room or wakes anybody. Records are of threads: what
    one thread's tells is not what its process's other threads would, so that a process may come
    in part.

    Attributes:
        uid: The real user id (ac_uid), or a range of them, as in range(1000, 60000).
        failed: Only those that ended by a signal or with another status than 0 (ac_exitcode).
            Before struct version 12 the kernel tells that of a process's leader alone.
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
        if not isinstance(self.uid, int | range | None):
            raise ValueError(f"uid is a user id or a range of them, not {self.uid!r}")
        uids = self.uids
        if uids is not None and not (uids and 0 <= uids[0] <= uids[-1] < _BITS_32):
            raise ValueError(f"uid is a user id or an ascending range of them, not {self.uid!r}")
        if uids is not None and uids.step != 1:
            raise ValueError(f"uid is a range without gaps, not {self.uid!r}")
        if not 0 <= self.min_elapsed < 2**63 / 1e6:  # also if it is no number
            raise ValueError(f"min_elapsed is a number of seconds, not {self.min_elapsed}")
        if not (isinstance(self.one_in, int) and 1 <= self.one_in < _BITS_32):
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
        return math.ceil(round(self.min_elapsed * 1_000_000, 3))  # 2.007 s is 2,007,000 us


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

_KEEP, _DROP, _NEXT = "keep", "drop", "next"


class _Program:
    """Instructions whose jumps are labels."""

    def __init__(self, order: ByteOrder) -> None:
        self._order = order
        self._steps: list[tuple[int, int, str, str]] = []
        self._labels: dict[str, int] = {}

    def mark(self, label: str) -> None:
        """Gives what comes next a label."""
        self._labels[label] = len(self._steps)

    def do(self, code: int, k: int) -> None:
        self._steps.append((code, k, _NEXT, _NEXT))

    def load(self, size: int, offset: int) -> None:
        """Loads from the struct, whose place X holds."""
        self.do(_LD | size | _IND, offset)

    def jump(self, test: int, k: int, yes: str = _NEXT, no: str = _NEXT) -> None:
        self._steps.append((_JMP | test, k, yes, no))

    def jump_equal(self, value: int, size: int, yes: str = _NEXT, no: str = _NEXT) -> None:
        """Compares with a number of the machine's byte order; BPF loads are big-endian."""
        loaded = int.from_bytes(value.to_bytes(size, self._order), "big")
        self.jump(_JEQ, loaded, yes, no)

    def jump_by_size(self, offset: int, size: int, value: int, more: str, less: str) -> None:
        """Compares with a number in the struct; goes on if they are equal.

        Byte by byte, the highest first, since BPF has 32 bits and the other byte order.
        """
        places = range(offset, offset + size)
        for place, byte in zip(
            reversed(places) if self._order == "little" else places,
            value.to_bytes(size, "big"),
            strict=True,
        ):
            self.load(_B, place)
            self.jump(_JGT, byte, yes=more)
            self.jump(_JEQ, byte, no=less)

    def instructions(self) -> list[Instruction]:
        """The labels resolved; keeping and dropping are added at the end."""
        self.mark(_KEEP)
        self.do(_RET, _WHOLE)
        self.mark(_DROP)
        self.do(_RET, 0)

        def distance(at: int, label: str) -> int:
            return 0 if label == _NEXT else self._labels[label] - at - 1

        return [
            Instruction(code, distance(at, yes), distance(at, no), k)
            for at, (code, k, yes, no) in enumerate(self._steps)
        ]


# ---- the program -----------------------------------------------------------------------------

# Where these stand in a datagram: the type in nlmsghdr, and the attribute after the id's.
_MESSAGE_TYPE, _ATTRIBUTE_TYPE = 4, 34
_NLMSG_ERROR, _TYPE_NULL = 2, 6
_STRUCT, _STRUCT_AFTER_PADDING = 36, 40

_AGROUP = 0x20


def compile_for(
    where: Where, version: int, size: int, order: ByteOrder = sys.byteorder
) -> list[Instruction]:
    """The program for a kernel that sends this version and size of struct."""
    at = presence.offsets(version, size)
    program = _Program(order)

    # Errors are let in; X becomes the place of the struct.
    program.do(_LD | _H | _ABS, _MESSAGE_TYPE)
    program.jump_equal(_NLMSG_ERROR, 2, yes=_KEEP)
    program.do(_LD | _H | _ABS, _ATTRIBUTE_TYPE)
    program.do(_LDX | _W | _IMM, _STRUCT_AFTER_PADDING)
    program.jump_equal(_TYPE_NULL, 2, yes="tests")
    program.do(_LDX | _W | _IMM, _STRUCT)
    program.mark("tests")

    # The cheapest first.
    if where.failed:
        program.load(_W, at["ac_exitcode"])
        program.jump(_JEQ, 0, yes=_DROP)
    if where.last:
        program.load(_B, at["ac_flag"])
        program.jump(_JSET, _AGROUP, no=_DROP)
    if where.uids is not None:
        program.jump_by_size(at["ac_uid"], 4, where.uids[0], more="above the first", less=_DROP)
        program.mark("above the first")
        program.jump_by_size(at["ac_uid"], 4, where.uids[-1], more=_DROP, less="below the last")
        program.mark("below the last")
    if where.min_elapsed_us:
        program.jump_by_size(at["ac_etime"], 8, where.min_elapsed_us, more="old enough", less=_DROP)
        program.mark("old enough")
    if where.one_in > 1:
        program.do(_LD | _W | _ABS, _RANDOM)
        program.do(_ALU | _MOD, where.one_in)
        program.jump(_JEQ, 0, no=_DROP)
    return program.instructions()
