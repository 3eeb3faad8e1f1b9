"""EmulatedKernel: a thread that plays the kernel, on a netlink socket that needs no privilege."""

import errno
import itertools
import os
import select
import socket
import struct
import threading
import warnings
import weakref
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Self

from taskstats import cpulist
from taskstats.emulator import accounting, exiting, genetlink, messages, structs
from taskstats.emulator.cgroups import Cgroup, Cgroups
from taskstats.emulator.events import Events, Who, end_of
from taskstats.emulator.faults import Faults, Site
from taskstats.emulator.hierarchy import ControlGroup, Hierarchy
from taskstats.emulator.ledger import Ledger
from taskstats.emulator.listeners import Delivery, Listeners
from taskstats.emulator.options import (
    NEWEST_VERSION,
    NO_TEARDOWN,
    Caller,
    Layout,
    Quirks,
    Teardown,
)
from taskstats.emulator.ring import EventKind
from taskstats.emulator.state import State
from taskstats.emulator.tasks import Task, Tasks, checked, comm_of
from taskstats.endpoint import NETLINK_USERSOCK, Endpoint

_FAMILY = 0x1F  # as good as any from 0x11 on
_LONGEST_REQUEST = 1 << 20
_RCVBUF = 8 << 20
_SO_RCVBUFFORCE = 33
_TIMEOUT = 10.0

_PORTS = 1 << 30
_MOST = 1 << 8
_numbers = itertools.count()

_U16, _U32 = struct.Struct("=H"), struct.Struct("=I")
_STORM_PIDS = 1 << 20  # pids of storms begin here, beyond the tasks'
_STORM_TURN = 1 << 8  # so many records, and then whoever has asked meanwhile is answered


