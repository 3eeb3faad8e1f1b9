"""The sides that are measured: what each is called, what it is, and its colour."""

from dataclasses import dataclass

#: What a side is. A baseline is no tool: there is nobody, or nothing, to be better than ours.
OURS, RIVAL, FLOOR, BASELINE = "ours", "rival", "floor", "baseline"

#: Colours of Okabe and Ito, which colour-blind people tell apart; a way of using a tool has the
#: tool's.
BLUE, VERMILION, PURPLE, GREEN, ORANGE = "#0072B2", "#D55E00", "#CC79A7", "#009E73", "#E69F00"
#: For floors, and for what is no tool's.
GREY = "#767676"
BLACK = "#000000"


@dataclass(frozen=True)
class Tool:
    """A side: its name for people, its kind, its colour in every plot."""

    label: str
    kind: str
    colour: str


#: By the name that results have; "NAME, way" is a way of using NAME.
TOOLS = {
    "ours": Tool("taskstats", OURS, BLUE),
    "ours, one in a call": Tool("taskstats, one in a call", OURS, BLUE),
    "ours, record by record": Tool("taskstats, record by record", OURS, BLUE),
    "ours, without a filter": Tool("taskstats, without a filter", OURS, BLUE),
    "ours, of one socket": Tool("taskstats, of one socket", OURS, BLUE),
    "ours, a single listener": Tool("taskstats, a single listener", OURS, BLUE),
    "ours, without a probe": Tool("taskstats, without a probe", OURS, BLUE),
    "ours, without a buffer": Tool("taskstats, without a buffer", OURS, BLUE),
    "pyroute2": Tool("pyroute2", RIVAL, VERMILION),
    "pyroute2, asyncio": Tool("pyroute2, asyncio", RIVAL, VERMILION),
    "pyroute2, in batches": Tool("pyroute2, in batches", RIVAL, VERMILION),
    "sockets": Tool("socket + struct", RIVAL, PURPLE),
    "psutil": Tool("psutil", RIVAL, GREEN),
    "eager": Tool("eager C loop", RIVAL, ORANGE),
    "strace": Tool("strace -f -c", RIVAL, VERMILION),
    "perf": Tool("perf stat", RIVAL, PURPLE),
    "time": Tool("time(1)", RIVAL, GREEN),
    "coalesced": Tool("coalesced C loop", FLOOR, GREY),
    "floor": Tool("C floor", FLOOR, GREY),
    "floor, sendto in C": Tool("sendto in C", FLOOR, GREY),
    "floor, transposing": Tool("transposing", FLOOR, GREY),
    "floor, a list of tuples": Tool("a list of tuples", FLOOR, GREY),
    "floor, copying alone": Tool("copying alone", FLOOR, GREY),
    "nobody": Tool("nobody", BASELINE, BLACK),
    "reading alone": Tool("reading alone", BASELINE, BLACK),
    "an empty interpreter": Tool("an empty interpreter", BASELINE, BLACK),
}


def tool(side: str) -> Tool:
    """That of a side.

    Raises:
        ValueError: Nobody has said what it is.
    """
    if side not in TOOLS:
        raise ValueError(f"the side {side!r} is not in TOOLS of report/tools.py")
    return TOOLS[side]
