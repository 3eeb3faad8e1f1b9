/* The kernel's own description of its types (BTF): where a member stands, what a
 * constant is worth, which argument of a tracepoint is a task. Pure. Facts:
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
    uint32_t n;   /* types; id 0 is void */
    uint32_t *at; /* id -> where the type stands in `types` */
};

/* Reads the header and finds every type. `data` must stay. Returns 0, -EBADMSG if it
 * is not BTF of this machine's byte order, or -ENOMEM. */
int ts_btf_open(struct ts_btf *btf, const void *data, size_t size);
void ts_btf_close(struct ts_btf *btf);

/* Bytes from the start of a structure to a member, also to one of a nameless union or
 * structure within it. Returns -ENOENT if there is no such member. */
int ts_btf_member(const struct ts_btf *btf, const char *structure, const char *member);

/* The value of an enumerator. Returns -ENOENT if there is none, or it is negative. */
int ts_btf_constant(const struct ts_btf *btf, const char *enumeration, const char *name);

/* The id of a tracepoint's type ("btf_trace_sched_switch"). Returns -ENOENT if there is no
 * such tracepoint. */
int ts_btf_tracepoint(const struct ts_btf *btf, const char *tracepoint);

/* Which argument of a tracepoint is its first pointer to this structure, from 0. Returns
 * -ENOENT if there is no such tracepoint or argument. `n` becomes how many there are. */
int ts_btf_argument(const struct ts_btf *btf, const char *tracepoint, const char *structure,
                    int *n);

#endif
