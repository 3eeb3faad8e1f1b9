"""What `taskstats run` says: whose figures it believes, and how it puts them."""

import dataclasses
import json
import re
import signal

import pytest
from support.made_up_cost import TOTAL, S, cost, delay, process

from taskstats import launch
from taskstats.cli import report
from taskstats.cli.gnu_time import Values
from taskstats.cost import COST_KEYS, Cost
from taskstats.exit_stats import ProbeStats
from taskstats.jobs import LivingProcess


def text(one: Cost, width: int | None = None, *, with_tree: bool = False) -> str:
    return "\n".join(line.plain for line in report.lines(one, width, with_tree))


def test_before_its_exec_it_was_a_copy_of_us() -> None:
    one = cost()
    assert one.records_ns == S - S // 100
    assert one.commands()["make"]["cpu_ns"] == S - S // 100
    assert one.commands()["cc1"]["cpu_ns"] == S
    (root,) = one.tree()
    assert root.cpu_ns == 3 * (S // 3) - S // 100


@pytest.mark.parametrize("rounding", [-2000, 2000])
def test_what_was_not_added_up_since_its_exec_is_no_time(rounding: int) -> None:
    ns = S // 100 + rounding
    total = dataclasses.replace(TOTAL, cpu_ns=ns)
    processes = (dataclasses.replace(process(10, 1, "make"), cpu_ns=ns),)
    one = cost(total=total, commands={"make": total}, processes=processes)
    assert one.commands()["make"]["cpu_ns"] == 0
    row, *_, tree = text(one, with_tree=True).splitlines()[2:]
    assert row.split()[3:5] == ["-", "-"]
    assert tree.split()[:3] == ["make", "10", "-"]


def test_before_its_exec_it_waited_and_lived() -> None:
    sums = {**TOTAL.sums, "cpu_delay_total": 9000, "wpcopy_count": 300, "wpcopy_delay_total": 600}
    total = dataclasses.replace(TOTAL, sums=sums)
    processes = (dataclasses.replace(process(10, 1, "make"), elapsed_us=5_000_000),)
    waited = {"cpu": delay(1, 7000, 7000), "wpcopy": delay(280, 580, 9)}
    one = cost(total=total, commands={"make": total}, processes=processes, waited=waited)
    ended = dataclasses.replace(one.ended, before_runs=2, before_waited_ns=8000)
    one = dataclasses.replace(one, ended=ended)
    row = one.commands()["make"]
    assert (row["cpu_delay_total"], row["longest_seconds"]) == (1000, 2.0)
    assert (row["wpcopy_count"], row["wpcopy_delay_total"]) == (20, 20)
    assert (one.delays()["cpu"].count, one.delays()["cpu"].total_ns) == (0, 1000)
    assert (one.delays()["wpcopy"].count, one.delays()["wpcopy"].total_ns) == (20, 20)
    before = one.to_dict()["before_exec"]
    assert (before["cpu_count"], before["cpu_delay_total"]) == (2, 8000)
    assert (before["wpcopy_count"], before["wpcopy_delay_total"]) == (280, 580)
    assert before["system_ns"] == S // 100
    assert one.to_dict()["total"]["wpcopy_count"] == 300
    assert one.tree()[0].longest_us == 2_000_000


def test_without_its_own_record_nothing_is_taken_off() -> None:
    one = cost(processes=(process(11, 10, "cc1"),), waited={"wpcopy": delay(280, 580, 9)})
    assert one.records_ns == S
    assert one.before_ns > 0
    assert "wpcopy_count" not in one.to_dict()["before_exec"]


@pytest.mark.parametrize(
    ("wait4_ns", "cgroup_ns", "source", "cpu_ns", "teardown_ns"),
    [
        (2 * S, None, "wait4", 2 * S, 2 * S - 99 * S // 100),
        (99 * S // 100 - 6000, None, "wait4", 99 * S // 100 - 6000, -6000),  # rounding
        (99 * S // 100 - 6001, None, "records", 99 * S // 100, None),
        (0, 3 * S, "cgroup", 3 * S - S // 100, 2 * S),
        (0, S - 6000, "cgroup", 99 * S // 100 - 6000, -6000),
        (0, S // 2, "records", 99 * S // 100, None),  # it has moved to another
    ],
)
def test_who_is_believed(
    wait4_ns: int, cgroup_ns: int | None, source: str, cpu_ns: int, teardown_ns: int | None
) -> None:
    one = cost(wait4_ns, cgroup_ns)
    assert (one.source, one.cpu_ns, one.teardown_ns) == (source, cpu_ns, teardown_ns)


def test_where_the_records_win_it_is_told_who_knew_less() -> None:
    assert "wait4 reports 0.500 s" in text(cost(wait4_ns=S // 2))
    assert "its cgroup reports 0.490 s" in text(cost(cgroup_ns=S // 2))
    assert "wait4" not in text(cost(cgroup_ns=S // 2))


def test_by_a_cgroup_what_lives_on_is_in_it_and_no_teardown() -> None:
    living = LivingProcess(20, 1, "daemon", 1, S, 1000, None)
    assert cost(cgroup_ns=3 * S, living=(living,)).teardown_ns == S


def test_of_two_largest_sizes_the_larger_is_gnu_times() -> None:
    one = cost()
    values = Values.of(one)
    assert (values.max_rss_bytes, values.user_seconds, values.words) == (2 << 20, 1, one.words)
    ended = dataclasses.replace(one.ended, usage=launch.Usage(max_rss_bytes=5 << 20))
    assert Values.of(dataclasses.replace(one, ended=ended)).max_rss_bytes == 5 << 20


def test_the_line_of_totals() -> None:
    first = text(cost(wait4_ns=2 * S)).splitlines()[0]
    assert first == (
        "make -j4  exit 0  2.000 s wall  2.000 s CPU (100 %)  peak 2.00 MiB (make)  "
        "3 processes  lost 0"
    )


@pytest.mark.parametrize(
    ("status", "told"), [(0x300, "exit 3"), (int(signal.SIGKILL), "killed by KILL (9)")]
)
def test_how_it_ended(status: int, told: str) -> None:
    assert f"  {told}  " in text(cost(status=status))


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"lost": 7}, "incomplete: 7 records lost, the command's or"),
        ({"undecided": 7}, "7 records could not be assigned to a job, and may be the command's"),
        ({"evicted": 1}, "1 record given up for lack of room, and may be the command's"),
        ({"births_lost": True}, "the probe's ring lost births: descendants may be missing"),
        ({"settled": False}, "at the end some records were not yet assigned to a job"),
    ],
)
def test_what_is_missing_is_told(changed: dict[str, int], told: str) -> None:
    one = cost(**changed)
    assert not one.complete
    assert told in text(one)
    styles = [line.style for line in report.lines(one, None, with_tree=False)]
    assert "red" in styles
    assert one.to_dict()["complete"] is False


def test_a_loss_is_red_on_the_first_line() -> None:
    first = next(report.lines(cost(lost=7), None, with_tree=False))
    (span,) = [span for span in first.spans if span.style == "red"]
    assert first.plain[span.start : span.end] == "lost 7"


def test_the_table_adds_up() -> None:
    rows = text(cost(wait4_ns=4 * S)).splitlines()
    headings = "COMMAND PROCS FAILED CPU CPU% RUN-WAIT BLOCK-IO PEAK RSS LONGEST"
    assert " ".join(rows[1].split()) == headings
    assert rows[2].split()[:6] == ["cc1", "3", "1", "1.000", "s", "25.0"]
    assert "n/m" in rows[2]
    assert rows[4].startswith("(exit teardown) ")
    assert "3.010 s" in rows[4]


@pytest.mark.parametrize(
    ("ns", "told"),
    [
        (0, "0.000 s"),
        (1500, "1.50 us"),
        (-6000, "-6.00 us"),
        (9_990_000, "9.99 ms"),
        (10_000_000, "0.010 s"),
        (-12_345_678, "-0.012 s"),
        (90 * S, "90.000 s"),
    ],
)
def test_a_short_time_has_three_digits(ns: int, told: str) -> None:
    assert report.seconds(ns) == told


def test_a_command_of_several_lines_is_told_in_one() -> None:
    one = dataclasses.replace(cost(), words=("sh", "-c", "\n  true\n\tfalse\n"))
    assert text(one).startswith("sh -c '⏎  true⏎⇥false⏎'  exit 0  ")


def test_a_measured_delay_has_a_column_and_a_doubtful_one_a_mark() -> None:
    sums = {**TOTAL.sums, "blkio_count": 1, "blkio_delay_total": 5000}
    sums |= {"swapin_count": 1, "swapin_delay_total": 7000}
    total = dataclasses.replace(TOTAL, sums=sums, delay_exceeds_elapsed=1)
    told = text(cost(total=total, commands={"cc1": total}))
    assert "SWAPIN-WAIT" in told
    assert "5.00 us?" in told


#: Of the whole command, as struct version 15 has them.
DELAYS = dataclasses.replace(
    TOTAL,
    sums=(
        {"cpu_count": 4, "cpu_delay_total": 8000, "cpu_delay_max": 5000}
        | {"blkio_count": 2, "blkio_delay_total": 3_000_000, "blkio_delay_max": 2_000_000}
        | {"swapin_count": 0, "swapin_delay_total": 0, "swapin_delay_max": 0}
        | {"irq_count": 1, "irq_delay_total": 700}
    ),
)


def test_measured_delays_have_a_table_of_their_own() -> None:
    told = text(cost(total=DELAYS)).splitlines()
    at = next(at for at, line in enumerate(told) if line.startswith("DELAY "))
    assert told[at].split() == ["DELAY", "COUNT", "TOTAL", "AVERAGE", "MAX", "MEANING"]
    assert [" ".join(line.split()) for line in told[at + 1 :]] == [
        "RUN-WAIT 4 8.00 us 2.00 us 5.00 us waits for a CPU",
        "BLOCK-IO 2 3.00 ms 1.50 ms 2.00 ms waits for block I/O",
        "IRQ-WAIT 1 700 ns 700 ns - interruptions by IRQs",
    ]


def test_where_they_were_not_measured_there_is_none() -> None:
    sums = {"cpu_count": 4, "cpu_delay_total": 8000, "cpu_delay_max": 5000}
    total = dataclasses.replace(TOTAL, sums=sums)
    assert total.delays_measured is None
    assert "AVERAGE" not in text(cost(total=total))


def test_delays_that_cannot_be_true_are_in_doubt() -> None:
    told = text(cost(total=dataclasses.replace(DELAYS, delay_exceeds_elapsed=1)))
    assert re.search(r"\nRUN-WAIT +4 +8.00 us +2.00 us +5.00 us w", told)
    assert re.search(r"\nBLOCK-IO +2 +3.00 ms\? +1.50 ms\? +2.00 ms\? w", told)


def test_a_longest_wait_of_before_the_exec_is_not_the_commands() -> None:
    waited = {"wpcopy": delay(1, 5000, 5000), "blkio": delay(1, 1_000_000, 1_000_000)}
    one = cost(total=DELAYS, waited=waited)
    assert one.delays()["cpu"].max_ns == 5000
    assert one.delays()["blkio"].max_ns == 2_000_000
    ended = dataclasses.replace(one.ended, before_waited_ns=6000)
    assert dataclasses.replace(one, ended=ended).delays()["cpu"].max_ns is None


def test_ends_that_the_probe_lost_are_reported() -> None:
    probe = ProbeStats(
        settled=1,
        unsettled=2,
        waiting=0,
        ends_lost=3,
        births_lost=0,
        changes_lost=0,
        damaged=False,
        ring_bytes=4096,
    )
    one = dataclasses.replace(cost(), probe=probe)
    assert "lost 3 ends of tasks" in text(one)
    assert one.to_dict()["probe"]["ends_lost"] == 3
    assert cost().to_dict()["probe"] is None


def test_on_a_narrow_terminal_delays_go_without_their_meaning() -> None:
    told = text(cost(total=DELAYS), 50)
    assert "AVERAGE" in told
    assert "MEANING" not in told


def test_the_tree_has_chains_on_one_line() -> None:
    processes = (
        *(process(10, 1, "make"), process(11, 10, "gcc"), process(12, 11, "collect2")),
        *(process(13, 12, "ld"), process(14, 10, "sh"), process(15, 10, "sh")),
    )
    tree = text(cost(processes=processes, forgotten=2), with_tree=True).splitlines()[-4:]
    assert tree[0].split() == ["make", "10", "1.990", "s", "1.00", "ms"]
    assert tree[1].startswith("├─ gcc ─ collect2 ─ ld  1.000 s")
    assert tree[2].split() == ["└─", "sh", "x2", "0.667", "s", "max", "1.00", "ms"]
    assert tree[3] == "2 more processes are not in the tree"


def test_a_deep_tree_and_a_long_chain_are_cut_with_a_mark() -> None:
    chain = [process(10 + n, 9 + n, f"p{n}") for n in range(100)]
    tree = text(cost(processes=tuple(chain)), with_tree=True).splitlines()[-1]
    assert tree.startswith("p0 10 ─ p1 ─ … 96 more … ─ p98 ─ p99  ")
    branches = [process(1000 + n, 10 + n, "leaf") for n in range(100)]
    lines = text(cost(processes=(*chain, *branches)), with_tree=True).splitlines()
    assert lines[-1].lstrip("│ ").startswith(("├─ …", "└─ …", "├─ leaf", "└─ leaf"))
    assert max(map(len, lines)) < 220
    assert any("and what is below" in line for line in lines)


def test_what_lives_on_and_may_be_its_is_told_of() -> None:
    assert "2 more still running may be its orphans" in text(cost(unclear=2))


def test_a_time_that_was_not_added_up_is_no_zero() -> None:
    total = dataclasses.replace(TOTAL, cpu_ns=0)
    row = text(cost(commands={"cc1": total})).splitlines()[2]
    assert row.split()[3:5] == ["-", "-"]


def test_with_final_figures_nothing_is_left_to_teardown() -> None:
    settled = dataclasses.replace(TOTAL, unsettled=0)
    wait4 = S - S // 100  # without what was before the exec
    one = cost(wait4_ns=wait4 + 4000, total=settled)
    assert "teardown" not in text(one)
    assert one.to_dict()["unsettled"] == 0
    rest = text(cost(wait4_ns=2 * S, total=settled)).splitlines()[-1]
    assert rest.startswith("(exit teardown)")
    assert rest.endswith("in no record")
    partly = cost(wait4_ns=wait4, total=dataclasses.replace(TOTAL, unsettled=1))
    assert "of 1 thread without a final figure" in text(partly)


def test_on_a_narrow_terminal_lines_fit() -> None:
    for width in (40, 60, 80):
        table = text(cost(wait4_ns=2 * S), width).splitlines()[1:]
        assert max(map(len, table)) <= max(width, 60)


def test_names_cannot_write_on_the_terminal() -> None:
    told = text(cost(commands={"\x1b[2J": TOTAL}, processes=(process(11, 1, "\x1b[2J"),)))
    assert "\x1b" not in told


def test_what_lives_on_is_listed() -> None:
    living = LivingProcess(20, 1, "daemon", 1, S, 1000, 1 << 20)
    told = text(cost(living=(living,)))
    assert "1 process still running, not in the sums above:" in told
    by_cgroup = text(cost(cgroup_ns=3 * S, living=(living,)))
    assert "1 process still running, in the CPU of the first line alone:" in by_cgroup
    assert "  20 daemon  1.000 s CPU  peak 1.00 MiB  for 1.00 ms" in told


def test_for_programs_it_is_json() -> None:
    made = json.loads(json.dumps(cost(wait4_ns=2 * S, status=0x100).to_dict()))
    assert (made["command"], made["exit_code"], made["exit_signal"]) == (["make", "-j4"], 1, None)
    assert (made["cpu_source"], made["cpu_seconds"], made["teardown_seconds"]) == ("wait4", 2, 1.01)
    assert [one["comm"] for one in made["commands"]] == ["make", "cc1"]
    assert made["total"]["statuses"] == {"0": 2, "1": 1}
    assert [(one["comm"], one["count"], one["parent"]) for one in made["tree"]] == [
        ("make", 1, None),
        ("cc1", 2, 0),
    ]


def test_every_key_is_described() -> None:
    assert list(cost().to_dict()) == list(COST_KEYS)
    assert all(meaning for _, meaning in COST_KEYS.values())
