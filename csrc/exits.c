/* The exit stream: register, wait, drain, count what was lost, deregister.
 *
 * Two locks: `consumer` is held for a whole drain, waiting included; `state`
 * only while sockets are read or changed, so that stop and stats never wait for
 * an exit. Taken in that order. */
#include <errno.h>
#include <linux/filter.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "abi.h"
#include "decode.h"
#include "sequence.h"
#include "socket.h"

#define EVENTS 64       /* ready sockets an epoll_wait */
#define WAKE UINT32_MAX /* the eventfd's mark in the epoll set */

/* Numbers of the requests on a listener's sockets. */
enum { SEQ_REGISTER = 1001, SEQ_DEREGISTER = 1002 };

struct cpu_socket {
    int fd;
    uint32_t drops;   /* the socket's counter when it was last read */
    uint32_t to_tell; /* lost records not yet told: the next one's lost_before */
    struct ts_sequence sequence;
    struct ts_cpu_stats stats;
};

struct ts_exits {
    struct ts_endpoint endpoint;
    pid_t owner;
    pthread_mutex_t consumer;
    pthread_mutex_t state;
    uint16_t family;
    int epoll;
    int event;
    atomic_int stopped; /* these two change under `state`, */
    atomic_int closed;  /* and are read without */
    int hurry;          /* the last drain left records behind, */
    uint32_t filled;    /* full at this socket: the next one starts after it */
    int failure;        /* a request that the kernel refused, not yet told */
    uint64_t wakeups;
    struct ts_receiver receiver;
    uint32_t n;
    struct cpu_socket cpus[];
};

static int is_inherited(const struct ts_exits *exits)
{
    return exits->owner != getpid();
}

/* ---- open ---- */

static int send_request(struct ts_exits *exits, const struct cpu_socket *cpu,
                        uint16_t attribute, uint16_t flags, uint32_t seq)
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

    return ts_socket_send(cpu->fd, &request, seq);
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
        rc = send_request(exits, &exits->cpus[i], TS_ATTR_REGISTER, NLM_F_ACK, SEQ_REGISTER);
    }
    opened->fileno = exits->epoll;
    return rc;
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
    made->owner = getpid();
    made->epoll = made->event = -1;
    made->n = n;
    for (uint32_t i = 0; i < n; i++) {
        made->cpus[i].fd = -1;
        made->cpus[i].stats.cpu = cpus[i];
    }
    pthread_mutex_init(&made->consumer, NULL);
    pthread_mutex_init(&made->state, NULL);
    ts_receiver_prepare(&made->receiver);
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

static void read_counters(struct cpu_socket *cpu)
{
    uint32_t drops;

    if (ts_socket_counters(cpu->fd, &drops, &cpu->stats.queued) < 0)
        return;
    cpu->stats.lost += drops - cpu->drops; /* modulo 2^32 */
    cpu->drops = drops;
}

/* Holes in the numbers only tell where the losses were; how many there are, the
 * socket's drops say. */
static void follow(struct cpu_socket *cpu, uint32_t seq)
{
    if (!ts_sequence_expects(&cpu->sequence, seq))
        read_counters(cpu);
    cpu->to_tell += ts_sequence_follow(&cpu->sequence, seq, cpu->stats.lost);
    cpu->stats.unexplained = cpu->sequence.unexplained;
}

/* ---- draining ---- */

/* A request's answer: the ACK of a registration, or a refusal. */
static void take_answer(struct ts_exits *exits, const struct nl_message *message)
{
    if (message->error < 0)
        exits->failure = message->error;
}

