/* The numbers of one CPU's exit records: where records are missing. And the kernel's
 * counters, which wrap like them. Pure. */
#ifndef TASKSTATS_SEQUENCE_H
#define TASKSTATS_SEQUENCE_H

#include <stdint.h>

/* A counter of the kernel's, of 32 bits, followed in 64. */
struct ts_counter {
    uint32_t last;
    uint64_t total; /* since it was started */
};

void ts_counter_start(struct ts_counter *counter, uint32_t now);
/* Returns how many more there are. */
uint32_t ts_counter_follow(struct ts_counter *counter, uint32_t now);

struct ts_sequence {
    int started;         /* a record was seen, so `next` means something */
    uint32_t next;       /* the number that the next record should have */
    int jumped;          /* the last record was far ahead, by itself so far: */
    uint32_t after_jump; /* what follows it if its stream goes on there */
    uint64_t placed;     /* lost records that a hole has accounted for */
    uint64_t missing;    /* numbers before `next` that have not come */
};

/* Whether this is the number expected, so that there is nothing to explain. */
int ts_sequence_expects(const struct ts_sequence *sequence, uint32_t seq);

/* Follows the stream to this number. `lost` is how many records the socket has
 * dropped so far; returns how many of them belong right before this record. */
uint32_t ts_sequence_follow(struct ts_sequence *sequence, uint32_t seq, uint64_t lost);

/* Numbers missing beyond the lost records that have been placed. */
uint64_t ts_sequence_unexplained(const struct ts_sequence *sequence);

#endif
