"""The exceptions, and the only place that turns an errno into one."""

import errno as codes
import os
from typing import Any

#: enum ts_reason of csrc/taskstats_shim.h: why a datagram was refused.
REASONS = (
    "accepted",
    "foreign",
    "truncated",
    "byte-order",
    "length",
    "unexpected",
    "attribute",
    "version",
    "room",
    "answer",
)

#: enum ts_step there: where an open failed.
STEPS = (
    *("socket", "buffer", "connect", "family", "clean", "register", "epoll", "request", "filter"),
    *("btf", "ring", "program", "attach", "thread"),
)

_REASON_TEXTS = {
    "truncated": "the datagram is longer than a receive slot",
    "byte-order": "the datagram was written by a machine of the other byte order",
    "length": "a message's length does not fit its datagram",
    "unexpected": "the datagram is not one of this service",
    "attribute": "an attribute's length or presence is wrong",
    "version": "the struct's version is below 4, the oldest with today's layout",
    "room": "the datagram holds more records than there is room for",
}


class TaskstatsError(Exception):
    """The root of all errors of this package.

    Attributes:
        operation: What was tried, for instance "query".
        errno: The error's number, or None where no system call is to blame.
        mend: What to do about it, or "".
    """

    def __init__(self, operation: str, what: str, mend: str = "", errno: int | None = None) -> None:
        super().__init__(errno, what)
        self.operation = operation
        self.what = what
        self.mend = mend
        self.errno = errno

    def __str__(self) -> str:
        code = f" [{codes.errorcode.get(self.errno, self.errno)}]" if self.errno else ""
        return f"{self.operation}: {self.what}{code}" + (f". {self.mend}" if self.mend else "")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.operation, self.what, self.mend, self.errno)


class AccessDenied(TaskstatsError, PermissionError):
    """A right is missing.

    CAP_NET_ADMIN in the initial user namespace (kernel: genl_family_rcv_msg), or for
    kernel.task_delayacct root's (proc_sys_permission, sysctl_delayacct).
    """


class NoSuchTask(TaskstatsError, ProcessLookupError):
    """No task has this id (kernel: fill_stats_for_pid, fill_stats_for_tgid)."""


class Unavailable(TaskstatsError):
    """It is not to be had here: the kernel was built without, or a namespace is in the way."""


class ProtocolError(TaskstatsError):
    """A datagram could not be decoded.

    Attributes:
        reason: Its name in REASONS.
    """

    def __init__(
        self,
        operation: str,
        what: str,
        mend: str = "",
        errno: int | None = codes.EBADMSG,
        reason: str = "",
    ) -> None:
        super().__init__(operation, what, mend, errno)
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.operation, self.what, self.mend, self.errno, self.reason)


class FieldUnavailable(TaskstatsError, AttributeError):
    """The record does not carry this field: the kernel did not send it, or never fills it here."""


class CostUnknown(TaskstatsError):
    """A command has run, and then its measurement failed: `__cause__` says why.

    Attributes:
        status: The wait status of the command, for `os.WIFEXITED` and the like.
    """

    def __init__(
        self, operation: str, what: str, mend: str = "", errno: int | None = None, status: int = 0
    ) -> None:
        super().__init__(operation, what, mend, errno)
        self.status = status

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.operation, self.what, self.mend, self.errno, self.status)


_GRANT = (
    "Run as root, or as another user with just that capability: sudo setpriv --reuid=USER "
    "--regid=GROUP --init-groups --inh-caps=+net_admin --ambient-caps=+net_admin COMMAND"
)
_NEEDED = "CAP_NET_ADMIN in the initial user namespace is needed"
_KEPT = (
    f"{_NEEDED}, by the process that opened the socket and, at each request, by the one that uses "
    "it"
)

_GRANT_PROBE = (
    "Run as root, or as another user with three capabilities: sudo setpriv --reuid=USER "
    "--regid=GROUP --init-groups --inh-caps=+net_admin,+bpf,+perfmon "
    "--ambient-caps=+net_admin,+bpf,+perfmon COMMAND"
)

