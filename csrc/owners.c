#include "owners.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#ifndef TS_OWNERS_AT_FIRST
#define TS_OWNERS_AT_FIRST 1024u /* buckets: a power of 2 */
#endif

/* Additions that are not given back. */
#define MOST_SPARE 512u

int ts_owners_open(struct ts_owners *owners, uint32_t most)
{
    memset(owners, 0, sizeof(*owners));
    owners->buckets = calloc(TS_OWNERS_AT_FIRST, sizeof(*owners->buckets));
    if (!owners->buckets)
        return -ENOMEM;
    owners->size = TS_OWNERS_AT_FIRST;
    owners->most = most;
    return 0;
}

void ts_owners_close(struct ts_owners *owners)
{
    struct ts_addition *next;

    for (uint32_t i = 0; i < owners->n_chunks; i++) {
        for (uint32_t k = 0; k < TS_OWNERS_CHUNK; k++)
            free(owners->chunks[i][k].addition);
        free(owners->chunks[i]);
    }
    for (struct ts_addition *one = owners->spare; one; one = next) {
        next = one->next;
        free(one);
    }
    free(owners->chunks);
    free(owners->buckets);
    memset(owners, 0, sizeof(*owners));
}

/* ---- memory ---- */

static int add_chunk(struct ts_owners *owners)
{
    struct ts_owner **grown, *chunk;

    if (owners->n + TS_OWNERS_CHUNK > owners->most)
        return -ENOSPC;
    grown = realloc(owners->chunks, (owners->n_chunks + 1) * sizeof(struct ts_owner *));
    if (!grown)
        return -ENOMEM;
    owners->chunks = grown;
    chunk = calloc(TS_OWNERS_CHUNK, sizeof(*chunk));
    if (!chunk)
        return -ENOMEM;
    grown[owners->n_chunks++] = chunk;
    for (uint32_t i = TS_OWNERS_CHUNK; i--;) {
        chunk[i].next = owners->free;
        owners->free = &chunk[i];
    }
    return 0;
}

void ts_owners_drop(struct ts_owners *owners, struct ts_owner *one)
{
    if (--one->uses)
        return;
    ts_owners_release(owners, one);
    one->next = owners->free;
    owners->free = one;
    owners->n--;
}

struct ts_addition *ts_owners_keep(struct ts_owners *owners, struct ts_owner *one)
{
    struct ts_addition *kept = owners->spare;

    if (kept) {
        owners->spare = kept->next;
        owners->n_spare--;
    } else {
        kept = malloc(sizeof(*kept));
        if (!kept)
            return NULL;
        owners->n_additions++;
    }
    return one->addition = kept;
}

void ts_owners_release(struct ts_owners *owners, struct ts_owner *one)
{
    struct ts_addition *kept = one->addition;

    one->addition = NULL;
    if (!kept)
        return;
    if (owners->n_spare >= MOST_SPARE) {
        owners->n_additions--;
        free(kept);
        return;
    }
    kept->next = owners->spare;
    owners->spare = kept;
    owners->n_spare++;
}

size_t ts_owners_bytes(const struct ts_owners *owners)
{
    return owners->n_chunks * TS_OWNERS_CHUNK * sizeof(struct ts_owner) +
           owners->size * sizeof(*owners->buckets) +
           owners->n_additions * sizeof(struct ts_addition);
}

/* ---- by pid ---- */

static struct ts_owner **bucket_of(const struct ts_owners *owners, uint32_t pid)
{
    return &owners->buckets[pid & (owners->size - 1)]; /* pids are given out in order */
}

/* Puts it at the end of its bucket. */
static void append(struct ts_owners *owners, struct ts_owner *one)
{
    struct ts_owner **at = bucket_of(owners, one->pid);

    while (*at)
        at = &(*at)->next;
    one->next = NULL;
    *at = one;
}

static void take_out(struct ts_owners *owners, const struct ts_owner *one)
{
    struct ts_owner **at = bucket_of(owners, one->pid);

    while (*at != one)
        at = &(*at)->next;
    *at = one->next;
}

/* Without memory the table stays as it is: its buckets get longer. */
static void grow(struct ts_owners *owners)
{
    struct ts_owner **old = owners->buckets, *next;
    uint32_t size = owners->size;
    struct ts_owner **made = calloc(2 * (size_t)size, sizeof(struct ts_owner *));

    if (!made)
        return;
    owners->buckets = made;
    owners->size = 2 * size;
    for (uint32_t i = 0; i < size; i++)
        for (struct ts_owner *one = old[i]; one; one = next) {
            next = one->next;
            append(owners, one);
        }
    free(old);
}

struct ts_owner *ts_owners_add(struct ts_owners *owners, uint32_t pid, uint32_t ppid)
{
    struct ts_owner *one;

    if (!owners->free && add_chunk(owners) < 0)
        return NULL;
    one = owners->free;
    owners->free = one->next;
    owners->n++;
    if (owners->n_listed >= owners->size)
        grow(owners);
    memset(one, 0, sizeof(*one));
    one->pid = pid;
    one->ppid = ppid;
    one->tick_ns = TS_NO_TICK;
    one->uses = 1;
    one->is_listed = 1;
    append(owners, one);
    owners->n_listed++;
    return one;
}

void ts_owners_unlist(struct ts_owners *owners, struct ts_owner *one)
{
    if (!one->is_listed)
        return;
    take_out(owners, one);
    one->is_listed = 0;
    owners->n_listed--;
    ts_owners_drop(owners, one);
}

void ts_owners_end(struct ts_owners *owners, struct ts_owner *one)
{
    one->lives = 0;
    take_out(owners, one);
    append(owners, one);
    ts_owners_line_up(owners, one);
}

static struct ts_owner *with_pid(struct ts_owner *one, uint32_t pid)
{
    while (one && one->pid != pid)
        one = one->next;
    return one;
}

struct ts_owner *ts_owners_first(const struct ts_owners *owners, uint32_t pid)
{
    return with_pid(*bucket_of(owners, pid), pid);
}

struct ts_owner *ts_owners_next(const struct ts_owner *one)
{
    return with_pid(one->next, one->pid);
}

struct ts_owner *ts_owners_living(const struct ts_owners *owners, uint32_t pid)
{
    struct ts_owner *one = ts_owners_first(owners, pid);

    while (one && !one->lives)
        one = ts_owners_next(one);
    return one;
}

/* ---- those that ended ---- */

void ts_owners_line_up(struct ts_owners *owners, struct ts_owner *one)
{
    one->uses++;
    one->newer = NULL;
    if (owners->newest)
        owners->newest->newer = one;
    else
        owners->oldest = one;
    owners->newest = one;
    owners->n_in_line++;
}

void ts_owners_forget(struct ts_owners *owners)
{
    struct ts_owner *one = owners->oldest;

    owners->oldest = one->newer;
    if (!owners->oldest)
        owners->newest = NULL;
    owners->n_in_line--;
    ts_owners_unlist(owners, one);
    ts_owners_drop(owners, one);
}
