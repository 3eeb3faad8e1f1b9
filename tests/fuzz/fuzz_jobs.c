/* Any story of processes and jobs, their births and records. */
#include "properties.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define LONGEST 600

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > LONGEST)
        return -1;
    check_lineages(data, size, 0);
    return 0;
}
