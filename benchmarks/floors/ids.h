/* The ids that a program asks for: from stdin, as text. */
#ifndef FLOOR_IDS_H
#define FLOOR_IDS_H

#include <stdint.h>
#include <stdio.h>

#define MOST_IDS 65536

static uint32_t ids[MOST_IDS];

static inline int read_ids(void)
{
    int n = 0;

    while (n < MOST_IDS && scanf("%u", &ids[n]) == 1)
        n++;
    return n;
}

#endif
