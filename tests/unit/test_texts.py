"""Figures as people read them."""

import os
import pwd
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from taskstats.cli import texts

TASK = {"kind": "task", "ac_etime": 5, "delay_exceeds_elapsed": True}
PROCESS = {
    "kind": "process",
    "elapsed_seconds": 5e-6,
    "threads": 1,
    "complete": True,
    "delay_exceeds_elapsed": True,
}


@pytest.mark.parametrize(
    ("row", "text"),
    [
        # The elapsed time is rounded down to a microsecond.
        ({**TASK, "blkio_delay_total": 6001}, "6.00 us?"),
        ({**TASK, "blkio_delay_total": 6000}, "6.00 us"),
        ({**TASK, "blkio_delay_total": 6001, "delay_exceeds_elapsed": False}, "6.00 us"),
        ({**TASK, "blkio_delay_total": None}, "-"),
        ({**PROCESS, "blkio_delay_total": 6001}, "6.00 us?"),
        ({**PROCESS, "blkio_delay_total": 6000}, "6.00 us"),
        ({**PROCESS, "blkio_delay_total": 1000, "complete": False}, "1.00 us?"),
        ({**PROCESS, "blkio_delay_total": 1000, "complete": None}, "1.00 us?"),
        # Which of its threads it was cannot be told.
        ({**PROCESS, "blkio_delay_total": 1000, "threads": 2}, "1.00 us?"),
        ({**PROCESS, "blkio_delay_total": 1000, "threads": None}, "1.00 us?"),
        ({**PROCESS, "blkio_delay_total": 0, "threads": 2}, "0 ns"),
    ],
)
def test_a_delay_longer_than_its_task_has_lived_is_in_doubt(row: texts.Row, text: str) -> None:
    assert texts.of({"delays_measured": True, **row}, "blkio_delay_total") == text


def test_control_characters_are_escaped_but_for_newlines_in_lines() -> None:
    text = "a\x1b[31m\nb\r\udcff\u202e"
    assert texts.printable(text) == "a\\x1b[31m\\x0ab\\x0d\\xff\\x202e"
    assert texts.printable_lines(text) == "a\\x1b[31m\nb\\x0d\\xff\\x202e"


def test_a_users_name_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = pwd.struct_passwd(("a\x1b", "x", 4_000_000_002, 0, "", "/", ""))
    monkeypatch.setattr(pwd, "getpwuid", lambda _uid: entry)
    assert texts.user(4_000_000_002) == "a\\x1b"


def test_a_moment_that_no_calendar_has() -> None:
    assert texts.of({"ac_btime64": 10**18}, "ac_btime64") == "1000000000000000000 s?"
    assert len(texts.of({"ac_btime64": 1_700_000_000}, "ac_btime64")) == 19


NS = {"ns": 1, "us": 1e3, "ms": 1e6, "s": 1e9}


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (0, "0 ns"),
        (999, "999 ns"),
        (999.6, "1.00 us"),
        (1_000, "1.00 us"),
        (12_345, "12.3 us"),
        (999_499, "999 us"),
        (999_500, "1.00 ms"),
        (143_100_000, "143 ms"),
        (1_200_000_000, "1.20 s"),
        (99_940_000_000, "99.9 s"),
        (99_950_000_000, "1m 40s"),
        (3_599_400_000_000, "59m 59s"),
        (3_600_000_000_000, "1h 00m"),
        (86_400_000_000_000, "1d 00h"),
        (100 * 86_400_000_000_000, "100d 00h"),
    ],
)
def test_a_time(ns: float, text: str) -> None:
    assert texts.duration(ns) == text


@given(st.floats(1, 99.9e9))
def test_a_time_below_100_seconds_is_true_to_three_digits(ns: float) -> None:
    number, unit = texts.duration(ns).split()
    assert float(number) * NS[unit] == pytest.approx(ns, rel=0.0051, abs=0.51)


@given(st.floats(0, 99 * 86_400e9))
def test_a_time_takes_seven_characters(ns: float) -> None:
    assert len(texts.duration(ns)) <= 7


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (31_352_422, "29.9 MiB"),
        (1023.7 * 1024, "1.00 MiB"),
        (3 << 40, "3.00 TiB"),
        (5 << 50, "5.00 PiB"),
    ],
)
def test_a_size(count: float, text: str) -> None:
    assert texts.size(count) == text


@given(st.integers(0, 1 << 50))
def test_a_size_takes_eight_characters(count: int) -> None:
    assert len(texts.size(count)) <= 8


