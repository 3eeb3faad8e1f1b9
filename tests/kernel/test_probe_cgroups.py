"""Records and births name the right cgroup: many, short-lived, renamed, and of a container."""

import json
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support import child
from support.requirements import needs_probe, needs_processes, needs_program, skip
from support.watched import Process, Watched

from taskstats import ExitListener, Record, Where, host
from taskstats.cgroups.hierarchies import Hierarchy, choose, hierarchies

#: The real user of the processes that are counted: no other program has it, nor another run.
UID = 1_000_000 + os.getpid()

PR_SET_CHILD_SUBREAPER = 36


@pytest.fixture(autouse=True)
def _probe() -> None:
    needs_probe()
    needs_processes()


class Cgroup:
    """A cgroup that a test makes.

    Attributes:
        path: Its path from the root of the hierarchy.
        directory: Where it is mounted.
        id: The inode number of the directory.
    """

    def __init__(self, hierarchy: Hierarchy, path: str) -> None:
        assert hierarchy.mount is not None
        self.path = path
        self.directory = hierarchy.mount / path.lstrip("/")
        self.directory.mkdir()
        self.id = self.directory.stat().st_ino

    def spawn(self) -> int:
        """The pid of a process that joined the cgroup and has been reaped."""
        command = ["sh", "-c", 'echo $$ >"$0"', str(self.directory / "cgroup.procs")]
        pid = os.posix_spawn("/bin/sh", command, {})
        _, status = os.waitpid(pid, 0)
        assert status == 0
        return pid


@pytest.fixture(params=["cpuacct", "unified"])
def hierarchy(request: pytest.FixtureRequest) -> Hierarchy:
    """A mounted hierarchy of version 1 or 2."""
    for one in hierarchies():
        if request.param in (one.name, *one.controllers) and one.mount and one.root == "/":
            return one
    skip(f"the hierarchy {request.param} is not mounted")
    raise AssertionError


@pytest.fixture
def top(hierarchy: Hierarchy) -> Iterator[Cgroup]:
    """A cgroup of the hierarchy; it is removed with all below it."""
    made = Cgroup(hierarchy, f"/taskstats-test-{os.getpid()}")
    try:
        yield made
    finally:
        remove(made.directory)


def remove(top: Path) -> None:
    for directory, *_ in os.walk(top, topdown=False):
        Path(directory).rmdir()


# ---- cgroups that a test makes ---------------------------------------------------------------


def run_many(cgroup: Cgroup, code: int, plain: int, orphans: int) -> None:
    """Makes processes in the cgroup: some alone, and pairs of which one outlives its parent."""
    (cgroup.directory / "cgroup.procs").write_text("0")
    child.prctl(PR_SET_CHILD_SUBREAPER, 1)
    for turn in range(plain):
        child.spawn_and_reap(code, UID)
        if turn < orphans and os.fork() == 0:
            os.setresuid(UID, -1, -1)
            reading, writing = os.pipe()
            if os.fork() == 0:
                os.close(writing)
                os.read(reading, 1)  # until the parent has exited
            os._exit(code)
    for _ in range(2 * orphans):
        os.wait()


def test_two_busy_cgroups_are_counted_apart(hierarchy: Hierarchy, top: Cgroup) -> None:
    cgroups = {
        code: Cgroup(hierarchy, f"{top.path}/{name}") for code, name in ((1, "one"), (2, "two"))
    }
    reading, writing = os.pipe()
    made = []
    for code, cgroup in cgroups.items():
        made.append(os.fork())
        if made[-1] == 0:
            try:
                os.close(writing)
                os.read(reading, 1)  # until the listener is there
                run_many(cgroup, code, plain=960, orphans=20)
                os._exit(0)
            finally:
                os._exit(1)
    os.close(reading)
    try:
        with Watched(cgroup_hierarchy=hierarchy.name, where=Where(uid=UID)) as watched:
            at_first = host.tasks()
            os.close(writing)
            writing = -1
            statuses = [os.waitpid(pid, 0)[1] for pid in made]
    finally:
        if writing >= 0:  # there is no listener
            os.close(writing)
            for pid in made:
                os.waitpid(pid, 0)
    assert statuses == [0, 0]

    # A record may have two ends that fit it, if its pid was given again; and an end may be lost.
    unsettled = [one for one in watched.records if not one.is_settled]
    owners = Counter(birth.pid for birth in watched.births) + Counter(at_first)
    probe = watched.stats.probe
    assert probe is not None
    alone = [one for one in unsettled if owners[one.id] < 2]
    assert len(alone) <= probe.ends_lost + probe.births_lost, (alone, probe)
    counts = Counter(one.cgroup_id for one in watched.settled())
    counts.update(cgroups[one.exit_code].id for one in unsettled if one.exit_code)
    assert counts == {cgroup.id: 1_000 for cgroup in cgroups.values()}, watched.stats
    for one in watched.settled():
        assert one.exit_code is not None
        assert (one.cgroup_id, one.cgroup) == (
            cgroups[one.exit_code].id,
            cgroups[one.exit_code].path,
        )
    ids = {cgroup.id: cgroup.path for cgroup in cgroups.values()}
    born = [birth for birth in watched.births if birth.cgroup_id in ids]
    assert 2_000 - probe.births_lost <= len(born) <= 2_000, probe
    assert all(birth.cgroup == ids[birth.cgroup_id or 0] for birth in born)


