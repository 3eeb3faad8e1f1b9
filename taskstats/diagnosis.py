"""doctor: check the setup for listening and suggest fixes."""

import contextlib
import errno
import os
import resource
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from taskstats import cpulist, delayacct, fixes, host
from taskstats.cgroups.hierarchies import choose
from taskstats.client import Client
from taskstats.errors import AccessDenied, TaskstatsError
from taskstats.exits import DESCRIPTORS, PROBE_DESCRIPTORS, ExitListener
from taskstats.fields import FIELDS
from taskstats.probe import default_ring_bytes
from taskstats.records import Record

State = Literal["ok", "warn", "fail"]

_NEWEST = max(one.since for one in FIELDS.values())
_WPCOPY_SINCE = FIELDS["wpcopy_count"].since

_RATE = 20_000  # exits a second on one CPU, what a busy machine makes
_RECORD_MEMORY = (
    2304  # bytes that a record takes of a queue: the larger kind, of a threaded process
)
_LEAST_SECONDS = 0.1  # what a listener must be able to sleep through

_PROBE_CHECKS = ("bpf", "btf", "lockdown", "memlock", "seccomp", "probe", "cgroupns")
_LOCKED_MEMORY_BEFORE = (5, 11)  # such kernels charge BPF maps to RLIMIT_MEMLOCK

_TEST_EXITS = 200
_TEST_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at.

    Attributes:
        what: Its name: kernel, family, proc, listen, delays, buffers, descriptors, cgroups,
            self-test; then for the probe: bpf, btf, probe, and lockdown, memlock or seccomp if one
            of these is a problem. Without /proc the first three are all; without /sys "sys" is
            the only one.
        state: "ok"; "warn" where figures will be missing; "fail" where listening needs it.
        finding: What was found.
        why: Why it matters.
        mend: A command or hint that fixes it; "" if there is nothing to fix.
    """

    what: str
    state: State
    finding: str
    why: str
    mend: str = ""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What `doctor` found.

    Attributes:
        checks: In the order in which they build on each other.
    """

    checks: tuple[Check, ...]

    @property
    def ready(self) -> bool:
        """Whether listening works."""
        return all(check.state != "fail" for check in self.checks)

    @property
    def incomplete_because(self) -> str:
        """Why a listener has no complete records (final CPU time, cgroup); "" if it has them."""
        found = [check for check in self.checks if check.what in _PROBE_CHECKS]
        if not found:
            return "a listener was not tried"
        return next((check.finding for check in found if check.state != "ok"), "")


def doctor() -> Diagnosis:
    """Check everything that queries, listening and the probe need here, and try all three.

    Starts 200 threads that end at once, and listens for their exits. Changes nothing.
    """
    return Diagnosis(tuple(_checks()))


def _checks() -> Iterator[Check]:
    if not host.sys_is_there():
        why = "the CPUs to listen on are read there"
        mend = fixes.with_sudo("mount -t sysfs sysfs /sys", "sys_admin")
        yield Check("sys", "fail", "/sys is not mounted", why, mend)
        return
    own, refusal = _query()
    yield _kernel(own, refusal)
    yield _family(refusal)
    view = host.proc_view()
    yield _proc(view)
    if view == "missing":
        return  # all that follows is read there
    listener, obstacle = _listen()
    with listener or contextlib.nullcontext():
        yield _listening(obstacle)
        yield _delays(own)
        yield _buffers(listener)
        yield _descriptors(listener)
        yield _cgroups()
        heard = _Heard()
        yield _self_test(listener, heard)
        yield from _complete_records(listener, heard)


# ---- queries ---------------------------------------------------------------------------------


def _query() -> tuple[Record | None, TaskstatsError | None]:
    """This thread's own record, or why it cannot be had."""
    try:
        with Client() as client:
            return client.pid(), None
    except TaskstatsError as error:
        return None, error


def _kernel(own: Record | None, refusal: TaskstatsError | None) -> Check:
    why = "the struct's version says which fields there are"
    release = host.kernel_release()
    if own is None:
        reason = "is not told" if isinstance(refusal, AccessDenied) else "cannot be had"
        return Check("kernel", "warn", f"{release}; its struct version {reason}", why)
    finding = f"{release}, struct v{own.version} ({own.size} B)"
    if own.version > _NEWEST:
        finding += f", newer than v{_NEWEST}: fields added since are not read"
        return Check("kernel", "warn", finding, why)
    return Check("kernel", "ok", finding, why)


def _family(refusal: TaskstatsError | None) -> Check:
    why = "queries and listening both go to this generic netlink family"
    if refusal is None or isinstance(refusal, AccessDenied):
        return Check("family", "ok", "TASKSTATS answers", why)
    return Check("family", "fail", refusal.what, why, refusal.mend)


