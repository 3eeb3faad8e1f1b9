"""Output files: what a failed write leaves."""

import errno
from pathlib import Path

import pytest

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
