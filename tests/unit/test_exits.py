"""ExitListener against a peer that sends what a test tells it to."""

import errno
import gc
import itertools
import os
import resource
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from support import fake_kernel
from support.descriptors import disconnect, netlink_sockets, port_of
from support.fake_kernel import FakeKernel

from taskstats import Batch, ExitListener, TaskstatsError
from taskstats.exits import BATCH_ROWS


@pytest.fixture
def kernel() -> Iterator[FakeKernel]:
    with FakeKernel() as fake:
        yield fake


Send = Callable[[bytes], None]


@pytest.fixture(params=[0, 1 << 20], ids=["unbuffered", "buffered"])
def listener(kernel: FakeKernel, request: pytest.FixtureRequest) -> Iterator[ExitListener]:
    endpoint = kernel.endpoint(cpus="0-1")
    with ExitListener(max_latency=0, buffer=request.param, endpoint=endpoint) as one:
        yield one


@pytest.fixture
def send(kernel: FakeKernel, listener: ExitListener) -> Callable[..., None]:
    """Sends a datagram to the listener's socket of a CPU."""
    wait_for_registration(kernel, len(listener.cpus))

    def send_to(datagram: bytes, cpu: int = 0) -> None:
        kernel.send(kernel.registered()[cpu], datagram)

    return send_to


def wait_for_registration(kernel: FakeKernel, cpus: int) -> None:
    while len(kernel.registered()) < cpus:
        select.select([], [], [], 0.001)


def wait_for_answers(kernel: FakeKernel) -> None:
    """Until the peer has sent all that its last request calls for: it answers in order."""
    with ExitListener("0", endpoint=kernel.endpoint()):
        pass


def read(listener: ExitListener, n: int) -> list[int]:
    """The ids of the next n records."""
    ids: list[int] = []
    for batch in listener.batches(timeout=60):
        ids += [record.id for record in batch]
        if len(ids) >= n or not batch:
            return ids
    return ids


def test_one_socket_a_cpu_each_registered_for_its_own(kernel: FakeKernel) -> None:
    with ExitListener("0,2-3", endpoint=kernel.endpoint(cpus="0-3")):
        wait_for_registration(kernel, 3)
    lists = [r.value for r in kernel.seen if r.attribute == fake_kernel.REGISTER]
    assert lists == [b"0\0", b"2\0", b"3\0"]
    assert len(set(kernel.registered())) == 3


def test_every_socket_first_ends_what_its_port_inherited(kernel: FakeKernel) -> None:
    with ExitListener("1", endpoint=kernel.endpoint(cpus="0-3")):
        wait_for_registration(kernel, 1)
    asked = [(r.attribute, r.value) for r in kernel.seen if r.type == fake_kernel.FAMILY]
    assert asked[:2] == [(fake_kernel.DEREGISTER, b"0-3\0"), (fake_kernel.REGISTER, b"1\0")]


def test_records_carry_their_cpu_and_time(listener: ExitListener, send: Send) -> None:
    send(fake_kernel.exit_record(5, 100), 1)  # type: ignore[call-arg]
    batch = next(listener.batches(timeout=60))
    record = batch[0]
    assert (record.id, record.cpu, record.seq, record.lost_before) == (100, 1, 5, 0)
    assert record.received_at is not None
    assert record.is_exit


def test_a_group_comes_with_its_last_thread(listener: ExitListener, send: Send) -> None:
    send(fake_kernel.exit_record(1, 10))
    send(fake_kernel.exit_record(2, 20, "exit_thread3"))
    seen = [r for batch in [*take(listener, 2)] for r in batch]
    assert [r.group is not None for r in seen] == [False, True]
    group = seen[1].group
    assert group is not None
    assert (group.kind, group.cpu, group.seq) == ("group", 0, 2)


def take(listener: ExitListener, n: int) -> Iterator[Batch]:
    got = 0
    for batch in listener.batches(timeout=60):
        assert batch, "nothing came"
        yield batch
        got += len(batch)
        if got >= n:
            return


def test_an_empty_batch_at_a_timeout(listener: ExitListener) -> None:
    batches = listener.batches(timeout=0)
    assert len(next(batches)) == 0
    assert len(next(batches)) == 0


