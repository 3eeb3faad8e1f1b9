/* ring.c: rings by example, and many that a generator fills and damages. */
#include "ring.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "properties.h"

#define STORIES 20000u
#define LONGEST 200u
#define SIZE 4096u
#define END (0 - UINT64_C(16)) /* a position 16 bytes before all positions wrap */

static uint64_t consumer;
static uint64_t producer;
static uint8_t *data;
static struct ts_ring ring;

static void open_at(uint64_t position)
{
    consumer = producer = position;
    memset(data, 0, SIZE);
    ts_ring_open(&ring, &consumer, &producer, data, SIZE);
}

static void put(uint64_t at, uint32_t length)
{
    memcpy(data + at % SIZE, &length, sizeof(length));
}

static int is_damaged(void)
{
    uint32_t size;

    CHECK(ts_ring_next(&ring, &size) == NULL);
    return ring.damaged;
}

static void check_examples(void)
{
    const uint8_t *found;
    uint32_t size;

    /* A record whose content is in two pieces, where positions wrap as well. */
    open_at(END);
    put(END, 20);
    memcpy(data + SIZE - 8, "the end ", 8);
    memcpy(data, "of the ring.", 12);
    producer += 32;
    found = ts_ring_next(&ring, &size);
    CHECK(found && size == 20 && memcmp(found, "the end of the ring.", 20) == 0);
    CHECK(consumer == END);
    ts_ring_release(&ring);
    CHECK(consumer == 16 && !is_damaged());

    /* An empty one, one that was given up, and one that is being written. */
    open_at(0);
    put(0, 0);
    put(8, 12 | 1u << 30);
    put(32, 1u << 31 | 8);
    producer = 48;
    found = ts_ring_next(&ring, &size);
    CHECK(found && size == 0);
    CHECK(!is_damaged() && ring.position == 32);
    put(32, 8);
    CHECK(ts_ring_next(&ring, &size) && size == 8 && !is_damaged());

    /* As much as there can be, and nothing of the ring has been given back. */
    open_at(8);
    for (uint64_t at = 8; at < 8 + SIZE; at += 2048)
        put(at, 2040);
    producer = 8 + SIZE;
    CHECK(ts_ring_next(&ring, &size) && ts_ring_next(&ring, &size) && !is_damaged());
    producer += 8; /* one more */
    CHECK(is_damaged());
}

static void check_damaged(void)
{
    uint32_t size;

    open_at(4); /* no position is that */
    producer = 4 + 16;
    CHECK(is_damaged());
    open_at(0); /* behind the consumer */
    producer = 0 - UINT64_C(8);
    CHECK(is_damaged());
    open_at(0); /* longer than what was written */
    put(0, 9);
    producer = 16;
    CHECK(is_damaged());
    open_at(0); /* as long as it may be, and longer */
    put(0, 2048);
    put(2056, 2049);
    producer = SIZE;
    CHECK(ts_ring_next(&ring, &size) && size == 2048 && is_damaged());
    put(2056, 0); /* once damaged it stays so */
    CHECK(is_damaged());
    ts_ring_release(&ring);
    CHECK(consumer == 2056);
}

int main(void)
{
    uint32_t state = 1;

    data = check_alloc(SIZE);
    check_examples();
    check_damaged();
    free(data);
    for (uint32_t i = 0; i < STORIES; i++) {
        uint8_t story[LONGEST];
        uint32_t size = check_random(&state) % LONGEST;
        for (uint32_t j = 0; j < size; j++)
            story[j] = (uint8_t)(check_random(&state) >> 16);
        check_ring(story, size);
    }
    printf("ring: by example, and %u rings: %lu checks\n", STORIES, checks);
    return 0;
}
