r"""Read what a cgroup is from its path: unit, session, container, pod, Slurm job.

A cgroup has no name but its path, and each program that makes cgroups names them in its own way.
`cgroup_identity` knows the names that systemd, container runtimes, the kubelet, LXC, libvirt and
Slurm use on cgroup v1 and v2. It reads the path and nothing else.
"""

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal, NamedTuple, TypeAlias

Qos: TypeAlias = Literal["guaranteed", "burstable", "besteffort"]

#: The shortest prefix of a container id that identifies a container (Docker shows as many digits).
SHORTEST_ID = 12

_CACHED_PATHS = 4096


@dataclass(frozen=True, slots=True)
class CgroupIdentity:
    r"""What the path of a cgroup says about the processes in it.

    An attribute is None if the path does not say it. Where things are nested, as a pod in a
    Kubernetes node that is itself a container, an attribute describes the innermost one.

    Any process that may create cgroups can give them any name. Use this for reports and filters,
    not for access control.

    Attributes:
        path: The path that was given.
        units: All systemd units on the path, slices too, outermost first. A unit keeps the name
            that systemd gives it, with its escapes: `app-gnome-google\x2dchrome-4321.scope`.
        unit: The service, scope, socket, mount or swap unit of the system manager. The same as
            _SYSTEMD_UNIT in the journal, except in a container: there it is a unit of the
            container's systemd, if the container runs systemd.
        slice: The slice of `unit`, or the slice itself if the path ends with it (systemd.slice(5)).
        user_unit: The unit of a user's manager, user@UID.service. The same as _SYSTEMD_USER_UNIT
            in the journal.
        session: The id of the login session (systemd-logind).
        uid: The user id of the slice, the user's manager or the Slurm job. In a container that
            runs systemd it is a user id of the container.
        containers: All containers and machines on the path, outermost first: ids, or names where
            there is no id.
        container: The id of the container, or its name (LXC). The supervisor of a container
            (conmon, the LXC monitor, systemd-nspawn) is not in the container.
        runtime: The program that runs the innermost container or machine: docker, podman,
            containerd, crio, lxc, systemd-nspawn, libvirt, garden, mesos. "ecs" is a container of
            Amazon ECS, and "machined" is a machine that some program registered with
            systemd-machined: their paths do not name the runtime.
        machine: The name of the virtual machine or of the container that systemd-machined or
            libvirt manages. For libvirt: the name of the domain.
        pod: The UID of the Kubernetes pod, with dashes. For a static pod it is the hash of its
            configuration, 32 hexadecimal digits.
        qos: The quality of service class of the pod.
        slurm_job: The id of the Slurm job. The four attributes of Slurm are a hint: ask Slurm for
            the user, the array or the rest of the job.
        slurm_step: The step of the Slurm job: a number, or batch, extern, interactive.
        slurm_task: The task of the Slurm step.
        slurm_sluid: The SLUID of the Slurm job. Since Slurm 26.05 a path on cgroup v2 has the
            SLUID in place of the job id, unless CgroupJobIdPaths is set; squeue accepts both.
    """

    path: str
    units: tuple[str, ...] = ()
    unit: str | None = None
    slice: str | None = None
    user_unit: str | None = None
    session: str | None = None
    uid: int | None = None
    containers: tuple[str, ...] = ()
    container: str | None = None
    runtime: str | None = None
    machine: str | None = None
    pod: str | None = None
    qos: Qos | None = None
    slurm_job: int | None = None
    slurm_step: str | None = None
    slurm_task: int | None = None
    slurm_sluid: str | None = None

    def in_cgroup(self, glob: str) -> bool:
        """Return whether this is a cgroup that a pattern names, or a cgroup below it.

        Args:
            glob: A path whose components may contain `*`, `?` and `[...]`. A wildcard does not
                match a slash. A pattern without a slash at its start may match at any depth:
                `/system.slice/docker-*` and `docker-*` both find Docker's containers there.
        """
        wanted = _components(glob)
        here = _components(self.path)
        if not wanted:
            return glob.startswith("/")
        depths = [0] if glob.startswith("/") else range(len(here))
        return any(_begins(here[depth:], wanted) for depth in depths)

    def in_unit(self, name: str) -> bool:
        """Return whether the path contains a systemd unit, of the system, a user or a container.

        Args:
            name: The name or a glob. `.service` may be left out: `sshd`, `getty@*`, `user.slice`.
        """
        return any(
            fnmatchcase(unit, name) or fnmatchcase(unit, f"{name}.service") for unit in self.units
        )

    def in_container(self, name: str) -> bool:
        """Return whether the path contains a container or machine.

        Args:
            name: A container id, its first 12 hexadecimal digits or more, or the full name of an
                LXC container or a machine. Whether a prefix is unique is not checked: only the
                caller knows which containers there are.
        """
        prefix = len(name) >= SHORTEST_ID
        return any(
            known == name or (prefix and known.startswith(name) and _is_long_id(known))
            for known in self.containers
        )


