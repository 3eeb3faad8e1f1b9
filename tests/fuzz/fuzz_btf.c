/* Any bytes, read as BTF. The seed is a kernel that is made here. */
#include <stdlib.h>
#include <string.h>

#include "made_btf.h"
#include "properties.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t most);

#define LONGEST 4096

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > LONGEST)
        return -1;
    check_btf(data, size);
    return 0;
}

static void set(uint8_t *data, size_t at, uint32_t value)
{
    memcpy(data + at, &value, sizeof(value));
}

/* Last of all types, a tracepoint with about as many arguments as there can be. One of them
 * may be a pointer to the structure "many". */
static void make_tracepoint(struct made_btf *made, unsigned seed)
{
    uint32_t parameters = 12 + seed % 3;
    uint32_t number = 1;
    uint32_t structure = made_type(made, BTF_STRUCT, "many", 0, 8);
    uint32_t pointer = made_type(made, BTF_PTR, "", 0, structure);
    uint32_t name = made_type(made, BTF_TYPEDEF, "btf_trace_many", 0, pointer + 2);

    made_type(made, BTF_PTR, "", 0, name + 2);
    made_type(made, BTF_FUNC_PROTO, "", parameters, 0);
    for (uint32_t i = 0; i < parameters; i++)
        made_pair(made, "", i == parameters - 1 && seed / 3 % 2 ? pointer : number);
}

/* A header by which the strings come first: nothing follows the types then. */
static void put_strings_first(uint8_t *data, uint32_t strings, uint32_t types)
{
    set(data, 8, strings);
    set(data, 12, types);
    set(data, 16, 0);
    set(data, 20, strings);
}

/* Writes the strings first, and then the types. */
static void swap_sections(uint8_t *data, const uint8_t *bytes, uint32_t types, uint32_t strings)
{
    put_strings_first(data, strings, types);
    memcpy(data + BTF_HEADER, bytes + BTF_HEADER + types, strings);
    memcpy(data + BTF_HEADER + strings, bytes + BTF_HEADER, types);
}

/* One of the kernels that there may be. */
static size_t make(uint8_t *data, size_t most, unsigned seed)
{
    static struct made_btf made;
    struct made_kernel kernel = {
        .state_is_long = seed & 1,
        .arguments = seed & 2 ? 3 : 4,
        .state_is_second = seed & 4 && !(seed & 2),
        .no_sched_info = (seed & 24) == 24,
    };
    size_t size;
    uint8_t *bytes;

    made_kernel(&made, &kernel);
    make_tracepoint(&made, seed / 64);
    bytes = made_end(&made, &size);
    memcpy(data, bytes, size < most ? size : most);
    if (seed & 32 && size <= most)
        swap_sections(data, bytes, (uint32_t)made.types_size, (uint32_t)made.strings_size);
    free(bytes);
    return size < most ? size : most;
}

/* A header that fits, however long the rest has become: else it is refused for that, and
 * nothing behind it is seen. */
static void fit_header(uint8_t *data, size_t size)
{
    uint32_t rest = (uint32_t)size - BTF_HEADER;
    uint32_t types;

    set(data, 4, BTF_HEADER);
    set(data, 8, 0);
    memcpy(&types, data + 12, sizeof(types));
    if (types >= rest)
        types = rest / 2 / 4 * 4;
    set(data, 12, types);
    set(data, 16, types);
    set(data, 20, rest - types);
    data[size - 1] = 0;
}

/* The types section is the end of the data, and holds one type at most. It may be a byte
 * longer than the data. So whatever is read too far lies outside of the data. */
static void put_types_last(uint8_t *data, size_t size, unsigned seed)
{
    uint32_t rest = (uint32_t)size - BTF_HEADER;
    uint32_t types = 1 + seed % 12;

    if (rest <= types)
        return;
    put_strings_first(data, rest - types, types + (seed / 16 & 1));
    data[BTF_HEADER + rest - types - 1] = 0;
    if (types > 7)
        data[size - types + 7] = 2; /* a pointer: nothing follows it */
}

/* A header that says that it is as long as the data, or a byte more or less. */
static void put_all_in_header(uint8_t *data, size_t size, unsigned seed)
{
    set(data, 4, (uint32_t)size - 1 + seed % 3);
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed)
{
    if (size == 0 || seed % 64 == 0)
        return make(data, most, seed / 64);
    if (seed % 64 == 1) /* about as long as a header */
        return seed / 64 % 32 < size ? seed / 64 % 32 : size;
    size = LLVMFuzzerMutate(data, size, most);
    if (seed % 4 && size > BTF_HEADER)
        fit_header(data, size);
    if (seed % 64 == 2 && size > BTF_HEADER)
        put_types_last(data, size, seed / 64);
    if (seed % 64 == 3 && size > BTF_HEADER)
        put_all_in_header(data, size, seed / 64);
    return size;
}
