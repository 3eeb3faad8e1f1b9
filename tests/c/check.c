/* What a check needs. */
#include <stddef.h>

#include "check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

_Thread_local unsigned long checks;

void check_failed(const char *file, int line, const char *condition)
{
    fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, condition);
    exit(1);
}

void *check_alloc(size_t size)
{
    void *memory = malloc(size);

    if (!memory && size) {
        perror("malloc");
        exit(1);
    }
    return memory;
}

void *check_copy(const void *from, size_t size)
{
    void *memory = check_alloc(size);

    if (size)
        memcpy(memory, from, size);
    return memory;
}

uint32_t check_random(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}
