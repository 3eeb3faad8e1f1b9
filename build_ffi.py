"""Declares the extension module `taskstats._native` from csrc/; setup.py runs it.

Build switches, from the environment:
  TASKSTATS_WERROR=1         warnings are errors (CI)
  TASKSTATS_SANITIZE=LIST    compile with -fsanitize=LIST, for instance address,undefined;
                             each report ends the process
  TASKSTATS_COVERAGE=1       count for gcov which lines and branches were run
"""

import os
from pathlib import Path

from cffi import FFI

HEADER = "csrc/taskstats_shim.h"
SOURCES = [
    "csrc/layout.c",
    "csrc/netlink.c",
    "csrc/decode.c",
    "csrc/memory.c",
    "csrc/process.c",
    "csrc/receive.c",
    "csrc/socket.c",
    "csrc/filter.c",
    "csrc/peer.c",
    "csrc/meter.c",
    "csrc/sequence.c",
    "csrc/query.c",
    "csrc/cgroup.c",
    "csrc/btf.c",
    "csrc/offsets.c",
    "csrc/programs.c",
    "csrc/bpf.c",
    "csrc/ring.c",
    "csrc/probe.c",
    "csrc/settle.c",
    "csrc/tally.c",
    "csrc/kin.c",
    "csrc/jobs.c",
    "csrc/doubts.c",
    "csrc/owners.c",
    "csrc/parentage.c",
    "csrc/exits.c",
    "csrc/drain.c",
    "csrc/buffer.c",
    "csrc/drainer.c",
]


def declarations() -> str:
    """The part of the public header that cffi reads: what stands between its markers."""
    text = Path(HEADER).read_text(encoding="utf-8")
    return text.partition("/* cffi: begin */")[2].partition("/* cffi: end */")[0]


def compile_args() -> list[str]:
    args = ["-std=gnu11", "-Wall", "-Wextra", "-Wshadow"]
    if os.environ.get("TASKSTATS_WERROR"):
        args.append("-Werror")
    return args + sanitize_args() + coverage_args()


def sanitize_args() -> list[str]:
    chosen = os.environ.get("TASKSTATS_SANITIZE")
    if not chosen:
        return []
    return [
        f"-fsanitize={chosen}",
        "-fno-sanitize-recover=all",
        "-fno-wrapv",  # Python's own flags define overflow
        "-fno-omit-frame-pointer",
        "-g",
    ]


def coverage_args() -> list[str]:
    if not os.environ.get("TASKSTATS_COVERAGE"):
        return []
    return ["--coverage", "-O0", "-fprofile-update=atomic"]


ffibuilder = FFI()
ffibuilder.cdef(declarations())
ffibuilder.set_source(
    "taskstats._native",
    '#include "taskstats_shim.h"',
    sources=SOURCES,
    include_dirs=["csrc"],
    define_macros=[("_GNU_SOURCE", None)],
    extra_compile_args=compile_args(),
    extra_link_args=sanitize_args() + coverage_args(),
    py_limited_api=True,
)