def test_numbers_that_are_missing_without_drops_are_unexplained(
    listener: ExitListener, send: Send
) -> None:
    for seq in (0xFFFF_FFFE, 0xFFFF_FFFF, 0, 1, 4, 2):  # wraps; skips 2 and 3; 2 comes late
        send(fake_kernel.exit_record(seq, seq & 0xFF))
    records = [r for batch in take(listener, 6) for r in batch]
    stats = listener.stats()
    assert [r.lost_before for r in records] == [0] * 6
    assert (stats.received, stats.lost, stats.unexplained) == (6, 0, 1)


def test_records_that_overtake_each_other_leave_no_hole(listener: ExitListener, send: Send) -> None:
    for seq in (7, 9, 8, 10, 12, 11, 13):
        send(fake_kernel.exit_record(seq, seq))
    assert read(listener, 7) == [7, 9, 8, 10, 12, 11, 13]
    assert listener.stats().unexplained == 0


@pytest.mark.parametrize(
    ("numbers", "unexplained"),
    [
        ((10, 11, 5000, 12, 13), 0),
        ((10, 11, 5000, 9000, 12, 13), 0),
        ((10, 11, 5000, 13, 14), 1),
        ((10, 11, 5000, 13, 12, 14), 0),
        ((10, 11, 5000), 0),
        ((10, 11, 12, 3, 13), 0),
    ],
)
def test_a_stray_number_of_another_cpu_is_no_hole(
    listener: ExitListener, send: Send, numbers: tuple[int, ...], unexplained: int
) -> None:
    for seq in numbers:
        send(fake_kernel.exit_record(seq, seq))
    assert read(listener, len(numbers)) == list(numbers)
    assert listener.stats().unexplained == unexplained


def test_a_jump_after_which_the_numbers_go_on_is_a_hole(listener: ExitListener, send: Send) -> None:
    for seq in (10, 5000, 5001, 5002, 11):  # 11 comes late
        send(fake_kernel.exit_record(seq, seq))
    read(listener, 5)
    assert listener.stats().unexplained == 5000 - 11 - 1


BAD = {
    "truncated": fake_kernel.frame("exit") + bytes(5000),
    "length": fake_kernel.frame("exit")[:-4],
    "byte-order": fake_kernel.frame("exit", "s390x-6.1"),
    "unexpected": fake_kernel.frame("pid"),
}


@pytest.mark.parametrize("reason", BAD)
def test_a_bad_datagram_is_counted_and_harms_no_other(
    listener: ExitListener, send: Send, reason: str
) -> None:
    send(fake_kernel.exit_record(1, 10))
    send(BAD[reason])
    send(fake_kernel.exit_record(2, 20))
    assert read(listener, 2) == [10, 20]
    stats = listener.stats()
    assert stats.cpus[0].refused == {reason: 1}
    assert (stats.truncated, stats.malformed) == ((1, 0) if reason == "truncated" else (0, 1))
    assert (stats.received, stats.lost, stats.unexplained) == (2, 0, 0)


def sockets() -> set[int]:
    return netlink_sockets(fake_kernel.NETLINK_USERSOCK)


def test_another_sender_is_refused_by_the_connection(kernel: FakeKernel) -> None:
    before = sockets()
    with (
        ExitListener("0", endpoint=kernel.endpoint()),
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, fake_kernel.NETLINK_USERSOCK) as other,
    ):
        (fd,) = sockets() - before - {other.fileno()}
        with pytest.raises(ConnectionRefusedError):
            other.sendto(fake_kernel.exit_record(1, 666), (port_of(fd), 0))


def test_another_sender_is_refused_by_the_source_check(kernel: FakeKernel) -> None:
    before = sockets()
    with (
        ExitListener("0", max_latency=0, endpoint=kernel.endpoint()) as listener,
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, fake_kernel.NETLINK_USERSOCK) as other,
    ):
        (fd,) = sockets() - before - {other.fileno()}
        disconnect(fd)
        wait_for_registration(kernel, 1)
        other.sendto(fake_kernel.exit_record(1, 666), (port_of(fd), 0))
        kernel.send(port_of(fd), fake_kernel.exit_record(1, 10))
        assert read(listener, 1) == [10]
        stats = listener.stats()
    assert (stats.foreign, stats.received, stats.malformed) == (1, 1, 0)


def refuse_to_register(request: fake_kernel.Request) -> Iterator[bytes]:
    if request.attribute == fake_kernel.REGISTER:
        yield fake_kernel.error(request, errno.ENOMEM)
        yield fake_kernel.exit_record(1, 10)
    else:
        yield from fake_kernel.behave(request)


