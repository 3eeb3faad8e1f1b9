/* BTF of this machine's byte order, made piece by piece. */
#ifndef MADE_BTF_H
#define MADE_BTF_H

#include <stddef.h>
#include <stdint.h>

/* Kinds, as in include/uapi/linux/btf.h. */
enum {
    BTF_INT = 1,
    BTF_PTR,
    BTF_ARRAY,
    BTF_STRUCT,
    BTF_UNION,
    BTF_ENUM,
    BTF_FWD,
    BTF_TYPEDEF,
    BTF_VOLATILE,
    BTF_CONST,
    BTF_RESTRICT,
    BTF_FUNC,
    BTF_FUNC_PROTO,
    BTF_VAR,
    BTF_DATASEC,
    BTF_FLOAT,
    BTF_DECL_TAG,
    BTF_TYPE_TAG,
    BTF_ENUM64,
    BTF_KINDS
};

#define BTF_HEADER 24u /* bytes */
#define BTF_KIND_FLAG 0x80000000u

struct made_btf {
    uint8_t types[1 << 20];
    size_t types_size;
    char strings[4096];
    size_t strings_size;
    uint32_t n; /* types so far */
};

void made_start(struct made_btf *made);

/* Adds a type with room for `vlen` parts. Returns its id, from 1. The parts follow. */
uint32_t made_type(struct made_btf *made, unsigned kind, const char *name, uint32_t vlen,
                   uint32_t size_or_type);
/* Sets the kind flag of the type that was added last: its members may be bit fields. */
void made_flag(struct made_btf *made);

/* Parts of the type that was added last. */
void made_member(struct made_btf *made, const char *name, uint32_t type, uint32_t bits);
void made_pair(struct made_btf *made, const char *name, uint32_t value);
void made_number(struct made_btf *made, uint32_t number);

/* Returns the whole: memory of exactly `size` bytes, to be freed. */
uint8_t *made_end(const struct made_btf *made, size_t *size);

/* What a kernel may have, or lack. */
struct made_kernel {
    int state_is_long;   /* before Linux 5.14 */
    int arguments;       /* of sched_switch: 3 before Linux 5.18, or 4 */
    int state_is_second; /* in Linux 5.18 */
    int no_sched_info;
    int pointer_size;  /* 8 if 0 */
    const char *lacks; /* a name that nothing has */
};

/* The types that the probe needs, between others that it does not. */
void made_kernel(struct made_btf *made, const struct made_kernel *kernel);

#endif