class EmulatedKernel:
    """The kernel's side of the interface, for clients in this process and in children that it
    forks: no privilege is needed.

    Give its `endpoint` to `Client`, `ExitListener` or `cgroup_stats`: the compiled shim exchanges
    real netlink datagrams with it (NETLINK_USERSOCK). Tasks, their figures and the time are the
    test's. A request that was sent before one of these calls takes effect before it.

    It answers as to a socket with NETLINK_CAP_ACK, since the sender's options cannot be seen;
    and an overflow neither says ENOBUFS nor makes a queue refuse everything until it is empty.

    Args:
        cpus: The possible CPUs, as the kernel's list.
        version: The struct's version, 4 to 17.
        size: Its bytes; None for what the version has.
        padding: Whether structs are padded to 8 bytes, as User-Mode Linux does.
        quirks: What older kernels do otherwise.
        caller: Who asks; may be changed at any time.

    Raises:
        ValueError: No such version, size or CPUs.

    Attributes:
        caller: Who asks.
        endpoint: Where it is.
        init: Pid 1.
    """

    def __init__(
        self,
        *,
        cpus: str = "0-3",
        version: int = NEWEST_VERSION,
        size: int | None = None,
        padding: bool = False,
        quirks: Quirks = Quirks(),  # noqa: B008 - it cannot change
        caller: Caller = Caller(),  # noqa: B008
    ) -> None:
        layout = Layout(version, size, padding)
        possible = cpulist.parse(cpus)
        self._ledger = Ledger()
        faults = Faults()
        hierarchy = Hierarchy()
        tasks = Tasks(hierarchy.root)
        self._state = State(
            cpus=possible,
            family=_FAMILY,
            layout=layout,
            quirks=quirks,
            caller=caller,
            tasks=tasks,
            listeners=Listeners(possible, self._deliver, self._ledger, faults),
            cgroups=Cgroups(),
            hierarchy=hierarchy,
            events=Events(lambda: tasks.now_ns),
            faults=faults,
        )
        self._storm_pids = itertools.count(_STORM_PIDS)
        self._lock = threading.Lock()
        self._buffer = bytearray(_LONGEST_REQUEST)
        self._socket = _open()
        self.endpoint = Endpoint(
            protocol=NETLINK_USERSOCK,
            port=self._socket.getsockname()[0],
            synchronous=False,
            timeout=_TIMEOUT,
            cpus=cpus,
            sent=self._ledger.native,
            open_ring=self._state.events.open_ring,
            list_cgroups=hierarchy.paths,
        )
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(
            target=_serve,
            args=(weakref.ref(self), self._socket, self._woken),
            name="EmulatedKernel",
            daemon=True,
        )
        self._thread.start()

    @property
    def caller(self) -> Caller:
        """Who asks: what the kernel would read off the sending process."""
        return self._state.caller

    @caller.setter
    def caller(self, caller: Caller) -> None:
        with self._lock:
            self._handle_queued()
            self._state.caller = caller

    @property
    def init(self) -> Task:
        """Pid 1, the parent of those that have no other."""
        return self._state.tasks.init

    # -- tasks and time

    def spawn(
        self,
        comm: str | bytes = "task",
        *,
        group: Task | None = None,
        parent: Task | None = None,
        pid: int | None = None,
        cpu: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
        vpid: int | None = None,
        maker: Task | None = None,
        cgroup: ControlGroup | None = None,
        teardown: Teardown = NO_TEARDOWN,
        **used: int,
    ) -> Task:
        """A new process, or with `group` a new thread of that process.

        Args:
            comm: Its name, of which the kernel keeps 15 bytes.
            group: A task of the process that it is a thread of.
            parent: A task of the process that it is a child of; None for init, or the group's.
            pid: Its id; None for the next one that is free.
            cpu: Where it runs; None for the first, or its group's.
            uid: Real user id; None for its group's or its parent's. So is `gid`.
            gid: Real group id.
            vpid: Its id in the PID namespace of a caller that is in another. There is a pid 1:
                init, until a task is spawned with that.
            maker: The task that calls fork; None for the parent. Another one does so with
                CLONE_PARENT.
            cgroup: Its cgroup; None for that of the maker, or for a thread that of `group`.
            teardown: What it does after its record was sent.
            used: What it has used or was given, by the kernel's names and units (`FIELDS`).

        Raises:
            TypeError: No such field, or one that the kernel works out; no integer.
            ValueError: The pid is taken, there is no such CPU, the group, the parent or the maker
                has exited, a thread is to have a parent or maker of its own, the cgroup was
                removed, or a figure does not fit its field.
        """
        with self._lock:
            self._handle_queued()
            if group is None:
                parent = parent or self.init
            elif parent is not None or maker is not None:
                raise ValueError("a thread has its group's parent")
            if maker is not None and not maker.process.living:
                raise ValueError(f"{maker!r} has exited")
            like = group or maker or parent or self.init
            if cpu is None:
                cpu = self._state.cpus[0] if group is None else group.cpu
            amounts = checked(used)
            task = self._state.tasks.spawn(
                comm_of(comm),
                pid,
                parent,
                group,
                cpu=self._possible(cpu),
                uid=like.uid if uid is None else uid,
                gid=like.gid if gid is None else gid,
                vpid=vpid,
                cgroup=cgroup or like.cgroup,
            )
            task.used.update(amounts)
            task.teardown = teardown
            if group is None:
                self._state.events.birth(task, like)
            return task

    def advance(self, seconds: float, *running: Task) -> None:
        """Lets time pass; these tasks were in user mode all the while.

        Their `ac_utime` grows, and by as much `cpu_run_real_total`, `cpu_run_virtual_total`,
        `cpu_scaled_run_real_total` and `ac_utimescaled`, from whatever they were.

        Raises:
            ValueError: One of them has exited, or the time is negative.
        """
        if seconds < 0:
            raise ValueError(f"time goes on, not back by {-seconds} s")
        with self._lock:
            self._handle_queued()
            for task in running:
                _alive(task)
            self._state.tasks.now_ns += round(seconds * 10**9)
            self._state.events.tick()
            for task in running:
                task.run(round(seconds * 10**6))

    def exit(
        self,
        task: Task,
        code: int = 0,
        *,
        signal: int = 0,
        core: bool = False,
        cpu: int | None = None,
        numbered_on: int | None = None,
        zombie: bool = False,
        teardown: Teardown | None = None,
    ) -> None:
        """One thread exits; listeners of its CPU hear of it.

        A probe sees its end after that: at once, unless `hold_ends` or its teardown says otherwise.

        With the last thread of a process its children get another parent: the nearest subreaper
        above (`Task.subreaper`), or else init. Zombies stay zombies: no parent reaps by itself.

        Args:
            task: It.
            code: Its exit status, 0 to 255,
            signal: or the signal that ended it.
            core: It has dumped core.
            cpu: Where it exits; None for where it runs.
            numbered_on: It migrates to this CPU between the kernel's two steps: its record has a
                number of this CPU's, and goes to the listeners of the other.
            zombie: The last thread of a process leaves it unreaped: see `reap`.
            teardown: What it does after its record was sent; None for its `Task.teardown`.

        Raises:
            ValueError: It has exited, or there is no such CPU.
        """
        with self._lock:
            on = self._possible(task.cpu if cpu is None else cpu)
            if numbered_on is not None:
                self._possible(numbered_on)
            self._end(task, code, signal, core)
            task.cpu = on
            task.teardown = teardown or task.teardown
            exiting.leave(self._state, task, numbered_on, zombie)

    def exit_group(
        self,
        task: Task,
        code: int = 0,
        *,
        signal: int = 0,
        core: bool = False,
        zombie: bool = False,
    ) -> None:
        """All threads of a process exit with the same status: this one, then the others."""
        with self._lock:
            others = [one for one in task.process.living if one is not task]
            for one in (task, *others):
                self._end(one, code, signal, core)
                exiting.leave(self._state, one, zombie=zombie)

    def exec(self, task: Task, comm: str | bytes) -> None:
        """A thread calls exec: the others are killed, and it leads the group, under its pid.

        If it was not the leader, the pid has two records: the old leader's, now, and its own. It
        waits for the leader to end (fs/exec.c:de_thread), so that end is not held any longer.

        Raises:
            ValueError: The task has exited, or the leader never ends.
        """
        with self._lock:
            self._handle_queued()
            _alive(task)
            leader = task.process.leader
            if leader is not task and not leader.teardown.ends:
                raise ValueError(f"{leader!r} never ends")
            for other in [one for one in task.process.living if one is not task]:
                self._end(other, 0, 0, False)
                other.flags |= accounting.AXSIG
                exiting.leave(self._state, other)
            if leader is not task:
                self._state.events.release(leader)
            self._state.tasks.lead(task)
            task.forked = False
            task.comm = comm_of(comm)

    def reap(self, task: Task) -> None:
        """The parent waits for a zombie, which is then gone."""
        with self._lock:
            self._handle_queued()
            self._state.tasks.reap(task.process.leader)

    def _end(self, task: Task, code: int, signal: int, core: bool) -> None:
        """Decides a task's end."""
        self._handle_queued()
        _alive(task)
        if not (0 <= code <= 255 and 0 <= signal <= 127):
            raise ValueError(f"no exit status: code {code}, signal {signal}")
        task.exit_code = code << 8 | signal | core << 7
        task.flags = (accounting.AXSIG if signal else 0) | (accounting.ACORE if core else 0)

    def _possible(self, cpu: int) -> int:
        if cpu not in self._state.cpus:
            raise ValueError(f"no such CPU: {cpu} (this kernel has {self.endpoint.cpus})")
        return cpu

    # -- the cgroups that a probe names

    @property
    def root_cgroup(self) -> ControlGroup:
        """The root of the hierarchy that a probe names; init is in it."""
        return self._state.hierarchy.root

    def make_cgroup(self, path: str) -> ControlGroup:
        """Makes a cgroup in the hierarchy that a probe names ("/a/b": in "/a").

        Raises:
            ValueError: It exists, or there is none above it.
        """
        with self._lock:
            self._handle_queued()
            made = self._state.hierarchy.make(path)
            self._state.events.change("made", made)
            return made

    def rename_cgroup(self, cgroup: ControlGroup, name: str) -> None:
        """Gives a cgroup another name, as in a hierarchy of version 1.

        Raises:
            ValueError: It is the root or was removed, or the name is taken or none.
        """
        with self._lock:
            self._handle_queued()
            self._state.hierarchy.rename(cgroup, name)
            self._state.events.change("renamed", cgroup)

    def remove_cgroup(self, cgroup: ControlGroup) -> None:
        """Removes a cgroup.

        Raises:
            ValueError: It is the root or was removed, or there are tasks or cgroups in it.
        """
        with self._lock:
            self._handle_queued()
            if any(task.cgroup is cgroup and not task.exited for task in self._state.tasks):
                raise ValueError(f"there are tasks in {cgroup.path}")
            self._state.hierarchy.remove(cgroup)
            self._state.events.change("removed", cgroup)

    def move(self, task: Task, cgroup: ControlGroup) -> None:
        """Moves a process to a cgroup, with all its threads.

        Raises:
            ValueError: It has exited, or the cgroup was removed.
        """
        with self._lock:
            self._handle_queued()
            _alive(task)
            if cgroup.removed:
                raise ValueError(f"{cgroup.path} was removed")
            for one in task.process.living:
                one.cgroup = cgroup

    # -- ends that are late, and events that are lost

    def hold_ends(self) -> ExitStack:
        """From now on, tasks that have sent their record do not end before `release_ends`.

        As a context manager (`with kernel.hold_ends():`) it releases all in the end.
        """
        with self._lock:
            self._handle_queued()
            self._state.events.hold()
        released = ExitStack()
        released.callback(self.release_ends)
        return released

    def release_ends(self, *tasks: Task) -> None:
        """Lets tasks end whose end is held.

        Args:
            tasks: Which ones: others stay held. None for all, and none is held any more.
        """
        with self._lock:
            self._handle_queued()
            self._state.events.release(*tasks)

    def lose_events(self, count: int = 1, kind: EventKind = "end") -> None:
        """So many of the next events find no room in the ring of any listener.

        Args:
            count: How many.
            kind: Of "end", "birth" or "cgroup".
        """
        with self._lock:
            self._handle_queued()
            self._state.events.lose(kind, count)

    # -- losses and faults

    def lose(self, count: int = 1, cpu: int | None = None) -> None:
        """So many other tasks exit on a CPU, and no listener has room for their records.

        Args:
            count: How many.
            cpu: Where; None for the first CPU.
        """
        with self._lock:
            self._handle_queued()
            self._state.listeners.lose(self._first(cpu), count)

    def fail_allocation(self, site: Site, after: int = 0) -> None:
        """Lets the kernel find no memory, once.

        Args:
            site: For what: a "reply" or record; a request's "cpumask"; the copy of its "cpulist"; a
                registration ("listener"); a copy of a record for one more listener ("clone"); the
                sums of a "group".
            after: How many of these succeed before.
        """
        with self._lock:
            self._handle_queued()
            self._state.faults.fail(site, after)

    # -- many records

    def storm(
        self,
        count: int,
        cpu: int | None = None,
        comm: str | bytes = "storm",
        uid: int = 0,
        *,
        cgroup: ControlGroup | None = None,
        teardown: Teardown = NO_TEARDOWN,
    ) -> None:
        """So many processes of one thread are made by init and exit, as fast as can be.

        They are no tasks that could be asked for. What finds no room is lost, and counted. Requests
        are answered all the while. A probe sees their births and ends.
        """
        with self._lock:
            self._handle_queued()
            state = self._state
            on = self._first(cpu)
            task = state.tasks.spawn(
                comm_of(comm),
                None,
                self.init,
                None,
                cpu=on,
                uid=uid,
                gid=0,
                vpid=None,
                cgroup=cgroup or self.root_cgroup,
            )
            task.teardown = teardown
            datagram = bytearray(exiting.record(state, task, 0))
            end = end_of(task, state.tasks.now_ns)
            state.tasks.end(task, zombie=False)
            places = [structs.ID_AT, *self._ids_in_record()]
            for i in range(1, count + 1):
                if not state.listeners.heard(on):
                    break
                _U32.pack_into(datagram, messages.SEQ_AT, state.listeners.number(on))
                pid = next(self._storm_pids)
                for at in places:
                    _U32.pack_into(datagram, at, pid)
                watched = state.events.watched
                if watched:
                    one = Who(pid, pid, state.tasks.next_start_ns())
                    state.events.birth_of(one, self.init, task.cgroup)
                state.listeners.send(on, datagram)
                if watched and teardown.ends:
                    state.events.end_of(task, one, end)
                if i % _STORM_TURN == 0:
                    self._handle_queued()

    def _ids_in_record(self) -> list[int]:
        layout = self._state.layout
        named = ("ac_pid", "ac_tgid")
        return [
            structs.offset_in_record(layout, name) for name in named if structs.has(layout, name)
        ]

    def replay(self, datagrams: Iterable[bytes], cpu: int | None = None) -> None:
        """Sends captured exit records of one CPU again, to a CPU's listeners.

        They keep their numbers; the family's id becomes this kernel's.
        """
        captured = list(datagrams)  # before the lock, like a cgroup's tasks
        with self._lock:
            self._handle_queued()
            on = self._first(cpu)
            for datagram in captured:
                sent = bytearray(datagram)
                _U16.pack_into(sent, messages.TYPE_AT, self._state.family)
                self._state.listeners.send(on, sent)
                (seq,) = _U32.unpack_from(sent, messages.SEQ_AT)
                self._state.listeners.set_number(on, seq + 1)

    def _first(self, cpu: int | None) -> int:
        return self._state.cpus[0] if cpu is None else self._possible(cpu)

    # -- cgroups and listeners

    def cgroup(self, path: str | Path, tasks: Iterable[Task] = (), version: int = 1) -> Cgroup:
        """Declares a directory to be a cgroup with these tasks; version 2 is refused, as it is.

        Whoever asks must be in this process: a datagram carries no descriptors.
        """
        members = list(tasks)  # before the lock: it may be this kernel that makes them
        with self._lock:
            self._handle_queued()
            return self._state.cgroups.add(path, members, version)

    def listeners(self, cpu: int | None = None) -> list[int]:
        """The netlink ports registered on a CPU, the newest first."""
        with self._lock:
            self._handle_queued()
            return self._state.listeners.ports(self._first(cpu))

    # -- the socket

    def _deliver(self, port: int, datagram: bytes | bytearray) -> Delivery:
        try:
            self._socket.sendto(datagram, (port, 0))
        except BlockingIOError:
            return "full"
        except ConnectionRefusedError:
            return "gone"
        return "queued"

    def _handle_queued(self) -> None:
        """Answers what has been sent so far. With the lock held.

        Raises:
            ValueError: It is closed.
        """
        if self._socket.fileno() < 0:
            raise ValueError("the emulated kernel is closed")
        while True:
            try:
                size, (port, _) = self._socket.recvfrom_into(self._buffer)
            except BlockingIOError:
                return
            datagram = bytes(memoryview(self._buffer)[:size])
            genetlink.answer(self._state, port, datagram, self._deliver)

    # -- lifecycle

    def close(self) -> None:
        """Ends it; whoever asks it then is refused (ECONNREFUSED), and calls are a ValueError."""
        if self._thread.is_alive():  # it is not in a child of fork
            with suppress(BrokenPipeError):  # it ends by itself, after a bug
                self._wake.send(b"x")
            self._thread.join()
        self._wake.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_thread") and self._thread.is_alive():
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
            with suppress(OSError):  # the collector has closed it: that ends the thread as well
                self._wake.send(b"x")
            self._wake.close()

    def __repr__(self) -> str:
        layout = self._state.layout
        return f"<EmulatedKernel port {self.endpoint.port}, struct version {layout.version}>"


