"""User-Mode Linux: a kernel that is an ordinary process. It needs no privilege, and no KVM."""

import os
import re
import time
from pathlib import Path

from machines import guest
from machines.fetch import Suite
from machines.result import Broken, CannotBeHad, Result, need
from machines.table import Machine

BUSYBOX = Path("/bin/busybox")

#: What its console says on a CPU with AMX: the registers are more than the 6.1 kernel has room for
#: (arch/x86/um/os-Linux/registers.c), and ptrace(2) takes all or nothing of them.
NO_ROOM = "ptrace set fp regs failed"


def run(machine: Machine, cache: Path) -> Result:
    """Boots it, and runs the tests in it."""
    need({str(BUSYBOX): "busybox-static"})
    program = _program(machine, cache)
    started = time.monotonic()
    with guest.folder(machine, 'mount -t hostfs -o "$TOLD" told "$TOLD"') as folder:
        command = [
            program,
            "mem=512M",
            *(
                "root=/dev/root",
                "rootfstype=hostfs",
                "rootflags=/",
                "ro",
                f"init={folder.path}/init",
            ),
            *("con=null", "con0=fd:0,fd:1", "quiet", "delayacct", "panic=-1"),
        ]
        before = os.sched_getaffinity(0)
        # It and its processes run by turns: on two CPUs each turn waits for the other to wake up.
        os.sched_setaffinity(0, {_idlest(before)})
        try:
            ended = guest.run(command, machine.limit, {"HOME": str(folder.path)})
        finally:
            os.sched_setaffinity(0, before)
        try:
            return guest.result(machine, folder, started, ended)
        except Broken as problem:
            panic = re.search(r"Kernel panic.*", ended.console)
            if NO_ROOM in ended.console and _has_amx():
                raise CannotBeHad(f"this CPU has AMX: {NO_ROOM}") from None
            raise Broken(f"{panic[0]}" if panic else str(problem)) from None


def _program(machine: Machine, cache: Path) -> str:
    if machine.suite:
        return str(Suite(machine.suite, cache).unpacked(machine.package) / "usr/bin/linux.uml")
    need({"linux.uml": machine.package})
    return "linux.uml"


def _idlest(cpus: set[int]) -> int:
    """The CPU that does least just now."""
    before = _busy()
    time.sleep(0.2)
    after = _busy()
    return min(cpus, key=lambda cpu: after[cpu] - before[cpu])


def _busy() -> dict[int, int]:
    """Ticks that each CPU was not idle, nor waiting for I/O."""
    rows = re.findall(r"^cpu(\d+) (.*)$", Path("/proc/stat").read_text(), re.MULTILINE)
    ticks = {int(cpu): list(map(int, row.split())) for cpu, row in rows}
    return {cpu: sum(row[:3]) + sum(row[5:8]) for cpu, row in ticks.items()}


def _has_amx() -> bool:
    return "amx_tile" in Path("/proc/cpuinfo").read_text().split()
