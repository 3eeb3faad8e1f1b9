"""The kernel's side of taskstats in Python, for tests that need neither a kernel nor a privilege.

`EmulatedKernel` answers queries and tells of exits over a real netlink socket, so that a program
under test runs with the compiled shim as it is. Tasks, their figures and time are the test's. The
pytest fixture `taskstats_kernel` is one.
"""

from taskstats.emulator.hierarchy import ControlGroup
from taskstats.emulator.kernel import EmulatedKernel
from taskstats.emulator.options import Caller, Quirks, Teardown
from taskstats.emulator.tasks import Task

__all__ = ["Caller", "ControlGroup", "EmulatedKernel", "Quirks", "Task", "Teardown"]
