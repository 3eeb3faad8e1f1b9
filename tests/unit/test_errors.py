"""The tree of errors: what each is, says, and keeps through pickle."""

import errno
import pickle

import pytest

from taskstats import (
    AccessDenied,
    FieldUnavailable,
    NoSuchTask,
    ProtocolError,
    TaskstatsError,
    Unavailable,
    errors,
)

MADE = {
    "access": errors.from_errno("listen", errno.EPERM, "clean"),
    "no task": errors.from_errno("query", errno.ESRCH, about="pid 7"),
    "no family": errors.from_errno("query", errno.ENOENT, "family"),
    "protocol": errors.from_reason("decode", errors.REASONS.index("length")),
    "field": errors.field_unavailable("irq_count", "the kernel sent 13"),
    "other": errors.from_errno("listen", errno.ENOMEM, "register"),
    "removed": errors.from_errno("cgroup", errno.ENOENT, "request"),
}


@pytest.mark.parametrize(
    ("name", "classes"),
    [
        ("access", (AccessDenied, PermissionError)),
        ("no task", (NoSuchTask, ProcessLookupError)),
        ("no family", (Unavailable,)),
        ("protocol", (ProtocolError,)),
        ("field", (FieldUnavailable, AttributeError)),
        ("other", (TaskstatsError,)),
        ("removed", (TaskstatsError,)),
    ],
)
def test_classes(name: str, classes: tuple[type, ...]) -> None:
    for one in (*classes, TaskstatsError):
        assert isinstance(MADE[name], one)


def test_says_operation_errno_and_mend() -> None:
    error = MADE["access"]
    assert (error.operation, error.errno) == ("listen", errno.EPERM)
    assert str(error).startswith("listen: CAP_NET_ADMIN")
    assert "[EPERM]. Run as root" in str(error)
    assert error.mend in str(error)


def test_an_errno_without_an_entry_says_where() -> None:
    assert str(MADE["other"]) == "listen: Cannot allocate memory (register) [ENOMEM]"


@pytest.mark.parametrize("name", MADE)
def test_pickle(name: str) -> None:
    error = MADE[name]
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)
    assert getattr(copy, "errno", None) == error.errno
