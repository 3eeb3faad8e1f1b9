#include "tally.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- fields ---- */

enum fold { ADD, MOST };

/* A run of fields that stand one behind the other in the struct and in the sums. */
struct run {
    uint8_t word; /* of the struct, 8 bytes each */
    uint8_t sum;  /* place in the sums */
    uint8_t n;
    uint8_t fold; /* enum fold */
};

#define WORD(field) (offsetof(struct ts_stats, field) / 8)

/* X(first field, place in the sums, how many, fold) */
#define RUNS(X)                                                                                \
    X(cpu_count, 0, 8, ADD)                                                                    \
    X(ac_etime, 8, 7, ADD)                                                                     \
    X(hiwater_rss, 15, 2, MOST)                                                                \
    X(read_char, 17, 16, ADD)                                                                  \
    X(compact_count, 33, 2, ADD)                                                               \
    X(wpcopy_count, 35, 4, ADD)

static const struct run runs[] = {
#define X(field, sum, n, fold) {WORD(field), sum, n, fold},
    RUNS(X)
#undef X
};

/* Pairs of longest and shortest delays, from `cpu_delay_max` on. */
#define EXTREMES 39u
#define N_EXTREMES 16u
#define FINAL_CPU (TS_SUMS - 1u)

enum { CPU_COUNT = 0, CPU_DELAY = 1, CPU_RUN = 7 };

static const uint64_t *words(const struct ts_record *record)
{
    return (const uint64_t *)(const void *)&record->stats;
}

