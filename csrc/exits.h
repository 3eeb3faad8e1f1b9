/* The state of a listener, shared by what opens it (exits.c) and what reads it
 * (drain.c).
 *
 * Two locks: `consumer` is held for a whole drain, waiting included; `state`
 * only while sockets are read or changed, so that stop and stats never wait for
 * an exit. Taken in that order. With a buffer, the thread of drainer.c does the draining. */
#ifndef TASKSTATS_EXITS_H
#define TASKSTATS_EXITS_H

#include <pthread.h>
#include <stdatomic.h>

#include "meter.h"
#include "probe.h"
#include "receive.h"
#include "sequence.h"
#include "settle.h"

/* Marks in the epoll set of what is no CPU's socket. */
#define WAKE UINT32_MAX        /* the eventfd */
#define LOOK (UINT32_MAX - 1u) /* the timer */

struct cpu_socket {
    int fd;
    uint32_t port;
    struct ts_counter drops; /* what could not be queued */
    uint32_t to_tell;        /* of that, not yet told: the next record's lost_before */
    uint64_t taken;          /* records taken off the queue, readable or not */
    struct ts_sequence sequence;
    uint64_t most_unexplained; /* so far: a number that came late is no longer missing */
    struct ts_meter meter;     /* of a listener with a filter */
    struct ts_cpu_stats stats;
};

struct ts_exits {
    struct ts_endpoint endpoint;
    uint32_t owner; /* ts_process of who opened it */
    pthread_mutex_t consumer;
    pthread_mutex_t state;
    uint16_t family;
    int has_filter;
    int epoll;
    int event;
    int had_probe;              /* from the opening on, also after the close */
    struct ts_probe *probe;     /* the caller's; NULL if there is none, and after the close */
    struct ts_settler *settler; /* likewise; with `state` locked */
    struct ts_probe_stats probe_stats; /* as last counted; with `state` locked */
    int timer;          /* when to look into the ring, whatever the sockets bring; */
    int64_t look_ns;    /* it is set to this moment */
    atomic_int stopped; /* these two change under `state`, */
    atomic_int closed;  /* and are read without */
    int ready; /* with a drainer: an eventfd, readable while parcels wait or after a stop */
    int hurry; /* the last drain left records behind, */
    uint32_t filled;    /* full at this socket: the next one starts after it */
    int flowing;        /* the last drain brought many records, */
    int64_t drained_ns; /* and began then */
    int failure;        /* a request that the kernel refused, not yet told */
    uint64_t wakeups;
    uint32_t row_end;      /* where rows begin that records were received into already */
    struct ts_shape shape; /* by which the receiver cuts */
    struct ts_shape next_shape;
    int reshape; /* cut the next ones by that */
    struct ts_receiver receiver;
    struct ts_drainer *drainer;          /* NULL without a buffer, and after the close */
    struct ts_buffer_stats buffer_stats; /* as of the close */
    uint32_t n;
    struct cpu_socket cpus[];
};

/* Whether this is a child of the process that opened it. */
int ts_exits_inherited(const struct ts_exits *exits);

/* Waits and drains: ts_exits_drain without a buffer. With `consumer` locked; where there is a
 * drainer, its thread alone calls it, without that lock. */
int ts_exits_read(struct ts_exits *exits, int64_t latency_ns, int64_t deadline_ns,
                  struct ts_sink *sink);

/* Reads the counters of a CPU's sockets into its stats. With `state` locked. */
void ts_exits_count(const struct ts_exits *exits, struct cpu_socket *cpu);

#endif
