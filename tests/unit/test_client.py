"""Client against a peer that answers as told: losses, disorder, lies, silence."""

import errno
import gc
import os
import struct
import threading
from array import array
from collections.abc import Iterable

import numpy as np
import pytest
from support import fake_kernel
from support.fake_kernel import FakeKernel, Request

from taskstats import (
    AccessDenied,
    Client,
    Endpoint,
    NoSuchTask,
    ProtocolError,
    TaskstatsError,
    Unavailable,
)


def answering(kernel: FakeKernel, **options: float) -> Client:
    return Client(endpoint=kernel.endpoint(**options))  # type: ignore[arg-type]


def only_ids(condition: object) -> object:
    """Answers queries by `condition`, everything else as a kernel would."""

    def answer(request: Request) -> Iterable[bytes]:
        return condition(request) if request.is_query else fake_kernel.behave(request)  # type: ignore[operator]

    return answer


def test_family_is_looked_up_by_name() -> None:
    with FakeKernel() as kernel, answering(kernel, family=0) as client:
        assert client.pid(7).id == 7
    lookup, *_, query = kernel.seen
    assert lookup.type == fake_kernel.NLCTRL
    assert lookup.value == b"TASKSTATS\0"
    assert query.type == fake_kernel.FAMILY, "the id that ctrl.bin holds"


def test_a_new_socket_ends_registrations_of_its_port() -> None:
    with FakeKernel() as kernel, answering(kernel, cpus="0-7"):  # type: ignore[arg-type]
        pass
    (clean,) = kernel.seen
    assert (clean.attribute, clean.value) == (fake_kernel.DEREGISTER, b"0-7\0")


def test_kernel_without_taskstats() -> None:
    with FakeKernel(lambda r: [fake_kernel.error(r, errno.ENOENT)]) as kernel:
        with pytest.raises(
            Unavailable, match=r"or not in this network namespace.*CONFIG_TASKSTATS"
        ) as caught:
            answering(kernel, family=0)
    assert caught.value.errno == errno.ENOENT


def test_no_privilege() -> None:
    with FakeKernel(lambda r: [fake_kernel.error(r, errno.EPERM)]) as kernel:
        with pytest.raises(AccessDenied, match=r"CAP_NET_ADMIN.*setpriv") as caught:
            answering(kernel)
    assert isinstance(caught.value, PermissionError)
    assert caught.value.errno == errno.EPERM


def test_privilege_lost_after_opening() -> None:
    with FakeKernel(only_ids(lambda r: [fake_kernel.error(r, errno.EPERM)])) as kernel:  # type: ignore[arg-type]
        with answering(kernel) as client:
            with pytest.raises(AccessDenied, match="at each request"):
                client.pid(1)
            with pytest.raises(AccessDenied):
                client.pids([1, 2, 3])


def test_nobody_there() -> None:
    unused = 0x7FFF_FFF0
    with pytest.raises(Unavailable, match="nobody answers"):
        Client(endpoint=Endpoint(fake_kernel.NETLINK_USERSOCK, unused, cpus="0"))


def impatient(kernel: FakeKernel) -> Client:
    """A client that waits 10 ms for an answer. On a busy machine the first ones come too late."""
    while True:
        try:
            return answering(kernel, timeout=0.01)
        except Unavailable as error:
            if error.errno != errno.ETIMEDOUT:
                raise


def test_silence_is_an_error_not_a_hang() -> None:
    with FakeKernel(only_ids(lambda _: [])) as kernel:  # type: ignore[arg-type]
        with impatient(kernel) as client, pytest.raises(Unavailable) as caught:
            client.pid(1)
    assert caught.value.errno == errno.ETIMEDOUT


def test_no_such_task() -> None:
    with FakeKernel(only_ids(lambda r: [fake_kernel.error(r, errno.ESRCH)])) as kernel:  # type: ignore[arg-type]
        with answering(kernel) as client, pytest.raises(NoSuchTask, match="query tgid 9") as caught:
            client.tgid(9)
    assert isinstance(caught.value, ProcessLookupError)


