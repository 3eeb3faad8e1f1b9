"""The command with the probe: final CPU times, cgroups, and what it says where there is none."""

import csv
import ctypes
import io
import os
import platform
import re
import resource
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner
from support import child
from support.command import TASKSTATS, ended, listening, mine, objects, run
from support.requirements import needs_probe, needs_processes, skip

from taskstats import ExitListener, TaskstatsError
from taskstats.cgroups.hierarchies import Hierarchy, hierarchies
from taskstats.cli.main import taskstats

pytestmark = pytest.mark.usefixtures("as_usual")

#: Unsettled is then only what may have several ends: of pids that the kernel soon gives again.
PATIENT = ("--settle", "60")

CONTAINER = "3f2a9c1b0d4e5f60718293a4b5c6d7e8f90123456789abcdef0123456789abcd"


@dataclass
class Tree:
    """Cgroups that a test makes.

    Attributes:
        hierarchy: Their hierarchy.
        path: The path of the topmost; all are removed with it.
    """

    hierarchy: Hierarchy
    path: str

    def directory(self, name: str) -> Path:
        assert self.hierarchy.mount is not None
        return self.hierarchy.mount / f"{self.path}/{name}".strip("/")

    def run_in(self, name: str) -> None:
        """Runs a shell in this cgroup, and makes the cgroup if need be."""
        self.directory(name).mkdir(parents=True, exist_ok=True)
        procs = self.directory(name) / "cgroup.procs"
        subprocess.run(["sh", "-c", 'echo $$ >"$0"', str(procs)], check=True)

    def remove(self) -> None:
        top = self.directory("")
        for directory, *_ in os.walk(top, topdown=False):
            Path(directory).rmdir()


def tree_in(wanted: str) -> Tree:
    for one in hierarchies():
        if one.mount and one.root == "/" and wanted in (one.name, *one.controllers):
            return Tree(one, f"/taskstats-{os.getpid()}.slice")
    skip(f"the hierarchy {wanted} is not mounted")
    raise AssertionError


@pytest.fixture
def tree() -> Iterator[Tree]:
    """Cgroups of the hierarchy that the command shows by default."""
    needs_probe()
    needs_processes()
    names = [name for one in hierarchies() for name in one.controllers]
    made = tree_in("cpuacct" if "cpuacct" in names else "unified")
    yield made
    made.remove()


# ---- final CPU time --------------------------------------------------------------------------


def spawn_and_wait(*command: str) -> tuple[int, float]:
    """A process that has exited, and its CPU time in microseconds as wait4 reports it."""
    pid = os.posix_spawn(command[0], command, {})
    _, _, usage = os.wait4(pid, 0)
    return pid, (usage.ru_utime + usage.ru_stime) * 1e6


def test_cpu_time_is_at_least_that_of_wait4() -> None:
    needs_probe()
    needs_processes()
    with listening("--json", *PATIENT) as process:
        used = [spawn_and_wait("/bin/true") for _ in range(50)]
        output, _ = ended(process)
    lines = mine(output)
    assert len(lines) == len(used)
    heard = {one["pid"]: one for one in lines if one["final_cpu_ns"] is not None}
    assert heard
    for pid, microseconds in dict(used).items():
        if pid in heard:
            # The parent may be told while its child still runs (kernel/exit.c:exit_notify).
            assert heard[pid]["final_cpu_ns"] / 1e3 >= microseconds
            assert round(heard[pid]["cpu_seconds"] * 1e9) == heard[pid]["final_cpu_ns"]


# ---- cgroups ---------------------------------------------------------------------------------


def left_out(errors: str) -> int:
    """How many processes were left out, since their cgroup is not known."""
    found = re.search(r"left out, since the cgroup is unknown: (\d+)", errors)
    return int(found[1]) if found else 0


@pytest.mark.parametrize("hierarchy", ["cpuacct", "unified"])
def test_exits_show_the_cgroup_in_every_format(hierarchy: str) -> None:
    needs_probe()
    needs_processes()
    tree = tree_in(hierarchy)
    path = f"{tree.path}/a/b"
    options = [], ["--json"], ["--csv"], ["--json", "--threads"]
    try:
        outputs = []
        for formats in options:
            only = ["--cgroup-hierarchy", hierarchy, "--cgroup", tree.path]
            with listening(*formats, *PATIENT, *only) as process:
                for _ in range(5):
                    tree.run_in("a/b")
                output, errors = ended(process)
            outputs.append(output)
            assert len(output.splitlines()) - 1 + left_out(errors) >= 5
        inode = tree.directory("a/b").stat().st_ino
    finally:
        tree.remove()
    table, json, rows, tasks = outputs
    assert {line.partition("/")[2] for line in table.splitlines()[1:]} == {path[1:]}
    for lines in objects(json)[1:], objects(tasks)[1:]:
        assert {(one["cgroup"], one["cgroup_id"]) for one in lines} == {(path, inode)}
    cells = [(row["cgroup"], row["cgroup_id"]) for row in csv.DictReader(io.StringIO(rows))]
    assert set(cells) == {(path, str(inode))}


