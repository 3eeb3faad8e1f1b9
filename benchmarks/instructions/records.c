/* Decodes datagrams in every way there is, settles records, and gives them to jobs, each so
 * many times, for callgrind to count. It writes a dump for each: of what it counted in the
 * functions that
 * __init__.py names.
 *
 * Usage: records FRAMES TIMES */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <valgrind/callgrind.h>

#include "check.h"
#include "decode.h"
#include "events.h"
#include "frames.h"
#include "ring.h"
#include "sequence.h"
#include "settle.h"
#include "wire.h"

static const struct {
    const char *what;
    const char *frame;
} captured[] = {
    {"exit, version 10", "amd64-5.10/exit.bin"},
    {"exit, version 13", "amd64-6.1/exit.bin"},
    {"exit, version 13, padded", "uml61/exit.bin"},
    {"exit, version 16", "host618/exit.bin"},
    {"exit, version 17", "amd64-7.3/exit.bin"},
    {"last thread's exit, version 16", "host618/exit_thread3.bin"},
    {"last thread's exit, version 17", "amd64-7.3/exit_thread3.bin"},
    {"reply about a task, version 16", "host618/pid.bin"},
    {"reply about a group, version 16", "host618/tgid.bin"},
};

/* Of kernels that nothing was captured from: the oldest, a common one, the other layout. */
static const struct {
    const char *what;
    unsigned version;
    size_t size;
} made[] = {
    {"exit, version 4, made", 4, 272},
    {"exit, version 8, made", 8, 328},
    {"exit, version 15, made", 15, 560},
};

static unsigned times;
static struct ts_record task;
static struct ts_record group;

static void dump(const char *what, const char *way)
{
    char name[100];

    CHECK(snprintf(name, sizeof(name), "%s: %s", way, what) < (int)sizeof(name));
    CALLGRIND_DUMP_STATS_AT(name);
}

static struct ts_sink empty_sink(void)
{
    return (struct ts_sink){.tasks = &task, .groups = &group, .capacity = 1};
}

/* What any decoder that copies has to do: the bytes of each struct to its row, zeros after. */
__attribute__((noinline)) static void copy_alone(struct ts_record *row, const uint8_t *from,
                                                 size_t size)
{
    memcpy(&row->stats, from, size);
    memset((uint8_t *)&row->stats + size, 0, sizeof(row->stats) - size);
}

static void copy(const char *what, const uint8_t *datagram)
{
    struct ts_record *rows[] = {&task, &group};

    for (unsigned i = 0; i < times; i++)
        for (unsigned kind = 0; kind < 2; kind++)
            if (rows[kind]->kind)
                copy_alone(rows[kind], datagram, rows[kind]->size);
    dump(what, "copy");
}

static int decode(const char *what, const uint8_t *datagram, size_t size)
{
    int records = 0;

    for (unsigned i = 0; i < times; i++) {
        struct ts_sink sink = empty_sink();
        records = ts_decode(datagram, size, &sink);
        CHECK(records > 0);
    }
    dump(what, "whole");
    return records;
}

/* As it is received from the second of its kind on: up to the struct's end into its row. */
static void decode_cut(const char *what, const uint8_t *datagram, size_t size, int records)
{
    struct ts_shape shape;
    size_t cut;

    if (!ts_shape_learn(&shape, datagram, size))
        return;
    cut = shape.head_size + shape.size;
    for (unsigned i = 0; i < times; i++) {
        struct ts_sink sink = empty_sink();
        struct ts_datagram received = {.row = &task, .rest = datagram + cut, .size = size};
        memcpy((uint8_t *)&task.stats - shape.head_size, datagram, cut);
        CHECK(ts_decode_cut(&shape, &received, &sink) == records);
    }
    dump(what, "cut");
}

static void every_way(const char *what, const uint8_t *datagram, size_t size)
{
    memset(&task, 0, sizeof(task));
    memset(&group, 0, sizeof(group));
    int records = decode(what, datagram, size);
    copy(what, datagram);
    decode_cut(what, datagram, size, records);
}

