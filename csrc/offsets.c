/* The offsets of what the probe's programs read in the kernel's structures, from BTF.
 * Pure. */
#include "offsets.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "btf.h"

/* css_set.subsys has one place for each controller; kernels have some 15. */
#define MOST_SUBSYSTEMS 64

/* Members that every kernel has. */
static const struct {
    const char *structure;
    const char *member;
    size_t at;
} members[] = {
    {"task_struct", "pid", offsetof(struct ts_probe_layout, task_pid)},
    {"task_struct", "tgid", offsetof(struct ts_probe_layout, task_tgid)},
    {"task_struct", "start_boottime", offsetof(struct ts_probe_layout, task_start_boottime)},
    {"task_struct", "start_time", offsetof(struct ts_probe_layout, task_start_time)},
    {"task_struct", "group_leader", offsetof(struct ts_probe_layout, task_group_leader)},
    {"task_struct", "cgroups", offsetof(struct ts_probe_layout, task_cgroups)},
    {"css_set", "dfl_cgrp", offsetof(struct ts_probe_layout, css_set_dfl_cgrp)},
    {"css_set", "subsys", offsetof(struct ts_probe_layout, css_set_subsys)},
    {"cgroup_subsys_state", "cgroup", offsetof(struct ts_probe_layout, css_cgroup)},
    {"cgroup", "kn", offsetof(struct ts_probe_layout, cgroup_kn)},
    {"cgroup", "root", offsetof(struct ts_probe_layout, cgroup_root)},
    {"cgroup_root", "hierarchy_id", offsetof(struct ts_probe_layout, root_hierarchy_id)},
    {"kernfs_node", "id", offsetof(struct ts_probe_layout, kernfs_node_id)},
};

/* Returns the offset of a member of a structure that is itself a member of task_struct; -1
 * if there is none, or a BPF load does not reach it. */
static int within_task(const struct ts_btf *btf, const char *member, const char *structure,
                       const char *inner)
{
    int outer = ts_btf_member(btf, "task_struct", member);
    int offset = ts_btf_member(btf, structure, inner);

    return outer < 0 || offset < 0 || outer + offset > INT16_MAX ? -1 : outer + offset;
}

/* Returns the offset of the task's state, of which the programs read 4 bytes. Before Linux
 * 5.14 it has another name, and 8 bytes. */
static int state(const struct ts_btf *btf)
{
    const int low = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__ ? 4 : 0;
    int offset = ts_btf_member(btf, "task_struct", "__state");

    if (offset >= 0)
        return offset;
    offset = ts_btf_member(btf, "task_struct", "state");
    return offset < 0 ? -1 : offset + low;
}

static int read_layout(const struct ts_btf *btf, struct ts_probe_layout *layout)
{
    int arguments = 0;
    int rc = 0;

    for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
        int32_t offset = ts_btf_member(btf, members[i].structure, members[i].member);
        if (offset < 0)
            rc = -ENOENT;
        memcpy((uint8_t *)layout + members[i].at, &offset, sizeof(offset));
    }
    layout->task_state = state(btf);
    layout->task_cpu_time = within_task(btf, "se", "sched_entity", "sum_exec_runtime");
    layout->task_runs = within_task(btf, "sched_info", "sched_info", "pcount");
    layout->task_run_delay = within_task(btf, "sched_info", "sched_info", "run_delay");
    if (layout->task_run_delay < 0)
        layout->task_runs = -1; /* CONFIG_SCHED_INFO is not set */
    layout->switch_previous =
        ts_btf_argument(btf, "btf_trace_sched_switch", "task_struct", &arguments);
    /* Since Linux 5.18 the state is the fourth argument, in 5.18 itself the second. */
    layout->switch_state = arguments < 4 ? -1 : layout->switch_previous == 1 ? 3 : 1;
    if (layout->task_state < 0 || layout->task_cpu_time < 0 || layout->switch_previous < 0)
        rc = -ENOENT;
    if (ts_btf_size(btf, "list_head") == 8)
        rc = -EOPNOTSUPP; /* pointers of 4 bytes: the programs follow those of 8 */
    return rc;
}

static int find_subsystem(const struct ts_btf *btf, const char *controller)
{
    char name[64];
    int length = snprintf(name, sizeof(name), "%s_cgrp_id", controller);
    int number;

    if (length < 0 || (size_t)length >= sizeof(name))
        return -ENOENT;
    number = ts_btf_constant(btf, "cgroup_subsys_id", name);
    return number < MOST_SUBSYSTEMS ? number : -ENOENT;
}

static int find_tracepoint(const struct ts_btf *btf, enum ts_program program)
{
    char name[64];

    snprintf(name, sizeof(name), "btf_trace_%s", ts_program_tracepoint(program));
    return ts_btf_tracepoint(btf, name);
}

int ts_probe_read_layout(const void *data, size_t size, struct ts_probe_layout *layout)
{
    struct ts_btf btf;
    int rc = ts_btf_open(&btf, data, size);

    if (rc < 0)
        return rc;
    rc = read_layout(&btf, layout);
    ts_btf_close(&btf);
    return rc;
}

int ts_probe_read_kernel(const void *data, size_t size, const char *controller,
                         struct ts_probe_kernel *kernel)
{
    struct ts_btf btf;
    int rc = ts_btf_open(&btf, data, size);

    if (rc < 0)
        return rc;
    rc = read_layout(&btf, &kernel->layout);
    kernel->subsystem = controller ? find_subsystem(&btf, controller) : -1;
    if (controller && kernel->subsystem < 0)
        rc = -ENOENT;
    for (int i = 0; i < TS_PROGRAMS; i++)
        kernel->tracepoints[i] = find_tracepoint(&btf, (enum ts_program)i);
    ts_btf_close(&btf);
    return rc;
}
