/* settle.c: joins by example, at the limits of what is kept, and many that a generator plays.
 */
#include "settle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "events.h"
#include "properties.h"

#define MOST_ENDS 1000u
#define STORIES 20000u
#define LONGEST 400u
#define RING (1u << 16)
#define ROWS 5000u
#define SETTLE_NS 1000
#define HELD_AT_MOST (TS_MOST_HELD + TS_MOST_TAKEN)

static struct ts_settler *settler;
static struct ts_ring ring;
static uint64_t consumer, producer;
static uint8_t *data;
static struct ts_sink sink;

static void open_settler(void)
{
    settler = ts_settler_new(SETTLE_NS, 1, MOST_ENDS);
    consumer = producer = 0;
    ts_ring_open(&ring, &consumer, &producer, data, RING);
    sink.n_tasks = sink.n_groups = 0;
    sink.capacity = ROWS;
}

static void put(const void *event, uint32_t size)
{
    uint32_t at = (uint32_t)(producer % RING);

    CHECK(at + 8 + size <= RING);
    memcpy(data + at, &size, sizeof(size));
    memcpy(data + at + 8, event, size);
    producer += 8 + (size + 7) / 8 * 8;
    if (RING - producer % RING < 2048) { /* one that was given up fills the rest */
        size = (RING - (uint32_t)(producer % RING) - 8);
        memcpy(data + producer % RING, &(uint32_t){size | 1u << 30}, sizeof(size));
        producer += 8 + size;
    }
}

/* The end of a task that began at 100, as its record has it (`record` below). */
static struct ts_end_event end_of(uint32_t pid)
{
    return (struct ts_end_event){
        .event = TS_EVENT_END,
        .pid = pid,
        .tgid = pid,
        .runs = 3,
        .start_ns = 5,
        .began_ns = 100,
        .ended_ns = 100 + 9000,
        .cpu_ns = 2000,
        .waited_ns = 50,
        .cgroup_id = pid + 1000,
    };
}

static void put_end(struct ts_end_event event)
{
    put(&event, sizeof(event));
    ts_settler_read(settler, &ring, &sink);
}

static struct ts_record *record(uint32_t pid)
{
    struct ts_record *made = &sink.tasks[sink.n_tasks++];

    *made = (struct ts_record){
        .id = pid,
        .kind = TS_TASK,
        .stats.ac_tgid = pid,
        .stats.ac_etime = 8,
        .stats.cpu_count = 3,
        .stats.cpu_delay_total = 50,
        .stats.cpu_run_virtual_total = 1500,
    };
    return made;
}

static void take(int64_t now)
{
    ts_settler_take(settler, &sink, 0, 0, 1, now);
    ts_settler_release(settler, &sink, now);
}

/* The rows in the sink, which are taken out: how many, and whether the first is settled. */
static void expect(uint32_t n, int is_settled)
{
    CHECK(sink.n_tasks == n);
    if (n)
        CHECK(!(sink.tasks[0].flags & TS_SETTLED) == !is_settled);
    sink.n_tasks = sink.n_groups = 0;
}

static void expect_counts(uint64_t settled, uint64_t unsettled, uint64_t held)
{
    struct ts_probe_stats stats;

    ts_settler_count(settler, &stats);
    CHECK(stats.settled == settled && stats.unsettled == unsettled && stats.held == held);
}

/* ---- one task ---- */

/* What a row and an end must agree in, and by how much they may differ: the row as `record`
 * makes it, the end changed in one member. */
