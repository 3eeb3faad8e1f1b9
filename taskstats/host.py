"""Facts about this machine and process, from /proc and /sys."""

import contextlib
import errno
import os
import re
import resource
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal

#: Inodes of the initial namespaces that are fixed by the kernel (include/uapi/linux/nsfs.h); that
#: of the network namespace since 6.18, and below all that are given out otherwise.
INITIAL_NET_INODE = 0xEFFFFFF9
_INITIAL_INODES = {"user": 0xEFFFFFFD, "pid": 0xEFFFFFFC, "cgroup": 0xEFFFFFFB}

#: Capabilities by number (include/uapi/linux/capability.h).
_CAPABILITIES = {
    "net_admin": 12,
    "sys_ptrace": 19,
    "sys_admin": 21,
    "sys_resource": 24,
    "perfmon": 38,
    "bpf": 39,
}

#: The switch: whether tasks made from then on have their delays measured.
TASK_DELAYACCT = Path("/proc/sys/kernel/task_delayacct")


# ---- the machine -----------------------------------------------------------------------------


def btf_bytes() -> int | None:
    """The size of the kernel's description of its types (BTF); None if it has none."""
    try:
        return Path("/sys/kernel/btf/vmlinux").stat().st_size
    except OSError:
        return None


def lockdown() -> str | None:
    """The lockdown in force ("none", "integrity", "confidentiality"); None if it is not known."""
    try:
        text = Path("/sys/kernel/security/lockdown").read_text(encoding="ascii")
    except OSError:
        return None
    found = re.search(r"\[(\w+)\]", text)
    return found[1] if found else None


def possible_cpus() -> str:
    """The CPUs that can ever come online, as the kernel's list ("0-7")."""
    return Path("/sys/devices/system/cpu/possible").read_text(encoding="ascii").strip()


def sys_is_there() -> bool:
    """Whether /sys is mounted, which tells the possible CPUs."""
    return Path("/sys/devices/system/cpu/possible").exists()


def memory_bytes() -> int:
    """The machine's memory."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def kernel_release() -> str:
    """The running kernel's release ("6.18.44")."""
    return os.uname().release


def kernel_version() -> tuple[int, int]:
    """The first two numbers of the running kernel's release."""
    numbers = re.findall(r"\d+", kernel_release())
    return int(numbers[0]), int(numbers[1])


def boot_id() -> str | None:
    """What tells this boot from every other; None if /proc does not."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return None


def pid_max() -> int:
    """One more than the largest pid there can be."""
    return int(Path("/proc/sys/kernel/pid_max").read_text(encoding="ascii"))


def task_delayacct() -> bool | None:
    """kernel.task_delayacct: whether tasks made now have their delays measured.

    None where there is no such switch: before Linux 5.14, or without CONFIG_TASK_DELAY_ACCT.
    """
    try:
        return TASK_DELAYACCT.read_text(encoding="ascii").strip() != "0"
    except FileNotFoundError:
        return None


def proc_is_there() -> bool:
    """Whether /proc is mounted, whole, and knows this process."""
    return Path("/proc/self").exists() and Path("/proc/stat").exists()


View = Literal["whole", "partial", "foreign", "missing"]

#: What /proc can be to this process.
VIEWS: Mapping[View, str] = MappingProxyType(
    {
        "whole": "/proc shows every process of this PID namespace",
        "partial": "/proc hides processes (hidepid)",
        "foreign": "/proc is of another PID namespace",
        "missing": "/proc is not mounted, or not whole",
    }
)


def proc_view() -> View:
    """What /proc shows of this PID namespace.

    "whole": every process. "partial": not those of some other users. "foreign": it is of another
    PID namespace, where the same ids are other tasks. "missing": it is not mounted, with processes
    alone (subset=pid), or of a PID namespace that this process is not in.
    """
    if not proc_is_there():
        return "missing"
    # An id for each PID namespace from that of the mount to our own; the line came with Linux 4.1.
    ids = _status("NSpid", "self") or _status("Pid", "self")
    if ids != str(os.getpid()):
        return "foreign"
    return "partial" if _hides_processes() else "whole"


def proc_is_ours() -> bool:
    """Whether an id in /proc is the same task as in the kernel's answers."""
    return proc_view() in ("whole", "partial")


def _hides_processes() -> bool:
    """Whether /proc hides processes from this one."""
    mounts = Path("/proc/self/mountinfo").read_bytes().splitlines()
    options = [m.partition(b" - ")[2] for m in mounts if m.split(b" ")[4] == b"/proc"]
    hidden = re.search(rb"\bhidepid=(2|4|invisible|ptraceable)\b", options[-1] if options else b"")
    if not hidden or has("sys_ptrace"):
        return False
    if hidden[1] in (b"4", b"ptraceable"):
        return True
    exempt = re.search(rb"\bgid=(\d+)", options[-1])
    return int(exempt[1] if exempt else 0) not in (os.getegid(), *os.getgroups())


def processes() -> list[int]:
    """The ids of the processes that /proc shows."""
    return sorted(int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal())


