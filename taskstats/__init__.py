"""Linux per-task accounting: query any task, hear every exit, never lose count."""

try:
    from taskstats import _native as _native
except ImportError as _error:
    raise ImportError(
        "taskstats is not built here: its compiled module is missing. Install it with "
        "`pip install .`, or `pip install -e .` to work on it"
    ) from _error

from typing import TYPE_CHECKING as _TYPE_CHECKING
from typing import Any as _Any

from taskstats.births import Birth, Births
from taskstats.cgroups import CgroupStats, cgroup_stats
from taskstats.client import Client
from taskstats.datagrams import decode
from taskstats.diagnosis import Check, Diagnosis, doctor
from taskstats.endpoint import KERNEL, Endpoint
from taskstats.errors import (
    AccessDenied,
    CostUnknown,
    FieldUnavailable,
    NoSuchTask,
    ProtocolError,
    TaskstatsError,
    Unavailable,
)
from taskstats.exit_stats import BufferStats, CpuStats, ExitStats, ProbeStats
from taskstats.exits import Batches, ExitListener
from taskstats.fields import FIELDS, Field
from taskstats.processes import Process, ProcessFold
from taskstats.records import Batch, Delay, Record
from taskstats.where import Where

if _TYPE_CHECKING:
    from taskstats.cost import Cost
    from taskstats.measuring import measure
    from taskstats.monitor import Finished, JobMonitor

__all__ = [
    "FIELDS",
    "KERNEL",
    "AccessDenied",
    "Batch",
    "Batches",
    "Birth",
    "Births",
    "BufferStats",
    "CgroupStats",
    "Check",
    "Client",
    "Cost",
    "CostUnknown",
    "CpuStats",
    "Delay",
    "Diagnosis",
    "Endpoint",
    "ExitListener",
    "ExitStats",
    "Field",
    "FieldUnavailable",
    "Finished",
    "JobMonitor",
    "NoSuchTask",
    "ProbeStats",
    "Process",
    "ProcessFold",
    "ProtocolError",
    "Record",
    "TaskstatsError",
    "Unavailable",
    "Where",
    "cgroup_stats",
    "decode",
    "doctor",
    "measure",
]

# Jobs take time to import, and many programs have none.
_LATER = {
    "Cost": "cost",
    "Finished": "monitor",
    "JobMonitor": "monitor",
    "measure": "measuring",
}


def __getattr__(name: str) -> _Any:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found = globals()[name] = getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
