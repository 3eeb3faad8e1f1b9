"""The columns of processes and records, for a terminal."""

from collections.abc import Sequence

from taskstats import host
from taskstats.cli import texts
from taskstats.cli.tables import Column
from taskstats.cli.texts import Row
from taskstats.fields import DELAYS

_LEAST_CGROUP = 16  # cells: room for the id of a container, or the name of most units


def column_of(name: str) -> Column:
    """A column for any key of a row."""
    if name == "cgroup":
        return _cgroup(name)
    unit = texts.UNITS.get(name, "")
    is_text = unit == "text"
    width = 15 if is_text else 19 if unit.endswith(("since epoch", "since boot")) else 8
    return _plain(name, name, max(width, len(name)), right=not is_text)


def of_processes(probed: bool) -> list[Column]:
    """The columns of processes that have ended.

    Args:
        probed: The listener has a probe.
    """
    pid = _pid_width()
    return [
        _time(),
        _plain("pid", "PID", pid),
        _plain("ppid", "PPID", pid, leave=2),
        _user("uid"),
        _plain("comm", "COMMAND", 15, right=False),
        Column("exit_code", "STATUS", _status, 9, right=False, style=_failed_style),
        _plain("elapsed_seconds", "ELAPSED", 7),
        Column("cpu_seconds", "CPU", _cpu, 7),
        _plain("peak_rss_bytes", "PEAK RSS", 8),
        Column("threads", "THR", _threads, 3, leave=1),
        *([_cgroup(leave=4)] if probed else []),
    ]


def of_records(probed: bool) -> list[Column]:
    """The columns of the kernel's own records of exits.

    Args:
        probed: The listener has a probe.
    """
    pid = _pid_width()
    return [
        _time(),
        _plain("id", "TID", pid),
        _plain("ac_tgid", "PID", pid, leave=1),
        _plain("ac_ppid", "PPID", pid, leave=3),
        _user("ac_uid"),
        Column("ac_comm", "COMMAND", _command, 15, right=False),
        Column("ac_exitcode", "STATUS", _task_status, 9, right=False, style=_failed_style),
        _plain("ac_etime", "ELAPSED", 7),
        Column("cpu_run_virtual_total", "CPU", _task_cpu, 7),
        _plain("hiwater_rss", "PEAK RSS", 8, leave=2),
        *([_cgroup(leave=4)] if probed else []),
    ]


def of_living(rows: Sequence[Row], whole: bool) -> list[Column]:
    """Those of tasks, or of whole processes, that live, with the delays that their kernel has."""
    delays = [name for name in DELAYS if any(f"{name}_delay_total" in row for row in rows)]
    return [
        *(_living_processes() if whole else _living_tasks()),
        *(
            _plain(f"{name}_delay_total", f"{name} delay".upper(), leave=10 + number)
            for number, name in enumerate(delays)
        ),
        *([_cgroup(leave=9)] if any("cgroup" in row for row in rows) else []),
    ]


def _living_tasks() -> list[Column]:
    return [
        _plain("id", "TID"),
        _plain("ac_tgid", "PID", leave=2),
        _plain("ac_ppid", "PPID", leave=3),
        _user("ac_uid"),
        _plain("ac_comm", "COMMAND", right=False),
        _plain("ac_etime", "ELAPSED"),
        _plain("cpu_run_virtual_total", "CPU"),
        _plain("hiwater_rss", "PEAK RSS"),
    ]


def _living_processes() -> list[Column]:
    return [
        _plain("pid", "PID"),
        _plain("ppid", "PPID", leave=3),
        _user("uid"),
        _plain("comm", "COMMAND", right=False),
        _plain("elapsed_seconds", "ELAPSED"),
        _plain("cpu_seconds", "CPU"),
        _plain("peak_rss_bytes", "PEAK RSS"),
        _plain("threads", "THR", leave=1),
    ]


# ---- single columns --------------------------------------------------------------------------


def _plain(name: str, header: str, width: int = 0, right: bool = True, leave: int = 0) -> Column:
    return Column(name, header, lambda row: texts.of(row, name), width, right, leave)


def _cgroup(header: str = "CGROUP", leave: int = 0) -> Column:
    """The path of a cgroup; empty for a group of tasks, each of which has its own row."""
    return Column(
        "cgroup",
        header,
        lambda row: "" if row.get("kind") == "group" else texts.of(row, "cgroup"),
        _LEAST_CGROUP,
        right=False,
        leave=leave,
        least=_LEAST_CGROUP,
        shorten=texts.short_cgroup,
    )


def _pid_width() -> int:
    return len(str(host.pid_max() - 1))


def _time() -> Column:
    return Column("received_ns", "TIME", lambda row: texts.clock(row["received_ns"]), 12, False)


def _user(name: str) -> Column:
    return Column(name, "USER", lambda row: texts.user(row[name]) if name in row else "", 8, False)


def _status(row: Row) -> str:
    return texts.status(row["exit_code"], row["exit_signal"], row["status_certain"])


def _task_status(row: Row) -> str:
    if "ac_exitcode" not in row:
        return texts.ABSENT
    word = row["ac_exitcode"]
    return texts.status(word >> 8 & 0xFF, word & 0x7F or None)


def _failed_style(row: Row) -> str:
    failed = row.get("exit_code", row.get("ac_exitcode", 0)) != 0
    return "red" if failed else ""


def _cpu(row: Row) -> str:
    return _final(texts.of(row, "cpu_seconds"), row)


def _task_cpu(row: Row) -> str:
    known = row.get("final_cpu_ns") is not None
    return _final(texts.of(row, "final_cpu_ns" if known else "cpu_run_virtual_total"), row)


def _final(cpu: str, row: Row) -> str:
    """The CPU time, with "+" behind it if there is a probe which has not seen the end."""
    is_final = row.get("final_cpu_ns", 0) is not None
    return cpu if is_final or cpu == texts.ABSENT else f"{cpu}+"


def _threads(row: Row) -> str:
    mark = {True: "", False: "+", None: "?"}[row["complete"]]
    return f"{row['threads']}{mark}"


def _command(row: Row) -> str:
    return texts.printable(row["ac_comm"]) if "ac_comm" in row else "(whole process)"