_PROC_STATES: dict[str, State] = {"partial": "warn", "foreign": "warn", "missing": "fail"}


def _proc(view: host.View) -> Check:
    why = "the list of processes, their threads and the kernel's own count of exits are read there"
    state = _PROC_STATES.get(view, "ok")
    return Check("proc", state, host.VIEWS[view], why, fixes.for_proc(view, "doctor"))


#: For whom the switch is at 1.
_WHOSE: dict[delayacct.Standing, str] = {
    "nobody": "",
    "holder": ", on for a running `taskstats run --delays`",
    "leftover": ", left by a `taskstats run --delays` that was killed; before it was 0",
    "hidden": ", on for a `taskstats run --delays`; root is told whether that still runs",
}


def _delays(own: Record | None) -> Check:
    why = "delays are absent, not zero; it covers only processes started after"
    switch = host.task_delayacct()
    if switch is False:
        finding = "kernel.task_delayacct=0"
        if own is not None and own.delays_measured:
            finding += ", though this process is measured"
        return Check("delays", "warn", finding, why, fixes.for_delays())
    if switch is None:
        finding = "no kernel.task_delayacct (before Linux 5.14, or no CONFIG_TASK_DELAY_ACCT)"
    else:
        standing = delayacct.standing()
        finding = f"kernel.task_delayacct=1{_WHOSE[standing]}"
        if standing == "leftover":
            why = "every process made until it is put back is measured, for nobody"
            return Check("delays", "warn", finding, why, delayacct.for_leftover())
    if own is not None and own.delays_measured:
        return Check("delays", "ok", f"{finding}; this process is measured", why)
    if own is None or own.version < _WPCOPY_SINCE:
        return Check(
            "delays", "warn", f"{finding}; whether this process is measured cannot be told", why
        )
    # Without the switch, it depends on how the kernel was built and started.
    mend = "restart this process" if switch else ""
    return Check("delays", "warn", f"{finding}; this process is not measured", why, mend)


def _cgroups() -> Check:
    why = "the kernel counts the tasks of cgroups of version 1; for version 2 /proc is read"
    mounts = host.cgroup_mounts()
    found = []
    for version in (1, 2):
        paths = [path for its_version, path in mounts if its_version == version]
        if paths:
            more = f" and {len(paths) - 1} more" if paths[1:] else ""
            found.append(f"v{version} at {paths[0]}{more}")
    if found:
        return Check("cgroups", "ok", "; ".join(found), why)
    mend = fixes.with_sudo("mount -t cgroup2 none /sys/fs/cgroup", "sys_admin")
    return Check("cgroups", "warn", "none is mounted", why, mend)


# ---- listening -------------------------------------------------------------------------------


def _listen() -> tuple[ExitListener | None, TaskstatsError | None]:
    try:
        return ExitListener(probe="auto", settle=_TEST_SECONDS), None
    except TaskstatsError as error:
        return None, error


def _listening(obstacle: TaskstatsError | None) -> Check:
    why = "without it no exit is heard"
    inside = {
        "user": host.in_initial_namespace("user"),
        "PID": host.in_initial_namespace("pid"),
        "network": host.in_initial_network_namespace(),
    }
    unknown = [name for name, initial in inside.items() if initial is None]
    if obstacle is None:
        if unknown:
            finding = f"CAP_NET_ADMIN; /proc does not tell the {_listed(unknown)} namespace"
            return Check("listen", "warn", f"{finding}: the self-test decides", why)
        return Check("listen", "ok", "CAP_NET_ADMIN; initial user, PID and network namespace", why)
    foreign = [name for name, initial in inside.items() if initial is False]
    missing = [] if host.has("net_admin") else ["no CAP_NET_ADMIN"]
    if foreign:
        missing.append(f"not the initial {_listed(foreign)} namespace")
    if missing:
        return Check("listen", "fail", "; ".join(missing), why, _way_in(foreign))
    own_mend = _descriptors(None).mend if obstacle.errno == errno.EMFILE else ""
    return Check("listen", "fail", obstacle.what, why, own_mend or obstacle.mend)


