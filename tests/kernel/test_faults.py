"""ExitListener when things go wrong: what it heard and what it lost are every exit there was.

Others on the machine exit too. So a test counts the exits of its own storm, which no one else's
record is taken for, or compares with a second listener that has room for all.
"""

import ctypes
import errno
import gc
import multiprocessing
import os
import random
import resource
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from support import child, compiled, raw, wire
from support.descriptors import NETLINK_GENERIC, disconnect, leave_free, netlink_sockets, port_of
from support.reference import Key, between, key, losses, roomy, some, streams, waiting
from support.requirements import lacks, needs_processes
from support.storm import CPUS, Storm, everywhere, exits_in

from taskstats import Batch, ExitListener, Record, TaskstatsError, host
from taskstats.probe import Mode
from taskstats.rows import ROW

CPU = CPUS[0]
POSSIBLE = host.possible_cpus()
SMALL = 1 << 20  # holds fewer than a thousand records


def make_exits(n: int, cpu: int = CPU) -> None:
    """Child processes of a storm on this CPU; their records have been built."""
    with Storm("processes", cpu=cpu, exits=n) as one:
        one.begin()
        assert one.finish() == n


def contents(record: Record) -> dict[str, Any]:
    """What the kernel said in it; the rest is the listener's own."""
    return {k: v for k, v in record.to_dict().items() if k not in ("lost_before", "received_ns")}


# ---- overflow --------------------------------------------------------------------------------


def test_an_overflow_is_counted_and_placed_and_harms_nothing_after_it() -> None:
    with roomy([CPU]) as reference, ExitListener([CPU], rcvbuf=SMALL) as listener:
        make_exits(2_000)  # nobody reads
        batches = waiting(listener)
        with Storm("processes", cpu=CPU, exits=100, failing_every=3) as later:
            later.begin()
            later.finish()
        listener.stop()
        batches += listener.batches()
        stats = listener.stats()
        told = [record for batch in waiting(reference) for record in batch]
        assert reference.stats().lost == 0
    records = [record for batch in batches for record in batch]
    truth, heard = list(map(key, told)), list(map(key, records))
    assert stats.lost >= 1_000
    assert stats.received == len(records)
    assert stats.received + stats.lost == len(between(truth, heard))
    assert {key(r): r.lost_before for r in records if r.lost_before} == losses(truth, heard)

    complete = {key(record): contents(record) for record in told}
    assert all(contents(record) == complete[key(record)] for record in records)
    codes = [record.exit_code for record in records if record.ac_ppid == later.pid]
    assert codes == [0, 0, 1] * 33 + [0]


@pytest.mark.parametrize("more", range(0, 2_048, 512))
def test_stopping_on_a_full_queue_counts_no_answer_as_an_exit(more: int) -> None:
    """However little room is left: an answer is smaller than a record."""
    with roomy([CPU]) as reference:
        waiting(reference)  # what came before
        with ExitListener([CPU], rcvbuf=SMALL + more) as listener:
            make_exits(2_000)
            listener.stop()
            told = sum(map(len, waiting(reference)))
            received = sum(map(len, listener.batches()))
            stats = listener.stats()
    assert stats.received == received
    assert 2_000 <= stats.received + stats.lost <= told


def consume(words: Connection) -> None:
    """Reads, in a process of its own, and tells what it heard, and how much was lost before it."""
    records: list[tuple[Key, int]] = []

    def take(batches: Iterable[Batch]) -> None:
        records.extend((key(r), r.lost_before) for batch in batches for r in batch)

    with ExitListener([CPU], rcvbuf=SMALL) as listener:
        words.send("listening")
        take([some(listener)])
        words.send("hearing")
        while not words.poll():
            take([next(listener.batches(timeout=0.01))])
        take(waiting(listener))
        words.recv()
        words.send("empty")
        words.recv()
        listener.stop()
        take(listener.batches())
        words.send((records, listener.stats()))


def heard_more(reference: ExitListener, exits: int) -> list[Batch]:
    """What has come so far, and at least so many exits after that."""
    batches = waiting(reference)
    while exits > 0:
        batches.append(some(reference))
        exits -= len(batches[-1])
    return batches


