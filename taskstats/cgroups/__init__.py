"""Cgroups: how many tasks of one run, sleep or wait."""

from taskstats.cgroups.counts import CgroupStats, cgroup_stats

__all__ = ["CgroupStats", "cgroup_stats"]
