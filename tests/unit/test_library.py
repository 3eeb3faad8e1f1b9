"""The shim alone: a static library and one header, used from C."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FRAMES = ROOT / "tests/data/frames"

PROGRAM = """
#include "taskstats_shim.h"
#include <stdio.h>

int main(int argc, char **argv)
{
    static unsigned char datagram[4096];
    static struct ts_record task, group;
    struct ts_sink sink = {.tasks = &task, .groups = &group, .capacity = 1};
    FILE *file = argc == 2 ? fopen(argv[1], "rb") : NULL;
    if (!file)
        return 2;
    int n = ts_decode(datagram, fread(datagram, 1, sizeof(datagram), file), &sink);
    printf("%d %u %u\\n", n, task.id, group.id);
    return fclose(file);
}
"""


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_builds_without_a_warning_and_decodes(compiler: str, tmp_path: Path) -> None:
    if not shutil.which(compiler) or not shutil.which("make"):
        pytest.skip(f"{compiler} or make is not installed")
    shutil.copytree(ROOT / "csrc", tmp_path / "csrc")
    shutil.copy(ROOT / "Makefile", tmp_path)
    make = ["make", f"-j{os.cpu_count()}", "lib", f"CC={compiler}", "CFLAGS=-O2 -Werror"]
    subprocess.run(make, cwd=tmp_path, check=True, capture_output=True)
    (tmp_path / "program.c").write_text(PROGRAM)
    subprocess.run(
        [compiler, "-Icsrc", "program.c", "build/libtaskstats.a", "-lpthread", "-o", "program"],
        cwd=tmp_path,
        check=True,
    )
    answered = subprocess.run(
        [tmp_path / "program", FRAMES / "host618/exit_thread3.bin"],
        check=True,
        capture_output=True,
        text=True,
    )
    n, task, group = map(int, answered.stdout.split())
    assert n == 2
    assert task > 0
    assert group > 0
