/* The exit stream: register, wait, drain, count what was lost, deregister.
 *
 * Two locks: `consumer` is held for a whole drain, waiting included; `state`
 * only while sockets are read or changed, so that stop and stats never wait for
 * an exit. Taken in that order. */
#include <errno.h>
#include <linux/netlink.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "abi.h"
#include "decode.h"
#include "socket.h"

#define SLOTS 64u       /* datagrams a recvmmsg */
#define EVENTS 64       /* ready sockets an epoll_wait */
#define WAKE UINT32_MAX /* the eventfd's mark in the epoll set */

/* A CPU's records overtake each other by a few. A jump beyond that, after which
 * the numbers go on as before, was a record of another CPU's stream. */
#define MOST_OVERTAKEN 64u

/* Numbers of the requests on a listener's sockets. */
enum { SEQ_REGISTER = 1001, SEQ_DEREGISTER = 1002 };

struct cpu_socket {
    int fd;
    uint32_t next_seq;   /* the number that the next record should have */
    uint32_t resume_seq; /* next_seq before the last jump, */
    uint32_t jumped;     /* and how many numbers that jump left unexplained */
    int started;         /* a record was seen, so next_seq means something */
    uint32_t drops;      /* the socket's counter when it was last read */
    uint64_t placed;     /* drops that a hole in the numbers has accounted for */
    uint32_t owed;       /* of those, not yet told: the next record's lost_before */
    struct ts_cpu_stats stats;
};

struct ts_exits {
    struct ts_endpoint endpoint;
    pthread_mutex_t consumer;
    pthread_mutex_t state;
    unsigned generation;
    uint16_t family;
    int epoll;
    int event;
    atomic_int stopped; /* these two change under `state`, */
    atomic_int closed;  /* and are read without */
    int hurry;          /* the last drain left records, or found a queue filling up */
    int failure;        /* a registration that the kernel refused: told once */
    uint64_t wakeups;
    struct mmsghdr messages[SLOTS];
    struct iovec vectors[SLOTS];
    struct sockaddr_nl sources[SLOTS];
    uint8_t slots[SLOTS][TS_SLOT];
    uint32_t n;
    struct cpu_socket cpus[];
};

/* ---- open ---- */

static int tell_cpu(struct ts_exits *exits, const struct cpu_socket *cpu, uint16_t attribute,
                    uint16_t flags, uint32_t seq)
{
    char list[8];
    int length = snprintf(list, sizeof(list), "%u", cpu->stats.cpu);
    struct nl_request request = {
        .family = exits->family,
        .flags = flags,
        .command = TS_CMD_GET,
        .attribute = attribute,
        .value = list,
        .size = (size_t)length + 1,
    };

    return ts_socket_tell(cpu->fd, &request, seq);
}

static int watch(struct ts_exits *exits, int fd, uint32_t mark)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = mark};

    return epoll_ctl(exits->epoll, EPOLL_CTL_ADD, fd, &event) < 0 ? -errno : 0;
}

static int open_cpu(struct ts_exits *exits, uint32_t i, uint32_t rcvbuf,
                    struct ts_opened *opened)
{
    struct cpu_socket *cpu = &exits->cpus[i];
    int rc = ts_socket_open(&exits->endpoint, rcvbuf, opened);

    if (rc < 0)
        return rc;
    cpu->fd = rc;
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
        rc = ts_socket_counters(cpu->fd, &cpu->drops, &cpu->stats.queued);
    if (rc == 0) {
        opened->step = TS_STEP_EPOLL;
        rc = watch(exits, cpu->fd, i);
    }
    return rc;
}

static int open_all(struct ts_exits *exits, uint32_t rcvbuf, struct ts_opened *opened)
{
    int rc = 0;

    opened->step = TS_STEP_EPOLL;
    exits->epoll = epoll_create1(EPOLL_CLOEXEC);
    exits->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (exits->epoll < 0 || exits->event < 0)
        return -errno;
    rc = watch(exits, exits->event, WAKE);
    for (uint32_t i = 0; rc == 0 && i < exits->n; i++)
        rc = open_cpu(exits, i, rcvbuf, opened);
    /* All at once, so that every CPU is heard from about the same moment. The
     * ACK is taken by the drain: records may stand before it. */
    for (uint32_t i = 0; rc == 0 && i < exits->n; i++) {
        opened->step = TS_STEP_REGISTER;
        rc = tell_cpu(exits, &exits->cpus[i], TS_ATTR_REGISTER, NLM_F_ACK, SEQ_REGISTER);
    }
    opened->fileno = exits->epoll;
    return rc;
}