_Entry = tuple[type[TaskstatsError], str, str]
_SANDBOX: _Entry = (
    Unavailable,
    "netlink sockets are refused here",
    "Allow AF_NETLINK in the service's or container's sandbox",
)

_REMOVED: _Entry = (TaskstatsError, "the cgroup has been removed", "")
_NO_CGROUP: _Entry = (
    TaskstatsError,
    "not the directory of a cgroup",
    "Pass a directory below a cgroup mount, for instance /sys/fs/cgroup/…",
)

_NO_RIGHT_TO_PROBE: _Entry = (
    AccessDenied,
    "CAP_BPF and CAP_PERFMON in the initial user namespace are needed, or CAP_SYS_ADMIN",
    _GRANT_PROBE,
)
_NO_BPF: _Entry = (
    Unavailable,
    "this kernel has no bpf(2)",
    "Use a kernel built with CONFIG_BPF_SYSCALL=y and CONFIG_BPF_EVENTS=y",
)
_REFUSED_PROGRAM: _Entry = (
    Unavailable,
    "the kernel refuses the probe's programs",
    "See whether lockdown is at confidentiality: cat /sys/kernel/security/lockdown",
)

_NOT_ROOT: _Entry = (AccessDenied, "only root may set kernel.task_delayacct", "")
_NOT_OURS: _Entry = (
    TaskstatsError,
    "not a directory of root's alone with its lock files",
    "Remove it: no other program should make it",
)

