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

if _TYPE_CHECKING:
    from taskstats.births import Birth, Births
    from taskstats.cgroups import CgroupStats, cgroup_stats
    from taskstats.client import Client
    from taskstats.cost import Cost
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
    from taskstats.measuring import measure
    from taskstats.monitor import Finished, JobMonitor
    from taskstats.processes import Process, ProcessFold
    from taskstats.records import Batch, Delay, Record
    from taskstats.where import Where

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

#: The module of each public name. It is imported when the name is first used: all of them together
#: take longer to import than most programs need to do their work.
_MODULES = {
    "FIELDS": "fields",
    "KERNEL": "endpoint",
    "AccessDenied": "errors",
    "Batch": "records",
    "Batches": "exits",
    "Birth": "births",
    "Births": "births",
    "BufferStats": "exit_stats",
    "CgroupStats": "cgroups",
    "Check": "diagnosis",
    "Client": "client",
    "Cost": "cost",
    "CostUnknown": "errors",
    "CpuStats": "exit_stats",
    "Delay": "records",
    "Diagnosis": "diagnosis",
    "Endpoint": "endpoint",
    "ExitListener": "exits",
    "ExitStats": "exit_stats",
    "Field": "fields",
    "FieldUnavailable": "errors",
    "Finished": "monitor",
    "JobMonitor": "monitor",
    "NoSuchTask": "errors",
    "ProbeStats": "exit_stats",
    "Process": "processes",
    "ProcessFold": "processes",
    "ProtocolError": "errors",
    "Record": "records",
    "TaskstatsError": "errors",
    "Unavailable": "errors",
    "Where": "where",
    "cgroup_stats": "cgroups",
    "decode": "datagrams",
    "doctor": "diagnosis",
    "measure": "measuring",
}


def __getattr__(name: str) -> _Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    found = globals()[name] = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
