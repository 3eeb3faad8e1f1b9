"""A file whose page does not come, and who waits for it: a FUSE file system of this process.

linux/fuse.h has the structs. The one file is the root itself.
"""

import ctypes
import errno
import os
import queue
import stat
import struct
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from support import task

_FORGET, _GETATTR, _OPEN, _READ, _INIT, _INTERRUPT, _BATCH_FORGET = 2, 3, 14, 15, 26, 36, 42
_UNANSWERED = {_FORGET, _INTERRUPT, _BATCH_FORGET}
_UNMOUNTED = {errno.ENODEV, errno.ECONNABORTED}  # the latter where a request was being read
_KEEP_CACHE = 2
_MNT_DETACH = 2
_REQUEST = struct.Struct("=IIQQIIII")
_SIZE = 4096

_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def waits_for_page(killable: bool) -> Iterator[int]:
    """The pid of a process that waits for a page that another one is reading.

    Args:
        killable: It waits in read(2), where it may be killed: TASK_KILLABLE. Else in open(2), which
            throws cached pages away: TASK_UNINTERRUPTIBLE. It waits for I/O (io_schedule).

    Raises:
        OSError: There is no FUSE, or no right to it.
    """
    with ExitStack() as stack:
        fuse = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        stack.callback(os.close, fuse)
        path = Path(stack.enter_context(tempfile.NamedTemporaryFile()).name)
        options = f"fd={fuse},rootmode={stat.S_IFREG | 0o444:o},user_id=0,group_id=0"
        _check(_libc.mount(b"taskstats", bytes(path), b"fuse", 0, options.encode()))
        server = _Server(fuse, _KEEP_CACHE if killable else 0)
        stack.callback(server.join)
        stack.callback(lambda: _check(_libc.umount2(bytes(path), _MNT_DETACH)))
        first = stack.enter_context(_reader(path))
        server.asked.get(timeout=60)
        second = stack.enter_context(_reader(path))
        stack.callback(server.deliver)
        stack.callback(second.kill)
        stack.callback(first.kill)
        task.until(lambda: task.state_of(second.pid) == "D")
        yield second.pid


def _reader(path: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(["cat", path], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class _Server(threading.Thread):
    """Answers until the file system is gone; of what is read, not before `deliver`."""

    def __init__(self, fuse: int, open_flags: int) -> None:
        super().__init__()
        self.asked: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._fuse = fuse
        self._open_flags = open_flags
        self._lock = threading.Lock()
        self._withheld: list[int] | None = []
        self.start()

    def deliver(self) -> None:
        """Lets all who wait for the page have an error, also those who ask later."""
        with self._lock:
            withheld, self._withheld = self._withheld or [], None
            for unique in withheld:
                self._reply(unique, errno.EIO)

    def run(self) -> None:
        while True:
            try:
                request = os.read(self._fuse, 1 << 17)
            except OSError as error:
                if error.errno in _UNMOUNTED:
                    return
                raise
            _, operation, unique, *_ = _REQUEST.unpack_from(request)
            with self._lock:
                if operation == _READ and self._withheld is not None:
                    self._withheld.append(unique)
                    self.asked.put(unique)
                elif operation not in _UNANSWERED:
                    self._reply(unique, *self._answer(operation))

    def _answer(self, operation: int) -> tuple[int, bytes]:
        if operation == _INIT:  # version 7.31, no flags
            return 0, struct.pack("=IIIIHHIIHHI28x", 7, 31, 0, 0, 12, 9, _SIZE, 1, 0, 0, 0)
        if operation == _GETATTR:  # valid for long
            whose = struct.pack("=IIIIIII", stat.S_IFREG | 0o444, 1, 0, 0, 0, _SIZE, 0)
            return 0, struct.pack("=QII", 1000, 0, 0) + struct.pack("=QQQ36x", 1, _SIZE, 8) + whose
        if operation == _OPEN:
            return 0, struct.pack("=QII", 0, self._open_flags, 0)
        return errno.EIO if operation == _READ else errno.ENOSYS, b""

    def _reply(self, unique: int, failed: int, body: bytes = b"") -> None:
        with suppress(FileNotFoundError):  # who asked was killed, and waits no more
            os.write(self._fuse, struct.pack("=IiQ", 16 + len(body), -failed, unique) + body)


def _check(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