def test_a_cgroup_may_have_any_name(tree: Tree) -> None:
    name = os.fsdecode(b"not text \xff\x1b[2J\r\t")
    path = f"{tree.path}/not text \\xff\x1b[2J\r\t"
    for options in ([], ["--json"]):
        with listening(*options, *PATIENT, "--cgroup", tree.path) as process:
            for _ in range(5):
                tree.run_in(name)
            output, _ = ended(process)
        if options:
            assert {one["cgroup"] for one in objects(output)[1:]} == {path}
        else:
            assert output.endswith(f"{tree.path}/not text \\xff\\x1b[2J\\x0d\\x09\n")
    with ExitListener(probe="require", settle=60) as listener:
        for _ in range(5):
            tree.run_in(name)
        listener.stop()
        tables = [batch.to_arrow() for batch in listener.batches()]
    assert path in {path for table in tables for path in table["cgroup"].to_pylist()}


def test_filters_by_cgroup(tree: Tree) -> None:
    docker = f"docker/{CONTAINER}"
    wanted = {
        ("--cgroup", f"{tree.path}/docker"): docker,
        ("--cgroup", str(tree.directory("oth*"))): "other",
        ("--unit", "job"): "job.service",
        ("--container", CONTAINER[:12]): docker,
    }
    for options, place in wanted.items():
        with listening("--json", *PATIENT, *options) as process:
            for name in ("job.service", docker, "other") * 5:
                tree.run_in(name)
            output, errors = ended(process)
        paths = [one["cgroup"] for one in objects(output)[1:]]
        assert set(paths) == {f"{tree.path}/{place}"}, options
        assert len(paths) <= 5 <= len(paths) + left_out(errors)


def test_query_shows_the_cgroup_of_the_living(tree: Tree) -> None:
    tree.directory("living").mkdir(parents=True)
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        (tree.directory("living") / "cgroup.procs").write_text(str(process.pid))
        for options in ([], ["--tgid"]):
            _, row = objects(run("query", "--json", *options, str(process.pid)).stdout)
            assert row["cgroup"] == f"{tree.path}/living"
        table = run("query", str(process.pid)).stdout
        assert table.splitlines()[1].endswith(f" {tree.path}/living")


# ---- without the probe -----------------------------------------------------------------------


def as_nobody(*arguments: str, capabilities: tuple[int, ...]) -> tuple[int, str, str]:
    def with_few_rights() -> tuple[int, str, str]:
        child.become(child.NOBODY, *capabilities)
        result = CliRunner().invoke(taskstats, arguments)
        return result.exit_code, result.stdout, result.stderr

    return child.run(with_few_rights)


def test_without_bpf_rights_exits_goes_on_and_says_so() -> None:
    needs_probe()
    few = (child.CAP_NET_ADMIN, child.CAP_BPF)
    status, output, errors = as_nobody("exits", "--for", "0", capabilities=few)
    assert status == 0
    assert "CGROUP" not in output
    why, listening, totals = errors.splitlines()
    assert why.startswith("without final CPU times and cgroups: CAP_BPF and CAP_PERFMON in the ")
    assert why.endswith(" doctor")
    assert listening.startswith("listening")
    assert "settled" not in totals
    status, _, errors = as_nobody("exits", "--for", "0", "--probe", "off", capabilities=few)
    assert (status, errors.count("\n")) == (0, 2)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--probe", "require"), "Error: probe: CAP_BPF and CAP_PERFMON "),
        (("--cgroup", "a"), "Error: --cgroup needs the probe: CAP_BPF and CAP_PERFMON "),
        (("--unit", "a"), "Error: --unit needs the probe: CAP_BPF and CAP_PERFMON "),
        (("--container", "a"), "Error: --container needs the probe: CAP_BPF and CAP_PERFMON "),
    ],
)
def test_what_needs_the_probe_fails_without(options: tuple[str, ...], told: str) -> None:
    needs_probe()
    few = (child.CAP_NET_ADMIN, child.CAP_PERFMON)
    status, output, errors = as_nobody("exits", "--for", "0", *options, capabilities=few)
    assert (status, output) == (1, "")
    assert errors.startswith(told)
    assert "sudo setpriv " in errors
    assert "+net_admin,+bpf,+perfmon" in errors


