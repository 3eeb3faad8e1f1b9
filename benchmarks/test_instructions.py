"""Decoding by itself: instructions a record, which repeat exactly. `make instructions` checks them.

The other side copies the structs to their rows and does nothing else, by the same loop as the
decoder. A record that was received straight into its row can take less than that, since the kernel
has copied it; but a last thread's does not: its group is copied here.
"""

import pytest
from figures import Figures
from instructions import FLAGS, Counts, compiler, count

WAYS = {"whole": "decode a datagram", "cut": "decode what stands in its row already"}
OTHERS = {
    "account": "follow the numbers",
    "settle": "join a record with its end",
    "read": "keep an end",
    "feed": "give a record to the jobs",
    "assign": "assign a record to a job without births",
}
UNIT = "instructions"


def test_instructions(figures: Figures, tmp_path_factory: pytest.TempPathFactory) -> None:
    def counts() -> Counts:
        return count(tmp_path_factory.mktemp("counts"))

    first, *others = figures.turns({"counts": counts}, rounds=2, warm_up=0)["counts"]
    assert all(other == first for other in others)
    for way, name in WAYS.items():
        for what, taken in first.items():
            if way in taken:
                sides = {"ours": [taken[way]], "floor, copying alone": [taken["copy"]]}
                figures.compare(name, sides, UNIT, at={"record": what})
    for what, taken in first.items():
        for way, name in OTHERS.items():
            if way in taken:
                figures.value(name, [taken[way]], UNIT, at={"record": what})
    figures.rows("counted with", [{"compiler": compiler(), "flags": " ".join(FLAGS)}])
