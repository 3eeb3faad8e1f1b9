"""A command run by `taskstats.launch`, and what becomes of this program's rights."""

import ctypes
import os
import pwd
import subprocess
from pathlib import Path

import pytest
from support import child, launched
from support.requirements import skip

from taskstats import privileges

NOBODY = pwd.getpwuid(child.NOBODY)
RIGHTS = ["/bin/grep", "-E", "^(Uid|Gid|Groups|Cap|NoNewPrivs)", "/proc/self/status"]


@pytest.fixture(autouse=True)
def _root() -> None:
    if os.geteuid() != 0:
        skip("needs root")


def rights(words: list[str]) -> dict[str, list[str]]:
    shown = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True, cwd="/").stdout
    return {
        name: value.split()
        for name, _, value in (line.partition(":") for line in shown.splitlines())
        if name != "out "
    }


def test_root_has_its_usual_capabilities() -> None:
    assert rights(launched.words(*RIGHTS)) == rights(RIGHTS)


def test_what_is_ours_is_not_the_command_s() -> None:
    setpriv = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    ambient = ["--inh-caps=+net_admin", "--ambient-caps=+net_admin"]
    made = rights([*setpriv, *ambient, *launched.words(*RIGHTS)])
    assert made == rights([*setpriv, *RIGHTS])
    assert {int(made[f"Cap{one}"][0], 16) for one in ("Eff", "Prm", "Inh", "Amb")} == {0}
    assert int(made["CapBnd"][0], 16) > 0


def test_a_user_has_its_ids_and_environment() -> None:
    made = rights(launched.words(*RIGHTS, user="nobody"))
    assert made == rights(
        ["setpriv", "--reuid=nobody", "--regid=nogroup", "--init-groups", *RIGHTS]
    )
    words = launched.words("/usr/bin/env", user="nobody")
    given = {"PATH": os.environ["PATH"], "USER": "root", "OTHER": "kept"}
    shown = subprocess.check_output(words, env=given, text=True, cwd="/").splitlines()
    assert set(shown) - {"out "} == {
        f"PATH={given['PATH']}",
        f"HOME={NOBODY.pw_dir}",
        f"SHELL={NOBODY.pw_shell}",
        "USER=nobody",
        "LOGNAME=nobody",
        "OTHER=kept",
    }


@pytest.mark.parametrize(("user", "has_it"), [("nobody", False), ("root", True), ("", True)])
def test_another_user_does_not_get_our_session_keyring(user: str, has_it: bool) -> None:
    if not Path("/proc/keys").exists():
        skip("the kernel has no keys, or does not list them")
    name = ctypes.create_string_buffer(b"taskstats-session")

    def join() -> None:
        joined = privileges._keyctl(1, ctypes.addressof(name))
        assert joined >= 0

    words = launched.words("/bin/cat", "/proc/keys", user=user)
    shown = subprocess.check_output(words, text=True, cwd="/", preexec_fn=join)
    assert ("taskstats-session" in shown) is has_it


def test_a_user_that_we_may_not_be() -> None:
    words = launched.words("true", user="root")
    made = subprocess.run(
        ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", *words],
        capture_output=True, text=True, cwd="/",
    )  # fmt: skip
    assert made.returncode == 126
    assert made.stderr == "setgroups to root: Operation not permitted\n"


def test_a_setuid_program_is_what_it_is(tmp_path: Path) -> None:
    copy = tmp_path / "grep"
    copy.write_bytes(Path("/bin/grep").read_bytes())
    copy.chmod(0o4755)
    for directory in (tmp_path, *tmp_path.parents):
        if directory.stat().st_mode & 0o077 == 0:
            directory.chmod(0o711)
    setpriv = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
    made = rights([*setpriv, *launched.words(str(copy), *RIGHTS[1:])])
    assert made["Uid"] == [str(child.NOBODY), "0", "0", "0"]
    assert made["NoNewPrivs"] == ["0"]