static void prepare_slots(struct ts_exits *exits)
{
    for (unsigned i = 0; i < SLOTS; i++) {
        exits->vectors[i] = (struct iovec){exits->slots[i], TS_SLOT};
        exits->messages[i].msg_hdr = (struct msghdr){
            .msg_name = &exits->sources[i],
            .msg_namelen = sizeof(exits->sources[i]),
            .msg_iov = &exits->vectors[i],
            .msg_iovlen = 1,
        };
    }
}

int ts_exits_open(const struct ts_endpoint *endpoint, const uint16_t *cpus, uint32_t n,
                  uint32_t rcvbuf, struct ts_exits **exits, struct ts_opened *opened)
{
    size_t size = sizeof(struct ts_exits) + n * sizeof(struct cpu_socket);
    struct ts_exits *made = ts_alloc(size);
    int rc;

    if (!made)
        return -ENOMEM;
    memset(made, 0, size);
    made->endpoint = *endpoint;
    made->generation = ts_fork_generation();
    made->epoll = made->event = -1;
    made->n = n;
    for (uint32_t i = 0; i < n; i++) {
        made->cpus[i].fd = -1;
        made->cpus[i].stats.cpu = cpus[i];
    }
    pthread_mutex_init(&made->consumer, NULL);
    pthread_mutex_init(&made->state, NULL);
    prepare_slots(made);
    rc = open_all(made, rcvbuf, opened);
    made->endpoint.cpus = NULL; /* the caller's, and not needed again */
    if (rc < 0) {
        ts_exits_close(made);
        ts_free(made);
        return rc;
    }
    *exits = made;
    return 0;
}

/* ---- counting ---- */

static int is_inherited(const struct ts_exits *exits)
{
    return exits->generation != ts_fork_generation();
}

static void read_counters(struct cpu_socket *cpu)
{
    uint32_t drops;

    if (ts_socket_counters(cpu->fd, &drops, &cpu->stats.queued) < 0)
        return;
    cpu->stats.lost += drops - cpu->drops; /* modulo 2^32 */
    cpu->drops = drops;
}

/* Follows the CPU's numbers. Only drops are losses: as many of them as fit the
 * hole go before this record. A number missing beyond them is unexplained: the
 * record may come late, or on the socket of the CPU that its task has left. */
static void follow(struct cpu_socket *cpu, uint32_t seq)
{
    uint32_t gap = cpu->started ? seq - cpu->next_seq : 0;

    cpu->started = 1;
    if (gap >= UINT32_C(1) << 31) { /* behind: it was counted as missing */
        if (seq == cpu->resume_seq && cpu->jumped > MOST_OVERTAKEN) {
            cpu->stats.unexplained -= cpu->jumped; /* the jump was a stray's */
            cpu->jumped = 0;
            cpu->next_seq = seq + 1;
        } else if (cpu->stats.unexplained) {
            cpu->stats.unexplained--;
        }
        return;
    }
    if (gap) {
        read_counters(cpu);
        uint64_t unplaced = cpu->stats.lost - cpu->placed;
        uint32_t lost = gap < unplaced ? gap : (uint32_t)unplaced;
        cpu->placed += lost;
        cpu->owed += lost;
        cpu->resume_seq = cpu->next_seq;
        cpu->jumped = gap - lost;
        cpu->stats.unexplained += cpu->jumped;
    }
    cpu->next_seq = seq + 1;
}

/* ---- draining ---- */

/* A request's answer: the ACK of the registration, or a refusal. */
static void take_answer(struct ts_exits *exits, const struct nl_message *message)
{
    if (message->error < 0 && message->seq == SEQ_REGISTER)
        exits->failure = message->error;
}

static void take_message(struct ts_exits *exits, struct cpu_socket *cpu,
                         const struct nl_message *message, uint64_t now, struct ts_sink *sink)
{
    uint32_t task = sink->n_tasks;
    uint32_t group = sink->n_groups;

    if (message->type == NLMSG_ERROR) {
        take_answer(exits, message);
        return;
    }
    if (message->port != 0) {
        cpu->stats.refused[TS_UNEXPECTED]++; /* a reply, and nobody asked */
        return;
    }
    follow(cpu, message->seq);
    if (ts_decode_message(message, sink) < 0) {
        cpu->stats.refused[sink->reason]++;
        return;
    }
    for (; group < sink->n_groups; group++) {
        sink->groups[group].cpu = (uint16_t)cpu->stats.cpu;
        sink->groups[group].received_ns = now;
    }
    for (; task < sink->n_tasks; task++) {
        struct ts_record *record = &sink->tasks[task];
        record->cpu = (uint16_t)cpu->stats.cpu;
        record->received_ns = now;
        if (cpu->owed) {
            record->lost_before = cpu->owed;
            record->flags |= TS_LOST_BEFORE;
            cpu->owed = 0;
        }
        cpu->stats.received++;
    }
}