static uint64_t most(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* 0 stands for no delay. */
static uint64_t least(uint64_t a, uint64_t b)
{
    if (!a || !b)
        return a | b;
    return a < b ? a : b;
}

static void fold_extremes(uint64_t *values, const uint64_t *from)
{
    for (unsigned i = 0; i < N_EXTREMES; i += 2) {
        values[i] = most(values[i], from[i]);
        values[i + 1] = least(values[i + 1], from[i + 1]);
    }
}

/* Called with constants: each run becomes straight vector code. */
static inline void fold_run(uint64_t *restrict to, const uint64_t *restrict of, unsigned n,
                            enum fold fold)
{
    for (unsigned i = 0; i < n; i++)
        to[i] = fold == ADD ? to[i] + of[i] : most(to[i], of[i]);
}

static void fold_stats(uint64_t *restrict values, const uint64_t *restrict from)
{
#define X(field, sum, n, fold) fold_run(values + (sum), from + WORD(field), n, fold);
    RUNS(X)
#undef X
    fold_extremes(values + EXTREMES, from + WORD(cpu_delay_max));
}

static void fold_values(uint64_t *values, const uint64_t *from)
{
    for (unsigned r = 0; r < sizeof(runs) / sizeof(runs[0]); r++)
        for (unsigned i = runs[r].sum; i < runs[r].sum + (unsigned)runs[r].n; i++)
            values[i] = runs[r].fold == ADD ? values[i] + from[i] : most(values[i], from[i]);
    fold_extremes(values + EXTREMES, from + EXTREMES);
    values[FINAL_CPU] += from[FINAL_CPU];
}

/* ---- one process ---- */

void ts_sums_add(struct ts_sums *sums, const struct ts_record *record)
{
    fold_stats(sums->values, words(record));
    sums->threads++;
    if (record->flags & TS_SETTLED) {
        sums->values[FINAL_CPU] += record->final_cpu_ns;
    } else {
        sums->unsettled++;
        sums->unsettled_cpu_ns += record->stats.cpu_run_virtual_total;
    }
    if (record->flags & TS_DELAY_EXCEEDS)
        sums->exceeding = 1;
}

/* The extremes of a group are those of one of its threads. */
void ts_sums_raise(struct ts_sums *sums, const struct ts_record *group)
{
    for (unsigned r = 0; r < sizeof(runs) / sizeof(runs[0]); r++)
        for (unsigned i = 0; i < runs[r].n; i++) {
            uint64_t *value = &sums->values[runs[r].sum + i];
            *value = most(*value, words(group)[runs[r].word + i]);
        }
}

int ts_sums_match(const struct ts_sums *sums, const struct ts_record *group)
{
    return group->stats.cpu_count && sums->values[CPU_COUNT] == group->stats.cpu_count &&
           sums->values[CPU_DELAY] == group->stats.cpu_delay_total &&
           sums->values[CPU_RUN] >= group->stats.cpu_run_virtual_total;
}

uint64_t ts_sums_cpu_ns(const struct ts_sums *sums)
{
    return most(sums->values[FINAL_CPU] + sums->unsettled_cpu_ns, sums->values[CPU_RUN]);
}

/* ---- many ---- */

/* How a process ended, as wait(2) gives it. */
static void count_status(struct ts_totals *totals, uint32_t status)
{
    if (status & 0x7f)
        totals->signals[status & 0x7f]++;
    else
        totals->statuses[status >> 8 & 0xff]++;
}

void ts_totals_add(struct ts_totals *totals, const struct ts_sums *sums,
                   const struct ts_ended *ended)
{
    fold_values(totals->sums, sums->values);
    totals->processes++;
    totals->threads += sums->threads;
    totals->unsettled += sums->unsettled;
    totals->exceeding += sums->exceeding;
    totals->cpu_ns += ended->cpu_ns;
    totals->longest_us = most(totals->longest_us, ended->elapsed_us);
    count_status(totals, ended->status);
}

void ts_totals_add_thread(struct ts_totals *totals, const struct ts_sums *before,
                          const struct ts_sums *after)
{
    uint64_t more[TS_SUMS];

    memcpy(more, after->values, sizeof(more));
    for (unsigned r = 0; r < sizeof(runs) / sizeof(runs[0]); r++)
        for (unsigned i = runs[r].sum; runs[r].fold == ADD && i < runs[r].sum + runs[r].n; i++)
            more[i] -= before->values[i];
    more[FINAL_CPU] -= before->values[FINAL_CPU];
    fold_values(totals->sums, more);
    totals->threads += after->threads - before->threads;
    totals->unsettled += after->unsettled - before->unsettled;
    totals->exceeding += after->exceeding - before->exceeding;
    totals->cpu_ns += ts_sums_cpu_ns(after) - ts_sums_cpu_ns(before);
}

void ts_totals_add_record(struct ts_totals *totals, const struct ts_record *record)
{
    int settled = record->flags & TS_SETTLED;

    fold_stats(totals->sums, words(record));
    totals->processes++;
    totals->threads++;
    totals->exceeding += !!(record->flags & TS_DELAY_EXCEEDS);
    if (settled)
        totals->sums[FINAL_CPU] += record->final_cpu_ns;
    else
        totals->unsettled++;
    totals->cpu_ns += settled ? record->final_cpu_ns : record->stats.cpu_run_virtual_total;
    totals->longest_us = most(totals->longest_us, record->stats.ac_tgetime);
    count_status(totals, record->stats.ac_exitcode);
}

void ts_totals_add_totals(struct ts_totals *totals, const struct ts_totals *other)
{
    fold_values(totals->sums, other->sums);
    totals->processes += other->processes;
    totals->threads += other->threads;
    totals->unsettled += other->unsettled;
    totals->exceeding += other->exceeding;
    totals->cpu_ns += other->cpu_ns;
    totals->longest_us = most(totals->longest_us, other->longest_us);
    for (unsigned i = 0; i < sizeof(totals->statuses) / sizeof(totals->statuses[0]); i++)
        totals->statuses[i] += other->statuses[i];
    for (unsigned i = 0; i < sizeof(totals->signals) / sizeof(totals->signals[0]); i++)
        totals->signals[i] += other->signals[i];
}

/* ---- by command ---- */

static const char others[32] = "(other commands)";

static int is(const struct ts_command *command, const char *comm, uint64_t dev, uint64_t inode)
{
    return command->exe_inode == inode && command->exe_dev == dev &&
           memcmp(command->comm, comm, sizeof(command->comm)) == 0;
}

static uint32_t place_of(const char *comm, uint64_t dev, uint64_t inode)
{
    uint64_t hash = (dev ^ inode) * 0x9e3779b97f4a7c15u;

    for (unsigned i = 0; i < sizeof(others); i += 8) {
        uint64_t word;
        memcpy(&word, comm + i, 8);
        hash = (hash ^ word) * 0x9e3779b97f4a7c15u;
    }
    return (uint32_t)(hash >> 52);
}

static struct ts_totals *add(struct ts_commands *commands, uint16_t *place, const char *comm,
                             uint64_t dev, uint64_t inode)
{
    struct ts_command *made = calloc(1, sizeof(*made));
    struct ts_command **found =
        realloc(commands->found, (commands->n + 1) * sizeof(*commands->found));

    if (found)
        commands->found = found;
    if (!made || !found) {
        free(made);
        return NULL;
    }
    memcpy(made->comm, comm, sizeof(made->comm));
    made->exe_dev = dev;
    made->exe_inode = inode;
    commands->latest = commands->n;
    found[commands->n++] = made;
    *place = (uint16_t)commands->n;
    return &made->totals;
}

/* The table has four places for each command that there can be. */
static uint16_t *look_up(struct ts_commands *commands, const char *comm, uint64_t dev,
                         uint64_t inode)
{
    uint32_t mask = sizeof(commands->places) / sizeof(commands->places[0]) - 1;
    uint32_t at = place_of(comm, dev, inode) & mask;

    while (commands->places[at] &&
           !is(commands->found[commands->places[at] - 1], comm, dev, inode))
        at = (at + 1) & mask;
    return &commands->places[at];
}

struct ts_totals *ts_commands_find(struct ts_commands *commands, const char *comm,
                                   uint64_t exe_dev, uint64_t exe_inode)
{
    uint16_t *place;

    if (commands->n && is(commands->found[commands->latest], comm, exe_dev, exe_inode))
        return &commands->found[commands->latest]->totals;
    place = look_up(commands, comm, exe_dev, exe_inode);
    if (!*place && commands->n >= TS_MOST_COMMANDS) {
        comm = others;
        exe_dev = exe_inode = 0;
        place = look_up(commands, comm, exe_dev, exe_inode);
    }
    if (!*place)
        return add(commands, place, comm, exe_dev, exe_inode);
    commands->latest = *place - 1u;
    return &commands->found[commands->latest]->totals;
}

void ts_commands_free(struct ts_commands *commands)
{
    for (uint32_t i = 0; i < commands->n; i++)
        free(commands->found[i]);
    free(commands->found);
    memset(commands, 0, sizeof(*commands));
}