def tasks() -> list[int]:
    """The ids of the tasks (threads) that /proc shows."""
    found: list[int] = []
    for pid in processes():
        with contextlib.suppress(OSError):  # it has ended meanwhile
            found += (int(path.name) for path in Path(f"/proc/{pid}/task").iterdir())
    return found


def threads(pid: int) -> int | None:
    """How many threads the process has; None if /proc does not show it."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    return int(stat[stat.rindex(b")") + 2 :].split()[17])


def tgid(pid: int) -> int | None:
    """The process that the thread is of; None if /proc does not show it."""
    found = _status("Tgid", pid)
    return int(found) if found else None


def cgroup_mounts() -> list[tuple[Literal[1, 2], str]]:
    """The cgroup hierarchies mounted here: version and path."""
    return [(version, mount) for version, mount, _, _ in _cgroup_mounts()]


def _cgroup_mounts() -> Iterator[tuple[Literal[1, 2], str, set[str], str]]:
    """Version, where it is mounted, its options (controllers), and what of it is mounted there."""
    for line in Path("/proc/self/mountinfo").read_bytes().split(b"\n"):
        mount, _, system = map(os.fsdecode, line.partition(b" - "))
        kind, _, options = system.partition(" ")
        if kind in ("cgroup", "cgroup2"):
            root, point = mount.split(" ")[3:5]
            yield (
                (2 if kind == "cgroup2" else 1),
                point,
                set(options.split(" ")[-1].split(",")),
                root,
            )


def own_cgroups() -> Iterator[tuple[Literal[1, 2], set[str], Path]]:
    """This process's cgroups, as far as they are mounted here: version, controllers, directory."""
    lines = Path("/proc/self/cgroup").read_bytes().splitlines()
    within = [os.fsdecode(line).split(":", 2)[1:] for line in lines]
    for version, mount, options, root in _cgroup_mounts():
        for names, path in within:  # of version 2 there are no names
            controllers = set(filter(None, names.split(",")))
            if (version == 2) is bool(controllers) or not controllers <= options:
                continue
            below = os.path.relpath(path, root)
            if not below.startswith(".."):
                yield version, controllers, Path(mount, below)


def exits_by_the_books() -> int:
    """Tasks that have ended and been reaped since boot, up to a constant.

    Those ever made (`processes` in /proc/stat) less those there are (after the slash in
    /proc/loadavg); threads count. Only differences mean something.
    """
    least: int | None = None
    exits = 0
    for _ in range(_LOOKS):
        made = _forks()
        there_are = Path("/proc/loadavg").read_text(encoding="ascii").split()[3].partition("/")[2]
        between = _forks() - made
        if least is None or between < least:
            least, exits = between, made - int(there_are)
        if between <= _FEW_FORKS:
            break
    return exits


_LOOKS = 8  # a reader that is preempted between the two files reads figures that do not match
_FEW_FORKS = 2


def _forks() -> int:
    """Tasks made since boot."""
    for line in Path("/proc/stat").read_text(encoding="ascii").splitlines():
        if line.startswith("processes "):
            return int(line.split()[1])
    return 0


def leaving_tasks() -> int | None:
    """Tasks that have begun to exit, or have ended and are not reaped; at least those.

    All threads of a process count whose leader is such a task. None if /proc does not show every
    process.
    """
    if proc_view() != "whole":
        return None
    found = 0
    for pid in processes():
        with contextlib.suppress(OSError):  # it has ended meanwhile
            words = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
            if words[0] in (b"Z", b"X") or int(words[6]) & _PF_EXITING:
                found += max(1, int(words[17]))
    return found


_PF_EXITING = 0x4  # include/linux/sched.h


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


def has(capability: str) -> bool:
    """Whether this thread has the capability, in its own user namespace, as far as /proc tells."""
    return bool(int(_status("CapEff") or "0", 16) >> _CAPABILITIES[capability] & 1)


def may_probe() -> bool:
    """Whether this thread may load BPF programs that read the kernel's memory.

    CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN (kernel/bpf/syscall.c:bpf_prog_load).
    """
    return has("sys_admin") or (has("bpf") and has("perfmon"))


def may_gain(*capabilities: str) -> bool:
    """Whether sudo can give a child these: not beyond the bounding set, as in most containers."""
    bounding = int(_status("CapBnd") or "-1", 16)
    return all(bounding >> _CAPABILITIES[one] & 1 for one in capabilities)


def has_seccomp_filter() -> bool:
    """Whether a seccomp filter decides which system calls this thread may make."""
    return _status("Seccomp") == "2"


def no_new_privs() -> bool:
    """Whether sudo cannot give a child anything."""
    return _status("NoNewPrivs") == "1"


def _status(name: str, task: int | str = "thread-self") -> str:
    """A line's value in a task's status; "" if this kernel, or /proc, does not have or show it."""
    try:
        status = Path(f"/proc/{task}/status").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return ""
    found = re.search(rf"^{name}:\s*(.*)$", status, re.MULTILINE)
    return found[1] if found else ""


def in_initial_namespace(kind: Literal["user", "pid", "cgroup"]) -> bool | None:
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
    return kernel_version() >= (6, 18)
