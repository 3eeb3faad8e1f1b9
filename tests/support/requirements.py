"""What tests of the real kernel need, and what becomes of them without it."""

import functools
import os
import re
import shutil
from pathlib import Path

import pytest

from taskstats import KERNEL, Client, TaskstatsError
from taskstats.probe import open_probe

REQUIRED = bool(os.environ.get("TASKSTATS_REQUIRE_KERNEL"))

#: What this kernel or its machine is known not to have; tests/machines sets it for each.
KNOWN_LACKS = frozenset(filter(None, os.environ.get("TASKSTATS_LACKS", "").split(",")))


def why_not_here() -> str | None:
    """What keeps the tests of the real kernel from running; None if nothing does."""
    try:
        Client().close()
    except TaskstatsError as error:
        return str(error)
    return None


def skip(reason: str) -> None:
    """Skips a test of the real kernel, unless it is required: then it fails."""
    if REQUIRED:
        pytest.fail(f"TASKSTATS_REQUIRE_KERNEL is set, and this cannot run here: {reason}")
    pytest.skip(reason)


def lacks(what: str) -> None:
    """Skips a test of what this kernel cannot show; where it is required, only if that is known."""
    if what in KNOWN_LACKS:
        pytest.skip(f"this kernel lacks {what}")
    skip(f"this kernel lacks {what}")


@functools.cache
def struct_version() -> int:
    """The version of this kernel's records."""
    with Client() as client:
        return client.pid().version


def needs_processes() -> None:
    """Skips a test that must know which process a thread is of, and when it is gone."""
    if struct_version() < 12:  # ac_tgid, and AGROUP in ac_flag
        lacks("struct version 12")


@functools.cache
def why_no_probe() -> str | None:
    """What keeps a probe from being opened; None if nothing does."""
    probe, error = open_probe("auto", None, KERNEL)
    if probe:
        probe.close()
    return str(error) if error else None


def needs_probe() -> None:
    """Skips a test of complete records where no probe can be had."""
    if reason := why_no_probe():
        lacks(f"a probe ({reason})" if "BPF" not in KNOWN_LACKS else "BPF")


#: Capabilities by number (include/uapi/linux/capability.h).
CAP_CHOWN, CAP_SETUID = 0, 7


def needs_capability(number: int) -> None:
    """Skips a test that gives files away, or becomes another user, without the right to it."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    effective = re.search(r"^CapEff:\s*(\w+)$", status, re.MULTILINE)
    if not effective or not int(effective[1], 16) >> number & 1:
        pytest.skip(f"capability {number} is missing")


def needs_program(name: str) -> None:
    """Skips a test that compares with a program which is not there."""
    if shutil.which(name) is None:
        skip(f"there is no {name}")