def test_a_refused_registration_is_told_after_what_was_received(kernel: FakeKernel) -> None:
    kernel.answer = refuse_to_register
    with ExitListener("0", endpoint=kernel.endpoint()) as listener:
        wait_for_answers(kernel)
        assert read(listener, 1) == [10]
        with pytest.raises(TaskstatsError) as caught:
            next(listener.batches(timeout=60))
    assert caught.value.errno == errno.ENOMEM


def test_a_refused_registration_does_not_keep_it_from_closing(kernel: FakeKernel) -> None:
    kernel.answer = refuse_to_register
    with ExitListener("0", endpoint=kernel.endpoint()) as listener:
        wait_for_answers(kernel)
    assert listener.closed
    assert [r.id for r in listener] == [10]


# ---- waiting, stopping, closing --------------------------------------------------------------


def test_stop_lets_what_is_queued_be_read(listener: ExitListener, send: Send) -> None:
    for seq in range(10):
        send(fake_kernel.exit_record(seq, seq))
    listener.stop()
    assert [r.id for batch in listener.batches() for r in batch] == list(range(10))
    assert list(listener.batches()) == []


def test_close_keeps_what_was_queued(listener: ExitListener, send: Send) -> None:
    for seq in range(10):
        send(fake_kernel.exit_record(seq, seq))
    listener.close()
    listener.close()
    assert [r.id for r in listener] == list(range(10))
    assert listener.stats().received == 10
    with pytest.raises(TaskstatsError, match="it is closed"):
        listener.fileno()


def test_deregisters_at_stop_and_only_once(kernel: FakeKernel) -> None:
    with ExitListener("1", endpoint=kernel.endpoint(cpus="0-1")) as listener:
        listener.stop()
        listener.stop()
    wait_for_answers(kernel)  # of a second listener, so the first one's requests are all there
    asked = [(r.attribute, r.value) for r in kernel.seen]
    assert asked[:4] == [  # and it does not ask whether it may: nobody might be able to answer
        (fake_kernel.DEREGISTER, b"0-1\0"),
        (fake_kernel.REGISTER, b"1\0"),
        (fake_kernel.DEREGISTER, b"1\0"),
        (fake_kernel.DEREGISTER, b"0-1\0"),  # the second one's own
    ]
    assert [request.wants_ack for request in kernel.seen[:4]] == [True, False, False, True]


@pytest.mark.parametrize("end", ["stop", "close"])
def test_ending_from_another_thread_wakes_a_reader(listener: ExitListener, end: str) -> None:
    reading = threading.Event()
    ended: list[Batch] = []

    def read_on() -> None:
        batches = listener.batches()
        reading.set()
        ended.extend(batches)

    reader = threading.Thread(target=read_on)
    reader.start()
    reading.wait()
    getattr(listener, end)()
    reader.join(timeout=60)
    assert not reader.is_alive()
    assert ended == []


@pytest.mark.parametrize("end", ["stop", "close"])
def test_ending_from_a_signal_handler(listener: ExitListener, send: Send, end: str) -> None:
    """The handler runs while the reader waits; what came in between is still read."""

    def handler(*_: object) -> None:
        for seq in range(5):
            send(fake_kernel.exit_record(seq, seq))
        getattr(listener, end)()

    previous = signal.signal(signal.SIGUSR1, handler)
    try:
        timer = threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGUSR1))
        timer.start()
        assert [r.id for batch in listener.batches() for r in batch] == list(range(5))
        timer.join()
    finally:
        signal.signal(signal.SIGUSR1, previous)
    assert listener.closed == (end == "close")


def test_closing_in_a_loop_over_batches(listener: ExitListener, send: Send) -> None:
    send(fake_kernel.exit_record(0, 0))
    ids: list[int] = []
    for batch in listener.batches():
        ids += [r.id for r in batch]
        if not listener.closed:
            send(fake_kernel.exit_record(1, 1))
            listener.close()
    assert ids == [0, 1]


def test_a_loop_that_was_left_is_taken_up_again(listener: ExitListener, send: Send) -> None:
    for seq in range(10):
        send(fake_kernel.exit_record(seq, seq))
    listener.stop()
    ids: list[int] = []
    for until in (3, 5):
        for record in listener:
            ids.append(record.id)
            if len(ids) == until:
                break
    ids += [r.id for batch in listener.batches() for r in batch]
    assert ids == list(range(10))


