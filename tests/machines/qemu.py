"""A whole machine, emulated: two CPUs, no KVM, the host's root through virtiofs."""

import lzma
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from machines import guest
from machines.fetch import Suite
from machines.result import Broken, Result, need
from machines.table import Machine

#: What the root needs, in the order to load it, where it is not built in.
MODULES = (
    *("virtio_ring", "virtio", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci"),
    *("fuse", "virtiofs"),
)

VIRTIOFSD = Path("/usr/lib/qemu/virtiofsd")

NEEDED = {
    "/usr/bin/qemu-system-x86_64": "qemu-system-x86",
    str(VIRTIOFSD): "qemu-system-common",
    "/bin/busybox": "busybox-static",
}

#: Without cmpxchg16b: in QEMU 7.2 the flags that it leaves are at times wrong, and 6.12 dies of it
#: (mm/slub.c:kmem_cache_alloc_noprof).
CPU = "max,-cx16"

#: Mounts the host's root, read-only but for one folder, and goes on there.
FIRST = """#!/bin/busybox sh
bb=/bin/busybox
for module in {modules}; do $bb insmod /$module.ko; done
$bb mkdir /proc
$bb mount -t proc proc /proc
$bb mount -t virtiofs host /root
$bb mount --bind /root{told} /root{told}
$bb mount -o remount,bind,ro none /root || exit
exec $bb switch_root /root {init}
"""


def run(machine: Machine, cache: Path) -> Result:
    """Boots it, and runs the tests in it."""
    need(NEEDED)
    assert machine.suite is not None
    roots = _unpacked(Suite(machine.suite, cache), machine.package)
    kernel = _only(roots, "**/vmlinuz*")
    started = time.monotonic()
    with guest.folder(machine, "true") as folder:
        initrd = _initrd(folder, roots)
        with _files(folder) as channel:
            ended = guest.run(
                [
                    *("qemu-system-x86_64", "-accel", "tcg", "-cpu", CPU, "-M", "q35"),
                    *("-smp", "2", "-m", "1024", "-nodefaults", "-display", "none"),
                    *("-serial", "stdio", "-no-reboot", "-kernel", kernel, "-initrd", initrd),
                    *("-append", "console=ttyS0 quiet panic=-1 delayacct"),
                    *("-object", "memory-backend-memfd,id=memory,size=1024M,share=on"),
                    *("-numa", "node,memdev=memory"),
                    *("-chardev", f"socket,id=files,path={channel}"),
                    *("-device", "vhost-user-fs-pci,chardev=files,tag=host"),
                ],
                machine.limit,
            )
        return guest.result(machine, folder, started, ended)


def _unpacked(suite: Suite, package: str) -> list[Path]:
    """The package, and those of the same kernel that it needs."""
    found, wanted = {}, [package]
    for name in wanted:
        found[name] = suite.unpacked(name)
        parts = [one for one in suite.needs(name) if re.match(r"linux-.*-cloud-amd64$", one)]
        wanted += [one for one in parts if one not in wanted]
    return list(found.values())


def _only(roots: list[Path], pattern: str) -> Path:
    found = [path for root in roots for path in root.glob(pattern)]
    if len(found) != 1:
        raise Broken(f"{len(found)} files {pattern} in its packages")
    return found[0]


def _initrd(folder: guest.Folder, roots: list[Path]) -> Path:
    """The first file system: busybox, the modules, and what loads them."""
    tree = folder.path / "initrd.d"
    (tree / "bin").mkdir(parents=True)
    (tree / "root").mkdir()
    shutil.copy("/bin/busybox", tree / "bin/busybox")
    built_in = _only(roots, "**/modules.builtin").read_text()
    needed = [name for name in MODULES if f"/{name}.ko" not in built_in]
    for name in needed:
        module = _only(roots, f"**/{name}.ko*")
        content = module.read_bytes()
        content = lzma.decompress(content) if module.suffix == ".xz" else content
        (tree / f"{name}.ko").write_bytes(content)
    init = tree / "init"
    init.write_text(
        FIRST.format(modules=" ".join(needed), told=folder.told, init=folder.path / "init")
    )
    init.chmod(0o755)
    names = "\n".join(str(path.relative_to(tree)) for path in sorted(tree.rglob("*")))
    packed = folder.path / "initrd"
    with packed.open("wb") as file:
        command = ["/bin/busybox", "cpio", "-o", "-H", "newc"]
        subprocess.run(
            command,
            cwd=tree,
            input=names.encode(),
            stdout=file,
            stderr=subprocess.DEVNULL,
            check=True,
        )
    return packed


@contextmanager
def _files(folder: guest.Folder) -> Iterator[Path]:
    """The socket by which the guest has the host's root."""
    channel = folder.path / "files"
    with subprocess.Popen(
        [VIRTIOFSD, f"--socket-path={channel}", "-o", "source=/,cache=always,sandbox=chroot"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as server:
        assert server.stderr is not None
        try:
            while not channel.exists():
                if server.poll() is not None:
                    said = server.stderr.read().strip().splitlines() or [""]
                    raise Broken(f"virtiofsd: {said[-1]}")
                os.sched_yield()
            yield channel
        finally:
            server.terminate()
