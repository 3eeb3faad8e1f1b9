"""The emulated kernel as a world."""

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypeVar

from support import wire

from conformance.world import (
    NETLINK_CAP_ACK,
    NETLINK_NO_ENOBUFS,
    Listener,
    Need,
    Rights,
    State,
    Task,
    World,
)
from taskstats import cpulist, emulator
from taskstats.emulator import Caller, EmulatedKernel, Quirks
from taskstats.endpoint import Endpoint

T = TypeVar("T")

_CALLERS: dict[Rights, Caller] = {
    "an ordinary user": Caller(net_admin=False),
    "root without CAP_NET_ADMIN": Caller(net_admin=False),
    "root of a user namespace": Caller(net_admin=False, initial_user_namespace=False),
    "root of a PID namespace": Caller(initial_pid_namespace=False),
    "root of a network namespace": Caller(initial_network_namespace=False),
}

#: What a socket between two programs cannot show, or the emulation leaves to the kernel.
_LACKS: dict[Need, str] = {
    "options of the sender's socket": "over NETLINK_USERSOCK a peer does not see the options of "
    "the asker's socket: it answers as to one with NETLINK_CAP_ACK alone",
    "drops that the socket counts": "a datagram of one program to another is refused to its "
    "sender where the kernel's is dropped and counted by the receiving socket",
    "ENOBUFS after an overflow": "the sender learns of a full queue, not the receiver: only the "
    "kernel's own broadcasts and unicasts set the error on the receiving socket",
    "rights that are lost or gained after the opening": "the emulated caller's capability is "
    "declared, for the opening and the sending at once",
    "files of a cgroup": "a directory of an ordinary file system plays the cgroup, without files",
    "a task without a program": "the emulation has no kernel threads",
}

_USED = {"nvcsw": 3, "nivcsw": 2, "cpu_count": 5, "cpu_delay_total": 7000, "ac_utime": 900}
_USED |= {"cpu_run_virtual_total": 950_000, "ac_exe_dev": 2049, "ac_exe_inode": 77}
_USED |= {"hiwater_rss": 1000, "hiwater_vm": 2000}


@dataclass(eq=False)
class _Task(Task):
    task: emulator.Task

    @property
    def pid(self) -> int:  # type: ignore[override]
        return self.task.pid

    @property
    def tgid(self) -> int:  # type: ignore[override]
        return self.task.tgid