static void make(const char *what, unsigned version, size_t size)
{
    static struct wire wire;
    struct aggregate_style plain = {0};

    wire.size = 0;
    wire_message(&wire, WIRE_FAMILY, 1, 0);
    wire_aggregate(&wire, WIRE_AGGR_PID, 4711, version, size, plain);
    wire_end_message(&wire, 0);
    every_way(what, wire.bytes, wire.size);
}

/* Each record's number is `step` after the last one's, with as many lost between. */
static void follow(const char *what, uint32_t step)
{
    struct ts_sequence sequence = {0};
    uint32_t seq = 0;

    ts_sequence_follow(&sequence, seq, 0);
    CALLGRIND_ZERO_STATS;
    for (unsigned i = 0; i < times; i++) {
        uint64_t lost = (uint64_t)(i + 1) * (step - 1);
        seq += step;
        CHECK(ts_sequence_expects(&sequence, seq) == (step == 1));
        CHECK(ts_sequence_follow(&sequence, seq, lost) == step - 1);
        CHECK(ts_sequence_unexplained(&sequence) == 0);
    }
    dump(what, "account");
}

/* ---- records that are settled ---- */

#define RING (1u << 16)
#define SETTLE_NS 1000000
#define SECOND INT64_C(1000000000)

static struct ts_settler *settler;
static struct ts_ring ring;
static uint64_t consumer, producer;
static _Alignas(8) uint8_t data[RING];

static void open_settler(void)
{
    settler = ts_settler_new(SETTLE_NS, 0, 1000);
    CHECK(settler);
    consumer = producer = 0;
    ts_ring_open(&ring, &consumer, &producer, data, sizeof(data));
}

static void read_end(uint32_t pid, struct ts_sink *sink)
{
    struct ts_end_event event = {
        .event = TS_EVENT_END,
        .pid = pid,
        .tgid = pid,
        .runs = 1,
        .began_ns = pid,
        .ended_ns = pid + 1000000,
    };
    uint32_t size = sizeof(event);

    if (producer % RING + 8 + size > RING) /* so that none goes round the end */
        consumer = producer = ring.position = ring.end = 0;
    memcpy(data + producer % RING, &size, sizeof(size));
    memcpy(data + producer % RING + 8, &event, size);
    producer += 8 + size;
    ts_settler_read(settler, &ring, sink);
}

/* A record of another task each time, whose end is read before it is taken, or after. */
static void settle(const char *what, int is_held)
{
    open_settler();
    for (unsigned i = 0; i < times + 1; i++) {
        struct ts_sink sink = empty_sink();
        int64_t now = i + 2000000;

        memset(&task, 0, sizeof(task));
        task.id = task.stats.ac_tgid = i + 1;
        task.stats.cpu_count = 1;
        sink.n_tasks = 1;
        if (!is_held)
            read_end(i + 1, &sink);
        ts_settler_take(settler, &sink, 0, 0, 1, now);
        if (is_held) {
            CHECK(sink.n_tasks == 0);
            read_end(i + 1, &sink);
            ts_settler_release(settler, &sink, now);
        }
        CHECK(sink.n_tasks == 1 && task.flags & TS_SETTLED);
        if (i == 0) /* the first end is kept at a place that is new */
            CALLGRIND_ZERO_STATS;
    }
    dump(what, "settle");
    ts_settler_free(settler);
}

/* An end, from the ring to where it is kept. */
static void keep(const char *what)
{
    struct ts_sink sink = empty_sink();

    open_settler();
    read_end(times + 1, &sink); /* the oldest has none before it */
    CALLGRIND_ZERO_STATS;
    for (unsigned i = 0; i < times; i++)
        read_end(i + 1, &sink);
    dump(what, "read");
    ts_settler_free(settler);
}

/* ---- records that are given to jobs ---- */

/* What a job takes in: records of no job; of single-threaded processes of a job, each with its
 * birth; of threads of one process of a job. */
