"""Those that are measured: one file each, with the same names in it.

    version()   what is measured, as text
    LESS, MORE  what it does less than this package, and more
    Queries     asks: `one(pid)`, `many(pids)`, `close()`
    Exits       hears, where it can: see hearing.py

Each runs in a fresh process: asking.py is the driver for queries, hearing.py that for exits.
"""
