/* Touches 200 MB of memory and then computes: its memory is taken down after its record. */
#include <stdlib.h>
#include <string.h>

int main(void)
{
    size_t size = (size_t)200 << 20;
    char *memory = malloc(size);

    if (!memory)
        return 1;
    memset(memory, 1, size);
    for (volatile int i = 0; i < 10000000; i++)
        continue;
    return memory[size / 2] - 1;
}