static void feed_jobs(const char *what, int is_of_job, int is_thread)
{
    struct ts_job_wanted wanted = {.root = 2, .start_ns = 1, .start_end_ns = 1};
    struct ts_birth birth = {.maker_pid = is_of_job ? 2 : 3, .maker_start_ns = 1};
    struct ts_feed feed = {.tasks = &task, .births = &birth, .n_tasks = 1, .emptied = 1};
    struct ts_jobs *jobs;
    uint32_t number;

    CHECK(ts_jobs_new(1024, 0, &jobs) == 0);
    CHECK(ts_jobs_start(jobs, &wanted, &number) == 0);
    memset(&task, 0, sizeof(task));
    task.flags = is_thread ? TS_SETTLED : TS_SETTLED | TS_LAST;
    feed.n_births = !is_thread;
    for (unsigned i = 0; i < times + 1; i++) {
        birth.pid = task.stats.ac_pid = 10 + i;
        birth.start_ns = task.start_ns = 10 + i;
        task.stats.ac_tgid = is_thread ? 2 : 10 + i;
        CHECK(ts_jobs_check(jobs, &task, 1) >= 0);
        CHECK(ts_jobs_feed(jobs, &feed) == 0);
        if (i == 0) /* the first one makes room for the others */
            CALLGRIND_ZERO_STATS;
    }
    dump(what, "feed");
    ts_jobs_free(jobs);
}

/* Records of children of a living process, without births: each is taken, its parent is looked
 * up, and it is assigned and forgotten with one of those that follow. */
static void assign_jobs(const char *what, int is_of_job)
{
    struct ts_alive init = {.pid = 1}, parent = {.pid = 2, .ppid = 1, .start_ns = 10};
    struct ts_lineage root = {.one = parent, .ancestors = &init, .n = 1, .is_whole = 1};
    struct ts_job_wanted wanted = {.root = 2, .start_ns = 10, .start_end_ns = 10};
    struct ts_moment now = {.boot_ns = SECOND, .real_ns = 1000 * SECOND};
    struct ts_several several;
    struct ts_parentage *parentage;
    struct ts_jobs *jobs;
    uint32_t number, outer;

    CHECK(ts_jobs_new(1024, 0, &jobs) == 0);
    CHECK(ts_parentage_new(jobs, 3, &parentage) == 0);
    CHECK(ts_jobs_start(jobs, &wanted, &number) == 0);
    CHECK(ts_parentage_start(parentage, number, &root, NULL, &now, &outer) == 0);
    memset(&task, 0, sizeof(task));
    task.flags = TS_LAST;
    task.stats.ac_btime64 = is_of_job ? 1000 : 900; /* before the job began: of none */
    task.stats.ac_ppid = is_of_job ? 2 : 0;
    for (unsigned i = 0; i < times + 10; i++) {
        task.stats.ac_pid = task.stats.ac_tgid = 10 + i;
        now.monotonic_ns = i;
        if (i == 10) /* the first ones make room for the others */
            CALLGRIND_ZERO_STATS;
        CHECK(ts_parentage_feed(parentage, &task, 1, &now, &several) == 0);
        if (ts_parentage_settle(parentage, i, &now))
            CHECK(ts_parentage_found(parentage, &parent, 1, now.real_ns, &now) == 0);
    }
    dump(what, "assign");
    ts_parentage_free(parentage);
    ts_jobs_free(jobs);
}

int main(int argc, char **argv)
{
    CHECK(argc == 3);
    times = (unsigned)atoi(argv[2]);
    CHECK(times > 0);
    for (size_t i = 0; i < sizeof(captured) / sizeof(captured[0]); i++) {
        struct frame frame = read_frame(argv[1], captured[i].frame);
        every_way(captured[i].what, frame.bytes, frame.size);
    }
    for (size_t i = 0; i < sizeof(made) / sizeof(made[0]); i++)
        make(made[i].what, made[i].version, made[i].size);
    follow("the next number", 1);
    follow("a number after three lost", 4);
    settle("a record whose end is known", 0);
    settle("a record that waits for its end", 1);
    keep("an end");
    feed_jobs("a process of no job, with its birth", 0, 0);
    feed_jobs("a process of a job, with its birth", 1, 0);
    feed_jobs("a thread of a job", 1, 1);
    assign_jobs("a process of a job, without births", 1);
    assign_jobs("a process without a parent, without births", 0);
    return 0;
}
