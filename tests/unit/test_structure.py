"""Dependencies point one way, and the core needs cffi alone."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import taskstats
from taskstats.cli.main import taskstats as command

ROOT = Path(__file__).parents[2]

#: What each module may import of the package. Nothing else may be.
MAY_IMPORT = {
    "fields": set(),
    "errors": set(),
    "host": set(),
    "cpulist": set(),
    "fixes": {"host"},
    "delayacct": {"errors", "fixes", "host"},
    "presence": {"fields"},
    "rows": {"errors", "fields", "presence"},
    "births": {"tables"},
    "records": {"births", "errors", "fields", "presence", "rows", "tables"},
    "tables": {"births", "fields", "presence", "records", "rows"},
    "endpoint": {"_native", "host"},
    "shim": {"_native", "errors"},
    "datagrams": {"_native", "errors", "records", "rows", "shim"},
    "answers": {"_native", "errors", "fields", "presence", "records", "rows"},
    "client": {"_native", "answers", "endpoint", "errors", "host", "records", "rows", "shim"},
    "exit_stats": {"errors"},
    "where": {"presence"},
    "aio": set(),
    "probe": {"_native", "cgroups", "endpoint", "errors", "host", "shim"},
    "exits": {
        "_native",
        "aio",
        "births",
        "client",
        "cpulist",
        "endpoint",
        "errors",
        "exit_stats",
        "host",
        "probe",
        "records",
        "rows",
        "shim",
        "where",
    },
    "sums": {"fields", "rows"},
    "processes": {"fields", "presence", "records", "rows", "sums"},
    "totals": {"_native", "fields", "sums"},
    "accounts": {"totals"},
    "alive": set(),
    "engine": {"_native", "accounts", "processes", "records", "rows", "sums"},
    "parents": {"_native", "alive", "engine", "processes", "records"},
    "by_records": {"engine", "parents", "processes", "records"},
    "jobs": {
        "accounts",
        "alive",
        "by_records",
        "engine",
        "fields",
        "parents",
        "processes",
        "records",
        "totals",
    },
    "tree": {"accounts"},
    "cgroup_cpu": {"host"},
    "privileges": set(),
    "launch": {"privileges"},
    "cost": {"accounts", "exit_stats", "launch", "records", "totals", "tree"},
    "reader": {
        "client",
        "endpoint",
        "errors",
        "exits",
        "fields",
        "jobs",
        "probe",
        "threads",
    },
    "threads": {"errors"},
    "gate": {"errors", "threads"},
    "terminals": set(),
    "measuring": {
        "cgroup_cpu",
        "cost",
        "delayacct",
        "endpoint",
        "errors",
        "host",
        "launch",
        "probe",
        "reader",
        "terminals",
    },
    "monitor": {
        "accounts",
        "delayacct",
        "endpoint",
        "errors",
        "exit_stats",
        "gate",
        "host",
        "probe",
        "reader",
    },
    "diagnosis": {
        "cgroups",
        "client",
        "cpulist",
        "delayacct",
        "errors",
        "exits",
        "fields",
        "fixes",
        "host",
        "probe",
        "records",
    },
    "cgroups": {"_native", "cgroups", "endpoint", "errors", "host", "rows", "shim"},
    "emulator": {"_native", "cpulist", "emulator", "endpoint", "fields", "presence", "rows"},
    "cli": {
        "accounts",
        "cgroups",
        "cli",
        "client",
        "cost",
        "diagnosis",
        "endpoint",
        "errors",
        "exit_stats",
        "exits",
        "fields",
        "fixes",
        "host",
        "launch",
        "measuring",
        "presence",
        "probe",
        "processes",
        "records",
        "rows",
        "sums",
        "totals",
        "tree",
        "where",
    },
}

#: What each C file may include of the shim, but for its own header.
MAY_INCLUDE = {
    "taskstats_shim": set(),
    "abi": {"taskstats_shim"},
    "layout": {"abi"},
    "netlink": {"taskstats_shim"},
    "decode": {"abi", "netlink"},
    "sequence": set(),
    "memory": {"taskstats_shim"},
    "receive": {"decode"},
    "socket": {"abi", "netlink"},
    "filter": {"taskstats_shim"},
    "peer": {"taskstats_shim"},
    "meter": {"abi", "peer", "sequence", "socket"},
    "process": set(),
    "query": {"abi", "decode", "process", "receive", "socket"},
    "events": set(),
    "btf": set(),
    "offsets": {"btf", "programs"},
    "programs": {"events", "taskstats_shim"},
    "bpf": {"programs"},
    "ring": set(),
    "probe": {"bpf", "events", "offsets", "process", "programs", "ring"},
    "settle": {"events", "ring", "taskstats_shim"},
    "exits": {
        "abi",
        "drainer",
        "filter",
        "meter",
        "peer",
        "probe",
        "process",
        "receive",
        "sequence",
        "settle",
    },
    "drain": {"drainer", "exits"},
    "buffer": {"taskstats_shim"},
    "drainer": {"buffer", "exits"},
    "tally": {"taskstats_shim"},
    "kin": {"tally"},
    "jobs": {"kin"},
    "doubts": set(),
    "owners": {"doubts", "taskstats_shim"},
    "parentage": {"owners"},
    "cgroup": {"abi", "socket"},
}

#: The files that make no system call.
PURE = [
    "layout",
    "netlink",
    "decode",
    "sequence",
    "peer",
    "btf",
    "offsets",
    "programs",
    "ring",
    "settle",
    "buffer",
    "tally",
    "kin",
    "jobs",
    "doubts",
    "owners",
    "parentage",
]
IMPURE_HEADERS = {"unistd.h", "poll.h", "pthread.h", "time.h", "stdio.h", "stdlib.h"}
#: What pure files may include of these: for malloc, and for snprintf.
HARMLESS = {
    **{name: {"stdlib.h"} for name in ("btf", "settle", "tally", "kin", "jobs")},
    **{name: {"stdlib.h"} for name in ("doubts", "owners", "parentage")},
    "offsets": {"stdio.h"},
}


def python_files() -> list[Path]:
    return [
        path
        for path in sorted((ROOT / "taskstats").rglob("*.py"))
        if path != ROOT / "taskstats/__init__.py"
    ]


def imported(path: Path) -> set[str]:
    """The package's modules that a file imports, by their first name below `taskstats`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = (
                [alias.name for alias in node.names]
                if node.module == "taskstats"
                else [node.module.removeprefix("taskstats.")]
            )
            if node.module.partition(".")[0] == "taskstats":
                found |= {name.partition(".")[0] for name in names}
    return found


