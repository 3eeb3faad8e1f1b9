/* Queries, drains, counts, stops and closes from many threads, with and without a filter, a
 * probe and a buffer: for the thread sanitizer.
 *
 * Usage: threads peer|kernel. The peer is a thread of this program; it answers queries
 * and sends exits. With the kernel the exits are those of threads made here; where it does
 * not let us, that is told, and with TASKSTATS_REQUIRE_KERNEL it is a failure. The work is
 * counted, not timed. */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "abi.h"
#include "check.h"
#include "events.h"
#include "netlink.h"
#include "socket.h"
#include "wire.h"

#define ROUNDS 16
#define AFTERWARDS 10 /* queries of each thread after the close */
#define COUNTS 100    /* of each thread, each round */
#define EXITS 200     /* a round at least, while it is listened to */
#define ROWS 256
#define BIRTHS 4 /* and changes of cgroups: a drain has to make room now and then */
#define THREADS 3
#define PLACES 64
#define RING 4096 /* bytes: so little that it overflows at times */
#define STATS_SIZE 560
#define SETTLE_NS 20000000
#define ID 4242 /* where nothing is asked about, but of the peer */

static int with_kernel;
static uint16_t cpu; /* that is listened to */
static struct ts_endpoint endpoint;
static struct ts_client *client;
static struct ts_exits *exits;
static struct ts_probe *probe; /* in every second round */
static unsigned buffered;
static pthread_barrier_t started;

static atomic_ulong answered;
static atomic_ulong refused;
static atomic_ulong heard;
static atomic_ulong busy;
static atomic_ulong counted;
static atomic_ulong settled;
static atomic_ulong through_buffer;
static atomic_int made;

static pthread_t start(void *(*work)(void *), void *argument)
{
    pthread_t thread;

    CHECK(pthread_create(&thread, NULL, work, argument) == 0);
    return thread;
}

static void join(pthread_t thread)
{
    CHECK(pthread_join(thread, NULL) == 0);
}

/* ---- the peer ---- */

static int peer = -1;
static struct ts_sent sent[PLACES]; /* read by the shim at any moment */
static pthread_mutex_t ports_lock = PTHREAD_MUTEX_INITIALIZER;
static uint32_t listening; /* the port that is sent exits to, 0: none */

static int send_to(uint32_t port, const struct wire *wire)
{
    struct sockaddr_nl to = {.nl_family = AF_NETLINK, .nl_pid = port};

    return sendto(peer, wire->bytes, wire->size, MSG_DONTWAIT, (struct sockaddr *)&to,
                  sizeof(to)) >= 0;
}

static void send_record(uint32_t port, uint32_t seq, uint32_t own, uint32_t id)
{
    static _Thread_local struct wire wire;
    size_t at;

    wire.size = 0;
    at = wire_message(&wire, WIRE_FAMILY, seq, own);
    wire_aggregate(&wire, WIRE_AGGR_PID, id, 16, 560, (struct aggregate_style){0});
    wire_end_message(&wire, at);
    while (!send_to(port, &wire) && own) /* only a reader's queue may be full for a moment */
        sched_yield();
}

static struct ts_sent *place_of(uint32_t port)
{
    uint32_t i = port % PLACES;

    while (sent[i].port && sent[i].port != port)
        i = (i + 1) % PLACES;
    return &sent[i];
}

/* ---- the peer's ring: it writes the end of a task after the task's record ---- */

static uint64_t consumer; /* read and written by the shim at any moment */
static uint64_t producer;
static _Alignas(8) uint8_t data[RING];
static uint64_t losses[TS_EVENTS];

static void put_event(const void *event, uint32_t size)
{
    uint64_t at = (producer + 8) % RING;
    uint64_t first = size < RING - at ? size : RING - at;
    uint64_t whole = 8 + (size + 7) / 8 * 8;

    if (producer + whole - __atomic_load_n(&consumer, __ATOMIC_ACQUIRE) > RING) {
        __atomic_fetch_add(&losses[TS_EVENT_END], 1, __ATOMIC_RELAXED);
        return;
    }
    memcpy(data + at, event, first);
    memcpy(data, (const uint8_t *)event + first, size - first);
    __atomic_store_n((uint32_t *)(data + producer % RING), size, __ATOMIC_RELEASE);
    __atomic_store_n(&producer, producer + whole, __ATOMIC_RELEASE);
}

/* The record of a task, at the end of a message. */
static void put_figures(struct wire *wire, uint32_t pid)
{
    struct ts_stats stats;
    uint8_t *at = wire->bytes + wire->size - STATS_SIZE;

    memcpy(&stats, at, STATS_SIZE);
    stats.ac_tgid = pid;
    stats.ac_etime = 1;
    stats.cpu_count = 1;
    stats.cpu_delay_total = pid;
    stats.cpu_run_virtual_total = 5000;
    memcpy(at, &stats, STATS_SIZE);
}

