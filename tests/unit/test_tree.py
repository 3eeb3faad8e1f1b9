"""The tree of a job: who stands under whom, and which are one."""

import random
from collections.abc import Iterable, Iterator

from hypothesis import given
from hypothesis import strategies as st

from taskstats.jobs import EndedProcess, LivingProcess
from taskstats.tree import Node, grown

MS = 1_000_000


def ended(pid: int, ppid: int, comm: str, at: int = 0, cpu: int = 1, us: int = 1) -> EndedProcess:
    return EndedProcess(pid, ppid, comm, cpu, us, 0, at * MS)


def living(pid: int, ppid: int, comm: str) -> LivingProcess:
    return LivingProcess(pid, ppid, comm, 1, 1, 1, None)


def drawn(nodes: Iterable[Node], depth: int = 0) -> list[str]:
    """A line for each node, indented."""
    lines = []
    for node in nodes:
        lines.append(f"{' ' * depth}{node.comm} {node.count} {node.cpu_ns}")
        lines += drawn(node.children, depth + 1)
    return lines


def test_children_stand_under_their_parents_in_any_order() -> None:
    one = [ended(3, 2, "cc1"), ended(2, 1, "gcc"), ended(1, 0, "make")]
    for order in (one, one[::-1], [one[1], one[0], one[2]]):
        assert drawn(grown(order, [])) == ["make 1 3", " gcc 1 2", "  cc1 1 1"]


def test_those_of_one_shape_are_one() -> None:
    made = [ended(1, 0, "make", cpu=5)]
    for n in range(10, 13):
        made += [
            ended(n, 1, "gcc", us=n),
            ended(100 + n, n, "cc1", cpu=10),
            ended(200 + n, n, "as"),
        ]
    made.append(ended(30, 1, "gcc"))
    (root,) = grown(made, [])
    assert drawn([root]) == ["make 1 42", " gcc 3 36", "  cc1 3 30", "  as 3 3", " gcc 1 1"]
    many, single = root.children
    assert (many.pid, many.longest_us) == (None, 12)
    assert single.pid == 30


def test_a_number_of_children_makes_no_other_shape() -> None:
    made = [ended(1, 0, "a"), ended(2, 0, "a"), *(ended(10 + n, 1 + n // 3, "b") for n in range(4))]
    assert drawn(grown(made, [])) == ["a 2 6", " b 4 4"]


def test_what_took_most_comes_first() -> None:
    made = [ended(1, 0, "a", cpu=1), ended(2, 0, "b", cpu=3), ended(3, 0, "c", cpu=2)]
    assert [node.comm for node in grown(made, [])] == ["b", "c", "a"]


def test_of_two_with_one_pid_the_parent_is_the_first_that_ended_after() -> None:
    made = [
        ended(5, 0, "old", at=0),
        ended(8, 5, "child", at=500),
        ended(5, 0, "new", at=510),
        ended(5, 0, "newest", at=900),
    ]
    found = {node.comm: [one.comm for one in node.children] for node in grown(made, [])}
    assert found == {"old": [], "new": ["child"], "newest": []}


def made(pid: int, start: int, maker: int, maker_start: int, comm: str) -> EndedProcess:
    """A process whose birth is known; init has inherited it."""
    return EndedProcess(pid, 1, comm, 1, 1, 0, start * MS, start, maker, maker_start)


def test_a_process_stands_under_its_maker_where_that_is_known() -> None:
    """Pid 5 had two owners: neither the pid nor the order of the ends says which one made it."""
    processes = [
        made(9, 400, 5, 100, "child"),
        made(5, 100, 2, 50, "old"),
        made(5, 300, 2, 50, "new"),
        made(8, 500, 5, 300, "other child"),
        ended(1, 0, "init"),
    ]
    found = {node.comm: [one.comm for one in node.children] for node in grown(processes, [])}
    assert found == {"old": ["child"], "new": ["other child"], "init": []}


def test_makers_from_before_the_births_and_living_ones_are_found() -> None:
    alive = LivingProcess(4, 1, "sh", 1, 1, 1, None, start_ns=70)
    processes = [ended(3, 1, "make"), made(9, 400, 3, 20, "cc"), made(8, 500, 4, 70, "ls")]
    found = {node.comm: [one.comm for one in node.children] for node in grown(processes, [alive])}
    assert found == {"make": ["cc"], "sh": ["ls"]}


def test_the_living_have_children_too() -> None:
    (root,) = grown([ended(3, 2, "true"), ended(4, 2, "true")], [living(2, 1, "sh")])
    assert drawn([root]) == ["sh 1 3", " true 2 2"]
    assert (root.living, root.children[0].living) == (1, 0)


def test_a_thousand_levels_are_no_trouble() -> None:
    chain = [ended(n, n - 1, "sh") for n in range(1, 5000)]
    other = [ended(9000 + n, 8999 + n if n > 1 else 0, "sh") for n in range(1, 5000)]
    nodes = grown(chain + other, [])
    assert len(nodes) == 1
    assert (nodes[0].count, nodes[0].cpu_ns) == (2, 9998)


@st.composite
def forests(draw: st.DrawFn) -> list[EndedProcess]:
    """Processes, each a child of an earlier one or of nobody."""
    size = draw(st.integers(1, 30))
    return [
        ended(
            pid,
            draw(st.integers(0, pid - 1)),
            draw(st.sampled_from("abc")),
            cpu=draw(st.integers(0, 9)),
        )
        for pid in range(1, size + 1)
    ]


def every(nodes: Iterable[Node]) -> Iterator[Node]:
    for node in nodes:
        yield node
        yield from every(node.children)


@given(forests(), st.randoms())
def test_every_process_is_in_it_once(processes: list[EndedProcess], chance: random.Random) -> None:
    shuffled = processes.copy()
    chance.shuffle(shuffled)
    nodes = grown(shuffled, [])
    assert sum(node.count for node in every(nodes)) == len(processes)
    assert sum(node.cpu_ns for node in nodes) == sum(one.cpu_ns for one in processes)
    for node in every(nodes):
        below = sum(child.cpu_ns for child in node.children)
        assert node.cpu_ns >= below