@pytest.mark.parametrize(
    "options", [{"max_latency": -1}, {"max_latency": float("nan")}, {"rcvbuf": 0}]
)
def test_arguments_that_make_no_sense(kernel: FakeKernel, options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"is a number of (seconds|bytes) from"):
        ExitListener(endpoint=kernel.endpoint(), **options)  # type: ignore[arg-type]


def interrupt_at(call: int) -> Callable[..., None]:
    """A profiler that raises, as a signal handler may, where this call of the package begins."""
    left = call

    def profile(frame: FrameType, event: str, _: object) -> None:
        nonlocal left
        if event == "call" and frame.f_code.co_filename.endswith("taskstats/exits.py"):
            left -= 1
            if left == 0:
                raise KeyboardInterrupt

    return profile


@pytest.mark.parametrize("read_one", [ExitListener.batches, ExitListener.__iter__])
def test_an_interrupt_at_any_call_loses_and_doubles_nothing(
    listener: ExitListener, send: Send, read_one: Callable[[ExitListener], Iterator[Any]]
) -> None:
    """Python runs signal handlers where a function begins, among other places."""
    seen: list[Any] = []
    for call in itertools.count(1):
        send(fake_kernel.exit_record(call, call))
        sys.setprofile(interrupt_at(call))
        try:
            seen.append(next(read_one(listener)))
        except KeyboardInterrupt:
            continue
        finally:
            sys.setprofile(None)
        break
    assert call > 5
    listener.stop()
    seen += read_one(listener)
    records = [r for one in seen for r in (one if isinstance(one, Batch) else [one])]
    assert [record.id for record in records] == list(range(1, call + 1))
    listener.close()
    assert listener.closed


@pytest.mark.parametrize("timeout", [-1, float("inf"), float("nan")])
def test_a_timeout_that_makes_no_sense(listener: ExitListener, timeout: float) -> None:
    with pytest.raises(ValueError, match="timeout is a number of seconds from 0"):
        next(listener.batches(timeout))


def test_ctrl_c_loses_nothing(listener: ExitListener, send: Send) -> None:
    timer = threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        timer.start()
        list(listener.batches())
    timer.join()
    send(fake_kernel.exit_record(1, 10))
    assert read(listener, 1) == [10]


def test_a_signal_does_not_stretch_the_timeout(listener: ExitListener) -> None:
    handled: list[int] = []
    previous = signal.signal(signal.SIGALRM, lambda n, _: handled.append(n))
    signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
    try:
        assert len(next(listener.batches(timeout=0.1))) == 0
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert handled, "the wait was interrupted"


def test_a_signal_while_records_gather_is_heard(kernel: FakeKernel) -> None:
    """What is queued is no record: nothing else would end the wait."""
    with ExitListener("0", max_latency=1000, endpoint=kernel.endpoint()) as listener:
        wait_for_registration(kernel, 1)
        kernel.send(kernel.registered()[0], BAD["unexpected"])
        select.select([listener], [], [], 60)
        timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            timer.start()
            list(listener.batches())
        timer.join()


@pytest.mark.parametrize("before", [1, 20], ids=["after a few", "after many"])
def test_records_gather(kernel: FakeKernel, before: int) -> None:
    """Where many came the reader sleeps at once, else when the next one has come."""
    with ExitListener("0", max_latency=1000, endpoint=kernel.endpoint()) as listener:
        wait_for_registration(kernel, 1)
        port = kernel.registered()[0]
        for seq in range(before):
            kernel.send(port, fake_kernel.exit_record(seq, seq))
        assert len(next(listener.batches(timeout=0.05))) == before, "the timeout comes first"
        for seq in range(before, 100):
            kernel.send(port, fake_kernel.exit_record(seq, seq))
        assert len(next(listener.batches(timeout=0.05))) == 100 - before
        assert len(next(listener.batches(timeout=0.05))) == 0
        kernel.send(port, fake_kernel.exit_record(100, 100))
        listener.stop()
        assert [r.id for r in listener] == [100]