static void check_fit(void)
{
    static const struct {
        size_t at;
        int is_long;
        int64_t by;
        int fits;
    } changes[] = {
#define OF(member) offsetof(struct ts_end_event, member), sizeof(end_of(0).member) == 8
        {OF(pid), 1, 0},          {OF(tgid), 1, 0},         {OF(runs), 0, 1},
        {OF(runs), -1, 0},        {OF(runs), 1, 1}, /* it had to wait once more */
        {OF(runs), -3, 1},                          /* 0: this kernel does not count them */
        {OF(waited_ns), 0, 1},    {OF(waited_ns), -1, 0},   {OF(waited_ns), 1, 0},
        {OF(cpu_ns), -500, 1},    {OF(cpu_ns), -501, 0},    {OF(ended_ns), -1000, 1},
        {OF(ended_ns), -1001, 0}, {OF(ended_ns), -9001, 0},
#undef OF
    };

    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        struct ts_end_event end = end_of(7);
        uint8_t *at = (uint8_t *)&end + changes[i].at;
        uint64_t wide;
        uint32_t narrow;

        memcpy(&wide, &(uint64_t){0}, sizeof(wide));
        if (changes[i].is_long) {
            memcpy(&wide, at, sizeof(wide));
            wide += (uint64_t)changes[i].by;
            memcpy(at, &wide, sizeof(wide));
        } else {
            memcpy(&narrow, at, sizeof(narrow));
            narrow += (uint32_t)changes[i].by;
            memcpy(at, &narrow, sizeof(narrow));
        }
        open_settler();
        record(7);
        if (end.runs == 0)
            sink.tasks[0].stats.cpu_count = 0;
        put_end(end);
        take(20000);
        ts_settler_release(settler, &sink, 20000 + SETTLE_NS);
        expect_counts(changes[i].fits != 0, changes[i].fits == 0, 0);
        CHECK(sink.n_tasks == 1);
        if (changes[i].fits)
            CHECK(sink.tasks[0].final_cpu_ns == end.cpu_ns && sink.tasks[0].start_ns == 5 &&
                  sink.tasks[0].cgroup_id == 1007);
        ts_settler_free(settler);
    }
}

static void check_order(void)
{
    open_settler();
    record(1);
    record(2);
    record(3);
    put_end(end_of(2));
    take(20000);
    expect(0, 0); /* the second has its end, and stands behind the first */
    expect_counts(1, 0, 2);
    CHECK(ts_settler_held(settler) == 3 && ts_settler_due(settler) == 20000 + SETTLE_NS);
    put_end(end_of(1));
    ts_settler_release(settler, &sink, 20001);
    CHECK(sink.n_tasks == 2 && sink.tasks[0].id == 1 && sink.tasks[1].id == 2);
    expect(2, 1);
    ts_settler_release(settler, &sink, 20000 + SETTLE_NS - 1);
    expect(0, 0);
    ts_settler_release(settler, &sink, 20000 + SETTLE_NS);
    expect(1, 0);
    put_end(end_of(3)); /* too late */
    take(30000);
    expect(0, 0);
    expect_counts(2, 1, 0);
    ts_settler_free(settler);
}

/* What two ends fit, or two rows, nobody knows. */
static void check_doubt(void)
{
    open_settler();
    put_end(end_of(1));
    put_end(end_of(1));
    record(1);
    take(20000);
    ts_settler_release(settler, &sink, 20000 + SETTLE_NS);
    expect(1, 0);
    expect_counts(0, 1, 0);

    record(2);
    record(2);
    take(30000);
    put_end(end_of(2));
    ts_settler_release(settler, &sink, 30000 + SETTLE_NS);
    expect(2, 0);
    expect_counts(0, 3, 0);
    ts_settler_free(settler);
}

/* Nor does an end count that fits, where another one may fit: before its last wait the task
 * had run as often, and had waited as long, as the other one. */
static void check_no_proof(void)
{
    struct ts_end_event own = end_of(1);

    open_settler();
    own.runs++;
    put_end(own);
    put_end(end_of(1));
    record(1);
    take(20000);
    ts_settler_release(settler, &sink, 20000 + SETTLE_NS);
    expect(1, 0);
    expect_counts(0, 1, 0);
    ts_settler_free(settler);
}

/* A thread that calls exec takes the pid and the start of the leader. Which end is of which
 * record is not known, but which process both are of: neither is held for long. */
static void check_exec_by_thread(int is_heard)
{
    struct ts_end_event thread = end_of(1);

    open_settler();
    if (is_heard)
        ts_settler_hear_all(settler, 0);
    thread.ended_ns += 9000;
    thread.cpu_ns++;
    put_end(end_of(1));
    put_end(thread);
    record(1)->cpu = 0;
    record(1)->cpu = 1;
    for (int i = 0; i < 2 + is_heard; i++) {
        take(20000 + i);
        CHECK(!ts_settler_is_in_doubt(settler));
        CHECK(sink.n_tasks == (i == 1 + is_heard ? 2 : 0));
    }
    for (unsigned i = 0; i < sink.n_tasks; i++) {
        CHECK(!(sink.tasks[i].flags & TS_SETTLED) && sink.tasks[i].final_cpu_ns == 0);
        CHECK(sink.tasks[i].start_ns == thread.start_ns);
    }
    ts_settler_free(settler);
}

