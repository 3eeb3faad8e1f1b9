#include "doubts.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define AT_FIRST 64u /* buckets: a power of 2 */

#ifndef TS_FIRST_SWEEP
#define TS_FIRST_SWEEP 256u
#endif

const struct ts_doubts ts_doubts_all;

static size_t size_of(uint32_t n)
{
    return sizeof(struct ts_doubts) + n * sizeof(uint32_t);
}

int ts_doubts_open(struct ts_doubt_sets *sets)
{
    memset(sets, 0, sizeof(*sets));
    sets->buckets = calloc(AT_FIRST, sizeof(*sets->buckets));
    if (!sets->buckets)
        return -ENOMEM;
    sets->size = AT_FIRST;
    sets->sweep = TS_FIRST_SWEEP;
    return 0;
}

void ts_doubts_close(struct ts_doubt_sets *sets)
{
    sets->sweep = 0;
    if (sets->buckets)
        ts_doubts_sweep(sets);
    free(sets->buckets);
    memset(sets, 0, sizeof(*sets));
}

/* ---- the table ---- */

/* Without memory the table stays as it is: its buckets get longer. */
static void grow(struct ts_doubt_sets *sets)
{
    uint32_t size = 2 * sets->size;
    struct ts_doubts **buckets = calloc(size, sizeof(struct ts_doubts *));

    if (!buckets)
        return;
    for (uint32_t i = 0; i < sets->size; i++)
        for (struct ts_doubts *next, *one = sets->buckets[i]; one; one = next) {
            next = one->next;
            one->next = buckets[one->hash & (size - 1)];
            buckets[one->hash & (size - 1)] = one;
        }
    free(sets->buckets);
    sets->buckets = buckets;
    sets->size = size;
}

/* Returns the set that the table has with these numbers. If it has none, the made one is that
 * from now on; otherwise it is freed. */
static const struct ts_doubts *unify(struct ts_doubt_sets *sets, struct ts_doubts *made)
{
    struct ts_doubts *one;

    made->hash = 0;
    for (uint32_t i = 0; i < made->n; i++)
        made->hash = (made->hash ^ made->jobs[i]) * 0x9e3779b1u;
    made->hash ^= made->hash >> 15;
    for (one = sets->buckets[made->hash & (sets->size - 1)]; one; one = one->next)
        if (one->hash == made->hash && one->n == made->n &&
            memcmp(one->jobs, made->jobs, made->n * sizeof(made->jobs[0])) == 0) {
            free(made);
            return one;
        }
    if (sets->n >= sets->size)
        grow(sets);
    made->kept = 0;
    made->next = sets->buckets[made->hash & (sets->size - 1)];
    sets->buckets[made->hash & (sets->size - 1)] = made;
    sets->n++;
    sets->bytes += size_of(made->n);
    return made;
}

/* Returns a set to be filled and unified; NULL if there is no memory. */
static struct ts_doubts *begin(struct ts_doubt_sets *sets, uint32_t n)
{
    struct ts_doubts *made = malloc(size_of(n));

    if (!made)
        sets->failed = 1;
    return made;
}

int ts_doubts_is_due(const struct ts_doubt_sets *sets)
{
    return sets->n >= sets->sweep;
}

void ts_doubts_mark(const struct ts_doubts *of)
{
    if (of && of != &ts_doubts_all)
        ((struct ts_doubts *)(uintptr_t)of)->kept = 1;
}

void ts_doubts_sweep(struct ts_doubt_sets *sets)
{
    for (uint32_t i = 0; i < sets->size; i++)
        for (struct ts_doubts **at = &sets->buckets[i]; *at;) {
            struct ts_doubts *one = *at;
            if (one->kept) {
                one->kept = 0;
                at = &one->next;
                continue;
            }
            *at = one->next;
            sets->n--;
            sets->bytes -= size_of(one->n);
            free(one);
        }
    sets->sweep = sets->n < TS_FIRST_SWEEP / 2 ? TS_FIRST_SWEEP : 2 * sets->n;
}

/* ---- sets of sets ---- */

int ts_doubts_has(const struct ts_doubts *of, uint32_t job)
{
    uint32_t from = 0, to = of ? of->n : 0;

    if (of == &ts_doubts_all)
        return 1;
    while (from < to) {
        uint32_t middle = from + (to - from) / 2;
        if (of->jobs[middle] < job)
            from = middle + 1;
        else
            to = middle;
    }
    return of && from < of->n && of->jobs[from] == job;
}

const struct ts_doubts *ts_doubts_of(struct ts_doubt_sets *sets, const uint32_t *jobs,
                                     uint32_t n)
{
    struct ts_doubts *made;

    if (!n)
        return NULL;
    made = begin(sets, n);
    if (!made)
        return &ts_doubts_all;
    made->n = n;
    memcpy(made->jobs, jobs, n * sizeof(*jobs));
    return unify(sets, made);
}

/* Whether all jobs of a set are in another one. */
static int is_within(const struct ts_doubts *of, const struct ts_doubts *other)
{
    if (of->n > other->n)
        return 0;
    for (uint32_t i = 0; i < of->n; i++)
        if (!ts_doubts_has(other, of->jobs[i]))
            return 0;
    return 1;
}

const struct ts_doubts *ts_doubts_join(struct ts_doubt_sets *sets, const struct ts_doubts *a,
                                       const struct ts_doubts *b)
{
    struct ts_doubts *made;
    uint32_t i = 0, j = 0;

    if (a == b || !b || a == &ts_doubts_all)
        return a;
    if (!a || b == &ts_doubts_all || is_within(a, b))
        return b;
    if (is_within(b, a))
        return a;
    made = begin(sets, a->n + b->n);
    if (!made)
        return &ts_doubts_all;
    made->n = 0;
    while (i < a->n || j < b->n) {
        uint32_t next =
            j == b->n || (i < a->n && a->jobs[i] <= b->jobs[j]) ? a->jobs[i] : b->jobs[j];
        i += i < a->n && a->jobs[i] == next;
        j += j < b->n && b->jobs[j] == next;
        made->jobs[made->n++] = next;
    }
    return unify(sets, made);
}

const struct ts_doubts *ts_doubts_with(struct ts_doubt_sets *sets, const struct ts_doubts *of,
                                       uint32_t job)
{
    return ts_doubts_has(of, job) ? of : ts_doubts_join(sets, of, ts_doubts_of(sets, &job, 1));
}

const struct ts_doubts *ts_doubts_without(struct ts_doubt_sets *sets,
                                          const struct ts_doubts *of, uint32_t job)
{
    struct ts_doubts *made;

    if (of == &ts_doubts_all || !ts_doubts_has(of, job))
        return of;
    if (of->n == 1)
        return NULL;
    made = begin(sets, of->n - 1);
    if (!made)
        return &ts_doubts_all;
    made->n = 0;
    for (uint32_t i = 0; i < of->n; i++)
        if (of->jobs[i] != job)
            made->jobs[made->n++] = of->jobs[i];
    return unify(sets, made);
}
