/* The thread that drains a listener into a buffer, and the reader's side of that buffer.
 *
 * The thread alone reads the sockets; whoever reads the listener takes parcels from the buffer.
 * While the buffer is full the thread waits, and the kernel's queues fill: a loss is counted
 * there, as without a buffer.
 *
 * Locks: `consumer` is held by the reader, `state` by the thread while it reads sockets, as
 * ever; `lock` guards the members below and is taken last. The thread never takes `state` with
 * `lock` held, and never `consumer`. */
#include "drainer.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "buffer.h"

/* Room of one drain. It is small, so that the rows are still in the cache when they are copied,
 * and so that a parcel fits in a chunk. */
#define TASKS 128u
#define BIRTHS 1024u
#define CHANGES 16u

/* Rows of a batch: the reader is woken for so many at the latest. */
#define BATCH 1024u

_Static_assert(2 * TASKS * sizeof(struct ts_record) + BIRTHS * sizeof(struct ts_birth) +
                       CHANGES * sizeof(struct ts_cgroup_change) <=
                   TS_LONGEST_PARCEL,
               "a parcel fits");

#define STACK ((size_t)256 << 10)
#define LONGEST_WAIT 1000000000 /* ns of one wait, as in drain.c */

struct ts_drainer {
    pthread_t thread;
    int64_t latency_ns;
    pthread_mutex_t lock;
    pthread_cond_t changed; /* of any member below */
    struct ts_buffer buffer;
    int closing;
    int told;          /* the reader, that parcels wait */
    int ended;         /* the thread has read all there was */
    int failure;       /* an error of the drain that the reader has not been told */
    uint64_t asked;    /* how often the reader has asked for a drain without delay, */
    uint64_t answered; /* and up to which of these one has been made */
    uint32_t held;     /* rows that wait for their end, and */
    int64_t due_ns;    /* until when at most */
    uint64_t full;
    uint64_t full_ns;
    int64_t full_since; /* 0: it is not full */
    struct ts_record tasks[TASKS];
    struct ts_record groups[TASKS];
    struct ts_birth births[BIRTHS];
    struct ts_cgroup_change changes[CHANGES];
};

static void set(int event)
{
    uint64_t one = 1;

    (void)!write(event, &one, sizeof(one));
}

/* Makes an eventfd unreadable, but not after a stop: `stop` sets it after `stopped`. */
static void clear(const struct ts_exits *exits, int event)
{
    uint64_t count;

    (void)!read(event, &count, sizeof(count));
    if (exits->stopped)
        set(event);
}

/* ---- the thread ---- */

/* Puts the parcel into the buffer, and waits for room. With the lock held. */
static void put(struct ts_exits *exits, struct ts_drainer *drainer, const struct ts_sink *sink)
{
    if (sink->n_tasks + sink->n_groups + sink->n_births + sink->n_changes == 0) {
        ts_buffer_note(&drainer->buffer, sink);
        return;
    }
    if (!ts_buffer_put(&drainer->buffer, sink)) {
        set(exits->ready);
        drainer->full++;
        drainer->full_since = ts_now();
        do
            pthread_cond_wait(&drainer->changed, &drainer->lock);
        while (!drainer->closing && !ts_buffer_put(&drainer->buffer, sink));
        drainer->full_ns += (uint64_t)(ts_now() - drainer->full_since);
        drainer->full_since = 0;
    }
}

/* Wakes the reader when all queues have been read, or a whole batch waits: to be woken for each
 * parcel would cost it more than the parcel. With the lock held. */
static void tell(const struct ts_exits *exits, struct ts_drainer *drainer)
{
    if (drainer->ended || drainer->failure) {
        set(exits->ready);
    } else if (!drainer->told && !ts_buffer_is_empty(&drainer->buffer) &&
               (!exits->hurry || drainer->buffer.waiting >= BATCH)) {
        drainer->told = 1;
        set(exits->ready);
    }
}

/* Hands over what a drain has brought. Returns when the next drain may begin. */
static void deliver(struct ts_exits *exits, const struct ts_sink *sink, int rc, uint64_t asked)
{
    struct ts_drainer *drainer = exits->drainer;
    int failed =
        rc < 0 && rc != -EINTR && rc != -EINPROGRESS && rc != -EAGAIN && rc != -ESHUTDOWN;
    int again;

    pthread_mutex_lock(&drainer->lock);
    again = failed && drainer->failure; /* no drain may succeed any more */
    drainer->held = exits->settler ? ts_settler_held(exits->settler) : 0;
    drainer->due_ns = drainer->held ? ts_settler_due(exits->settler) : 0;
    put(exits, drainer, sink);
    drainer->answered = asked;
    if (rc == -ESHUTDOWN)
        drainer->ended = 1;
    if (failed)
        drainer->failure = rc;
    tell(exits, drainer);
    pthread_cond_broadcast(&drainer->changed);
    /* It lives on until the close: an exit of its own would be missing from a witness. */
    while (!drainer->closing && (drainer->ended || (again && drainer->failure)))
        pthread_cond_wait(&drainer->changed, &drainer->lock);
    pthread_mutex_unlock(&drainer->lock);
}

