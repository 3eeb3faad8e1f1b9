/* Joins records with the ends that the probe has seen: rows are held until their end
 * came. Pure.
 *
 * The kernel sends a record, and some microseconds later the task uses a CPU for the
 * last time. So a row's end is in the ring soon after the row is read, but for a task
 * that takes down much memory, or has to wait for a CPU. The stream is delayed, never
 * reordered: what comes after a held row is held too. */
#ifndef TASKSTATS_SETTLE_H
#define TASKSTATS_SETTLE_H

#include "ring.h"
#include "taskstats_shim.h"

#ifndef TS_MOST_HELD /* the fuzzer sets lower ones */
/* Rows held at most; beyond, the oldest is handed out without its end. */
#define TS_MOST_HELD 16384u
/* Rows that `take` is given at once, at most. */
#define TS_MOST_TAKEN 4096u
#endif
#ifndef TS_MOST_ALIKE
#define TS_MOST_ALIKE 64u /* rows of one pid that wait, up to which `resolve` looks at them */
#endif

struct ts_settler;

/* One for a listener on CPUs numbered up to `last_cpu`. It keeps at most so many ends that
 * no row has claimed, and forgets the oldest beyond: give as many as the ring has room for.
 * NULL if there is no memory. */
struct ts_settler *ts_settler_new(int64_t settle_ns, uint32_t last_cpu, uint32_t most_ends);
void ts_settler_free(struct ts_settler *settler);

/* The clock of the events, ns; NULL, as it begins: CLOCK_MONOTONIC, as `now` below. */
void ts_settler_use_clock(struct ts_settler *settler, const uint64_t *clock);

/* Says that every record from now on will be taken: of all CPUs, and none is filtered out. */
void ts_settler_hear_all(struct ts_settler *settler, int64_t now);
/* Says that records from now on may be missing. */
void ts_settler_hear_no_more(struct ts_settler *settler, int64_t now);

/* Says that a drain begins: nothing has been read yet. `now` is CLOCK_MONOTONIC in ns. */
void ts_settler_begin(struct ts_settler *settler, int64_t now);

/* Reads events: ends are kept or given to the rows that wait for them, births and
 * changes of cgroups go to the sink. Stops where the sink has no room for these. */
void ts_settler_read(struct ts_settler *settler, struct ts_ring *ring, struct ts_sink *sink);

/* Whether the latest `read` or `release` stopped for want of room in the sink. */
int ts_settler_is_full(const struct ts_settler *settler);

/* How many rows `take` may be given. */
uint32_t ts_settler_room(const struct ts_settler *settler);

/* Says how many ends have found no room in the ring so far. To be called after `read`. */
void ts_settler_count_lost(struct ts_settler *settler, uint64_t ends, int64_t now);

/* Takes the sink's rows from `task` on, just read, with their groups, from `group` on:
 * gives them their ends, and holds those that have none yet, and all that come after.
 * `emptied` says that all queues were seen empty, so that an end that was known before
 * and fits no row never will. `now` is CLOCK_MONOTONIC in ns. */
void ts_settler_take(struct ts_settler *settler, struct ts_sink *sink, uint32_t task,
                     uint32_t group, int emptied, int64_t now);

/* Whether `resolve` can settle a row. To be called after each `take` that was told `emptied`.
 */
int ts_settler_is_in_doubt(struct ts_settler *settler);

/* Settles rows by ends that have one row alone. `unheard` is how many records that were sent
 * are not taken: lost, or not to be read. */
void ts_settler_resolve(struct ts_settler *settler, uint64_t unheard, int64_t now);

/* Moves to the sink what has been held and is settled, or has waited too long. */
void ts_settler_release(struct ts_settler *settler, struct ts_sink *sink, int64_t now);

/* How many rows are held, and until when the oldest waits at most. */
uint32_t ts_settler_held(const struct ts_settler *settler);
int64_t ts_settler_due(const struct ts_settler *settler);

/* Fills `settled`, `unsettled` and `held`: the rows that wait. */
void ts_settler_count(const struct ts_settler *settler, struct ts_probe_stats *stats);

#endif
