"""What a case may do: the kernel's words, for whichever kernel it is run against."""

import socket
import struct
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from typing import Any, ClassVar, Literal, Self, TypeAlias, TypeVar

import taskstats
from conformance import messages
from conformance.messages import Record, Request

T = TypeVar("T")

NLMSG_NOOP = 1

SOL_NETLINK, NETLINK_NO_ENOBUFS, NETLINK_CAP_ACK, NETLINK_EXT_ACK = 270, 5, 10, 11
NETLINK_GET_STRICT_CHK = 12
SO_RCVBUFFORCE, SO_MEMINFO, SK_MEMINFO_DROPS = 33, 55, 8
ROOMY = 64 << 20

#: Who asks, where it is not who may do all.
Rights: TypeAlias = Literal[
    "an ordinary user",
    "root without CAP_NET_ADMIN",
    "root of a user namespace",
    "root of a PID namespace",
    "root of a network namespace",
]

#: What a task is doing.
State: TypeAlias = Literal[
    "sleeping", "running", "stopped", "freezable", "uninterruptible", "io wait"
]

#: What only some worlds have; `World.lacks` gives the reason of those that do not.
Need: TypeAlias = Literal[
    "two CPUs",
    "a hole among the possible CPUs",
    "an allocation that fails",
    "a migration at the exit",
    "a counter near its end",
    "options of the sender's socket",
    "drops that the socket counts",
    "ENOBUFS after an overflow",
    "rights that are lost or gained after the opening",
    "a task without a program",
    "a file system of the asker's",
    "user namespaces",
    "PID namespaces",
    "network namespaces",
    "cgroups of version 1",
    "cgroups of version 2",
    "files of a cgroup",
    "delay accounting",
    "struct version 12",
    "a probe",
]

_MARKER_SEQ = 0xFFFF0000

#: What a listener with a probe has heard, by pid.
Births: TypeAlias = defaultdict[int, list[taskstats.Birth]]
Records: TypeAlias = defaultdict[int, list[taskstats.Record]]
Complete: TypeAlias = tuple[Births, Records]


class Socket:
    """A netlink socket without the package.

    Args:
        protocol: Of netlink.
        kernel: The port of whoever answers.
        family: The family's id.
        port: Its own; 0 for any.
        rcvbuf: Its receive buffer; None for one that does not overflow.
        options: Of SOL_NETLINK, to be set.
    """

    def __init__(
        self,
        protocol: int,
        kernel: int,
        family: int,
        port: int = 0,
        rcvbuf: int | None = None,
        options: Iterable[int] = (NETLINK_CAP_ACK, NETLINK_NO_ENOBUFS),
    ) -> None:
        self._kernel = kernel
        self.family = family
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol)
        for option in options:
            self.socket.setsockopt(SOL_NETLINK, option, 1)
        if rcvbuf is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        else:
            self.make_room()
        self.socket.bind((port, 0))
        # A kernel that does not answer is an error, not a hang.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 60, 0))
        self.connected = False
        self.port: int = self.socket.getsockname()[0]
        self.seq = 0

    def make_room(self) -> None:
        """From now on its queue does not overflow. On a real kernel others exit as well."""
        with suppress(PermissionError):
            self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, ROOMY)

    def send(self, *requests: Request) -> None:
        """All in one datagram, numbered from 1 on."""
        parts = []
        for request in requests:
            self.seq += 1
            parts.append(request.bytes(self.family, self.seq))
        self._send(b"".join(parts))

    def _send(self, datagram: bytes) -> None:
        if self.connected:
            self.socket.send(datagram)
        else:
            self.socket.sendto(datagram, (self._kernel, 0))

    def connect(self) -> None:
        """Names the receiver once for all, not with each datagram."""
        self.socket.connect((self._kernel, 0))
        self.connected = True

    def answers(self) -> list[bytes]:
        """What is there and what is on its way, exit records too."""
        marker = Request(type=NLMSG_NOOP).bytes(self.family, _MARKER_SEQ)  # has but its ACK
        self._send(marker)
        found = []
        while True:
            datagram = self._receive()
            if messages.header(datagram).seq == _MARKER_SEQ and not messages.is_exit(datagram):
                assert messages.told(datagram, self.family) == "ACK"
                return found
            found.append(datagram)

    def waiting(self) -> list[bytes]:
        """What is there already."""
        found = []
        while True:
            try:
                found.append(self._receive(socket.MSG_DONTWAIT))
            except BlockingIOError:
                return found

    def _receive(self, flags: int = 0) -> bytes:
        datagram, (source, _) = self.socket.recvfrom(1 << 17, flags)
        assert source == self._kernel
        return datagram

    def ask(self, *requests: Request) -> list[str]:
        """The answers in words; no exit records."""
        self.send(*requests)
        answers = [one for one in self.answers() if not messages.is_exit(one)]
        return [messages.told(one, self.family) for one in answers]

    def drops(self) -> int:
        """What the socket itself had no room for."""
        info = self.socket.getsockopt(socket.SOL_SOCKET, SO_MEMINFO, 4 * (SK_MEMINFO_DROPS + 1))
        return int(struct.unpack_from("=I", info, 4 * SK_MEMINFO_DROPS)[0])

    def close(self) -> None:
        """Closes it; what it registered stays."""
        self.socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Listener(Socket):
    """A socket that may be registered, and the exits that it hears."""

    def exits(self, *tasks: "Task | int") -> list[bytes]:
        """The exit messages that have come, all or those of these tasks, in order."""
        ids = {task if isinstance(task, int) else task.pid for task in tasks}
        found = filter(messages.is_exit, self.waiting())
        return [one for one in found if not ids or self._record(one).id in ids]

    def heard(self, *tasks: "Task | int") -> list[Record]:
        """Their records."""
        return [self._record(one) for one in self.exits(*tasks)]

    @staticmethod
    def _record(datagram: bytes) -> Record:
        found = messages.record(datagram)
        assert found is not None
        return found