/* It sleeps nearly always, and what it has to do cannot wait: so it goes first where it may
 * (CAP_SYS_NICE, or RLIMIT_RTPRIO). */
static void raise_priority(void)
{
    struct sched_param param = {.sched_priority = sched_get_priority_min(SCHED_RR)};

    pthread_setschedparam(pthread_self(), SCHED_RR, &param);
}

static void *work(void *argument)
{
    struct ts_exits *exits = argument;
    struct ts_drainer *drainer = exits->drainer;

    raise_priority();
    for (;;) {
        struct ts_sink sink = {
            .tasks = drainer->tasks,
            .groups = drainer->groups,
            .capacity = TASKS,
            .births = exits->had_probe ? drainer->births : NULL,
            .room_births = BIRTHS,
            .changes = exits->had_probe ? drainer->changes : NULL,
            .room_changes = CHANGES,
        };
        uint64_t asked;
        int now, closing, rc;

        pthread_mutex_lock(&drainer->lock);
        closing = drainer->closing;
        asked = drainer->asked;
        now = asked != drainer->answered;
        if (now)
            clear(exits, exits->event);
        pthread_mutex_unlock(&drainer->lock);
        if (closing)
            return NULL;
        rc = ts_exits_read(exits, now ? 0 : drainer->latency_ns, now ? 0 : -1, &sink);
        deliver(exits, &sink, rc, asked);
    }
}

/* ---- begin and end ---- */

static void *get_pages(size_t size)
{
    void *pages = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    return pages == MAP_FAILED ? NULL : pages;
}

static void put_pages_back(void *pages, size_t size)
{
    munmap(pages, size);
}

/* A reader that is preempted with the lock held has the priority of the thread while that
 * waits. Where the C library or the kernel has no such locks, it is a plain one. */
void ts_drainer_init_lock(pthread_mutex_t *lock)
{
    pthread_mutexattr_t attributes;

    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT);
    if (pthread_mutex_init(lock, &attributes))
        pthread_mutex_init(lock, NULL);
    pthread_mutexattr_destroy(&attributes);
}

/* The thread inherits the mask: signals are for the threads of the program. */
static int start_thread(struct ts_exits *exits)
{
    pthread_attr_t attributes;
    sigset_t all, before;
    int rc;

    sigfillset(&all);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = pthread_create(&exits->drainer->thread, &attributes, work, exits);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    if (rc == 0)
        pthread_setname_np(exits->drainer->thread, "taskstats");
    return -rc;
}

int ts_drainer_start(struct ts_exits *exits, const struct ts_wanted *wanted)
{
    struct ts_drainer *drainer = get_pages(sizeof(*drainer));
    int rc;

    if (!drainer)
        return -ENOMEM;
    ts_drainer_init_lock(&drainer->lock);
    pthread_cond_init(&drainer->changed, NULL);
    drainer->latency_ns = wanted->latency_ns;
    rc = ts_buffer_open(&drainer->buffer, wanted->buffer, get_pages, put_pages_back);
    exits->drainer = drainer;
    exits->ready = rc == 0 ? eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) : -1;
    if (rc == 0 && exits->ready < 0)
        rc = -errno;
    if (rc == 0)
        rc = start_thread(exits);
    if (rc < 0)
        ts_drainer_free(exits);
    return rc;
}

void ts_drainer_stopped(const struct ts_exits *exits)
{
    set(exits->ready);
}

void ts_drainer_join(struct ts_exits *exits)
{
    struct ts_drainer *drainer = exits->drainer;

    pthread_mutex_lock(&drainer->lock);
    drainer->closing = 1;
    pthread_cond_broadcast(&drainer->changed);
    pthread_mutex_unlock(&drainer->lock);
    pthread_join(drainer->thread, NULL);
}

void ts_drainer_free(struct ts_exits *exits)
{
    struct ts_drainer *drainer = exits->drainer;

    exits->drainer = NULL;
    ts_buffer_close(&drainer->buffer);
    pthread_cond_destroy(&drainer->changed);
    pthread_mutex_destroy(&drainer->lock);
    put_pages_back(drainer, sizeof(*drainer));
}

