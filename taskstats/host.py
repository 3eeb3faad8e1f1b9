"""Facts about this machine, from /proc and /sys: CPUs, memory, namespaces, its count of exits."""

import os
import resource
from pathlib import Path

#: Inodes of the initial namespaces that are fixed by the kernel (include/uapi/linux/nsfs.h); that
#: of the network namespace since 6.18, and below all that are given out otherwise.
INITIAL_NET_INODE = 0xEFFFFFF9


def possible_cpus() -> str:
    """The CPUs that can ever come online, as the kernel's list ("0-7")."""
    return Path("/sys/devices/system/cpu/possible").read_text(encoding="ascii").strip()


def memory_bytes() -> int:
    """The machine's memory."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def free_descriptors() -> int:
    """How many file descriptors this process may still open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft - sum(1 for _ in Path("/proc/self/fd").iterdir())


def in_initial_network_namespace() -> bool | None:
    """Whether this thread is where exits are heard; None if it cannot be told.

    Compares with process 1, which in the initial PID namespace (elsewhere the kernel refuses
    listeners anyhow) is in the initial one. Its namespace link needs rights; the inode of its
    /proc/PID/net is as good and needs none, but may be hidden (hidepid).
    """
    try:
        own = Path("/proc/thread-self/ns/net").stat().st_ino
    except FileNotFoundError:  # a kernel without network namespaces has but one
        return True if Path("/proc/thread-self").exists() else None
    if own == INITIAL_NET_INODE:
        return True
    try:
        return own == Path("/proc/1/ns/net").stat().st_ino
    except OSError:
        pass
    try:
        return Path("/proc/thread-self/net/dev").samefile("/proc/1/net/dev")
    except OSError:
        return None


def exits_by_the_books() -> int:
    """Tasks that have ended and been reaped since boot, up to a constant.

    Those ever made (`processes` in /proc/stat) less those there are (after the slash in
    /proc/loadavg); threads count. Only differences mean something.
    """
    made = 0
    for line in Path("/proc/stat").read_text(encoding="ascii").splitlines():
        if line.startswith("processes "):
            made = int(line.split()[1])
    there_are = Path("/proc/loadavg").read_text(encoding="ascii").split()[3].partition("/")[2]
    return made - int(there_are)
