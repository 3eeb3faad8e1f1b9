"""Output files of a command: opened before it runs, written after it."""

import contextlib
import errno
import io
import os
import select
import stat
from pathlib import Path


def opened(path: str) -> io.FileIO:
    """Open a file for appending, without a buffer; make it if there is none.

    The report and the JSON may go to one file. Without a buffer a failed write is reported once,
    and not again when the file is closed.

    In a directory like /tmp (sticky, and anybody may write to it) another user can plant a link, a
    FIFO or a file under a name that is easy to guess. These are refused, by the rules of the
    kernel's fs.protected_symlinks, protected_fifos and protected_regular, even if these are off.

    Raises:
        OSError: With the path as its `filename`; EACCES for what another user has planted.
    """
    return io.FileIO(path, "a", opener=_open)


def empty(file: io.FileIO) -> None:
    """Truncate a regular file; do nothing with a pipe or a device."""
    if _is_regular(file):
        file.truncate(0)


def write(file: io.FileIO, text: str) -> None:
    """Write the text, all of it or nothing.

    If a regular file has no room for all of it, the file gets its old size back: no part of a line
    stays, and what is appended later begins a line of its own.

    Raises:
        OSError: With the path as its `filename`.
    """
    data = text.encode(errors="backslashreplace")
    before = os.fstat(file.fileno()).st_size if _is_regular(file) else None
    written = 0
    try:
        while written < len(data):
            taken = file.write(data[written:])
            if taken is None:  # another process that has this pipe has made it non-blocking
                select.select([], [file], [])
            written += taken or 0
    except OSError as error:
        error.filename = file.name
        if before is not None:
            _cut_back(file, before, written)
        raise


def _cut_back(file: io.FileIO, before: int, written: int) -> None:
    """Give the file its old size, unless another process has appended to it as well."""
    with contextlib.suppress(OSError):
        if os.fstat(file.fileno()).st_size == before + written:
            file.truncate(before)


def _is_regular(file: io.FileIO) -> bool:
    return stat.S_ISREG(os.fstat(file.fileno()).st_mode)


# ---- opening ---------------------------------------------------------------------------------

_MOST_LINKS = 40  # as the kernel's MAXSYMLINKS
_MOST_TRIES = 16  # while another process makes and removes the file
_LOOK = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


def _open(path: str, flags: int) -> int:
    try:
        if not path:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        for _ in range(_MOST_TRIES):
            with contextlib.suppress(FileExistsError), contextlib.ExitStack() as held:
                return _walk(path, flags, held)
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    except OSError as error:
        error.filename = path
        raise


def _walk(path: str, flags: int, held: contextlib.ExitStack) -> int:
    """Open the file, following each link by itself.

    Each step opens the next name without following it, looks at what was opened, and goes on from
    there: nobody can exchange it between the look and the use.
    """
    here = _hold(held, os.open("/" if path.startswith("/") else ".", _LOOK))
    left = _names(path)
    links = 0
    while left:
        name = left.pop(0)
        try:
            found = _hold(held, os.open(name, _LOOK, dir_fd=here))
        except FileNotFoundError:
            if left:
                raise
            return os.open(name, flags | os.O_EXCL | os.O_NOFOLLOW, 0o666, dir_fd=here)
        if not stat.S_ISLNK(os.fstat(found).st_mode):
            if not left:
                _check_owner(found, here)
                return _open_same(name, flags, here, found)
            here = found
            continue
        _check_owner(found, here)
        if _is_proc(here):  # the text of its links need not be a path
            if not left:
                return os.open(name, flags, dir_fd=here)
            here = _hold(held, os.open(name, os.O_PATH | os.O_CLOEXEC, dir_fd=here))
            continue
        links += 1
        if links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        target = os.readlink("", dir_fd=found)
        left = _names(target) + left
        if target.startswith("/"):
            here = _hold(held, os.open("/", _LOOK))
    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))


def _open_same(name: str, flags: int, directory: int, found: int) -> int:
    """Open what was found under this name.

    Raises:
        FileExistsError: There is something else now.
    """
    try:
        made = os.open(name, flags & ~os.O_CREAT | os.O_NOFOLLOW, dir_fd=directory)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise FileExistsError from error
        raise
    if not os.path.samestat(os.fstat(made), os.fstat(found)):
        os.close(made)
        raise FileExistsError
    return made


def _is_proc(directory: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.fstat(directory).st_dev == Path("/proc").stat().st_dev
    return False


def _hold(held: contextlib.ExitStack, descriptor: int) -> int:
    held.callback(os.close, descriptor)
    return descriptor


def _names(path: str) -> list[str]:
    """The names of a path. A slash at its end stands for the directory itself."""
    names = [name for name in path.split("/") if name]
    return [*names, "."] if path.endswith("/") and names else names


def _check_owner(found: int, directory: int) -> None:
    """Refuse what another user has put into a directory like /tmp.

    The kernel does the same in fs/namei.c:may_follow_link and may_create_in_sticky.
    """
    one, its = os.fstat(found), os.fstat(directory)
    kind = _GUARDED.get(stat.S_IFMT(one.st_mode))
    shared = its.st_mode & stat.S_ISVTX and its.st_mode & stat.S_IWOTH
    if kind and shared and one.st_uid not in (its.st_uid, os.geteuid()):
        raise PermissionError(
            errno.EACCES,
            f"refused, since it is a {kind} of another user (uid {one.st_uid}) in a directory that "
            "anybody may write to. Remove it, or write to a directory of your own",
        )


_GUARDED = {stat.S_IFLNK: "symbolic link", stat.S_IFIFO: "FIFO", stat.S_IFREG: "file"}