void ts_drainer_count(struct ts_exits *exits, struct ts_buffer_stats *stats)
{
    struct ts_drainer *drainer = exits->drainer;
    const struct ts_buffer *buffer = &drainer->buffer;

    pthread_mutex_lock(&drainer->lock);
    *stats = (struct ts_buffer_stats){
        .bytes = buffer->most_chunks * buffer->chunk_size,
        .used = buffer->used,
        .most_used = buffer->most_used,
        .waiting = buffer->waiting,
        .full = drainer->full,
        .full_ns = drainer->full_ns,
    };
    if (drainer->full_since)
        stats->full_ns += (uint64_t)(ts_now() - drainer->full_since);
    pthread_mutex_unlock(&drainer->lock);
}

/* ---- the reader ---- */

/* Takes what waits. Returns what the drain returns, but -EAGAIN where nothing waits, or only
 * births and changes did. */
static int take(struct ts_exits *exits, struct ts_sink *sink)
{
    struct ts_drainer *drainer = exits->drainer;
    uint32_t before = sink->n_tasks;
    int rc = 0;

    pthread_mutex_lock(&drainer->lock);
    if (ts_buffer_take(&drainer->buffer, sink))
        rc = 0; /* the caller has to make room */
    else if (!ts_buffer_is_empty(&drainer->buffer))
        rc = 0; /* the sink is full */
    else if (sink->n_tasks > before)
        rc = 0;
    else if (drainer->failure)
        rc = drainer->failure;
    else
        rc = drainer->ended ? -ESHUTDOWN : -EAGAIN;
    if (rc < 0)
        drainer->failure = 0;
    if (ts_buffer_is_empty(&drainer->buffer) && !drainer->failure && !drainer->ended) {
        drainer->told = 0;
        clear(exits, exits->ready);
    }
    pthread_cond_broadcast(&drainer->changed);
    pthread_mutex_unlock(&drainer->lock);
    return rc < 0 ? rc : (int)(sink->n_tasks - before);
}

/* Has the thread drain without delay, and waits until something can be taken, or there was
 * nothing. Returns how many rows are held, and until when. */
static uint32_t flush(struct ts_exits *exits, int64_t *due_ns)
{
    struct ts_drainer *drainer = exits->drainer;
    uint64_t number;
    uint32_t held;

    pthread_mutex_lock(&drainer->lock);
    number = ++drainer->asked;
    set(exits->event);
    while (drainer->answered < number && !drainer->ended && !drainer->failure &&
           ts_buffer_is_empty(&drainer->buffer))
        pthread_cond_wait(&drainer->changed, &drainer->lock);
    held = drainer->held;
    *due_ns = drainer->due_ns;
    pthread_mutex_unlock(&drainer->lock);
    return held;
}

/* Waits for a parcel. Returns 1 when there may be one, 0 at the deadline, and -EINTR after a
 * signal or LONGEST_WAIT. */
static int wait_for_parcel(const struct ts_exits *exits, int64_t deadline_ns)
{
    struct pollfd ready = {.fd = exits->ready, .events = POLLIN};
    int64_t left = deadline_ns < 0 ? LONGEST_WAIT : deadline_ns - ts_now();
    int64_t wait = left < 0 ? 0 : left < LONGEST_WAIT ? left : LONGEST_WAIT;
    struct timespec time = {.tv_sec = wait / 1000000000, .tv_nsec = wait % 1000000000};
    int n = ppoll(&ready, 1, &time, NULL);

    if (n < 0)
        return -errno;
    return n > 0 ? 1 : deadline_ns >= 0 && left <= LONGEST_WAIT ? 0 : -EINTR;
}

int ts_drainer_take(struct ts_exits *exits, int64_t latency_ns, int64_t deadline_ns,
                    struct ts_sink *sink)
{
    int64_t due_ns;
    uint32_t held;
    int rc;

    if (sink->n_tasks == sink->capacity)
        return -ENOSPC;
    rc = take(exits, sink);
    if (rc != -EAGAIN)
        return rc;
    if (!exits->stopped) {
        if (deadline_ns == 0 && latency_ns > 0)
            return 0; /* what gathers the thread brings, and `ready` tells */
        rc = deadline_ns ? wait_for_parcel(exits, deadline_ns) : 0;
        if (rc < 0)
            return rc;
        if (rc > 0) {
            rc = take(exits, sink);
            return rc == -EAGAIN ? -EINTR : rc;
        }
    }
    /* At the deadline what is queued is taken, as without a buffer. */
    held = flush(exits, &due_ns);
    rc = take(exits, sink);
    if (rc != -EAGAIN)
        return rc;
    if (deadline_ns == 0)
        return held ? -EINPROGRESS : 0;
    if (held && !exits->stopped && wait_for_parcel(exits, due_ns) < 0)
        return -EINTR;
    return held || deadline_ns < 0 || ts_now() < deadline_ns ? -EINTR : 0;
}