# ---- names -----------------------------------------------------------------------------------

_NUMBER = r"(?:0|[1-9][0-9]{0,9})"
_ID = r"(?P<container>[0-9a-f]{64})"
_UUID = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_STEP = r"step_(?P<slurm_step>batch|extern|interactive|[0-9]+(?:\+[0-9]+)?)"
_TASK = r"task_(?P<slurm_task>[0-9]{1,10})"
_QOS = r"(?P<qos>burstable|besteffort)"
_POD = r"pod(?P<pod>[0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})"
_POD_SLICE = rf"(?:[^/:]+-)?kubepods(?:-{_QOS})?-{_POD}\.slice"
_POD_DIRECTORY = rf"kubepods(?:/{_QOS})?/{_POD}"
# A runtime with the cgroupfs driver takes slice:prefix:id, the form for systemd, as a path.
_COLONS = rf"(?:{_POD_SLICE}|[^/:]*)"
_NOT_SUPERVISOR = r"(?!/supervisor(?:/|\Z))"

Manager: TypeAlias = Literal["system", "user"]
At: TypeAlias = Literal["anywhere", "top", "system"]


class Rule(NamedTuple):
    """A name that a program gives to a cgroup.

    Attributes:
        pattern: A regular expression for one or more whole components of a path. Its groups are
            attributes of CgroupIdentity.
        source: What defines the name.
        runtime: The value of CgroupIdentity.runtime.
        at: Where the name has this meaning: "anywhere"; at the "top" of a manager's tree, where
            only slices come before it; or at the top of the tree of a "system" manager.
        opens: The kind of systemd manager whose tree of cgroups may begin below. Only such a tree
            has units.
    """

    pattern: str
    source: str
    runtime: str | None = None
    at: At = "anywhere"
    opens: Manager | None = None


def _container(runtime: str | None, pattern: str, source: str, at: At = "anywhere") -> Rule:
    """A name of a container or machine: a systemd may run in it."""
    return Rule(pattern, source, runtime, at, opens="system")