/* Where every record is heard, the end of the leader is its own: it fits no other record. */
static void check_exec_by_thread_heard(void)
{
    struct ts_end_event thread = end_of(1);

    open_settler();
    ts_settler_hear_all(settler, 0);
    /* That two others are not told apart, and their ends are forgotten, changes nothing. */
    put_end(end_of(2));
    put_end(end_of(2));
    record(2);
    record(2);
    for (int i = 0; i < 3; i++) {
        take(19000 + i);
        CHECK(!ts_settler_is_in_doubt(settler));
    }
    expect(2, 0);
    take(19003);
    thread.ended_ns += 9000;
    thread.cpu_ns++;
    thread.runs++;
    put_end(end_of(1));
    put_end(thread);
    record(1)->cpu = 0;
    record(1)->stats.cpu_count++;
    take(20000);
    CHECK(sink.n_tasks == 0 && !ts_settler_is_in_doubt(settler));
    take(20500);
    CHECK(sink.n_tasks == 0 && ts_settler_is_in_doubt(settler));
    ts_settler_resolve(settler, 0, 20500);
    ts_settler_release(settler, &sink, 20500);
    CHECK(sink.n_tasks == 2);
    CHECK(sink.tasks[0].final_cpu_ns == end_of(1).cpu_ns);
    CHECK(sink.tasks[1].final_cpu_ns == thread.cpu_ns);
    ts_settler_free(settler);
}

/* Two ends that can be no other row's than this: one of them has no row after all. */
static void check_two_claims(void)
{
    struct ts_end_event other = end_of(1);

    open_settler();
    ts_settler_hear_all(settler, 0);
    other.start_ns++;
    put_end(end_of(1));
    put_end(other);
    record(1);
    take(20000);
    take(20001);
    CHECK(ts_settler_is_in_doubt(settler));
    ts_settler_resolve(settler, 0, 20001);
    ts_settler_release(settler, &sink, 20001);
    CHECK(sink.n_tasks == 0);
    ts_settler_free(settler);
}

/* The first record of a queue was made before the task of the second one ended, here at
 * 9100: of two ends that fit the first one, one is from later. */
static void check_later_owner(void)
{
    for (uint16_t cpu = 0; cpu < 3; cpu++)
        for (uint64_t made = 9100; made <= 9101; made++) {
            struct ts_end_event later = end_of(1);

            open_settler();
            later.began_ns = made - 8000;
            later.ended_ns = made + 1000;
            record(1)->cpu = cpu;
            record(2)->cpu = cpu;
            put_end(end_of(1));
            put_end(later);
            put_end(end_of(2));
            take(20000);
            ts_settler_release(settler, &sink, 20000 + SETTLE_NS);
            CHECK(!(sink.tasks[0].flags & TS_SETTLED) == (made == 9100 || cpu == 2));
            CHECK(sink.tasks[1].flags & TS_SETTLED);
            ts_settler_free(settler);
        }
}

/* Where ends were lost none is believed: the row's own may be among these. */
static void check_lost(void)
{
    for (uint64_t lost = 0; lost < 2; lost++) {
        struct ts_end_event end = end_of(1);

        open_settler();
        end.runs++;
        record(1);
        record(2);
        put_end(end);
        put_end(end_of(2));
        ts_settler_count_lost(settler, lost, 20000);
        take(20000);
        ts_settler_release(settler, &sink, 20000 + SETTLE_NS);
        for (uint32_t i = 0; i < 2; i++)
            CHECK(!(sink.tasks[i].flags & TS_SETTLED) == (lost == 1));
        expect(2, lost == 0);

        /* The next drain finds the queues empty. What is read later ends after that. */
        ts_settler_begin(settler, 30000);
        take(30000);
        end = end_of(3);
        end.began_ns = end.start_ns = 40000;
        end.ended_ns = 49000;
        record(3);
        put_end(end);
        end.pid = end.tgid = 4;
        end.runs++;
        record(4);
        put_end(end);
        take(60000);
        expect(2, 1);
        expect_counts(4 - 2 * lost, 2 * lost, 0);
        ts_settler_free(settler);
    }
}

/* Two rows wait, and two ends fit both. The end of a third row has not come, and of the two
 * ends only one fits it: it must not get that one. */
static void check_end_of_one_that_waits(void)
{
    struct ts_end_event end = end_of(1);

    open_settler();
    put_end(end);
    end.began_ns = end.start_ns = 20000;
    end.ended_ns = 20000 + 8500;
    put_end(end);
    record(1)->stats.ac_etime = 6;
    record(1)->stats.ac_etime = 6;
    record(1)->stats.ac_etime = 9;
    take(40000);
    ts_settler_release(settler, &sink, 40000 + SETTLE_NS);
    CHECK(sink.n_tasks == 3);
    for (uint32_t i = 0; i < 3; i++)
        CHECK(!(sink.tasks[i].flags & TS_SETTLED));
    ts_settler_free(settler);
}

