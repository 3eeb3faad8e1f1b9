"""What a command cost, for people: a line of totals, a table by command, a tree."""

import os
import shlex
from collections.abc import Iterator, Sequence
from typing import Any

from rich.cells import cell_len, set_cell_size

from taskstats import tree
from taskstats.cli import formats, tables, texts
from taskstats.cli.lines import Line
from taskstats.cli.tables import Column
from taskstats.cli.texts import Row
from taskstats.cost import Cost
from taskstats.fields import DELAYS, FIELDS
from taskstats.totals import Totals

_TEARDOWN = "(exit teardown)"

_SHORT_NS = 10_000_000  # of which milliseconds would leave one digit

_MOST_OF_COMMAND = 60  # cells
_MOST_OF_CHAIN = 8  # processes
_MOST_LEVELS = 40

_MARKS = str.maketrans("\n\t", "⏎⇥")  # of a command of several lines

_NO_MORE = "   "  # below the last of some branches

#: How the columns of delays are headed, where it is not after their name.
_DELAY_HEADINGS = {"cpu": "RUN-WAIT", "blkio": "BLOCK-IO"}


def lines(cost: Cost, width: int | None, with_tree: bool) -> Iterator[Line]:
    """The report.

    Args:
        cost: What is to be told.
        width: Cells that a line may take; None for no limit.
        with_tree: The tree too.
    """
    yield _headline(cost)
    yield from _missing(cost)
    yield from (Line(note) for note in _remarks(cost))
    yield from _table(cost, width)
    yield from _delays(cost, width)
    yield from _living(cost)
    if with_tree:
        yield from _tree(cost)


def doubts(cost: Cost) -> Iterator[Line]:
    """What must be known of wait4's figures, where they stand alone."""
    yield from _missing(cost)
    if cost.source == "records":
        yield Line(f"wait4 reports {seconds(cost.wait4_ns)} CPU of {seconds(cost.cpu_ns)}")


def seconds(ns: int) -> str:
    """A time in seconds, to the millisecond; three digits of a short one."""
    if 0 < abs(ns) < _SHORT_NS:
        return "-" * (ns < 0) + texts.duration(abs(ns))
    return f"{ns / 1e9:.3f} s"


def _added_up(ns: int) -> str:
    """CPU time by a record; with 0 it was taken before any was added up."""
    return seconds(ns) if ns else texts.ABSENT


# ---- the line of totals ----------------------------------------------------------------------


def _headline(cost: Cost) -> Line:
    total, wall = cost.usage.total, cost.ended.wall_ns
    parts = [
        _shortened(texts.printable(shlex.join(cost.words).translate(_MARKS))),
        _status(cost.ended.status),
        f"{seconds(wall)} wall",
        f"{seconds(cost.cpu_ns)} CPU ({100 * cost.cpu_ns / max(wall, 1):.0f} %)",
        *_peak(cost),
        f"{total.processes} process{'es' * (total.processes != 1)}",
    ]
    made = Line("  ".join(parts) + "  ", style="bold")
    lost = cost.usage.lost
    made.append(f"lost {lost}", style="red" if lost else "")
    return made


def _shortened(command: str) -> str:
    long = cell_len(command) > _MOST_OF_COMMAND
    return set_cell_size(command, _MOST_OF_COMMAND - 1) + "…" if long else command


def _status(status: int) -> str:
    if os.WIFSIGNALED(status):
        return f"killed by {texts.status(None, os.WTERMSIG(status))}"
    return f"exit {os.WEXITSTATUS(status)}"


def _peak(cost: Cost) -> Iterator[str]:
    """The peak resident size, and whose it was."""
    commands = cost.usage.commands
    largest = max(commands, key=lambda comm: commands[comm].peak_rss_bytes or 0, default="")
    if largest and (peak := commands[largest].peak_rss_bytes):
        yield f"peak {texts.size(peak)} ({texts.printable(largest)})"


def _missing(cost: Cost) -> Iterator[Line]:
    """What the figures lack."""
    usage = cost.usage
    for number, why in (
        (usage.lost, "lost, the command's or others'"),
        (usage.undecided, "could not be assigned to a job, and may be the command's"),
        (usage.evicted, "given up for lack of room, and may be the command's"),
    ):
        if number:
            yield _incomplete(f"{number} record{'s' * (number != 1)} {why}")
    if usage.births_lost:
        yield _incomplete("the probe's ring lost births: descendants may be missing")
    if not cost.settled:
        yield _incomplete("at the end some records were not yet assigned to a job")


def _incomplete(why: str) -> Line:
    return Line(f"incomplete: {why}", style="red")


