"""cgroup_identity on paths of real systems: tests/data/cgroups.tsv."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskstats.cgroups import CgroupIdentity, cgroup_identity, unescape_unit
from taskstats.cgroups.identity import RULES

DATA = Path(__file__).parents[1] / "data/cgroups.tsv"

POD = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{}.slice"
UID = "cfbe1789_8da4_4a1d_9fa1_f49a2be9eef5"
ID = "35c6b5574bc50507e0b8535bb826e39c4cc0b8dd587930b0947d86239eb0f0a9"
NODE = "c1146e7ccca9ab4436abd69923c07d097b37b762ed21cc3f24584c2f84e77c57"
IN_KIND = f"/system.slice/docker-{NODE}.scope{POD.format(UID)}/cri-containerd-{ID}.scope"


class Vector(NamedTuple):
    path: str
    seen_on: str
    attributes: dict[str, str]


def vectors() -> list[Vector]:
    found = []
    for line in DATA.read_text().splitlines():
        if not line.startswith("#"):
            path, seen_on, *rest = line.split("\t")
            attributes = dict(pair.split("=", 1) for text in rest for pair in text.split())
            found.append(Vector(path, seen_on, attributes))
    return found


def attributes(identity: CgroupIdentity) -> dict[str, str]:
    """Those that say one thing, as in the table."""
    values: dict[str, Any] = dataclasses.asdict(identity)
    for name in ("path", "units", "containers"):
        del values[name]
    return {name: str(value) for name, value in values.items() if value is not None}


# ---- the table -------------------------------------------------------------------------------


@pytest.mark.parametrize("vector", vectors(), ids=lambda v: v.seen_on)
def test_paths_of_real_systems(vector: Vector) -> None:
    identity = cgroup_identity(vector.path)
    assert identity.path == vector.path
    assert attributes(identity) == vector.attributes


def test_every_runtime_has_a_vector() -> None:
    seen = {vector.attributes.get("runtime") for vector in vectors()}
    assert {rule.runtime for rule in RULES} <= seen


def test_units_and_containers_are_listed_outermost_first() -> None:
    identity = cgroup_identity(IN_KIND)
    assert identity.containers == (NODE, ID)
    assert identity.units == (
        "system.slice",
        f"docker-{NODE}.scope",
        *POD.format(UID).strip("/").split("/"),
        f"cri-containerd-{ID}.scope",
    )


# ---- any text --------------------------------------------------------------------------------

COMPONENTS = sorted({part for vector in vectors() for part in vector.path.split("/")})


@settings(deadline=None)
@given(st.text() | st.lists(st.sampled_from(COMPONENTS)).map("/".join))
def test_any_text_has_an_identity(path: str) -> None:
    identity = cgroup_identity(path)
    assert all(unit in path for unit in identity.units)
    assert (identity.runtime is None) or identity.containers
    assert (identity.qos is None) or "kubepods" in path


# ---- filters ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("glob", "found"),
    [
        ("/", True),
        ("/system.slice", True),
        ("/system.slice/", True),
        ("/system.slice/docker-*", True),
        ("/*/docker-*.scope/kubepods.slice", True),
        ("kubepods-burstable.slice", True),
        ("kubepods.slice/*", True),
        (IN_KIND, True),
        ("/kubepods.slice", False),
        ("/system.slice/*.slice", False),
        ("/system", False),
        ("/system.slice*scope", False),
        ("", False),
    ],
)
def test_a_cgroup_is_found_by_a_glob(glob: str, found: bool) -> None:
    assert cgroup_identity(IN_KIND).in_cgroup(glob) is found


def test_a_removed_cgroup_is_found_by_its_path() -> None:
    assert cgroup_identity("/a/b (deleted)").in_cgroup("/a/b")


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("pipewire", True),
        ("pipewire.service", True),
        ("pipe*", True),
        ("user@*", True),
        ("user@1000", True),
        ("app.slice", True),
        ("wire", False),
        ("app", False),
        ("", False),
    ],
)
def test_a_unit_is_found_by_its_name(name: str, found: bool) -> None:
    path = "/user.slice/user-1000.slice/user@1000.service/app.slice/pipewire.service"
    assert cgroup_identity(path).in_unit(name) is found


@pytest.mark.parametrize(
    ("path", "name", "found"),
    [
        (IN_KIND, ID, True),
        (IN_KIND, ID[:12], True),
        (IN_KIND, NODE[:20], True),
        (IN_KIND, ID[:11], False),
        (IN_KIND, ID[1:], False),
        (IN_KIND, "", False),
        ("/lxc.payload.web-frontend-1", "web-frontend-1", True),
        ("/lxc.payload.web-frontend-1", "web-frontend", False),
        ("/machine.slice/machine-my\\x2dbox.scope/payload", "my-box", True),
        ("/system.slice/sshd.service", "sshd", False),
    ],
)
def test_a_container_is_found_by_its_id_or_name(path: str, name: str, found: bool) -> None:
    assert cgroup_identity(path).in_container(name) is found


@pytest.mark.parametrize(
    ("name", "readable"),
    [
        ("app-gnome-google\\x2dchrome-1.scope", "app-gnome-google-chrome-1.scope"),
        ("caf\\xc3\\xa9.service", "café.service"),
        ("bad\\xff.service", "bad\\xff.service"),
        ("home-user.mount", "home-user.mount"),
    ],
)
def test_escapes_of_units_are_decoded(name: str, readable: str) -> None:
    assert unescape_unit(name) == readable