@pytest.mark.parametrize("kind", ["pids", "tgids"])
@pytest.mark.parametrize("make", [list, tuple, lambda r: array("I", r), np.uint32])
def test_bulk_keeps_the_order_and_answers_every_id(kind: str, make: object) -> None:
    def odd_ones_are_dead(request: Request) -> Iterable[bytes]:
        if request.id % 2:
            return [fake_kernel.error(request, errno.ESRCH)]
        return [fake_kernel.record(request)]

    ids = [5, 4, 900, 13, 4, *range(1000, 3000)]
    wanted = np.array(ids, "u4") if make is np.uint32 else make(ids)  # type: ignore[operator]
    with FakeKernel(only_ids(odd_ones_are_dead)) as kernel, answering(kernel) as client:  # type: ignore[arg-type]
        batch = getattr(client, kind)(wanted)
    assert [record.id for record in batch] == [id_ for id_ in ids if id_ % 2 == 0]
    assert batch.errors == {id_: errno.ESRCH for id_ in ids if id_ % 2}
    assert batch.kind == ("task" if kind == "pids" else "group")


def test_a_lost_reply_is_asked_again() -> None:
    lost: set[int] = set()

    def lose_each_once(request: Request) -> Iterable[bytes]:
        if request.id % 3 == 0 and request.id not in lost:
            lost.add(request.id)
            return []
        return [fake_kernel.record(request)]

    with FakeKernel(only_ids(lose_each_once)) as kernel:  # type: ignore[arg-type]
        with answering(kernel, timeout=1) as client:  # it gives up after three times this
            batch = client.pids(range(100))
    assert [record.id for record in batch] == list(range(100))
    assert not batch.errors
    assert lost == set(range(0, 100, 3))


def test_word_that_a_reply_did_not_fit_is_no_answer() -> None:
    """The kernel sends it when a reply finds the queue full, and it may fit where that did not."""
    told: set[int] = set()

    def full_once(request: Request) -> Iterable[bytes]:
        if request.id % 3 == 0 and request.id not in told:
            told.add(request.id)
            return [fake_kernel.error(request, errno.EAGAIN)]
        return [fake_kernel.record(request)]

    with FakeKernel(only_ids(full_once)) as kernel:  # type: ignore[arg-type]
        with answering(kernel, timeout=1) as client:  # it gives up after three times this
            batch = client.pids(range(30))
    assert [record.id for record in batch] == list(range(30))
    assert not batch.errors
    assert told == set(range(0, 30, 3))


def test_disorder_and_duplicates_do_no_harm() -> None:
    held: list[Request] = []

    def reversed_and_twice(request: Request) -> Iterable[bytes]:
        held.append(request)
        if len(held) < 50:
            return
        for one in reversed(held):
            yield from [fake_kernel.record(one)] * 2
        held.clear()

    with FakeKernel(only_ids(reversed_and_twice)) as kernel, answering(kernel) as client:  # type: ignore[arg-type]
        batch = client.pids(range(50))
        again = client.pids(range(100, 150))
    assert [record.id for record in batch] == list(range(50))
    assert [record.id for record in again] == list(range(100, 150))


def spoil(request: Request, how: str) -> bytes:
    reply = bytearray(fake_kernel.record(request))
    if how == "another id":
        struct.pack_into("=I", reply, 28, request.id + 1)
    elif how == "another kind":
        reply = bytearray(fake_kernel.frame("tgid"))
        struct.pack_into("=II", reply, 8, request.seq, request.sender)
    elif how == "nla_len":
        struct.pack_into("=H", reply, 20, 0xFFFF)
    elif how == "nlmsg_len":
        struct.pack_into("=I", reply, 0, 0xFFFF)
    elif how == "version":
        struct.pack_into("=H", reply, 36, 3)
    elif how == "length":
        reply += bytes(5000)
    return bytes(reply)


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("another id", "unexpected"),
        ("another kind", "room"),
        ("nla_len", "attribute"),
        ("nlmsg_len", "length"),
        ("version", "version"),
        ("length", "truncated"),
    ],
)
def test_a_bad_reply_is_named_and_harms_no_other(how: str, reason: str) -> None:
    def spoil_seven(request: Request) -> Iterable[bytes]:
        return [spoil(request, how) if request.id == 7 else fake_kernel.record(request)]

    with FakeKernel(only_ids(spoil_seven)) as kernel, answering(kernel) as client:  # type: ignore[arg-type]
        with pytest.raises(ProtocolError, match="query pid 7") as caught:
            client.pid(7)
        batch = client.pids([6, 7, 8])
    assert caught.value.reason == reason
    assert [record.id for record in batch] == [6, 8]
    assert batch.errors == {7: errno.EBADMSG}