@pytest.mark.parametrize("before", [1, 20], ids=["after a few", "after many"])
def test_a_queue_that_fills_up_is_read_before_the_latency_is_over(
    kernel: FakeKernel, before: int
) -> None:
    endpoint = kernel.endpoint()
    with ExitListener("0", max_latency=1000, rcvbuf=64 << 10, endpoint=endpoint) as listener:
        wait_for_registration(kernel, 1)
        port = kernel.registered()[0]
        for seq in range(before):
            kernel.send(port, fake_kernel.exit_record(seq, seq))
        assert len(next(listener.batches(timeout=0.05))) == before
        for seq in range(before, before + 20):  # 64 KiB hold some 50
            kernel.send(port, fake_kernel.exit_record(seq, seq))
        patience = threading.Timer(60, listener.stop)
        patience.start()
        (batch,) = itertools.islice(listener.batches(), 1)
        assert patience.is_alive(), "it was read only when the listener was stopped"
        patience.cancel()
        assert [r.id for r in batch] == list(range(before, before + 20))


def needs_room_for(listener: ExitListener, records: int) -> None:
    """Skips where a queue cannot hold so many: without privilege, net.core.rmem_max decides."""
    granted = listener.stats().cpus[0].rcvbuf
    if granted < records * 1536:
        pytest.skip(f"the {granted} bytes granted for a queue do not hold {records} records")


@pytest.mark.parametrize("listener", [0], indirect=True)  # with a buffer it is read meanwhile
def test_a_busy_cpu_does_not_keep_the_others_from_being_read(
    listener: ExitListener, send: Callable[..., None]
) -> None:
    full = BATCH_ROWS
    needs_room_for(listener, full + 1)
    batches = listener.batches(timeout=60)
    for seq in range(full + 1):
        send(fake_kernel.exit_record(seq, 1), 0)
    assert len(next(batches)) == full
    for seq in range(full):
        send(fake_kernel.exit_record(full + 1 + seq, 1), 0)
    send(fake_kernel.exit_record(7, 2), 1)
    assert {record.cpu for record in next(batches)} == {0, 1}


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(limits[0], 1024), limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.usefixtures("many_descriptors")
def test_of_512_cpus_only_those_that_have_something_are_read(kernel: FakeKernel) -> None:
    endpoint = kernel.endpoint(cpus="0-511")
    with ExitListener(max_latency=0, rcvbuf_total=0, endpoint=endpoint) as listener:
        wait_for_registration(kernel, 512)
        ports = kernel.registered()
        for seq in range(3):
            kernel.send(ports[300], fake_kernel.exit_record(seq, 7))
            assert read(listener, 1) == [7]
        read_often = {cpu.cpu: cpu.wakeups for cpu in listener.stats().cpus if cpu.wakeups}
        assert read_often == {300: 3}
        for cpu, port in enumerate(ports):
            kernel.send(port, fake_kernel.exit_record(3, cpu))
        listener.stop()
        assert sorted((r.cpu, r.id) for r in listener) == [(cpu, cpu) for cpu in range(512)]
        stats = listener.stats()
    assert (stats.received, stats.lost, stats.unexplained) == (515, 0, 0)


def test_closing_with_its_sockets_gone_is_an_error_once(kernel: FakeKernel) -> None:
    before = sockets()
    listener = ExitListener("0", endpoint=kernel.endpoint())
    for fd in sockets() - before:
        os.close(fd)
    with pytest.raises(TaskstatsError):
        listener.close()
    assert listener.closed
    listener.close()


