"""A run of the benchmarks, without any: when it is refused, when it fails, when it publishes."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import noise
import pytest
import report
import run

QUIET = noise.Sample(busy=0, busiest=0, stolen=0, stretch=1.01, work_ns=(500_000, 500_000))
LOUD = noise.Sample(busy=1, busiest=1, stolen=0, stretch=1.01, work_ns=(500_000, 500_000))

Samples = list[noise.Sample]


@pytest.fixture
def samples(monkeypatch: pytest.MonkeyPatch) -> Samples:
    """What is seen of the machine: the first sample before, the second between and after."""
    seen = [QUIET, QUIET]

    class Probe:
        def look(self, seconds: float, turns: int) -> None:
            pass

        def sample(self) -> noise.Sample:
            return seen.pop(0) if len(seen) > 1 else seen[0]

    monkeypatch.setattr(noise, "Probe", Probe)
    return seen


@pytest.fixture(autouse=True)
def programs(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Those that are installed."""
    names = set(run.PROGRAMS)
    monkeypatch.setattr(run.shutil, "which", lambda name: name if name in names else None)
    return names


@pytest.fixture(autouse=True)
def empty_plots(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Those that would show nothing."""
    names: list[str] = []
    monkeypatch.setattr(run.plots, "empty", lambda _measured: names)
    return names


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[report.Results]]:
    found: list[report.Results] = []
    monkeypatch.setattr(report, "publish", lambda results, _directory: found.append(results))
    monkeypatch.setattr(run.machine, "machine", dict)
    monkeypatch.setattr(run.machine, "rivals", dict)
    return found


class Failed(Exception):
    pass


def a_run(
    *,
    directory: Path | None = Path("docs"),
    disabled: bool = False,
    noisy: bool = False,
    arguments: tuple[str, ...] = ("benchmarks",),
    files: set[Path] = run._FILES,
    deselected: int = 0,
    failed: int = 0,
    skipped: int = 0,
) -> run.Run:
    """One of a test a file."""
    option = SimpleNamespace(
        benchmark_disable=disabled, collectonly=False, noisy=noisy, report=directory
    )
    made = run.Run(SimpleNamespace(option=option, args=arguments))  # type: ignore[arg-type]
    items: list[Any] = [SimpleNamespace(path=path) for path in files]
    session: Any = SimpleNamespace(items=items, testscollected=len(items), Failed=Failed)
    session.testsfailed = 0
    if deselected:
        made.pytest_deselected(items[:deselected])
    loop = made.pytest_runtestloop(session)
    next(loop)
    for i in range(len(items)):
        passed = i >= failed + skipped
        made.pytest_runtest_logreport(SimpleNamespace(when="call", passed=passed))  # type: ignore[arg-type]
        made.pytest_runtest_logfinish()
    session.testsfailed = failed
    with pytest.raises(StopIteration):
        next(loop)
    return made


@pytest.mark.usefixtures("samples")
def test_a_complete_run_is_published(published: list[report.Results]) -> None:
    made = a_run()
    (results,) = published
    assert set(results.noise) == {"before", "between benchmarks", "after"}
    assert made.conclusion == ["published: docs/benchmarks.md"]


@pytest.mark.usefixtures("samples")
def test_without_the_option_nothing_is(published: list[report.Results]) -> None:
    assert a_run(directory=None).conclusion == []
    assert published == []


@pytest.mark.usefixtures("samples")
@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"disabled": True}, "nothing is timed"),
        ({"noisy": True}, "nothing is judged with --noisy"),
        ({"arguments": ("benchmarks/test_storm.py::test_storm",)}, "single tests were named"),
        ({"deselected": 2}, "2 tests are deselected"),
        ({"files": {*run._FILES} - {min(run._FILES)}}, min(run._FILES).name),
    ],
)
def test_what_cannot_be_complete_does_not_begin(
    how: dict[str, Any], why: str, published: list[report.Results]
) -> None:
    with pytest.raises(pytest.UsageError, match="for a complete run") as caught:
        a_run(**how)
    assert why in str(caught.value)
    assert a_run(directory=None, **how).conclusion == []
    assert published == []


@pytest.mark.usefixtures("samples")
@pytest.mark.parametrize("disabled", [True, False])
def test_without_its_programs_it_does_not_begin(programs: set[str], *, disabled: bool) -> None:
    programs.remove("valgrind")
    with pytest.raises(pytest.UsageError, match=r"not found: valgrind \(apt install valgrind\)"):
        a_run(directory=None, disabled=disabled)


@pytest.mark.usefixtures("samples")
@pytest.mark.parametrize("how", [{"failed": 1}, {"skipped": 1}])
def test_one_that_did_not_pass_is_not_complete(
    how: dict[str, Any], published: list[report.Results]
) -> None:
    with pytest.raises(Failed):
        a_run(**how)
    assert published == []


@pytest.mark.usefixtures("samples")
@pytest.mark.parametrize("how", [{}, {"directory": None}, {"directory": None, "disabled": True}])
def test_one_of_which_a_plot_shows_nothing_fails(
    how: dict[str, Any], empty_plots: list[str], published: list[report.Results]
) -> None:
    empty_plots.append("storm-cpu")
    with pytest.raises(Failed):
        a_run(**how)
    assert published == []
    assert a_run(directory=None, files=set()).conclusion == []  # nor could they


@pytest.mark.parametrize("directory", [None, Path("docs")])
def test_a_noisy_machine_is_refused(samples: Samples, directory: Path | None) -> None:
    samples[0] = LOUD
    with pytest.raises(pytest.UsageError, match="too noisy") as caught:
        a_run(directory=directory)
    assert "others used 100.0% of a CPU" in str(caught.value)


@pytest.mark.parametrize("directory", [None, Path("docs")])
def test_one_that_becomes_noisy_fails(
    samples: Samples, published: list[report.Results], directory: Path | None
) -> None:
    samples[1] = LOUD
    with pytest.raises(Failed):
        a_run(directory=directory)
    assert published == []


@pytest.mark.parametrize("how", [{"disabled": True}, {"noisy": True}])
def test_where_it_does_not_matter_nothing_is_judged(samples: Samples, how: dict[str, Any]) -> None:
    samples[:] = [LOUD, LOUD]
    assert a_run(directory=None, **how).conclusion == []
