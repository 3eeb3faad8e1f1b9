"""strace: stops every process at every system call."""

import subprocess

LESS = (
    "Commands: no cost of a process by itself, a sum over all of them of the calls that they made "
    "and of the time in those. Nothing of CPU time outside of calls, of memory, of delays."
)
MORE = "Needs no rights for one's own processes. Which calls they make, and which of these fail."

#: What stands before a command.
COMMAND = ("strace", "-f", "-c", "-o", "/dev/null")


def version() -> str:
    told = subprocess.check_output(["strace", "--version"], text=True)
    return told.partition("\n")[0].replace(" -- version", "")
