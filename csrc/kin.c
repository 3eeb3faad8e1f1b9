#include "kin.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#ifndef TS_KIN_AT_FIRST
#define TS_KIN_AT_FIRST 1024u /* a power of 2 */
#endif

static uint32_t bucket_of(const struct ts_kinship *kin, uint32_t pid)
{
    return pid & (kin->size - 1); /* pids are given out one after the other */
}

static void link_free(struct ts_kinship *kin, uint32_t from)
{
    for (uint32_t i = kin->size - 1; i >= from; i--) {
        kin->all[i].next = kin->free;
        kin->free = i;
    }
}

int ts_kinship_open(struct ts_kinship *kin, uint32_t capacity)
{
    memset(kin, 0, sizeof(*kin));
    kin->capacity = capacity;
    kin->size = TS_KIN_AT_FIRST;
    kin->all = calloc(kin->size, sizeof(*kin->all));
    kin->buckets = calloc(kin->size, sizeof(*kin->buckets));
    if (!kin->all || !kin->buckets) {
        ts_kinship_close(kin);
        return -ENOMEM;
    }
    link_free(kin, 1);
    return 0;
}

void ts_kinship_close(struct ts_kinship *kin)
{
    if (kin->all)
        for (uint32_t i = 1; i < kin->size; i++)
            free(kin->all[i].threads);
    free(kin->all);
    free(kin->buckets);
    memset(kin, 0, sizeof(*kin));
}

/* Puts it into its bucket, before those with its pid that started earlier. */
static void place(struct ts_kinship *kin, uint32_t one)
{
    struct ts_kin *all = kin->all;
    uint32_t *at = &kin->buckets[bucket_of(kin, all[one].pid)];

    while (*at && (all[*at].pid != all[one].pid || all[*at].start_ns > all[one].start_ns))
        at = &all[*at].next;
    all[one].next = *at;
    *at = one;
}

static int grow(struct ts_kinship *kin)
{
    uint32_t size = kin->size;
    struct ts_kin *all = realloc(kin->all, 2 * size * sizeof(*all));
    uint32_t *buckets;

    if (!all)
        return -ENOMEM;
    kin->all = all;
    buckets = calloc(2 * size, sizeof(*buckets));
    if (!buckets)
        return -ENOMEM;
    free(kin->buckets);
    kin->buckets = buckets;
    memset(all + size, 0, size * sizeof(*all));
    kin->size = 2 * size;
    link_free(kin, size);
    for (uint32_t i = 1; i < size; i++)
        if (all[i].used)
            place(kin, i);
    return 0;
}

uint32_t ts_kinship_first(const struct ts_kinship *kin, uint32_t pid)
{
    uint32_t one = kin->buckets[bucket_of(kin, pid)];

    while (one && kin->all[one].pid != pid)
        one = kin->all[one].next;
    return one;
}

uint32_t ts_kinship_next(const struct ts_kinship *kin, uint32_t one)
{
    uint32_t pid = kin->all[one].pid;

    do {
        one = kin->all[one].next;
    } while (one && kin->all[one].pid != pid);
    return one;
}

uint32_t ts_kinship_at(const struct ts_kinship *kin, uint32_t pid, uint64_t moment_ns)
{
    uint32_t one = ts_kinship_first(kin, pid);

    while (one && kin->all[one].start_ns > moment_ns)
        one = ts_kinship_next(kin, one);
    return one;
}

uint32_t ts_kinship_find(const struct ts_kinship *kin, uint32_t pid, uint64_t start_ns)
{
    uint32_t one = ts_kinship_at(kin, pid, start_ns);

    while (one && start_ns > kin->all[one].start_end_ns)
        one = ts_kinship_next(kin, one);
    return one;
}

uint32_t ts_kinship_add(struct ts_kinship *kin, uint32_t pid, uint64_t start_ns,
                        uint64_t start_end_ns)
{
    struct ts_kin *made;
    uint32_t one, older;

    if (kin->n >= kin->capacity || (!kin->free && grow(kin) < 0))
        return 0;
    one = kin->free;
    made = &kin->all[one];
    kin->free = made->next;
    memset(made, 0, sizeof(*made));
    made->used = 1;
    made->pid = pid;
    made->start_ns = start_ns;
    made->start_end_ns = start_end_ns;
    kin->n++;
    place(kin, one);
    if (ts_kinship_first(kin, pid) != one)
        ts_kinship_line_up(kin, one, TS_REPLACED);
    older = ts_kinship_next(kin, one);
    if (older)
        ts_kinship_line_up(kin, older, TS_REPLACED);
    return one;
}

struct ts_threads *ts_kinship_several(struct ts_kinship *kin, uint32_t one)
{
    struct ts_threads *threads = calloc(1, sizeof(*threads));

    if (threads)
        kin->n_several++;
    kin->all[one].threads = threads;
    return threads;
}

uint64_t ts_kinship_bytes(const struct ts_kinship *kin)
{
    return kin->size * (sizeof(*kin->all) + sizeof(*kin->buckets)) +
           kin->n_several * sizeof(struct ts_threads);
}

static void leave_line(struct ts_kinship *kin, struct ts_kin *dead)
{
    unsigned line = dead->line;

    if (line == TS_LIVING)
        return;
    if (dead->older)
        kin->all[dead->older].newer = dead->newer;
    else
        kin->oldest[line] = dead->newer;
    if (dead->newer)
        kin->all[dead->newer].older = dead->older;
    else
        kin->newest[line] = dead->older;
    kin->n_in[line]--;
}

void ts_kinship_line_up(struct ts_kinship *kin, uint32_t one, enum ts_line line)
{
    struct ts_kin *dead = &kin->all[one];

    if (dead->line >= line)
        return;
    leave_line(kin, dead);
    dead->line = (uint8_t)line;
    dead->older = kin->newest[line];
    dead->newer = 0;
    if (kin->newest[line])
        kin->all[kin->newest[line]].newer = one;
    else
        kin->oldest[line] = one;
    kin->newest[line] = one;
    kin->n_in[line]++;
}

void ts_kinship_remove(struct ts_kinship *kin, uint32_t one)
{
    struct ts_kin *gone = &kin->all[one];
    uint32_t *at = &kin->buckets[bucket_of(kin, gone->pid)];

    while (*at != one)
        at = &kin->all[*at].next;
    *at = gone->next;
    leave_line(kin, gone);
    kin->n_several -= gone->threads != NULL;
    free(gone->threads);
    memset(gone, 0, sizeof(*gone));
    gone->next = kin->free;
    kin->free = one;
    kin->n--;
}
