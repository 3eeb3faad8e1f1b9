"""The number that tells a process from its children (csrc/process.c)."""

import subprocess

import pytest
from support import compiled


@pytest.mark.parametrize(
    ("mode", "asked"),
    [
        ("real", 2),  # whether advice that there is not is refused, then the advice
        ("refused", 2),  # as before Linux 4.14, once and never again
        ("ignored", 1),  # as an emulator may
    ],
)
def test_children_have_other_numbers(mode: str, asked: int) -> None:
    told = subprocess.check_output([compiled.program("process"), mode], text=True)
    assert told.split() == [str(asked), "1", "1"]
