"""time(1): what the kernel tells when the command is waited for."""

import subprocess

LESS = (
    "Commands: the sum over the command and those processes below it that were waited for, of none "
    "by itself; of memory the largest. Nothing of delays, or of processes that nobody waited for."
)
MORE = "Needs no rights."

#: What stands before a command. By its path: to a shell the word is its own.
COMMAND = ("/usr/bin/time", "-o", "/dev/null")


def version() -> str:
    command = [COMMAND[0], "--version"]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    return (told.stdout or told.stderr).partition("\n")[0]