/* A task that ran once more after its record was made, at 8100: by the clock of the events,
 * which a peer may have, the record was not read before that. */
static void check_clock(void)
{
    for (uint64_t clock = 8099; clock <= 8100; clock++) {
        struct ts_end_event end = end_of(1);

        open_settler();
        end.runs++;
        ts_settler_use_clock(settler, &clock);
        record(1);
        put_end(end);
        take(20000);
        ts_settler_release(settler, &sink, 20000 + SETTLE_NS);
        expect(1, clock == 8100);
        ts_settler_free(settler);
    }
}

/* Nor did a task end before an earlier record of its queue was made, here at 8100. Of a CPU
 * that the settler was not told of nothing is known. */
static void check_queue_order(void)
{
    for (uint16_t cpu = 0; cpu < 3; cpu++)
        for (uint64_t runs = 0; runs < 2; runs++)
            for (uint64_t ended = 8099; ended <= 8100; ended++) {
                struct ts_end_event second = end_of(2);

                open_settler();
                second.began_ns = ended - 8000;
                second.ended_ns = ended;
                second.runs += (uint32_t)runs;
                record(1)->cpu = cpu;
                record(2)->cpu = cpu;
                put_end(end_of(1));
                put_end(second);
                take(200000000);
                ts_settler_release(settler, &sink, 200000000 + SETTLE_NS);
                CHECK(sink.n_tasks == 2 && sink.tasks[0].flags & TS_SETTLED);
                CHECK(!(sink.tasks[1].flags & TS_SETTLED) == (ended == 8099 && cpu < 2));
                ts_settler_free(settler);
            }
}

/* ---- limits ---- */

static void check_most_held(void)
{
    uint32_t taken = 0;
    uint32_t out = 0;

    open_settler();
    while (taken < TS_MOST_HELD + 10) {
        CHECK(sink.n_tasks == 0 && ts_settler_room(settler) > 0);
        while (sink.n_tasks < 1000)
            record(++taken);
        ts_settler_take(settler, &sink, 0, 0, 1, 1);
        ts_settler_release(settler, &sink, 1);
        for (uint32_t i = 0; i < sink.n_tasks; i++)
            CHECK(sink.tasks[i].id == ++out && !(sink.tasks[i].flags & TS_SETTLED));
        sink.n_tasks = 0;
        CHECK(out == (taken > TS_MOST_HELD ? taken - TS_MOST_HELD : 0));
    }
    expect_counts(0, out, taken - out);
    ts_settler_release(settler, &sink, 1 + SETTLE_NS);
    CHECK(sink.n_tasks == ROWS && sink.tasks[0].id == out + 1);
    CHECK(ts_settler_is_full(settler));
    ts_settler_free(settler);
}

/* A row whose group finds no room is not handed out without it: then `room` gets less. */
static void check_no_room(void)
{
    uint32_t n = 0;

    open_settler();
    for (;;) {
        uint32_t room = ts_settler_room(settler);
        uint32_t group;

        CHECK(room == (HELD_AT_MOST - n < TS_MOST_TAKEN ? HELD_AT_MOST - n : TS_MOST_TAKEN));
        if (room == 0)
            break;
        sink.capacity = ROWS;
        for (uint32_t i = 0; i < room && i < 3000; i++) {
            struct ts_record *task = record(++n);
            task->flags = TS_PAIRED;
            task->row = sink.n_groups;
            sink.groups[sink.n_groups++] = *task;
            sink.groups[task->row].row = sink.n_tasks - 1;
        }
        ts_settler_take(settler, &sink, 0, 0, 1, 1);
        CHECK(sink.n_tasks == 0 && sink.n_groups == 0);
        sink.capacity = sink.n_groups = group = 7; /* other groups fill the sink */
        ts_settler_release(settler, &sink, 1 + SETTLE_NS);
        CHECK(sink.n_tasks == 0 && sink.n_groups == group && ts_settler_is_full(settler));
        sink.n_groups = 0;
    }
    sink.capacity = ROWS;
    for (uint32_t out = 0; out < n; sink.n_tasks = sink.n_groups = 0) {
        ts_settler_release(settler, &sink, 1 + SETTLE_NS);
        CHECK(sink.n_tasks == sink.n_groups && sink.n_tasks > 0);
        for (uint32_t i = 0; i < sink.n_tasks; i++)
            CHECK(sink.tasks[i].id == ++out && sink.groups[sink.tasks[i].row].id == out);
    }
    expect_counts(0, n, 0);
    ts_settler_free(settler);
}

