/* Any story of processes and jobs without births. */
#include "properties.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define LONGEST 600

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > LONGEST)
        return -1;
    check_parents(data, size);
    return 0;
}