def test_a_reader_that_is_stopped_in_a_storm_and_goes_on_counts_exactly() -> None:
    words, its_words = multiprocessing.Pipe()
    batches: list[Batch] = []
    with (
        roomy([CPU]) as reference,
        Storm("processes", cpu=CPU, rate=10_000) as storm,
        child.beside(consume, its_words) as reader,
    ):
        its_words.close()
        assert words.recv() == "listening"
        storm.begin()
        assert words.recv() == "hearing"
        for _ in range(3):
            os.kill(reader, signal.SIGSTOP)
            os.waitpid(reader, os.WUNTRACED)
            batches += heard_more(reference, 2_000)
            os.kill(reader, signal.SIGCONT)
            batches += heard_more(reference, 500)
        storm.finish()
        words.send("read until it is empty")
        assert words.recv() == "empty"
        make_exits(1)  # heard, so that all losses stand between two that were
        words.send("end")
        records, stats = words.recv()
        batches += waiting(reference)
        assert reference.stats().lost == 0
    truth, heard = streams(batches)[CPU], [one for one, _ in records]
    assert stats.lost >= 3 * 1_000
    assert stats.received == len(records)
    assert stats.received + stats.lost == len(between(truth, heard))
    assert {one: lost for one, lost in records if lost} == losses(truth, heard)


# ---- a buffer --------------------------------------------------------------------------------

QUEUE = 8 << 20  # holds 3,600 to 6,600 records: of SLOWLY, the exits of 180 ms at least
SLOWLY = 20_000  # exits a second


def sleep_until(storm: Storm) -> int:
    return storm.finish()


def work_until(storm: Storm) -> int:
    """Uses all of a CPU, and Python's lock."""
    made: list[int] = []
    waiter = threading.Thread(target=lambda: made.append(storm.finish()))
    waiter.start()
    while not made:
        sum(range(10_000))
    waiter.join()
    return made[0]


@pytest.mark.parametrize("be_slow", [sleep_until, work_until])
@pytest.mark.parametrize("probe", ["off", "auto"])
def test_a_slow_reader_with_a_buffer_loses_nothing(
    be_slow: Callable[[Storm], int], probe: Mode
) -> None:
    queue = {"rcvbuf": QUEUE, "rcvbuf_total": 1 << 40}
    with (
        ExitListener([CPU], **queue) as without,
        ExitListener([CPU], **queue, buffer=64 << 20, probe=probe) as listener,
        Storm("processes", cpu=CPU, exits=10_000, rate=SLOWLY) as storm,
    ):
        storm.begin()
        made = be_slow(storm)
        without.stop()
        listener.stop()
        batches = list(listener.batches())
        stats = listener.stats()
    assert without.stats().lost > 3_000
    assert exits_in(batches, [storm]) == made
    assert (stats.received, stats.lost) == (sum(map(len, batches)), 0)
    assert stats.buffer is not None
    assert (stats.buffer.full, stats.buffer.waiting, stats.buffer.used) == (0, 0, 0)
    assert stats.buffer.most_used > 5_000 * ROW


def test_losses_while_the_buffer_is_full_are_counted_and_placed() -> None:
    with (
        roomy([CPU]) as reference,
        ExitListener([CPU], rcvbuf=SMALL, buffer=1 << 20) as listener,
    ):
        make_exits(5_000)  # nobody reads: 1,400 and less than 1,000 find room
        batches = waiting(listener)
        make_exits(100)
        listener.stop()
        batches += listener.batches()
        stats = listener.stats()
        told = [record for batch in waiting(reference) for record in batch]
        assert reference.stats().lost == 0
    records = [record for batch in batches for record in batch]
    truth, heard = list(map(key, told)), list(map(key, records))
    assert stats.buffer is not None
    assert stats.buffer.full >= 1
    assert stats.lost >= 2_000
    assert stats.received == len(records)
    assert stats.received + stats.lost == len(between(truth, heard))
    assert {key(r): r.lost_before for r in records if r.lost_before} == losses(truth, heard)


# ---- signals ---------------------------------------------------------------------------------


@pytest.fixture
def _alarm_is_ctrl_c() -> Iterator[None]:
    """SIGALRM does what SIGINT does: a timer hits more places than another process can."""
    previous = signal.signal(signal.SIGALRM, signal.default_int_handler)
    gc.disable()  # its callbacks (hypothesis has one) swallow what is raised in them
    yield
    gc.enable()
    signal.signal(signal.SIGALRM, previous)


