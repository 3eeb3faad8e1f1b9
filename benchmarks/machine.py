"""What a run was made on: hardware, kernel, versions, and the commit."""

import os
import platform
import re
import subprocess
from importlib import import_module, metadata
from pathlib import Path

#: Files in rivals/, as results name their sides. (Of ours there is only a version to tell.)
RIVALS = ("pyroute2", "sockets", "psutil", "eager", "time", "perf", "strace")

_LIBRARIES = ("linux-taskstats", "cffi", "numpy", "pyarrow", "pytest", "pytest-benchmark")

_UNTOLD = "not told"
_ROOT = Path(__file__).parents[1]
_GOVERNOR = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
_CLOCK = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")


def machine() -> dict[str, str]:
    """What figures depend on; nothing that names the host."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "CPU": _cpu_model(cpuinfo),
        "architecture": platform.machine(),
        "CPUs": f"{os.cpu_count()}",
        "memory": f"{memory / 2**30:.1f} GiB",
        "virtual machine": "yes"
        if re.search(r"^flags.*\bhypervisor\b", cpuinfo, re.M)
        else _UNTOLD,
        "kernel": platform.release(),
        "kernel build": platform.version(),
        "task_delayacct": _text(Path("/proc/sys/kernel/task_delayacct")),
        "clock source": _text(_CLOCK),
        "CPU governor": _text(_GOVERNOR),
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "C compiler": _first_line("cc", "--version"),
        "commit": _commit(),
        **{name: metadata.version(name) for name in _LIBRARIES},
    }


def rivals() -> dict[str, dict[str, str]]:
    """Of each that is measured: its version, and what it does less and more."""
    modules = {name: import_module(f"rivals.{name}") for name in RIVALS}
    return {
        name: {"version": module.version(), "less": module.LESS, "more": module.MORE}
        for name, module in modules.items()
    }


def _commit() -> str:
    """That of the tree, and whether something was changed since."""
    git = ("git", "-c", "safe.directory=*", "-C", _ROOT)  # sudo: the tree may be a user's
    head = _first_line(*git, "rev-parse", "HEAD")
    changes = _first_line(*git, "status", "--porcelain")
    return f"{head}, with changes" if changes else head


def _cpu_model(cpuinfo: str) -> str:
    found = re.search(r"^model name\s*: (.*)", cpuinfo, re.M)
    return found[1] if found else platform.machine()


def _text(path: Path) -> str:
    return path.read_text().strip() if path.exists() else _UNTOLD


def _first_line(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.partition("\n")[0] if done.returncode == 0 else _UNTOLD