/* Its end, and now and then a birth. One end of eight never comes. */
static void end_task(uint32_t pid)
{
    uint64_t now = (uint64_t)ts_now();
    struct ts_end_event end = {
        .event = TS_EVENT_END,
        .pid = pid,
        .tgid = pid,
        .runs = 1,
        .began_ns = now - 1000000,
        .ended_ns = now,
        .cpu_ns = 5000 + pid,
        .waited_ns = pid,
    };
    struct ts_birth_event birth = {.event = TS_EVENT_BIRTH, .pid = pid + 1, .maker_pid = pid};

    if (pid % 4 == 0)
        put_event(&birth, sizeof(birth));
    if (pid % 8)
        put_event(&end, sizeof(end));
}

static const struct ts_peer_ring ring = {
    .consumer = &consumer,
    .producer = &producer,
    .data = data,
    .size = RING,
    .losses = losses,
};

/* An exit: it is counted in the order that struct ts_sent tells. */
static void send_exit(uint32_t seq)
{
    static struct wire wire;
    struct ts_sent *place;
    size_t at;

    pthread_mutex_lock(&ports_lock);
    if (listening) {
        place = place_of(listening);
        wire.size = 0;
        at = wire_message(&wire, WIRE_FAMILY, seq, 0);
        wire_aggregate(&wire, WIRE_AGGR_PID, seq, 16, STATS_SIZE, (struct aggregate_style){0});
        put_figures(&wire, seq);
        wire_end_message(&wire, at);
        if (!send_to(listening, &wire))
            __atomic_fetch_add(&place->dropped, 1, __ATOMIC_RELEASE);
        __atomic_fetch_add(&place->offered, 1, __ATOMIC_RELEASE);
        end_task(seq);
    }
    pthread_mutex_unlock(&ports_lock);
}

static void acknowledge(uint32_t port, uint32_t seq)
{
    static struct wire wire;

    wire.size = 0;
    wire_answer(&wire, 0);
    memcpy(wire.bytes + 8, &seq, sizeof(seq));
    while (!send_to(port, &wire))
        sched_yield();
}

static void answer(uint32_t port, const struct nl_message *message, uint16_t flags)
{
    const uint8_t *at = message->attrs;
    size_t left = message->size;
    struct nl_attribute attribute;
    uint32_t id;

    CHECK(nl_attribute_next(&at, &left, &attribute) == 1);
    if (attribute.type == TS_ATTR_PID) {
        memcpy(&id, attribute.value, sizeof(id));
        send_record(port, message->seq, port, id);
    } else {
        pthread_mutex_lock(&ports_lock);
        if (attribute.type == TS_ATTR_REGISTER) {
            __atomic_store_n(&place_of(port)->port, port, __ATOMIC_RELEASE);
            listening = port;
        } else if (listening == port) {
            listening = 0;
        }
        pthread_mutex_unlock(&ports_lock);
    }
    if (flags & NLM_F_ACK)
        acknowledge(port, message->seq);
}

/* Until a datagram comes that is no message. */
static void *play(void *unused)
{
    static uint8_t datagram[1 << 16];

    (void)unused;
    for (;;) {
        struct sockaddr_nl from;
        socklen_t size = sizeof(from);
        ssize_t n =
            recvfrom(peer, datagram, sizeof(datagram), 0, (struct sockaddr *)&from, &size);
        const uint8_t *at = datagram;
        size_t left = (size_t)n;
        struct nl_message message;
        enum ts_reason reason;

        CHECK(n > 0);
        if (n == 1)
            return NULL;
        for (;;) {
            struct nlmsghdr header;
            if (left >= sizeof(header))
                memcpy(&header, at, sizeof(header));
            if (nl_message_next(&at, &left, &message, &reason) != 1)
                break;
            answer(from.nl_pid, &message, header.nlmsg_flags);
        }
    }
}

static void open_peer(void)
{
    struct sockaddr_nl own = {.nl_family = AF_NETLINK};
    socklen_t size = sizeof(own);

    peer = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_USERSOCK);
    CHECK(peer >= 0 && bind(peer, (struct sockaddr *)&own, size) == 0);
    CHECK(getsockname(peer, (struct sockaddr *)&own, &size) == 0);
    endpoint = (struct ts_endpoint){
        .protocol = NETLINK_USERSOCK,
        .port = own.nl_pid,
        .family = WIRE_FAMILY,
        .timeout_ms = 60000,
        .cpus = "0",
        .sent = sent,
        .n_sent = PLACES,
    };
}