@pytest.mark.parametrize(("max_latency", "buffer"), [(0, 0), (0.005, 0), (0.005, None)])
@pytest.mark.parametrize("read", [ExitListener.batches, ExitListener.__iter__])
@pytest.mark.usefixtures("_alarm_is_ctrl_c")
def test_ctrl_c_again_and_again_in_a_storm_loses_and_doubles_nothing(
    read: Callable[[ExitListener], Iterable[Any]], max_latency: float, buffer: int | None
) -> None:
    needs_processes()
    received: list[Any] = []
    interrupts, interrupted = 1_200, 0
    chance = random.Random(1)
    with (
        roomy([CPU], max_latency, buffer) as listener,
        Storm("threads", cpu=CPU, rate=10_000) as storm,  # as long as there are interrupts:
    ):  # a signal that comes just before a wait for records is heard at the next record
        storm.begin()
        for _ in range(interrupts):
            try:
                signal.setitimer(signal.ITIMER_REAL, chance.uniform(1e-6, 2e-4))
                for one in read(listener):
                    received.append(one)  # noqa: PERF402 - an interrupt loses nothing here
            except KeyboardInterrupt:
                interrupted += 1
        made = storm.finish()
        listener.stop()
        received += read(listener)
        stats = listener.stats()
    records = [r for one in received for r in ([one] if isinstance(one, Record) else one)]
    keys = [key(record) for record in records]
    assert interrupted == interrupts
    assert len(keys) == len(set(keys)) == stats.received
    assert sum(r.ac_tgid == storm.pid != r.ac_pid for r in records) == made
    assert stats.lost == 0


# ---- other processes -------------------------------------------------------------------------


def crash(_: ExitListener) -> None:
    signal.signal(signal.SIGSEGV, signal.SIG_DFL)  # without pytest's report of it
    child.prctl(child.PR_SET_DUMPABLE, 0)
    ctypes.string_at(0)


#: How a child of fork may end -> its exit status.
ENDS: dict[str, tuple[Callable[[ExitListener], object], int]] = {
    "it closes the listener": (ExitListener.close, 0),
    "_exit": (lambda _: os._exit(3), 3),
    "it crashes": (crash, -signal.SIGSEGV),
    "it is killed": (lambda _: os.kill(os.getpid(), signal.SIGKILL), -signal.SIGKILL),
}


@pytest.mark.parametrize("end", ENDS)
def test_children_of_fork_end_in_a_storm_and_their_parent_hears_it_all(end: str) -> None:
    how, status = ENDS[end]
    with roomy() as listener, everywhere("threads", rate=5_000) as storms:
        heard = 0
        for _ in range(10):
            heard += exits_in([some(listener)], storms)
            forked = os.fork()
            if forked == 0:
                try:
                    how(listener)
                    os._exit(0)
                finally:
                    os._exit(1)
            assert os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1]) == status
        made = sum(storm.finish() for storm in storms)
        listener.stop()
        heard += exits_in(listener.batches(), storms)
        assert listener.stats().lost == 0
    assert heard == made


#: The interpreter of the child ends as usual, with the listener and all else that it inherited.
CHILDREN_END = """
import os, sys
from support.reference import roomy, some
from support.scale import scaled
from support.storm import CPUS, Storm, exits_in

listener = roomy()
storms = [Storm("threads", cpu=cpu, rate=5_000) for cpu in CPUS]
for storm in storms:
    storm.begin()
heard = 0
for _ in range(10):
    heard += exits_in([some(listener)], storms)
    forked = os.fork()
    if forked == 0:
        sys.exit(3)
    assert os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1]) == 3
made = sum(storm.finish() for storm in storms)
listener.stop()
heard += exits_in(listener.batches(), storms)
print(heard - made, listener.stats().lost)
listener.close()
"""


def test_children_of_fork_that_end_as_usual_take_nothing_from_their_parent() -> None:
    needs_processes()
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    command = [sys.executable, "-c", CHILDREN_END]
    assert subprocess.check_output(command, env=environment, text=True) == "0 0\n"


