/* The thread that drains a listener into a buffer, and the reader's side of that buffer. */
#ifndef TASKSTATS_DRAINER_H
#define TASKSTATS_DRAINER_H

#include "exits.h"

/* Makes a lock that the thread and a reader share. */
void ts_drainer_init_lock(pthread_mutex_t *lock);

/* Starts the thread. Sets the listener's `drainer` and `ready`. */
int ts_drainer_start(struct ts_exits *exits, const struct ts_wanted *wanted);

/* Tells a reader that the listener has been stopped. With `state` locked. */
void ts_drainer_stopped(const struct ts_exits *exits);

/* What ts_exits_drain does, from the buffer. With `consumer` locked. */
int ts_drainer_take(struct ts_exits *exits, int64_t latency_ns, int64_t deadline_ns,
                    struct ts_sink *sink);

/* With `state` locked. */
void ts_drainer_count(struct ts_exits *exits, struct ts_buffer_stats *stats);

/* Ends the thread of a listener that was stopped, and waits for it. With `consumer` locked. */
void ts_drainer_join(struct ts_exits *exits);

/* Gives the memory back. With `consumer` and `state` locked, after the join. */
void ts_drainer_free(struct ts_exits *exits);

#endif
