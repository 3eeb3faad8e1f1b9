"""The cgroup of a living task, as /proc says it."""

from pathlib import Path

import pytest

from taskstats.cgroups import hierarchies
from taskstats.cgroups.hierarchies import Hierarchy, cgroup_of

LINES = b"""5:cpu,cpuacct:/jobs/a
1:name=systemd:/system.slice
0::/odd:name\r with \xff in it
"""


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A /proc with one task, 7."""
    monkeypatch.setattr(hierarchies, "_PROC", tmp_path)
    (tmp_path / "7").mkdir()
    (tmp_path / "7/cgroup").write_bytes(LINES)
    return tmp_path


@pytest.mark.usefixtures("proc")
def test_a_task_has_a_cgroup_in_each_hierarchy() -> None:
    assert cgroup_of(7, Hierarchy(5, ("cpu", "cpuacct"))) == "/jobs/a"
    assert cgroup_of(7, Hierarchy(0)) == "/odd:name\r with \\xff in it"
    assert cgroup_of(7, Hierarchy(6, ("pids",))) is None


def test_a_removed_cgroup_keeps_its_path(proc: Path) -> None:
    (proc / "7/cgroup").write_bytes(b"0::/jobs/b (deleted)\n")
    assert cgroup_of(7, Hierarchy(0)) == "/jobs/b"


@pytest.mark.usefixtures("proc")
def test_a_task_that_has_ended_has_no_cgroup() -> None:
    assert cgroup_of(8, Hierarchy(0)) is None