static void finish_task(struct cpu_socket *cpu, uint64_t now, struct ts_record *task)
{
    task->cpu = (uint16_t)cpu->stats.cpu;
    task->received_ns = now;
    task->lost_before = cpu->to_tell;
    if (cpu->to_tell)
        task->flags |= TS_LOST_BEFORE;
    cpu->to_tell = 0;
    cpu->stats.received++;
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
    if (message->type != exits->family || message->port != 0) {
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
    for (; task < sink->n_tasks; task++)
        finish_task(cpu, now, &sink->tasks[task]);
}

/* Counts a datagram that cannot be read. Its number, if it shows one, is not
 * missing. */
static void refuse(struct ts_exits *exits, struct cpu_socket *cpu, const uint8_t *at,
                   size_t left, enum ts_reason reason)
{
    struct nlmsghdr header;

    cpu->stats.refused[reason]++;
    if (reason == TS_FOREIGN || left < sizeof(header))
        return;
    memcpy(&header, at, sizeof(header));
    if (header.nlmsg_type == exits->family && header.nlmsg_pid == 0)
        follow(cpu, header.nlmsg_seq);
}

static void take_datagram(struct ts_exits *exits, struct cpu_socket *cpu, unsigned slot,
                          uint64_t now, struct ts_sink *sink)
{
    const uint8_t *at;
    size_t left;
    struct nl_message message;
    enum ts_reason reason =
        ts_receiver_datagram(&exits->receiver, slot, exits->endpoint.port, &at, &left);
    int more = reason == TS_ACCEPTED ? 1 : -EBADMSG;

    while (more == 1 && (more = nl_message_next(&at, &left, &message, &reason)) == 1)
        take_message(exits, cpu, &message, now, sink);
    if (more < 0)
        refuse(exits, cpu, at, left, reason);
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
        n = ts_receiver_take(&exits->receiver, cpu->fd, want);
        for (int i = 0; i < n; i++)
            take_datagram(exits, cpu, (unsigned)i, now, sink);
    } while (n == (int)want);
    return n < 0 && n != -EAGAIN ? n : 0;
}

