/* What processes that have ended add up to: of a job, by command name and executable. Pure. */
#ifndef TASKSTATS_TALLY_H
#define TASKSTATS_TALLY_H

#include "taskstats_shim.h"

/* Adds a thread's record. */
void ts_sums_add(struct ts_sums *sums, const struct ts_record *record);

/* Takes the kernel's own sum over the group where it is larger: the kernel knows the threads
 * that were not heard (kernel/taskstats.c:fill_tgid_exit). */
void ts_sums_raise(struct ts_sums *sums, const struct ts_record *group);

/* Whether the threads heard are all that the kernel summed over the group. Each thread that
 * ever ran has a cpu_count, so that none is missing; and their waits for a CPU add up to the
 * nanosecond, so that none is another process's. */
int ts_sums_match(const struct ts_sums *sums, const struct ts_record *group);

/* The CPU time: the final figures, of other threads what their records say. */
uint64_t ts_sums_cpu_ns(const struct ts_sums *sums);

/* Adds a process that has ended. */
void ts_totals_add(struct ts_totals *totals, const struct ts_sums *sums,
                   const struct ts_ended *ended);
/* The same for a process that never had a second thread, whose record this is. */
void ts_totals_add_record(struct ts_totals *totals, const struct ts_record *record);
/* Adds what a process has more than when it was added: `after` has a thread more. */
void ts_totals_add_thread(struct ts_totals *totals, const struct ts_sums *before,
                          const struct ts_sums *after);

/* Totals by command. Beyond TS_MOST_COMMANDS, the rest is added up as one. */
struct ts_commands {
    struct ts_command **found; /* in the order in which they came */
    uint32_t n;
    uint32_t latest;       /* the one asked for last */
    uint16_t places[4096]; /* a hash table of numbers from 1 on */
};

/* Returns the totals of a command; NULL if there is no memory. */
struct ts_totals *ts_commands_find(struct ts_commands *commands, const char *comm,
                                   uint64_t exe_dev, uint64_t exe_inode);
void ts_commands_free(struct ts_commands *commands);

#endif
