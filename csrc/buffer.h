/* A bounded queue of what drains have brought, in memory of its own. Pure: its user locks it,
 * and gives it the functions that get memory.
 *
 * A parcel is what one drain has brought. Parcels stand one behind the other in chunks of
 * memory. A chunk goes back as soon as its last parcel was taken, but for one chunk, which is
 * used again: so a reader that keeps up stays in the same memory. */
#ifndef TASKSTATS_BUFFER_H
#define TASKSTATS_BUFFER_H

#include "taskstats_shim.h"

/* The least size of a buffer. */
#define TS_LEAST_BUFFER (1u << 20)

/* The longest parcel, in bytes of its rows, births and changes. */
#define TS_LONGEST_PARCEL ((256u << 10) - 256u)

struct ts_chunk;

struct ts_buffer {
    void *(*get)(size_t size); /* memory of this size; NULL if there is none */
    void (*put_back)(void *memory, size_t size);
    size_t chunk_size;
    uint64_t most_chunks;
    uint64_t n_chunks;
    struct ts_chunk *first; /* the one that is taken from */
    struct ts_chunk *last;  /* the one that is added to */
    struct ts_parcel *newest;
    int64_t emptied_ns; /* the sink members of this name, as of what was last taken or noted */
    uint64_t births_lost;
    uint64_t used;
    uint64_t most_used;
    uint64_t waiting;
};

/* Returns 0, or -ENOMEM. It takes at most `bytes`, at least TS_LEAST_BUFFER. */
int ts_buffer_open(struct ts_buffer *buffer, uint64_t bytes, void *(*get)(size_t),
                   void (*put_back)(void *, size_t));
void ts_buffer_close(struct ts_buffer *buffer);

int ts_buffer_is_empty(const struct ts_buffer *buffer);

/* Copies what the sink holds to the end of the queue. Returns 0 if there is no room: an empty
 * buffer has room for every parcel of at most TS_LONGEST_PARCEL bytes. */
int ts_buffer_put(struct ts_buffer *buffer, const struct ts_sink *sink);

/* Notes what a drain said that has brought nothing. */
void ts_buffer_note(struct ts_buffer *buffer, const struct ts_sink *sink);

/* Moves to the sink what it has room for, in order. Births and changes of a parcel come before
 * its rows. Returns whether it stopped for want of room for births or changes. */
int ts_buffer_take(struct ts_buffer *buffer, struct ts_sink *sink);

#endif