static uint64_t realtime(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

/* Reads those of the sockets that come after, or up to, the one that filled the
 * sink last time: a busy CPU must not keep the others from being read. */
static int drain_events(struct ts_exits *exits, const struct epoll_event *events, int n,
                        int after, uint64_t now, struct ts_sink *sink)
{
    int rc = 0;

    for (int i = 0; rc == 0 && i < n; i++) {
        uint32_t mark = events[i].data.u32;
        if (mark != WAKE && (mark > exits->filled) == after)
            rc = drain_cpu(exits, &exits->cpus[mark], now, sink);
    }
    return rc;
}

/* Reads the sockets that are ready. After a stop: all, until they are empty. */
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
static int gather(const struct ts_exits *exits, int64_t latency_ns, int64_t deadline_ns)
{
    struct pollfd wake = {.fd = exits->event, .events = POLLIN};
    int64_t left = deadline_ns < 0 ? latency_ns : deadline_ns - ts_now();
    int64_t wait = left < latency_ns ? left : latency_ns;
    struct timespec time = {.tv_sec = wait / 1000000000, .tv_nsec = wait % 1000000000};

    return wait > 0 && ppoll(&wake, 1, &time, NULL) < 0 ? -errno : 0;
}

/* epoll_wait's milliseconds, never short of the deadline, a day at most. */
static int milliseconds_until(int64_t deadline_ns)
{
    int64_t left;

    if (deadline_ns < 0)
        return -1;
    left = (deadline_ns - ts_now() + 999999) / 1000000;
    return left <= 0 ? 0 : left > 86400000 ? 86400000 : (int)left;
}

/* Returns 1 when there is something to read, 0 at the deadline. A signal while
 * records gather ends that early, and is told if nothing came of it. */
static int wait_for_exits(struct ts_exits *exits, int64_t latency_ns, int64_t deadline_ns,
                          int *interrupted)
{
    struct epoll_event events[EVENTS];
    int hurry;
    int n;

    if (exits->hurry || exits->stopped || exits->failure)
        return 1;
    do
        n = epoll_wait(exits->epoll, events, EVENTS, milliseconds_until(deadline_ns));
    while (n == 0 && (deadline_ns < 0 || ts_now() < deadline_ns));
    if (n <= 0)
        return n < 0 ? -errno : 0;
    if (latency_ns > 0) {
        pthread_mutex_lock(&exits->state);
        hurry = exits->closed || exits->stopped || filling_up(exits, events, n);
        pthread_mutex_unlock(&exits->state);
        if (!hurry)
            *interrupted = gather(exits, latency_ns, deadline_ns) == -EINTR;
    }
    return 1;
}

/* A refused request is told when no record stands before it. */
static int outcome(struct ts_exits *exits, uint32_t rows)
{
    int failure = exits->failure;

    if (rows)
        return (int)rows;
    exits->failure = 0;
    return failure ? failure : exits->stopped ? -ESHUTDOWN : 0;
}

static int drain(struct ts_exits *exits, int64_t latency_ns, int64_t deadline_ns,
                 struct ts_sink *sink)
{
    uint32_t before = sink->n_tasks;
    int interrupted = 0;
    int rc;

    if (before == sink->capacity)
        return -ENOSPC;
    do {
        rc = wait_for_exits(exits, latency_ns, deadline_ns, &interrupted);
        if (rc <= 0)
            return rc;
        pthread_mutex_lock(&exits->state);
        rc = exits->closed ? -EBADF : drain_ready(exits, sink);
        if (rc == 0)
            rc = outcome(exits, sink->n_tasks - before);
        pthread_mutex_unlock(&exits->state);
    } while (rc == 0 && !interrupted); /* an ACK alone is nothing to tell */
    return rc == 0 ? -EINTR : rc;
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

/* Asked on a socket of its own: a refusal on a full queue would be dropped, and
 * counted as a record. Without CAP_NET_ADMIN even the question is refused. */
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
    uint8_t slot[TS_SLOT];
    struct nl_message reply;
    struct ts_opened opened;
    int fd = ts_socket_open(&exits->endpoint, 64 << 10, &opened);
    int rc;

    if (fd < 0)
        return 0;
    rc = ts_socket_request(fd, &exits->endpoint, &request, slot, &reply);
    close(fd);
    return rc != -EPERM;
}

/* Lets nothing more into the queue. It needs no right, and what it keeps out is
 * not counted as dropped. The registration ends when the socket is closed. */
static void shut(const struct cpu_socket *cpu)
{
    struct sock_filter nothing = BPF_STMT(BPF_RET | BPF_K, 0);
    struct sock_fprog program = {.len = 1, .filter = &nothing};

    setsockopt(cpu->fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program));
}

/* With the state locked. No ACK is asked for: on a full queue it would be
 * dropped, and counted as a record. On the kernel, send's return is completion. */
static void deregister(struct ts_exits *exits)
{
    uint64_t one = 1;
    int may = may_deregister(exits);

    for (uint32_t i = 0; i < exits->n; i++) {
        if (exits->cpus[i].fd < 0)
            continue;
        if (!may ||
            send_request(exits, &exits->cpus[i], TS_ATTR_DEREGISTER, 0, SEQ_DEREGISTER) < 0)
            shut(&exits->cpus[i]);
    }
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

/* A listener's own sockets go out of the epoll set first: a child of fork may
 * hold them open, and an open socket in the set keeps waking. In the child, to
 * change the set would change the parent's. */
static void close_all(struct ts_exits *exits)
{
    for (uint32_t i = 0; i < exits->n; i++) {
        struct cpu_socket *cpu = &exits->cpus[i];
        if (cpu->fd < 0)
            continue;
        if (!is_inherited(exits))
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
    /* To deregister in a child of fork would end the parent's registration. */
    if (is_inherited(exits)) {
        close_all(exits);
        return 0;
    }
    ts_exits_stop(exits);
    pthread_mutex_lock(&exits->consumer); /* a drain that waited is on its way out */
    pthread_mutex_lock(&exits->state);
    if (!exits->closed) {
        for (uint32_t i = 0; i < exits->n; i++)
            read_counters(&exits->cpus[i]);
        close_all(exits);
    }
    pthread_mutex_unlock(&exits->state);
    pthread_mutex_unlock(&exits->consumer);
    return 0;
}
