"""The judge of noise, with made-up samples: what it refuses and what it lets pass."""

from dataclasses import replace

import noise
import pytest

QUIET = noise.Sample(busy=0.005, stolen=0.002, stretch=1.009, work_ns=(515_000, 522_000))


def test_a_quiet_machine_is_measured_on() -> None:
    assert noise.complaints({"before": QUIET, "after": QUIET}) == []


@pytest.mark.parametrize(
    ("seen", "figure", "limit"),
    [
        (replace(QUIET, busy=0.10), "10.0%", "5%"),  # 5 ms in 50
        (replace(QUIET, busy=1.0), "100.0%", "5%"),
        (replace(QUIET, stolen=0.013), "1.3%", "1%"),
        (replace(QUIET, stretch=1.8), "80.0%", "5%"),
        (replace(QUIET, work_ns=(515_000, 580_000)), "12.6%", "10%"),  # a slower CPU
    ],
)
def test_a_noisy_one_is_refused_with_figures(seen: noise.Sample, figure: str, limit: str) -> None:
    (complaint,) = noise.complaints({"before": seen})
    assert figure in complaint
    assert f"limit {limit}" in complaint


def test_one_that_becomes_noisy_is_refused() -> None:
    (complaint,) = noise.complaints({"before": QUIET, "after": replace(QUIET, busy=0.5)})
    assert complaint.startswith("after: ")


def test_one_that_becomes_slower_is_refused() -> None:
    slower = replace(QUIET, work_ns=[ns * 1.09 for ns in QUIET.work_ns])
    assert noise.complaints({"before": slower}) == []
    assert len(noise.complaints({"before": QUIET, "after": slower})) == 1


def test_a_probe_sees_something_of_each_cpu() -> None:
    probe = noise.Probe()
    probe.look(seconds=0.02, turns=1)
    probe.look(seconds=0.02, turns=1)
    sample = probe.sample()
    assert all(ns > 0 for ns in sample.work_ns)
    assert sample.stretch > 0
    assert 0 <= sample.busy <= 1
    assert 0 <= sample.stolen <= 1
