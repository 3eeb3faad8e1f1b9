/* What holds of the numbers of a CPU's exits, whatever becomes of its records: sequence.c. */
#include "properties.h"

#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "sequence.h"

#define NUMBERS (1u << 16) /* exits of a story at most */
#define HELD 4             /* records that others overtake, at once */
#define BELIEVED 64u       /* numbers further ahead need a second that goes on from there */

enum fate { MISSING, HEARD };

struct stream {
    struct ts_sequence sequence;
    struct ts_counter drops;
    uint32_t start;   /* the first number: they wrap */
    uint32_t counter; /* the socket's, of 32 bits */
    uint32_t issued;  /* numbers that the kernel has given, from `start` on */
    uint32_t next;    /* what comes after the highest that was heard */
    uint32_t early;   /* dropped already, with numbers yet to come */
    uint64_t dropped;
    uint64_t told;
    uint64_t missing; /* of the numbers before `next` */
    uint32_t before;  /* drops since the last record */
    int plain;        /* nothing but drops so far, and none early */
    int jumped;
    uint32_t held[HELD];
    unsigned n_held;
    uint8_t fates[NUMBERS];
};

static void drop(struct stream *stream, uint32_t n)
{
    stream->counter += n;
    stream->dropped += n;
}

/* The model: the set of numbers missing, in full. */
static void mark(struct stream *stream, uint32_t number)
{
    for (; stream->next <= number; stream->next++)
        stream->missing++;
    stream->missing--;
    stream->fates[number] = HEARD;
}

static uint32_t follow(struct stream *stream, uint32_t number)
{
    int expected = number == stream->next && !stream->jumped;
    uint32_t told;

    ts_counter_follow(&stream->drops, stream->counter);
    CHECK(stream->drops.total == stream->dropped);
    CHECK(ts_sequence_expects(&stream->sequence, stream->start + number) == expected);
    told = ts_sequence_follow(&stream->sequence, stream->start + number, stream->dropped);
    stream->told += told;
    CHECK(stream->told <= stream->dropped);
    CHECK(stream->sequence.placed == stream->told);
    CHECK(!expected || told == 0);
    return told;
}

static void check_missing(const struct stream *stream)
{
    uint64_t beyond = stream->missing > stream->told ? stream->missing - stream->told : 0;

    CHECK(ts_sequence_unexplained(&stream->sequence) == beyond);
    CHECK(stream->sequence.next == stream->start + stream->next);
}

static uint32_t issue(struct stream *stream)
{
    return stream->issued++;
}

/* Hears this number. One that is far ahead of what drops account for is not believed
 * before the next, which goes on from there. */
static void hear(struct stream *stream, uint32_t number)
{
    int late = number < stream->next;
    uint32_t gap = late ? 0 : number - stream->next;
    int far = gap > BELIEVED && gap > stream->dropped - stream->told;
    uint32_t told = follow(stream, number);

    if (far) {
        CHECK(told == 0);
        stream->jumped = 1;
        mark(stream, number);
        stream->issued += gap % (BELIEVED + 1); /* of which there is no record */
        number = issue(stream);
        gap = number - stream->next + gap;
        told = follow(stream, number);
    }
    CHECK(told <= gap);
    CHECK(!stream->plain || told == stream->before);
    stream->before = 0;
    stream->jumped &= late;
    mark(stream, number);
    check_missing(stream);
}

static void release(struct stream *stream, unsigned i)
{
    uint32_t number = stream->held[i];

    stream->held[i] = stream->held[--stream->n_held];
    hear(stream, number);
}

/* A record whose task migrated between its number and its queue: a number of another
 * CPU's, of which nothing becomes. */
static void hear_foreign(struct stream *stream, uint32_t distance)
{
    struct ts_sequence before = stream->sequence;

    stream->plain = 0;
    CHECK(follow(stream, stream->next + 4 * NUMBERS + distance) == 0);
    stream->jumped = 1;
    CHECK(stream->sequence.next == before.next);
    CHECK(stream->sequence.missing == before.missing);
}

static void tell(struct stream *stream, unsigned act, uint32_t n)
{
    uint32_t first;

    switch (act % 8) {
    case 0: /* records, one after the other */
    case 1:
        for (uint32_t i = 0; i < n % 8 + 1; i++)
            hear(stream, issue(stream));
        break;
    case 2: /* a queue that is full */
        first = n < stream->early ? n : stream->early;
        stream->early -= first;
        drop(stream, n - first);
        stream->issued += n;
        stream->before += n;
        break;
    case 3: /* one that will be full, when what is before that has not been read yet */
        if (stream->early >= NUMBERS)
            break;
        stream->plain = 0;
        stream->early += n;
        drop(stream, n);
        break;
    case 4: /* exits for which there was no memory */
        stream->plain = 0;
        stream->issued += n;
        break;
    case 5: /* one overtakes another */
        if (stream->n_held == HELD)
            break;
        stream->plain = 0;
        first = issue(stream);
        hear(stream, issue(stream));
        stream->held[stream->n_held++] = first;
        break;
    case 6:
        if (stream->n_held)
            release(stream, n % stream->n_held);
        break;
    default:
        hear_foreign(stream, n << 12);
    }
}

/* Two bytes an act: what, and how many. */
void check_stream(const uint8_t *story, size_t size)
{
    struct stream *stream = check_alloc(sizeof(*stream));
    struct ts_counter *drops = &stream->drops;

    memset(stream, 0, sizeof(*stream));
    stream->plain = 1;
    if (size >= 2) { /* both numbers wrap soon, or not */
        stream->start = (uint32_t)(int8_t)story[0] * 64;
        stream->counter = (uint32_t)(int8_t)story[1] * 64;
    }
    ts_counter_start(drops, stream->counter);
    CHECK(ts_sequence_expects(&stream->sequence, stream->start + NUMBERS));
    hear(stream, issue(stream));
    for (size_t i = 2; i + 1 < size && stream->issued < NUMBERS - 2048; i += 2)
        tell(stream, story[i], story[i] & 8 ? story[i + 1] * 4u : story[i + 1] % 80u);
    while (stream->n_held)
        release(stream, 0);
    for (uint32_t i = 0; i < stream->next; i++)
        stream->missing -= stream->fates[i] == MISSING;
    CHECK(stream->missing == 0);
    free(stream);
}
