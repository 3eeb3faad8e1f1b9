/* What holds of any BTF whatever: btf.c and offsets.c. */
#include "properties.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "btf.h"
#include "check.h"
#include "made_btf.h"
#include "offsets.h"

#define NAMES 80   /* that are looked up */
#define TOGETHER 4 /* each in these before and after it: names of one type stand together */

/* ---- the model: what is found by reading everything from the start each time ---- */

struct model {
    const uint8_t *types;
    size_t types_size;
    const char *strings;
    size_t strings_size;
};

struct model_type {
    uint32_t name;
    unsigned kind; /* 0: there is no such type */
    uint32_t n;
    int has_bit_fields;
    uint32_t size_or_type;
    const uint8_t *parts;
};

static uint32_t number_at(const uint8_t *at)
{
    uint32_t number;

    memcpy(&number, at, sizeof(number));
    return number;
}

static size_t bytes_of_parts(unsigned kind, uint32_t n)
{
    switch (kind) {
    case BTF_INT:
    case BTF_VAR:
    case BTF_DECL_TAG:
        return 4;
    case BTF_ARRAY:
        return 12;
    case BTF_STRUCT:
    case BTF_UNION:
    case BTF_DATASEC:
    case BTF_ENUM64:
        return (size_t)12 * n;
    case BTF_ENUM:
    case BTF_FUNC_PROTO:
        return (size_t)8 * n;
    default:
        return 0;
    }
}

/* Reads the type at `at`. Returns what it takes, or 0 if it is damaged. */
static size_t read_type(const struct model *model, size_t at, struct model_type *type)
{
    uint32_t info;
    size_t size;

    if (model->types_size - at < 12)
        return 0;
    type->name = number_at(model->types + at);
    info = number_at(model->types + at + 4);
    type->kind = (info >> 24) % 32;
    type->n = info % 65536;
    type->has_bit_fields = info >= BTF_KIND_FLAG;
    type->size_or_type = number_at(model->types + at + 8);
    type->parts = model->types + at + 12;
    size = 12 + bytes_of_parts(type->kind, type->n);
    if (type->kind == 0 || type->kind >= BTF_KINDS || size > model->types_size - at)
        return 0;
    return size;
}

/* The model of data that is BTF; else 0. */
static int model_open(struct model *model, const uint8_t *data, size_t size)
{
    uint64_t header, types, strings, end;
    struct model_type type;
    uint16_t magic;

    if (size < BTF_HEADER)
        return 0;
    memcpy(&magic, data, sizeof(magic));
    header = number_at(data + 4);
    types = header + number_at(data + 8);
    strings = header + number_at(data + 16);
    model->types_size = number_at(data + 12);
    model->strings_size = number_at(data + 20);
    end = strings + model->strings_size;
    if (magic != 0xeb9f || data[2] != 1 || header < BTF_HEADER || header > size ||
        types + model->types_size > size || end > size || model->strings_size == 0 ||
        data[end - 1] != 0)
        return 0;
    model->types = data + types;
    model->strings = (const char *)data + strings;
    for (size_t at = 0; at < model->types_size;) {
        size_t step = read_type(model, at, &type);
        if (!step)
            return 0;
        at += step;
    }
    return 1;
}

static struct model_type model_type(const struct model *model, uint32_t id)
{
    struct model_type type = {0};
    size_t at = 0;

    for (uint32_t i = 1; id && at < model->types_size; i++) {
        at += read_type(model, at, &type);
        if (i == id)
            return type;
    }
    return (struct model_type){0};
}

static int has_name(const struct model *model, uint32_t name, const char *wanted)
{
    return name < model->strings_size && strcmp(model->strings + name, wanted) == 0;
}

/* The first id of a type with this name; -1 if there is none. */
static int model_id(const struct model *model, unsigned kind, const char *name)
{
    size_t at = 0;

    for (int id = 1; at < model->types_size; id++) {
        struct model_type type;
        at += read_type(model, at, &type);
        if (type.kind == kind && has_name(model, type.name, name))
            return id;
    }
    return -1;
}

static struct model_type model_find(const struct model *model, unsigned kind, const char *name)
{
    int id = model_id(model, kind, name);

    return model_type(model, id < 0 ? 0 : (uint32_t)id);
}