def listen_beside(words: Connection) -> None:
    with ExitListener() as _listener:
        words.send("listening")
        signal.pause()


def register_beside(words: Connection) -> None:
    with raw.register(0, POSSIBLE) as _socket:
        words.send("listening")
        signal.pause()


@pytest.mark.parametrize("listen", [listen_beside, register_beside])
def test_listeners_that_are_killed_in_a_storm_take_nothing_from_ours(
    listen: Callable[[Connection], None],
) -> None:
    with roomy() as listener, everywhere("threads", rate=5_000) as storms:
        heard = 0
        for _ in range(20):
            words, its_words = multiprocessing.Pipe()
            with words, child.beside(listen, its_words):
                its_words.close()
                assert words.recv() == "listening"
                heard += exits_in([some(listener)], storms)
            heard += exits_in([some(listener)], storms)
        made = sum(storm.finish() for storm in storms)
        listener.stop()
        heard += exits_in(listener.batches(), storms)
        assert listener.stats().lost == 0
    assert heard == made


# ---- descriptors, rights, ports --------------------------------------------------------------


#: An epoll, an eventfd, and a socket for each CPU.
NEEDED = 2 + len(CPUS)


@pytest.mark.parametrize("spare", range(1, NEEDED))
def test_too_few_descriptors_are_told_and_leave_nothing_behind(
    spare: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the check beforehand does not see it: another thread may take them after it."""
    monkeypatch.setattr(host, "free_descriptors", lambda: 1_000)

    def open_with_too_few() -> tuple[int, int]:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
        before = set(os.listdir("/proc/self/fd"))
        taken = leave_free(spare)
        with pytest.raises(TaskstatsError, match=r"too few file descriptors.*ulimit") as caught:
            ExitListener(CPUS)
        assert caught.value.errno == errno.EMFILE
        for fd in taken:
            os.close(fd)
        assert set(os.listdir("/proc/self/fd")) == before
        port = os.getpid()  # what the kernel gave to the first socket
        assert port not in raw.sockets()
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_GENERIC) as heir:
            heir.bind((port, 0))
            for cpu in CPUS:
                make_exits(10, cpu)
            return port - os.getpid(), raw.sockets()[port]

    compiled.program("storm")
    assert child.run(open_with_too_few) == (0, 0)


def test_with_no_descriptor_to_spare_it_hears_and_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "free_descriptors", lambda: 1_000)

    def listen() -> tuple[bool, bool]:
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        leave_free(NEEDED)
        with ExitListener(CPUS) as listener:
            during = {child.spawn_and_reap() for _ in range(10)}
            listener.stop()
            after = {child.spawn_and_reap() for _ in range(10)}
            heard = {r.ac_pid for batch in listener.batches() for r in batch}
        return during <= heard, bool(after & heard)

    assert child.run(listen) == (True, False)


def test_without_the_capability_it_reads_on_and_stops_exactly() -> None:
    def listen() -> None:
        with roomy() as reference, roomy() as listener:
            child.become(0)  # with no capability
            assert not host.has("net_admin")
            with everywhere("processes", rate=5_000) as storms:
                batches = [some(listener) for _ in range(10)]
                before = {child.run_true() for _ in range(3)}
                listener.stop()
                after = {child.run_true() for _ in range(3)}
                for one in storms:
                    one.finish()
            batches += listener.batches()
            assert listener.stats().lost == reference.stats().lost == 0
            truth, found = streams(waiting(reference)), streams(batches)
        for cpu, heard in found.items():
            assert sorted(heard) == sorted(between(truth[cpu], heard))
        pids = {pid for heard in found.values() for _, pid in heard}
        assert before <= pids
        assert not after & pids

    compiled.program("storm")
    child.run(listen)


@pytest.fixture
def other_cpu() -> int:
    if len(CPUS) < 2:
        lacks("two CPUs")
    return CPUS[1]


def test_a_reused_port_brings_no_exits_of_other_cpus(other_cpu: int) -> None:
    """A registration that a dead listener left behind covers all; ours is for one."""

    def listen() -> None:
        port = os.getpid()  # what the kernel gives a process's first netlink socket
        raw.register(port, POSSIBLE).close()
        with Storm("processes", cpu=other_cpu, rate=5_000) as elsewhere:
            elsewhere.begin()
            with roomy([CPU]) as listener, Storm("processes", cpu=CPU, exits=500) as here:
                (fd,) = netlink_sockets(NETLINK_GENERIC)
                assert port_of(fd) == port
                here.begin()
                made = here.finish()
                assert elsewhere.finish() > 0
                listener.stop()
                batches = list(listener.batches())
                stats = listener.stats()
        assert exits_in(batches, [here]) == made
        assert exits_in(batches, [elsewhere]) == 0
        assert sum(map(len, batches)) == stats.received
        assert stats.lost == 0
        assert stats.unexplained <= stats.received - made

    compiled.program("storm")
    child.run(listen)


# ---- other senders ---------------------------------------------------------------------------

#: What somebody else may send: what is no message, what claims more than there is, what does not
#: fit a receive slot, and what looks like a record.
FOREIGN = (
    b"x" * 100,
    wire.message(wire.NULL)[:-1],
    wire.datagram()[:300],
    wire.datagram() + bytes(5_000),
    b"x" * 60_000,
    wire.datagram(seq=1),
    wire.answer(-errno.ENOMEM),
)


def test_other_senders_are_counted_and_harm_no_record() -> None:
    """In the moment between bind and connect, when the kernel lets them in."""
    with (
        roomy([CPU]) as reference,
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_GENERIC) as sender,
    ):
        before = netlink_sockets(NETLINK_GENERIC)
        with roomy([CPU]) as listener:
            (fd,) = netlink_sockets(NETLINK_GENERIC) - before
            disconnect(fd)
            for datagram in FOREIGN:
                make_exits(100)
                sender.sendto(datagram, (port_of(fd), 0))
            make_exits(100)
            listener.stop()
            records = [record for batch in listener.batches() for record in batch]
            stats = listener.stats()
        told = {key(record): record for batch in waiting(reference) for record in batch}
    assert (stats.foreign, stats.truncated, stats.malformed) == (len(FOREIGN), 0, 0)
    assert (stats.lost, stats.received) == (0, len(records))
    heard = list(map(key, records))
    assert between(list(told), heard) == heard
    assert len(heard) >= 100 * (len(FOREIGN) + 1)
    assert all(contents(record) == contents(told[key(record)]) for record in records)
    assert not any(record.lost_before for record in records)


# ---- CPUs that come and go -------------------------------------------------------------------


def bring(cpu: int, online: bool) -> None:
    Path(f"/sys/devices/system/cpu/cpu{cpu}/online").write_text(str(int(online)))


@pytest.fixture
def hot_cpu() -> Iterator[int]:
    """A CPU that can be taken offline, and comes back at the end."""
    cpu = CPUS[-1]
    try:
        bring(cpu, False)
        bring(cpu, True)
    except OSError:
        lacks("CPU hotplug")
    yield cpu
    bring(cpu, True)


def test_a_cpu_that_is_offline_when_listening_begins_is_heard_once_online(hot_cpu: int) -> None:
    bring(hot_cpu, False)
    with ExitListener() as listener:
        bring(hot_cpu, True)
        with Storm("processes", cpu=hot_cpu, exits=100) as here:
            here.begin()
            made = here.finish()
        listener.stop()
        records = [r for batch in listener.batches() for r in batch if r.ac_ppid == here.pid]
        assert listener.stats().lost == 0
    assert len(records) == made
    assert {record.cpu for record in records} == {hot_cpu}


def test_a_cpu_goes_offline_and_comes_back_in_a_storm_and_all_is_heard(hot_cpu: int) -> None:
    heard = made = 0
    with roomy() as listener:
        for _ in range(3):
            with everywhere("processes", rate=2_000) as storms:
                heard += exits_in([some(listener)], storms)
                bring(hot_cpu, False)  # its storm goes on elsewhere
                heard += exits_in([some(listener)], storms)
                bring(hot_cpu, True)
                made += sum(storm.finish() for storm in storms)
                heard += exits_in(waiting(listener), storms)
            with Storm("processes", cpu=hot_cpu, exits=100) as here:
                here.begin()
                here.finish()
            batches = waiting(listener)
            assert exits_in(batches, [here]) == 100
            assert len(streams(batches)[hot_cpu]) >= 100
        assert listener.stats().lost == 0
    assert heard == made