# (operation, step or "", errno) -> (class, what, mend). "" stands for any.
_TABLE: dict[tuple[str, str, int], _Entry] = {
    ("", "family", codes.ENOENT): (
        Unavailable,
        "this kernel has no TASKSTATS family, or not in this network namespace",
        "Use a kernel built with CONFIG_TASKSTATS=y; 5.10 has it in the initial namespace alone",
    ),
    ("", "socket", codes.EPROTONOSUPPORT): (
        Unavailable,
        "this kernel has no generic netlink",
        "Use a kernel built with CONFIG_NET=y and CONFIG_TASKSTATS=y",
    ),
    ("", "socket", codes.EAFNOSUPPORT): _SANDBOX,
    ("", "socket", codes.EPERM): _SANDBOX,
    ("", "socket", codes.EACCES): _SANDBOX,
    ("listen", "clean", codes.ENOPROTOOPT): (
        Unavailable,
        "this kernel does not tell how many records it dropped (SO_MEMINFO)",
        "Listen on Linux 4.12 or later",
    ),
    ("", "clean", codes.EPERM): (AccessDenied, _NEEDED, _GRANT),
    ("listen", "clean", codes.EINVAL): (
        Unavailable,
        "the kernel refuses listeners in a PID namespace",
        "Run in the host's PID namespace (docker run --pid=host)",
    ),
    ("listen", "where", codes.EOPNOTSUPP): (
        Unavailable,
        "this kernel does not tell the last thread of a process (struct version 12 does)",
        "Listen without `last`",
    ),
    ("listen", "", codes.EPERM): (AccessDenied, _NEEDED, _GRANT),
    ("listen", "", codes.EBUSY): (
        TaskstatsError,
        "it is being read already, by another thread or further up in this one",
        "Read from one place, or open a listener for each",
    ),
    ("listen", "register", codes.EBUSY): (
        TaskstatsError,
        "tasks exit so fast that there was no moment between two of them to begin at",
        "Open it again, or without `where`",
    ),
    ("listen", "limit", codes.EMFILE): (
        TaskstatsError,
        "too few file descriptors for a socket on each CPU",
        "Raise the limit: ulimit -n, or LimitNOFILE= of the service",
    ),
    ("listen", "proc", codes.ENOENT): (
        Unavailable,
        "/proc is not mounted, or not whole",
        "Run it where it is, or: sudo unshare --mount-proc COMMAND",
    ),
    ("listen", "namespace", codes.EINVAL): (
        Unavailable,
        "the kernel sends exits to the initial network namespace only, and this is another",
        "Run in the host's network namespace (docker run --network=host, nsenter -t 1 -n)",
    ),
    ("listen", "thread", codes.EAGAIN): (
        TaskstatsError,
        "cannot start a thread: the limit on processes and threads is reached",
        "Raise TasksMax= of the service, pids.max of the cgroup, or ulimit -u; or use buffer=0",
    ),
    ("query", "", codes.EPERM): (
        AccessDenied,
        _KEPT,
        _GRANT,
    ),
    ("query", "", codes.ESRCH): (NoSuchTask, "no such task", ""),
    ("query", "", codes.ENOBUFS): (
        TaskstatsError,
        "the receive buffer cannot hold one reply",
        "Open the client with a larger rcvbuf",
    ),
    ("decode", "", codes.ESRCH): (NoSuchTask, "the datagram says: no such task", ""),
    ("decode", "", codes.EPERM): (AccessDenied, "the datagram says: not permitted", ""),
    ("cgroup", "", codes.EBADF): (
        TaskstatsError,
        "not an open directory (the descriptor is closed, or was opened with O_PATH)",
        "Pass a path, or a descriptor opened with O_RDONLY",
    ),
    ("cgroup", "", codes.EINVAL): _NO_CGROUP,
    ("cgroup", "", codes.ENOTDIR): _NO_CGROUP,
    ("cgroup", "request", codes.ENOENT): _REMOVED,
    ("cgroup", "", codes.ENODEV): _REMOVED,
    ("cgroup", "threads", codes.ESRCH): (
        Unavailable,
        "some of its threads cannot be seen from here, so they cannot be counted",
        "Run in the host's PID namespace, with its /proc mounted, and not hidepid",
    ),
    ("delays", "switch", codes.ENOENT): (
        Unavailable,
        "this kernel has no kernel.task_delayacct",
        "Use Linux 5.14 or later, built with CONFIG_TASK_DELAY_ACCT=y",
    ),
    ("delays", "", codes.EACCES): _NOT_ROOT,
    ("delays", "", codes.EPERM): _NOT_ROOT,
    ("delays", "", codes.EROFS): (
        Unavailable,
        "it is mounted read-only here, as in most containers",
        "Run on the host: sudo sysctl kernel.task_delayacct=1",
    ),
    ("delays", "owner", codes.EPERM): _NOT_OURS,
    ("delays", "", codes.ENOTDIR): _NOT_OURS,
    ("delays", "", codes.ELOOP): _NOT_OURS,
    ("probe", "btf", codes.ENOENT): (
        Unavailable,
        "this kernel does not describe its types (/sys/kernel/btf/vmlinux)",
        "Use a kernel built with CONFIG_DEBUG_INFO_BTF=y",
    ),
    ("probe", "btf", codes.EBADMSG): (
        Unavailable,
        "/sys/kernel/btf/vmlinux cannot be read: it is not as expected",
        "Report it, with the output of uname -a",
    ),
    ("probe", "btf", codes.EOPNOTSUPP): (
        Unavailable,
        "the probe needs a 64-bit kernel",
        "Listen with probe='off'",
    ),
    ("probe", "cgroups", codes.ENOENT): (
        Unavailable,
        "/proc does not list the cgroup hierarchies",
        "Mount /proc whole, and use a kernel built with CONFIG_CGROUPS=y",
    ),
    ("probe", "", codes.EPERM): _NO_RIGHT_TO_PROBE,
    ("probe", "sandbox", codes.EPERM): (
        AccessDenied,
        "bpf(2) is refused although the capabilities are there",
        "Run in the initial user namespace, and allow bpf in the seccomp filter",
    ),
    ("probe", "memlock", codes.EPERM): (
        AccessDenied,
        "the limit of locked memory is too low for the ring (Linux before 5.11 charges it there)",
        "Raise the limit: ulimit -l unlimited, or LimitMEMLOCK=infinity of the service",
    ),
    ("probe", "", codes.ENOSYS): _NO_BPF,
    ("probe", "ring", codes.EINVAL): (
        Unavailable,
        "this kernel has no ring buffer for BPF",
        "Use Linux 5.8 or later",
    ),
    ("probe", "program", codes.EINVAL): _REFUSED_PROGRAM,
    ("probe", "program", codes.EACCES): _REFUSED_PROGRAM,
    ("probe", "attach", codes.ENOENT): (
        Unavailable,
        "this kernel lacks a tracepoint that the probe needs",
        "Use a kernel built with CONFIG_TRACEPOINTS=y and CONFIG_CGROUPS=y",
    ),
    ("probe", "peer", codes.EOPNOTSUPP): (
        Unavailable,
        "the endpoint has no probe",
        "Listen with probe='off'",
    ),
    ("monitor", "thread", codes.EAGAIN): (
        TaskstatsError,
        "cannot start a thread: the limit of processes and threads is reached",
        "Raise the limit: ulimit -u, pids.max of the cgroup, or TasksMax= of the service",
    ),
    ("monitor", "cgroup", codes.EOPNOTSUPP): (
        Unavailable,
        "a job of a cgroup needs the probe",
        "Start the job by its first process, or open the monitor with probe='require'",
    ),
    ("monitor", "version", codes.EOPNOTSUPP): (
        Unavailable,
        "this kernel does not tell which process a thread is of (struct version 12 does)",
        "Use Linux 5.19 or later",
    ),
    ("monitor", "main", codes.EINVAL): (
        TaskstatsError,
        "a command can be measured only from the main thread, which passes signals on to it",
        "Use JobMonitor in other threads",
    ),
    ("monitor", "terminal", codes.EPERM): (
        TaskstatsError,
        "a command of this user could type into this terminal (TIOCSTI), and your shell would obey",
        "On Linux 6.2 or later: sysctl dev.tty.legacy_tiocsti=0; or give it a terminal of its own: "
        "script -qec 'exec taskstats run ...' /dev/null",
    ),
    ("", "", codes.EMFILE): (
        TaskstatsError,
        "too few file descriptors",
        "Raise the limit: ulimit -n, or LimitNOFILE= of the service",
    ),
    ("", "", codes.ENFILE): (
        TaskstatsError,
        "the system is out of file descriptors",
        "Raise it: sysctl fs.file-max",
    ),
    ("", "", codes.EBADF): (TaskstatsError, "it is closed", "Open a new one"),
    ("", "", codes.EOWNERDEAD): (
        TaskstatsError,
        "it was opened before fork, by the parent",
        "Open a new one in the child",
    ),
    ("", "", codes.ETIMEDOUT): (
        Unavailable,
        "no answer came in time",
        "See whether the endpoint is alive",
    ),
    ("", "", codes.ECONNREFUSED): (
        Unavailable,
        "nobody answers at the endpoint's port",
        "See whether the endpoint is alive",
    ),
}


def from_errno(operation: str, errno: int, step: str = "", about: str = "") -> TaskstatsError:
    """The error for a system call's or the kernel's errno.

    Args:
        operation: "query", "listen", "probe", "cgroup", "delays", "decode" or "monitor".
        errno: A positive errno.
        step: Where it failed: one of STEPS, or a check of our own.
        about: What it was about, for instance "pid 42".
    """
    steps = (step, "") if step else ("",)
    keys = ((who, where, errno) for where in steps for who in (operation, ""))
    otherwise = (TaskstatsError, os.strerror(errno) + (f" ({step})" if step else ""), "")
    kind, what, mend = next((_TABLE[key] for key in keys if key in _TABLE), otherwise)
    return kind(f"{operation} {about}" if about else operation, what, mend, errno)


def from_reason(operation: str, reason: int, about: str = "") -> ProtocolError:
    """The error for a refused datagram, from enum ts_reason."""
    name = REASONS[reason]
    return ProtocolError(
        f"{operation} {about}" if about else operation,
        _REASON_TEXTS.get(name, name),
        reason=name,
    )


def field_unavailable(name: str, why: str) -> FieldUnavailable:
    """The error for reading a field that the record does not have."""
    return FieldUnavailable(f"read {name}", why)
