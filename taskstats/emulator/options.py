"""What can be chosen of the emulated kernel: its struct, what it does otherwise, who asks it, and
what a task does after its record.
"""

from dataclasses import dataclass

from taskstats import presence

#: The struct versions that can be played.
OLDEST_VERSION, NEWEST_VERSION = 4, 17

_ANY_SIZE = 1 << 16


@dataclass(frozen=True, slots=True)
class Layout:
    """The struct that the kernel sends.

    Attributes:
        version: 4 to 17.
        size: Its bytes; None for what that version has. Version 14 with 496 or 560 bytes is that of
            the release candidates of Linux 6.14. Version 17 with fewer than 688 bytes has no
            `*_delay_max_ts`.
        padding: Kernels that cannot read 64 bits at any address (User-Mode Linux is built so) put
            an attribute of type NULL before a struct that would stand at an address not divisible
            by 8 (net/netlink: nla_reserve_64bit).
    """

    version: int = NEWEST_VERSION
    size: int | None = None
    padding: bool = False

    def __post_init__(self) -> None:
        if not OLDEST_VERSION <= self.version <= NEWEST_VERSION:
            raise ValueError(
                f"a struct version is {OLDEST_VERSION} to {NEWEST_VERSION}, not {self.version}"
            )
        if self.size is not None and not 2 <= self.size <= _ANY_SIZE - 64:
            raise ValueError(f"a struct has 2 to {_ANY_SIZE - 64:,} bytes, not {self.size}")

    @property
    def bytes(self) -> int:
        """The size, whether or not it was given."""
        return self.size or self.offsets_end()

    def offsets_end(self) -> int:
        """Where the last field of the version ends."""
        offsets = presence.offsets(self.version, _ANY_SIZE)
        return max(at + presence.size_of(name) for name, at in offsets.items())


@dataclass(frozen=True, slots=True)
class Quirks:
    """What older kernels do otherwise. The default is the newest.

    Attributes:
        drops_last_character: Of a CPU list without a NUL at its end, the last character is
            overwritten (kernel/taskstats.c:parse, before nla_strdup).
        group_version_zero: The group in an exit record has version 0 (before "taskstats: set
            version in TGID exit notifications").
        forgets_dead_threads: A group's times and switches are those of its living threads (before
            "taskstats: retain dead thread stats in TGID queries"); at exit they are 0.
    """

    drops_last_character: bool = False
    group_version_zero: bool = False
    forgets_dead_threads: bool = False


@dataclass(frozen=True, slots=True)
class Teardown:
    """What a task still does after its record was sent, which a listener's probe alone sees.

    Attributes:
        cpu_ns: CPU time that it uses, nanoseconds.
        runs: How often it gets a CPU again, because it had to wait for one.
        waited_ns: How long it waits for a CPU, nanoseconds.
        ends: Whether it ever ends. If not, the probe never sees its end.
    """

    cpu_ns: int = 0
    runs: int = 0
    waited_ns: int = 0
    ends: bool = True


#: It does nothing more.
NO_TEARDOWN = Teardown()


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: what the kernel would read off the sending process.

    Attributes:
        net_admin: It has CAP_NET_ADMIN in the initial user namespace, and so had the opener of its
            socket.
        initial_user_namespace: Else REGISTER and DEREGISTER are EINVAL. (The real kernel says EPERM
            before, which is `net_admin`.)
        initial_pid_namespace: Else they are EINVAL too, and ids are those of the namespace: each
            task's `vpid`.
        initial_network_namespace: Else REGISTER is acknowledged, and nothing is ever heard.
    """

    net_admin: bool = True
    initial_user_namespace: bool = True
    initial_pid_namespace: bool = True
    initial_network_namespace: bool = True