@pytest.mark.parametrize(
    ("code", "number", "certain", "text"),
    [
        (0, None, True, "0"),
        (1, None, True, "FAIL 1"),
        (255, None, False, "FAIL 255?"),
        (None, 9, True, "KILL (9)"),
        (None, signal.SIGRTMIN + 1, True, f"SIG ({signal.SIGRTMIN + 1})"),
        (None, 127, True, "SIG (127)"),
        (None, None, True, "-"),
    ],
)
def test_a_status(code: int | None, number: int | None, certain: bool, text: str) -> None:
    assert texts.status(code, number, certain) == text


def test_a_user_is_a_name_or_else_a_number() -> None:
    assert texts.user(os.getuid()) == pwd.getpwuid(os.getuid()).pw_name
    assert texts.user(4_000_000_001) == "4000000001"
    assert texts.user(2**32 - 1) == "4294967295"


@pytest.mark.parametrize(
    ("row", "name", "text"),
    [
        ({"cpu_delay_total": 1_500}, "cpu_delay_total", "1.50 us"),
        ({"ac_utime": 4_000}, "ac_utime", "4.00 ms"),
        ({"elapsed_seconds": 0.25}, "elapsed_seconds", "250 ms"),
        ({"hiwater_rss": 2048}, "hiwater_rss", "2.00 MiB"),
        ({"read_bytes": 4096}, "read_bytes", "4.00 KiB"),
        ({"ac_minflt": 17}, "ac_minflt", "17"),
        ({"complete": True}, "complete", "yes"),
        ({"complete": False}, "complete", "no"),
        ({"comm": "a\nb"}, "comm", "a\\x0ab"),
        ({"exit_code": None}, "exit_code", "-"),
        ({}, "irq_count", "-"),
        ({"hiwater_rss": 0}, "hiwater_rss", "-"),
        ({"cpu_run_virtual_total": 0}, "cpu_run_virtual_total", "-"),
        ({"irq_count": 0, "delays_measured": None}, "irq_count", "n/m"),
        ({"irq_count": None, "delays_measured": None}, "irq_count", "n/m"),
        ({"irq_count": 0, "delays_measured": True}, "irq_count", "0"),
        ({"irq_count": 2, "delays_measured": None}, "irq_count", "2"),
        ({"cpu_count": 0, "delays_measured": None}, "cpu_count", "0"),
        ({"blkio_delay_max_ts": 0, "delays_measured": True}, "blkio_delay_max_ts", "-"),
    ],
)
def test_any_key_of_a_row(row: texts.Row, name: str, text: str) -> None:
    assert texts.of(row, name) == text


def test_moments_are_local(monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setenv("TZ", "UTC-2")
    time.tzset()
    try:
        assert texts.of({"ac_btime64": 1_700_000_000}, "ac_btime64") == "2023-11-15 00:13:20"
        assert texts.clock(1_700_000_000_123_456_789) == "00:13:20.123"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_what_is_no_text_is_told_by_its_bytes() -> None:
    assert texts.printable(os.fsdecode(b"a\xff\x1b\xc3\xa9")) == "a\\xff\\x1bé"


# ---- cgroups ---------------------------------------------------------------------------------

ID = "3f2a9c1b0d4e5f60718293a4b5c6d7e8f90123456789abcdef0123456789abcd"
DOCKER = f"/system.slice/docker-{ID}.scope"
APP = "/user.slice/user-1000.slice/user@1000.service/app.slice/editor.service/worker"


@pytest.mark.parametrize(
    ("path", "width", "text"),
    [
        ("/", 1, "/"),
        ("/a/b/c", 6, "/a/b/c"),
        ("/a/b/c", 5, "…/b/c"),
        ("/a/b/c", 3, "…/c"),
        ("/jobs/build-of-everything", 12, "build-…thing"),
        (DOCKER, 99, DOCKER),
        (DOCKER, 40, "/system.slice/docker-3f2a9c1b0d4e….scope"),
        (DOCKER, 39, "…/docker-3f2a9c1b0d4e….scope"),
        (DOCKER, 16, "3f2a9c1b0d4e"),
        (f"{DOCKER}/system.slice/cron.service", 40, "3f2a9c1b0d4e"),
        (f"/docker/{ID}/init.scope", 30, "…/3f2a9c1b0d4e…/init.scope"),
        (APP, 30, "…/editor.service/worker"),
        (APP, 16, "editor.service"),
    ],
)
def test_a_short_cgroup_keeps_its_name(path: str, width: int, text: str) -> None:
    assert texts.short_cgroup(path, width) == text


@given(st.lists(st.text(max_size=9)), st.integers(1, 30))
def test_a_short_cgroup_fits_any_width(names: list[str], width: int) -> None:
    path = texts.printable("/" + "/".join(names))
    assert cell_len(texts.short_cgroup(path, width)) <= width
