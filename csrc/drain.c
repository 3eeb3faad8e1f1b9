/* Reads the exit stream: waits, lets records gather, drains the sockets, counts losses. */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>

#include "drainer.h"
#include "exits.h"

#define EVENTS 64 /* ready sockets an epoll_wait */

/* ns between looks at the queues. */
#define LOOK_EVERY 20000000

/* From so many records a latency on, it is cheaper to look than to be woken. */
#define FLOWING 8

/* ns between looks into the ring: while rows are held, and while none are. */
#define LOOK_WHILE_HELD 1000000
#define LOOK_AT_LEAST_EVERY 100000000

/* The longest that one epoll_wait takes, in milliseconds. */
#define LONGEST_WAIT 1000

/* ---- counting ---- */

/* A gap in the sequence numbers shows where records were lost. How many were lost, the
 * socket's drop counter says. With a filter there are gaps everywhere: see `tell_later`. */
static void follow(const struct ts_exits *exits, struct cpu_socket *cpu, uint32_t seq)
{
    cpu->taken++;
    if (exits->has_filter)
        return;
    if (!ts_sequence_expects(&cpu->sequence, seq))
        ts_exits_count(exits, cpu);
    cpu->to_tell += ts_sequence_follow(&cpu->sequence, seq, cpu->stats.lost);
    cpu->stats.unexplained = ts_sequence_unexplained(&cpu->sequence);
}

/* With a filter, a loss is reported with the first record that certainly comes after it:
 * with the first one after the queue was seen empty. */
static void tell_later(const struct ts_exits *exits, struct cpu_socket *cpu)
{
    ts_exits_count(exits, cpu);
    if (cpu->stats.queued)
        return;
    cpu->to_tell += (uint32_t)(cpu->stats.lost - cpu->sequence.placed);
    cpu->sequence.placed = cpu->stats.lost;
}

/* ---- draining ---- */

/* Completes the rows that a datagram has brought: those from `task` and `group` on. */
static void finish(struct cpu_socket *cpu, uint64_t now, struct ts_sink *sink, uint32_t task,
                   uint32_t group)
{
    for (; group < sink->n_groups; group++) {
        sink->groups[group].cpu = (uint16_t)cpu->stats.cpu;
        sink->groups[group].received_ns = now;
    }
    for (; task < sink->n_tasks; task++) {
        struct ts_record *row = &sink->tasks[task];
        row->cpu = (uint16_t)cpu->stats.cpu;
        row->received_ns = now;
        row->lost_before = cpu->to_tell;
        if (cpu->to_tell)
            row->flags |= TS_LOST_BEFORE;
        cpu->to_tell = 0;
        cpu->stats.received++;
    }
}

static void take_message(struct ts_exits *exits, struct cpu_socket *cpu,
                         const struct nl_message *message, uint64_t now, struct ts_sink *sink)
{
    uint32_t task = sink->n_tasks;
    uint32_t group = sink->n_groups;

    if (message->type == NLMSG_ERROR) { /* a refused request */
        if (message->error < 0)
            exits->failure = message->error;
        return;
    }
    if (message->type != exits->family || message->port != 0) {
        cpu->stats.refused[TS_UNEXPECTED]++; /* a reply, and nobody asked */
        return;
    }
    follow(exits, cpu, message->seq);
    if (task == exits->row_end)
        cpu->stats.refused[TS_ROOM]++;
    else if (ts_decode_message(message, sink) < 0)
        cpu->stats.refused[sink->reason]++;
    else
        finish(cpu, now, sink, task, group);
}

/* Counts a datagram that cannot be read. If its sequence number can be read, it is taken
 * as seen: this record is refused, not lost. */
