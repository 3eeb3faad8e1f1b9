/* A struct of any version and size. */
#include "properties.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define LONGEST 1024

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    uint8_t sent[LONGEST];

    if (size == 0 || size > LONGEST)
        return -1;
    for (size_t i = 0; i < size; i++) /* so that runs of one byte are none */
        sent[i] = (uint8_t)(data[i] ^ (i * 89 % 255 + 1));
    check_layout(sent, size, data[0] < 240 ? 4 + data[0] % 16u : 0xff00u + data[0]);
    return 0;
}
