"""C programs, those beside this file or in another folder, compiled once each."""

import atexit
import functools
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

_HERE = Path(__file__).parent


@functools.cache
def program(name: str, sources: Path = _HERE, *flags: str) -> Path:
    """The program made of NAME.c. Call it before a fork, so that it is removed at the end.

    Any user may run it, also under other names in the same folder. With the flags "-shared" and
    "-fPIC" it is a library instead.
    """
    folder = Path(tempfile.mkdtemp(prefix=f"{name}-"))
    atexit.register(_remove, folder, os.getpid())
    folder.chmod(0o755)
    made = folder / name
    source = sources / f"{name}.c"
    subprocess.run(["cc", "-O2", "-Wall", "-Wextra", *flags, source, "-o", made], check=True)
    return made


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # a child of fork may end as usual, too
        shutil.rmtree(folder)
