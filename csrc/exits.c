/* The exit stream's beginning and end: open and register, count, stop, close. */
#include "exits.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "abi.h"
#include "drainer.h"
#include "filter.h"
#include "peer.h"
#include "process.h"

/* Numbers of the requests on a listener's sockets. */
enum { SEQ_REGISTER = 1001, SEQ_DEREGISTER = 1002 };

/* Between two exits of a busy CPU there are some 20 us, and a try takes 5. */
#define MOST_TRIES 1000

int ts_exits_inherited(const struct ts_exits *exits)
{
    return exits->owner != ts_process();
}

/* ---- count ---- */

/* The socket counts what the kernel could not queue, a peer itself what it could not. */
static int count_drops(const struct ts_exits *exits, struct cpu_socket *cpu, uint32_t *drops)
{
    int rc = ts_socket_counters(cpu->fd, drops, &cpu->stats.queued);

    *drops += ts_peer_dropped(&exits->endpoint, cpu->port);
    return rc;
}

static int start_drops(const struct ts_exits *exits, struct cpu_socket *cpu)
{
    uint32_t drops;
    int rc = count_drops(exits, cpu, &drops);

    if (rc == 0)
        ts_counter_start(&cpu->drops, drops);
    return rc;
}

static void read_drops(const struct ts_exits *exits, struct cpu_socket *cpu)
{
    uint32_t drops;

    if (count_drops(exits, cpu, &drops) < 0)
        return;
    ts_counter_follow(&cpu->drops, drops);
    cpu->stats.lost = cpu->drops.total;
}

/* What the filter kept out is the difference, if the queue was empty after the
 * meter was read. The socket is the first to be offered a record, the meter the
 * second: one on its way may be missing from the difference, never be too much. */
void ts_exits_count(const struct ts_exits *exits, struct cpu_socket *cpu)
{
    ts_meter_read(&cpu->meter);
    read_drops(exits, cpu);
    if (exits->has_filter && cpu->stats.queued == 0) {
        uint64_t offered = cpu->meter.counted.total;
        uint64_t heard = cpu->taken + cpu->stats.lost;
        if (offered > heard && offered - heard > cpu->stats.filtered)
            cpu->stats.filtered = offered - heard;
    }
}

/* ---- open ---- */

static int send_request(const struct ts_exits *exits, int fd, uint32_t cpu, uint16_t attribute)
{
    char list[8];
    int length = snprintf(list, sizeof(list), "%u", cpu);
    struct nl_request request = {
        .family = exits->family,
        .command = TS_CMD_GET,
        .attribute = attribute,
        .value = list,
        .size = (size_t)length + 1,
    };

    return ts_socket_send(fd, &exits->endpoint, &request,
                          attribute == TS_ATTR_REGISTER ? SEQ_REGISTER : SEQ_DEREGISTER);
}