static void refuse(struct ts_exits *exits, struct cpu_socket *cpu, const uint8_t *at,
                   size_t left, enum ts_reason reason)
{
    struct nlmsghdr header;

    cpu->stats.refused[reason]++;
    if (reason == TS_FOREIGN || left < sizeof(header))
        return;
    memcpy(&header, at, sizeof(header));
    if (header.nlmsg_type == exits->family && header.nlmsg_pid == 0)
        follow(exits, cpu, header.nlmsg_seq);
}

/* Takes a datagram of another shape than the last one: an error, a damaged datagram, the
 * first record of all. The next system call cuts datagrams into the shape of this one. */
static void take_whole(struct ts_exits *exits, struct cpu_socket *cpu,
                       const struct ts_datagram *datagram, enum ts_reason reason, uint64_t now,
                       struct ts_sink *sink)
{
    const uint8_t *whole = ts_receiver_whole(&exits->receiver, datagram);
    const uint8_t *at = whole;
    size_t left = datagram->size;
    uint32_t task = sink->n_tasks;
    struct nl_message message;
    int more = reason == TS_ACCEPTED ? 1 : -EBADMSG;

    while (more == 1 && (more = nl_message_next(&at, &left, &message, &reason)) == 1)
        take_message(exits, cpu, &message, now, sink);
    if (more < 0)
        refuse(exits, cpu, at, left, reason);
    else if (sink->n_tasks > task)
        exits->reshape = ts_shape_learn(&exits->next_shape, whole, datagram->size);
}

static void take_datagram(struct ts_exits *exits, struct cpu_socket *cpu, unsigned i,
                          uint64_t now, struct ts_sink *sink)
{
    uint32_t task = sink->n_tasks;
    uint32_t group = sink->n_groups;
    struct ts_datagram datagram;
    enum ts_reason reason =
        ts_receiver_datagram(&exits->receiver, i, exits->endpoint.port, &datagram);

    if (reason == TS_ACCEPTED && datagram.row &&
        ts_decode_cut(&exits->shape, &datagram, sink) > 0) {
        follow(exits, cpu, sink->tasks[task].seq);
        finish(cpu, now, sink, task, group);
    } else {
        take_whole(exits, cpu, &datagram, reason, now, sink);
    }
}

/* Takes the datagrams of one system call. Returns how many there were, or -errno. recvmmsg
 * has already written datagrams of the known shape to the sink's next rows, one row each:
 * so a datagram may bring one task at most. (The kernel puts one message into each.) */
static int drain_vector(struct ts_exits *exits, struct cpu_socket *cpu, unsigned want,
                        uint64_t now, struct ts_sink *sink)
{
    uint32_t first = sink->n_tasks;
    int n = ts_receiver_take(&exits->receiver, cpu->fd, want, &sink->tasks[first]);

    exits->reshape = 0;
    for (int i = 0; i < n; i++) {
        exits->row_end = first + (uint32_t)i + 1;
        take_datagram(exits, cpu, (unsigned)i, now, sink);
    }
    if (exits->reshape) {
        exits->shape = exits->next_shape;
        ts_receiver_cut(&exits->receiver, &exits->shape);
    }
    return n;
}

/* Reads one socket until it is empty or the sink is full. */
static int drain_cpu(struct ts_exits *exits, struct cpu_socket *cpu, uint64_t now,
                     struct ts_sink *sink)
{
    unsigned want;
    int n;

    if (sink->n_tasks < sink->capacity)
        cpu->stats.wakeups++;
    do {
        uint32_t room = sink->capacity - sink->n_tasks;

        want = room < TS_SLOTS ? room : TS_SLOTS;
        if (want == 0) {
            if (!exits->hurry)
                exits->filled = (uint32_t)(cpu - exits->cpus);
            exits->hurry = 1;
            return 0;
        }
        n = drain_vector(exits, cpu, want, now, sink);
    } while (n == (int)want);
    if (exits->has_filter)
        tell_later(exits, cpu);
    return n < 0 && n != -EAGAIN ? n : 0;
}

