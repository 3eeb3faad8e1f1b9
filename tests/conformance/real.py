"""The kernel of this machine as a world. What it needs beyond CAP_NET_ADMIN it says in `lacks`."""

import os
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, TypeVar

from support import cgroups, child, compiled, raw, withheld
from support import task as tasks
from support.descriptors import NETLINK_GENERIC
from support.requirements import why_no_probe

from conformance.messages import deregister
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
from taskstats.endpoint import KERNEL, Endpoint

T = TypeVar("T")

_CAP_SYS_ADMIN = 21
_POSSIBLE = Path("/sys/devices/system/cpu/possible")
_CPUINFO = Path("/proc/cpuinfo")
_KTHREADD = 2

_LACKS: dict[Need, str] = {
    "an allocation that fails": "no client can make one small allocation of the kernel fail: where "
    "memory is short a GFP_KERNEL allocation of a few pages waits, or somebody is killed",
    "a migration at the exit": "no client can have a task migrated between two statements of the "
    "kernel's taskstats_exit",
    "a counter near its end": "it is set at boot alone, and is four thousand million exits away",
}

_NAMESPACES: dict[Need, tuple[str, int]] = {
    "user namespaces": ("user", child.CLONE_NEWUSER),
    "PID namespaces": ("PID", child.CLONE_NEWPID),
    "network namespaces": ("network", child.CLONE_NEWNET),
}

_CGROUPS: dict[Need, int] = {
    "cgroups of version 1": 1,
    "cgroups of version 2": 2,
    "files of a cgroup": 1,
}


@dataclass(eq=False)
class _Task(Task):
    thread: tasks.Thread
    ended: bool = False

    @property
    def pid(self) -> int:  # type: ignore[override]
        return self.thread.tid

    @property
    def tgid(self) -> int:  # type: ignore[override]
        return self.thread.process.pid


