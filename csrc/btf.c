/* Reads BTF, the kernel's own description of its types. Pure.
 *
 * BTF data is a header, then the types one after the other, then the strings. A type's
 * length depends on its kind. `ts_btf_open` checks that every type lies within its section
 * and that the strings end with a NUL, so that the lookups need not check again. */
#include "btf.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MAGIC 0xeb9f

/* Damaged types may lead back to themselves. What a kernel has needs far less than this. */
#define MOST_NESTED 8        /* nameless structures within each other; typedefs in a row */
#define MOST_MEMBERS 10000   /* members looked at in one search */
#define MOST_BYTES INT16_MAX /* from the start of a structure: what a BPF load reaches */
#define MOST_ARGUMENTS 12    /* of a tracepoint (include/linux/bpf.h:MAX_BPF_FUNC_ARGS) */

struct header {
    uint16_t magic;
    uint8_t version;
    uint8_t flags;
    uint32_t header_size;
    uint32_t types_at; /* from the header's end */
    uint32_t types_size;
    uint32_t strings_at; /* from the header's end */
    uint32_t strings_size;
};

enum kind {
    KIND_INT = 1,
    KIND_PTR,
    KIND_ARRAY,
    KIND_STRUCT,
    KIND_UNION,
    KIND_ENUM,
    KIND_FWD,
    KIND_TYPEDEF,
    KIND_VOLATILE,
    KIND_CONST,
    KIND_RESTRICT,
    KIND_FUNC,
    KIND_FUNC_PROTO,
    KIND_VAR,
    KIND_DATASEC,
    KIND_FLOAT,
    KIND_DECL_TAG,
    KIND_TYPE_TAG,
    KIND_ENUM64,
    KINDS
};

/* Bytes that follow the common part of a type: `once`, and `each` for every part (a member,
 * an enumerator, a parameter). */
static const struct {
    uint8_t once;
    uint8_t each;
} sizes[KINDS] = {
    [KIND_INT] = {4, 0},     [KIND_ARRAY] = {12, 0},   [KIND_STRUCT] = {0, 12},
    [KIND_UNION] = {0, 12},  [KIND_ENUM] = {0, 8},     [KIND_FUNC_PROTO] = {0, 8},
    [KIND_VAR] = {4, 0},     [KIND_DATASEC] = {0, 12}, [KIND_DECL_TAG] = {4, 0},
    [KIND_ENUM64] = {0, 12},
};

struct type {
    uint32_t name;
    uint32_t info;
    uint32_t size_or_type;
};

struct member {
    uint32_t name;
    uint32_t type;
    uint32_t offset;
};

struct enumerator {
    uint32_t name;
    int32_t value;
};

struct parameter {
    uint32_t name;
    uint32_t type;
};

static enum kind kind_of(const struct type *type)
{
    return (enum kind)(type->info >> 24 & 0x1f);
}

static uint32_t parts_of(const struct type *type)
{
    return type->info & 0xffff;
}

int ts_btf_open(struct ts_btf *btf, const void *data, size_t size)
{
    struct header header;
    uint64_t at = 0;

    memset(btf, 0, sizeof(*btf));
    if (size < sizeof(header))
        return -EBADMSG;
    memcpy(&header, data, sizeof(header));
    if (header.magic != MAGIC || header.version != 1 || header.header_size < sizeof(header) ||
        header.header_size > size)
        return -EBADMSG;
    size -= header.header_size;
    if (header.types_at > size || header.types_size > size - header.types_at ||
        header.strings_at > size || header.strings_size > size - header.strings_at ||
        header.strings_size == 0)
        return -EBADMSG;
    btf->types = (const uint8_t *)data + header.header_size + header.types_at;
    btf->types_size = header.types_size;
    btf->strings = (const char *)data + header.header_size + header.strings_at;
    btf->strings_size = header.strings_size;
    if (btf->strings[btf->strings_size - 1] != '\0')
        return -EBADMSG;
    btf->at = malloc((header.types_size / sizeof(struct type) + 1) * sizeof(*btf->at));
    if (!btf->at)
        return -ENOMEM;
    btf->n = 1;
    while (at < btf->types_size) {
        struct type type;

        if (btf->types_size - at < sizeof(type))
            break;
        memcpy(&type, btf->types + at, sizeof(type));
        if (kind_of(&type) == 0 || kind_of(&type) >= KINDS)
            break;
        btf->at[btf->n++] = (uint32_t)at;
        at += sizeof(type) + sizes[kind_of(&type)].once +
              (uint64_t)sizes[kind_of(&type)].each * parts_of(&type);
    }
    if (at == btf->types_size) /* the last one does not reach over the section's end */
        return 0;
    ts_btf_close(btf);
    return -EBADMSG;
}

void ts_btf_close(struct ts_btf *btf)
{
    free(btf->at);
    memset(btf, 0, sizeof(*btf));
}

/* ---- looking up ---- */

/* Returns a type by its id. Kind 0 if there is no such id; id 0 is void. */
static struct type type_of(const struct ts_btf *btf, uint32_t id)
{
    struct type type = {0};

    if (id > 0 && id < btf->n)
        memcpy(&type, btf->types + btf->at[id], sizeof(type));
    return type;
}

/* Copies one of the parts that follow a type. */
static void read_part(const struct ts_btf *btf, uint32_t id, uint32_t part, void *to,
                      size_t size)
{
    memcpy(to, btf->types + btf->at[id] + sizeof(struct type) + part * size, size);
}

