/* Any story of tasks, their records and ends, and a listener that drains. */
#include "properties.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define LONGEST 600

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > LONGEST)
        return -1;
    check_settling(data, size);
    return 0;
}