class RealWorld(World):
    """The running kernel."""

    name: ClassVar[str] = (
        "User-Mode Linux" if "User Mode Linux" in _CPUINFO.read_text() else "Linux"
    )

    emulated = False

    def __init__(self) -> None:
        super().__init__()
        compiled.program("task")
        self._family = raw.family()
        self._living: dict[tasks.Family, set[tasks.Thread]] = {}
        self.release = os.uname().release.partition("-")[0]
        self.cpus = sorted(os.sched_getaffinity(0))
        self.possible = _POSSIBLE.read_text().strip()
        self.n_cpus = int(self.possible.replace("-", ",").rpartition(",")[2]) + 1
        self.ask(deregister(self.possible))  # this port's, of an earlier socket that was closed
        own = self.query(_Other(os.getpid()))
        self.version, self.size = own.version, own.size

    def lacks(self, need: Need) -> str | None:
        if need in _LACKS:
            return _LACKS[need]
        if need in _NAMESPACES:
            name, flag = _NAMESPACES[need]
            return _refused(f"{name} namespaces", lambda: child.run(child.unshare, flag))
        if need in _CGROUPS:
            return self._lacks_cgroups(_CGROUPS[need])
        match need:
            case "a probe":
                return why_no_probe()
            case "a file system of the asker's":
                return _refused("FUSE", _try_fuse)
            case "a task without a program" if not _is_kthreadd():
                return "its kernel threads cannot be seen from this PID namespace"
            case "delay accounting" if not self.query(self.spawn())["cpu_count"]:
                return "delay accounting is not built in, or is off"
        return super().lacks(need)

    def _lacks_cgroups(self, version: int) -> str | None:
        def try_one() -> None:
            with self.cgroup(version):
                pass

        return _refused(f"cgroups of version {version}", try_one)

    @property
    def endpoint(self) -> Endpoint:
        return KERNEL

    def listener(
        self, port: int = 0, rcvbuf: int | None = None, options: Iterable[int] | None = None
    ) -> Listener:
        chosen = (NETLINK_CAP_ACK, NETLINK_NO_ENOBUFS) if options is None else options
        made = Listener(NETLINK_GENERIC, 0, self._family, port, rcvbuf, chosen)
        self.stack.callback(made.close)
        return made

    # -- tasks

    def spawn(self, comm: str = "task", *, cpu: int | None = None, uid: int | None = None) -> Task:
        process = self.stack.enter_context(tasks.Process(comm, cpu=cpu, uid=uid))
        self._living[process] = {process.leader}
        return _Task(process.leader)

    def thread(self, process: Task, cpu: int | None = None) -> Task:
        of = _of(process).process
        made = of.thread(cpu)
        self._living[of].add(made)
        return _Task(made)

    def child(self, parent: Task) -> Task:
        process = _of(parent).process.fork()
        self._living[process] = {process.leader}
        return _Task(process.leader)

    def subreaper(self, process: Task, on: bool = True) -> None:
        _of(process).process.be_subreaper(on)

    @property
    def reaper(self) -> int:
        with tasks.Process() as parent:
            orphan = parent.fork()
            parent.exit_group(parent.leader)
            return tasks.parent_of(orphan.pid)

    def exit(self, task: Task, code: int = 0) -> None:
        thread = _of(task)
        thread.exit(code)
        living = self._living[thread.process]
        living.remove(thread)
        if not living:
            thread.process.reap()

    def exit_group(
        self, task: Task, code: int = 0, *, signal: int = 0, zombie: bool = False
    ) -> None:
        thread = _of(task)
        thread.process.exit_group(thread, code, signal)
        if not zombie:
            thread.process.reap()

    def reap(self, task: Task) -> None:
        _of(task).process.reap()

    def exec(self, task: Task) -> Task:
        thread = _of(task)
        thread.exec()
        self._living[thread.process] = {thread.process.leader}
        return _Task(thread.process.leader)

    def forked_exit(self, cpu: int, in_a_pid_namespace: bool = False) -> int:
        return child.run(self._fork, cpu, in_a_pid_namespace)

    @staticmethod
    def _fork(cpu: int, in_a_pid_namespace: bool) -> int:
        os.sched_setaffinity(0, [cpu])
        if in_a_pid_namespace:
            child.unshare(child.CLONE_NEWPID)
        return child.spawn_and_reap()

    @contextmanager
    def one_that_is(self, state: State) -> Iterator[Task]:
        if state in ("uninterruptible", "io wait"):
            with withheld.waits_for_page(killable=state == "io wait") as pid:
                yield _Other(pid)
            return
        task = self.spawn()
        thread = _of(task)
        match state:
            case "running":
                thread.spin()
            case "stopped":
                thread.process.stop()
            case "freezable":
                thread.sleep_freezable()
        yield task

    @property
    def own_pid(self) -> int:
        return os.getpid()

    def kernel_thread(self) -> int:
        return _KTHREADD

    # -- rights

    def as_(self, rights: Rights, scenario: Callable[[World], T]) -> T:
        return child.run(self._as, rights, scenario)

    def _as(self, rights: Rights, scenario: Callable[[World], T]) -> T:
        match rights:
            case "an ordinary user":
                child.become(child.NOBODY)
            case "root without CAP_NET_ADMIN":
                child.become(0, _CAP_SYS_ADMIN)
            case "root of a user namespace":
                child.unshare(child.CLONE_NEWUSER)
            case "root of a network namespace":
                child.unshare(child.CLONE_NEWNET)
            case "root of a PID namespace":
                child.unshare(child.CLONE_NEWPID)
                return child.run(self._inside, scenario)
        return self._inside(scenario)

    def _inside(self, scenario: Callable[[World], T]) -> T:
        with ExitStack() as self.stack:  # what was there is the parent's to end
            return scenario(self)

    # -- cgroups

    @contextmanager
    def cgroup(self, version: int, *tasks: Task) -> Iterator[int]:
        name = f"taskstats-{uuid.uuid4().hex}"
        # All cases share one hierarchy: the kernel keeps a hierarchy that is unmounted before its
        # last cgroup is released, until it is mounted again.
        kind = ["cgroup", "-o", "none,name=taskstats-test"] if version == 1 else ["cgroup2"]
        with ExitStack() as stack:
            mounted = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            _run("mount", "-t", *kind, "none", mounted)
            stack.callback(_run, "umount", mounted)
            path = mounted / name
            path.mkdir()
            stack.callback(_remove, path)
            for one in tasks:
                (path / "cgroup.procs").write_text(str(one.tgid))
                stack.callback(_move, one.tgid, mounted)
            fd = os.open(path, os.O_RDONLY)
            stack.callback(os.close, fd)
            yield fd

    @contextmanager
    def probed_cgroup(self, *tasks: Task) -> Iterator[str]:
        with cgroups.made() as folder:
            for one in tasks:
                (folder / "cgroup.procs").write_text(str(one.tgid))
            yield f"/{folder.name}"


class _Other(Task):
    """A process that is not one to give orders to."""

    def __init__(self, pid: int) -> None:
        self.pid = self.tgid = pid


def _of(task: Task) -> tasks.Thread:
    assert isinstance(task, _Task)
    return task.thread


def _is_kthreadd() -> bool:
    comm = Path(f"/proc/{_KTHREADD}/comm")
    return comm.exists() and comm.read_text() == "kthreadd\n"


def _run(*command: str | Path) -> None:
    subprocess.run(command, check=True, capture_output=True)


def _remove(folder: Path) -> None:
    with suppress(FileNotFoundError):  # a case has removed it
        folder.rmdir()


def _move(pid: int, cgroup: Path) -> None:
    with suppress(ProcessLookupError):  # it has ended, and been reaped
        (cgroup / "cgroup.procs").write_text(str(pid))


def _try_fuse() -> None:
    with withheld.waits_for_page(killable=True):
        pass


def _refused(what: str, attempt: Callable[[], object]) -> str | None:
    try:
        attempt()
    except OSError as error:
        return f"{what} cannot be had here: {error.strerror or error}"
    except subprocess.CalledProcessError as error:
        return f"{what} cannot be had here: {error.stderr.decode().strip()}"
    return None