def test_exit_records_of_an_inherited_registration_are_not_answers() -> None:
    def stray_first(request: Request) -> Iterable[bytes]:
        yield fake_kernel.exit_record(request.seq, 666)
        yield fake_kernel.record(request)

    with FakeKernel(only_ids(stray_first)) as kernel, answering(kernel) as client:  # type: ignore[arg-type]
        assert client.pid(7).id == 7
        assert [record.id for record in client.pids([1, 2])] == [1, 2]


def test_many_threads_get_their_own_answers() -> None:
    wrong: list[int] = []

    def ask(first: int) -> None:
        wrong.extend(i for i in range(first, first + 200) if client.pid(i).ac_pid != i)
        batch = client.pids(range(first, first + 1000))
        wrong.extend(r.id for i, r in enumerate(batch) if r.id != first + i)

    with FakeKernel() as kernel, answering(kernel) as client:
        threads = [threading.Thread(target=ask, args=(n * 10_000,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


@pytest.mark.parametrize("ids", [[-1], [2**32], ["1"], [1.5], [None]])
def test_an_id_that_is_none(ids: list[int]) -> None:
    with FakeKernel() as kernel, answering(kernel) as client:
        with pytest.raises(ValueError, match="a pid is an integer"):
            client.pids(ids)
        if ids != [None]:
            with pytest.raises(ValueError, match="a pid is an integer"):
                client.pid(ids[0])


def test_an_array_of_ids_that_is_no_row() -> None:
    with FakeKernel() as kernel, answering(kernel) as client:
        with pytest.raises(ValueError, match="a pid is an integer"):
            client.pids(np.zeros((2, 2), "u4"))  # type: ignore[arg-type]
        strided = np.arange(20, dtype="u4")[::2]
        assert [r.id for r in client.pids(strided)] == list(range(0, 20, 2))


def test_no_ids() -> None:
    with FakeKernel() as kernel, answering(kernel) as client:
        batch = client.pids([])
    assert len(batch) == 0
    assert batch.errors == {}


def test_closed() -> None:
    with FakeKernel() as kernel:
        client = answering(kernel)
        client.close()
        client.close()
        with pytest.raises(TaskstatsError, match="it is closed") as caught:
            client.pid(1)
    assert caught.value.errno == errno.EBADF
    assert repr(client) == "<taskstats.Client closed>"


def test_unclosed_warns() -> None:
    with FakeKernel() as kernel:
        client = answering(kernel)
        with pytest.warns(ResourceWarning, match=r"unclosed <taskstats.Client"):
            del client
            gc.collect()


def test_inherited_through_fork() -> None:
    with FakeKernel() as kernel, answering(kernel) as client:
        child = os.fork()
        if child == 0:
            try:
                client.pid(1)
            except TaskstatsError as error:
                told = error.errno == errno.EOWNERDEAD and "before fork" in str(error)
                client.close()
                os._exit(0 if told else 1)
            os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert client.pid(1).id == 1, "the parent's socket is untouched"


def test_failed_opens_leak_nothing() -> None:
    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    with FakeKernel(lambda r: [fake_kernel.error(r, errno.EPERM)]) as kernel:
        before = descriptors()
        for _ in range(10):
            with pytest.raises(AccessDenied):
                answering(kernel)
        assert descriptors() == before
