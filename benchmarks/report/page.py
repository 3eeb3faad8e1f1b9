"""The page: text that holds of any results, and tables made from them."""

import statistics
from collections.abc import Iterable, Iterator, Sequence

import noise
from figures import OURS, Comparison, Measurement, Rows, Value

from report import plots, tools
from report.quantities import cell, ratio, scale, with_spread
from report.results import Results
from report.tools import tool
from report.topics import TOPICS
from report.verdicts import Target, losses, targets, title

INTRODUCTION = """\
# Benchmarks

Made by a run of `benchmarks/`, text and plots too; the figures of every round, to five digits, are
in [benchmarks/results.json](benchmarks/results.json). The README says how to make it for your
machine.

## Before you believe a figure
"""

CAVEATS = """\
- **Judge by ratios.** All sides of a comparison run by turns, each round in another order. A figure
  is the median of the rounds, in brackets the smallest and the largest. A ratio is made round by
  round, ours to the other's: below 1 ours is better, 1/50 is a fiftieth of the cost. In the tables
  it stands below the other side's figure. Absolute figures are this machine's; ratios carry
  further, and are no promise either.
- **A floor** is plain C with the same system calls, which does no more than it must: what it lacks
  of checks and comfort is what the ratio to it pays for. Where there is no system call, it is the
  least of the work alone: copying, transposing, a list of tuples.
- **Rivals** are used in the way that their documentation shows, and where another way of theirs is
  faster, in that way too; each in a process of its own. They do not do the same: see
  [below](#who-is-measured).
- **CPU time** is what the kernel says that a process has used, of user and system time; where it
  says nothing of CPU, time is that of the clock.
- **Storms** exit on one CPU and are heard on another. Where every CPU makes exits, whoever listens
  takes time from them.
- **Full sockets** are filled by a process that plays the kernel, with records that a kernel once
  sent: the same system calls, queues and checks, but no exits. Where that is so, the section says
  it.
- **Not shown:** other machines, kernels and versions of Python; one run does not tell how the next
  one would differ. No tool was measured under memory pressure, or beside other load.
"""

NOISE = """\
**How noise is judged.** Before the first benchmark, for a moment after each, and after the last
one the run sleeps and looks what others use of each CPU, and repeats a fixed piece of work on each.
It is refused, and nothing is published, if others use more than {busy:.0%} of a CPU, or more than
{look:.0%} of one in any single look, if the host gives more than {stolen:.0%} of a CPU to others,
if interruptions make the work more than {stretch:.0%} longer than its median, or if its medians
differ by more than {drift:.0%} between CPUs or over the run. Of this run, the worst CPU:
"""


#: What is better than ours, by its kind.
_JUDGES = {
    tools.RIVAL: "a rival",
    tools.FLOOR: "a floor",
    tools.OURS: "ours in another way",
}


def page(results: Results) -> str:
    """The whole page."""
    return "\n".join(_page(results)) + "\n"


def _page(results: Results) -> Iterator[str]:
    yield INTRODUCTION
    yield from _one_run(results)
    yield CAVEATS
    yield from _noise(results)
    yield "\n## Who is measured\n"
    yield from _rivals(results)
    yield "\n## Targets\n"
    yield from _targets(results.measurements)
    yield "\n## Where we lose\n"
    yield from _losses(results.measurements)
    by_topic: dict[str, list[Measurement]] = {topic: [] for topic in TOPICS}
    for one in results.measurements:
        by_topic.setdefault(one.topic, []).append(one)
    for topic, measurements in by_topic.items():
        if measurements:
            yield from _topic(topic, measurements)
    yield "\n## The machine\n"
    yield from _table(["", ""], ([name, text] for name, text in results.machine.items()))


# ---- before the figures ----------------------------------------------------------------------


def _one_run(results: Results) -> Iterator[str]:
    facts = results.machine
    is_virtual = facts["virtual machine"] == "yes"
    yield (
        f"- **One run on one machine**, {'a virtual one, ' if is_virtual else ''}"
        f"{facts['CPUs']} CPUs ({facts['CPU']}), Linux {facts['kernel']}, {facts['Python']}; begun "
        f"{results.began}, {results.took_s / 60:.0f} minutes long. The rest is [at the end]"
        "(#the-machine)." + (" What its host did meanwhile is seen only as noise." * is_virtual)
    )


def _noise(results: Results) -> Iterator[str]:
    yield NOISE.format(
        busy=noise.MOST_BUSY,
        look=noise.MOST_BUSY_LOOK,
        stolen=noise.MOST_STOLEN,
        stretch=noise.MOST_STRETCH - 1,
        drift=noise.MOST_DRIFT - 1,
    )
    rows = (
        [
            when,
            f"{seen['busy']:.1%}",
            f"{seen['busiest']:.1%}",
            f"{seen['stolen']:.2%}",
            f"{seen['stretch'] - 1:.1%}",
            f"{min(seen['work_ns']) / 1e3:.0f}-{max(seen['work_ns']) / 1e3:.0f}",
        ]
        for when, seen in results.noise.items()
    )
    head = [
        "",
        "others, of a CPU",
        "in the worst look",
        "stolen",
        "interruptions add",
        "the work, µs by CPU",
    ]
    yield from _table(head, rows)