static void take_datagram(struct ts_exits *exits, struct cpu_socket *cpu, unsigned slot,
                          uint64_t now, struct ts_sink *sink)
{
    const uint8_t *at = exits->slots[slot];
    size_t left = exits->messages[slot].msg_len;
    struct nl_message message;
    enum ts_reason reason;
    int more;

    if (exits->sources[slot].nl_pid != exits->endpoint.port) {
        cpu->stats.refused[TS_FOREIGN]++;
        return;
    }
    if (exits->messages[slot].msg_hdr.msg_flags & MSG_TRUNC) {
        cpu->stats.refused[TS_CUT]++;
        return;
    }
    while ((more = nl_message_next(&at, &left, &message, &reason)) == 1)
        take_message(exits, cpu, &message, now, sink);
    if (more < 0)
        cpu->stats.refused[reason]++;
}

/* Reads one socket until it is empty or the sink is full. */
static int drain_cpu(struct ts_exits *exits, struct cpu_socket *cpu, uint64_t now,
                     struct ts_sink *sink)
{
    cpu->stats.wakeups++;
    for (;;) {
        uint32_t room = sink->capacity - sink->n_tasks;
        unsigned want = room < SLOTS ? room : SLOTS;
        int n;

        if (want == 0) {
            exits->hurry = 1;
            return 0;
        }
        n = recvmmsg(cpu->fd, exits->messages, want, MSG_DONTWAIT, NULL);
        if (n < 0 && errno == EAGAIN)
            return 0;
        if (n < 0 && errno != EINTR && errno != ENOBUFS)
            return -errno;
        for (int i = 0; i < n; i++)
            take_datagram(exits, cpu, (unsigned)i, now, sink);
        if (n >= 0 && (unsigned)n < want)
            return 0;
    }
}

