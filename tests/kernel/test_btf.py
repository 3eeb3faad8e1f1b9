"""What the probe reads in the kernel's memory, and its programs there, against Debian's bpftool."""

import functools
import json
import re
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from support.requirements import needs_probe, needs_program, skip
from support.task import until

from taskstats import ExitListener
from taskstats._native import ffi, lib
from taskstats.cgroups.hierarchies import hierarchies

BTF = Path("/sys/kernel/btf/vmlinux")

#: Member of struct ts_probe_layout -> where the kernel has it, as C would write it.
MEMBERS = {
    "task_pid": "task_struct.pid",
    "task_tgid": "task_struct.tgid",
    "task_start_boottime": "task_struct.start_boottime",
    "task_start_time": "task_struct.start_time",
    "task_group_leader": "task_struct.group_leader",
    "task_cgroups": "task_struct.cgroups",
    "task_state": "task_struct.__state",
    "task_cpu_time": "task_struct.se.sum_exec_runtime",
    "task_runs": "task_struct.sched_info.pcount",
    "task_run_delay": "task_struct.sched_info.run_delay",
    "css_set_dfl_cgrp": "css_set.dfl_cgrp",
    "css_set_subsys": "css_set.subsys",
    "css_cgroup": "cgroup_subsys_state.cgroup",
    "cgroup_kn": "cgroup.kn",
    "cgroup_root": "cgroup.root",
    "root_hierarchy_id": "cgroup_root.hierarchy_id",
    "kernfs_node_id": "kernfs_node.id",
}

#: Member -> the argument's name in the function that calls the tracepoint's programs.
ARGUMENTS = {"switch_previous": "prev", "switch_state": "prev_state"}

PROGRAMS = {f"taskstats_{name}" for name in ("end", "birth", "mkdir", "name", "rmdir")}


def bpftool(*arguments: str | int) -> Any:
    """What it answers, as JSON."""
    command = ["bpftool", "-j", *map(str, arguments)]
    answered = subprocess.run(command, capture_output=True, text=True)
    return json.loads(answered.stdout) if answered.stdout else None


class Types:
    """The kernel's types, as bpftool lists them."""

    def __init__(self) -> None:
        types = bpftool("btf", "dump", "file", BTF)["types"]
        self._by_id = {one["id"]: one for one in types}
        self._by_name = {(one["kind"], one["name"]): one for one in types}

    def _plain(self, type_id: int) -> dict[str, Any]:
        """The type that typedefs and qualifiers stand for."""
        one = self._by_id[type_id]
        qualifiers = ("TYPEDEF", "CONST", "VOLATILE", "RESTRICT", "TYPE_TAG")
        return self._plain(one["type_id"]) if one["kind"] in qualifiers else one

    def _members(self, one: dict[str, Any]) -> Iterable[tuple[str, int, dict[str, Any]]]:
        """Name, bits from the start and type of each member, also of nameless structures."""
        for member in one["members"]:
            kind = self._plain(member["type_id"]) if member["type_id"] else {}
            if member["name"] != "(anon)":
                yield member["name"], member["bits_offset"], kind
            elif kind["kind"] in ("STRUCT", "UNION"):
                for name, bits, inner in self._members(kind):
                    yield name, member["bits_offset"] + bits, inner

    def offset(self, path: str) -> int:
        """Bytes from the start of the first structure to the last member of a path."""
        structure, *names = path.split(".")
        one, total = self._by_name["STRUCT", structure], 0
        for name in names:
            found = {member: (bits, kind) for member, bits, kind in self._members(one)}
            bits, one = found[name]
            total += bits
        return total // 8

    def argument(self, tracepoint: str, name: str) -> int:
        """The number of a tracepoint's argument; the function's first is not passed on."""
        function = self._by_name["FUNC", f"__traceiter_{tracepoint}"]
        names = [one["name"] for one in self._by_id[function["type_id"]]["params"]]
        return names.index(name) - 1

    def constant(self, enumeration: str, name: str) -> int:
        values = self._by_name["ENUM", enumeration]["values"]
        return next(int(one["val"]) for one in values if one["name"] == name)


@functools.cache
def types() -> Types:
    needs_program("bpftool")
    needs_probe()
    return Types()


