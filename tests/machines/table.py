"""The kernels: what each is, where its package comes from, and what it cannot show."""

from dataclasses import dataclass
from typing import Literal

Way = Literal["uml", "qemu", "cross"]


@dataclass(frozen=True)
class Machine:
    """A kernel to run tests on, and the machine that it thinks it has.

    Attributes:
        way: How it is booted; "cross" boots nothing, and runs C tests of another architecture.
        package: What has the kernel; of those that a meta package names, the one that has it.
        suite: Debian's suite with that package; None for what is installed here.
        version: The version of `struct taskstats` that it must have; None where none is asked.
        lacks: What its tests may skip for, in the words of support/requirements.py.
        scale: How much of their work the storms do. Emulated CPUs are slow.
        limit: Seconds after which it hangs.
    """

    name: str
    way: Way
    package: str
    suite: str | None = None
    version: int | None = None
    lacks: frozenset[str] = frozenset()
    scale: float = 1
    limit: float = 900


#: User-Mode Linux has one CPU, whatever the machine has; Debian's counts no CPU time in version 1.
UML = frozenset(
    {
        *("two CPUs", "CPU hotplug", "a cgroup that counts CPU time"),
        *("waits for copies of write-protected pages", "a scheduler's clock finer than ticks"),
        "BPF",
    }
)

#: What came after 5.10.
OLD = frozenset({"kernel.task_delayacct", "struct version 12", "other network namespaces"})

CLOUD = "linux-image-cloud-amd64"

MACHINES = (
    Machine("uml-6.1", "uml", "user-mode-linux", None, 13, UML, 0.05),
    Machine("uml-5.10", "uml", "user-mode-linux", "bullseye", 10, UML | OLD, 0.05),
    Machine("qemu-6.12", "qemu", CLOUD, "bookworm-backports", 14, scale=0.02, limit=1800),
    Machine("qemu-7.3", "qemu", CLOUD, "trixie-backports", 17, scale=0.02, limit=1800),
    Machine("s390x", "cross", "gcc-s390x-linux-gnu"),
)
