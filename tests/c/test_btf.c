/* btf.c and offsets.c: a kernel that is made here, other kernels, and damaged ones. */
#include "btf.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "made_btf.h"
#include "offsets.h"
#include "properties.h"

static struct made_btf made;

static int read_layout(const struct made_kernel *kernel, struct ts_probe_layout *layout)
{
    size_t size;
    uint8_t *data;
    int rc;

    made_kernel(&made, kernel);
    data = made_end(&made, &size);
    rc = ts_probe_read_layout(data, size, layout);
    check_btf(data, size);
    free(data);
    return rc;
}

static void check_kernels(void)
{
    static const char *const needed[] = {
        "task_struct",
        "pid",
        "tgid",
        "start_boottime",
        "start_time",
        "group_leader",
        "cgroups",
        "se",
        "sum_exec_runtime",
        "__state",
        "css_set",
        "dfl_cgrp",
        "subsys",
        "cgroup_subsys_state",
        "cgroup",
        "kn",
        "root",
        "cgroup_root",
        "hierarchy_id",
        "kernfs_node",
        "id",
        "btf_trace_sched_switch",
    };
    const int low = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? 4 : 0;
    const struct ts_probe_layout expected = {
        .task_pid = 512 + 8,
        .task_tgid = 512 + 20,
        .task_start_boottime = 2048,
        .task_start_time = 512 + 32,
        .task_group_leader = 2056,
        .task_cgroups = 3000,
        .task_state = 24,
        .task_cpu_time = 128 + 24,
        .task_runs = 1024,
        .task_run_delay = 1024 + 8,
        .css_set_dfl_cgrp = 136,
        .css_set_subsys = 0,
        .css_cgroup = 72,
        .cgroup_kn = 264,
        .cgroup_root = 344,
        .root_hierarchy_id = 12,
        .kernfs_node_id = 96,
        .switch_previous = 1,
        .switch_state = 3,
    };
    struct ts_probe_layout layout;

    CHECK(read_layout(&(struct made_kernel){0}, &layout) == 0);
    CHECK(memcmp(&layout, &expected, sizeof(layout)) == 0);
    CHECK(read_layout(&(struct made_kernel){.state_is_long = 1}, &layout) == 0);
    CHECK(layout.task_state == 24 + low);
    CHECK(read_layout(&(struct made_kernel){.arguments = 3}, &layout) == 0);
    CHECK(layout.switch_previous == 1 && layout.switch_state == -1);
    CHECK(read_layout(&(struct made_kernel){.state_is_second = 1}, &layout) == 0);
    CHECK(layout.switch_previous == 2 && layout.switch_state == 1);
    CHECK(read_layout(&(struct made_kernel){.no_sched_info = 1}, &layout) == 0);
    CHECK(layout.task_runs == -1 && layout.task_cpu_time == 128 + 24);
    CHECK(read_layout(&(struct made_kernel){.lacks = "pcount"}, &layout) == 0);
    CHECK(layout.task_runs == -1);
    CHECK(read_layout(&(struct made_kernel){.lacks = "run_delay"}, &layout) == 0);
    CHECK(layout.task_runs == -1);
    CHECK(read_layout(&(struct made_kernel){.pointer_size = 4}, &layout) == -EOPNOTSUPP);
    for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++)
        CHECK(read_layout(&(struct made_kernel){.lacks = needed[i]}, &layout) == -ENOENT);
}

/* The number of a controller; the kernel that is made here lacks nothing else. */
static int subsystem(const uint8_t *data, size_t size, const char *controller)
{
    struct ts_probe_kernel kernel;
    int rc = ts_probe_read_kernel(data, size, controller, &kernel);

    CHECK(rc == (kernel.subsystem < 0 && controller ? -ENOENT : 0));
    return kernel.subsystem;
}

static void check_subsystems(void)
{
    static const struct made_kernel kernel = {0};
    char name[100];
    size_t size;
    uint8_t *data;

    made_kernel(&made, &kernel);
    data = made_end(&made, &size);
    CHECK(subsystem(data, size, "cpuset") == 0);
    CHECK(subsystem(data, size, "cpuacct") == 2);
    CHECK(subsystem(data, size, NULL) == -1);
    CHECK(subsystem(data, size, "wrong") == -ENOENT); /* -1 */
    CHECK(subsystem(data, size, "many") == -ENOENT);  /* no kernel has as many */
    CHECK(subsystem(data, size, "memory") == -ENOENT);
    for (size_t n = 0; n < sizeof(name); n++) {
        char *exact;
        memset(name, 'a', n);
        name[n] = 0;
        exact = check_copy(name, n + 1);
        CHECK(subsystem(data, size, exact) == -ENOENT);
        free(exact);
    }
    free(data);
}