def test_two_threads_reading_at_once(listener: ExitListener) -> None:
    caught: list[TaskstatsError] = []

    def read_too() -> None:
        try:
            list(listener.batches())
        except TaskstatsError as error:
            caught.append(error)
            listener.stop()

    threads = [threading.Thread(target=read_too) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [error.errno for error in caught] == [errno.EBUSY]


def test_fileno_is_readable_when_there_is_something(listener: ExitListener, send: Send) -> None:
    assert not select.select([listener], [], [], 0)[0]
    send(fake_kernel.exit_record(1, 10))
    assert select.select([listener], [], [], 60)[0]
    assert read(listener, 1) == [10]
    assert not select.select([listener], [], [], 0)[0]
    listener.stop()
    assert select.select([listener], [], [], 0)[0], "an event loop sees the end"


def test_unclosed_warns(kernel: FakeKernel) -> None:
    listener = ExitListener("0", endpoint=kernel.endpoint())
    with pytest.warns(ResourceWarning, match=r"unclosed <taskstats.ExitListener"):
        del listener
        gc.collect()


def test_a_child_of_fork_only_closes(
    kernel: FakeKernel, listener: ExitListener, send: Send
) -> None:
    asked = len(kernel.seen)
    child = os.fork()
    if child == 0:
        for use in (lambda: next(listener.batches()), listener.stop, listener.stats):
            try:
                use()
                os._exit(1)
            except TaskstatsError as error:
                if error.errno != errno.EOWNERDEAD:
                    os._exit(2)
        listener.close()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    send(fake_kernel.exit_record(1, 10))
    assert read(listener, 1) == [10]
    assert len(kernel.seen) == asked, "the child sent nothing"


def test_a_child_forked_while_another_thread_reads(listener: ExitListener) -> None:
    reader = threading.Thread(target=list, args=(listener.batches(),))
    reader.start()
    child = os.fork()
    if child == 0:
        try:
            next(listener.batches())
        except TaskstatsError as error:
            os._exit(0 if error.errno == errno.EOWNERDEAD else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    listener.stop()
    reader.join()


def test_an_open_that_is_interrupted_leaks_nothing(kernel: FakeKernel) -> None:
    """Ctrl-C arrives while the shim waits for an ACK, and is heard on its return."""

    def interrupt(request: fake_kernel.Request) -> Iterator[bytes]:
        kernel.answer = fake_kernel.behave
        os.kill(os.getpid(), signal.SIGINT)
        yield from fake_kernel.behave(request)

    before = len(os.listdir("/proc/self/fd"))
    kernel.answer = interrupt
    with pytest.raises(KeyboardInterrupt):
        ExitListener("0", endpoint=kernel.endpoint())
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_failed_open_leaks_nothing() -> None:
    with FakeKernel(lambda r: [fake_kernel.error(r, errno.EPERM)]) as kernel:
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(10):
            with pytest.raises(TaskstatsError):
                ExitListener(endpoint=kernel.endpoint())
        assert len(os.listdir("/proc/self/fd")) == before


def test_too_few_descriptors(kernel: FakeKernel) -> None:
    with pytest.raises(TaskstatsError, match="on 65000 CPUs: too few file descriptors") as caught:
        ExitListener(endpoint=kernel.endpoint(cpus="0-64999"))
    assert caught.value.errno == errno.EMFILE


def test_a_cpu_that_does_not_exist(kernel: FakeKernel) -> None:
    with pytest.raises(ValueError, match=r"no such CPU: 7, 9 \(this machine has 0-1\)"):
        ExitListener("0,7,9", endpoint=kernel.endpoint(cpus="0-1"))


@pytest.mark.parametrize(("total", "each"), [(4 << 20, 2 << 20), (1, 1 << 20)])
def test_buffers_are_bounded_in_all(kernel: FakeKernel, total: int, each: int) -> None:
    unprivileged = 2 * int(Path("/proc/sys/net/core/rmem_max").read_text())
    with ExitListener(rcvbuf_total=total, endpoint=kernel.endpoint(cpus="0-1")) as listener:
        granted = [cpu.rcvbuf for cpu in listener.stats().cpus]
    assert granted in ([each] * 2, [min(each, unprivileged)] * 2)


@pytest.mark.parametrize("listener", [0], indirect=True)  # with a buffer it is read meanwhile
def test_batches_are_bounded_and_full_ones_are_not_copied(
    listener: ExitListener, send: Send
) -> None:
    needs_room_for(listener, 1500)
    datagrams = [fake_kernel.exit_record(seq, seq, "exit_thread3") for seq in range(1500)]
    for cpu, start in ((0, 0), (1, 750)):
        for datagram in datagrams[start : start + 750]:
            send(datagram, cpu)  # type: ignore[call-arg]
    listener.stop()
    batches = listener.batches()
    full = next(batches)
    first, its_groups = full.data.tobytes(), full.groups.data.tobytes()
    (rest,) = batches
    assert (len(full), len(rest)) == (BATCH_ROWS, 1500 - BATCH_ROWS)
    assert sorted(r.id for batch in (full, rest) for r in batch) == list(range(1500))
    assert full.data.tobytes() == first, "nobody writes there again"
    assert full.groups.data.tobytes() == its_groups
    assert [r.group.seq for r in full if r.group] == [r.seq for r in full]