static void close_peer(pthread_t player)
{
    struct wire *nothing = calloc(1, sizeof(*nothing));
    struct sockaddr_nl to = {.nl_family = AF_NETLINK, .nl_pid = endpoint.port};
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_USERSOCK);

    CHECK(fd >= 0 && nothing);
    CHECK(sendto(fd, nothing->bytes, 1, 0, (struct sockaddr *)&to, sizeof(to)) == 1);
    join(player);
    close(fd);
    close(peer);
    free(nothing);
}

/* ---- the work ---- */

static void *leave(void *unused)
{
    return unused;
}

/* Exits, until so many were made. */
static void *make_exits(void *unused)
{
    cpu_set_t one;

    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    CHECK(pthread_setaffinity_np(pthread_self(), sizeof(one), &one) == 0);
    pthread_barrier_wait(&started);
    for (uint32_t i = 0; i < EXITS; i++) {
        if (with_kernel)
            join(start(leave, NULL));
        else
            send_exit(i);
        atomic_fetch_add(&made, 1);
    }
    return unused;
}

/* Until it is closed, and then some. */
static void *query(void *unused)
{
    uint32_t ids[4] = {ID, ID + 1, ID + 2, ID + 3};
    struct ts_record rows[4];
    int32_t errors[4];

    if (with_kernel)
        for (int i = 0; i < 4; i++)
            ids[i] = (uint32_t)getpid();
    pthread_barrier_wait(&started);
    for (int closed = 0; closed < AFTERWARDS;) {
        int n = ts_client_query(client, TS_TASK, ids, 4, rows, errors);
        if (n < 0) {
            CHECK(n == -EBADF);
            closed++;
            atomic_fetch_add(&refused, 1);
            continue;
        }
        CHECK(!closed && n == 4);
        for (int j = 0; j < n; j++)
            CHECK(rows[j].id == ids[j]);
        atomic_fetch_add(&answered, 1);
    }
    return unused;
}

/* Until it is stopped. */
static void *drain(void *unused)
{
    struct ts_record *rows = ts_alloc(2 * ROWS * sizeof(*rows));
    struct ts_birth births[BIRTHS];
    struct ts_cgroup_change changes[BIRTHS];

    CHECK(rows);
    pthread_barrier_wait(&started);
    for (unsigned turn = 0;; turn++) {
        int64_t wait =
            buffered && turn % 2 ? 0 : -1; /* 0: the buffer's thread is asked to read */
        struct ts_sink sink = {
            .tasks = rows,
            .groups = rows + ROWS,
            .capacity = ROWS,
            .births = births,
            .room_births = BIRTHS,
            .changes = changes,
            .room_changes = BIRTHS,
        };
        int n = ts_exits_drain(exits, wait ? 1000000 : 0, wait, &sink);
        if (n == -ESHUTDOWN || n == -EBADF)
            break;
        CHECK(n > 0 || n == -EBUSY || n == -EINTR || (wait == 0 && n == -EINPROGRESS) ||
              (n == 0 && (wait == 0 || sink.n_births + sink.n_changes)));
        if (n > 0 && buffered)
            atomic_fetch_add(&through_buffer, (unsigned)n);
        if (n >= 0)
            atomic_fetch_add(&heard, (unsigned)n);
        else if (n == -EBUSY)
            atomic_fetch_add(&busy, 1);
        for (int i = 0; i < n; i++)
            if (!with_kernel && rows[i].flags & TS_SETTLED)
                CHECK(rows[i].final_cpu_ns == 5000 + rows[i].id);
        if (n == -EBUSY)
            sched_yield();
    }
    ts_free(rows);
    return unused;
}

static void *count(void *unused)
{
    struct ts_cpu_stats stats[1];
    struct ts_probe_stats of_probe;
    struct ts_buffer_stats of_buffer;
    uint64_t wakeups;

    pthread_barrier_wait(&started);
    for (int i = 0; i < COUNTS; i++) {
        CHECK(ts_exits_buffer_stats(exits, &of_buffer) == (buffered ? 0 : -EOPNOTSUPP));
        CHECK(of_buffer.used <= of_buffer.bytes);
        CHECK(ts_exits_stats(exits, stats, &wakeups) == 1);
        CHECK(ts_exits_probe_stats(exits, &of_probe) == (probe ? 0 : -EOPNOTSUPP));
        atomic_fetch_add(&counted, 1);
    }
    return unused;
}

/* When half of the exits are out. */
static void *stop(void *unused)
{
    pthread_barrier_wait(&started);
    while (atomic_load(&made) < EXITS / 2)
        sched_yield();
    CHECK(ts_exits_stop(exits) == 0);
    return unused;
}

