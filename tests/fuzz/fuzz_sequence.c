/* Any story of what becomes of a CPU's exit records. */
#include "properties.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define LONGEST 400

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > LONGEST)
        return -1;
    check_stream(data, size);
    return 0;
}
