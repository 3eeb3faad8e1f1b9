/* What holds of a ring, whatever its producer does: ring.c. */
#include "properties.h"

#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "ring.h"

#define SIZE 4096u
#define MASK (SIZE - 1)
#define MOST_RECORDS (SIZE / 8)
#define BUSY 0x80000000u
#define DISCARD 0x40000000u

enum state { WRITING, SUBMITTED, GIVEN_UP };

/* A record that the producer made and the reader has not read. */
struct made {
    enum state state;
    uint32_t size;
    uint64_t at;
    uint8_t first; /* its content: this byte, and each of the next one more */
};

struct play {
    struct ts_ring ring;
    uint64_t *consumer; /* each in memory of its own size */
    uint64_t *producer;
    uint8_t *data;
    struct made made[MOST_RECORDS];
    unsigned n;
    uint8_t next;
    int is_hostile; /* from here on the producer is none of the kernel's */
    /* The model reads the memory once more: */
    uint64_t position;
    uint64_t end;
    uint64_t released;
    int damaged;
};

/* ---- the memory ---- */

static uint8_t *byte_at(struct play *play, uint64_t at)
{
    return &play->data[at % SIZE];
}

static void write_length(struct play *play, uint64_t at, uint32_t length)
{
    uint8_t bytes[4];

    memcpy(bytes, &length, sizeof(length));
    for (uint64_t i = 0; i < sizeof(bytes); i++)
        *byte_at(play, at + i) = bytes[i];
}

