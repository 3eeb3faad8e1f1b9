"""What doctor says of each thing that can stand in the way."""

import contextlib
import errno
import os
import resource
from typing import Any

import pytest
from support import child, wire

import taskstats
from taskstats import delayacct, diagnosis, fixes, host
from taskstats.diagnosis import Check, Diagnosis, _Heard
from taskstats.errors import TaskstatsError, from_errno
from taskstats.records import Record

NO_WAITS: dict[str, Any] = {name: 0 for name in wire.FIELDS if name.endswith("_count")}
DENIED = from_errno("listen", errno.EPERM, "clean")


def record_of(version: int, **values: Any) -> Record:
    data = wire.datagram(version, values={**wire.SAMPLE, **values}, port=1, fill=0)
    return taskstats.decode(data)[0]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets facts about the machine."""

    def set_facts(**facts: Any) -> None:
        namespaces = {kind: facts.pop(kind, True) for kind in ("user", "pid", "cgroup")}
        monkeypatch.setattr(host, "in_initial_namespace", namespaces.__getitem__)
        for name, value in facts.items():
            monkeypatch.setattr(host, name, lambda *_, value=value: value)

    monkeypatch.setattr(fixes, "command", lambda: "/venv/bin/taskstats")
    monkeypatch.setattr(delayacct, "standing", lambda: "nobody")
    return set_facts


# ---- kernel, family, delays ------------------------------------------------------------------


def test_the_kernel(here: Any) -> None:
    here(kernel_release="6.18.44")
    check = diagnosis._kernel(record_of(16), None)
    assert (check.state, check.finding) == ("ok", "6.18.44, struct v16 (560 B)")
    check = diagnosis._kernel(None, DENIED)
    assert (check.state, check.finding) == ("warn", "6.18.44; its struct version is not told")


def test_a_kernel_newer_than_this_package(here: Any) -> None:
    here(kernel_release="9.0")
    newer = bytearray(wire.datagram(17, port=1))
    newer[36] = 18
    check = diagnosis._kernel(taskstats.decode(bytes(newer))[0], None)
    assert check.state == "warn"
    assert "newer than v17" in check.finding


@pytest.mark.parametrize(
    ("refusal", "state"),
    [
        (None, "ok"),
        (DENIED, "ok"),
        (from_errno("query", errno.ENOENT, "family"), "fail"),
        (from_errno("query", errno.EAFNOSUPPORT, "socket"), "fail"),
    ],
)
def test_the_family(refusal: TaskstatsError | None, state: str) -> None:
    check = diagnosis._family(refusal)
    assert check.state == state
    if state == "fail" and refusal:
        assert (check.finding, check.mend) == (refusal.what, refusal.mend)


@pytest.mark.parametrize(
    ("view", "state", "mend"),
    [
        ("whole", "ok", ""),
        ("partial", "warn", "sudo /venv/bin/taskstats doctor"),
        ("foreign", "warn", "sudo unshare --mount-proc /venv/bin/taskstats doctor"),
        ("missing", "fail", "sudo unshare --mount-proc /venv/bin/taskstats doctor"),
    ],
)
def test_proc(here: Any, view: host.View, state: str, mend: str) -> None:
    here(may_gain=True, no_new_privs=False)
    check = diagnosis._proc(view)
    assert (check.state, check.mend) == (state, mend)


@pytest.mark.parametrize(
    ("switch", "own", "state", "finding", "mend"),
    [
        (
            False,
            record_of(16),
            "warn",
            "=0, though this process is measured",
            "sudo sysctl kernel.task_delay",
        ),
        (True, record_of(16), "ok", "=1; this process is measured", ""),
        (True, record_of(16, **NO_WAITS), "warn", "not measured", "restart this process"),
        (True, record_of(12, **NO_WAITS), "warn", "cannot be told", ""),
        (True, None, "warn", "cannot be told", ""),
        (None, record_of(10), "ok", "this process is measured", ""),
        (None, record_of(16, **NO_WAITS), "warn", "no kernel.task_delayacct", ""),
    ],
)
def test_delays(
    here: Any, switch: bool | None, own: Record | None, state: str, finding: str, mend: str
) -> None:
    here(task_delayacct=switch, may_gain=True, no_new_privs=False)
    check = diagnosis._delays(own)
    assert check.state == state
    assert finding in check.finding
    assert mend in check.mend
    assert bool(mend) == bool(check.mend)


@pytest.mark.parametrize(
    ("standing", "state", "finding"),
    [
        (
            "holder",
            "ok",
            ", on for a running `taskstats run --delays`; this process is measured",
        ),
        (
            "hidden",
            "ok",
            ", on for a `taskstats run --delays`; root is told whether that still runs; this "
            "process is measured",
        ),
        (
            "leftover",
            "warn",
            ", left by a `taskstats run --delays` that was killed; before it was 0",
        ),
    ],
)
def test_delays_that_are_measured_for_a_while(
    here: Any, monkeypatch: pytest.MonkeyPatch, standing: str, state: str, finding: str
) -> None:
    here(task_delayacct=True, may_gain=True, no_new_privs=False)
    monkeypatch.setattr(delayacct, "standing", lambda: standing)
    check = diagnosis._delays(record_of(16))
    assert (check.state, check.finding) == (state, f"kernel.task_delayacct=1{finding}")
    assert check.mend == (
        "sudo flock -n /run/taskstats/task_delayacct sh -c 'sysctl kernel.task_delayacct=0 && "
        "truncate -s 0 /run/taskstats/task_delayacct'"
        if standing == "leftover"
        else ""
    )


# ---- listening -------------------------------------------------------------------------------

REFUSED = from_errno("listen", errno.ENOENT, "family")


@pytest.mark.parametrize(
    ("facts", "obstacle", "state", "finding", "mend"),
    [
        ({}, None, "ok", "CAP_NET_ADMIN; initial user, PID and network namespace", ""),
        (
            {"in_initial_network_namespace": None},
            None,
            "warn",
            "CAP_NET_ADMIN; /proc does not tell the network namespace: the self-test decides",
            "",
        ),
        (
            {"has": False},
            DENIED,
            "fail",
            "no CAP_NET_ADMIN",
            "sudo /venv/bin/taskstats doctor",
        ),
        (
            {"in_initial_network_namespace": False},
            DENIED,
            "fail",
            "not the initial network namespace",
            "sudo nsenter --target 1 --net /venv/bin/taskstats doctor",
        ),
        (
            {"user": False, "pid": False, "has": False},
            DENIED,
            "fail",
            "no CAP_NET_ADMIN; not the initial user and PID namespace",
            "sudo /venv/bin/taskstats doctor  # on the host, or in a container with "
            "--userns=host --pid=host --cap-add=NET_ADMIN",
        ),
        (
            {"has": False, "may_gain": False},
            DENIED,
            "fail",
            "no CAP_NET_ADMIN",
            "sudo /venv/bin/taskstats doctor  # on the host, or in a container with "
            "--cap-add=NET_ADMIN",
        ),
        (
            {"has": False, "no_new_privs": True},
            DENIED,
            "fail",
            "no CAP_NET_ADMIN",
            "sudo /venv/bin/taskstats doctor  # from a shell without no_new_privs "
            "(NoNewPrivileges=no)",
        ),
        (
            {"in_initial_network_namespace": False, "may_gain": False},
            DENIED,
            "fail",
            "not the initial network namespace",
            "sudo /venv/bin/taskstats doctor  # on the host, or in a container with "
            "--network=host --cap-add=NET_ADMIN",
        ),
        ({}, REFUSED, "fail", REFUSED.what, REFUSED.mend),
    ],
)
def test_listening(
    here: Any,
    facts: dict[str, Any],
    obstacle: TaskstatsError | None,
    state: str,
    finding: str,
    mend: str,
) -> None:
    usual = dict.fromkeys(("has", "may_gain", "in_initial_network_namespace"), True)
    here(**{**usual, "no_new_privs": False, **facts})
    check = diagnosis._listening(obstacle)
    assert (check.state, check.finding, check.mend) == (state, finding, mend)


class Listener:
    """As much of a listener as is asked here."""

    def __init__(self, *granted: int) -> None:
        self.granted = granted

    def stats(self) -> Any:
        cpus = [type("Cpu", (), {"rcvbuf": one}) for one in self.granted]
        return type("Stats", (), {"cpus": cpus})


@pytest.mark.parametrize(
    ("granted", "state", "finding"),
    [
        (
            (32 << 20, 32 << 20),
            "ok",
            "32 MiB x 2 CPUs granted; worst case 64 MiB; lasts 0.73 s at 20,000 exits/s a CPU",
        ),
        (
            (1 << 20,) * 64,
            "warn",
            "1 MiB x 64 CPUs granted; worst case 64 MiB; lasts 0.023 s at 20,000 exits/s a CPU; "
            "a program may ask for more: ExitListener(rcvbuf_total=536870912)",
        ),
    ],
)
def test_buffers(granted: tuple[int, ...], state: str, finding: str) -> None:
    check = diagnosis._buffers(Listener(*granted))  # type: ignore[arg-type]
    assert (check.state, check.finding) == (state, finding)
    assert check.mend == ""


@pytest.mark.parametrize(
    ("free", "most", "state", "mend"),
    [
        (11, 1024, "ok", ""),
        (10, 1024, "fail", "ulimit -n 101"),
        (10, 101, "fail", "ulimit -n 101"),
        (10, 100, "fail", "sudo prlimit --pid $$ --nofile=101"),
    ],
)
def test_descriptors(
    here: Any, monkeypatch: pytest.MonkeyPatch, free: int, most: int, state: str, mend: str
) -> None:
    here(possible_cpus="0-7", free_descriptors=free, may_gain=True, no_new_privs=False)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100, most))
    check = diagnosis._descriptors(None)
    assert (check.state, check.mend) == (state, mend)
    assert check.finding == f"11 needed, {free} of 100 free"


def test_too_few_descriptors_to_listen_have_one_fix(here: Any) -> None:
    here(possible_cpus="0-7", free_descriptors=10, has=True)
    here(in_initial_network_namespace=True)
    check = diagnosis._listening(from_errno("listen", errno.EMFILE, "limit"))
    assert check.finding == "too few file descriptors for a socket on each CPU"
    assert check.mend == diagnosis._descriptors(None).mend != ""
    here(free_descriptors=100)  # since then some were closed
    assert diagnosis._listening(from_errno("listen", errno.EMFILE, "limit")).mend


@pytest.mark.parametrize(
    ("uid", "limits", "mend"),
    [
        (0, (5, 5), ""),
        (7, (resource.RLIM_INFINITY, resource.RLIM_INFINITY), ""),
        (7, (5, 9), "prlimit --pid $$ --nproc=9"),
        (7, (5, resource.RLIM_INFINITY), "prlimit --pid $$ --nproc=unlimited"),
        (7, (5, 5), "sudo prlimit --pid $$ --nproc=unlimited"),
    ],
)
def test_a_self_test_without_threads(
    here: Any, monkeypatch: pytest.MonkeyPatch, uid: int, limits: tuple[int, int], mend: str
) -> None:
    def refuse() -> None:
        raise RuntimeError("can't start new thread")

    here(may_gain=True, no_new_privs=False)
    monkeypatch.setattr(diagnosis, "_threads_that_end", refuse)
    monkeypatch.setattr(os, "getuid", lambda: uid)
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits)
    check = diagnosis._self_test(Listener(), _Heard())  # type: ignore[arg-type]
    assert (check.state, check.mend) == ("warn", mend)
    assert check.finding.startswith("not run: can't start new thread (RLIMIT_NPROC")


def hear(monkeypatch: pytest.MonkeyPatch, *ids: int) -> None:
    """Lets the self-test hear these exits."""
    monkeypatch.setattr(
        diagnosis, "_hear", lambda _listener, _ids, heard, _end: heard.ids.update(ids)
    )


@pytest.mark.parametrize(
    ("network", "mend"),
    [(True, ""), (None, "sudo nsenter --target 1 --net /venv/bin/taskstats doctor")],
)
def test_a_self_test_that_hears_too_little(
    here: Any, monkeypatch: pytest.MonkeyPatch, network: bool | None, mend: str
) -> None:
    here(in_initial_network_namespace=network, may_gain=True, no_new_privs=False)
    monkeypatch.setattr(diagnosis, "_threads_that_end", lambda: {1, 2, 3})
    hear(monkeypatch, 1, 2)
    monkeypatch.setattr(diagnosis, "_counted", lambda *_: 3)
    silent = Listener()
    monkeypatch.setattr(Listener, "stats", lambda _: type("Stats", (), {"lost": 0}))
    check = diagnosis._self_test(silent, _Heard())  # type: ignore[arg-type]
    assert (check.state, check.finding) == ("fail", "3 exits, 2 heard, kernel's own count 3")
    assert check.mend == mend


def test_the_self_test_tells_the_number_that_it_expected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(diagnosis, "_threads_that_end", lambda: {1, 2, 3})
    hear(monkeypatch, 1, 2, 3)
    monkeypatch.setattr(diagnosis, "_counted", lambda *_: 200)
    check = diagnosis._self_test(Listener(), _Heard())  # type: ignore[arg-type]
    assert check.finding == "3 exits, 3 heard, kernel's own count 200"


@pytest.mark.parametrize(
    ("mounts", "state", "finding"),
    [
        ([(2, "/sys/fs/cgroup")], "ok", "v2 at /sys/fs/cgroup"),
        ([(1, "/cpu"), (2, "/two"), (1, "/pids")], "ok", "v1 at /cpu and 1 more; v2 at /two"),
        ([], "warn", "none is mounted"),
    ],
)
def test_cgroups(here: Any, mounts: list[tuple[int, str]], state: str, finding: str) -> None:
    here(cgroup_mounts=mounts, may_gain=False, no_new_privs=False)
    check = diagnosis._cgroups()
    assert check.mend in ("", "sudo mount -t cgroup2 none /sys/fs/cgroup  # on the host")
    assert (check.state, check.finding) == (state, finding)


def test_what_is_not_run_is_not_passed() -> None:
    assert diagnosis._buffers(None).state == "fail"
    assert diagnosis._self_test(None, _Heard()).state == "fail"


def test_without_sys_there_is_nothing_to_listen_on(here: Any) -> None:
    here(sys_is_there=False, may_gain=True, no_new_privs=False)
    (check,) = taskstats.doctor().checks
    assert (check.what, check.state) == ("sys", "fail")
    assert check.mend == "sudo mount -t sysfs sysfs /sys"


# ---- complete records ------------------------------------------------------------------------


class Probed:
    """As much of a listener as the checks of the probe ask for."""

    def __init__(self, probe_error: TaskstatsError | None = None) -> None:
        self.probe_error = probe_error


REFUSED_PROBE = from_errno("probe", errno.EPERM, "sandbox")


@pytest.fixture
def probing(here: Any) -> Any:
    """Sets facts about a machine that otherwise can run the probe."""

    def checks(
        listener: Probed | None, heard: _Heard | None = None, **facts: Any
    ) -> dict[str, Check]:
        usual = {
            "may_probe": True,
            "has": True,
            "btf_bytes": 5 << 20,
            "lockdown": None,
            "kernel_version": (6, 1),
            "has_seccomp_filter": False,
            "may_gain": True,
            "no_new_privs": False,
        }
        here(**{**usual, **facts})
        found = diagnosis._complete_records(listener, heard or _Heard({1, 2}, {1, 2}))  # type: ignore[arg-type]
        return {check.what: check for check in found}

    return checks


def reason(checks: dict[str, Check]) -> str:
    return Diagnosis(tuple(checks.values())).incomplete_because


def test_complete_records(probing: Any) -> None:
    checks = probing(Probed())
    assert [(name, check.state) for name, check in checks.items()] == [
        ("bpf", "ok"),
        ("btf", "ok"),
        ("probe", "ok"),
    ]
    assert checks["probe"].finding.startswith("2 of 2 records settled; cgroups of version ")
    assert reason(checks) == ""


@pytest.mark.parametrize("heard", [_Heard({1, 2}, {1}), _Heard({1}, set()), _Heard(set(), set())])
def test_a_probe_that_settles_too_little_is_not_complete(probing: Any, heard: _Heard) -> None:
    checks = probing(Probed(), heard)
    assert checks["probe"].state == "warn"
    assert reason(checks).startswith(f"{len(heard.settled)} of {len(heard.ids)} records settled")


def test_rights_that_the_probe_needs(probing: Any) -> None:
    checks = probing(Probed(REFUSED_PROBE), may_probe=False, has=False)
    fix = checks["bpf"].mend
    assert checks["bpf"].finding == "no CAP_BPF; no CAP_PERFMON"
    assert fix.startswith("sudo ")
    assert ("+net_admin,+bpf,+perfmon" in fix) is (os.getuid() != 0)
    assert fix.endswith("/venv/bin/taskstats doctor")
    assert (checks["probe"].state, checks["probe"].finding) == ("warn", "not started (see bpf)")
    assert reason(checks) == "no CAP_BPF; no CAP_PERFMON"
    checks = probing(Probed(REFUSED_PROBE), user=False)
    assert checks["bpf"].finding == "not the initial user namespace"
    assert checks["bpf"].mend.endswith("  # on the host")


@pytest.mark.parametrize(
    ("facts", "what", "finding", "fix"),
    [
        ({"btf_bytes": None}, "btf", "no /sys/kernel/btf/vmlinux", "CONFIG_DEBUG_INFO_BTF"),
        ({"lockdown": "confidentiality"}, "lockdown", "locked down", "lockdown=integrity"),
        ({"has_seccomp_filter": True}, "seccomp", "a seccomp filter is in force", "allow bpf"),
        ({}, "seccomp", "bpf(2) is refused, although", ""),
        ({"kernel_version": (5, 10)}, "memlock", "0.0625 MiB of memory may", "sudo prlimit"),
    ],
)
def test_what_keeps_the_probe_from_running(
    probing: Any,
    monkeypatch: pytest.MonkeyPatch,
    facts: dict[str, Any],
    what: str,
    finding: str,
    fix: str,
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1 << 16, 1 << 16))
    checks = probing(Probed(REFUSED_PROBE), **facts)
    assert checks[what].state == "warn"
    assert finding in checks[what].finding
    assert fix in checks[what].mend
    assert checks["probe"].finding == f"not started (see {what})"
    assert Diagnosis(tuple(checks.values())).ready, "listening does without"


def test_any_other_reason_is_that_of_the_error(probing: Any) -> None:
    error = from_errno("probe", errno.EINVAL, "ring")
    checks = probing(Probed(error))
    assert (checks["probe"].finding, checks["probe"].mend) == (error.what, error.mend)
    assert error.mend == "Use Linux 5.8 or later"


def test_without_a_listener_no_record_is_complete(probing: Any) -> None:
    checks = probing(None)
    assert reason(checks) == "not tried (see listen)"
    assert Diagnosis(()).incomplete_because == "a listener was not tried"


# ---- the whole -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("states", "ready"),
    [(["ok", "ok"], True), (["ok", "warn"], True), (["fail", "ok"], False)],
)
def test_it_is_ready_if_nothing_failed(states: list[Any], ready: bool) -> None:
    checks = tuple(Check("what", state, "finding", "why") for state in states)
    assert Diagnosis(checks).ready is ready


def test_without_any_right_it_tells_what_is_missing() -> None:
    def as_nobody() -> Diagnosis:
        with contextlib.suppress(PermissionError):  # then it has no right already
            child.become(child.NOBODY)
        return taskstats.doctor()

    found = child.run(as_nobody)
    states = {check.what: check.state for check in found.checks}
    assert not found.ready
    assert (states["listen"], states["self-test"]) == ("fail", "fail")
    assert all(check.why for check in found.checks)
    (listen,) = [check for check in found.checks if check.what == "listen"]
    assert "no CAP_NET_ADMIN" in listen.finding
    assert listen.mend
