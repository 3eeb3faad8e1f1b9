"""Facts about this machine and process, from /proc and /sys."""

import errno
import os
import re
import resource
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

#: Inodes of the initial namespaces that are fixed by the kernel (include/uapi/linux/nsfs.h); that
#: of the network namespace since 6.18, and below all that are given out otherwise.
INITIAL_NET_INODE = 0xEFFFFFF9
_INITIAL_INODES = {"user": 0xEFFFFFFD, "pid": 0xEFFFFFFC}

_CAP_NET_ADMIN = 12


# ---- the machine -----------------------------------------------------------------------------


def possible_cpus() -> str:
    """The CPUs that can ever come online, as the kernel's list ("0-7")."""
    return Path("/sys/devices/system/cpu/possible").read_text(encoding="ascii").strip()


def memory_bytes() -> int:
    """The machine's memory."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def kernel_release() -> str:
    """The running kernel's release ("6.18.44")."""
    return os.uname().release


def boot_id() -> str:
    """What tells this boot from every other."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def pid_max() -> int:
    """One more than the largest pid there can be."""
    return int(Path("/proc/sys/kernel/pid_max").read_text(encoding="ascii"))


def task_delayacct() -> bool | None:
    """kernel.task_delayacct: whether tasks made now have their delays measured.

    None where there is no such switch: before Linux 5.14, or without CONFIG_TASK_DELAY_ACCT.
    """
    try:
        return Path("/proc/sys/kernel/task_delayacct").read_text(encoding="ascii").strip() != "0"
    except FileNotFoundError:
        return None


def proc_view() -> Literal["whole", "partial", "foreign", "missing"]:
    """What /proc shows of this PID namespace.

    "whole": every process. "partial": it hides those of other users (hidepid). "foreign": it is of
    another PID namespace, where the same ids are other tasks. "missing": it is not mounted.
    """
    if not Path("/proc/stat").exists():
        return "missing"
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:  # this process is not in the PID namespace that it shows
        return "foreign"
    # An id for each PID namespace from that of the mount to our own; the line came with Linux 4.1.
    ids = re.findall(r"^(?:NSpid|Pid):(.*)$", status, re.MULTILINE)[-1].split()
    if ids != [str(os.getpid())]:
        return "foreign"
    return "whole" if Path("/proc/1").exists() else "partial"


def processes() -> list[int]:
    """The ids of the processes that /proc shows."""
    return sorted(int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal())


def threads(pid: int) -> int | None:
    """How many threads the process has; None if /proc does not show it."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    return int(stat[stat.rindex(b")") + 2 :].split()[17])


def tgid(pid: int) -> int | None:
    """The process that the thread is of; None if /proc does not show it."""
    try:
        status = Path(f"/proc/{pid}/status").read_bytes()
    except OSError:
        return None
    found = re.search(rb"^Tgid:\s*(\d+)$", status, re.MULTILINE)
    return int(found[1]) if found else None


def cgroup_mounts() -> list[tuple[Literal[1, 2], str]]:
    """The cgroup hierarchies mounted here: version and path."""
    return list(_cgroup_mounts())


def _cgroup_mounts() -> Iterator[tuple[Literal[1, 2], str]]:
    for line in Path("/proc/self/mountinfo").read_bytes().split(b"\n"):
        mount, _, system = line.partition(b" - ")
        kind = system.partition(b" ")[0]
        if kind in (b"cgroup", b"cgroup2"):
            yield (2 if kind == b"cgroup2" else 1), os.fsdecode(mount.split(b" ")[4])


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


# ---- this process ----------------------------------------------------------------------------


def free_descriptors() -> int:
    """How many file descriptors this process may still open."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        numbers = [int(path.name) for path in Path("/proc/self/fd").iterdir()]
    except OSError as error:
        if error.errno == errno.EMFILE:
            return 0
        raise
    # The limit is of numbers; those above it, opened before it was lowered, take none of them.
    used = sum(number < soft for number in numbers)
    return soft - (used - 1)  # the one that reads the list is among them


def has_net_admin() -> bool:
    """Whether this thread has CAP_NET_ADMIN, in its own user namespace."""
    return bool(int(_status("CapEff"), 16) >> _CAP_NET_ADMIN & 1)


def may_gain_net_admin() -> bool:
    """Whether sudo can give this thread CAP_NET_ADMIN.

    Not if its bounding set lacks it, as in most containers, or with no_new_privs.
    """
    bounding = int(_status("CapBnd"), 16) >> _CAP_NET_ADMIN & 1
    return bool(bounding) and _status("NoNewPrivs") in ("", "0")


def _status(name: str) -> str:
    """A line's value in this thread's status; "" if this kernel does not have it."""
    status = Path("/proc/thread-self/status").read_text(encoding="utf-8", errors="replace")
    found = re.search(rf"^{name}:\s*(.*)$", status, re.MULTILINE)
    return found[1] if found else ""


def in_initial_namespace(kind: Literal["user", "pid"]) -> bool | None:
    """Whether this thread is in the initial namespace of that kind; None if it cannot be told."""
    try:
        return Path(f"/proc/thread-self/ns/{kind}").stat().st_ino == _INITIAL_INODES[kind]
    except FileNotFoundError:  # a kernel without such namespaces has but one
        return True if Path("/proc/thread-self").exists() else None


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
    if _since_6_18():
        return False
    if in_initial_namespace("pid") is not True:
        return None  # process 1 is not that of the machine
    try:
        return own == Path("/proc/1/ns/net").stat().st_ino
    except OSError:
        pass
    try:
        return Path("/proc/thread-self/net/dev").samefile("/proc/1/net/dev")
    except OSError:
        return None


def _since_6_18() -> bool:
    """Whether this kernel gives the initial network namespace its fixed inode."""
    numbers = re.findall(r"\d+", kernel_release())
    return (int(numbers[0]), int(numbers[1])) >= (6, 18)


def command() -> str:
    """The absolute path of the command `taskstats`: sudo does not see virtual environments."""
    candidates = [Path(sys.executable).absolute().with_name("taskstats")]
    if Path(sys.argv[0]).name == "taskstats":
        candidates.insert(0, Path(sys.argv[0]).absolute())
    for path in candidates:
        if path.is_file() and os.access(path, os.X_OK):
            return shlex.quote(str(path))
    return shlex.quote(shutil.which("taskstats") or "taskstats")
