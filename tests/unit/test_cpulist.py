"""CPU lists in the kernel's notation."""

from collections.abc import Iterable

import pytest

from taskstats import cpulist


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("0", [0]),
        ("0-3,8", [0, 1, 2, 3, 8]),
        ("8,0-1", [0, 1, 8]),
        ("1-1", [1]),
        ("0-9:2/4", [0, 1, 4, 5, 8, 9]),
        ("0-3:1/2,3", [0, 2, 3]),
        ("0, 2", [0, 2]),
    ],
)
def test_parse(text: str, cpus: list[int]) -> None:
    assert cpulist.parse(text) == cpus


@pytest.mark.parametrize(
    "text", ["", "a", "1-", "-1", "3-1", "0,,1", "0-3:", "0-3:2", "0-3:3/2", "0-3:0/2", "1.5", "²"]
)
def test_what_is_no_list_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="not a CPU list") as caught:
        cpulist.parse(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("asked", [None, "0-3", [3, 2, 1, 0, 0], range(4)])
def test_all_of_them(asked: str | Iterable[int] | None) -> None:
    assert cpulist.chosen(asked, "0-3") == [0, 1, 2, 3]


def test_cpus_that_do_not_exist_are_named() -> None:
    with pytest.raises(ValueError, match="no such CPU: 2, 5"):
        cpulist.chosen("0-2,5", "0-1,3")


def test_none_at_all() -> None:
    with pytest.raises(ValueError, match="no CPU given"):
        cpulist.chosen([], "0-1")
