/* How many exits a CPU has had, counted without reading one: a second listener
 * whose queue is full, so that the kernel counts every record as dropped. */
#ifndef TASKSTATS_METER_H
#define TASKSTATS_METER_H

#include "sequence.h"
#include "socket.h"

struct ts_meter {
    int fd;                    /* -1: not open, or not any more */
    struct ts_counter counted; /* exits */
};

/* Opens it, its queue full, registered for nothing yet and not started. */
int ts_meter_open(struct ts_meter *meter, const struct ts_endpoint *endpoint, uint16_t family);
/* Counts from now on. */
int ts_meter_start(struct ts_meter *meter);
/* Brings `counted` up to date. Returns whether it has changed, or -errno. */
int ts_meter_read(struct ts_meter *meter);
/* Ends it; `counted` stays. */
void ts_meter_close(struct ts_meter *meter);

#endif
