"""The real switch, /run, and what doctor says of it."""

import subprocess
from collections.abc import Iterator

import pytest
from support.command import run
from support.holder import Holder
from support.requirements import lacks, skip

from taskstats import delayacct, doctor, host
from taskstats.diagnosis import Check


@pytest.fixture(autouse=True)
def _put_back() -> Iterator[None]:
    """The switch off; in the end as it was, and /run too."""
    before = host.task_delayacct()
    if before is None:  # before Linux 5.14
        lacks("kernel.task_delayacct")
    if delayacct.standing() != "nobody":
        skip("somebody else has delays measured, or left it so")
    was_there = delayacct.DIRECTORY.exists()
    files = [delayacct.DIRECTORY / name for name in ("guard", "task_delayacct")]
    new = [path for path in files if not path.exists()]
    try:
        host.TASK_DELAYACCT.write_bytes(b"0")
        yield
    finally:
        host.TASK_DELAYACCT.write_bytes(b"1" if before else b"0")
        for path in new:
            path.unlink(missing_ok=True)
        if not was_there:
            delayacct.DIRECTORY.rmdir()


def delays() -> Check:
    (check,) = [check for check in doctor().checks if check.what == "delays"]
    return check


def test_it_is_on_for_a_while() -> None:
    with Holder() as holder:
        assert host.task_delayacct() is True
        assert "on for a running `taskstats run --delays`" in run("doctor").stdout
        holder.leave()
    assert host.task_delayacct() is False


def test_a_leftover_is_told_and_mended() -> None:
    with Holder() as holder:
        mend = delayacct.for_leftover().removeprefix("sudo ")
        assert subprocess.run(mend, shell=True).returncode != 0, "one lives"
        holder.kill()
    left = delays()
    assert left.state == "warn"
    assert "left by a `taskstats run --delays` that was killed" in left.finding
    assert left.mend.startswith("sudo ")
    subprocess.run(left.mend.removeprefix("sudo "), shell=True, check=True, capture_output=True)
    assert host.task_delayacct() is False
    assert delayacct.standing() == "nobody"
    assert delays().finding.startswith("kernel.task_delayacct=0")


def test_the_next_one_takes_a_leftover_over() -> None:
    with Holder() as holder:
        holder.kill()
    assert host.task_delayacct() is True
    with delayacct.measured_delays():
        assert host.task_delayacct() is True
    assert host.task_delayacct() is False