/* A kernel may lack a tracepoint; which program that stops is told later. */
static void check_tracepoints(void)
{
    for (int i = 0; i < TS_PROGRAMS; i++) {
        struct ts_probe_kernel found;
        char name[64];
        size_t size;
        uint8_t *data;

        snprintf(name, sizeof(name), "btf_trace_%s", ts_program_tracepoint((enum ts_program)i));
        made_kernel(&made, &(struct made_kernel){.lacks = name});
        data = made_end(&made, &size);
        ts_probe_read_kernel(data, size, NULL, &found);
        for (int j = 0; j < TS_PROGRAMS; j++)
            CHECK(j == i ? found.tracepoints[j] == -ENOENT : found.tracepoints[j] > 0);
        free(data);
    }
}

/* ---- damaged ones ---- */

static uint8_t *make(size_t *size)
{
    static const struct made_kernel kernel = {0};

    made_kernel(&made, &kernel);
    return made_end(&made, size);
}

static void check_cut_short(void)
{
    size_t size, types, strings;
    uint8_t *data = make(&size);
    unsigned whole = 0;

    for (size_t n = 0; n <= size; n++)
        CHECK(check_btf(data, n) == (n == size));
    /* The header tells of fewer types, or of fewer strings, than there are. */
    types = made.types_size;
    for (uint32_t n = 0; n < types; n++) {
        memcpy(data + 12, &n, sizeof(n));
        whole += (unsigned)check_btf(data, size);
    }
    CHECK(whole == made.n); /* where a type ends; and with none */
    memcpy(data + 12, &(uint32_t){(uint32_t)types}, sizeof(uint32_t));
    strings = made.strings_size;
    for (uint32_t n = 0; n < strings; n++) {
        memcpy(data + 20, &n, sizeof(n));
        CHECK(check_btf(data, size) == (n > 0 && made.strings[n - 1] == 0));
    }
    free(data);
}

/* Each number in turn becomes another: lengths, ids, offsets of strings, kinds. */
static void check_changed(void)
{
    static const uint32_t numbers[] = {
        0,          1,          2,          11,         12,
        0xff,       0xffff,     0x0400ffff, 0x1fffffff, 0x7fffffff,
        0x80000000, 0xfffffffe, 0xffffffff, 0x14000000, 0x84000001,
    };
    size_t size;
    uint8_t *data = make(&size);

    for (size_t at = 0; at + 4 <= BTF_HEADER + made.types_size; at += 4)
        for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
            uint32_t before;
            memcpy(&before, data + at, sizeof(before));
            memcpy(data + at, &numbers[i], sizeof(before));
            check_btf(data, size);
            memcpy(data + at, &before, sizeof(before));
        }
    free(data);
}

static void check_header(void)
{
    size_t size;
    uint8_t *data = make(&size);
    uint8_t *longer;

    data[2] = 2; /* another version */
    CHECK(!check_btf(data, size));
    data[2] = 1;
    for (size_t at = 0; at < 2; at++) { /* the other byte order's magic number */
        uint8_t first = data[0];
        data[0] = data[1];
        data[1] = first;
        CHECK(check_btf(data, size) == (at == 1));
    }
    /* A later kernel's header may be longer. */
    longer = check_alloc(size + 8);
    memcpy(longer, data, BTF_HEADER);
    memset(longer + BTF_HEADER, 0xa5, 8);
    memcpy(longer + BTF_HEADER + 8, data + BTF_HEADER, size - BTF_HEADER);
    memcpy(longer + 4, &(uint32_t){BTF_HEADER + 8}, sizeof(uint32_t));
    CHECK(check_btf(longer, size + 8) && !check_btf(longer, size + 7));
    free(longer);
    free(data);
}