static uint64_t realtime(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* Reads the sockets that are ready. After a stop: all, once more. */
static int drain_ready(struct ts_exits *exits, struct ts_sink *sink)
{
    struct epoll_event events[EVENTS];
    uint64_t now = realtime();
    int rc = 0;

    exits->hurry = 0;
    exits->wakeups++;
    if (exits->stopped) {
        for (uint32_t i = 0; rc == 0 && i < exits->n; i++)
            rc = drain_cpu(exits, &exits->cpus[i], now, sink);
        return rc;
    }
    int n;
    do {
        n = epoll_wait(exits->epoll, events, EVENTS, 0);
        for (int i = 0; rc == 0 && i < n; i++)
            if (events[i].data.u32 != WAKE)
                rc = drain_cpu(exits, &exits->cpus[events[i].data.u32], now, sink);
    } while (rc == 0 && n == EVENTS && !exits->hurry); /* those read are no longer ready */
    return rc;
}

/* ---- waiting ---- */

/* Whether a queue is over a quarter full: then there is no time to let more
 * records gather. */
static int filling_up(struct ts_exits *exits, const struct epoll_event *events, int n)
{
    for (int i = 0; i < n; i++) {
        struct cpu_socket *cpu;
        if (events[i].data.u32 == WAKE)
            continue;
        cpu = &exits->cpus[events[i].data.u32];
        read_counters(cpu);
        if (cpu->stats.queued > cpu->stats.rcvbuf / 4)
            return 1;
    }
    return 0;
}

/* Lets records gather, on the eventfd alone: the epoll set is ready already. */
static void gather(const struct ts_exits *exits, int64_t latency_ns)
{
    struct pollfd wake = {.fd = exits->event, .events = POLLIN};
    struct timespec time = {.tv_sec = latency_ns / 1000000000,
                            .tv_nsec = latency_ns % 1000000000};

    ppoll(&wake, 1, &time, NULL);
}

/* epoll_wait's milliseconds, never short of the deadline. */
static int milliseconds_until(int64_t deadline_ns)
{
    int64_t left;

    if (deadline_ns < 0)
        return -1;
    left = (deadline_ns - ts_now() + 999999) / 1000000;
    return left <= 0 ? 0 : left > 86400000 ? 86400000 : (int)left;
}

/* Returns 1 when there is something to read, 0 at the deadline. */
static int wait_for_exits(struct ts_exits *exits, int64_t latency_ns, int64_t deadline_ns)
{
    struct epoll_event events[EVENTS];
    int n;

    if (exits->hurry || exits->stopped)
        return 1;
    n = epoll_wait(exits->epoll, events, EVENTS, milliseconds_until(deadline_ns));
    if (n <= 0)
        return n < 0 ? -errno : 0;
    if (latency_ns > 0) {
        pthread_mutex_lock(&exits->state);
        int hurry = exits->closed || exits->stopped || filling_up(exits, events, n);
        pthread_mutex_unlock(&exits->state);
        if (!hurry)
            gather(exits, latency_ns);
    }
    return 1;
}

static int drain(struct ts_exits *exits, int64_t latency_ns, int64_t deadline_ns,
                 struct ts_sink *sink)
{
    uint32_t before = sink->n_tasks;
    int rc;

    if (before == sink->capacity)
        return -ENOSPC;
    do {
        rc = wait_for_exits(exits, latency_ns, deadline_ns);
        if (rc <= 0)
            return rc;
        pthread_mutex_lock(&exits->state);
        if (exits->closed) {
            rc = -EBADF;
        } else {
            rc = drain_ready(exits, sink);
            if (rc == 0 && exits->failure) {
                rc = exits->failure;
                exits->failure = 0;
            }
            if (rc == 0 && exits->stopped && sink->n_tasks == before)
                rc = -ESHUTDOWN;
        }
        pthread_mutex_unlock(&exits->state);
    } while (rc == 0 && sink->n_tasks == before); /* an ACK alone is nothing to tell */
    return sink->n_tasks > before ? (int)(sink->n_tasks - before) : rc;
}

int ts_exits_drain(struct ts_exits *exits, int64_t latency_ns, int64_t deadline_ns,
                   struct ts_sink *sink)
{
    int rc;

    if (is_inherited(exits))
        return -EOWNERDEAD;
    if (pthread_mutex_trylock(&exits->consumer)) {
        if (!exits->stopped)
            return -EBUSY;
        pthread_mutex_lock(&exits->consumer); /* nobody waits for exits any more */
    }
    rc = drain(exits, latency_ns, deadline_ns, sink);
    pthread_mutex_unlock(&exits->consumer);
    return rc;
}

/* ---- stats, stop, close ---- */

int ts_exits_stats(struct ts_exits *exits, struct ts_cpu_stats *cpus, uint64_t *wakeups)
{
    if (is_inherited(exits))
        return -EOWNERDEAD;
    pthread_mutex_lock(&exits->state);
    for (uint32_t i = 0; i < exits->n; i++) {
        if (!exits->closed)
            read_counters(&exits->cpus[i]);
        cpus[i] = exits->cpus[i].stats;
    }
    *wakeups = exits->wakeups;
    pthread_mutex_unlock(&exits->state);
    return (int)exits->n;
}

/* With the state locked. No ACK is asked for: on a full socket it would be
 * dropped, and counted as a record. On the kernel, send's return is completion. */
static void deregister(struct ts_exits *exits)
{
    uint64_t one = 1;

    for (uint32_t i = 0; i < exits->n; i++)
        if (exits->cpus[i].fd >= 0)
            tell_cpu(exits, &exits->cpus[i], TS_ATTR_DEREGISTER, 0, SEQ_DEREGISTER);
    exits->stopped = 1;
    if (exits->event >= 0)
        (void)!write(exits->event, &one, sizeof(one)); /* the first of 2^64 - 2 it takes */
}

int ts_exits_stop(struct ts_exits *exits)
{
    if (is_inherited(exits))
        return -EOWNERDEAD;
    pthread_mutex_lock(&exits->state);
    if (!exits->stopped)
        deregister(exits);
    pthread_mutex_unlock(&exits->state);
    return 0;
}

/* Out of the epoll set first: a child may hold the sockets open, and an open
 * socket in the set keeps waking. */
static void close_all(struct ts_exits *exits, int unwatch)
{
    for (uint32_t i = 0; i < exits->n; i++) {
        struct cpu_socket *cpu = &exits->cpus[i];
        if (cpu->fd < 0)
            continue;
        if (unwatch)
            epoll_ctl(exits->epoll, EPOLL_CTL_DEL, cpu->fd, NULL);
        close(cpu->fd);
        cpu->fd = -1;
    }
    if (exits->epoll >= 0)
        close(exits->epoll);
    if (exits->event >= 0)
        close(exits->event);
    exits->epoll = exits->event = -1;
    exits->closed = 1;
}

int ts_exits_close(struct ts_exits *exits)
{
    /* In a child of fork only close: to deregister here would end the parent's
     * registration, and to change the epoll set would change the parent's. */
    if (is_inherited(exits)) {
        close_all(exits, 0);
        return 0;
    }
    ts_exits_stop(exits);
    pthread_mutex_lock(&exits->consumer); /* a drain that waited is on its way out */
    pthread_mutex_lock(&exits->state);
    if (!exits->closed) {
        for (uint32_t i = 0; i < exits->n; i++)
            if (exits->cpus[i].fd >= 0)
                read_counters(&exits->cpus[i]);
        close_all(exits, 1);
    }
    pthread_mutex_unlock(&exits->state);
    pthread_mutex_unlock(&exits->consumer);
    return 0;
}