/* The type behind at most seven typedefs and qualifiers. */
static struct model_type model_plain(const struct model *model, uint32_t id)
{
    for (int i = 0; i < 8; i++) {
        struct model_type type = model_type(model, id);
        if (type.kind != BTF_TYPEDEF && type.kind != BTF_TYPE_TAG &&
            (type.kind < BTF_VOLATILE || type.kind > BTF_RESTRICT))
            return type;
        id = type.size_or_type;
    }
    return (struct model_type){0};
}

#define REACH 32767   /* bytes from the start of a structure */
#define TOO_MUCH (-2) /* more than a search may look at: no model of that */
#define REFUSED (-3)  /* the first member of this name is a bit field or out of reach */

static int model_member(const struct model *model, struct model_type type, const char *name,
                        int depth, uint32_t *budget)
{
    if ((type.kind != BTF_STRUCT && type.kind != BTF_UNION) || depth > 8)
        return -1;
    for (uint32_t i = 0; i < type.n; i++) {
        const uint8_t *part = type.parts + (size_t)12 * i;
        uint32_t offset = number_at(part + 8);
        uint32_t width = type.has_bit_fields ? offset >> 24 : 0;
        int found = -1;

        if (*budget == 0 || --*budget == 0)
            return TOO_MUCH;
        if (type.has_bit_fields)
            offset &= 0xffffff;
        if (has_name(model, number_at(part), name))
            found = width ? REFUSED : 0;
        else if (has_name(model, number_at(part), ""))
            found = model_member(model, model_plain(model, number_at(part + 4)), name,
                                 depth + 1, budget);
        if (found == TOO_MUCH || found == REFUSED)
            return found;
        if (found >= 0)
            return offset / 8 + (uint32_t)found <= REACH ? (int)(offset / 8) + found : REFUSED;
    }
    return -1;
}

static int model_constant(const struct model *model, const char *enumeration, const char *name)
{
    struct model_type type = model_find(model, BTF_ENUM, enumeration);

    for (uint32_t i = 0; i < type.n; i++)
        if (has_name(model, number_at(type.parts + (size_t)8 * i), name))
            return (int32_t)number_at(type.parts + (size_t)8 * i + 4);
    return -1;
}

static int model_argument(const struct model *model, const char *tracepoint,
                          const char *structure)
{
    struct model_type type = model_find(model, BTF_TYPEDEF, tracepoint);

    if (type.kind)
        type = model_plain(model, type.size_or_type);
    type = type.kind == BTF_PTR ? model_type(model, type.size_or_type) : (struct model_type){0};
    if (type.kind != BTF_FUNC_PROTO || type.n > 13)
        return -1;
    for (uint32_t i = 1; i < type.n; i++) {
        struct model_type of = model_plain(model, number_at(type.parts + (size_t)8 * i + 4));
        if (of.kind == BTF_PTR)
            of = model_plain(model, of.size_or_type);
        else
            continue;
        if (of.kind == BTF_STRUCT && has_name(model, of.name, structure))
            return (int)i - 1;
    }
    return -1;
}

/* ---- what must hold ---- */

/* Where it is not there the shim says -ENOENT. */
static int told(int found)
{
    return found < 0 ? -ENOENT : found;
}

static void check_lookups(const struct ts_btf *btf, const struct model *model, const char *one,
                          const char *other)
{
    uint32_t budget = 1000;
    int n = -1;
    int member = model_member(model, model_find(model, BTF_STRUCT, one), other, 0, &budget);
    int argument = model_argument(model, one, other);

    if (member != TOO_MUCH)
        CHECK(ts_btf_member(btf, one, other) == told(member));
    else
        CHECK(ts_btf_member(btf, one, other) <= REACH);
    CHECK(ts_btf_constant(btf, one, other) == told(model_constant(model, one, other)));
    CHECK(ts_btf_argument(btf, one, other, &n) == told(argument));
    CHECK(argument < 0 || (n > argument && n <= 12));
}

/* The offset of a member of a structure that is itself a member of a task; -1: none. */
static int in_task(const struct model *model, const char *outer, const char *structure,
                   const char *inner)
{
    uint32_t budget = 1000;
    int first =
        model_member(model, model_find(model, BTF_STRUCT, "task_struct"), outer, 0, &budget);
    int second =
        model_member(model, model_find(model, BTF_STRUCT, structure), inner, 0, &budget);

    if (first == TOO_MUCH || second == TOO_MUCH)
        return TOO_MUCH;
    return first < 0 || second < 0 || first + second > REACH ? -1 : first + second;
}

