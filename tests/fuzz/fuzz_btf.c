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
    bytes = made_end(&made, &size);
    size = size < most ? size : most;
    memcpy(data, bytes, size);
    free(bytes);
    return size;
}

/* A header that fits, however long the rest has become: else it is refused for that, and
 * nothing behind it is seen. */
static void fit_header(uint8_t *data, size_t size)
{
    static const uint32_t right = BTF_HEADER;
    uint32_t rest = (uint32_t)size - BTF_HEADER;
    uint32_t types;

    memcpy(data + 4, &right, sizeof(right));
    memset(data + 8, 0, 4);
    memcpy(&types, data + 12, sizeof(types));
    if (types >= rest)
        types = rest / 2 / 4 * 4;
    memcpy(data + 12, &types, sizeof(types));
    memcpy(data + 16, &types, sizeof(types));
    rest -= types;
    memcpy(data + 20, &rest, sizeof(rest));
    data[size - 1] = 0;
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
    return size;
}
