"""What a report says of results: every target, every loss, and nothing that they do not show."""

import re
from pathlib import Path

import pytest
from figures import Comparison, Measurement, Rows, Value
from report import Results, page, results
from report.quantities import number, ratio, scale
from report.terminal import table
from report.verdicts import losses, targets

SIDES = {"ours": [11.0, 10.0, 12.0], "floor": [10.0, 10.0, 10.0], "pyroute2": [500.0, 500.0, 600.0]}


def query(tasks: int, **of_ours: float) -> Comparison:
    return Comparison("queries", "a query", "ns", SIDES, at={"tasks": tasks}, targets=of_ours)


def made_up(*measurements: Measurement) -> Results:
    quiet = {
        "busy": 0.001,
        "busiest": 0.002,
        "stolen": 0.0,
        "stretch": 1.01,
        "work_ns": [500_000.0, 510_000.0],
    }
    facts = {"CPU": "abacus", "CPUs": "2", "virtual machine": "yes", "kernel": "6", "Python": "3"}
    rivals = {"pyroute2": {"version": "0", "less": "much", "more": "little"}}
    return Results("2000-01-01T00:00:00+00:00", 60, facts, rivals, {"before": quiet}, measurements)


# ---- verdicts --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("measured", "verdict"),
    [
        (query(1, floor=1.2), "met, 8.3% to spare"),
        (query(1, floor=1.1), "met"),
        (query(1, floor=1.0), "missed by 10.0%"),
        (query(1, pyroute2=1 / 25), "met, 50.0% to spare"),
        (Value("storm", "lost", "", [0, 0, 9], at_most=0), "met"),
        (Value("storm", "lost", "", [0, 1, 9], at_most=0), "missed"),
        (Value("memory", "growth", "KiB", [4096], at_most=8192), "met, 50.0% to spare"),
        (Value("reading", "rows", "rows/s", [1e6], at_least=2e6), "missed by 100.0%"),
        (Value("reading", "rows", "rows/s", [4e6], at_least=2e6), "met, 50.0% to spare"),
    ],
)
def test_a_target_is_met_or_missed_by_so_much(measured: Measurement, verdict: str) -> None:
    (target,) = targets([measured])
    assert target.verdict == verdict
    assert target.is_met == verdict.startswith("met")


def test_what_the_floor_misses_too_is_said() -> None:
    (target,) = targets([query(1, pyroute2=1 / 100)])
    assert target.verdict == "missed by 100.0%; the floor itself: 1/50"


def test_every_comparison_in_which_another_is_better_is_a_loss() -> None:
    slower = {
        "ours": [40.0],
        "ours, record by record": [20.0],
        "nobody": [10.0],
        "eager": [20.0],
        "floor, transposing": [10.0],
        "psutil": [90.0],
    }
    found = losses([Comparison("storm", "CPU", "ns", slower)])
    assert [(loss.side, loss.seen) for loss in found] == [
        ("eager", "2.00"),  # rivals first
        ("floor, transposing", "4.00"),
        ("ours, record by record", "2.00"),
    ]


def test_who_lost_less_of_the_exits_is_better() -> None:
    rows = [
        {"tool": "ours", "exits": 10, "lost": 5},
        {"tool": "eager", "exits": 10, "lost": 0},
        {"tool": "sockets", "exits": 20, "lost": 9},
        {"tool": "pyroute2", "exits": 8, "lost": 4},
        {"tool": "psutil", "exits": 4, "lost": 4},
    ]
    found = losses([Rows("overload", "stopped", rows)])
    assert [(loss.side, loss.seen) for loss in found] == [
        ("eager", "lost 5 of 10, it 0 of 10"),
        ("sockets", "lost 5 of 10, it 9 of 20"),
    ]


def test_a_table_in_which_nothing_is_lost_or_nobody_named_has_no_loss() -> None:
    nothing = [{"tool": name, "exits": 9, "lost": 0} for name in ("ours", "eager")]
    assert losses([Rows("overload", "slow", nothing), Rows("x", "y", [{"lost": 3}])]) == []


def test_a_side_that_nobody_described_is_refused() -> None:
    with pytest.raises(ValueError, match="'novelty' is not in TOOLS"):
        losses([Comparison("storm", "CPU", "ns", {"ours": [1.0], "novelty": [2.0]})])


