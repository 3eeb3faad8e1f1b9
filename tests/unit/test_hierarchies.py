"""The cgroup of a living task, as /proc says it."""

from pathlib import Path

import pytest

from taskstats.cgroups import hierarchies
from taskstats.cgroups.hierarchies import Hierarchy, cgroup_of, choose

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


def test_of_several_mounts_the_one_that_shows_most_is_taken(proc: Path) -> None:
    """Mount points may have spaces; a hierarchy may have a name besides its controllers."""
    (proc / "self").mkdir()
    (proc / "self/cgroup").write_bytes(b"7:memory,name=x:/\n5:cpu,cpuacct:/\n1:name=s:/\n0::/\n")
    (proc / "cgroups").write_bytes(
        b"#subsys_name\thierarchy\tnum_cgroups\tenabled\n"
        b"cpu\t5\t1\t1\ncpuacct\t5\t1\t1\nmemory\t7\t1\t1\n"
    )
    (proc / "self/mountinfo").write_bytes(
        b"30 1 0:26 /inner /part rw - cgroup cgroup rw,cpu,cpuacct\n"
        b"31 1 0:26 / /two\\040words rw shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
        b"32 1 0:27 /docker/1 /unified rw - cgroup2 cgroup2 rw,nsdelegate\n"
        b"33 1 0:28 / /memory rw - cgroup cgroup rw,memory,name=x\n"
        b"34 1 0:29 / /named rw - cgroup cgroup rw,name=s\n"
        b"35 1 8:1 / / rw - ext4 /dev/sda1 rw\n"
    )
    assert hierarchies.hierarchies() == [
        Hierarchy(0, (), Path("/unified"), "/docker/1"),
        Hierarchy(5, ("cpu", "cpuacct"), Path("/two words"), "/"),
        Hierarchy(7, ("memory",), Path("/memory"), "/"),
    ]
    assert choose("memory").number == 7
    for name, told in {"": "no cgroup hierarchy ''", "name=s": "without a controller"}.items():
        with pytest.raises(ValueError, match=told):
            choose(name)
