/* How many exits a CPU has had, counted without reading one: a second listener
 * whose queue is full, so that the kernel counts every record as dropped. Of a peer
 * that plays the kernel, what it says it has sent. */
#ifndef TASKSTATS_METER_H
#define TASKSTATS_METER_H

#include "sequence.h"
#include "socket.h"

struct ts_meter {
    int fd;                         /* -1: not open, or not any more */
    const struct ts_endpoint *peer; /* that says itself what it has sent, */
    uint32_t port;                  /* to this port; NULL: `fd` counts */
    struct ts_counter counted;      /* exits */
};

/* Opens it, its queue full, registered for nothing yet and not started. */
int ts_meter_open(struct ts_meter *meter, const struct ts_endpoint *endpoint, uint16_t family);
/* Opens one that reads what the peer says it has sent to a port. */
void ts_meter_ask(struct ts_meter *meter, const struct ts_endpoint *peer, uint32_t port);
/* Counts from now on. */
int ts_meter_start(struct ts_meter *meter);
/* Brings `counted` up to date. Returns whether it has changed, or -errno. */
int ts_meter_read(struct ts_meter *meter);
/* Ends it; `counted` stays. */
void ts_meter_close(struct ts_meter *meter);

#endif