/* The end that nobody claimed for longest is forgotten for a new one, and counts as lost:
 * no end is believed but of a task that certainly ended later. */
static void check_most_ends(void)
{
    struct ts_end_event last = end_of(MOST_ENDS + 1);

    open_settler();
    last.began_ns += 100;
    last.ended_ns += 100;
    for (uint32_t pid = 1; pid <= MOST_ENDS; pid++)
        put_end(end_of(pid));
    put_end(last);
    ts_settler_begin(settler, 9100);
    ts_settler_take(settler, &sink, 0, 0, 1, 20000);
    record(1);
    record(MOST_ENDS + 1);
    ts_settler_take(settler, &sink, 0, 0, 0, 20000);
    expect_counts(0, 0, 2);
    ts_settler_release(settler, &sink, 20000 + SETTLE_NS);
    sink.n_tasks = 0;
    put_end(last);
    ts_settler_begin(settler, 9101);
    ts_settler_take(settler, &sink, 0, 0, 1, 20000);
    record(MOST_ENDS + 1);
    ts_settler_take(settler, &sink, 0, 0, 0, 20000);
    expect_counts(1, 2, 0);
    ts_settler_free(settler);
}

/* A queue that was read until it was empty: then the ends of before fit nothing that comes. */
static void check_forgotten(void)
{
    for (int emptied = 0; emptied < 2; emptied++) {
        open_settler();
        put_end(end_of(1));
        ts_settler_take(settler, &sink, 0, 0, 0, 20000);
        put_end(end_of(2));
        ts_settler_take(settler, &sink, 0, 0, emptied, 20000);
        record(1);
        record(2); /* which was read after the queues */
        ts_settler_take(settler, &sink, 0, 0, 0, 20000);
        expect_counts(emptied ? 1 : 2, 0, emptied ? 1 : 0);
        ts_settler_free(settler);
    }
}

/* ---- damage ---- */

static void check_damage(void)
{
    static const uint32_t sizes[] = {
        [0] = 0,
        [TS_EVENT_END] = sizeof(struct ts_end_event),
        [TS_EVENT_BIRTH] = sizeof(struct ts_birth_event),
        [TS_EVENT_CGROUP] = sizeof(struct ts_cgroup_event),
    };
    uint8_t *event = check_alloc(2048);

    memset(event, 0xa5, 2048);
    for (uint32_t kind = 0; kind <= TS_EVENTS; kind++)
        for (uint32_t size = 0; size <= 2048; size++) {
            int is_right = kind && kind < TS_EVENTS && size == sizes[kind];
            memcpy(event, &kind, sizeof(kind));
            open_settler();
            put(event, size);
            ts_settler_read(settler, &ring, &sink);
            CHECK(ring.damaged == !is_right);
            put_end(end_of(1));
            record(1);
            take(20000);
            expect(1, is_right); /* what comes after the damage is not read, nor waited for */
            ts_settler_free(settler);
        }
    free(event);
}

int main(void)
{
    uint32_t state = 1;

    data = check_alloc(RING);
    sink.tasks = check_alloc(ROWS * sizeof(*sink.tasks));
    sink.groups = check_alloc(ROWS * sizeof(*sink.groups));
    check_fit();
    check_order();
    check_doubt();
    check_no_proof();
    check_exec_by_thread(0);
    check_exec_by_thread(1);
    check_exec_by_thread_heard();
    check_two_claims();
    check_later_owner();
    check_lost();
    check_end_of_one_that_waits();
    check_clock();
    check_queue_order();
    check_most_held();
    check_no_room();
    check_most_ends();
    check_forgotten();
    check_damage();
    free(data);
    free(sink.tasks);
    free(sink.groups);
    for (uint32_t i = 0; i < STORIES; i++) {
        uint8_t story[LONGEST];
        uint32_t size = check_random(&state) % LONGEST;
        for (uint32_t j = 0; j < size; j++)
            story[j] = (uint8_t)(check_random(&state) >> 16);
        check_settling(story, size);
    }
    printf("settle: by example, and %u listeners: %lu checks\n", STORIES, checks);
    return 0;
}
