"""floors/eager.c, which hears: a recv a record, in a program of its own."""

from instructions import compiler

LESS = (
    "Queries: none. Exits: one socket for all CPUs, one record at a time, of which it reads three "
    "ids at fixed offsets, and the name where latency is measured; nothing else is decoded. "
    "Believes any sender, checks no length or version. Of a loss it is told ENOBUFS, not how many; "
    "until its queue is empty the kernel drops what comes."
)
MORE = "Nothing to install but a compiler."


def version() -> str:
    return compiler()