#: Names of cgroups. The first rule that matches is taken.
RULES = (
    # Login sessions and users.
    Rule(rf"user-(?P<uid>{_NUMBER})\.slice", "systemd: pam_systemd(8)", at="system"),
    Rule(
        r"session-(?P<session>[0-9A-Za-z]+)\.scope",
        "systemd: pam_systemd(8)",
        at="system",
        opens="user",
    ),
    Rule(rf"user@(?P<uid>{_NUMBER})\.service", "systemd: user@.service(5)", None, "system", "user"),
    Rule(
        rf"user/(?P<uid>{_NUMBER})\.user/(?P<session>[0-9A-Za-z]+)\.session",
        "systemd before 205: src/login/logind-session.c",
        at="system",
        opens="user",
    ),
    Rule(
        r"system(?:/[^/]+@\.service)?",
        "systemd before 205: src/core/unit.c:unit_default_cgroup_path",
        at="system",
        opens="system",
    ),
    # Containers.
    _container("docker", rf"docker-{_ID}\.scope", "moby: daemon/oci_linux.go, systemd driver"),
    _container("docker", rf"docker/{_ID}", "moby: daemon/oci_linux.go, cgroupfs driver"),
    _container("docker", rf"{_COLONS}:docker:{_ID}", "moby: daemon/oci_linux.go, mixed drivers"),
    _container(
        "podman",
        rf"libpod-{_ID}(?:\.scope)?(?!/conmon(?:/|\Z))(?:/container)?",
        "podman: libpod/container_internal_linux.go:getOCICgroupPath",
    ),
    _container(
        "podman",
        rf"libpod-payload-{_ID}",
        "podman: libpod/container_internal_linux.go:getOCICgroupPath, cgroups=split",
    ),
    _container(
        "containerd",
        rf"cri-containerd-{_ID}\.scope(?:/container)?",
        "containerd: CRI plugin, getCgroupsPath, systemd driver",
    ),
    _container(
        "containerd",
        rf"{_COLONS}:cri-containerd:{_ID}",
        "containerd: CRI plugin, getCgroupsPath, mixed drivers",
    ),
    _container(
        "containerd", rf"nerdctl-{_ID}\.scope", "nerdctl: pkg/cmd/container, systemd driver"
    ),
    _container("containerd", rf"k8s\.io/{_ID}", "containerd: oci.WithNamespacedCgroup"),
    _container(
        "crio",
        rf"crio-{_ID}(?:\.scope)?(?:/container)?",
        "cri-o: internal/config/cgmgr",
    ),
    _container("crio", rf"{_COLONS}:crio:{_ID}", "cri-o: internal/config/cgmgr, mixed drivers"),
    _container(
        "ecs",
        rf"ecs(?:/[^/]+)?/([0-9a-f]{{32}}|{_UUID})/(?P<container>[0-9a-f]{{64}}|\1-[0-9]+)",
        "amazon-ecs-agent: agent/taskresource/cgroup; Fargate 1.4",
    ),
    _container(
        "garden",
        r"garden/(?P<container>[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-(?:[0-9a-f]{12}|[0-9a-f]{4}))",
        "Cloud Foundry: garden-runc",
    ),
    _container("mesos", rf"mesos/(?P<container>{_UUID})", "Mesos: flag cgroups_root"),
    _container("lxc", r"lxc\.payload[./](?P<container>[^/]+)(?:/ns)?", "lxc: cgroups/cgfsng.c"),
    _container("lxc", r"lxc/(?P<container>[^/]+)(?:/ns)?", "lxc before 3.1; Proxmox VE", at="top"),
    # Machines.
    _container(
        "libvirt",
        r"machine-(?:qemu|lxc|ch)\\x2d[0-9]+\\x2d(?P<machine>[^/]+)\.scope(?:/libvirt)?",
        "libvirt: docs/cgroups.rst",
        at="top",
    ),
    _container(
        "libvirt",
        r"(?:(?:qemu|lxc|ch)-[0-9]+-)?(?P<machine>[^/]+)\.libvirt-(?:qemu|lxc|ch)",
        "libvirt: docs/cgroups.rst, without systemd",
    ),
    _container("libvirt", r"libvirt/(?:qemu|lxc)/(?P<machine>[^/]+)", "libvirt before 1.0.5"),
    _container(
        "systemd-nspawn",
        rf"systemd-nspawn@(?P<machine>[^/]+)\.service{_NOT_SUPERVISOR}(?:/payload)?",
        "systemd: systemd-nspawn(1)",
        at="top",
    ),
    _container(
        "machined",
        rf"machine-(?P<machine>[^/]+)\.scope{_NOT_SUPERVISOR}(?:/payload)?",
        "systemd: src/machine/machine.c:machine_start_scope",
        at="top",
    ),
    # Kubernetes. Below a pod, a bare id is a container of any runtime.
    _container(None, rf"{_POD_DIRECTORY}/{_ID}", "kubelet: pkg/kubelet/cm, cgroupfs driver"),
    _container(None, rf"{_POD_SLICE}/{_ID}", "kubelet: pkg/kubelet/cm, mixed drivers"),
    Rule(_POD_DIRECTORY, "kubelet: pkg/kubelet/cm, cgroupfs driver"),
    Rule(_POD_SLICE, "kubelet: pkg/kubelet/cm, systemd driver"),
    Rule(rf"kubepods/{_QOS}", "kubelet: pkg/kubelet/cm, cgroupfs driver"),
    Rule(rf"(?:[^/:]+-)?kubepods-{_QOS}\.slice", "kubelet: pkg/kubelet/cm, systemd driver"),
    # Slurm.
    Rule(
        rf"slurm(?:_[^/]+)?/uid_(?P<uid>{_NUMBER})/job_(?P<slurm_job>{_NUMBER})"
        rf"(?:/{_STEP}(?:/{_TASK})?)?",
        "Slurm: src/plugins/cgroup/v1",
    ),
    Rule(
        rf"(?:[^/]+_)?slurmstepd\.scope"
        rf"/(?:job_(?P<slurm_job>{_NUMBER})|(?P<slurm_sluid>s[0-9A-HJKMNP-TV-Z]{{13}}))"
        rf"(?:/{_STEP}(?:/user(?:/{_TASK})?)?)?",
        "Slurm: cgroup_v2.html",
    ),
)

# systemd: src/basic/unit-name.c:unit_name_is_valid, of the types that have processes.
_UNIT = r"[\w:.\\-]+(?:@[\w:.\\@-]+)?\.(?:service|scope|slice|socket|mount|swap)"


@functools.cache
def _compiled() -> list[tuple[re.Pattern[str], Rule]]:
    """The rules, compiled on first use: importing the package stays fast."""
    return [(re.compile(rf"(?:{rule.pattern})(?=/|\Z)"), rule) for rule in RULES]


@functools.cache
def _unit_pattern() -> re.Pattern[str]:
    return re.compile(_UNIT, re.ASCII)


# ---- paths -----------------------------------------------------------------------------------


def cgroup_identity(path: str) -> CgroupIdentity:
    """Return what a cgroup is, from its path.

    The result is cached. No file is read.

    Args:
        path: The path as in /proc/PID/cgroup, from the root of its hierarchy: for cgroup v2 what
            follows `0::`. It has no mount point in it. A path that cgroup namespaces shorten
            (`/../..`) and the suffix " (deleted)" of a removed cgroup are accepted.

    Returns:
        What is known. Any text is accepted; for an unknown path everything except `path` is None
        or empty.
    """
    return _identity(path)


