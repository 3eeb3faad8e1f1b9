"""The source of a Debian package, from the mirror that this machine's own apt uses."""

import platform
import shutil
import subprocess
from pathlib import Path


class CannotBeHadError(Exception):
    """There is no source here; the message says why."""


def unpacked(package: str, folder: Path) -> Path:
    """Download the upstream source of a package and unpack it.

    The lists of source packages go to `folder`: apt's own lists stay as they are.

    Returns:
        The directory with the source's `configure`.

    Raises:
        CannotBeHadError: apt is missing, names no mirror, or cannot download.
    """
    if not shutil.which("apt-get"):
        raise CannotBeHadError("there is no apt-get")
    sources = folder / "sources.list"
    sources.write_text(f"deb-src {_mirror()}\n")
    for name in ("lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True)
    options = {
        "Dir::Etc::sourcelist": sources,
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State::lists": folder / "lists",
        "Dir::Cache": folder / "cache",
        "APT::Sandbox::User": "root",
        "Acquire::Retries": 2,
    }
    apt = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in options.items())]
    _run([*apt, "update"], folder)
    _run([*apt, "source", "--download-only", package], folder)
    [archive] = folder.glob("*.orig.tar.*[!c]")  # without the signature, .asc
    _run(["tar", "-xf", str(archive)], folder)
    [configure] = folder.glob("*/configure")
    return configure.parent


def _mirror() -> str:
    """Return address, release and component of this release's main packages."""
    release = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    form = "--format=$(REPO_URI) $(RELEASE) $(COMPONENT)"
    for line in _run(["apt-get", "indextargets", form, "Created-By: Packages"]).splitlines():
        if line.split()[1:] == [release, "main"]:
            return line
    raise CannotBeHadError(f"apt has no source for the release {release!r}")


def _run(command: list[str], folder: Path | None = None) -> str:
    try:
        done = subprocess.run(
            command, cwd=folder, check=True, capture_output=True, text=True, timeout=120
        )
    except subprocess.TimeoutExpired:
        raise CannotBeHadError(f"{command[0]} took longer than 120 s") from None
    except subprocess.CalledProcessError as error:
        reason = error.stderr.strip().splitlines() or [f"exit status {error.returncode}"]
        raise CannotBeHadError(f"{command[0]}: {reason[-1]}") from None
    return done.stdout