/* Types that lead back to themselves, or on and on. */
static void check_loops(void)
{
    struct ts_btf btf;
    uint32_t id;
    size_t size;
    uint8_t *data;
    int n;

    made_start(&made);
    id = made_type(&made, BTF_STRUCT, "itself", 0xffff, 8);
    for (int i = 0; i < 0xffff; i++)
        made_member(&made, "", id, 0);
    made_type(&made, BTF_TYPEDEF, "turns", 0, 3);
    made_type(&made, BTF_CONST, "", 0, 2);
    made_type(&made, BTF_STRUCT, "of_turns", 2, 8);
    made_member(&made, "", 2, 0);
    made_member(&made, "last", id, 64);
    /* Typedefs of typedefs: seven are followed, and eight are not. */
    id = made_type(&made, BTF_STRUCT, "end", 1, 8);
    made_member(&made, "member", 1, 8);
    for (int i = 0; i < 8; i++)
        id = made_type(&made, BTF_TYPEDEF, "", 0, id);
    made_type(&made, BTF_STRUCT, "near", 1, 8);
    made_member(&made, "", id - 1, 8);
    made_type(&made, BTF_STRUCT, "far", 1, 8);
    made_member(&made, "", id, 8);
    /* Nameless structures within each other, each a GiB on. */
    id = made.n + 1;
    for (uint32_t i = 0; i < 8; i++) {
        made_type(&made, BTF_STRUCT, i ? "" : "deep", 1, 8);
        made_member(&made, i < 7 ? "" : "member", id + i + 1, i < 4 ? 0xffffffff : 8);
    }
    /* As far as a BPF load reaches. */
    id = made.n + 1;
    made_type(&made, BTF_STRUCT, "reach", 4, 65536);
    made_member(&made, "last", id, 8 * 32767);
    made_member(&made, "beyond", id, 8 * 32768);
    made_member(&made, "", id + 1, 8 * 32000);
    made_member(&made, "", id + 1, 0xfffffff8);
    made_type(&made, BTF_STRUCT, "", 2, 1000);
    made_member(&made, "within", id, 8 * 767);
    made_member(&made, "without", id, 8 * 768);
    data = made_end(&made, &size);
    CHECK(ts_btf_open(&btf, data, size) == 0);
    CHECK(ts_btf_member(&btf, "reach", "last") == 32767);
    CHECK(ts_btf_member(&btf, "reach", "beyond") == -ENOENT);
    CHECK(ts_btf_member(&btf, "reach", "within") == 32767);
    CHECK(ts_btf_member(&btf, "reach", "without") == -ENOENT);
    CHECK(ts_btf_member(&btf, "itself", "member") == -ENOENT);
    CHECK(ts_btf_member(&btf, "of_turns", "member") == -ENOENT);
    CHECK(ts_btf_member(&btf, "of_turns", "last") == 8);
    CHECK(ts_btf_member(&btf, "near", "member") == 2);
    CHECK(ts_btf_member(&btf, "far", "member") == -ENOENT);
    CHECK(ts_btf_member(&btf, "deep", "member") == -ENOENT);
    CHECK(ts_btf_argument(&btf, "turns", "end", &n) == -ENOENT);
    ts_btf_close(&btf);
    free(data);
}

/* Damaged types may have two members of one name. The first one decides: if it is a bit field
 * or too far, the lookup does not return the offset of the second one. */
static void check_same_names(void)
{
    struct ts_btf btf;
    uint32_t id;
    size_t size;
    uint8_t *data;

    made_start(&made);
    id = made_type(&made, BTF_STRUCT, "", 1, 65536);
    made_member(&made, "member", id, 8 * 32768);
    made_type(&made, BTF_STRUCT, "", 1, 8);
    made_flag(&made);
    made_member(&made, "member", id, 3u << 24 | 8);
    made_type(&made, BTF_STRUCT, "", 1, 32768);
    made_member(&made, "member", id, 8 * 20000);
    made_type(&made, BTF_STRUCT, "too_far", 2, 65536);
    made_member(&made, "", id, 0);
    made_member(&made, "member", id, 64);
    made_type(&made, BTF_STRUCT, "bit_field", 2, 16);
    made_member(&made, "", id + 1, 0);
    made_member(&made, "member", id, 64);
    made_type(&made, BTF_STRUCT, "", 2, 65536);
    made_member(&made, "", id + 2, 8 * 20000);
    made_member(&made, "member", id, 64);
    made_type(&made, BTF_STRUCT, "sum_too_far", 2, 65536);
    made_member(&made, "", id + 5, 0);
    made_member(&made, "member", id, 64);
    /* A structure that is a nameless member of itself. */
    id = made_type(&made, BTF_STRUCT, "in_itself", 2, 16);
    made_member(&made, "", id, 8 * 8191);
    made_member(&made, "member", id, 24);
    data = made_end(&made, &size);
    CHECK(check_btf(data, size));
    CHECK(ts_btf_open(&btf, data, size) == 0);
    CHECK(ts_btf_member(&btf, "too_far", "member") == -ENOENT);
    CHECK(ts_btf_member(&btf, "bit_field", "member") == -ENOENT);
    CHECK(ts_btf_member(&btf, "sum_too_far", "member") == -ENOENT);
    CHECK(ts_btf_member(&btf, "in_itself", "member") == -ENOENT);
    ts_btf_close(&btf);
    free(data);
}

int main(void)
{
    check_kernels();
    check_subsystems();
    check_tracepoints();
    check_header();
    check_cut_short();
    check_changed();
    check_loops();
    check_same_names();
    printf("btf: 5 kernels, cut short and changed anywhere, loops, same names: %lu checks\n",
           checks);
    return 0;
}
