/* sequence.c: streams by example, and many that a generator makes. */
#include "sequence.h"

#include <stdio.h>

#include "check.h"
#include "properties.h"

#define STORIES 20000u
#define LONGEST 200u

struct step {
    uint32_t seq;
    uint64_t lost; /* that the socket counts by then */
    uint32_t told;
    uint64_t unexplained;
};

#define RUN(...)                                                                               \
    do {                                                                                       \
        static const struct step steps[] = {__VA_ARGS__};                                      \
        run(steps, sizeof(steps) / sizeof(steps[0]));                                          \
    } while (0)

static void run(const struct step *steps, size_t n)
{
    struct ts_sequence sequence = {0};

    for (size_t i = 0; i < n; i++) {
        CHECK(ts_sequence_follow(&sequence, steps[i].seq, steps[i].lost) == steps[i].told);
        CHECK(ts_sequence_unexplained(&sequence) == steps[i].unexplained);
    }
}

static void check_examples(void)
{
    /* Losses are told where they were, also across the end of the numbers. */
    RUN({5, 0, 0, 0}, {6, 0, 0, 0}, {9, 2, 2, 0}, {10, 2, 0, 0});
    RUN({0xfffffffe, 0, 0, 0}, {0xffffffff, 0, 0, 0}, {1, 1, 1, 0}, {2, 1, 0, 0});
    /* What drops do not account for is unexplained, until it comes late. */
    RUN({5, 0, 0, 0}, {8, 0, 0, 2}, {7, 0, 0, 1}, {6, 0, 0, 0}, {9, 0, 0, 0});
    RUN({5, 0, 0, 0}, {9, 1, 1, 2}, {10, 1, 0, 2});
    /* A hole that was taken for a loss fills up late: the loss was in another. */
    RUN({7, 0, 0, 0}, {9, 1, 1, 0}, {8, 1, 0, 0}, {10, 1, 0, 0}, {12, 1, 0, 0});
    /* 64 ahead is believed at once; 65 when the next goes on from there. */
    RUN({0, 0, 0, 0}, {65, 0, 0, 64}, {66, 0, 0, 64});
    RUN({0, 0, 0, 0}, {66, 0, 0, 0}, {67, 0, 0, 65});
    RUN({0, 0, 0, 0}, {66, 0, 0, 0}, {1, 0, 0, 0}, {2, 0, 0, 0});
    RUN({0, 0, 0, 0}, {66, 0, 0, 0}, {131, 0, 0, 65 + 64});
    RUN({0, 0, 0, 0}, {66, 0, 0, 0}, {132, 0, 0, 0}, {133, 0, 0, 131});
    /* Any distance, if so many were dropped. */
    RUN({0, 0, 0, 0}, {1001, 1000, 1000, 0});
    RUN({0, 0, 0, 0}, {1001, 999, 0, 0}, {1002, 999, 999, 1});
    /* From half of all numbers on it is late. */
    RUN({0, 0, 0, 0}, {0x80000000, 1ull << 32, 0x7fffffff, 0});
    RUN({0, 0, 0, 0}, {0x80000001, 1ull << 32, 0, 0}, {1, 1ull << 32, 0, 0});
}

static void check_counter(void)
{
    struct ts_counter counter;

    ts_counter_start(&counter, 0xfffffffe);
    CHECK(counter.total == 0);
    CHECK(ts_counter_follow(&counter, 0xfffffffe) == 0 && counter.total == 0);
    CHECK(ts_counter_follow(&counter, 3) == 5 && counter.total == 5);
    CHECK(ts_counter_follow(&counter, 2) == 0xffffffff && counter.total == 0x100000004);
}

int main(void)
{
    uint32_t state = 1;

    check_counter();
    check_examples();
    for (uint32_t i = 0; i < STORIES; i++) {
        uint8_t story[LONGEST];
        uint32_t size = check_random(&state) % LONGEST;
        for (uint32_t j = 0; j < size; j++)
            story[j] = (uint8_t)(check_random(&state) >> 16);
        check_stream(story, size);
    }
    printf("sequence: by example, and %u streams: %lu checks\n", STORIES, checks);
    return 0;
}