def _listed(names: list[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


#: What a container's start has to say for each.
_DOCKER_FLAGS = {"user": "--userns=host", "PID": "--pid=host", "network": "--network=host"}


def _way_in(foreign: list[str]) -> str:
    """The command that runs `doctor` where listening works."""
    flags = " ".join([*(_DOCKER_FLAGS[name] for name in foreign), "--cap-add=NET_ADMIN"])
    elsewhere = f"on the host, or in a container with {flags}"
    command = f"{fixes.command()} doctor"
    if foreign == ["network"] and fixes.sudo_gives("net_admin", "sys_admin", "sys_ptrace"):
        return f"sudo nsenter --target 1 --net {command}"
    if foreign:
        return f"sudo {command}  # {elsewhere}"
    return fixes.with_sudo(command, "net_admin", elsewhere=elsewhere)


def _buffers(listener: ExitListener | None) -> Check:
    why = "what does not fit while the listener is busy elsewhere is lost, and counted"
    if listener is None:
        return Check("buffers", "fail", "not opened (see listen)", why)
    granted = [cpu.rcvbuf for cpu in listener.stats().cpus]
    seconds = min(granted) / _RECORD_MEMORY / _RATE
    finding = (
        f"{_mib(min(granted))} x {len(granted)} CPUs granted; worst case {_mib(sum(granted))}; "
        f"lasts {seconds:.2g} s at {_RATE:,} exits/s a CPU"
    )
    if seconds < _LEAST_SECONDS:
        more = f"ExitListener(rcvbuf_total={len(granted) * 8 << 20})"
        return Check("buffers", "warn", f"{finding}; a program may ask for more: {more}", why)
    return Check("buffers", "ok", finding, why)


def _mib(size: int) -> str:
    return f"{size / (1 << 20):.4g} MiB"


def _descriptors(listener: ExitListener | None) -> Check:
    why = "a listener holds a socket for each possible CPU"
    needed = len(cpulist.parse(host.possible_cpus())) + DESCRIPTORS
    held = needed if listener else 0
    if listener and not listener.probe_error:
        held += PROBE_DESCRIPTORS
    free = host.free_descriptors() + held
    limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    finding = f"{needed} needed, {free} of {limit} free"
    if free < needed:
        return Check("descriptors", "fail", finding, why, _raised(limit - free + needed, most))
    return Check("descriptors", "ok", finding, why)


def _raised(descriptors: int, most: int) -> str:
    """The command that lets a shell's children have so many."""
    if descriptors <= most:
        return f"ulimit -n {descriptors}"
    return fixes.with_sudo(f"prlimit --pid $$ --nofile={descriptors}", "sys_resource")


# ---- the self-test ---------------------------------------------------------------------------


@dataclass(slots=True)
class _Heard:
    """Exits of the self-test whose record came, and those among them that are settled."""

    ids: set[int] = field(default_factory=set)
    settled: set[int] = field(default_factory=set)


def _self_test(listener: ExitListener | None, heard: _Heard) -> Check:
    why = "hearing one's own exits is the only proof of all of the above"
    if listener is None:
        return Check("self-test", "fail", "not run (see listen)", why)
    books = host.exits_by_the_books()
    try:
        expected = _threads_that_end()
    except RuntimeError as error:
        finding = f"not run: {error} (RLIMIT_NPROC, pids.max of its cgroup, or unshare --pid)"
        return Check("self-test", "warn", finding, why, _more_threads())
    end = time.monotonic() + _TEST_SECONDS
    _hear(listener, expected, heard, end)
    counted = _counted(books, end)
    finding = f"{len(expected)} exits, {len(heard.ids)} heard, kernel's own count {counted}"
    if counted > _TEST_EXITS:
        finding += f" ({counted - _TEST_EXITS} of other tasks)"
    if heard.ids == expected:
        return Check("self-test", "ok", finding, why)
    if lost := listener.stats().lost:
        return Check("self-test", "warn", f"{finding}; {lost} lost", why)
    unknown = host.in_initial_network_namespace() is None
    return Check("self-test", "fail", finding, why, _way_in(["network"]) if unknown else "")


def _more_threads() -> str:
    """The command that lets a shell's children have more, where it is their limit that counts."""
    limit, most = resource.getrlimit(resource.RLIMIT_NPROC)
    if os.getuid() == 0 or limit == resource.RLIM_INFINITY:
        return ""
    if limit == most:
        return fixes.with_sudo("prlimit --pid $$ --nproc=unlimited", "sys_resource")
    return f"prlimit --pid $$ --nproc={'unlimited' if most == resource.RLIM_INFINITY else most}"


def _threads_that_end() -> set[int]:
    """The ids of threads that were started and have ended."""
    ids: list[int] = []
    for _ in range(_TEST_EXITS):
        thread = threading.Thread(target=lambda: ids.append(threading.get_native_id()))
        thread.start()
        thread.join()
    return set(ids)


def _hear(listener: ExitListener, expected: set[int], heard: _Heard, end: float) -> None:
    """Takes the records of these threads, until all have come or time is up."""
    for batch in listener.batches(timeout=0.05):
        mine = [record for record in batch if record.ac_pid in expected]
        heard.ids |= {record.ac_pid for record in mine}
        heard.settled |= {record.ac_pid for record in mine if record.is_settled}
        if heard.ids == expected or time.monotonic() > end:
            break


def _counted(books: int, end: float) -> int:
    """Exits since by the kernel's books, which count a task some time after its record."""
    while (counted := host.exits_by_the_books() - books) < _TEST_EXITS and time.monotonic() < end:
        time.sleep(0.001)
    return counted


# ---- complete records ------------------------------------------------------------------------


def _complete_records(listener: ExitListener | None, heard: _Heard) -> Iterator[Check]:
    """What the probe needs, and whether it works. Listening does without it."""
    needs = [_bpf_rights(), _btf()]
    refusal = listener.probe_error if listener else None
    if host.lockdown() == "confidentiality":
        needs.append(_lockdown())
    if refusal and refusal.errno == errno.EPERM and host.may_probe():
        is_old = host.kernel_version() < _LOCKED_MEMORY_BEFORE
        needs.append(_memlock() if is_old else _seccomp())
    yield from needs
    problem = next((check.what for check in needs if check.state != "ok"), "")
    yield _probe(listener, heard, problem)
    if host.in_initial_namespace("cgroup") is False:
        yield _cgroup_namespace()


def _cgroup_namespace() -> Check:
    why = "the paths of cgroups that were made before a listener cannot be found from here"
    fix = "run in the host's cgroup namespace (docker run --cgroupns=host)"
    return Check("cgroupns", "warn", "not the initial cgroup namespace", why, fix)


def _bpf_rights() -> Check:
    why = "without BPF programs, records lack the final CPU time and the cgroup"
    missing = [] if host.may_probe() else [one for one in ("bpf", "perfmon") if not host.has(one)]
    foreign = host.in_initial_namespace("user") is False
    if missing or foreign:
        findings = [f"no CAP_{one.upper()}" for one in missing]
        findings += ["not the initial user namespace"] * foreign
        return Check("bpf", "warn", "; ".join(findings), why, fixes.with_probe_rights("doctor"))
    both = host.has("bpf") and host.has("perfmon")
    return Check("bpf", "ok", "CAP_BPF and CAP_PERFMON" if both else "CAP_SYS_ADMIN", why)


def _btf() -> Check:
    why = "it says where the kernel's structures have the members that the probe reads"
    size = host.btf_bytes()
    if size is None:
        fix = "use a kernel built with CONFIG_DEBUG_INFO_BTF=y"
        return Check("btf", "warn", "no /sys/kernel/btf/vmlinux", why, fix)
    return Check("btf", "ok", f"/sys/kernel/btf/vmlinux, {_mib(size)}", why)


def _lockdown() -> Check:
    why = "it forbids BPF programs to read the kernel's memory"
    fix = "boot without lockdown=confidentiality; lockdown=integrity allows the probe"
    return Check("lockdown", "warn", "the kernel is locked down for confidentiality", why, fix)


def _memlock() -> Check:
    why = "Linux before 5.11 charges the probe's ring to the limit of locked memory"
    limit, most = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    fix = "ulimit -l unlimited"
    if most != resource.RLIM_INFINITY:
        fix = fixes.with_sudo("prlimit --pid $$ --memlock=unlimited", "sys_resource")
    finding = f"{_mib(limit)} of memory may be locked; the ring takes {_mib(default_ring_bytes())}"
    return Check("memlock", "warn", finding, why, fix)


def _seccomp() -> Check:
    why = "this system call loads the probe"
    finding = "bpf(2) is refused, although the capabilities are there"
    if host.has_seccomp_filter():
        fix = "allow bpf in the seccomp filter (docker run --security-opt, SystemCallFilter=)"
        return Check("seccomp", "warn", f"{finding}; a seccomp filter is in force", why, fix)
    return Check("seccomp", "warn", f"{finding}; no seccomp filter is in force", why)


def _probe(listener: ExitListener | None, heard: _Heard, problem: str) -> Check:
    why = "a record has the final CPU time and the cgroup only if the probe settles it"
    if listener is None:
        return Check("probe", "warn", "not tried (see listen)", why)
    if refusal := listener.probe_error:
        if problem:
            return Check("probe", "warn", f"not started (see {problem})", why)
        return Check("probe", "warn", refusal.what, why, refusal.mend)
    hierarchy = choose(None)
    cgroups = f"cgroups of version {hierarchy.version}"
    if hierarchy.version == 1:
        cgroups += f" ({hierarchy.name})"
    finding = f"{len(heard.settled)} of {len(heard.ids)} records settled; {cgroups}"
    state: State = "ok" if heard.ids and heard.settled == heard.ids else "warn"
    return Check("probe", state, finding, why)
