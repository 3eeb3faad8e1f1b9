/* An open probe: its ring, and the counters of what found no room there. */
#ifndef TASKSTATS_PROBE_H
#define TASKSTATS_PROBE_H

#include "events.h"
#include "programs.h"
#include "ring.h"

/* One map is mapped twice: a page that this process writes, the rest that it reads. */
struct ts_mapping {
    void *start;
    size_t size;
};

struct ts_probe {
    uint32_t owner;         /* ts_process of who opened it */
    struct ts_ring ring;    /* read with the listener's consumer lock held */
    const uint64_t *losses; /* by enum ts_event */
    const uint64_t *now;    /* a peer's clock; NULL: CLOCK_MONOTONIC */
    struct ts_mapping consumer, producer, counters;
    int ring_fd, losses_fd; /* -1 of a peer's */
    int programs[TS_PROGRAMS], links[TS_PROGRAMS];
};

/* Events of a kind that found no room in the ring. */
uint64_t ts_probe_lost(const struct ts_probe *probe, enum ts_event event);

/* How many ends the ring holds, so that as many are not too many to keep. */
uint32_t ts_probe_most_ends(const struct ts_probe *probe);

#endif