static int is_named(const struct ts_btf *btf, uint32_t name, const char *wanted)
{
    return name < btf->strings_size && strcmp(btf->strings + name, wanted) == 0;
}

/* Returns the id of a type, or 0. */
static uint32_t find(const struct ts_btf *btf, enum kind kind, const char *name)
{
    for (uint32_t id = 1; id < btf->n; id++) {
        struct type type = type_of(btf, id);
        if (kind_of(&type) == kind && is_named(btf, type.name, name))
            return id;
    }
    return 0;
}

/* Follows typedefs and qualifiers to the type that they name. Returns its id, or 0. */
static uint32_t plain(const struct ts_btf *btf, uint32_t id)
{
    for (int i = 0; i < MOST_NESTED; i++) {
        struct type type = type_of(btf, id);
        switch (kind_of(&type)) {
        case KIND_TYPEDEF:
        case KIND_VOLATILE:
        case KIND_CONST:
        case KIND_RESTRICT:
        case KIND_TYPE_TAG:
            id = type.size_or_type;
            break;
        default:
            return id;
        }
    }
    return 0;
}

struct search {
    const struct ts_btf *btf;
    const char *name;
    uint32_t looked_at; /* members so far */
};

/* Returns the offset of the member within the type `id`, in bytes; -ENOENT if it has no such
 * member; or -ERANGE if the first member of this name is a bit field or too far. -ERANGE ends
 * the whole search: damaged types may have a later member of the same name, and its offset
 * would be wrong. */
static int find_member(struct search *search, uint32_t id, int depth)
{
    const struct ts_btf *btf = search->btf;
    struct type type = type_of(btf, id);
    int has_bit_fields = type.info >> 31 != 0; /* then an offset's highest byte is a width */

    if ((kind_of(&type) != KIND_STRUCT && kind_of(&type) != KIND_UNION) || depth > MOST_NESTED)
        return -ENOENT;
    for (uint32_t i = 0; i < parts_of(&type); i++) {
        struct member member;
        uint32_t bits;
        int within = -ENOENT;

        if (++search->looked_at > MOST_MEMBERS)
            return -ENOENT;
        read_part(btf, id, i, &member, sizeof(member));
        bits = has_bit_fields ? member.offset & 0xffffff : member.offset;
        if (is_named(btf, member.name, search->name))
            within = has_bit_fields && member.offset >> 24 ? -ERANGE : 0;
        else if (is_named(btf, member.name, ""))
            within = find_member(search, plain(btf, member.type), depth + 1);
        if (within >= 0)
            return bits / 8 + (uint32_t)within <= MOST_BYTES ? (int)(bits / 8) + within
                                                             : -ERANGE;
        if (within == -ERANGE)
            return within;
    }
    return -ENOENT;
}

int ts_btf_member(const struct ts_btf *btf, const char *structure, const char *member)
{
    struct search search = {.btf = btf, .name = member};
    int offset = find_member(&search, find(btf, KIND_STRUCT, structure), 0);

    return offset >= 0 ? offset : -ENOENT;
}

int ts_btf_size(const struct ts_btf *btf, const char *structure)
{
    struct type type = type_of(btf, find(btf, KIND_STRUCT, structure));

    return type.size_or_type - 1 < INT32_MAX ? (int)type.size_or_type : -ENOENT;
}

int ts_btf_constant(const struct ts_btf *btf, const char *enumeration, const char *name)
{
    uint32_t id = find(btf, KIND_ENUM, enumeration);
    struct type type = type_of(btf, id);

    for (uint32_t i = 0; id && i < parts_of(&type); i++) {
        struct enumerator one;
        read_part(btf, id, i, &one, sizeof(one));
        if (is_named(btf, one.name, name))
            return one.value >= 0 ? one.value : -ENOENT;
    }
    return -ENOENT;
}

int ts_btf_tracepoint(const struct ts_btf *btf, const char *tracepoint)
{
    uint32_t id = find(btf, KIND_TYPEDEF, tracepoint);

    return id == 0 || id > INT32_MAX ? -ENOENT : (int)id;
}

/* The typedef btf_trace_NAME is a pointer to a function. Its first parameter is not passed
 * to programs; the others are the tracepoint's arguments. */
int ts_btf_argument(const struct ts_btf *btf, const char *tracepoint, const char *structure,
                    int *n)
{
    struct type type = type_of(btf, plain(btf, find(btf, KIND_TYPEDEF, tracepoint)));
    uint32_t function = kind_of(&type) == KIND_PTR ? type.size_or_type : 0;

    type = type_of(btf, function);
    if (kind_of(&type) != KIND_FUNC_PROTO || parts_of(&type) == 0 ||
        parts_of(&type) - 1 > MOST_ARGUMENTS)
        return -ENOENT;
    *n = (int)parts_of(&type) - 1;
    for (uint32_t i = 1; i < parts_of(&type); i++) {
        struct parameter parameter;
        struct type target;

        read_part(btf, function, i, &parameter, sizeof(parameter));
        target = type_of(btf, plain(btf, parameter.type));
        if (kind_of(&target) != KIND_PTR)
            continue;
        target = type_of(btf, plain(btf, target.size_or_type));
        if (kind_of(&target) == KIND_STRUCT && is_named(btf, target.name, structure))
            return (int)i - 1;
    }
    return -ENOENT;
}
