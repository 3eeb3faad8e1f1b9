"""That the fuzzer finds what it is for: errors planted in copies of the pure C files, by turns.

Usage: proof.py CLANG [OPTION...]. Each copy is built and fuzzed like the tree itself, with the same
options of libFuzzer and from the same seeds, for so many runs at most; and so is one with nothing
planted, in which nothing may be found.
"""

import re
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build/fuzz-proof"

#: harness -> inputs at most.
RUNS = {
    "datagram": 1_000_000,
    "layout": 100_000,
    "peer": 100_000,
    "sequence": 100_000,
    "btf": 15_000,
    "ring": 100_000,
    "settle": 100_000,
    "jobs": 100_000,
    "parentage": 100_000,
}


class Plant(NamedTuple):
    """What stands in a file once, and what is put there instead."""

    file: str
    harness: str
    right: str
    wrong: str


PLANTS = [
    Plant("layout.c", "layout", "member_end[i] <= size", "member_end[i] < size"),
    Plant("layout.c", "layout", "want & ~(size_t)7", "want & ~(size_t)3"),
    Plant("layout.c", "layout", "EXTREMES_AT + 16 * i", "EXTREMES_AT + 16 * (i + 1)"),
    Plant("layout.c", "layout", "sizeof(*to) - whole", "sizeof(*to) - whole - 1"),
    Plant("layout.c", "layout", "smaller(i, versions - 1)", "smaller(i, versions)"),
    Plant("layout.c", "layout", "version - TS_OLDEST_VERSION;", "version - TS_OLDEST_VERSION + 1;"),
    Plant("layout.c", "layout", "size <= known_size(", "size < known_size("),
    Plant("layout.c", "layout", "<= known_size(size, version)", "<= known_size(size, version + 1)"),
    Plant("layout.c", "layout", "size < known &&", "size + 1 < known &&"),
    Plant("layout.c", "layout", "size == 496", "size == 495"),
    Plant(
        "layout.c",
        "layout",
        "i < sizeof(piece_end) / sizeof(piece_end[0])",
        "i + 1 < sizeof(piece_end) / sizeof(piece_end[0])",
    ),
    Plant(
        "netlink.c",
        "datagram",
        "if (*left < sizeof(header))\n        return refuse(",
        "if (*left + 1 < sizeof(header))\n        return refuse(",
    ),
    Plant(
        "netlink.c",
        "datagram",
        "if (*left < sizeof(header))\n        return -EBADMSG",
        "if (*left + 1 < sizeof(header))\n        return -EBADMSG",
    ),
    Plant("netlink.c", "datagram", "header.nlmsg_len > *left", "header.nlmsg_len > *left + 1"),
    Plant(
        "netlink.c",
        "datagram",
        "header.nlmsg_len < sizeof(header)",
        "header.nlmsg_len <= sizeof(header)",
    ),
    Plant("netlink.c", "datagram", "header.nla_len > *left", "header.nla_len > *left + 1"),
    Plant(
        "netlink.c",
        "datagram",
        "header.nla_len < sizeof(header)",
        "header.nla_len + 1 < sizeof(header)",
    ),
    Plant("netlink.c", "datagram", "size < sizeof(int32_t)", "size + 1 < sizeof(int32_t)"),
    Plant("netlink.c", "datagram", "size < GENERIC_HEADER", "size + 1 < GENERIC_HEADER"),
    Plant("netlink.c", "datagram", "error < -4095", "error < -4096"),
    Plant("netlink.c", "datagram", "type >= NLMSG_MIN_TYPE", "type > NLMSG_MIN_TYPE"),
    Plant("netlink.c", "datagram", "swapped <= *left", "swapped < *left"),
    Plant("netlink.c", "datagram", "(size + 3) & ~", "(size + 4) & ~"),
    Plant("netlink.c", "datagram", "size == sizeof(id)", "size >= sizeof(id)"),
    Plant(
        "netlink.c",
        "datagram",
        "align4(request->size) - request->size",
        "align4(request->size + 1)",
    ),
    Plant("decode.c", "datagram", "used < sink->capacity", "used <= sink->capacity"),
    Plant("decode.c", "datagram", "size < sizeof(uint16_t)", "size + 1 < sizeof(uint16_t)"),
    Plant("decode.c", "datagram", "version < TS_OLDEST_VERSION", "version + 1 < TS_OLDEST_VERSION"),
    Plant("decode.c", "datagram", "message->type <= GENL_ID_CTRL", "message->type < GENL_ID_CTRL"),
    Plant("decode.c", "datagram", "(stats->ac_etime + 1) * 1000", "(stats->ac_etime + 2) * 1000"),
    Plant("decode.c", "datagram", "head_size > TS_HEAD", "head_size > TS_HEAD + 4"),
    Plant("decode.c", "datagram", "head_size > TS_HEAD", "head_size >= TS_HEAD"),
    Plant(
        "decode.c",
        "datagram",
        "datagram->size < shape->head_size + shape->size",
        "datagram->size + 1 < shape->head_size + shape->size",
    ),
    Plant("decode.c", "datagram", "at < AT_ID", "at < AT_ID - 4"),
    Plant("decode.c", "datagram", "size_t at = AFTER_ID", "size_t at = AFTER_ID + 4"),
    Plant("decode.c", "datagram", "at < shape->head_size", "at + 4 < shape->head_size"),
    Plant(
        "decode.c",
        "datagram",
        "sizeof(row->stats) - shape->size",
        "sizeof(row->stats) - shape->size - 1",
    ),
    Plant(
        "decode.c",
        "datagram",
        "&datagram->row->stats, shape->size",
        "&datagram->row->stats, shape->size - 1",
    ),
    Plant("decode.c", "datagram", "task->row = sink->n_groups - 1", "task->row = sink->n_groups"),
    Plant("sequence.c", "sequence", "sequence->next = seq + 1", "sequence->next = seq"),
    Plant("sequence.c", "sequence", "<= MOST_OVERTAKEN", "< MOST_OVERTAKEN"),
    Plant("sequence.c", "sequence", "ahead > MOST_OVERTAKEN", "ahead >= MOST_OVERTAKEN"),
    Plant("sequence.c", "sequence", "sequence->after_jump - 1,", "sequence->after_jump,"),
    Plant("sequence.c", "sequence", "after_jump = seq + 1", "after_jump = seq"),
    Plant("sequence.c", "sequence", "ahead > lost", "ahead >= lost"),
    Plant("sequence.c", "sequence", "missing += gap", "missing += gap + 1"),
    Plant(
        "sequence.c", "sequence", "missing > sequence->placed ?", "missing + 2 > sequence->placed ?"
    ),
    Plant("sequence.c", "sequence", "counter->last = now", "counter->last = now + 1"),
    Plant("peer.c", "peer", "% endpoint->n_sent];", "% (endpoint->n_sent + 1)];"),
    Plant("peer.c", "peer", "% endpoint->n_sent + i)", "% endpoint->n_sent + i + 1)"),
    Plant("peer.c", "peer", "i < endpoint->n_sent", "i + 2 < endpoint->n_sent"),
    Plant("btf.c", "btf", "if (size < sizeof(header))", "if (size + 1 < sizeof(header))"),
    Plant("btf.c", "btf", "header.header_size > size)", "header.header_size > size + 1)"),
    Plant(
        "btf.c",
        "btf",
        "header.types_size > size - header.types_at",
        "header.types_size > size - header.types_at + 1",
    ),
    Plant(
        "btf.c",
        "btf",
        "header.strings_size > size - header.strings_at",
        "header.strings_size > size - header.strings_at + 1",
    ),
    Plant(
        "btf.c", "btf", "btf->strings[btf->strings_size - 1]", "btf->strings[btf->strings_size / 2]"
    ),
    Plant(
        "btf.c",
        "btf",
        "if (btf->types_size - at < sizeof(type))",
        "if (btf->types_size - at + 4 < sizeof(type))",
    ),
    Plant("btf.c", "btf", "if (at == btf->types_size)", "if (at >= btf->types_size)"),
    Plant("btf.c", "btf", "id > 0 && id < btf->n", "id > 0 && id <= btf->n"),
    Plant("btf.c", "btf", "name < btf->strings_size", "name <= btf->strings_size"),
    Plant("btf.c", "btf", "[KIND_VAR] = {4, 0}", "[KIND_VAR] = {0, 0}"),
    Plant(
        "btf.c", "btf", "parts_of(&type) - 1 > MOST_ARGUMENTS", "parts_of(&type) > MOST_ARGUMENTS"
    ),
    Plant(
        "btf.c",
        "btf",
        "uint32_t i = 1; i < parts_of(&type)",
        "uint32_t i = 1; i <= parts_of(&type)",
    ),
    Plant("btf.c", "btf", "member.offset & 0xffffff", "member.offset & 0xffff"),
    Plant("btf.c", "btf", "*n = (int)parts_of(&type) - 1", "*n = (int)parts_of(&type) - 2"),
    Plant("offsets.c", "btf", "number < MOST_SUBSYSTEMS", "number < 2"),
    Plant("offsets.c", "btf", "outer + offset;", "outer + offset + 1;"),
    Plant("ring.c", "ring", "ring->mask + 1 - at", "ring->mask + 2 - at"),
    Plant("ring.c", "ring", "> ring->mask + 1 ||", "> ring->mask + 9 ||"),
    Plant("ring.c", "ring", "(ring->end & 7) != 0", "(ring->end & 3) != 0"),
    Plant("ring.c", "ring", "*size > TS_RING_MOST", "*size > TS_RING_MOST + 8"),
    Plant(
        "ring.c",
        "ring",
        "step > ring->end - ring->position",
        "step > ring->end - ring->position + 8",
    ),
    Plant("ring.c", "ring", "TS_RING_HEADER + 7", "TS_RING_HEADER + 8"),
    Plant("ring.c", "ring", "size - first)", "size - first - 1)"),
    Plant(
        "settle.c",
        "settle",
        "settler->n_ends == settler->most_ends",
        "settler->n_ends == settler->most_ends + 1",
    ),
    Plant(
        "settle.c",
        "settle",
        "&settler->held[place % HELD_ROOM]",
        "&settler->held[place % (HELD_ROOM - 1)]",
    ),
    Plant(
        "settle.c",
        "settle",
        "settler->tail - settler->head > TS_MOST_HELD",
        "settler->tail - settler->head >= TS_MOST_HELD",
    ),
    Plant(
        "settle.c",
        "settle",
        "held->has_group > sink->capacity",
        "held->has_group > sink->capacity + 1",
    ),
    Plant("settle.c", "settle", "row->row >= task", "row->row > task"),
    Plant("settle.c", "settle", "now >= held->until_ns", "now > held->until_ns"),
    Plant(
        "settle.c",
        "settle",
        "event->cpu_ns < stats->cpu_run_virtual_total",
        "event->cpu_ns <= stats->cpu_run_virtual_total",
    ),
    Plant(
        "settle.c",
        "settle",
        "moment_of(row, event) > window->before",
        "moment_of(row, event) > window->before + 50000",
    ),
    Plant("settle.c", "settle", "length >= TS_PATH_SIZE - 1", "length > TS_PATH_SIZE - 1"),
    Plant(
        "settle.c",
        "settle",
        "sink->n_births == sink->room_births",
        "sink->n_births == sink->room_births + 1",
    ),
    Plant("settle.c", "settle", "settler->drain++;", ";"),
    Plant(
        "settle.c",
        "settle",
        "rows_for(settler, &settler->ends[end].event, &row) == 0)",
        "rows_for(settler, &settler->ends[end].event, &row) >= 0)",
    ),
    Plant(
        "settle.c",
        "settle",
        "window->after >= settler->lost_ns",
        "window->after + 1000000 >= settler->lost_ns",
    ),
    Plant(
        "settle.c",
        "settle",
        ".made_ns < settler->began_ns)",
        ".made_ns + 1000000 < settler->began_ns)",
    ),
    Plant(
        "kin.c", "jobs", "kin->all[one].start_ns > moment_ns", "kin->all[one].start_ns >= moment_ns"
    ),
    Plant(
        "kin.c",
        "jobs",
        "all[*at].start_ns > all[one].start_ns)",
        "all[*at].start_ns < all[one].start_ns)",
    ),
    Plant("kin.c", "jobs", "if (all[i].used)", "if (all[i].used && all[i].pid != 3)"),
    Plant("tally.c", "jobs", "X(read_char, 17, 16, ADD)", "X(read_char, 17, 16, MOST)"),
    Plant("tally.c", "jobs", "more[i] -= before->values[i];", ";"),
    Plant(
        "tally.c",
        "jobs",
        "*value = most(*value, words(group)[runs[r].word + i]);",
        "*value += words(group)[runs[r].word + i];",
    ),
    Plant("jobs.c", "jobs", "process->epoch != jobs->epoch;", "process->epoch > jobs->epoch;"),
    Plant(
        "jobs.c",
        "jobs",
        "certain = fits == 1 && !old && !jobs->births_lost;",
        "certain = fits >= 1 && !old;",
    ),
    Plant("jobs.c", "jobs", "rc = hand_over(jobs, job, outer);", ";"),
    Plant("jobs.c", "jobs", "lose_births(jobs);\n    for", ";\n    for"),
    Plant(
        "jobs.c",
        "jobs",
        "            mark(jobs, owner);\n            return;",
        "            return;",
    ),
    Plant("jobs.c", "jobs", "mark(jobs, owner_of(jobs, one)); /* its", "/* its"),
    Plant("jobs.c", "jobs", "jobs->counts.waiting++;", ";"),
    Plant(
        "parentage.c",
        "parentage",
        "return one->start.first <= end.last && one->start.last >= latest;",
        "return one->start.first <= end.last;",
    ),
    Plant("parentage.c", "parentage", "parent->tick_ns > one->tick_ns", "0"),
    Plant("parentage.c", "parentage", "is_job(named) && !parent->shared)", "is_job(named))"),
    Plant(
        "parentage.c",
        "parentage",
        "one->is_unsure = 1;\n    if (end_ns",
        "if (end_ns",
    ),
    Plant("owners.c", "parentage", "one->uses++;\n    one->newer", "one->newer"),
    Plant("owners.c", "parentage", "while (one && !one->lives)", "while (one && one->lives)"),
    Plant("doubts.c", "parentage", "if (one->kept) {", "if (one->kept && one->n > 2) {"),
]


