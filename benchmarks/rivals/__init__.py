"""Those that are measured: one file each, with the same names in it, as far as they apply.

    version()   what is measured, as text
    LESS, MORE  what it does less than this package, and more
    Queries     asks: `one(pid)`, `close()`, and `many(pids)` if it has a way of its own for that
    AsyncQueries
                asks, where it can, in an event loop: `open()` and `one(pid)` are awaited
    figures     reads of an answer the figures that sockets.py reads, into a dict; the rest is not
                read, by those who read nothing before they are asked to
    decode      makes a pid and an elapsed time of a datagram, where it can
    Exits       hears, where it can: see hearing.py
    COMMAND     what stands before a command whose costs it tells, if it is a program

Each runs in a fresh process. Drivers: asking.py for queries, decoding.py for a datagram, hearing.py
for exits.
"""
