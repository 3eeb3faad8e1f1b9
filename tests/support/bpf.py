"""Classic BPF, by Documentation/networking/filter.rst: of it, what the filters here use."""

import ctypes
import socket
import struct
from collections.abc import Iterable

SO_ATTACH_FILTER = 26  # include/uapi/asm-generic/socket.h

RANDOM = 0xFFFFF000 + 56  # SKF_AD_OFF + SKF_AD_RANDOM

_SIZES = {0x00: 4, 0x08: 2, 0x10: 1}


def run(program: Iterable[tuple[int, int, int, int]], packet: bytes, random: int = 0) -> int:
    """How many bytes of the packet the program keeps; a load from outside of it keeps none."""
    instructions = list(program)
    a = x = at = 0
    while True:
        code, jt, jf, k = instructions[at]
        at += 1
        match code & 0x07, code & 0xF8:
            case 0x00, rest if rest & 0xE0 in (0x20, 0x40):  # A = packet[k], packet[x + k]
                if k == RANDOM:
                    a = random
                    continue
                start = k + (x if rest & 0xE0 == 0x40 else 0)
                loaded = packet[start : start + _SIZES[rest & 0x18]]
                if len(loaded) < _SIZES[rest & 0x18]:
                    return 0
                a = int.from_bytes(loaded, "big")
            case 0x01, 0x00:  # X = k
                x = k
            case 0x04, 0x90:  # A %= k
                a %= k
            case 0x05, 0x10:
                at += jt if a == k else jf
            case 0x05, 0x20:
                at += jt if a > k else jf
            case 0x05, 0x40:
                at += jt if a & k else jf
            case 0x06, 0x00:
                return k
            case _:
                raise AssertionError(f"no such instruction: {code:#x}")


def attach(one: socket.socket, program: Iterable[tuple[int, int, int, int]]) -> None:
    """Has the kernel run the program on what comes to the socket."""
    code = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    fprog = struct.pack("@HP", len(code) // 8, ctypes.addressof(buffer))
    one.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, fprog)