class EmulatedWorld(World):
    """The default: the newest kernel."""

    name: ClassVar[str] = "emulated"
    emulated = True
    release = "as the newest"
    quirks: ClassVar[Quirks] = Quirks()
    possible = "0-1,3"
    version = 17
    padding: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__()
        self._kernel = self.stack.enter_context(
            EmulatedKernel(
                cpus=self.possible, version=self.version, quirks=self.quirks, padding=self.padding
            )
        )
        self.cpus = cpulist.parse(self.possible)
        self.n_cpus = self.cpus[-1] + 1
        self._own = self._kernel.spawn("asker", vpid=1)
        self.size = self.query(_Task(self._own)).size

    def lacks(self, need: Need) -> str | None:
        return _LACKS.get(need) or super().lacks(need)

    @property
    def endpoint(self) -> Endpoint:
        return self._kernel.endpoint

    def listener(
        self, port: int = 0, rcvbuf: int | None = None, options: Iterable[int] | None = None
    ) -> Listener:
        endpoint = self._kernel.endpoint
        chosen = (NETLINK_CAP_ACK, NETLINK_NO_ENOBUFS) if options is None else options
        made = Listener(endpoint.protocol, endpoint.port, 0x1F, port, rcvbuf, chosen)
        self.stack.callback(made.close)
        return made

    def spawn(self, comm: str = "task", *, cpu: int | None = None, uid: int | None = None) -> Task:
        made = self._kernel.spawn(
            comm, parent=self._own, cpu=cpu, uid=uid or 0, gid=uid or 0, **_USED
        )
        self._kernel.exec(made, comm)
        made.state = "sleeping"
        return _Task(made)

    def thread(self, process: Task, cpu: int | None = None) -> Task:
        made = self._kernel.spawn("task", group=_of(process), cpu=cpu, **_USED)
        made.state = "sleeping"
        return _Task(made)

    def child(self, parent: Task) -> Task:
        made = self._kernel.spawn("task", parent=_of(parent), **_USED)
        made.state = "sleeping"
        return _Task(made)

    def subreaper(self, process: Task, on: bool = True) -> None:
        _of(process).subreaper = on

    @property
    def reaper(self) -> int:
        return self._kernel.init.pid

    def exit(self, task: Task, code: int = 0) -> None:
        self._kernel.advance(0.01)
        self._kernel.exit(_of(task), code)

    def exit_group(
        self, task: Task, code: int = 0, *, signal: int = 0, zombie: bool = False
    ) -> None:
        self._kernel.exit_group(_of(task), code, signal=signal, core=_dumps(signal), zombie=zombie)

    def reap(self, task: Task) -> None:
        self._kernel.reap(_of(task))

    def exec(self, task: Task) -> Task:
        self._kernel.exec(_of(task), "renamed")
        return task

    def forked_exit(self, cpu: int, in_a_pid_namespace: bool = False) -> int:
        vpid = 1 if in_a_pid_namespace else None
        made = self._kernel.spawn("fork", parent=self._own, cpu=cpu, vpid=vpid)
        self._kernel.exit(made)
        return made.pid

    @contextmanager
    def one_that_is(self, state: State) -> Iterator[Task]:
        task = self.spawn()
        _of(task).state = state
        yield task

    @property
    def own_pid(self) -> int:
        here = self._kernel.caller.initial_pid_namespace
        return self._own.pid if here else (self._own.vpid or 0)

    def kernel_thread(self) -> int:
        raise NotImplementedError

    def as_(self, rights: Rights, scenario: Callable[[World], T]) -> T:
        before = self._kernel.caller
        self._kernel.caller = _CALLERS[rights]
        try:
            return scenario(self)
        finally:
            self._kernel.caller = before

    @contextmanager
    def cgroup(self, version: int, *tasks: Task) -> Iterator[int]:
        with tempfile.TemporaryDirectory() as folder:
            self._kernel.cgroup(folder, map(_of, tasks), version)
            with _open(Path(folder)) as fd:
                yield fd

    @contextmanager
    def probed_cgroup(self, *tasks: Task) -> Iterator[str]:
        made = self._kernel.make_cgroup("/conformance")
        for one in tasks:
            self._kernel.move(_of(one), made)
        yield made.path
        self._kernel.remove_cgroup(made)

    def fail(self, site: str, after: int = 0) -> None:
        self._kernel.fail_allocation(site, after)  # type: ignore[arg-type]

    def migrate(self, task: Task, numbered_on: int) -> None:
        self._kernel.exit(_of(task), numbered_on=numbered_on)

    def number_next(self, cpu: int, seq: int) -> None:
        self._kernel.replay([wire.datagram(self.version, seq=seq - 1)], cpu)


_OLDER = Quirks(drops_last_character=True, group_version_zero=True, forgets_dead_threads=True)


class OlderWorld(EmulatedWorld):
    """With all that older kernels do otherwise, and padded."""

    release = "as User-Mode Linux 6.1"
    quirks = _OLDER
    version = 13
    padding = True


class OldWorld(OlderWorld):
    """Also without what struct version 12 brought, and with one CPU."""

    release = "as User-Mode Linux 5.10"
    possible = "0"
    version = 10


WORLDS = (EmulatedWorld, OlderWorld, OldWorld)


def _of(task: Task) -> emulator.Task:
    assert isinstance(task, _Task)
    return task.task


def _dumps(signal: int) -> bool:
    """Whether a signal's default is to dump core."""
    return signal in (3, 6, 11)


@contextmanager
def _open(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_RDONLY)
    try:
        yield fd
    finally:
        os.close(fd)
