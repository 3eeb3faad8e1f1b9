"""A second listener, with room for everything: what it heard is the truth about another's stream.

The kernel hands a record to all listeners of a CPU under one lock, which registering and
deregistering take for themselves (kernel/taskstats.c:send_cpu_listeners, add_del_listener). So what
one listener is sent, from its registration on, is an unbroken piece of what the other is.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import takewhile
from typing import TypeAlias

from taskstats import Batch, ExitListener, Record

#: The kernel's number, and the pid: a task that migrates as it exits may have another CPU's number.
Key: TypeAlias = tuple[int, int]

#: As many records fit into the queue of a CPU, whether or not anybody reads it.
FITS = 50_000
_ROOM = 128 << 20  # a record takes up to 2,304 bytes there


def roomy(
    cpus: Iterable[int] | None = None, max_latency: float = 0.005, buffer: int | None = 0
) -> ExitListener:
    """A listener that loses nothing of up to FITS exits a CPU, however slow its reader is."""
    return ExitListener(
        cpus, max_latency=max_latency, rcvbuf=_ROOM, rcvbuf_total=1 << 40, buffer=buffer
    )


def waiting(listener: ExitListener) -> list[Batch]:
    """What it has to give without waiting."""
    return list(takewhile(len, listener.batches(timeout=0)))


def some(listener: ExitListener) -> Batch:
    """The next records: they come soon, or not at all."""
    batch = next(listener.batches(timeout=60))
    assert batch, "none comes"
    return batch


def key(record: Record) -> Key:
    return record.seq, record.ac_pid


def streams(batches: Iterable[Batch]) -> dict[int, list[Key]]:
    """CPU -> what came by its queue, in order."""
    found = defaultdict(list)
    for batch in batches:
        rows = batch.to_numpy()
        columns = (rows[name].tolist() for name in ("cpu", "seq", "ac_pid"))
        for cpu, seq, pid in zip(*columns, strict=True):
            found[cpu].append((seq, pid))
    return found


def between(truth: Sequence[Key], heard: Iterable[Key]) -> list[Key]:
    """The truth from the first to the last of those heard; each of them is in it, and once."""
    known = list(heard)
    found = set(known)
    at = [i for i, one in enumerate(truth) if one in found]
    assert len(known) == len(found) == len(at)
    return list(truth[at[0] : at[-1] + 1])


def losses(truth: Sequence[Key], heard: Iterable[Key]) -> dict[Key, int]:
    """How many of the truth are missing right before each of those heard."""
    found, missing = {}, 0
    known = set(heard)
    for one in between(truth, known):
        if one not in known:
            missing += 1
        elif missing:
            found[one], missing = missing, 0
    return found