static uint32_t read_length(struct play *play, uint64_t at)
{
    uint8_t bytes[4];
    uint32_t length;

    for (uint64_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = *byte_at(play, at + i);
    memcpy(&length, bytes, sizeof(length));
    return length;
}

/* ---- the producer: kernel/bpf/ringbuf.c:__bpf_ringbuf_reserve ---- */

static uint64_t whole(uint32_t size)
{
    return 8 + ((uint64_t)size + 7) / 8 * 8;
}

static void reserve(struct play *play, uint32_t size)
{
    struct made *made = &play->made[play->n];

    if (*play->producer + whole(size) - *play->consumer > SIZE || play->is_hostile)
        return;
    *made = (struct made){WRITING, size, *play->producer, play->next++};
    play->n++;
    write_length(play, made->at, BUSY | size);
    for (uint32_t i = 0; i < size; i++)
        *byte_at(play, made->at + 8 + i) = (uint8_t)(made->first + i);
    *play->producer += whole(size);
}

static void commit(struct play *play, unsigned which, enum state state)
{
    struct made *made = play->made + (which < play->n ? which : 0);

    if (which >= play->n || made->state != WRITING || play->is_hostile)
        return;
    made->state = state;
    write_length(play, made->at, made->size | (state == GIVEN_UP ? DISCARD : 0));
}

static void attack(struct play *play, unsigned how, uint32_t number)
{
    play->is_hostile = 1;
    switch (how % 8) {
    case 0: /* back */
        *play->producer -= (uint64_t)number * 8;
        break;
    case 1: /* far ahead: as far as there is room, or one more */
        *play->producer = play->position + SIZE + number % 2 * 8;
        break;
    case 2:
        *play->producer += number;
        break;
    case 3: /* a length that lies, by little or by much */
        write_length(play, play->position, read_length(play, play->position) + number);
        break;
    case 4:
        write_length(play, play->position, number << 16 | number);
        break;
    case 5:
        write_length(play, play->position, TS_RING_MOST + number % 3 - 1);
        *play->producer = play->position + SIZE;
        break;
    case 6: /* the last record ends after the producer's position */
        *play->producer = play->position + number % 64 * 8;
        break;
    default: /* somewhere */
        *byte_at(play, play->position + number * 8) ^= (uint8_t)number;
    }
}

/* ---- the reader ---- */

/* Where the next record is, of how many bytes; 0 if there is none. */
static int model_next(struct play *play, uint64_t *at, uint32_t *size)
{
    while (!play->damaged) {
        uint32_t length;
        uint64_t left;

        if (play->position == play->end) {
            play->end = *play->producer;
            left = play->end - play->position;
            play->damaged = left > SIZE || left % 8;
            if (play->damaged || left == 0)
                return 0;
        }
        left = play->end - play->position;
        length = read_length(play, play->position);
        if (length >= BUSY)
            return 0;
        *size = length % DISCARD;
        play->damaged = *size > 2048 || whole(*size) > left;
        if (play->damaged)
            return 0;
        *at = play->position + 8;
        play->position += whole(*size);
        if (length < DISCARD)
            return 1;
    }
    return 0;
}

/* The producer's record that must come next; NULL if none is ready. */
static const struct made *expected(struct play *play, struct made *next)
{
    unsigned gone = 0;

    while (gone < play->n && play->made[gone].state == GIVEN_UP)
        gone++;
    if (gone < play->n && play->made[gone].state == SUBMITTED)
        *next = play->made[gone++];
    else
        next = NULL;
    play->n -= gone;
    memmove(play->made, play->made + gone, play->n * sizeof(play->made[0]));
    return next;
}

static int read_one(struct play *play)
{
    struct made next;
    const struct made *made = play->is_hostile ? NULL : expected(play, &next);
    uint64_t at = 0;
    uint32_t size = 0;
    uint32_t told = 0;
    int is_there = model_next(play, &at, &size);
    const uint8_t *found = ts_ring_next(&play->ring, &told);

    CHECK((found != NULL) == is_there);
    CHECK(play->is_hostile || (found != NULL) == (made != NULL));
    CHECK(play->ring.position == play->position && play->ring.damaged == play->damaged);
    CHECK(play->is_hostile || !play->damaged);
    if (!found)
        return 0;
    CHECK(told == size && (!made || (made->size == size && made->at + 8 == at)));
    for (uint32_t i = 0; i < size; i++) {
        uint8_t *byte = byte_at(play, at + i);
        CHECK(found[i] == *byte && (!made || found[i] == (uint8_t)(made->first + i)));
        *byte ^= 0xff; /* what is written now must not reach the reader */
        CHECK(found[i] != *byte);
        *byte ^= 0xff;
    }
    return 1;
}

static void act(struct play *play, unsigned what, uint32_t number)
{
    switch (what % 8) {
    case 0:
        reserve(play, number);
        break;
    case 1: /* up to the longest, and to as much as there is room for */
        reserve(play, number * 8 + what / 8 % 9);
        break;
    case 2: /* written at once */
        reserve(play, number % 80);
        commit(play, play->n - 1, SUBMITTED);
        break;
    case 3:
        commit(play, number % MOST_RECORDS, what & 8 ? SUBMITTED : GIVEN_UP);
        break;
    case 4:
        for (unsigned i = 0; i < play->n; i++)
            commit(play, i, number % 4 ? SUBMITTED : GIVEN_UP);
        break;
    case 5:
        for (unsigned i = 0; i < number && read_one(play); i++)
            ;
        break;
    case 6:
        ts_ring_release(&play->ring);
        play->released = play->position;
        break;
    default:
        if (number < 64 || play->is_hostile)
            attack(play, what / 8, number);
    }
    CHECK(*play->consumer == play->released);
}

/* A byte for where positions begin, then two an act: what, and how much. */
void check_ring(const uint8_t *story, size_t size)
{
    struct play *play = check_alloc(sizeof(*play));
    uint64_t start = size ? (uint64_t)(int8_t)story[0] * 64 : 0;

    memset(play, 0, sizeof(*play));
    play->consumer = check_copy(&start, sizeof(start));
    play->producer = check_copy(&start, sizeof(start));
    play->data = check_alloc(SIZE);
    memset(play->data, 0xa5, SIZE);
    play->position = play->end = play->released = start;
    ts_ring_open(&play->ring, play->consumer, play->producer, play->data, SIZE);
    for (size_t i = 1; i + 1 < size; i += 2)
        act(play, story[i], story[i + 1]);
    while (read_one(play))
        ;
    act(play, 6, 0);
    free(play->consumer);
    free(play->producer);
    free(play->data);
    free(play);
}
