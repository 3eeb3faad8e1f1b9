"""Linux per-task accounting: query any task, hear every exit, never lose count."""

try:
    from taskstats import _native as _native
except ImportError as _error:
    raise ImportError(
        "taskstats is not built here: its compiled module is missing. Install it with "
        "`pip install .`, or `pip install -e .` to work on it"
    ) from _error

from taskstats.births import Birth, Births
from taskstats.cgroups import CgroupStats, cgroup_stats
from taskstats.client import Client
from taskstats.datagrams import decode
from taskstats.diagnosis import Check, Diagnosis, doctor
from taskstats.endpoint import KERNEL, Endpoint
from taskstats.errors import (
    AccessDenied,
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
    "CpuStats",
    "Delay",
    "Diagnosis",
    "Endpoint",
    "ExitListener",
    "ExitStats",
    "Field",
    "FieldUnavailable",
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
]
