"""The tools that are measured: what each side is called, what it is, and its colour."""

from dataclasses import dataclass, replace

#: What a side is. A baseline is no tool: nobody who listens, or ours in another way.
OURS, RIVAL, FLOOR, BASELINE = "ours", "rival", "floor", "baseline"

#: For floors, and for what is no tool's.
GREY = "#767676"


@dataclass(frozen=True)
class Tool:
    """A side: its name for people, its kind, its colour in every plot."""

    label: str
    kind: str
    colour: str


#: Colours of Okabe and Ito, which colour-blind people tell apart.
TOOLS = {
    "ours": Tool("taskstats", OURS, "#0072B2"),
    "pyroute2": Tool("pyroute2", RIVAL, "#D55E00"),
    "sockets": Tool("socket + struct", RIVAL, "#CC79A7"),
    "psutil": Tool("psutil", RIVAL, "#009E73"),
    "eager": Tool("eager C loop", RIVAL, "#E69F00"),
    "coalesced": Tool("coalesced C loop", FLOOR, GREY),
    "floor": Tool("C floor", FLOOR, GREY),
}


def tool(side: str) -> Tool:
    """That of a side, which may be a way of using one: "pyroute2, in batches".

    One that is not in the table is a baseline under its own name.
    """
    name, comma, way = side.partition(", ")
    if name not in TOOLS:
        return Tool(side, BASELINE, "#000000")
    known = TOOLS[name]
    return replace(known, label=known.label + comma + way)