class Found(NamedTuple):
    """What fuzzing a copy came to."""

    what: str
    runs: int
    seconds: float

    def __str__(self) -> str:
        return f"{self.what or 'nothing found'}, {self.runs:,} runs, {self.seconds:.1f} s"


def fuzz(clang: str, options: list[str], harness: str, sources: Path, folder: Path) -> Found:
    """Builds a harness with the C files in `sources` and runs it until it finds something."""
    switches = {"FUZZ_CC": clang, "FUZZ_BUILD": folder, "CSRC": sources}
    subprocess.run(
        ["make", "-s", f"{folder}/fuzz_{harness}", *(f"{k}={v}" for k, v in switches.items())],
        cwd=ROOT,
        check=True,
    )
    command = [folder / f"fuzz_{harness}", f"-runs={RUNS[harness]}", "-seed=1", *options]
    command += [
        "-print_final_stats=1",
        f"-artifact_prefix={folder}/",
        ROOT / "build/seeds" / harness,
    ]
    start = time.monotonic()
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace")
    seconds = time.monotonic() - start
    runs = re.search(r"stat::number_of_executed_units: *(\d+)", ran.stderr)
    if ran.returncode == 0:
        what = ""
    elif told := re.search(r"does not hold: .*|\w+Sanitizer: [\w-]+", ran.stderr):
        what = told[0]
    else:
        sys.exit(ran.stderr)
    return Found(what, int(runs[1]) if runs else 0, seconds)


def plant(number: int, one: Plant) -> Path:
    """A copy of csrc/ with this error in it."""
    sources = BUILD / str(number) / "csrc"
    sources.mkdir(parents=True, exist_ok=True)
    for path in (ROOT / "csrc").iterdir():
        text = path.read_text(encoding="utf-8")
        if path.name == one.file:
            if text.count(one.right) != 1:
                sys.exit(f"{one.file}: not there once: {one.right}")
            text = text.replace(one.right, one.wrong)
        (sources / path.name).write_text(text, encoding="utf-8")
    return sources


def main() -> None:
    clang, *options = sys.argv[1:]
    wrong = 0
    for harness in RUNS:
        found = fuzz(clang, options, harness, ROOT / "csrc", BUILD / harness)
        print(f"{harness}, nothing planted: {found}", flush=True)
        wrong += bool(found.what)
    for number, one in enumerate(PLANTS):
        found = fuzz(clang, options, one.harness, plant(number, one), BUILD / str(number))
        print(f"{one.file}: {' '.join(one.wrong.split())}: {found}", flush=True)
        wrong += not found.what
    print(f"{len(PLANTS)} planted; {wrong} not found, or found where nothing was")
    sys.exit(bool(wrong))


main()