class Task(ABC):
    """A task: a thread of a process. `pid` is its id, `tgid` its process's."""

    pid: int
    tgid: int


class World(ABC):
    """A kernel, for one case.

    Attributes:
        name: In a table.
        emulated: It is no kernel.
        release: As uname(1) has it, without what its builder added.
        version, size: Of its struct.
        cpus: Where tasks can run, ascending.
        possible: The possible CPUs, as the kernel's list.
        n_cpus: One more than the last possible CPU.
    """

    name: ClassVar[str]
    emulated: ClassVar[bool]
    release: str
    version: int
    size: int
    cpus: Sequence[int]
    possible: str
    n_cpus: int

    @property
    def title(self) -> str:
        """Its name and release."""
        return f"{self.name} {self.release}"

    def lacks(self, need: Need) -> str | None:
        """Why it does not have this; None if it has. Here, what its figures tell."""
        match need:
            case "struct version 12" if self.version < 12:
                return f"its struct is of version {self.version}"
            case "two CPUs" if len(self.cpus) < 2:
                return "it has one CPU"
            case "a hole among the possible CPUs" if "," not in self.possible:
                return "its possible CPUs have no hole"
        return None

    # -- sockets

    @abstractmethod
    def listener(
        self, port: int = 0, rcvbuf: int | None = None, options: Iterable[int] | None = None
    ) -> Listener:
        """A socket, which is closed in the end; not registered."""

    def ask(self, *requests: Request) -> list[str]:
        """The answers to requests in one datagram, in words."""
        with self.listener() as one:
            return one.ask(*requests)

    def reply(self, request: Request) -> bytes:
        """The one answer to a request, which should not ask for an ACK."""
        with self.listener() as one:
            one.send(request)
            (answer,) = one.answers()
            return answer

    def query(self, task: Task, kind: Literal["PID", "TGID"] = "PID") -> Record:
        """A task's record, or its group's."""
        make = messages.pid if kind == "PID" else messages.tgid
        found = messages.record(self.reply(make(task.pid, messages.NLM_F_REQUEST)), kind)
        assert found is not None
        return found

    @contextmanager
    def listening(self, cpus: str | int | None = None, **how: Any) -> Iterator[Listener]:
        """A listener that is registered, for all CPUs if none is named; and in the end no more."""
        text = self.possible if cpus is None else str(cpus)
        with self.listener(**how) as one:
            assert one.ask(messages.register(text)) == ["ACK"]
            yield one
            one.send(messages.deregister(text))

    @property
    @abstractmethod
    def endpoint(self) -> taskstats.Endpoint:
        """The same kernel, for the package."""

    @contextmanager
    def complete(self, settle: float = 60) -> Iterator[Callable[[], Complete]]:
        """A listener with a probe. What it yields stops it, and returns all that it has heard."""
        heard = taskstats.ExitListener(probe="require", settle=settle, endpoint=self.endpoint)

        def everything() -> Complete:
            births: Births = defaultdict(list)
            records: Records = defaultdict(list)
            heard.stop()
            for batch in heard.batches():
                for birth in batch.births:
                    births[birth.pid].append(birth)
                for record in batch:
                    records[record.ac_pid].append(record)
            return births, records

        with heard:
            yield everything

    # -- tasks

    @abstractmethod
    def spawn(self, comm: str = "task", *, cpu: int | None = None, uid: int | None = None) -> Task:
        """A process, which sleeps."""

    @abstractmethod
    def thread(self, process: Task, cpu: int | None = None) -> Task:
        """A new thread of a process."""

    @abstractmethod
    def child(self, parent: Task) -> Task:
        """A process that a process has forked, which sleeps. Nobody reaps it."""

    @abstractmethod
    def subreaper(self, process: Task, on: bool = True) -> None:
        """Makes a process one that is given the orphans below it, or takes that back."""

    @property
    @abstractmethod
    def reaper(self) -> int:
        """The pid of who is given the orphans of a process of `spawn`: init, or some subreaper."""

    @abstractmethod
    def exit(self, task: Task, code: int = 0) -> None:
        """A thread exits, alone; its record has been sent. If it was the last it is reaped."""

    @abstractmethod
    def exit_group(
        self, task: Task, code: int = 0, *, signal: int = 0, zombie: bool = False
    ) -> None:
        """A thread ends its process, or a signal does; it is reaped, or left a zombie."""

    @abstractmethod
    def reap(self, task: Task) -> None:
        """A zombie's parent waits for it."""

    @abstractmethod
    def exec(self, task: Task) -> Task:
        """A thread becomes the program "renamed"; the task that it is then."""

    @abstractmethod
    def forked_exit(self, cpu: int, in_a_pid_namespace: bool = False) -> int:
        """The pid of a process that exited, and had not called exec since its fork.

        Args:
            cpu: Where.
            in_a_pid_namespace: In a new one it was the first process.
        """

    @abstractmethod
    def one_that_is(self, state: State) -> AbstractContextManager[Task]:
        """A process of one thread that is in a state, and stays in it."""

    @property
    @abstractmethod
    def own_pid(self) -> int:
        """The asker's own id, in its own PID namespace."""

    @abstractmethod
    def kernel_thread(self) -> int:
        """The pid of a task that has no program."""

    # -- rights

    @abstractmethod
    def as_(self, rights: Rights, scenario: Callable[["World"], T]) -> T:
        """What a scenario tells that is run by such an asker."""

    # -- cgroups

    @abstractmethod
    def cgroup(self, version: int, *tasks: Task) -> AbstractContextManager[int]:
        """A descriptor of the directory of a cgroup with these processes."""

    @abstractmethod
    def probed_cgroup(self, *tasks: Task) -> AbstractContextManager[str]:
        """The path of a new cgroup with these processes, where the probe looks.

        It is removed in the end; nothing may live in it then.
        """

    # -- what only an emulation can do

    def fail(self, site: str, after: int = 0) -> None:
        """The allocation of this name finds no memory, once."""
        raise NotImplementedError

    def migrate(self, task: Task, numbered_on: int) -> None:
        """A task exits, and is moved to another CPU between the kernel's two steps."""
        raise NotImplementedError

    def number_next(self, cpu: int, seq: int) -> None:
        """Makes this the number of the CPU's next record. Its listeners are told of another."""
        raise NotImplementedError

    # -- lifecycle

    def __init__(self) -> None:
        self.stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()


def eventually(attempt: Callable[[], bool], times: int = 50) -> bool:
    """Whether it comes out at least once.

    For what other programs on the machine may blur, which exit and listen as they like, and cannot
    bring about.
    """
    return any(attempt() for _ in range(times))