@functools.lru_cache(maxsize=_CACHED_PATHS)
def _identity(path: str) -> CgroupIdentity:
    return _Walk(path).identity()


class _Walk:
    """One pass over a path, from the root to the innermost cgroup."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._text = "/".join(_components(path))
        self._found: dict[str, Any] = {}
        self._units: list[str] = []
        self._containers: list[str] = []
        self._manager: Manager = "system"
        self._at_top = True  # of the manager's tree: only slices came before
        self._new_tree = True  # no unit of this tree was seen yet

    def identity(self) -> CgroupIdentity:
        start = 0
        while start < len(self._text):
            start = self._step(start) + 1
        return CgroupIdentity(
            self._path,
            units=tuple(self._units),
            containers=tuple(self._containers),
            **self._found,
        )

    def _step(self, start: int) -> int:
        """Read what begins at an offset, and return the offset where it ends."""
        end = self._text.find("/", start)
        end = len(self._text) if end < 0 else end
        unit = _unit_name(self._text[start:end]) if self._at_top else None
        is_slice = unit is not None and unit.endswith(".slice")
        rule, match = self._rule(start)
        if unit:
            self._unit(unit)
        if not rule or not match:
            self._at_top = is_slice
            return end
        self._name(match.groupdict(), rule.runtime)
        if rule.opens:
            self._manager, self._at_top = rule.opens, True
            self._new_tree = rule.opens == "system"
        else:
            self._at_top = is_slice and match.end() == end
        return match.end()

    def _rule(self, start: int) -> tuple[Rule | None, re.Match[str] | None]:
        for pattern, rule in _compiled():
            if rule.at != "anywhere" and not self._at_top:
                continue
            if rule.at == "system" and self._manager == "user":
                continue
            if match := pattern.match(self._text, start):
                return rule, match
        return None, None

    def _unit(self, name: str) -> None:
        self._units.append(name)
        is_slice = name.endswith(".slice")
        if self._manager == "user":
            if not is_slice:
                self._found["user_unit"] = name
            return
        if self._new_tree:  # the unit and the slice of an outer systemd do not belong together
            self._found |= {"unit": None, "slice": None}
            self._new_tree = False
        self._found["slice" if is_slice else "unit"] = name

    def _name(self, groups: dict[str, str | None], runtime: str | None) -> None:
        named = {name: text for name, text in groups.items() if text is not None}
        for name, text in named.items():
            self._found[name] = _READERS.get(name, str)(text)
        if "pod" in named:  # the kubelet has no directory for this class
            self._found["qos"] = named.get("qos", "guaranteed")
        for kind in named.keys() & {"container", "machine"}:
            self._containers.append(self._found[kind])
            self._found["runtime"] = runtime


def _components(path: str) -> list[str]:
    # " (deleted)": kernel/cgroup/cgroup.c:proc_cgroup_show.
    parts = path.removesuffix(" (deleted)").split("/")
    return [part for part in parts if part not in ("", ".", "..")]


def _begins(here: list[str], wanted: list[str]) -> bool:
    return len(here) >= len(wanted) and all(map(fnmatchcase, here, wanted))


def _unit_name(component: str) -> str | None:
    # systemd: src/basic/cgroup-util.c:cg_unescape, for units that are called like a cgroup file.
    name = component.removeprefix("_")
    if not _unit_pattern().fullmatch(name) or ("@" in name and name.endswith(".slice")):
        return None
    return name


def _is_long_id(text: str) -> bool:
    return len(text) == 64 and set(text) <= set("0123456789abcdef")


def _uid(text: str) -> int | None:
    uid = int(text)
    return uid if uid < 2**32 - 1 else None


def unescape_unit(name: str) -> str:
    r"""Return the name of a unit with systemd's escapes decoded, for people to read.

    Only `\xNN` is decoded. A dash stays a dash: it stands for a slash only in names that were made
    from paths (systemd-escape(1)). Escapes that are not valid UTF-8 stay as they are.
    """
    return re.sub(r"(?:\\x[0-9a-f]{2})+", _decoded, name)


def _decoded(escapes: re.Match[str]) -> str:
    try:
        return bytes.fromhex(escapes[0].replace("\\x", "")).decode()
    except UnicodeDecodeError:
        return escapes[0]


#: Attributes that are not the text of the path as it is.
_READERS: dict[str, Callable[[str], object]] = {
    "uid": _uid,
    "slurm_job": int,
    "slurm_task": int,
    "machine": unescape_unit,
    "pod": lambda text: text.replace("_", "-"),
}
