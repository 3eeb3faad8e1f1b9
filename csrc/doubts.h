/* Sets of job numbers: the jobs that a process may belong to. Pure.
 *
 * A set is never changed, and two sets with the same numbers are the same object. So many
 * processes share a set, and sets are compared by their addresses. NULL is the empty set. */
#ifndef TASKSTATS_DOUBTS_H
#define TASKSTATS_DOUBTS_H

#include <stddef.h>
#include <stdint.h>

struct ts_doubts {
    struct ts_doubts *next; /* in its bucket */
    uint32_t hash;
    uint32_t n;
    uint8_t kept;    /* it was marked since the last sweep */
    uint32_t jobs[]; /* in ascending order */
};

/* The set of all jobs. It stands in for a set that there was no memory for. */
extern const struct ts_doubts ts_doubts_all;

struct ts_doubt_sets {
    struct ts_doubts **buckets;
    uint32_t size;  /* of the buckets: a power of 2 */
    uint32_t n;     /* sets */
    uint32_t sweep; /* sweep when there are so many */
    int failed;     /* there was no memory for a set */
    size_t bytes;
};

int ts_doubts_open(struct ts_doubt_sets *sets);
void ts_doubts_close(struct ts_doubt_sets *sets);

/* Returns the set of these jobs, in ascending order. */
const struct ts_doubts *ts_doubts_of(struct ts_doubt_sets *sets, const uint32_t *jobs,
                                     uint32_t n);
/* Returns the jobs that are in either set. */
const struct ts_doubts *ts_doubts_join(struct ts_doubt_sets *sets, const struct ts_doubts *a,
                                       const struct ts_doubts *b);
const struct ts_doubts *ts_doubts_with(struct ts_doubt_sets *sets, const struct ts_doubts *of,
                                       uint32_t job);
const struct ts_doubts *ts_doubts_without(struct ts_doubt_sets *sets,
                                          const struct ts_doubts *of, uint32_t job);
int ts_doubts_has(const struct ts_doubts *of, uint32_t job);

/* Sets that nothing refers to are freed by a sweep. Mark all others before it, where
 * `ts_doubts_is_due` says that it is time. */
int ts_doubts_is_due(const struct ts_doubt_sets *sets);
void ts_doubts_mark(const struct ts_doubts *of);
void ts_doubts_sweep(struct ts_doubt_sets *sets);

#endif
