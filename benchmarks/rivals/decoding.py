"""Decodes a datagram with a rival. Prints the pid, the elapsed time, and the ns that it took.

Usage: python -m rivals.decoding NAME FILE TIMES
"""

import importlib
import sys
import time
from pathlib import Path


def main(name: str, file: str, times: int) -> None:
    decode = importlib.import_module(f"rivals.{name}").decode
    datagram = Path(file).read_bytes()
    pid, elapsed = decode(datagram)  # what is made at first use is made
    start = time.perf_counter_ns()
    for _ in range(times):
        decode(datagram)
    print(pid, elapsed, (time.perf_counter_ns() - start) / times)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