def test_of_a_curve_the_worst_point_is_shown_and_how_many_there_are() -> None:
    worse = Comparison("queries", "a query", "ns", {"ours": [3.0], "floor": [1.0]}, {"tasks": 10})
    better = Comparison("queries", "a query", "ns", {"ours": [1.0], "floor": [2.0]}, {"tasks": 2})
    (loss,) = losses([query(1), worse, better])
    assert (loss.what, loss.seen, loss.worse, loss.points) == ("a query, tasks 10", "3.00", 2, 3)


# ---- the page --------------------------------------------------------------------------------


def test_missed_targets_stand_first() -> None:
    met = Value("storm", "kept", "", [0], at_most=0)
    text = page(made_up(met, Value("storm", "lost", "", [1], at_most=0)))
    assert "2 targets, 1 met, 1 missed" in text
    missed, _, kept = text.partition("| lost |  | 1 | at most 0 | **missed** |")
    assert kept.count("| kept |")
    assert not missed.count("| kept |")


def test_nothing_lost_is_said() -> None:
    better = Comparison("storm", "CPU", "ns", {"ours": [1.0], "eager": [2.0]}, {}, {"eager": 1})
    text = page(made_up(better))
    assert "1 target, 1 met, 0 missed" in text
    assert "Nowhere." in text.partition("## Where we lose")[2]


def test_points_of_a_curve_are_one_table_with_a_ratio_for_each_other_side() -> None:
    text = page(made_up(query(1), query(1000)))
    assert text.count("| ns | tasks | taskstats | C floor | pyroute2 |") == 1
    assert (
        "|  | 1,000 | 11 (10-12) | 10 (10-10)<br>**1.10 (1.00-1.20)** "
        "| 500 (500-600)<br>**1/50 (1/50-1/45)** |" in text
    )


def test_a_topic_that_nobody_described_is_there_too() -> None:
    rows = Rows("novelty", "what it is", [{"tool": "eager", "knew": "no"}, {"tool": "ours"}])
    text = page(made_up(rows))
    assert "## Novelty" in text
    assert "| eager C loop | no |" in text
    assert "| taskstats |  |" in text


def test_a_queue_is_told_in_units_of_bytes() -> None:
    text = page(made_up(Rows("overload", "stopped", [{"tool": "ours", "queue": 1 << 20}])))
    assert "| taskstats | 1 MiB |" in text


def test_results_are_read_as_they_were_written(tmp_path: Path) -> None:
    rows = Rows("overload", "losses", [{"tool": "ours", "lost": 3}])
    value = Value("storm", "rate", "exits/s", [123_456.0], at={"cpus": "0-1"}, at_least=1)
    before = made_up(query(10, floor=1.1), value, rows)
    results.write(before, tmp_path)
    after = results.read(tmp_path)
    assert after.measurements == [query(10, floor=1.1), *after.measurements[1:2], rows]
    assert after.measurements[1].values == [123_460.0]  # five digits
    assert page(after) == page(before).replace("123,456", "123,460")


# ---- quantities ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (7, "7"), (0.01234, "0.0123"), (1.5, "1.50"), (15.26, "15.3"), (1234.5, "1,234")],
)
def test_a_number_has_three_digits(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0.00"), (1.034, "1.03"), (0.5, "0.50"), (0.4, "1/2.5"), (0.02, "1/50"), (17.57, "17.6")],
)
def test_a_small_ratio_is_a_fraction(value: float, text: str) -> None:
    assert ratio(value) == text


def test_a_table_has_the_unit_of_its_middle() -> None:
    assert scale("ns", [700, 261_000]) == (1e3, "µs")
    assert scale("ns", [700, 2_000]) == (1e3, "µs")
    assert scale("ns", [0, 300]) == (1.0, "ns")
    assert scale("exits/s", [1e6]) == (1.0, "exits/s")


# ---- the terminal ----------------------------------------------------------------------------


def test_a_line_for_each_other_side_value_and_row() -> None:
    value = Value("storm", "lost", "", [0, 0, 9], at_most=0)
    rows = Rows("overload", "losses", [{"tool": "ours", "lost": 3}])
    _, *lines = table([query(10, floor=1.2), value, rows])
    assert [re.sub(" {2,}", " | ", line) for line in lines] == [
        "a query, tasks 10 | 11 ns | C floor 10 | 1.10 (1.00-1.20) | at most 1.20 | "
        "met, 8.3% to spare",
        "a query, tasks 10 | 11 ns | pyroute2 500 | 1/50 (1/50-1/45)",
        "lost | 0 (0-9) | at most 0 | met",
        "losses: tool taskstats, lost 3",
    ]