def test_every_offset_is_the_one_that_bpftool_tells() -> None:
    expected = {ours: types().offset(path) for ours, path in MEMBERS.items()}
    expected |= {ours: types().argument("sched_switch", name) for ours, name in ARGUMENTS.items()}
    layout = ffi.new("struct ts_probe_layout *")
    btf = BTF.read_bytes()
    assert lib.ts_probe_read_layout(btf, len(btf), layout) == 0
    names = [name for name, _field in ffi.typeof("struct ts_probe_layout").fields]
    assert {name: getattr(layout, name) for name in names} == expected


# ---- the programs, where the kernel has them ----


def loaded(kind: str) -> list[int]:
    """Ids of this process's BPF objects: "prog" or "map"."""
    found = set()
    for info in Path("/proc/self/fdinfo").iterdir():
        text = info.read_text() if info.exists() else ""
        found |= {int(one) for one in re.findall(rf"^{kind}_id:\s*(\d+)$", text, re.MULTILINE)}
    return sorted(found)


def exists(kind: str, number: int) -> bool:
    return "error" not in (bpftool(kind, "show", "id", number) or {"error": ""})


def test_bpftool_lists_the_programs_until_the_close() -> None:
    needs_program("bpftool")
    needs_probe()
    with ExitListener(probe="require"):
        programs, maps = loaded("prog"), loaded("map")
        shown = [bpftool("prog", "show", "id", one) for one in programs]
        assert {one["name"] for one in shown} == PROGRAMS
        assert len(shown) == len(PROGRAMS)
        assert {one["type"] for one in shown} == {"tracing"}
        assert all(sorted(one["map_ids"]) == maps for one in shown)
        kinds = {bpftool("map", "show", "id", one)["type"] for one in maps}
        assert kinds == {"ringbuf", "array"}
    assert loaded("prog") == loaded("map") == []
    # The kernel frees them when no CPU runs them any more.
    until(lambda: not any(exists("prog", one) for one in programs))
    until(lambda: not any(exists("map", one) for one in maps))


def loads(program: str) -> list[int]:
    """The offsets that this process's program loads from, in its order."""
    for number in loaded("prog"):
        if bpftool("prog", "show", "id", number)["name"] == program:
            lines = [one["disasm"] for one in bpftool("prog", "dump", "xlated", "id", number)]
            found = [re.search(r"= \*\(u\d+ \*\)\(r\d+ \+(\d+)\)", line) for line in lines]
            return [int(one[1]) for one in found if one]
    raise AssertionError(f"{program} is not loaded")


def cgroup_path(controller: str | None) -> list[int]:
    """Offsets of the way from a task to its cgroup's id."""
    offset = types().offset
    if controller is None:
        way = [offset("css_set.dfl_cgrp")]
    else:
        name = "io" if controller == "blkio" else controller
        number = types().constant("cgroup_subsys_id", f"{name}_cgrp_id")
        way = [offset("css_set.subsys") + 8 * number, offset("cgroup_subsys_state.cgroup")]
    return [offset("task_struct.cgroups"), *way, offset("cgroup.kn"), offset("kernfs_node.id")]


@pytest.mark.parametrize("version", [1, 2])
def test_programs_load_from_the_offsets_that_bpftool_tells(version: int) -> None:
    needs_program("bpftool")
    needs_probe()
    chosen = next((one for one in hierarchies() if one.version == version), None)
    if chosen is None:
        skip(f"no cgroup hierarchy of version {version} is mounted")
    controller = chosen.controllers[0] if version == 1 else None
    names = ("pid", "tgid", "start_boottime", "start_time", "group_leader", "se.sum_exec_runtime")
    task = {name: types().offset(f"task_struct.{name}") for name in names}
    runs = [types().offset(f"task_struct.sched_info.{name}") for name in ("pcount", "run_delay")]
    arguments = [8 * types().argument("sched_switch", name) for name in ("prev_state", "prev")]
    way = cgroup_path(controller)
    with ExitListener(probe="require", cgroup_hierarchy=controller or "unified"):
        assert loads("taskstats_end") == [
            *arguments,
            task["pid"],
            task["tgid"],
            task["start_time"],
            task["group_leader"],
            task["start_time"],  # the leader's
            *runs,
            task["start_boottime"],
            task["se.sum_exec_runtime"],
            *way,
        ]
