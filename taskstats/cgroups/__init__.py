"""Cgroups: how many tasks of one run, sleep or wait, and what the path of one says it is."""

from taskstats.cgroups.counts import CgroupStats, cgroup_stats
from taskstats.cgroups.identity import CgroupIdentity, cgroup_identity, unescape_unit

__all__ = ["CgroupIdentity", "CgroupStats", "cgroup_identity", "cgroup_stats", "unescape_unit"]
