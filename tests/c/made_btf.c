/* BTF of this machine's byte order, made piece by piece. */
#include "made_btf.h"

#include <string.h>

#include "check.h"

static void put(struct made_btf *made, const void *bytes, size_t size)
{
    CHECK(size <= sizeof(made->types) - made->types_size);
    memcpy(made->types + made->types_size, bytes, size);
    made->types_size += size;
}

void made_number(struct made_btf *made, uint32_t number)
{
    put(made, &number, sizeof(number));
}

/* The offset of a string: 0 of an empty one. */
static uint32_t string(struct made_btf *made, const char *text)
{
    size_t size = strlen(text) + 1;
    size_t at = made->strings_size;

    if (size == 1)
        return 0;
    CHECK(size <= sizeof(made->strings) - at);
    memcpy(made->strings + at, text, size);
    made->strings_size += size;
    return (uint32_t)at;
}

void made_start(struct made_btf *made)
{
    memset(made, 0, sizeof(*made));
    made->strings_size = 1;
}

uint32_t made_type(struct made_btf *made, unsigned kind, const char *name, uint32_t vlen,
                   uint32_t size_or_type)
{
    made_number(made, string(made, name));
    made_number(made, kind << 24 | vlen);
    made_number(made, size_or_type);
    return ++made->n;
}

void made_flag(struct made_btf *made)
{
    uint8_t *at = made->types + made->types_size - 8;
    uint32_t info;

    memcpy(&info, at, sizeof(info));
    info |= BTF_KIND_FLAG;
    memcpy(at, &info, sizeof(info));
}

void made_member(struct made_btf *made, const char *name, uint32_t type, uint32_t bits)
{
    made_pair(made, name, type);
    made_number(made, bits);
}

void made_pair(struct made_btf *made, const char *name, uint32_t value)
{
    made_number(made, string(made, name));
    made_number(made, value);
}

uint8_t *made_end(const struct made_btf *made, size_t *size)
{
    uint32_t types = (uint32_t)made->types_size;
    uint32_t strings = (uint32_t)made->strings_size;
    uint32_t header[] = {0, BTF_HEADER, 0, types, types, strings};
    uint16_t magic = 0xeb9f;
    uint8_t *whole;

    memcpy(header, &magic, sizeof(magic));
    ((uint8_t *)header)[2] = 1;
    *size = sizeof(header) + types + strings;
    whole = check_alloc(*size);
    memcpy(whole, header, sizeof(header));
    memcpy(whole + sizeof(header), made->types, types);
    memcpy(whole + sizeof(header) + types, made->strings, strings);
    return whole;
}

/* ---- a kernel ---- */

static struct made_kernel kernel;

/* A name, or another one if this kernel lacks it. */
static const char *known(const char *name)
{
    return kernel.lacks && strcmp(kernel.lacks, name) == 0 ? "other" : name;
}

static uint32_t structure(struct made_btf *made, const char *name, uint32_t n, uint32_t size)
{
    return made_type(made, BTF_STRUCT, known(name), n, size);
}

static void member(struct made_btf *made, const char *name, uint32_t type, uint32_t bytes)
{
    made_member(made, known(name), type, 8 * bytes);
}

/* Typedefs of pointers to functions. */
static void tracepoints(struct made_btf *made, uint32_t number, uint32_t task)
{
    uint32_t constant = made_type(made, BTF_CONST, "", 0, task);
    uint32_t pointer = made_type(made, BTF_PTR, "", 0, constant);
    uint32_t data = made_type(made, BTF_PTR, "", 0, 0);
    uint32_t function = made_type(made, BTF_FUNC_PROTO, "", (uint32_t)kernel.arguments + 1, 0);

    made_pair(made, "__data", data);
    made_pair(made, "preempt", number);
    if (kernel.state_is_second)
        made_pair(made, "prev_state", number);
    made_pair(made, "prev", pointer);
    made_pair(made, "next", pointer);
    if (!kernel.state_is_second && kernel.arguments == 4)
        made_pair(made, "prev_state", number);
    pointer = made_type(made, BTF_PTR, "", 0, function);
    made_type(made, BTF_TYPEDEF, known("btf_trace_sched_switch"), 0, pointer);
    made_type(made, BTF_TYPEDEF, known("btf_trace_sched_process_fork"), 0, pointer);
    made_type(made, BTF_TYPEDEF, known("btf_trace_cgroup_mkdir"), 0, pointer);
    made_type(made, BTF_TYPEDEF, known("btf_trace_cgroup_rmdir"), 0, pointer);
    made_type(made, BTF_TYPEDEF, known("btf_trace_cgroup_rename"), 0, pointer);
}

