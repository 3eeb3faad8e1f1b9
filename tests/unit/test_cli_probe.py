"""`taskstats exits` with a probe, on the emulated kernel: settled, unsettled, filtered, lost."""

import csv
import io
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from taskstats.cgroups import hierarchies
from taskstats.cgroups.hierarchies import Hierarchy
from taskstats.cli import exits as exits_command
from taskstats.cli.main import taskstats as command
from taskstats.emulator import EmulatedKernel, Teardown

CONTAINER = "3f2a9c1b0d4e5f60718293a4b5c6d7e8f90123456789abcdef0123456789abcd"
NEVER = Teardown(ends=False)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[EmulatedKernel]:
    """A kernel with a hierarchy of version 2 alone."""
    monkeypatch.setattr(hierarchies, "hierarchies", lambda: [Hierarchy(0)])
    with EmulatedKernel() as made:
        made.spawn("taskstats", pid=threading.get_native_id())  # the command asks about itself
        yield made


def heard(kernel: EmulatedKernel, happen: Callable[[], Any], *arguments: str) -> Result:
    """`taskstats exits` while this happens, and no longer. No record waits for a late end."""
    listener = exits_command._listener

    def listener_with_all(*arguments: Any) -> Any:
        made = listener(*arguments)
        happen()
        return made

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exits_command, "_listener", listener_with_all)
        words = ["exits", *arguments, "--for", "0", "--settle", "0"]
        result = CliRunner().invoke(command, words, obj=kernel.endpoint)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def rows(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()[1:]]


def exits_of(kernel: EmulatedKernel, *teardowns: Teardown) -> Callable[[], None]:
    """Processes that use 2 ms of CPU before their record is made, and more after it."""

    def happen() -> None:
        for teardown in teardowns:
            task = kernel.spawn("cc1", cgroup=job, teardown=teardown)
            kernel.advance(0.002, task)
            kernel.exit(task, code=1)

    job = kernel.make_cgroup("/job.service")
    return happen


# ---- settled and unsettled -------------------------------------------------------------------

SETTLED = Teardown(cpu_ns=3_000_000)


@pytest.mark.parametrize("threads", [[], ["--threads"]])
def test_what_the_probe_adds_is_null_where_it_is_unknown(
    kernel: EmulatedKernel, threads: list[str]
) -> None:
    result = heard(kernel, exits_of(kernel, SETTLED, NEVER), "--json", *threads)
    settled, unsettled = rows(result)
    assert (settled["final_cpu_ns"], settled["cgroup"]) == (5_000_000, "/job.service")
    assert settled["cgroup_id"]
    assert settled["start_ns"]
    probed = ("final_cpu_ns", "start_ns", "cgroup_id", "cgroup")
    assert [unsettled[name] for name in probed] == [None] * 4
    assert result.stderr.splitlines()[-1].endswith("; settled 1, unsettled 1")


@pytest.mark.parametrize("threads", [[], ["--threads"]])
def test_a_table_tells_final_figures_from_others(
    kernel: EmulatedKernel, threads: list[str]
) -> None:
    result = heard(kernel, exits_of(kernel, SETTLED, NEVER), *threads)
    header, settled, unsettled = result.stdout.splitlines()
    assert header.endswith(" CGROUP")
    assert "5.00 ms " in settled
    assert settled.endswith(" /job.service")
    assert " 2.00 ms+ " in unsettled
    assert unsettled.endswith(" -")


def test_csv_has_the_columns_of_the_probe(kernel: EmulatedKernel) -> None:
    result = heard(kernel, exits_of(kernel, SETTLED, NEVER), "--csv")
    settled, unsettled = csv.DictReader(io.StringIO(result.stdout))
    assert (settled["final_cpu_ns"], settled["cgroup"]) == ("5000000", "/job.service")
    assert (unsettled["final_cpu_ns"], unsettled["cgroup"]) == ("", "")


def test_the_root_is_not_an_unknown_cgroup(kernel: EmulatedKernel) -> None:
    def happen() -> None:
        kernel.exit(kernel.spawn())

    assert rows(heard(kernel, happen, "--json"))[0]["cgroup"] == "/"
    assert heard(kernel, happen).stdout.splitlines()[1].endswith(" /")


def test_a_group_of_threads_has_no_cgroup_of_its_own(kernel: EmulatedKernel) -> None:
    def happen() -> None:
        process = kernel.spawn()
        kernel.spawn(group=process)
        kernel.exit_group(process)

    *_, group = rows(heard(kernel, happen, "--json", "--threads"))
    assert group["kind"] == "group"
    assert "cgroup" not in group
    header, *_, line = heard(kernel, happen, "--threads").stdout.splitlines()
    assert "(whole process)" in line
    assert len(line) < header.index("CGROUP")


def test_without_a_probe_its_keys_are_missing(kernel: EmulatedKernel) -> None:
    result = heard(kernel, exits_of(kernel, SETTLED), "--json", "--probe", "off")
    assert not {"final_cpu_ns", "start_ns", "cgroup_id", "cgroup"} & rows(result)[0].keys()
    assert "settled" not in result.stderr


# ---- filters ---------------------------------------------------------------------------------


def exits_everywhere(kernel: EmulatedKernel) -> Callable[[], None]:
    places = ["/", "/cron.service", f"/docker-{CONTAINER}.scope", "/jobs", "/jobs/17"]
    cgroups = [kernel.root_cgroup, *map(kernel.make_cgroup, places[1:])]

    def happen() -> None:
        for place, cgroup in zip(places, cgroups, strict=True):
            kernel.exit(kernel.spawn(place[-15:], cgroup=cgroup))
        kernel.exit(kernel.spawn("unknown", cgroup=cgroups[1], teardown=NEVER))

    return happen


