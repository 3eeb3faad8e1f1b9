"""Final CPU times add up: to what wait4 reports."""

from pathlib import Path

import pytest
from support import child, compiled
from support.requirements import needs_probe, needs_processes, needs_program
from support.watched import Process, Watched, run


@pytest.fixture(autouse=True)
def _probe() -> None:
    needs_probe()
    needs_processes()
    needs_program("gcc")


def repeat(times: int, *command: object) -> list[str]:
    """A shell that runs a command so often."""
    loop = 'n=$0; while [ "$n" -gt 0 ]; do "$@" || exit; n=$((n - 1)); done'
    return ["sh", "-c", loop, str(times), *map(str, command)]


@pytest.mark.parametrize("workload", ["short", "compilers", "memory"])
def test_a_tree_adds_up_to_what_wait4_reports(workload: str, tmp_path: Path) -> None:
    source = Path(compiled.__file__).parent / "burner.c"
    command, processes = {
        "short": (repeat(300, "/bin/true"), 301),
        "compilers": (repeat(6, "gcc", "-O1", "-c", source, "-o", tmp_path / "out.o"), 13),
        "memory": (repeat(20, compiled.program("burner")), 21),
    }[workload]
    # On one CPU: else a parent may read its child's time while the child runs its last moments on
    # another, and wait4 reports too little (kernel/exit.c:exit_notify comes before do_task_dead).
    with Watched() as watched, child.only_on(0):
        pid, used = run(command)
    tree = watched.tree(pid)
    records = watched.leaders(tree)
    assert len(tree) >= processes
    assert {Process(one.id, one.start_ns) for one in records} == tree, watched.stats.probe
    final = sum(one.final_cpu_ns for one in records)
    assert final == pytest.approx(used, rel=0.001), watched.stats.probe