static void *close_both(void *unused)
{
    pthread_barrier_wait(&started);
    while (atomic_load(&made) < EXITS * 3 / 4)
        sched_yield();
    CHECK(ts_exits_close(exits) == 0);
    CHECK(ts_client_close(client) == 0);
    return unused;
}

static void skip_unless(int rc)
{
    if (rc < 0 && with_kernel) {
        printf("threads, kernel: not here: %s\n", strerror(-rc));
        exit(getenv("TASKSTATS_REQUIRE_KERNEL") != NULL);
    }
    CHECK(rc == 0);
}

/* Of each record that was received it is known what became of it. */
static void check_counts(void)
{
    struct ts_cpu_stats stats[1];
    struct ts_probe_stats of_probe;
    uint64_t wakeups;

    CHECK(ts_exits_stats(exits, stats, &wakeups) == 1);
    CHECK(ts_exits_probe_stats(exits, &of_probe) == 0 && !of_probe.damaged);
    CHECK(stats[0].received == of_probe.settled + of_probe.unsettled + of_probe.held);
    atomic_fetch_add(&settled, of_probe.settled);
}

static int open_probe(void)
{
    struct ts_probe_wanted wanted = {
        .ring_size = 1 << 20,
        .peer = with_kernel ? NULL : &ring,
    };
    struct ts_opened opened;

    return ts_probe_open(&wanted, &probe, &opened);
}

static void run_round(unsigned with_filter, unsigned with_probe, unsigned with_buffer)
{
    static const struct ts_instruction all = {.code = 0x06, .k = 0xffffffff}; /* BPF: take */
    void *(*const works[])(void *) = {make_exits, query, drain, count, stop, close_both};
    struct ts_wanted wanted = {
        .cpus = &cpu,
        .n_cpus = 1,
        .rcvbuf = 64 << 10, /* so little that it overflows at times */
        .filter = with_filter ? &all : NULL,
        .n_filter = with_filter,
        .buffer = with_buffer << 20,
        .latency_ns = 1000000,
    };
    struct ts_opened opened;
    int rc;
    pthread_t threads[2 + THREADS * 4];
    unsigned n = 0;

    buffered = with_buffer;
    if (with_probe)
        skip_unless(open_probe());
    wanted.probe = probe;
    wanted.settle_ns = SETTLE_NS;
    rc = ts_exits_open(&endpoint, &wanted, &exits, &opened);
    skip_unless(rc);
    CHECK(ts_client_open(&endpoint, 64 << 10, &client, &opened) == 0);
    atomic_store(&made, 0);
    for (unsigned i = 0; i < sizeof(works) / sizeof(works[0]); i++)
        for (unsigned j = 0; j < (works[i] == make_exits || works[i] == stop ? 1 : THREADS);
             j++)
            threads[n++] = start(works[i], NULL);
    CHECK(n == sizeof(threads) / sizeof(threads[0]));
    while (n)
        join(threads[--n]);
    if (probe) {
        check_counts();
        CHECK(ts_probe_close(probe) == 0);
    }
    ts_free(exits);
    ts_free(client);
    ts_free(probe);
    probe = NULL;
}

static uint16_t first_cpu(void)
{
    cpu_set_t allowed;
    uint16_t first = 0;

    CHECK(sched_getaffinity(0, sizeof(allowed), &allowed) == 0);
    while (!CPU_ISSET(first, &allowed))
        first++;
    return first;
}

static const char *possible_cpus(void)
{
    static char list[256];
    FILE *file = fopen("/sys/devices/system/cpu/possible", "r");

    CHECK(file && fgets(list, sizeof(list), file));
    fclose(file);
    list[strcspn(list, "\n")] = 0;
    return list;
}

int main(int argc, char **argv)
{
    pthread_t player = 0;

    CHECK(argc == 2);
    with_kernel = strcmp(argv[1], "kernel") == 0;
    CHECK(pthread_barrier_init(&started, NULL, 2 + THREADS * 4) == 0);
    cpu = first_cpu();
    if (with_kernel) {
        endpoint = (struct ts_endpoint){
            .protocol = NETLINK_GENERIC,
            .synchronous = 1,
            .timeout_ms = 60000,
            .cpus = possible_cpus(),
        };
    } else {
        open_peer();
        player = start(play, NULL);
    }
    for (unsigned i = 0; i < ROUNDS; i++)
        run_round(i % 2, i / 2 % 2, i / 4 % 2);
    if (!with_kernel)
        close_peer(player);
    printf("threads, %s: %d listeners and clients; %lu queries answered, %lu after the close; "
           "%lu records heard, %lu of them from a buffer, %lu settled, %lu drains refused; %lu "
           "counts\n",
           argv[1], ROUNDS, answered, refused, heard, through_buffer, settled, busy, counted);
    CHECK(answered && refused && heard && through_buffer && counted && settled);
    return 0;
}
