"""Random histories of processes, of which is known what job each record belongs to.

`history` has the model of the kernel. `born` adds what a probe brings: births, exact starts, final
CPU time and cgroups.
"""

from support.histories.history import *  # noqa: F403
