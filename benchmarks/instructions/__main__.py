"""Whether a record still takes the instructions that the table says; --renew makes it anew.

    python -m instructions [--renew]

A count that is lower by more than the margin fails too: the table would let the next change take
all of it back. With another compiler than the table's nothing can be said, which is a failure.
"""

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from instructions import FLAGS, Counts, compiler, count

TABLE = Path(__file__).with_name("expected.json")
MARGIN = 0.01


def counted() -> Counts:
    """What two runs agree on."""
    with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
        first, second = count(Path(one)), count(Path(other))
    if first != second:
        sys.exit("two runs counted differently: these counts can tell nothing")
    return first


def differences(now: Counts, expected: Counts) -> Iterator[str]:
    """A line for each that has changed by more than the margin, or is on one side alone."""
    for what in {**expected, **now}:
        before, after = expected.get(what, {}), now.get(what, {})
        for way in {**before, **after}:
            was, is_now = before.get(way), after.get(way)
            if was is None or is_now is None:
                yield f"{way}, {what}: {is_now or 'no longer counted'}, expected {was or 'nothing'}"
            elif abs(is_now - was) > MARGIN * was:
                yield f"{way}, {what}: {is_now}, expected {was} ({is_now / was - 1:+.1%})"


def renew() -> None:
    made = {"compiler": compiler(), "flags": FLAGS, "instructions": counted()}
    TABLE.write_text(json.dumps(made, indent=2) + "\n")
    print(f"{TABLE} has been made anew")


def check() -> None:
    expected = json.loads(TABLE.read_text())
    here = {"compiler": compiler(), "flags": list(FLAGS)}
    for name, value in here.items():
        if value != expected[name]:
            sys.exit(
                f"not compared: {name} {value}, and the table is of {expected[name]}. To compare "
                "two commits with this compiler, `make instructions-renew` in the one first."
            )
    now = counted()
    changed = list(differences(now, expected["instructions"]))
    if changed:
        print("Instructions a record:", *changed, sep="\n  ", file=sys.stderr)
        sys.exit("If that is as it should be, `make instructions-renew`, and commit the table.")
    ways = sum(map(len, now.values()))
    print(f"instructions a record: {ways} counts, each within {MARGIN:.0%} of the table's")


if sys.argv[1:] == ["--renew"]:
    renew()
else:
    check()