@pytest.mark.parametrize(
    ("options", "commands"),
    [
        (["--cgroup", "/"], ["/", "/cron.service", f"{CONTAINER[-9:]}.scope", "/jobs", "/jobs/17"]),
        (["--cgroup", "/jobs"], ["/jobs", "/jobs/17"]),
        (["--cgroup", "/jobs/*"], ["/jobs/17"]),
        (["--cgroup", "17"], ["/jobs/17"]),
        (["--unit", "cron"], ["/cron.service"]),
        (["--unit", "*"], ["/cron.service", f"{CONTAINER[-9:]}.scope"]),
        (["--container", CONTAINER[:12]], [f"{CONTAINER[-9:]}.scope"]),
        (["--container", CONTAINER[:11]], []),
        (["--cgroup", "docker-*", "--container", CONTAINER], [f"{CONTAINER[-9:]}.scope"]),
        (["--cgroup", "/jobs", "--unit", "cron"], []),
    ],
)
@pytest.mark.parametrize("threads", [[], ["--threads"]])
def test_filters_by_place(
    kernel: EmulatedKernel, options: list[str], commands: list[str], threads: list[str]
) -> None:
    result = heard(kernel, exits_everywhere(kernel), "--json", *threads, *options)
    name = "ac_comm" if threads else "comm"
    assert [row[name] for row in rows(result)] == commands
    assert result.stderr.splitlines()[-1].endswith("; left out, since the cgroup is unknown: 1")


def test_an_unknown_cgroup_counts_only_if_all_else_matches(kernel: EmulatedKernel) -> None:
    happen = exits_everywhere(kernel)
    result = heard(kernel, happen, "--unit", "cron", "--comm", "cc1")
    assert "the cgroup is unknown" not in result.stderr


@pytest.mark.parametrize(
    ("glob", "hierarchy", "name"),
    [
        ("/sys/fs/cgroup", Hierarchy(0), "/"),
        ("/sys/fs/cgroup/a*", Hierarchy(0), "/a*"),
        ("/sys/fs/cgroupish", Hierarchy(0), "/sys/fs/cgroupish"),
        ("/sys/fs/cgroup/a", Hierarchy(0, root="/inner"), "/inner/a"),
    ],
)
def test_a_pattern_may_begin_with_the_mount_point(
    monkeypatch: pytest.MonkeyPatch, glob: str, hierarchy: Hierarchy, name: str
) -> None:
    here = replace(hierarchy, mount=Path("/sys/fs/cgroup"))
    monkeypatch.setattr(hierarchies, "hierarchies", lambda: [here])
    monkeypatch.setattr(exits_command, "hierarchies", lambda: [here])
    assert exits_command._below_mount(glob, None) == name


def test_a_pattern_of_another_hierarchy_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    here = [
        Hierarchy(0, mount=Path("/sys/fs/cgroup")),
        Hierarchy(3, ("cpu", "cpuacct"), mount=Path("/sys/fs/cgroup/cpu,cpuacct")),
    ]
    monkeypatch.setattr(hierarchies, "hierarchies", lambda: here)
    monkeypatch.setattr(exits_command, "hierarchies", lambda: here)
    assert exits_command._below_mount("/sys/fs/cgroup/cpu,cpuacct/a", None) == "/a"
    for glob, other, name in (
        ("/sys/fs/cgroup/a", None, "unified"),
        ("/sys/fs/cgroup/cpu,cpuacct/a", "unified", "cpu"),
    ):
        with pytest.raises(click.BadParameter, match=f"add --cgroup-hierarchy {name}$"):
            exits_command._below_mount(glob, other)


# ---- wrong usage, strict, losses -------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            ["--unit", "cron", "--probe", "off"],
            "--unit needs the probe, and --probe off forbids it",
        ),
        (
            ["--cgroup-hierarchy", "unified", "--probe", "off"],
            "--cgroup-hierarchy needs the probe, and --probe off forbids it",
        ),
        (["--cgroup", ""], "no cgroup matches ''"),
        (["--cgroup", "/a/../b"], "no cgroup matches '/a/../b'"),
        (["--unit", "/system.slice/cron.service"], "no unit is called"),
        (["--unit", ""], "no unit is called ''"),
    ],
)
def test_what_can_match_nothing_is_wrong_usage(
    kernel: EmulatedKernel, options: list[str], told: str
) -> None:
    result = heard(kernel, lambda: None, *options)
    assert result.exit_code == 2
    assert told in result.stderr


@pytest.mark.parametrize(
    ("options", "status"),
    [([], 0), (["--probe", "require"], 3), (["--cgroup", "/"], 3), (["--probe", "off"], 0)],
)
def test_strict_wants_complete_records_where_they_are_needed(
    kernel: EmulatedKernel, options: list[str], status: int
) -> None:
    happen = exits_of(kernel, SETTLED, NEVER)
    assert heard(kernel, happen, "--strict", *options).exit_code == status


def test_losses_of_the_ring_are_told(kernel: EmulatedKernel) -> None:
    def happen() -> None:
        kernel.lose_events(2)
        kernel.lose_events(1, "birth")
        kernel.lose_events(1, "cgroup")
        kernel.make_cgroup("/unseen")
        for _ in range(3):
            kernel.exit(kernel.spawn())

    result = heard(kernel, happen, "--json")
    told = "; settled 0, unsettled 3, ends lost 2, births lost 1, cgroup changes lost 1"
    assert result.stderr.splitlines()[-1].endswith(told)
    assert [row["cgroup"] for row in rows(result)].count(None) == 3
