/* peer.c: tables of every size, and ports that fall on one place. */
#include <stdio.h>

#include "check.h"
#include "properties.h"

#define TABLES 20000u

int main(void)
{
    uint32_t state = 1;

    for (uint32_t i = 0; i < TABLES; i++) {
        uint8_t story[80];
        uint32_t size = check_random(&state) % sizeof(story);
        for (uint32_t j = 0; j < size; j++)
            story[j] = (uint8_t)(check_random(&state) >> 16);
        check_peers(story, size);
    }
    printf("peer: %u tables: %lu checks\n", TABLES, checks);
    return 0;
}