def _remarks(cost: Cost) -> Iterator[str]:
    if cost.source == "records" and cost.cgroup_ns is None:
        yield (
            f"CPU is the records' sum: wait4 reports {seconds(cost.told_ns)}, and does not see a "
            "process whose parent ignores SIGCHLD or lives on"
        )
    elif cost.source == "records":
        yield (
            f"CPU is the records' sum: its cgroup reports {seconds(cost.told_ns)}, and does not "
            "see what has moved to another"
        )
    if cost.source == "cgroup":
        yield "CPU is its cgroup's"
    if cost.probe and cost.probe.ends_lost:
        yield (
            f"the probe's ring lost {cost.probe.ends_lost} ends of tasks, the command's or "
            "others': their final CPU times are not known"
        )


# ---- the table -------------------------------------------------------------------------------


def _table(cost: Cost, width: int | None) -> Iterator[Line]:
    rows = [_row(cost, comm, totals) for comm, totals in cost.commands().items()]
    rows.sort(key=lambda row: -row["cpu_ns"])
    rest = [] if cost.all_settled else [_teardown(cost)]
    columns = tables.widened(_columns(cost.usage.total), [*rows, *rest])
    left_out: Sequence[Column] = ()
    if width is not None:
        columns, left_out = tables.fitted(columns, width)
    yield tables.heading(columns)
    for row in rows:
        yield tables.line(columns, row)
    for row in rest:
        line = tables.line(columns, row)
        note = f"   {row['note']}"
        if width is None or line.cell_len + cell_len(note) <= width:
            line.append(note)
        yield line
    if left_out:
        yield Line(formats.left_out(left_out, width or 0))


def _row(cost: Cost, comm: str, totals: Row) -> Row:
    percent = 100 * totals["cpu_ns"] / max(cost.cpu_ns, 1)
    return {"kind": "command", "comm": comm, **totals, "cpu_percent": percent}


def _teardown(cost: Cost) -> Row:
    own = cost.teardown_ns
    note = "unknown" if own is None else _why_left(cost.usage.total)
    percent = None if own is None else 100 * own / max(cost.cpu_ns, 1)
    return {"comm": _TEARDOWN, "cpu_ns": own, "cpu_percent": percent, "note": note}


def _why_left(total: Totals) -> str:
    """Why some CPU time is in no row."""
    if total.unsettled == total.threads:
        return "after the records, or not added up by then"
    if total.unsettled:
        some = f"{total.unsettled} thread{'s' * (total.unsettled != 1)}"
        return f"of {some} without a final figure, or in no record"
    return "in no record"


def _columns(total: Totals) -> list[Column]:
    waits = ["cpu", "blkio"]
    waits += [name for name in DELAYS if name not in waits and total.sums.get(f"{name}_count")]
    return [
        Column("comm", "COMMAND", lambda row: texts.printable(row["comm"]), right=False),
        Column("processes", "PROCS", _count("processes")),
        Column("failed", "FAILED", _count("failed"), leave=1, style=_failed_style),
        Column("cpu_ns", "CPU", _cpu),
        Column("cpu_percent", "CPU%", _percent),
        *(_delay(name, 10 + number) for number, name in enumerate(waits)),
        Column("peak_rss_bytes", "PEAK RSS", _plain("peak_rss_bytes"), leave=3),
        Column("longest_seconds", "LONGEST", _plain("longest_seconds"), leave=2),
    ]


def _delay(name: str, leave: int) -> Column:
    key = f"{name}_delay_total"

    def text(row: Row) -> str:
        if "kind" not in row:
            return ""
        if key not in row:
            return texts.NOT_MEASURED if not row["delays_measured"] else texts.ABSENT
        doubtful = name != "cpu" and row["delay_exceeds_elapsed"] and row[key]
        return texts.duration(row[key]) + "?" * bool(doubtful)

    return Column(key, _delay_heading(name), text, leave=leave)


def _delay_heading(name: str) -> str:
    return _DELAY_HEADINGS.get(name, f"{name.upper()}-WAIT")


def _count(name: str) -> Any:
    return lambda row: str(row.get(name, ""))


def _plain(name: str) -> Any:
    return lambda row: texts.of(row, name) if "kind" in row else ""


def _cpu(row: Row) -> str:
    return seconds(row["cpu_ns"]) if _is_told(row) else texts.ABSENT


def _percent(row: Row) -> str:
    return f"{row['cpu_percent']:.1f}" if _is_told(row) else texts.ABSENT


def _is_told(row: Row) -> bool:
    """Whether its CPU time is known: a record with 0 was taken before any was added up."""
    return row["cpu_ns"] is not None and ("kind" not in row or row["cpu_ns"] > 0)


def _failed_style(row: Row) -> str:
    return "red" if row.get("failed") else ""


# ---- the delays ------------------------------------------------------------------------------


