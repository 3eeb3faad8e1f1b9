"""Output files: which are opened, and what a failed write leaves."""

import errno
import os
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from support.requirements import CAP_CHOWN, needs_capability

from taskstats.cli import files


class Full(files.io.FileIO):
    """A file on a disk that has room for so many bytes more."""

    room = 0

    def write(self, data: bytes) -> int:  # type: ignore[override]
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = super().write(data[: self.room]) or 0
        self.room -= taken
        return taken


@pytest.mark.parametrize("room", [0, 1, 5])
def test_a_failed_write_leaves_the_file_as_it_was(tmp_path: Path, room: int) -> None:
    path = tmp_path / "file"
    path.write_text("before\n")
    with Full(path, "a") as file, pytest.raises(OSError, match="No space left") as caught:
        file.room = room
        files.write(file, "a line\n")
    assert caught.value.filename == path
    assert path.read_text() == "before\n"


def test_a_failed_write_takes_no_line_of_another_process(tmp_path: Path) -> None:
    path = tmp_path / "file"

    class Shared(Full):
        def write(self, data: bytes) -> int:  # type: ignore[override]
            if not self.room:
                with path.open("a") as other:
                    other.write("another's\n")
            return super().write(data)

    with Shared(path, "a") as file, pytest.raises(OSError, match="No space left"):
        file.room = 3
        files.write(file, "a line\n")
    assert path.read_text() == "a lanother's\n"


# ---- opening ---------------------------------------------------------------------------------

OTHER = 65534  # another user's id


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A directory like /tmp."""
    path = tmp_path / "shared"
    path.mkdir()
    path.chmod(0o1777)
    return path


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """A file that nobody means."""
    path = tmp_path / "victim"
    path.write_text("of before\n")
    return path


def linked(path: Path, victim: Path) -> None:
    path.symlink_to(victim)


def piped(path: Path, _victim: Path) -> None:
    os.mkfifo(path)


def there(path: Path, _victim: Path) -> None:
    path.write_text("of before\n")


def put(path: str, text: str = "a line\n") -> None:
    with files.opened(path) as file:
        files.write(file, text)


def give_away(path: Path, uid: int = OTHER) -> None:
    needs_capability(CAP_CHOWN)
    os.chown(path, uid, uid, follow_symlinks=False)


@pytest.mark.parametrize("make", [linked, piped, there])
def test_what_another_user_planted_is_refused(
    make: Callable[[Path, Path], None], shared: Path, victim: Path
) -> None:
    planted = shared / "report"
    make(planted, victim)
    give_away(planted)
    with pytest.raises(PermissionError, match="of another user \\(uid 65534\\)") as caught:
        files.opened(str(planted))
    assert caught.value.filename == str(planted)
    assert victim.read_text() == "of before\n"


def test_a_link_of_another_user_is_refused_anywhere_in_a_path(
    shared: Path, tmp_path: Path, victim: Path
) -> None:
    (shared / "planted").symlink_to(tmp_path)
    give_away(shared / "planted")
    (tmp_path / "own").symlink_to(shared / "planted" / "victim")
    for path in (shared / "planted" / "victim", shared / "planted" / "new", tmp_path / "own"):
        with pytest.raises(PermissionError, match="symbolic link of another user"):
            files.opened(str(path))
    assert victim.read_text() == "of before\n"
    assert not (tmp_path / "new").exists()


def test_ones_own_links_and_files_are_used(shared: Path, victim: Path) -> None:
    (shared / "link").symlink_to(victim)
    put(str(shared / "link"))
    put(str(shared / "new"))
    put(str(shared / "new"))
    assert victim.read_text() == "of before\na line\n"
    assert (shared / "new").read_text() == "a line\n" * 2
    dangling = shared / "dangling"
    dangling.symlink_to("made")
    put(str(dangling))
    assert (shared / "made").read_text() == "a line\n"


def test_a_file_of_the_directorys_owner_is_used(shared: Path, victim: Path) -> None:
    (shared / "link").symlink_to(victim)
    give_away(shared / "link")
    give_away(shared)
    put(str(shared / "link"))
    assert victim.read_text() == "of before\na line\n"


def test_elsewhere_files_of_other_users_are_used(tmp_path: Path, victim: Path) -> None:
    (tmp_path / "link").symlink_to(victim)
    give_away(tmp_path / "link")
    give_away(victim)
    put(str(tmp_path / "link"))
    assert victim.read_text() == "of before\na line\n"


def test_ones_own_fifo_is_waited_for(shared: Path) -> None:
    path = shared / "fifo"
    os.mkfifo(path)
    writer = threading.Thread(target=put, args=[str(path)])
    writer.start()
    assert path.read_text() == "a line\n"
    writer.join()


def test_descriptors_are_paths_too(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as pipe:
        for path in (f"/dev/fd/{writing}", f"/proc/self/fd/{writing}"):
            put(path)
        os.close(writing)
        assert pipe.read() == b"a line\n" * 2
    put(f"/proc/self/cwd/{os.path.relpath(tmp_path)}/new")
    assert (tmp_path / "new").read_text() == "a line\n"


def test_paths_are_read_as_the_kernel_reads_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "up").symlink_to("folder/..")
    monkeypatch.chdir(tmp_path)
    before = os.umask(0o027)
    try:
        for path in ("new", "./folder//../new", "up/new", f"{tmp_path}/up/folder/../new"):
            put(path)
    finally:
        os.umask(before)
    assert (tmp_path / "new").read_text() == "a line\n" * 4
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("folder", errno.EISDIR),
        ("folder/", errno.EISDIR),
        ("/", errno.EISDIR),
        ("no/file", errno.ENOENT),
        ("no/", errno.ENOENT),
        ("", errno.ENOENT),
        ("file/", errno.ENOTDIR),
        ("file/file", errno.ENOTDIR),
        ("loop", errno.ELOOP),
    ],
)
def test_a_path_of_no_file_is_told(
    path: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "loop").symlink_to("loop")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OSError, match=r".") as caught:
        files.opened(path)
    assert (caught.value.errno, caught.value.filename) == (code, path)


def test_a_file_that_is_exchanged_meanwhile_is_looked_at_again(
    shared: Path, victim: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = shared / "report"
    path.touch()
    check = files._check_owner

    def exchanging(found: int, directory: int) -> None:
        check(found, directory)
        if not path.is_symlink():
            path.unlink()
            path.symlink_to(victim)
            give_away(path)

    monkeypatch.setattr(files, "_check_owner", exchanging)
    with pytest.raises(PermissionError, match="symbolic link of another user"):
        files.opened(str(path))
    assert victim.read_text() == "of before\n"


def test_no_descriptor_is_left(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("new")
    before = os.listdir("/proc/self/fd")
    put(str(tmp_path / "link"))
    with pytest.raises(FileNotFoundError):
        files.opened(str(tmp_path / "no" / "file"))
    assert os.listdir("/proc/self/fd") == before
