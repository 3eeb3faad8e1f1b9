"""Client: ask the kernel for the accounting of tasks and groups."""

import errno
import os
import threading
import warnings
from array import array
from collections.abc import Iterable
from typing import Any, Self

from taskstats import host
from taskstats._native import ffi, lib
from taskstats.answers import KINDS, Answer
from taskstats.endpoint import KERNEL, Endpoint
from taskstats.errors import TaskstatsError, from_errno, from_reason
from taskstats.records import Batch, Record
from taskstats.rows import ROW
from taskstats.shim import new_cell, new_rows, opening_error

_TASK, _GROUP = lib.TS_TASK, lib.TS_GROUP
_ID_NAMES = {_TASK: "pid", _GROUP: "tgid"}
_SLICE = 8192  # ids a call of the shim, some 30 ms

# Looked up once, not at each query.
_new_row = ffi.new_allocator(should_clear_after_alloc=False)
_NULL, _query, _new = ffi.NULL, lib.ts_client_query, object.__new__


class Client:
    """A query socket. Threads may share it; a child of fork may not.

    Needs CAP_NET_ADMIN in the initial user namespace when it is opened and for as long as it is
    used. In a PID namespace, ids are those of the namespace.

    Args:
        rcvbuf: Bytes for replies; decides how many ids are asked for in one send.
        endpoint: Whom to ask.

    Raises:
        AccessDenied: CAP_NET_ADMIN is missing.
        Unavailable: The kernel has no TASKSTATS.

    Attributes:
        closed: Whether `close` was called.
        rcvbuf: Bytes granted.
    """

    closed = True  # until it is open

    def __init__(self, *, rcvbuf: int = 4 << 20, endpoint: Endpoint = KERNEL) -> None:
        if not 0 < rcvbuf < 2**31:
            raise ValueError(f"rcvbuf is a number of bytes from 1 to 2**31 - 1, not {rcvbuf}")
        self._pid = os.getpid()
        self._cell = new_cell("ts_client", lib.ts_client_close)
        opened = ffi.new("struct ts_opened *")
        native, _cpus = endpoint.native(clean=_may_clean(endpoint))
        rc = lib.ts_client_open(native, rcvbuf, self._cell, opened)
        if rc < 0:
            raise opening_error("query", rc, opened)
        self._handle = self._cell[0]
        self.rcvbuf: int = opened.rcvbuf
        self.closed = False

    # -- one

    def pid(self, pid: int | None = None) -> Record:
        """The record of one task, in the kernel's words one pid: a thread.

        Args:
            pid: Its id; None for the calling thread.

        Raises:
            NoSuchTask: No task has it.
            AccessDenied: CAP_NET_ADMIN was dropped since the client was opened.
            ProtocolError: The reply could not be decoded.
        """
        return self._one(_TASK, threading.get_native_id() if pid is None else pid)

    def tgid(self, tgid: int | None = None) -> Record:
        """The record of a thread group, in the kernel's words one tgid: a process.

        The kernel sums over its living threads and those that have ended; kernels before "retain
        dead thread stats in TGID queries" (2026) leave the latter out of times and switches.

        Args:
            tgid: Its id, or that of any of its threads; None for this process.

        Raises:
            NoSuchTask, AccessDenied, ProtocolError: As for `pid`.
        """
        return self._one(_GROUP, os.getpid() if tgid is None else tgid)

    def _one(self, kind: int, id_: int) -> Record:
        row = _new_row("struct ts_record *")
        try:
            rc = _query(self._handle, kind, (id_,), 1, row, _NULL)
        except (OverflowError, TypeError) as error:
            raise _not_an_id(error) from None
        if rc < 0:
            raise _error(-rc, f"{_ID_NAMES[kind]} {id_}")
        answer = _new(Answer)
        answer._cell = row
        answer._fields = None
        return answer

    # -- many

    def pids(self, pids: Iterable[int]) -> Batch:
        """The records of many tasks, in the order of the ids.

        Args:
            pids: The ids; an array of unsigned 32-bit integers (array, NumPy) is read in place.

        Returns:
            A batch of the tasks that were found; `errors` maps every other id to its errno.

        Raises:
            AccessDenied: CAP_NET_ADMIN was dropped since the client was opened.
        """
        return self._many(_TASK, pids)

    def tgids(self, tgids: Iterable[int]) -> Batch:
        """The records of many groups, in the order of the ids; `kind` of the batch is "group".

        Raises:
            AccessDenied: As for `pids`.
        """
        return self._many(_GROUP, tgids)

    def _many(self, kind: int, ids: Iterable[int]) -> Batch:
        if self.closed:
            raise from_errno("query", errno.EBADF)
        wanted = _ids(ids)
        n = len(wanted)
        native_ids = ffi.from_buffer("uint32_t[]", wanted)
        rows = new_rows("struct ts_record[]", n)
        errors = ffi.new("int32_t[]", n)
        found = 0
        for start in range(0, n, _SLICE):  # between slices, Ctrl-C is heard
            rc = lib.ts_client_query(
                self._handle,
                kind,
                native_ids + start,
                min(_SLICE, n - start),
                rows + found,
                errors + start,
            )
            if rc < 0:
                raise _error(-rc)
            found += rc
        batch = Batch(ffi.buffer(rows, found * ROW), kind=KINDS[kind])
        if found < n:
            batch.errors = {
                id_: errno.EBADMSG if -error >= lib.TS_REFUSED else -error
                for id_, error in zip(wanted, errors, strict=True)
                if error
            }
        return batch

    # -- lifecycle

    def close(self) -> None:
        """Closes the socket. A query under way in another thread fails, or ends well."""
        if not self.closed:
            self.closed = True
            lib.ts_client_close(self._cell[0])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if not self.closed:
            if self._pid == os.getpid():
                warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
            self.close()

    def __repr__(self) -> str:
        state = "closed" if self.closed else f"rcvbuf {self.rcvbuf}"
        return f"<taskstats.Client {state}>"


def _may_clean(endpoint: Endpoint) -> bool:
    """Whether a new socket may end the registrations that its port inherited.

    Ports are numbered anew in every network namespace, registrations are not: from another than
    the initial one it would end those of a living listener that has the same port there.
    """
    return not endpoint.is_kernel or host.in_initial_network_namespace() is True


def _ids(ids: Iterable[int]) -> Any:
    """The ids as unsigned 32-bit integers: the caller's own array if it is one.

    Raises:
        ValueError: One of them is none.
    """
    try:
        view = memoryview(ids)  # type: ignore[arg-type]
    except TypeError:
        view = None
    if view is not None and view.format in ("I", "=I", "@I") and view.ndim == 1 and view.contiguous:
        return view
    try:
        return array("I", ids)
    except (OverflowError, TypeError) as error:
        raise _not_an_id(error) from None


def _error(code: int, about: str = "") -> TaskstatsError:
    if code >= lib.TS_REFUSED:
        return from_reason("query", code - lib.TS_REFUSED, about)
    return from_errno("query", code, about=about)


def _not_an_id(error: Exception) -> ValueError:
    return ValueError(f"a pid is an integer from 0 to 2**32 - 1: {error}")
