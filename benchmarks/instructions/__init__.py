"""How many instructions a record takes, counted by callgrind: the same in every run.

They tell that code does more or less than before, not how long that takes.

Only those in the functions of csrc/ that are given a record count, with what they call. `records.c`
says what is decoded, and in which ways:

    whole    ts_decode: a datagram to its rows
    cut      ts_decode_cut: one that was received straight into its row
    copy     a copy of its structs to their rows alone, the least that `whole` has to do
    account  a record's number, with what was lost before it
    settle   a record joined with its end, which is read from the ring
    read     an end read from the ring, and kept
    feed     a batch of one record, with its birth, given to the jobs
    assign   a record assigned to a job without births, its parent looked up
"""

import re
import subprocess
from pathlib import Path

#: What was decoded -> way -> instructions a record. (Of a last thread's, for both structs.)
Counts = dict[str, dict[str, int]]

TIMES = 100
COUNTED = (
    *("ts_decode", "ts_decode_cut", "copy_alone", "ts_sequence_*"),
    *("ts_settler_read", "ts_settler_take", "ts_settler_release", "ts_jobs_feed"),
    *("ts_parentage_feed", "ts_parentage_settle", "ts_parentage_found"),
)
# Without the last, memory.c's loops would be calls of memcpy and memset: themselves.
FLAGS = ("-O2", "-fno-tree-loop-distribute-patterns")

_HERE = Path(__file__).parent
_ROOT = _HERE.parent.parent
_SOURCES = [
    *sorted(_HERE.glob("*.c")),
    *(
        _ROOT / "csrc" / f"{name}.c"
        for name in (
            "netlink",
            "layout",
            "decode",
            "sequence",
            "ring",
            "settle",
            "tally",
            "kin",
            "jobs",
            "doubts",
            "owners",
            "parentage",
        )
    ),
    *(_ROOT / "tests" / "c" / f"{name}.c" for name in ("check", "frames", "wire")),
]


def compiler() -> str:
    """What counts depend on, besides the code: the compiler and the machine it compiles for."""
    version = subprocess.check_output(["cc", "--version"], text=True).splitlines()[0]
    machine = subprocess.check_output(["cc", "-dumpmachine"], text=True).strip()
    return f"{version}, {machine}"


def count(directory: Path) -> Counts:
    """Compiles and counts, in this directory.

    Raises:
        AssertionError: Not every run of a way took the same number. It may have called a function
            of libc's that memory.c lacks: the first call of one takes more.
    """
    program = directory / "records"
    folders = (f"-I{_ROOT / 'csrc'}", f"-I{_ROOT / 'tests' / 'c'}")
    command = ["cc", *FLAGS, "-Wl,-z,lazy", "-D_GNU_SOURCE", *folders, *_SOURCES, "-o", program]
    subprocess.run(command, check=True)
    out = directory / "callgrind.out"
    callgrind = ["valgrind", "-q", "--tool=callgrind", f"--callgrind-out-file={out}"]
    toggles = [f"--toggle-collect={name}" for name in COUNTED]
    frames = _ROOT / "tests" / "data" / "frames"
    subprocess.run([*callgrind, *toggles, program, frames, str(TIMES)], check=True)

    counts: Counts = {}
    dumps = sorted(directory.glob("callgrind.out.*"), key=lambda path: int(path.suffix[1:]))
    for dump in dumps:
        text = dump.read_text()
        named = re.search(r"^desc: Trigger: Client Request: (\w+): (.*)$", text, re.MULTILINE)
        total = re.search(r"^summary: (\d+)$", text, re.MULTILINE)
        assert named, f"{dump} was not asked for"
        assert total, f"{dump} has no sum"
        way, what = named.groups()
        instructions, rest = divmod(int(total[1]), TIMES)
        assert rest == 0, f"{way}, {what}: {total[1]} instructions in {TIMES} runs"
        assert instructions > 0, f"{way}, {what}: nothing was counted"
        counts.setdefault(what, {})[way] = instructions
    return counts