def _rivals(results: Results) -> Iterator[str]:
    head = ["", "version", "does less than taskstats", "does more"]
    rows = (
        [tool(name).label, about["version"], about["less"], about["more"]]
        for name, about in results.rivals.items()
    )
    yield from _table(head, rows)


def _targets(measurements: Sequence[Measurement]) -> Iterator[str]:
    found = sorted(targets(measurements), key=lambda one: one.is_met)
    missed = sum(not one.is_met for one in found)
    met = len(found) - missed
    count = f"{len(found)} target" + "s" * (len(found) != 1)
    yield f"{count}, {met} met, {missed} missed; the missed ones first.\n"
    rows = (
        [_link(one.topic), one.what, one.against, one.seen, one.wanted, _bold_if_missed(one)]
        for one in found
    )
    yield from _table(["", "", "ours to", "ratio or figure", "target", ""], rows)


def _bold_if_missed(one: Target) -> str:
    return one.verdict if one.is_met else f"**{one.verdict}**"


def _losses(measurements: Sequence[Measurement]) -> Iterator[str]:
    yield (
        "Every comparison with a rival, a floor, or ours in another way in which the median of the "
        "ratios is above 1, and\nevery table in which another lost less of all exits. Of what was "
        "measured at several points the worst is shown.\nTargets that are missed stand [above]"
        "(#targets).\n"
    )
    rows = [
        [
            _link(one.topic),
            one.what,
            tool(one.side).label,
            _JUDGES[tool(one.side).kind],
            one.seen,
            f"{one.worse} of {one.points}",
        ]
        for one in losses(measurements)
    ]
    if rows:
        head = ["", "", "better than ours", "which is", "ratio, or losses", "at points"]
        yield from _table(head, rows)
    else:
        yield "Nowhere."


def _heading(topic: str) -> str:
    return TOPICS[topic][0] if topic in TOPICS else topic.capitalize()


def _link(topic: str) -> str:
    heading = _heading(topic)
    return f"[{heading}](#{heading.lower().replace(' ', '-')})"


# ---- the figures -----------------------------------------------------------------------------


def _topic(topic: str, measurements: Sequence[Measurement]) -> Iterator[str]:
    yield f"\n## {_heading(topic)}\n"
    if topic in TOPICS:
        yield f"{TOPICS[topic][1]}\n"
    for plot in plots.of(topic):
        yield f"![{plot.title}](benchmarks/{plot.name}.svg)\n"
    for comparisons in _alike(one for one in measurements if isinstance(one, Comparison)):
        yield from _comparisons(comparisons)
    values = [one for one in measurements if isinstance(one, Value)]
    if values:
        yield from _values(values)
    for one in measurements:
        if isinstance(one, Rows):
            yield from _rows(one)


def _alike(comparisons: Iterable[Comparison]) -> list[list[Comparison]]:
    """Those of one table: the same sides, unit, and names of what was varied."""
    tables: dict[object, list[Comparison]] = {}
    for one in comparisons:
        tables.setdefault((tuple(one.sides), one.unit, tuple(one.at)), []).append(one)
    return list(tables.values())


def _comparisons(alike: Sequence[Comparison]) -> Iterator[str]:
    first = alike[0]
    medians = [statistics.median(values) for one in alike for values in one.sides.values()]
    divisor, unit = scale(first.unit, medians)
    others = [side for side in first.sides if side != OURS]
    labels = [tool(side).label for side in (OURS, *others)]
    head = [unit, *(name.replace("_", " ") for name in first.at), *labels]
    rows = []
    order = list(dict.fromkeys(one.what for one in alike))
    named = ""
    for one in sorted(alike, key=lambda one: order.index(one.what)):
        cells = {
            side: with_spread([value / divisor for value in values])
            for side, values in one.sides.items()
        }
        rows.append(
            [
                one.what if one.what != named else "",
                *(cell(name, at) for name, at in one.at.items()),
                cells[OURS],
                *(
                    f"{cells[side]}<br>**{with_spread(one.ratios(side), ratio)}**"
                    for side in others
                ),
            ]
        )
        named = one.what
    yield from _table(head, rows)
    yield ""


def _values(values: Sequence[Value]) -> Iterator[str]:
    rows = []
    for one in values:
        divisor, unit = scale(one.unit, [statistics.median(one.values)])
        figure = with_spread([value / divisor for value in one.values])
        rows.append([title(one), f"{figure} {unit}".strip()])
    yield from _table(["without another side", "figure"], rows)
    yield ""


def _rows(one: Rows) -> Iterator[str]:
    names = list(dict.fromkeys(name for row in one.rows for name in row))
    yield f"{one.what[:1].upper()}{one.what[1:]}:\n"
    yield from _table(
        names, ([cell(name, row.get(name, "")) for name in names] for row in one.rows)
    )
    yield ""


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    for row in (head, ["---"] * len(head), *rows):
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |"
