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
        "Counted by `valgrind --tool=callgrind`: with the same compiler they repeat exactly. There "
        "are two ways to decode.\nA datagram in a buffer is copied to its row, so that this takes "
        "more than copying alone. One that was received\nstraight into its row is checked there, "
        "and the kernel's copy is the one copy; but the group that comes with a\nlast thread's "
        "exit is copied in both ways.",
    ),
    "storm": (
        "Storms",
        "Threads exit on one CPU of the real kernel; who listens has another. What hearing costs "
        "the one who hears,\nand those who exit.",
    ),
    "probe": (
        "Complete records",
        "A listener with a probe beside the same listener without one: what a record costs it, "
        "what the exits of the storm\ncost, and what a switch costs tasks that hand a byte round "
        "through pipes on one CPU. The probe runs at each switch of\nthe machine and at each "
        "fork, and the listener waits for the end of each task.",
    ),
    "latency": (
        "Latency",
        "From a task's exit until its record is in the reader's hands, by how long a listener may "
        "wait for more.",
    ),
    "overload": (
        "Overload",
        "Storms on every CPU, at a steady rate or as many exits as can be, and beside a listener "
        "that is stopped for a while:\nhow many were seen, how many lost, and whether the tool "
        "knew. The truth is the count of who made the exits.",
    ),
    "buffer": (
        "A buffer",
        "A listener that drains in a thread of its own into a buffer, against one whose reader "
        "drains: what a record costs,\nand how many exits are lost while the reader sleeps, in a "
        "storm of as many exits as can be and with queues of 8 MiB.",
    ),
    "filter": (
        "A filter in the kernel",
        "What a listener costs an exit if it keeps few of them, against one that takes all.",
    ),
    "listeners": (
        "Several listeners",
        "The kernel sends each a clone of the record (`send_cpu_listeners` in kernel/taskstats.c). "
        "What that costs them, and\nthose who exit.",
    ),
    "jobs": (
        "Jobs",
        "A storm beside a listener that attributes each exit to a job (`JobTracker`), and beside "
        "one that reads the same batches\nand does not. Its processes or threads are the job's, or "
        "no job's. A round counts only if nothing was lost and the job's\ntotals are those of the "
        "storm. Judged is the CPU time of `JobTracker.feed` alone, which a dearer wakeup of the "
        "other side cannot flatter.",
    ),
    "command": (
        "A command",
        "A shell that runs so many programs, one after the other, each of which ends at once: bare "
        "(nobody), and run by tools\nthat tell what it cost. CPU time is of all processes, the "
        "tool's too. With one child it is what a tool costs by itself.",
    ),
    "scale": (
        "Many CPUs",
        "A listener has a socket a CPU. Here a process fills as many as are wanted, whatever CPUs "
        "there are.",
    ),
    "footprint": (
        "Footprint",
        "Time to import, memory, and CPU time while hardly anything exits.",
    ),
    "emulator": (
        "The emulated kernel",
        "For tests: how fast its storms are, against C that sends as many captured records.",
    ),
}
