"""`--format` as GNU time has it (time(1)): a line with the figures that it names."""

import os
import resource
from collections.abc import Callable, Mapping, Sequence

from taskstats.cli.costs import Costs

#: A piece of the line: text as it stands, or what makes it.
Piece = str | Callable[[Costs], str]


def _seconds(ns: int) -> str:
    """Hundredths, rounded down as there."""
    return f"{ns // 10**9}.{ns // 10**7 % 100:02}"


def _clock(costs: Costs) -> str:
    ns = costs.ended.wall_ns
    minutes, seconds = divmod(ns // 10**9, 60)
    hours, of_hour = divmod(minutes, 60)
    if hours:
        return f"{hours}:{of_hour:02}:{seconds:02}"
    return f"{minutes}:{seconds:02}.{ns // 10**7 % 100:02}"


def _percent(costs: Costs) -> str:
    used, wall = (ns // 10**6 for ns in (costs.wait4_ns, costs.ended.wall_ns))
    return f"{used * 100 // wall}%" if wall else "?%"


def _peak(costs: Costs) -> str:
    peaks = costs.usage.total.peak_rss_bytes, costs.ended.usage.max_rss_bytes
    largest = max(peak or 0 for peak in peaks)
    return str(largest // 1024) if largest else "?"


def _status(costs: Costs) -> str:
    """As a shell has it; there, a signal is 0."""
    status = costs.ended.status
    return str(128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status))


#: What can be named: letter -> what makes it.
_FIGURES: Mapping[str, Callable[[Costs], str]] = {
    "%": lambda _: "%",
    "C": lambda costs: " ".join(costs.words),
    "E": _clock,
    "F": lambda costs: str(costs.ended.usage.major_faults),
    "I": lambda costs: str(costs.ended.usage.block_inputs),
    "M": _peak,
    "O": lambda costs: str(costs.ended.usage.block_outputs),
    "P": _percent,
    "R": lambda costs: str(costs.ended.usage.minor_faults),
    "S": lambda costs: _seconds(costs.ended.system_ns),
    "U": lambda costs: _seconds(costs.ended.user_ns),
    "Z": lambda _: str(resource.getpagesize()),
    "c": lambda costs: str(costs.ended.usage.involuntary_switches),
    "e": lambda costs: _seconds(costs.ended.wall_ns),
    "w": lambda costs: str(costs.ended.usage.voluntary_switches),
    "x": _status,
}

#: What GNU time prints as 0, since Linux counts it nowhere (getrusage(2)).
_UNCOUNTED = "DKWXkprst"

_ESCAPES = {"t": "\t", "n": "\n", "\\": "\\"}


def parse(text: str) -> Sequence[Piece]:
    """The pieces of a format.

    Raises:
        ValueError: It names what there is not.
    """
    pieces: list[Piece] = []
    characters = iter(text)
    for character in characters:
        if character not in "%\\":
            pieces.append(character)
            continue
        letter = next(characters, "")
        if character == "\\":
            pieces.append(_ESCAPES.get(letter, character + letter))
        elif letter in _FIGURES:
            pieces.append(_FIGURES[letter])
        else:
            raise ValueError(_refusal(letter))
    return pieces


def _refusal(letter: str) -> str:
    if letter and letter in _UNCOUNTED:
        return f"%{letter} is counted nowhere in Linux; GNU time prints 0"
    return f"no figure %{letter}; there are {' '.join('%' + one for one in _FIGURES)}"


def line(pieces: Sequence[Piece], costs: Costs) -> str:
    """The line."""
    return "".join(piece if isinstance(piece, str) else piece(costs) for piece in pieces)
