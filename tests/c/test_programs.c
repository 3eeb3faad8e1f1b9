/* programs.c: each program of each kind of kernel, as a listing, and by the rules that the
 * kernel's verifier would hold it to.
 *
 * Usage: test_programs FRAMES [renew]. The listing is FRAMES/../programs.txt. */
#include "programs.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

#define RING 70000
#define LOSSES 80000
#define HIERARCHY 7
#define SUBSYSTEM 2

/* Each member at an offset of its own: the listing shows them. */
static const struct ts_probe_layout layout = {
    .task_pid = 2000,
    .task_tgid = 2004,
    .task_start_boottime = 2008,
    .task_start_time = 2016,
    .task_group_leader = 2024,
    .task_cgroups = 2032,
    .task_state = 2040,
    .task_cpu_time = 2048,
    .task_runs = 2056,
    .task_run_delay = 2064,
    .css_set_dfl_cgrp = 3000,
    .css_set_subsys = 3008,
    .css_cgroup = 4000,
    .cgroup_kn = 5000,
    .cgroup_root = 5008,
    .root_hierarchy_id = 6000,
    .kernfs_node_id = 32767,
    .switch_previous = 1,
    .switch_state = 3,
};

static char listing[1 << 16];
static size_t listed;

static void list(const char *format, ...)
{
    va_list arguments;
    int n;

    va_start(arguments, format);
    n = vsnprintf(listing + listed, sizeof(listing) - listed, format, arguments);
    va_end(arguments);
    CHECK(n > 0 && (size_t)n < sizeof(listing) - listed);
    listed += (size_t)n;
}

/* ---- one instruction: Documentation/bpf/standardization/instruction-set.rst ---- */

static unsigned to_of(const struct ts_bpf *one)
{
    int is_big = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__;

    return is_big ? one->registers >> 4 : one->registers & 15;
}

static unsigned from_of(const struct ts_bpf *one)
{
    int is_big = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__;

    return is_big ? one->registers & 15 : one->registers >> 4;
}

static const char *helper(int32_t number)
{
    switch (number) {
    case 5:
        return "ktime_get_ns";
    case 115:
        return "probe_read_kernel_str";
    case 130:
        return "ringbuf_output";
    case 131:
        return "ringbuf_reserve";
    case 132:
        return "ringbuf_submit";
    default:
        CHECK(!"a helper that the probe does not call");
        return "";
    }
}

static void list_one(int at, const struct ts_bpf *one)
{
    unsigned to = to_of(one);
    unsigned from = from_of(one);
    int target = at + 1 + one->offset;

    list("%4d: ", at);
    switch (one->code) {
    case 0xbf:
        list("r%u = r%u\n", to, from);
        break;
    case 0xb7:
        list("r%u = %d\n", to, one->value);
        break;
    case 0x07:
        list("r%u += %d\n", to, one->value);
        break;
    case 0x61:
        list("r%u = *(u32 *)(r%u %+d)\n", to, from, one->offset);
        break;
    case 0x79:
        list("r%u = *(u64 *)(r%u %+d)\n", to, from, one->offset);
        break;
    case 0x63:
        list("*(u32 *)(r%u %+d) = r%u\n", to, one->offset, from);
        break;
    case 0x7b:
        list("*(u64 *)(r%u %+d) = r%u\n", to, one->offset, from);
        break;
    case 0x62:
        list("*(u32 *)(r%u %+d) = %d\n", to, one->offset, one->value);
        break;
    case 0xdb:
        list("lock *(u64 *)(r%u %+d) += r%u\n", to, one->offset, from);
        break;
    case 0x85:
        list("call %s\n", helper(one->value));
        break;
    case 0x05:
        list("goto %d\n", target);
        break;
    case 0x15:
        list("if r%u == %d goto %d\n", to, one->value, target);
        break;
    case 0x5d:
        list("if r%u != r%u goto %d\n", to, from, target);
        break;
    case 0x55:
        list("if r%u != %d goto %d\n", to, one->value, target);
        break;
    case 0x45:
        list("if r%u & %d goto %d\n", to, one->value, target);
        break;
    case 0x95:
        list("exit\n");
        break;
    case 0x18:
        CHECK(from == 1 ? one->value == RING : from == 2 && one->value == LOSSES);
        if (from == 1)
            list("r%u = the ring\n", to);
        else
            list("r%u = the losses %+d\n", to, one[1].value);
        break;
    default:
        CHECK(!"an instruction that the programs do not have");
    }
}

/* ---- a program ---- */

static int is_jump(const struct ts_bpf *one)
{
    return (one->code & 7) == 5 && one->code != 0x85 && one->code != 0x95;
}

static int is_store(const struct ts_bpf *one)
{
    return (one->code & 7) == 2 || (one->code & 7) == 3;
}

