"""Facts about the machine, against other ways to learn them."""

import os
import resource

from taskstats import cpulist, host


def test_possible_cpus_hold_those_that_are_online() -> None:
    possible = set(cpulist.parse(host.possible_cpus()))
    assert os.sched_getaffinity(0) <= possible


def test_memory() -> None:
    with open("/proc/meminfo", encoding="ascii") as lines:  # noqa: PTH123
        kib = int(next(line for line in lines if line.startswith("MemTotal")).split()[1])
    assert host.memory_bytes() == kib * 1024


def test_free_descriptors_fall_with_each_that_is_opened() -> None:
    before = host.free_descriptors()
    assert before < resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    fd = os.open("/", os.O_RDONLY)
    try:
        assert host.free_descriptors() == before - 1
    finally:
        os.close(fd)


def test_exits_by_the_books_count_children() -> None:
    before = host.exits_by_the_books()
    for _ in range(20):
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
    assert host.exits_by_the_books() >= before + 20
