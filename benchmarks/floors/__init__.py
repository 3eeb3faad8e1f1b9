"""Plain C that the package is measured against, compiled when it is needed."""

import ctypes
import subprocess
from functools import cached_property
from pathlib import Path

_HERE = Path(__file__).parent
_SHIM = _HERE.parent.parent / "csrc"

#: What runs in this process, so that both sides see the same conditions.
_LIBRARY = ("sender", "drain", "many_sockets")

#: The program that the whole shim is linked to.
_OF_SHIM = "shim"


def _compile(target: Path, *options: str) -> Path:
    names = _LIBRARY if target.suffix else (target.name,)
    sources = [_HERE / f"{name}.c" for name in names]
    if target.name == _OF_SHIM:
        sources += _SHIM.glob("*.c")
        options += ("-D_GNU_SOURCE",)
    command: list[str | Path] = [
        "cc",
        "-O2",
        "-Wall",
        "-Wextra",
        f"-I{_SHIM}",
        *options,
        *sources,
        "-o",
        target,
    ]
    subprocess.run(command, check=True)
    return target


class Floors:
    """The compiled programs and the library, in a directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @cached_property
    def library(self) -> ctypes.CDLL:
        """The floors that run in this process."""
        made = ctypes.CDLL(str(_compile(self._directory / "floors.so", "-shared", "-fPIC")))
        for name in ("drain", "drain_all"):
            getattr(made, name).restype = ctypes.c_int64
        return made

    def program(self, name: str) -> Path:
        """A floor that runs in a process of its own."""
        target = self._directory / name
        return target if target.exists() else _compile(target)