def rest_of(listener: ExitListener) -> dict[int, Record]:
    """The records of this process's children by pid; the listener has not been read before."""
    listener.stop()
    records = [one for batch in listener.batches() for one in batch]
    return {one.id: one for one in records if one.ac_ppid == os.getpid()}


def test_a_removed_cgroup_keeps_its_path(hierarchy: Hierarchy, top: Cgroup) -> None:
    with ExitListener(probe="require", settle=30, cgroup_hierarchy=hierarchy.name) as listener:
        cgroup = Cgroup(hierarchy, f"{top.path}/brief")
        pid = cgroup.spawn()
        cgroup.directory.rmdir()
        record = rest_of(listener)[pid]
        assert (record.cgroup_id, record.cgroup) == (cgroup.id, cgroup.path)


@pytest.mark.parametrize("hierarchy", ["cpuacct"], indirect=True)  # version 2 renames none
def test_a_renamed_cgroup_has_its_new_path(hierarchy: Hierarchy, top: Cgroup) -> None:
    old = Cgroup(hierarchy, f"{top.path}/old")
    below = Cgroup(hierarchy, f"{top.path}/old/below")
    alike = Cgroup(hierarchy, f"{top.path}/older")
    with ExitListener(probe="require", settle=30, cgroup_hierarchy=hierarchy.name) as listener:
        new = top.directory / "new"
        old.directory.rename(new)
        old.directory, below.directory = new, new / "below"
        pids = [cgroup.spawn() for cgroup in (old, below, alike)]
        records = rest_of(listener)
        assert [(records[pid].cgroup_id, records[pid].cgroup) for pid in pids] == [
            (old.id, f"{top.path}/new"),
            (below.id, f"{top.path}/new/below"),
            (alike.id, alike.path),
        ]


# ---- namespaces ------------------------------------------------------------------------------


def children_of(watched: Watched, maker: Process) -> list[Process]:
    """The processes that this one made, in order."""
    return [
        Process(birth.pid, birth.start_ns)
        for birth in watched.births
        if (birth.maker_pid, birth.maker_start_ns) == maker
    ]


def root_of(watched: Watched, pid: int) -> Process:
    """The child of this process that had the pid."""
    return next(
        Process(birth.pid, birth.start_ns)
        for birth in watched.births
        if (birth.pid, birth.maker_pid) == (pid, os.getpid())
    )


def test_births_in_a_pid_namespace_form_a_chain() -> None:
    script = "/bin/true; /bin/true; echo $$"
    options = ["--fork", "--pid", "--mount-proc", "--cgroup"]
    with Watched() as watched:
        process = subprocess.Popen(
            ["unshare", *options, "sh", "-c", script], stdout=subprocess.PIPE, text=True
        )
        output, _ = process.communicate()
    assert (process.returncode, output) == (0, "1\n")
    [shell] = children_of(watched, root_of(watched, process.pid))
    both = children_of(watched, shell)
    names = {Process(one.id, one.start_ns): one.comm for one in watched.settled()}
    assert [names[one] for one in (shell, *both)] == ["sh", "true", "true"]


def test_a_container_is_named_by_its_cgroup(tmp_path: Path) -> None:
    needs_program("crun")
    needs_program("busybox")
    name = f"taskstats-test-{os.getpid()}"
    (tmp_path / "rootfs/bin").mkdir(parents=True)
    shutil.copy(shutil.which("busybox") or "", tmp_path / "rootfs/bin/busybox")
    subprocess.run(["crun", "spec"], cwd=tmp_path, check=True)
    config = json.loads((tmp_path / "config.json").read_text())
    script = "/bin/busybox true; /bin/busybox true; echo $$"
    config["process"] |= {"terminal": False, "args": ["/bin/busybox", "sh", "-c", script]}
    config["linux"]["cgroupsPath"] = f"/{name}"
    (tmp_path / "config.json").write_text(json.dumps(config))

    # crun refuses a machine with both versions where version 2 has controllers. So it runs where
    # version 2 is not mounted.
    unified = [str(one.mount) for one in hierarchies() if one.version == 2 and one.mount]
    hide = unified[0] if unified and choose(None).version == 1 else ""
    crun = f"crun --cgroup-manager=cgroupfs run --pid-file pid {name}"
    with ExitStack() as stack:
        for _, mount in host.cgroup_mounts():
            stack.callback(remove, Path(mount) / name)
        watched = stack.enter_context(Watched())
        process = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", f'[ -z "$0" ] || umount "$0"; exec {crun}', hide],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            text=True,
        )
        output, _ = process.communicate()
    assert (process.returncode, output) == (0, "1\n")

    tree = watched.tree(process.pid)
    pid = int((tmp_path / "pid").read_text())
    [shell] = [one for one in tree if one.pid == pid]
    both = children_of(watched, shell)
    assert len(both) == 2
    records = {Process(one.id, one.start_ns): one for one in watched.settled()}
    for one in (shell, *both):
        assert (records[one].comm, records[one].cgroup) == ("busybox", f"/{name}")
    assert [birth.cgroup for birth in watched.births if (birth.pid, birth.start_ns) in both] == [
        f"/{name}",
        f"/{name}",
    ]