def _alive(task: Task) -> None:
    if task.exited:
        raise ValueError(f"{task!r} has exited")


def _serve(of: weakref.ref[EmulatedKernel], asked: socket.socket, woken: socket.socket) -> None:
    """The thread. It does not keep the kernel: one that nobody has any more ends, and says so."""
    waited = select.poll()  # select takes no descriptor beyond 1,023
    for one in (asked, woken):
        waited.register(one, select.POLLIN)
    closing = False
    with asked, woken:  # also after a bug: clients are refused, and do not wait
        while not closing:
            closing = woken.fileno() in dict(waited.poll())
            if kernel := of():
                with kernel._lock:  # what was asked before it closes, too
                    kernel._handle_queued()
            del kernel


def _open() -> socket.socket:
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_USERSOCK)
    try:
        made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _RCVBUF)
    except OSError as error:
        if error.errno != errno.EPERM:
            raise
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RCVBUF)
    made.setblocking(False)
    try:
        _bind(made)
    except OSError:
        made.close()
        raise
    return made


def _bind(made: socket.socket) -> None:
    """Gives it a port that no client is given by itself, nor any of the next 255 kernels here.

    A client that took the port of a kernel that is gone would talk to itself.
    """
    for number in itertools.islice(_numbers, _MOST):
        try:
            made.bind((_PORTS | os.getpid() << 8 | number % _MOST, 0))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            return
    raise OSError(errno.EADDRINUSE, f"a process has {_MOST} emulated kernels at most")
