"""Rights that a process gives up: what the kernel may refuse."""

import ctypes
import errno

import pytest

from taskstats import privileges


def refuse(monkeypatch: pytest.MonkeyPatch, joining: int, asking: int) -> None:
    """Have both operations on keys fail with these; 0 is success."""

    def keyctl(operation: int, _argument: int = 0) -> int:
        code = joining if operation == privileges._KEYCTL_JOIN_SESSION_KEYRING else asking
        ctypes.set_errno(code)
        return -1 if code else 1

    monkeypatch.setattr(privileges, "_keyctl", keyctl)


@pytest.mark.parametrize(
    ("joining", "asking"),
    [
        (0, 0),
        (errno.ENOSYS, errno.ENOSYS),
        (errno.EOPNOTSUPP, 0),
        (errno.EPERM, errno.EPERM),  # a seccomp filter, which the command has as well
    ],
)
def test_no_keys_no_keyring(monkeypatch: pytest.MonkeyPatch, joining: int, asking: int) -> None:
    refuse(monkeypatch, joining, asking)
    privileges.leave_session_keyring()


@pytest.mark.parametrize("code", [errno.EPERM, errno.EDQUOT])
def test_a_keyring_that_stays_is_an_error(monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    refuse(monkeypatch, code, 0)
    with pytest.raises(OSError, match="keyctl") as caught:
        privileges.leave_session_keyring()
    assert caught.value.errno == code


def test_an_unknown_machine_has_no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(privileges, "_KEYCTL", {})
    privileges.leave_session_keyring()