static const struct {
    const char *structure;
    const char *member;
    size_t at;
} needed[] = {
    {"task_struct", "pid", offsetof(struct ts_probe_layout, task_pid)},
    {"task_struct", "start_time", offsetof(struct ts_probe_layout, task_start_time)},
    {"task_struct", "cgroups", offsetof(struct ts_probe_layout, task_cgroups)},
    {"css_set", "dfl_cgrp", offsetof(struct ts_probe_layout, css_set_dfl_cgrp)},
    {"cgroup_root", "hierarchy_id", offsetof(struct ts_probe_layout, root_hierarchy_id)},
    {"kernfs_node", "id", offsetof(struct ts_probe_layout, kernfs_node_id)},
};

/* Only where the model may say: of loops it would have too much to look at. */
static void check_layout_of_kernel(const uint8_t *data, size_t size, const struct model *model)
{
    struct ts_probe_layout *layout = check_alloc(sizeof(*layout));
    int rc = ts_probe_read_layout(data, size, layout);
    struct ts_probe_kernel kernel;
    int rc_of_kernel = ts_probe_read_kernel(data, size, "cpuacct", &kernel);

    if (!model) {
        CHECK(rc == -EBADMSG && rc_of_kernel == -EBADMSG);
        free(layout);
        return;
    }
    CHECK(rc == 0 || rc == -ENOENT || rc == -EOPNOTSUPP);
    for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++) {
        uint32_t budget = 1000;
        int32_t offset;
        int found = model_member(model, model_find(model, BTF_STRUCT, needed[i].structure),
                                 needed[i].member, 0, &budget);
        memcpy(&offset, (uint8_t *)layout + needed[i].at, sizeof(offset));
        CHECK(found == TOO_MUCH || offset == told(found));
        CHECK(found >= 0 || found == TOO_MUCH || rc < 0);
    }
    if (rc == 0) {
        int cpu_time = in_task(model, "se", "sched_entity", "sum_exec_runtime");
        int run_delay = in_task(model, "sched_info", "sched_info", "run_delay");
        int runs = run_delay == -1 ? -1 : in_task(model, "sched_info", "sched_info", "pcount");
        CHECK(cpu_time == TOO_MUCH || layout->task_cpu_time == cpu_time);
        CHECK(run_delay == TOO_MUCH || layout->task_run_delay == run_delay);
        CHECK(runs == TOO_MUCH || layout->task_runs == runs);
        CHECK(layout->switch_previous ==
              model_argument(model, "btf_trace_sched_switch", "task_struct"));
        CHECK(layout->switch_state >= -1 && layout->switch_state < 12);
    }
    rc = model_constant(model, "cgroup_subsys_id", "cpuacct_cgrp_id");
    CHECK(kernel.subsystem == (rc < 64 ? told(rc) : -ENOENT));
    for (int i = 0; i < TS_PROGRAMS; i++) {
        char name[64];
        snprintf(name, sizeof(name), "btf_trace_%s", ts_program_tracepoint((enum ts_program)i));
        CHECK(kernel.tracepoints[i] == told(model_id(model, BTF_TYPEDEF, name)));
    }
    free(layout);
}

int check_btf(const uint8_t *data, size_t size)
{
    uint8_t *exact = check_copy(data, size);
    struct model model;
    int is_btf = model_open(&model, exact, size);
    const char *names[NAMES] = {"", "no such name"};
    size_t n = 2;
    struct ts_btf btf;

    CHECK(ts_btf_open(&btf, exact, size) == (is_btf ? 0 : -EBADMSG));
    check_layout_of_kernel(exact, size, is_btf ? &model : NULL);
    if (is_btf) {
        for (size_t at = 0; n < NAMES && at < model.strings_size;
             at += strlen(model.strings + at) + 1)
            names[n++] = model.strings + at;
        for (size_t i = 0; i < n; i++) {
            struct model_type type = model_find(&model, BTF_STRUCT, names[i]);
            int fits = type.size_or_type >= 1 && type.size_or_type <= INT32_MAX;
            CHECK(ts_btf_size(&btf, names[i]) ==
                  (type.kind && fits ? (int)type.size_or_type : -ENOENT));
            for (size_t j = i ? i - 1 : 0; j < n && j < i + TOGETHER; j++)
                check_lookups(&btf, &model, names[i], names[j]);
        }
        ts_btf_close(&btf);
    }
    CHECK(btf.at == NULL && btf.n == 0);
    free(exact);
    return is_btf;
}