@pytest.mark.parametrize("path", python_files(), ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    room = path.relative_to(ROOT / "taskstats").parts[0].removesuffix(".py")
    assert imported(path) <= MAY_IMPORT[room]


def included(path: Path, brackets: str) -> set[str]:
    opening, closing = (re.escape(one) for one in brackets)
    return set(re.findall(rf"#include {opening}([^>\"]+){closing}", path.read_text()))


@pytest.mark.parametrize("path", sorted((ROOT / "csrc").glob("*.[ch]")), ids=lambda p: p.name)
def test_includes_point_one_way(path: Path) -> None:
    own = {path.stem} if path.suffix == ".c" else set()
    names = {name.removesuffix(".h") for name in included(path, '""')}
    assert names <= MAY_INCLUDE[path.stem] | own


@pytest.mark.parametrize("name", PURE)
def test_pure_files_make_no_system_call(name: str) -> None:
    headers = included(ROOT / f"csrc/{name}.c", "<>")
    assert not headers & IMPURE_HEADERS - HARMLESS.get(name, set())
    assert not {h for h in headers if h.startswith("sys/")}


def test_the_shim_has_few_functions() -> None:
    text = (ROOT / "csrc/taskstats_shim.h").read_text()
    functions = re.findall(r"^(?:int|void|uint32_t) \*?(ts_\w+)\(", text, re.MULTILINE)
    of_jobs = [name for name in functions if name.startswith(("ts_job", "ts_totals"))]
    of_parentage = [name for name in functions if name.startswith("ts_parentage")]
    assert 0 < len(functions) - len(of_jobs) - len(of_parentage) <= 17
    assert 0 < len(of_jobs) <= 26
    assert 0 < len(of_parentage) <= 14


def loaded_by(program: str) -> set[str]:
    """The modules that a new interpreter has after the program."""
    program = f"import sys; {program}; print(*sys.modules)"
    answered = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return set(answered.stdout.split())


def test_importing_needs_cffi_alone() -> None:
    loaded = loaded_by("from taskstats import *")
    assert {f"taskstats.{name}" for name in taskstats._MODULES.values()} <= loaded
    packages = {name.partition(".")[0] for name in loaded} - sys.stdlib_module_names
    others = {name for name in packages if not name.startswith("_")}
    assert others - {"sitecustomize", "usercustomize"} <= {"taskstats", "cffi"}


def test_public_names_are_those_that_type_checkers_see() -> None:
    """They are imported twice: for type checkers, and by the table when they are used."""
    tree = ast.parse((ROOT / "taskstats/__init__.py").read_text())
    (checked,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.name: node.module
        for node in checked.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == {name: f"taskstats.{module}" for name, module in taskstats._MODULES.items()}
    assert sorted(seen) == sorted(taskstats.__all__)
    assert {*taskstats.__all__} <= {*dir(taskstats)}


@pytest.mark.parametrize("name", command.commands)
def test_a_subcommand_is_imported_without_what_it_does_not_need(name: str) -> None:
    loaded = loaded_by(f"from taskstats.cli.main import taskstats as t; t.commands[{name!r}]")
    assert f"taskstats.cli.{name}" in loaded
    others = {f"taskstats.cli.{other}" for other in command.commands if other != name}
    late = {"asyncio", "importlib.metadata", "numpy", "rich.console", "rich.text"}
    assert not loaded & (others | late)


@pytest.mark.parametrize(
    ("missing", "call", "extra"),
    [("numpy", "to_numpy", "numpy"), ("pyarrow", "to_arrow", "arrow")],
)
def test_without_an_extra_its_name_is_told(missing: str, call: str, extra: str) -> None:
    program = (
        f"import sys, taskstats; sys.modules[{missing!r}] = None; taskstats.Batch(b'').{call}()"
    )
    answered = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert answered.returncode == 1
    assert f"pip install '.[{extra}]'" in answered.stderr


def test_without_click_the_command_says_what_to_install() -> None:
    program = "import sys; sys.modules['click'] = None; from taskstats.cli import main; main()"
    answered = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert answered.returncode == 1
    assert answered.stderr.count("\n") == 1
    assert "pip install '.[cli]'" in answered.stderr
