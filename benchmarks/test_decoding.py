"""One datagram to two figures in Python, against the rivals: as replay does it.

A stream is not decoded so, but in batches: see test_drain.py.
"""

import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from figures import Figures
from support.fake_kernel import FRAMES

import taskstats

RIVALS = ("ours", "pyroute2", "sockets")
EXIT = FRAMES / "host618" / "exit.bin"
TIMES = 2000
ROUNDS = 5

pytestmark = pytest.mark.usefixtures("one_cpu")


def decode(name: str, truth: tuple[int, int]) -> float:
    """ns that one takes, in a fresh process; all must agree on the figures."""
    command = [sys.executable, "-m", "rivals.decoding", name, EXIT, str(TIMES)]
    told = subprocess.check_output(command, cwd=Path(__file__).parent, text=True).split()
    assert (int(told[0]), int(told[1])) == truth
    return float(told[2])


def test_decode_a_datagram(figures: Figures) -> None:
    (record,) = taskstats.decode(EXIT.read_bytes())
    truth = (record.ac_pid, record.ac_etime)
    seen = figures.turns(
        {name: partial(decode, name, truth) for name in RIVALS}, rounds=ROUNDS, warm_up=0
    )
    figures.compare("decode a datagram, two fields read", seen)
