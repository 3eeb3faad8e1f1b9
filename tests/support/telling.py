"""A program that tells "ready", then each signal of those named that it gets, until SIGTERM."""

import os
import signal
import sys


def tell(number: int, _: object) -> None:
    os.write(1, signal.Signals(number).name.encode() + b"\n")
    if number == signal.SIGTERM:
        os._exit(9)


for one in map(int, sys.argv[1:]):
    signal.signal(one, tell)
os.write(1, b"ready\n")
while True:
    signal.pause()
