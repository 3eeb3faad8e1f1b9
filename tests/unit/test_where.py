"""Where compiled to a socket filter: run on frames of every layout, here and by the kernel."""

import errno
import socket
import struct
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import bpf, fake_kernel, wire
from support.fake_kernel import FRAMES, FakeKernel

from taskstats import Client, ExitListener, TaskstatsError, Unavailable, Where
from taskstats.where import compile_for

AGROUP = 0x20

#: What is asked for, and what it means for a record's values.
CASES = {
    "failed": (Where(failed=True), lambda r: r["ac_exitcode"] != 0),
    "last": (Where(last=True), lambda r: bool(r["ac_flag"] & AGROUP)),
    "uid": (Where(uid=1000), lambda r: r["ac_uid"] == 1000),
    "uid 0": (Where(uid=0), lambda r: r["ac_uid"] == 0),
    "uid range": (Where(uid=range(255, 65537)), lambda r: 255 <= r["ac_uid"] <= 65536),
    "every uid": (Where(uid=range(2**32)), lambda r: True),  # noqa: ARG005
    "elapsed": (Where(min_elapsed=0.3), lambda r: r["ac_etime"] >= 300_000),
    "long": (Where(min_elapsed=2**40 / 1e6), lambda r: r["ac_etime"] >= 2**40),
    "all": (
        Where(failed=True, last=True, uid=range(1000, 2000), min_elapsed=1e-6),
        lambda r: (
            bool(r["ac_exitcode"] and r["ac_flag"] & AGROUP and r["ac_etime"])
            and 1000 <= r["ac_uid"] < 2000
        ),
    ),
}
cases = pytest.mark.parametrize("case", CASES)

#: Values next to what is asked for.
EDGES = {
    "ac_exitcode": (0, 1, 256, 9, 2**31),
    "ac_flag": (0, AGROUP, 0xFF ^ AGROUP, 0xFF),
    "ac_uid": (0, 1, 254, 255, 256, 999, 1000, 1001, 65535, 65536, 65537, 2**32 - 1, 1000 << 16),
    "ac_etime": (0, 1, 299_999, 300_000, 300_001, 2**32, 2**40 - 1, 2**40, 2**64 - 1),
}

#: The layouts that exit records come in: version, size, padding before the struct.
LAYOUTS = [(v, s, pad) for v, s in wire.LAYOUTS for pad in (b"", wire.NULL)]
layouts = pytest.mark.parametrize(
    ("version", "size", "padding"), LAYOUTS, ids=lambda v: "padded" if v == wire.NULL else str(v)
)


def exit_frame(version: int, size: int, padding: bytes, **values: int) -> bytes:
    """An exit record; every other second one with its group."""
    kinds: list[wire.Kind] = ["task", "group"] if values["ac_uid"] % 2 else ["task"]
    return wire.datagram(version, size, kinds, wire.SAMPLE | values, inside=(padding, b""), port=0)