def test_too_few_descriptors_cost_the_probe_first() -> None:
    needs_probe()

    def opened(spare: int) -> str:
        limit = len(os.listdir("/proc/self/fd")) + spare
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
        try:
            with ExitListener(probe="auto") as listener:
                return "without" if listener.probe_error else "with"
        except TaskstatsError:
            return "not at all"

    outcomes = [child.run(opened, spare) for spare in range((os.cpu_count() or 1) + 20)]
    assert list(dict.fromkeys(outcomes)) == ["not at all", "without", "with"]
    assert outcomes == sorted(outcomes, key=["not at all", "without", "with"].index)


def test_three_capabilities_are_enough() -> None:
    needs_probe()
    three = (child.CAP_NET_ADMIN, child.CAP_BPF, child.CAP_PERFMON)
    options = ("--for", "0", "--probe", "require")
    status, output, errors = as_nobody("exits", *options, capabilities=three)
    assert (status, errors.count("\n")) == (0, 2), errors
    assert "CGROUP" in output


# ---- doctor ----------------------------------------------------------------------------------


def test_the_doctor_tries_the_probe() -> None:
    needs_probe()
    found = run("doctor").stdout
    tried = re.search(r"^(ok|warn) +probe +(\d+) of 200 records settled; cgroups of ", found, re.M)
    assert tried
    assert (tried[1] == "ok") is (tried[2] == "200")
    assert ("\ncomplete records: yes\nready to listen" in found) is (tried[1] == "ok")


def test_the_doctor_names_the_capability_that_the_probe_lacks() -> None:
    few = (child.CAP_NET_ADMIN, child.CAP_BPF)
    status, found, _ = as_nobody("doctor", capabilities=few)
    assert status == 0
    assert "\nwarn  bpf          no CAP_PERFMON: " in found
    assert "\ncomplete records: no, because: no CAP_PERFMON\nready to listen" in found


def test_in_a_cgroup_namespace_paths_are_unknown_and_that_is_said() -> None:
    needs_probe()
    if subprocess.run(["unshare", "--cgroup", "true"], capture_output=True).returncode:
        skip("there are no cgroup namespaces")
    inside = ["unshare", "--cgroup", TASKSTATS]
    found = subprocess.run([*inside, "doctor"], capture_output=True, text=True).stdout
    assert "\nwarn  cgroupns     not the initial cgroup namespace: " in found
    assert "--cgroupns=host" in found
    assert "\ncomplete records: no, because: not the initial cgroup namespace\n" in found
    listening = subprocess.run([*inside, "exits", "--for", "0"], capture_output=True, text=True)
    assert "paths of cgroups that exist already are unknown" in listening.stderr


def refuse_bpf() -> None:
    """A seccomp filter by which bpf(2) fails with EPERM, as in most containers."""
    numbers = {"x86_64": 321, "aarch64": 280, "s390x": 351}
    load_number, return_it, jump_equal = 0x20, 0x06, 0x15
    allow, fail_eperm = 0x7FFF0000, 0x00050001
    program = struct.pack(
        "=" + "HBBI" * 4,
        *(load_number, 0, 0, 0),
        *(jump_equal, 0, 1, numbers[platform.machine()]),
        *(return_it, 0, 0, fail_eperm),
        *(return_it, 0, 0, allow),
    )
    buffer = ctypes.create_string_buffer(program)
    header = struct.pack("=HxxxxxxQ", 4, ctypes.addressof(buffer))
    seccomp, filter_mode = 22, 2  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(seccomp, filter_mode, ctypes.c_char_p(header), 0, 0) < 0:
        raise OSError(ctypes.get_errno(), "PR_SET_SECCOMP")


def test_the_doctor_finds_a_seccomp_filter() -> None:
    needs_probe()

    def in_a_sandbox() -> tuple[str, str]:
        refuse_bpf()
        runner = CliRunner()
        needing = runner.invoke(taskstats, ["exits", "--probe", "require"])
        return runner.invoke(taskstats, ["doctor"]).output, needing.stderr

    found, error = child.run(in_a_sandbox)
    assert "\nwarn  seccomp      bpf(2) is refused, although the capabilities are there; " in found
    assert "a seccomp filter is in force" in found
    assert "\nwarn  probe        not started (see seccomp): " in found
    assert "\nready to listen" in found
    assert "bpf(2) is refused although the capabilities are there [EPERM]" in error
