"""Debian packages of other suites, unpacked in a folder; nothing is installed."""

import os
import re
import shutil
import subprocess
from pathlib import Path

from machines.result import CannotBeHad

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
MIRROR = "http://deb.debian.org/debian"


class Suite:
    """A suite's packages, through an apt that knows no other and keeps all it has in `folder`."""

    def __init__(self, name: str, folder: Path) -> None:
        if not shutil.which("apt-get") or not Path(KEYRING).exists():
            raise CannotBeHad("no Debian: its packages cannot be fetched")
        self._name = name
        self._folder = folder
        for part in ("state/lists/partial", "cache/archives/partial", "etc/apt.conf.d", "debs"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        (folder / "state/status").touch()
        (folder / "sources.list").write_text(f"deb [signed-by={KEYRING}] {MIRROR} {name} main\n")
        (folder / "apt.conf").write_text(
            f'Dir::State "{folder}/state";\nDir::State::status "{folder}/state/status";\n'
            f'Dir::Cache "{folder}/cache";\nDir::Etc "{folder}/etc";\n'
            f'Dir::Etc::sourcelist "{folder}/sources.list";\nDir::Etc::parts "{folder}/none";\n'
            'APT::Architectures {"amd64";};\nAcquire::Languages "none";\n'
            'APT::Sandbox::User "root";\nAcquire::Retries "2";\n'
        )
        self._run("apt-get", "-qq", "update")

    def unpacked(self, package: str) -> Path:
        """The folder with the files of a package's newest version."""
        version = self._candidate(package)
        target = self._folder / f"{package}_{version}".replace(":", "_")
        if not target.exists():
            self._run("apt-get", "-qq", "download", f"{package}={version}")
            (deb,) = (self._folder / "debs").glob(f"{package}_*.deb")
            partial = target.with_suffix(".partial")
            shutil.rmtree(partial, ignore_errors=True)
            self._run("dpkg-deb", "-x", str(deb), str(partial))
            partial.rename(target)
            deb.unlink()
        return target

    def needs(self, package: str) -> list[str]:
        """The packages that it depends on."""
        shown = self._run("apt-cache", "show", f"{package}={self._candidate(package)}")
        depends = re.search(r"^Depends: (.*)$", shown, re.MULTILINE)
        return re.findall(r"(?:^|, )([a-z0-9.+-]+)", depends[1]) if depends else []

    def _candidate(self, package: str) -> str:
        found = re.search(r"Candidate: (\d\S*)", self._run("apt-cache", "policy", package))
        if not found:
            raise CannotBeHad(f"{self._name} has no {package}")
        return found[1]

    def _run(self, *command: str) -> str:
        environment = {**os.environ, "APT_CONFIG": str(self._folder / "apt.conf"), "LC_ALL": "C"}
        ended = subprocess.run(
            command,
            cwd=self._folder / "debs",
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=300,
        )
        if ended.returncode:
            last = (ended.stderr.strip().splitlines() or ["no word"])[-1]
            raise CannotBeHad(f"{' '.join(command[:3])}: {last}")
        return ended.stdout
