"""A section each: what was measured and how. What was found the tables and plots say."""

#: Topic -> heading, text. The page has them in this order.
TOPICS = {
    "queries": (
        "Asking",
        "The figures of tasks that live, on the real kernel: by one question each, or by many in a "
        "call. What it costs\na task, and whether that grows with their number.",
    ),
    "drain": (
        "Draining",
        "A socket is emptied that a process has filled. What that costs a record, by how many "
        "wait.",
    ),
    "reading": (
        "Reading what was drained",
        "From a batch to Python's numbers, NumPy's array or Arrow's columns.",
    ),
    "decoding": (
        "Decoding",
        "One datagram, as a kernel sent it, to two of its figures as Python's numbers. Each tool "
        "has a process of its own.",
    ),
    "instructions": (
        "Instructions",
        "Counted by `valgrind --tool=callgrind`, so that they repeat exactly on any machine with "
        "the same compiler and libraries.",
    ),
    "storm": (
        "Storms",
        "Threads exit on one CPU of the real kernel; who listens has another. What hearing costs "
        "the one who hears,\nand those who exit.",
    ),
    "latency": (
        "Latency",
        "From a task's exit to Python, by how long a listener may wait for more.",
    ),
    "overload": (
        "Overload",
        "More exits than there is room for: how many were seen, how many lost, and whether the "
        "tool knew. The truth is the\ncount of who made the exits.",
    ),
    "filter": (
        "A filter in the kernel",
        "What a listener costs an exit if it keeps few of them, against one that takes all.",
    ),
    "listeners": (
        "Several listeners",
        "The kernel makes a copy for each. What that costs them, and those who exit.",
    ),
    "scale": (
        "Many CPUs",
        "A socket each. This machine has not so many CPUs: the sockets are filled by a process.",
    ),
    "footprint": (
        "Footprint",
        "Time to import, memory, and CPU time while nothing exits.",
    ),
    "emulator": (
        "The emulated kernel",
        "For tests: how fast its storms are, against C that sends the same datagrams.",
    ),
}