static int watch(struct ts_exits *exits, int fd, uint32_t mark)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = mark};

    return epoll_ctl(exits->epoll, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static int open_filter(struct ts_exits *exits, struct cpu_socket *cpu,
                       const struct ts_wanted *wanted, struct ts_opened *opened)
{
    int rc;

    if (!wanted->filter)
        return 0;
    opened->step = TS_STEP_FILTER;
    rc = ts_filter_attach(cpu->fd, wanted->filter, wanted->n_filter);
    if (rc == 0 && exits->endpoint.synchronous)
        return ts_meter_open(&cpu->meter, &exits->endpoint, exits->family);
    if (rc == 0 && exits->endpoint.sent) {
        ts_meter_ask(&cpu->meter, &exits->endpoint, cpu->port);
        return ts_meter_start(&cpu->meter);
    }
    return rc;
}

static int open_cpu(struct ts_exits *exits, uint32_t i, const struct ts_wanted *wanted,
                    struct ts_opened *opened)
{
    struct cpu_socket *cpu = &exits->cpus[i];
    int rc = ts_socket_open(&exits->endpoint, wanted->rcvbuf, opened);

    if (rc < 0)
        return rc;
    cpu->fd = rc;
    cpu->port = opened->port;
    cpu->stats.rcvbuf = opened->rcvbuf;
    rc = 0;
    if (i == 0)
        rc = ts_socket_family(cpu->fd, &exits->endpoint, opened);
    exits->family = (uint16_t)opened->family;
    if (rc == 0) {
        opened->step = TS_STEP_CLEAN;
        rc = ts_socket_clean(cpu->fd, &exits->endpoint, exits->family);
    }
    if (rc == 0)
        rc = start_drops(exits, cpu);
    if (rc == 0)
        rc = open_filter(exits, cpu, wanted, opened);
    if (rc == 0) {
        opened->step = TS_STEP_EPOLL;
        rc = watch(exits, cpu->fd, i);
    }
    return rc;
}

/* Registers the meter and then the socket, at a moment when nothing exits between
 * the two: what one counts the other is offered. The kernel changes a CPU's
 * listeners only while no record is on its way to them
 * (kernel/taskstats.c:add_del_listener), so that after each request all have
 * arrived that were on their way. */
static int register_metered(struct ts_exits *exits, struct cpu_socket *cpu)
{
    uint32_t number = cpu->stats.cpu;
    int rc = send_request(exits, cpu->meter.fd, number, TS_ATTR_REGISTER);

    for (int i = 0; rc == 0 && i < MOST_TRIES; i++) {
        rc = start_drops(exits, cpu);
        if (rc == 0)
            rc = ts_meter_start(&cpu->meter);
        if (rc == 0)
            rc = send_request(exits, cpu->fd, number, TS_ATTR_REGISTER);
        if (rc == 0)
            rc = ts_meter_read(&cpu->meter);
        if (rc <= 0)
            return rc;
        rc = send_request(exits, cpu->fd, number, TS_ATTR_DEREGISTER);
        ts_socket_empty(cpu->fd);
    }
    return rc < 0 ? rc : -EBUSY;
}

/* No ACK is asked for: it could be dropped and then be counted as a record. On the
 * kernel, send's return is completion; a refusal comes all the same, to the drain. */
static int register_cpu(struct ts_exits *exits, struct cpu_socket *cpu)
{
    if (cpu->meter.fd >= 0)
        return register_metered(exits, cpu);
    return send_request(exits, cpu->fd, cpu->stats.cpu, TS_ATTR_REGISTER);
}

/* The probe is open already: it must see the end of whatever is heard. */
static int open_settler(struct ts_exits *exits, const struct ts_wanted *wanted)
{
    /* The ring is read though no record ever comes; from then on the drain sets the timer. */
    static const struct itimerspec at_once = {.it_value = {.tv_nsec = 1}};
    uint32_t last_cpu = 0;

    if (!wanted->probe)
        return 0;
    if (wanted->probe->owner != exits->owner)
        return -EOWNERDEAD;
    for (uint32_t i = 0; i < wanted->n_cpus; i++)
        if (wanted->cpus[i] > last_cpu)
            last_cpu = wanted->cpus[i];
    exits->settler =
        ts_settler_new(wanted->settle_ns, last_cpu, ts_probe_most_ends(wanted->probe));
    if (!exits->settler)
        return -ENOMEM;
    ts_settler_use_clock(exits->settler, wanted->probe->now);
    exits->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (exits->timer < 0 || timerfd_settime(exits->timer, 0, &at_once, NULL) < 0)
        return -errno;
    return watch(exits, exits->timer, LOOK);
}

static int open_all(struct ts_exits *exits, const struct ts_wanted *wanted,
                    struct ts_opened *opened)
{
    int rc = 0;

    opened->step = TS_STEP_EPOLL;
    exits->epoll = epoll_create1(EPOLL_CLOEXEC);
    exits->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (exits->epoll < 0 || exits->event < 0)
        return -errno;
    rc = watch(exits, exits->event, WAKE);
    if (rc == 0)
        rc = open_settler(exits, wanted);
    for (uint32_t i = 0; rc == 0 && i < exits->n; i++)
        rc = open_cpu(exits, i, wanted, opened);
    /* All at once, so that every CPU is heard from about the same moment. */
    for (uint32_t i = 0; rc == 0 && i < exits->n; i++) {
        opened->step = TS_STEP_REGISTER;
        rc = register_cpu(exits, &exits->cpus[i]);
    }
    if (exits->settler && wanted->all_cpus && !exits->has_filter && exits->endpoint.synchronous)
        ts_settler_hear_all(exits->settler, ts_now());
    opened->fileno = exits->epoll;
    opened->wake = exits->event;
    if (rc == 0 && wanted->buffer) {
        opened->step = TS_STEP_THREAD;
        rc = ts_drainer_start(exits, wanted);
        opened->fileno = opened->wake = exits->ready;
    }
    return rc;
}

int ts_exits_open(const struct ts_endpoint *endpoint, const struct ts_wanted *wanted,
                  struct ts_exits **exits, struct ts_opened *opened)
{
    uint32_t n = wanted->n_cpus;
    size_t size = sizeof(struct ts_exits) + n * sizeof(struct cpu_socket);
    struct ts_exits *made = ts_alloc(size);
    int rc;

    if (!made)
        return -ENOMEM;
    memset(made, 0, size);
    made->endpoint = *endpoint;
    made->owner = ts_process();
    made->has_filter = wanted->filter != NULL;
    made->epoll = made->event = made->timer = made->ready = -1;
    made->probe = wanted->probe;
    made->had_probe = wanted->probe != NULL;
    made->n = n;
    for (uint32_t i = 0; i < n; i++) {
        made->cpus[i].fd = made->cpus[i].meter.fd = -1;
        made->cpus[i].stats.cpu = wanted->cpus[i];
    }
    pthread_mutex_init(&made->consumer, NULL);
    if (wanted->buffer)
        ts_drainer_init_lock(&made->state);
    else
        pthread_mutex_init(&made->state, NULL);
    ts_receiver_prepare(&made->receiver);
    rc = open_all(made, wanted, opened);
    made->endpoint.cpus = NULL; /* the caller's, and not needed again */
    if (rc < 0) {
        ts_exits_close(made);
        ts_free(made);
        return rc;
    }
    *exits = made;
    return 0;
}

/* ---- stats ---- */

int ts_exits_stats(struct ts_exits *exits, struct ts_cpu_stats *cpus, uint64_t *wakeups)
{
    if (ts_exits_inherited(exits))
        return -EOWNERDEAD;
    pthread_mutex_lock(&exits->state);
    for (uint32_t i = 0; i < exits->n; i++) {
        if (!exits->closed)
            ts_exits_count(exits, &exits->cpus[i]);
        cpus[i] = exits->cpus[i].stats;
    }
    *wakeups = exits->wakeups;
    pthread_mutex_unlock(&exits->state);
    return (int)exits->n;
}

/* With the state locked. */
static void count_probe(struct ts_exits *exits)
{
    struct ts_probe_stats *stats = &exits->probe_stats;

    if (!exits->probe)
        return;
    ts_settler_count(exits->settler, stats);
    stats->ends_lost = ts_probe_lost(exits->probe, TS_EVENT_END);
    stats->births_lost = ts_probe_lost(exits->probe, TS_EVENT_BIRTH);
    stats->changes_lost = ts_probe_lost(exits->probe, TS_EVENT_CGROUP);
    stats->damaged = (uint64_t)exits->probe->ring.damaged;
}

int ts_exits_probe_stats(struct ts_exits *exits, struct ts_probe_stats *stats)
{
    if (ts_exits_inherited(exits))
        return -EOWNERDEAD;
    if (!exits->had_probe)
        return -EOPNOTSUPP;
    pthread_mutex_lock(&exits->state);
    count_probe(exits);
    *stats = exits->probe_stats;
    pthread_mutex_unlock(&exits->state);
    return 0;
}

int ts_exits_buffer_stats(struct ts_exits *exits, struct ts_buffer_stats *stats)
{
    if (ts_exits_inherited(exits))
        return -EOWNERDEAD;
    pthread_mutex_lock(&exits->state);
    if (exits->drainer)
        ts_drainer_count(exits, &exits->buffer_stats);
    *stats = exits->buffer_stats;
    pthread_mutex_unlock(&exits->state);
    return stats->bytes ? 0 : -EOPNOTSUPP;
}

/* ---- stop, close ---- */

/* Asked on a socket of its own: a refusal on a full queue would be dropped, and
 * counted as a record. Without CAP_NET_ADMIN even the question is refused. A peer does
 * what it is asked some time after send has returned: nothing must come until then. */
static int may_deregister(const struct ts_exits *exits)
{
    static const uint32_t nobody = 0;
    struct nl_request request = {
        .family = exits->family,
        .command = TS_CMD_GET,
        .attribute = TS_ATTR_PID,
        .value = &nobody,
        .size = sizeof(nobody),
    };
    uint8_t slot[TS_REPLY_SIZE];
    struct nl_message reply;
    struct ts_opened opened;
    int fd;
    int rc;

    if (!exits->endpoint.synchronous)
        return 0;
    fd = ts_socket_open(&exits->endpoint, 64 << 10, &opened);
    if (fd < 0)
        return 0;
    rc = ts_socket_request(fd, &exits->endpoint, &request, slot, &reply);
    close(fd);
    return rc != -EPERM;
}

/* No ACK is asked for: on a full queue it would be dropped, and counted as a record.
 * On the kernel, send's return is completion. Where it may be refused, or that could
 * not be asked, nothing more is let in first, no refusal either; if it is refused,
 * the registration ends when the socket is closed. */
static void end_registration(const struct ts_exits *exits, int fd, uint32_t cpu, int may)
{
    if (!may)
        ts_filter_shut(fd);
    if (send_request(exits, fd, cpu, TS_ATTR_DEREGISTER) < 0)
        ts_filter_shut(fd);
}

/* The socket and its meter end at one moment if nothing comes to the socket's queue
 * from the moment when the meter was read: then that is the end. Else the meter is
 * read again, and an exit in between may be counted as filtered. */
static void end_metered(const struct ts_exits *exits, struct cpu_socket *cpu, int may)
{
    uint64_t lost;
    uint32_t queued;

    read_drops(exits, cpu);
    lost = cpu->stats.lost;
    queued = cpu->stats.queued;
    ts_meter_read(&cpu->meter);
    end_registration(exits, cpu->fd, cpu->stats.cpu, may);
    read_drops(exits, cpu);
    if (cpu->stats.lost != lost || cpu->stats.queued != queued)
        ts_meter_read(&cpu->meter);
    send_request(exits, cpu->meter.fd, cpu->stats.cpu, TS_ATTR_DEREGISTER);
    ts_meter_close(&cpu->meter);
}

/* With the state locked. */
static void deregister(struct ts_exits *exits)
{
    uint64_t one = 1;
    int may = may_deregister(exits);

    if (exits->settler)
        ts_settler_hear_no_more(exits->settler, ts_now());
    for (uint32_t i = 0; i < exits->n; i++) {
        struct cpu_socket *cpu = &exits->cpus[i];
        if (cpu->meter.fd >= 0)
            end_metered(exits, cpu, may);
        else if (cpu->fd >= 0)
            end_registration(exits, cpu->fd, cpu->stats.cpu, may);
        ts_meter_read(&cpu->meter); /* a peer's */
        ts_meter_close(&cpu->meter);
    }
    exits->stopped = 1; /* before the eventfd: what it wakes looks at that */
    if (exits->event >= 0)
        (void)!write(exits->event, &one, sizeof(one)); /* the first of 2^64 - 2 it takes */
    if (exits->drainer)
        ts_drainer_stopped(exits);
}

int ts_exits_stop(struct ts_exits *exits)
{
    if (ts_exits_inherited(exits))
        return -EOWNERDEAD;
    pthread_mutex_lock(&exits->state);
    if (!exits->stopped)
        deregister(exits);
    pthread_mutex_unlock(&exits->state);
    return 0;
}

/* A listener's own sockets go out of the epoll set first: a child of fork may
 * hold them open, and an open socket in the set keeps waking. In the child, to
 * change the set would change the parent's. */
static void close_all(struct ts_exits *exits)
{
    for (uint32_t i = 0; i < exits->n; i++) {
        struct cpu_socket *cpu = &exits->cpus[i];
        ts_meter_close(&cpu->meter);
        if (cpu->fd < 0)
            continue;
        if (!ts_exits_inherited(exits))
            epoll_ctl(exits->epoll, EPOLL_CTL_DEL, cpu->fd, NULL);
        close(cpu->fd);
        cpu->fd = -1;
    }
    if (exits->epoll >= 0)
        close(exits->epoll);
    if (exits->event >= 0)
        close(exits->event);
    if (exits->timer >= 0)
        close(exits->timer);
    if (exits->ready >= 0)
        close(exits->ready);
    exits->epoll = exits->event = exits->timer = exits->ready = -1;
    exits->closed = 1;
}

int ts_exits_close(struct ts_exits *exits)
{
    /* To deregister in a child of fork would end the parent's registration. */
    if (ts_exits_inherited(exits)) {
        close_all(exits);
        return 0;
    }
    ts_exits_stop(exits);
    pthread_mutex_lock(&exits->consumer); /* a drain that waited is on its way out */
    if (exits->drainer)
        ts_drainer_join(exits);
    pthread_mutex_lock(&exits->state);
    if (!exits->closed) {
        for (uint32_t i = 0; i < exits->n; i++)
            ts_exits_count(exits, &exits->cpus[i]);
        count_probe(exits);
        if (exits->drainer) {
            ts_drainer_count(exits, &exits->buffer_stats);
            ts_drainer_free(exits);
        }
        close_all(exits);
        ts_settler_free(exits->settler);
        exits->settler = NULL;
        exits->probe = NULL;
    }
    pthread_mutex_unlock(&exits->state);
    pthread_mutex_unlock(&exits->consumer);
    return 0;
}