/* A task: some of its members in nameless structures within each other, as with
 * CONFIG_RANDSTRUCT, and one that is reached over a typedef. */
static uint32_t task_struct(struct made_btf *made, uint32_t number, uint32_t cgroups)
{
    uint32_t entity, info, inner, outer, alias, task;

    entity = structure(made, "sched_entity", 2, 64);
    member(made, "vruntime", number, 8);
    member(made, "sum_exec_runtime", number, 24);
    info = structure(made, "sched_info", 2, 32);
    member(made, kernel.no_sched_info ? "count" : "pcount", number, 0);
    member(made, kernel.no_sched_info ? "delay" : "run_delay", number, 8);
    inner = made_type(made, BTF_UNION, "", 2, 16);
    member(made, "pid", number, 0);
    member(made, "exit_code", number, 4);
    outer = made_type(made, BTF_STRUCT, "", 3, 64);
    member(made, "", inner, 8);
    member(made, "tgid", number, 20);
    member(made, "start_time", number, 32);
    alias = made_type(made, BTF_TYPEDEF, "of_task_t", 0, outer);
    alias = made_type(made, BTF_VOLATILE, "", 0, alias);
    task = structure(made, "task_struct", 9, 4096);
    made_flag(made);
    member(made, "thread_info", number, 0);
    member(made, kernel.state_is_long ? "state" : "__state", number, 24);
    member(made, "se", entity, 128);
    made_member(made, "in_execve", number, 3u << 24 | (8 * 256 + 5));
    member(made, "", alias, 512);
    member(made, "sched_info", info, 1024);
    member(made, "start_boottime", number, 2048);
    member(made, "group_leader", number, 2056);
    member(made, "cgroups", cgroups, 3000);
    return task;
}

void made_kernel(struct made_btf *made, const struct made_kernel *wanted)
{
    uint32_t number, pointer, list, cgroup;
    uint32_t pointer_size = wanted->pointer_size ? (uint32_t)wanted->pointer_size : 8;

    kernel = *wanted;
    if (!kernel.arguments)
        kernel.arguments = 4;
    made_start(made);
    number = made_type(made, BTF_INT, "long unsigned int", 0, 8);
    made_number(made, 64);
    pointer = made_type(made, BTF_PTR, "", 0, 0);
    list = structure(made, "list_head", 2, 2 * pointer_size);
    member(made, "next", pointer, 0);
    member(made, "prev", pointer, pointer_size);
    made_type(made, BTF_FWD, "task_struct", 0, 0);
    made_type(made, BTF_ARRAY, "", 0, 0);
    made_number(made, pointer);
    made_number(made, number);
    made_number(made, 15);
    structure(made, "css_set", 3, 512);
    member(made, "subsys", made->n - 1, 0);
    member(made, "refcount", number, 120);
    member(made, "dfl_cgrp", pointer, 136);
    structure(made, "cgroup_subsys_state", 1, 256);
    member(made, "cgroup", pointer, 72);
    cgroup = structure(made, "cgroup", 3, 1024);
    member(made, "self", cgroup - 1, 0);
    member(made, "kn", pointer, 264);
    member(made, "root", pointer, 344);
    structure(made, "cgroup_root", 2, 2048);
    member(made, "kf_root", pointer, 0);
    member(made, "hierarchy_id", number, 12);
    structure(made, "kernfs_node", 2, 128);
    member(made, "count", list, 0);
    member(made, "id", number, 96);
    made_type(made, BTF_ENUM, known("cgroup_subsys_id"), 4, 4);
    made_pair(made, known("cpuset_cgrp_id"), 0);
    made_pair(made, "cpuacct_cgrp_id", 2);
    made_pair(made, "wrong_cgrp_id", UINT32_MAX);
    made_pair(made, "many_cgrp_id", 64);
    made_type(made, BTF_FUNC, "schedule", 1, 0);
    made_type(made, BTF_VAR, "jiffies", 0, number);
    made_number(made, 1);
    made_type(made, BTF_DATASEC, ".data", 1, 8);
    made_pair(made, "", number);
    made_number(made, 8);
    made_type(made, BTF_DECL_TAG, "tag", 0, number);
    made_number(made, UINT32_MAX);
    made_type(made, BTF_TYPE_TAG, "user", 0, number);
    made_type(made, BTF_FLOAT, "double", 0, 8);
    made_type(made, BTF_ENUM64, "wide", 1, 8);
    made_pair(made, "one", 1);
    made_number(made, 0);
    tracepoints(made, number, task_struct(made, number, pointer));
}
