"""The processes of a job as a tree, in which those that are alike are one."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from taskstats.accounts import EndedProcess, LivingProcess

#: How much later a parent's record may be read than its child's although the parent ended after
#: it, ns: they come from several CPUs.
_DISORDER_NS = 100_000_000


@dataclass(slots=True)
class Node:
    """Processes of one name under one parent, whose children are alike too.

    Attributes:
        comm: Their command name.
        pid: Their id, if it is one.
        count: How many they are.
        cpu_ns: Time on a CPU, theirs and that of all below them.
        longest_us: How long the one has lived that lived longest.
        living: How many of them live.
        children: Those below them, what took most CPU time first.
    """

    comm: str
    pid: int | None
    count: int
    cpu_ns: int
    longest_us: int
    living: int
    children: list["Node"] = field(default_factory=list)
    _shape: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Its attributes but for the children, ready for JSON."""
        return {
            "comm": self.comm,
            "pid": self.pid,
            "count": self.count,
            "cpu_ns": self.cpu_ns,
            "longest_us": self.longest_us,
            "living": self.living,
        }

    def _take(self, other: "Node") -> None:
        """Adds another of the same shape."""
        pairs = [(self, other)]
        while pairs:
            mine, its = pairs.pop()
            mine.pid = None
            mine.count += its.count
            mine.cpu_ns += its.cpu_ns
            mine.longest_us = max(mine.longest_us, its.longest_us)
            mine.living += its.living
            theirs = {child._shape: child for child in its.children}
            pairs += [(child, theirs[child._shape]) for child in mine.children]


def grown(ended: Sequence[EndedProcess], living: Iterable[LivingProcess]) -> list[Node]:
    """Return the trees of these processes. A process whose parent is not among them is a root.

    A process stands under its maker where that is known, from a birth. Elsewhere it stands under
    the parent that it had when it ended: an orphan under the process that inherited it.
    """
    alive = list(living)
    nodes = [Node(one.comm, one.pid, 1, one.cpu_ns, one.elapsed_us, 0) for one in ended]
    nodes += [Node(one.comm, one.pid, 1, one.cpu_ns, one.elapsed_us, 1) for one in alive]
    place_of_living = {one.pid: len(ended) + at for at, one in enumerate(alive)}
    by_pid: dict[int, list[int]] = defaultdict(list)
    for at, one in enumerate(ended):
        by_pid[one.pid].append(at)
    both: list[EndedProcess | LivingProcess] = [*ended, *alive]
    by_start = {(one.pid, one.start_ns): at for at, one in enumerate(both)}
    parents = [
        _parent(one, ended, by_pid.get(one.ppid, ()), place_of_living.get(one.ppid))
        if one.maker_pid is None
        else _maker(one, by_start)
        for one in ended
    ]
    parents += [place_of_living.get(one.ppid) for one in alive]
    children: dict[int | None, list[int]] = defaultdict(list)
    for at, parent in enumerate(parents):
        children[parent].append(at)
    shapes: dict[tuple[str, frozenset[int]], int] = {}
    for at in reversed([*_downwards(children)]):  # children before their parents
        node = nodes[at]
        node.children = _merged(nodes[child] for child in children.get(at, ()))
        node.cpu_ns += sum(child.cpu_ns for child in node.children)
        below = frozenset(child._shape for child in node.children)
        node._shape = shapes.setdefault((node.comm, below), len(shapes))
    return _merged(nodes[at] for at in children[None])


def _maker(one: EndedProcess, by_start: dict[tuple[int, int | None], int]) -> int | None:
    """Where its maker stands. The start of a maker from before the births is not known."""
    assert one.maker_pid is not None
    exact = by_start.get((one.maker_pid, one.maker_start_ns))
    return by_start.get((one.maker_pid, None)) if exact is None else exact


def _parent(
    one: EndedProcess, ended: Sequence[EndedProcess], same_pid: Sequence[int], alive: int | None
) -> int | None:
    """Where its parent stands: of those that had the pid, the first that ended after it."""
    later = (at for at in same_pid if ended[at].received_ns >= one.received_ns - _DISORDER_NS)
    first = min(later, key=lambda at: ended[at].received_ns, default=None)
    return alive if first is None else first


def _downwards(children: dict[int | None, list[int]]) -> Iterator[int]:
    """All that have no parent, and all below them, parents before their children."""
    stack = [*children[None]]
    while stack:
        at = stack.pop()
        yield at
        stack += children.get(at, ())


def _merged(nodes: Iterable[Node]) -> list[Node]:
    """Those of one shape as one, what took most CPU time first."""
    by_shape: dict[int, Node] = {}
    for node in nodes:
        if node._shape in by_shape:
            by_shape[node._shape]._take(node)
        else:
            by_shape[node._shape] = node
    return sorted(by_shape.values(), key=lambda node: -node.cpu_ns)