static uint64_t realtime(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* Reads the sockets that come after the one that filled the sink last time, or those up to
 * it. So a busy CPU does not keep the others from being read. */
static int drain_events(struct ts_exits *exits, const struct epoll_event *events, int n,
                        int after, uint64_t now, struct ts_sink *sink)
{
    int rc = 0;

    for (int i = 0; rc == 0 && i < n; i++) {
        uint32_t mark = events[i].data.u32;
        if (mark < LOOK && (mark > exits->filled) == after)
            rc = drain_cpu(exits, &exits->cpus[mark], now, sink);
    }
    return rc;
}

/* Reads the sockets that are ready; after a stop all of them, until they are empty. */
static int drain_ready(struct ts_exits *exits, struct ts_sink *sink)
{
    struct epoll_event events[EVENTS];
    uint64_t now = realtime();
    int rc = 0;
    int n;

    exits->hurry = 0;
    exits->wakeups++;
    if (exits->stopped) {
        for (uint32_t i = 0; rc == 0 && i < exits->n; i++)
            rc = drain_cpu(exits, &exits->cpus[i], now, sink);
        return rc;
    }
    do {
        uint32_t filled = exits->filled;
        n = epoll_wait(exits->epoll, events, EVENTS, 0);
        rc = drain_events(exits, events, n, 1, now, sink);
        if (rc == 0 && exits->filled == filled)
            rc = drain_events(exits, events, n, 0, now, sink);
    } while (rc == 0 && n == EVENTS && !exits->hurry); /* those read are no longer ready */
    return rc;
}

/* ---- settling ---- */

static uint32_t held(const struct ts_exits *exits)
{
    return exits->settler ? ts_settler_held(exits->settler) : 0;
}

/* Sets the timer, so that the ring is read even if no record comes. */
static void look_later(struct ts_exits *exits, int64_t now)
{
    int64_t wait = held(exits) ? LOOK_WHILE_HELD : LOOK_AT_LEAST_EVERY;
    struct itimerspec time = {.it_value = {.tv_nsec = wait}};

    if (exits->look_ns > now && exits->look_ns <= now + wait)
        return;
    exits->look_ns = now + wait;
    timerfd_settime(exits->timer, 0, &time, NULL);
}

/* Records that were sent and are no rows: lost, or not to be read. It never falls. */
static uint64_t unheard(struct ts_exits *exits)
{
    uint64_t n = 0;

    for (uint32_t i = 0; i < exits->n; i++) {
        struct cpu_socket *cpu = &exits->cpus[i];
        const struct ts_cpu_stats *stats = &cpu->stats;
        ts_exits_count(exits, cpu);
        if (stats->unexplained > cpu->most_unexplained)
            cpu->most_unexplained = stats->unexplained;
        n += stats->lost + cpu->most_unexplained;
        for (unsigned reason = 0; reason < TS_REASONS; reason++)
            n += stats->refused[reason];
    }
    return n;
}

/* Reads the ring, the sockets, and the ring again. The first reading may settle what is
 * held, which is then handed out before the new rows, and these need not be copied. */
static int drain_with_probe(struct ts_exits *exits, struct ts_sink *sink, int64_t now)
{
    struct ts_settler *settler = exits->settler;
    struct ts_ring *ring = &exits->probe->ring;
    uint32_t capacity = sink->capacity;
    uint32_t task, group;
    int rc;

    ts_settler_begin(settler, now);
    ts_settler_read(settler, ring, sink);
    ts_settler_release(settler, sink, now);
    task = sink->n_tasks;
    group = sink->n_groups;
    if (capacity - task > ts_settler_room(settler))
        sink->capacity = task + ts_settler_room(settler);
    rc = drain_ready(exits, sink);
    sink->capacity = capacity;
    ts_settler_read(settler, ring, sink);
    now = ts_now(); /* no row was read later */
    ts_settler_count_lost(settler, ts_probe_lost(exits->probe, TS_EVENT_END), now);
    sink->births_lost = ts_probe_lost(exits->probe, TS_EVENT_BIRTH);
    ts_settler_take(settler, sink, task, group, rc == 0 && !exits->hurry, now);
    if (rc == 0 && !exits->hurry && ts_settler_is_in_doubt(settler)) {
        uint64_t missing = unheard(exits); /* counted before the clock is read */
        ts_settler_resolve(settler, missing, ts_now());
    }
    ts_settler_release(settler, sink, now);
    if (ts_settler_is_full(settler))
        exits->hurry = 1;
    look_later(exits, now);
    return rc;
}

/* ---- waiting ---- */

/* The timeout for epoll_wait: not before the deadline, but LONGEST_WAIT at most. */
static int milliseconds_until(int64_t deadline_ns)
{
    int64_t left;

    if (deadline_ns < 0)
        return LONGEST_WAIT;
    left = (deadline_ns - ts_now() + 999999) / 1000000;
    return left <= 0 ? 0 : left > LONGEST_WAIT ? LONGEST_WAIT : (int)left;
}

/* Whether the listener has been stopped or closed, or a queue is over a quarter full: then
 * there is no time to let more records gather. */
static int is_pressed(struct ts_exits *exits)
{
    struct epoll_event events[EVENTS];
    int n = epoll_wait(exits->epoll, events, EVENTS, 0);
    int pressed;

    pthread_mutex_lock(&exits->state);
    pressed = exits->closed || exits->stopped;
    for (int i = 0; !pressed && i < n; i++) {
        struct cpu_socket *cpu;
        if (events[i].data.u32 >= LOOK)
            continue;
        cpu = &exits->cpus[events[i].data.u32];
        ts_exits_count(exits, cpu);
        pressed = cpu->stats.queued > cpu->stats.rcvbuf / 4;
    }
    pthread_mutex_unlock(&exits->state);
    return pressed;
}

/* Lets records gather, until then, or a signal, or there is no time for it. Waits on the
 * eventfd alone, since the epoll set is ready already, and looks at the queues every 20 ms. */
static void gather(struct ts_exits *exits, int64_t until_ns)
{
    struct pollfd wake = {.fd = exits->event, .events = POLLIN};
    int64_t left;

    while ((left = until_ns - ts_now()) > 0) {
        int64_t nap = left < LOOK_EVERY ? left : LOOK_EVERY;
        struct timespec time = {.tv_sec = nap / 1000000000, .tv_nsec = nap % 1000000000};
        int n = ppoll(&wake, 1, &time, NULL);

        if (n != 0 || (left > nap && is_pressed(exits)))
            return;
    }
}

static int64_t sooner(int64_t time_ns, int64_t deadline_ns)
{
    return deadline_ns < 0 || time_ns < deadline_ns ? time_ns : deadline_ns;
}

/* After a stop, only the ends of held rows are waited for. */
static void wait_for_ends(void)
{
    struct timespec time = {.tv_nsec = LOOK_WHILE_HELD / 2};

    nanosleep(&time, NULL);
}

/* Waits. Returns
 * - 1 when there may be something to read;
 * - 0 at the deadline;
 * - -EINTR after a signal, or LONGEST_WAIT. A signal while records gather ends that early
 *   and returns 1;
 * - without waiting (deadline 0): -EAGAIN if records may gather, -EINPROGRESS if rows are
 *   held.
 *
 * While many records come, nothing has to wake this: it looks once every latency. */
static int wait_for_exits(struct ts_exits *exits, int64_t latency_ns, int64_t deadline_ns)
{
    int64_t until = exits->drained_ns + latency_ns;
    int64_t end = deadline_ns; /* of waiting: not before what is held is handed out */
    struct epoll_event events[2];
    int n;

    if (exits->hurry || exits->failure)
        return 1;
    if (exits->stopped) {
        if (held(exits) && deadline_ns)
            wait_for_ends();
        return 1;
    }
    if (held(exits) && deadline_ns > 0 && end < ts_settler_due(exits->settler))
        end = ts_settler_due(exits->settler);
    if (!exits->flowing || latency_ns == 0 || deadline_ns == 0) {
        n = epoll_wait(exits->epoll, events, 2, milliseconds_until(end));
        if (n < 0)
            return -errno;
        if (n == 0 && (end < 0 || ts_now() < end))
            return -EINTR;
        if (n == 0)
            return held(exits) ? deadline_ns ? 1 : -EINPROGRESS : 0;
        if (n == 1 && events[0].data.u32 == LOOK)
            return 1; /* there is nothing that may gather */
        if (latency_ns == 0 || is_pressed(exits))
            return 1;
        if (deadline_ns == 0)
            return -EAGAIN;
        until = ts_now() + latency_ns;
    }
    gather(exits, sooner(until, deadline_ns));
    return 1;
}

/* What the drain returns. The error of a refused request comes after all records that were
 * read before it. */
static int outcome(struct ts_exits *exits, uint32_t rows)
{
    int failure = exits->failure;

    if (rows)
        return (int)rows;
    exits->failure = 0;
    return failure ? failure : exits->stopped && !held(exits) ? -ESHUTDOWN : 0;
}

/* The time now if no socket has anything to read, else 0. */
static int64_t look_empty(const struct ts_exits *exits)
{
    int64_t now = ts_now();
    struct epoll_event event;

    return epoll_wait(exits->epoll, &event, 1, 0) == 0 ? now : 0;
}

/* Waits once, and reads once. If that brought nothing it returns -EINTR, so that the caller
 * can handle a signal that came while this did not wait. */
int ts_exits_read(struct ts_exits *exits, int64_t latency_ns, int64_t deadline_ns,
                  struct ts_sink *sink)
{
    uint32_t before = sink->n_tasks;
    int rc;

    if (before == sink->capacity)
        return -ENOSPC;
    sink->emptied_ns = 0;
    rc = wait_for_exits(exits, latency_ns, deadline_ns);
    if (rc == 0)
        sink->emptied_ns = look_empty(exits);
    if (rc <= 0)
        return rc;
    pthread_mutex_lock(&exits->state);
    exits->drained_ns = ts_now();
    if (exits->closed)
        rc = -EBADF;
    else if (exits->probe)
        rc = drain_with_probe(exits, sink, exits->drained_ns);
    else
        rc = drain_ready(exits, sink);
    exits->flowing = sink->n_tasks - before >= FLOWING;
    sink->emptied_ns = rc == 0 && !exits->hurry && !held(exits) ? exits->drained_ns : 0;
    if (rc == 0)
        rc = outcome(exits, sink->n_tasks - before);
    pthread_mutex_unlock(&exits->state);
    if ((rc == 0 || rc == -ESHUTDOWN) && exits->settler && ts_settler_is_full(exits->settler))
        return 0; /* the caller has to make room, also at the end */
    if (rc == 0 && deadline_ns == 0)
        return held(exits) ? -EINPROGRESS : 0;
    return rc == 0 ? -EINTR : rc;
}

int ts_exits_drain(struct ts_exits *exits, int64_t latency_ns, int64_t deadline_ns,
                   struct ts_sink *sink)
{
    int rc;

    if (ts_exits_inherited(exits))
        return -EOWNERDEAD;
    if (pthread_mutex_trylock(&exits->consumer)) {
        if (!exits->stopped)
            return -EBUSY;
        pthread_mutex_lock(&exits->consumer); /* nobody waits for exits any more */
    }
    if (exits->drainer)
        rc = ts_drainer_take(exits, latency_ns, deadline_ns, sink);
    else
        rc = ts_exits_read(exits, latency_ns, deadline_ns, sink);
    pthread_mutex_unlock(&exits->consumer);
    return rc;
}