def values_near() -> Iterator[dict[str, int]]:
    """Each edge of each value, the others in the middle; then some of all together."""
    middle = {name: edges[len(edges) // 2] for name, edges in EDGES.items()}
    for name, edges in EDGES.items():
        yield from (middle | {name: value} for value in edges)
    for i in range(40):
        yield {name: edges[i * 7 % len(edges)] for name, edges in EDGES.items()}


@cases
@layouts
def test_keeps_what_is_asked_for(case: str, version: int, size: int, padding: bytes) -> None:
    where, wanted = CASES[case]
    program = compile_for(where, version, size)
    kept = {True: 0, False: 0}
    for values in values_near():
        frame = exit_frame(version, size, padding, **values)
        expected = bool(wanted(values))
        assert bool(bpf.run(program, frame)) == expected, values
        kept[expected] += 1
    assert kept[True]
    assert kept[False] or case == "every uid"


def numbers(name: str) -> st.SearchStrategy[int]:
    return st.integers(0, 2 ** (8 * wire.MEMBERS[name].size) - 1)


@cases
@given(values=st.fixed_dictionaries({name: numbers(name) for name in EDGES}))
def test_keeps_what_is_asked_for_of_any_value(case: str, values: dict[str, int]) -> None:
    where, wanted = CASES[case]
    frame = exit_frame(16, 560, b"", **values)
    assert bool(bpf.run(compile_for(where, 16, 560), frame)) == bool(wanted(values))


def captured(kernel: str) -> Iterator[tuple[str, bytes]]:
    for path in sorted((FRAMES / kernel).glob("*.bin")):
        yield path.stem, path.read_bytes()


KERNELS = sorted(path.name for path in FRAMES.iterdir())
kernels = pytest.mark.parametrize("kernel", KERNELS)


@cases
@kernels
def test_on_captured_frames(kernel: str, case: str) -> None:
    """Also those of a big-endian kernel, for which the program is compiled as on that."""
    where, wanted = CASES[case]
    order = wire.FOREIGN if kernel.startswith("s390x") else wire.NATIVE
    frames = dict(captured(kernel))
    first = (wire.decode(frames["exit"], order) or [])[0]
    program = compile_for(where, first.version, first.size, "big" if order == ">" else "little")
    for name, frame in frames.items():
        if name.startswith("exit"):
            task = (wire.decode(frame, order) or [])[0]
            assert bool(bpf.run(program, frame)) == bool(wanted(task.values)), name
        elif name.startswith(("err", "ack")):
            assert bpf.run(program, frame) == 0xFFFFFFFF, "an error is no record"


@pytest.mark.parametrize("one_in", [2, 3, 100, 2**31])
def test_one_in_so_many_at_random(one_in: int) -> None:
    program = compile_for(Where(one_in=one_in), 16, 560)
    frame = fake_kernel.exit_record(1, 10)
    for random in (0, 1, one_in - 1, one_in, one_in + 1, 2**32 - 1):
        assert bool(bpf.run(program, frame, random)) == (random % one_in == 0)


# ---- the kernel's own engine -----------------------------------------------------------------


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two netlink sockets, the second sending to the first."""
    with (
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, fake_kernel.NETLINK_USERSOCK) as one,
        socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, fake_kernel.NETLINK_USERSOCK) as other,
    ):
        one.bind((0, 0))
        one.setblocking(False)
        other.connect(one.getsockname())
        yield one, other


def let_in(pair: tuple[socket.socket, socket.socket], frame: bytes) -> bool:
    pair[1].send(frame)
    try:
        assert pair[0].recv(1 << 16) == frame, "nothing is cut off"
    except BlockingIOError:
        return False
    return True


@cases
@layouts
def test_the_kernel_reads_the_program_alike(
    pair: tuple[socket.socket, socket.socket], case: str, version: int, size: int, padding: bytes
) -> None:
    where, wanted = CASES[case]
    bpf.attach(pair[0], compile_for(where, version, size))
    for values in values_near():
        frame = exit_frame(version, size, padding, **values)
        assert let_in(pair, frame) == bool(wanted(values)), values


def test_the_kernel_draws_at_random(pair: tuple[socket.socket, socket.socket]) -> None:
    """Of 2,000, one in ten: 40 more or less than 200 is three standard deviations."""
    bpf.attach(pair[0], compile_for(Where(one_in=10), 16, 560))
    frame = fake_kernel.exit_record(1, 10)
    assert 100 < sum(let_in(pair, frame) for _ in range(2000)) < 300


# ---- a listener ------------------------------------------------------------------------------


def failing(seq: int, pid: int, status: int) -> bytes:
    datagram = bytearray(fake_kernel.exit_record(seq, pid))
    struct.pack_into("=I", datagram, 36 + 4, status << 8)
    return bytes(datagram)


def test_a_listener_hears_what_is_asked_for() -> None:
    with (
        FakeKernel() as kernel,
        ExitListener("0", where=Where(failed=True), endpoint=kernel.endpoint()) as listener,
    ):
        while not kernel.registered():
            pass
        for pid in range(20):
            kernel.send(kernel.registered()[0], failing(pid, pid, pid % 5 == 0))
        listener.stop()
        assert [record.id for record in listener] == [0, 5, 10, 15]
        stats = listener.stats()
    assert (stats.received, stats.lost) == (4, 0)
    assert stats.filtered is None, "this endpoint does not count"
    assert stats.unexplained is None, "there are holes everywhere"


def test_a_refusal_is_let_in() -> None:
    def refuse(request: fake_kernel.Request) -> Iterable[bytes]:
        if request.attribute == fake_kernel.REGISTER:
            return [fake_kernel.error(request, errno.ENOMEM)]
        return fake_kernel.behave(request)

    with (
        FakeKernel(refuse) as kernel,
        ExitListener("0", where=Where(failed=True), endpoint=kernel.endpoint()) as listener,
        pytest.raises(TaskstatsError) as caught,
    ):
        next(listener.batches(timeout=60))
    assert caught.value.errno == errno.ENOMEM


def old_kernel(request: fake_kernel.Request) -> Iterable[bytes]:
    if not request.is_query:
        return fake_kernel.behave(request)
    reply = bytearray(fake_kernel.frame("pid", "amd64-5.10"))
    struct.pack_into("=II", reply, 8, request.seq, request.sender)
    struct.pack_into("=I", reply, 28, request.id)
    return [bytes(reply)]


def test_the_last_thread_cannot_be_asked_for_where_it_is_not_told() -> None:
    with FakeKernel(old_kernel) as kernel:
        with Client(endpoint=kernel.endpoint()) as client:
            assert client.pid(1).version == 10
        with pytest.raises(Unavailable, match=r"version 10: .*struct version 12 does") as caught:
            ExitListener(where=Where(last=True), endpoint=kernel.endpoint())
    assert caught.value.mend == "Listen without `last`"


@pytest.mark.parametrize(
    "asked",
    [
        {"one_in": 0},
        {"one_in": 2**32},
        {"uid": -1},
        {"uid": 2**32},
        {"uid": range(5, 5)},
        {"uid": range(0, 10, 2)},
        {"uid": range(5, 1, -1)},
        {"min_elapsed": -1.0},
        {"min_elapsed": float("nan")},
        {"min_elapsed": float("inf")},
    ],
)
def test_what_makes_no_sense(asked: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(asked))):
        Where(**asked)  # type: ignore[arg-type]


@pytest.mark.parametrize("asked", [{}, {"one_in": 1}, {"failed": False}])
def test_nothing_is_asked_for(asked: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="keeps every exit"):
        Where(**asked)  # type: ignore[arg-type]
