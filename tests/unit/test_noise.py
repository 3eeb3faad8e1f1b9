"""The judge of noise, with made-up samples: what it refuses and what it lets pass."""

from collections import Counter
from dataclasses import replace

import noise
import pytest

QUIET = noise.Sample(
    busy=0.005, busiest=0.03, stolen=0.002, stretch=1.009, work_ns=(515_000, 522_000)
)


def test_a_quiet_machine_is_measured_on() -> None:
    assert noise.complaints({"before": QUIET, "after": QUIET}) == []


@pytest.mark.parametrize(
    ("seen", "figure", "limit"),
    [
        (replace(QUIET, busy=0.10, busiest=0.13), "10.0%", "5%"),  # 5 ms in 50
        (replace(QUIET, busy=1.0, busiest=1.0), "100.0%", "5%"),
        (replace(QUIET, busy=0.02, busiest=1.0), "100.0%", "40%"),  # one look in many
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


def test_a_probe_remembers_its_worst_look(monkeypatch: pytest.MonkeyPatch) -> None:
    quiet, loud = Counter(busy=1, idle=99), Counter(busy=100, idle=0)
    passed = iter([quiet, quiet, loud, quiet])
    now = Counter(busy=0, stolen=0, idle=0)

    def ticks(cpus: list[int]) -> list[Counter[str]]:
        """Before and after each look; time passes while it sleeps."""
        return [Counter(now) for _ in cpus]

    monkeypatch.setattr(noise, "_ticks", ticks)
    monkeypatch.setattr(noise.time, "sleep", lambda s: now.update(next(passed)) if s else None)
    monkeypatch.setattr(noise, "_SETTLING", 0)
    probe = noise.Probe()
    for _ in range(4):
        probe.look(seconds=1, turns=1)
    sample = probe.sample()
    assert (sample.busy, sample.busiest) == (103 / 400, 1.0)


def test_a_probe_sees_something_of_each_cpu() -> None:
    probe = noise.Probe()
    probe.look(seconds=0.1, turns=1)
    probe.look(seconds=0.1, turns=1)
    sample = probe.sample()
    assert all(ns > 0 for ns in sample.work_ns)
    assert sample.stretch > 0
    assert 0 <= sample.busy <= sample.busiest <= 1
    assert 0 <= sample.stolen <= 1
