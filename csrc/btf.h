/* Reads BTF, the kernel's own description of its types: the offset of a member, the value
 * of a constant, which argument of a tracepoint is a task. Pure. Facts:
 * include/uapi/linux/btf.h. */
#ifndef TASKSTATS_BTF_H
#define TASKSTATS_BTF_H

#include <stddef.h>
#include <stdint.h>

struct ts_btf {
    const uint8_t *types;
    const char *strings;
    uint32_t types_size;
    uint32_t strings_size;
    uint32_t n;   /* ids: of the types, and 0 for void */
    uint32_t *at; /* id -> offset of the type in `types` */
};

/* Reads the header and finds every type. `data` must stay until the close. Returns 0,
 * -EBADMSG if it is not BTF of this machine's byte order, or -ENOMEM. */
int ts_btf_open(struct ts_btf *btf, const void *data, size_t size);
void ts_btf_close(struct ts_btf *btf);

/* Returns the bytes from the start of a structure to a member. The member may also be one
 * of a nameless union or structure within it. Returns -ENOENT if there is no such member,
 * or if it is a bit field. */
int ts_btf_member(const struct ts_btf *btf, const char *structure, const char *member);

/* Returns the size of a structure in bytes, or -ENOENT. */
int ts_btf_size(const struct ts_btf *btf, const char *structure);

/* Returns the value of an enumerator. Returns -ENOENT if there is none, or if the value is
 * negative. */
int ts_btf_constant(const struct ts_btf *btf, const char *enumeration, const char *name);

/* Returns the id of a tracepoint's type ("btf_trace_sched_switch"), or -ENOENT. */
int ts_btf_tracepoint(const struct ts_btf *btf, const char *tracepoint);

/* Returns the number of a tracepoint's first argument that is a pointer to this structure,
 * counted from 0. Returns -ENOENT if there is no such tracepoint or argument. `n` becomes
 * the number of arguments. */
int ts_btf_argument(const struct ts_btf *btf, const char *tracepoint, const char *structure,
                    int *n);

#endif