def _delays(cost: Cost, width: int | None) -> Iterator[Line]:
    """A table of those of the whole command; nothing where they were not measured."""
    if not cost.usage.total.delays_measured:
        return
    doubtful = bool(cost.usage.total.delay_exceeds_elapsed)
    rows = [
        {"kind": name, "delay": delay, "doubtful": doubtful and name != "cpu"}
        for name, delay in cost.delays().items()
        if delay.count
    ]
    columns = tables.widened(_DELAY_COLUMNS, rows)
    if width is not None:
        columns, _ = tables.fitted(columns, width)  # the meaning alone may be left out
    yield tables.heading(columns)
    for row in rows:
        yield tables.line(columns, row)


def _delay_figure(ns: float | None, row: Row) -> str:
    return texts.ABSENT if ns is None else texts.duration(ns) + "?" * bool(ns and row["doubtful"])


_DELAY_COLUMNS = (
    Column("kind", "DELAY", lambda row: _delay_heading(row["kind"]), right=False),
    Column("count", "COUNT", lambda row: str(row["delay"].count)),
    Column("total", "TOTAL", lambda row: _delay_figure(row["delay"].total_ns, row)),
    Column(
        "average",
        "AVERAGE",
        lambda row: _delay_figure(row["delay"].total_ns / row["delay"].count, row),
    ),
    Column("max", "MAX", lambda row: _delay_figure(row["delay"].max_ns, row)),
    Column(
        "meaning",
        "MEANING",
        lambda row: FIELDS[f"{row['kind']}_count"].doc.removeprefix("Number of "),
        right=False,
        leave=1,
    ),
)


# ---- what lives on ---------------------------------------------------------------------------


def _living(cost: Cost) -> Iterator[Line]:
    living, unclear = cost.usage.living, cost.usage.unclear
    if unclear:
        yield Line(f"{unclear} more still running may be its orphans, or others'", style="red")
    if not living:
        return
    number = len(living)
    counted = cost.source == "cgroup"
    where = "in the CPU of the first line alone" if counted else "not in the sums above"
    yield Line(f"{number} process{'es' * (number != 1)} still running, {where}:")
    for one in sorted(living, key=lambda one: one.pid):
        peak = texts.size(one.peak_rss_bytes) if one.peak_rss_bytes else texts.ABSENT
        yield Line(
            f"  {one.pid} {texts.printable(one.comm)}  {_added_up(one.cpu_ns)} CPU  "
            f"peak {peak}  for {texts.duration(one.elapsed_us * 1e3)}"
        )


# ---- the tree --------------------------------------------------------------------------------


def _tree(cost: Cost) -> Iterator[Line]:
    rows = [*_branches(cost.tree())]
    width = max((cell_len(label) for label, _, _ in rows), default=0)
    figures = max((len(cpu) for _, cpu, _ in rows), default=0)
    for label, cpu, age in rows:
        yield Line(f"{label}{' ' * (width - cell_len(label))}  {cpu:>{figures}}  {age}")
    if cost.usage.forgotten:
        yield Line(f"{cost.usage.forgotten} more processes are not in the tree", style="red")


def _branches(roots: list[tree.Node]) -> Iterator[tuple[str, str, str]]:
    """Label, CPU time with all below, and how long the longest has lived, of each line."""
    stack = [(root, "", "") for root in reversed(roots)]
    while stack:
        node, lead, below = stack.pop()
        if len(below) > _MOST_LEVELS * len(_NO_MORE):
            yield f"{lead}…", _added_up(node.cpu_ns), "and what is below"
            continue
        age, cpu, single = node.longest_us, node.cpu_ns, node.count == 1
        chain = [_label(node, with_pid=not lead)]
        while single and len(node.children) == 1 and node.children[0].count == 1:
            (node,) = node.children
            chain.append(_label(node))
        most = "" if single else "max "
        yield lead + _joined(chain), _added_up(cpu), most + texts.duration(age * 1e3)
        last = len(node.children) - 1
        for at in range(last, -1, -1):
            here, under = ("└─ ", _NO_MORE) if at == last else ("├─ ", "│  ")
            stack.append((node.children[at], below + here, below + under))


def _joined(chain: list[str]) -> str:
    """Processes that have one child each, on one line."""
    if len(chain) > _MOST_OF_CHAIN:
        chain = [*chain[:2], f"… {len(chain) - 4} more …", *chain[-2:]]
    return " ─ ".join(chain)


def _label(node: tree.Node, *, with_pid: bool = False) -> str:
    made = texts.printable(node.comm)
    if node.count > 1:
        made += f" x{node.count}"
    elif with_pid:
        made += f" {node.pid}"
    if node.living:
        made += " (running)" if node.living == node.count else f" ({node.living} running)"
    return made