static void check_program(const struct ts_bpf *made, int n)
{
    int is_second_half[TS_MOST_INSTRUCTIONS + 1] = {0};

    CHECK(n > 0 && n < TS_MOST_INSTRUCTIONS); /* it was not cut */
    for (int i = 0; i < n; i++)
        if (made[i].code == 0x18) {
            CHECK(i + 1 < n && made[i + 1].code == 0 && made[i + 1].registers == 0);
            is_second_half[++i] = 1;
        }
    for (int i = 0; i < n; i++) {
        int to = (int)to_of(&made[i]);
        CHECK(to <= 10 && from_of(&made[i]) <= 10);
        if (is_jump(&made[i])) { /* forward, so that there are no loops */
            int target = i + 1 + made[i].offset;
            CHECK(made[i].offset > 0 && target < n && !is_second_half[target]);
        }
        /* To its stack, to what it reserved in the ring (r9), and to the losses (r1). */
        if (is_store(&made[i]))
            CHECK(made[i].code == 0xdb ? to == 1 : to == 10 || to == 9);
        if (is_store(&made[i]) && to == 10)
            CHECK(made[i].offset >= -64 && made[i].offset < 0);
    }
    CHECK(made[n - 1].code == 0x95 && made[n - 2].code == 0xb7 && to_of(&made[n - 2]) == 0);
}

/* The same memory is beyond what is made: nothing more is written. */
static int make(enum ts_program program, const struct ts_program_context *context,
                struct ts_bpf *made)
{
    const struct ts_bpf untouched = {.code = 0xa5, .value = -1};
    int n;

    for (int i = 0; i <= TS_MOST_INSTRUCTIONS; i++)
        made[i] = untouched;
    n = ts_program_make(program, context, made);
    for (int i = n; i <= TS_MOST_INSTRUCTIONS; i++)
        CHECK(memcmp(&made[i], &untouched, sizeof(untouched)) == 0);
    return n;
}

static void list_program(enum ts_program program, const struct ts_bpf *made, int n,
                         const char *variant)
{
    list("%s, at %s%s:\n", ts_program_name(program), ts_program_tracepoint(program), variant);
    for (int i = 0; i < n; i++) {
        list_one(i, &made[i]);
        i += made[i].code == 0x18;
    }
    list("\n");
}

/* Every kind of kernel: one that passes the state, as the fourth argument or the second, or
 * not; with run counts or without; each version of cgroups. Those are listed that differ from
 * the commonest kind in one way at most. */
static void make_all(void)
{
    static const struct {
        const char *name;
        int previous, state;
    } states[] = {{"state passed", 1, 3}, {"state passed second", 2, 1}, {"state read", 1, -1}};
    struct ts_probe_layout other = layout;
    struct ts_program_context context = {.layout = &other, .ring = RING, .losses = LOSSES};
    char variant[100];

    for (int version = 2; version >= 1; version--)
        for (int kind = 0; kind < 6; kind++) {
            int state = kind / 2;
            int lacks_runs = kind % 2;

            context.subsystem = version == 1 ? SUBSYSTEM : -1;
            context.hierarchy = version == 1 ? HIERARCHY : 0;
            other.switch_previous = states[state].previous;
            other.switch_state = states[state].state;
            other.task_runs = lacks_runs ? -1 : layout.task_runs;
            snprintf(variant, sizeof(variant), " (%s, %s run counts, cgroup v%d)",
                     states[state].name, lacks_runs ? "without" : "with", version);
            for (int i = 0; i < TS_PROGRAMS; i++) {
                struct ts_bpf made[TS_MOST_INSTRUCTIONS + 1];
                int n = make((enum ts_program)i, &context, made);
                int differs = (state > 0) + lacks_runs + (version == 1);

                check_program(made, n);
                if (differs == 0 || (differs == 1 && (version == 1 || i == TS_PROGRAM_END)))
                    list_program((enum ts_program)i, made, n, variant);
            }
        }
}

/* ---- the listing ---- */

static void compare(const char *path)
{
    static char expected[sizeof(listing)];
    FILE *file = fopen(path, "r");
    size_t size;
    unsigned line = 1;

    CHECK(file);
    size = fread(expected, 1, sizeof(expected), file);
    fclose(file);
    for (size_t i = 0; i < size && i < listed && expected[i] == listing[i]; i++)
        line += expected[i] == '\n';
    if (size != listed || memcmp(expected, listing, size) != 0)
        fprintf(stderr, "%s:%u: other instructions; if they are as they should be: %s\n", path,
                line, "build/ctest/test_programs tests/data/frames renew");
    CHECK(size == listed && memcmp(expected, listing, size) == 0);
}

int main(int argc, char **argv)
{
    char path[512];
    FILE *file;

    CHECK(argc >= 2);
    CHECK(snprintf(path, sizeof(path), "%s/../programs.txt", argv[1]) < (int)sizeof(path));
    make_all();
    for (int i = 0; i < TS_PROGRAMS; i++)
        CHECK(strlen(ts_program_name((enum ts_program)i)) < 16); /* BPF_OBJ_NAME_LEN */
    if (argc > 2) {
        file = fopen(path, "w");
        CHECK(file && fwrite(listing, 1, listed, file) == listed && fclose(file) == 0);
    }
    compare(path);
    printf("programs: every kind of kernel: %lu checks\n", checks);
    return 0;
}
