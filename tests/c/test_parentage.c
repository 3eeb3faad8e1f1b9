/* parentage.c: with memory that is refused, and where there is much of something. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "properties.h"
#include "taskstats_shim.h"

#define STORIES 3000u
#define REFUSED 3000u
#define LONGEST 400u
#define SECOND UINT64_C(1000000000)
#define BOOT (UINT64_C(1700000000) * SECOND)

/* ---- memory: the linker gives these the calls ---- */

void *__real_malloc(size_t size);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *memory, size_t size);

static uint32_t calls, refused_from, refused_to; /* calls to refuse */

static int is_refused(void)
{
    calls++;
    return calls >= refused_from && calls < refused_to;
}

void *__wrap_malloc(size_t size)
{
    return is_refused() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t n, size_t size)
{
    return is_refused() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *memory, size_t size)
{
    return is_refused() ? NULL : __real_realloc(memory, size);
}

/* ---- examples ---- */

static struct ts_jobs *jobs;
static struct ts_parentage *parentage;
static struct ts_parentage_counts counts;
static uint64_t now_ns; /* CLOCK_BOOTTIME */

static struct ts_moment moment(void)
{
    struct ts_moment now = {.boot_ns = (int64_t)now_ns,
                            .real_ns = (int64_t)(BOOT + now_ns),
                            .monotonic_ns = (int64_t)now_ns};

    return now;
}

static void open_all(uint32_t capacity)
{
    now_ns = 100 * SECOND;
    CHECK(ts_jobs_new(100, 1, &jobs) == 0);
    CHECK(ts_parentage_new(jobs, capacity, &parentage) == 0);
}

static void close_all(void)
{
    ts_parentage_free(parentage);
    ts_jobs_free(jobs);
}

/* A job whose root is a child of process 1, and lives. */
static uint32_t start(uint32_t root)
{
    struct ts_alive init = {.pid = 1};
    struct ts_lineage of = {.one = {.pid = root, .ppid = 1, .start_ns = now_ns},
                            .ancestors = &init,
                            .n = 1,
                            .is_whole = 1};
    struct ts_job_wanted wanted = {
        .root = root, .start_ns = now_ns, .start_end_ns = now_ns + 9};
    struct ts_moment now = moment();
    uint32_t number, outer;

    CHECK(ts_jobs_start(jobs, &wanted, &number) == 0);
    CHECK(ts_parentage_start(parentage, number, &of, NULL, &now, &outer) == 0);
    CHECK(outer == TS_NO_JOB || outer == TS_UNDECIDED);
    return number;
}

static void end(uint32_t pid, uint32_t ppid)
{
    struct ts_record record = {.flags = TS_LAST, .received_ns = BOOT + now_ns};
    struct ts_moment now = moment();

    record.stats.ac_pid = record.stats.ac_tgid = pid;
    record.stats.ac_ppid = ppid;
    record.stats.ac_tgetime = 1000000;
    record.stats.ac_btime64 = (BOOT + now_ns) / SECOND;
    CHECK(ts_parentage_feed(parentage, &record, 1, &now, NULL) == 0);
}

/* Looks up what is wanted: the processes from 1 to `most` live, each a child of the one before,
 * and process 1 and the root since the beginning. */
static int settle(int emptied, uint32_t most)
{
    struct ts_moment now = moment();
    int wanted = ts_parentage_settle(parentage, emptied ? (int64_t)now_ns : -1, &now);

    while (wanted > 0) {
        uint32_t *pids = __real_malloc((size_t)wanted * sizeof(*pids));
        struct ts_alive *found = __real_malloc((size_t)wanted * sizeof(*found));
        uint32_t n = 0;
        ts_parentage_wanted(parentage, pids);
        for (int i = 0; i < wanted; i++)
            if (pids[i] <= most)
                found[n++] = (struct ts_alive){.pid = pids[i],
                                               .ppid = pids[i] - 1,
                                               .start_ns = pids[i] > 1 ? 100 * SECOND : 0};
        wanted = ts_parentage_found(parentage, found, n, now.real_ns, &now);
        free(pids);
        free(found);
    }
    return wanted;
}

static void expect(uint64_t attributed, uint64_t undecided, uint64_t evicted)
{
    struct ts_jobs_counts all;

    ts_jobs_count(jobs, &all);
    ts_parentage_count(parentage, &counts);
    CHECK(all.attributed == attributed && all.undecided == undecided);
    CHECK(all.evicted == evicted);
}

/* A hundred thousand processes, each the parent of the next, whose records are read first. */
static void check_deep(void)
{
    enum { DEPTH = 100000 };

    open_all(2 * DEPTH);
    start(2);
    now_ns += 10 * SECOND;
    for (uint32_t i = DEPTH; i; i--)
        end(100 + i, i == 1 ? 2 : 99 + i);
    CHECK(settle(1, 2) == 0);
    expect(0, 0, 0);
    CHECK(counts.waiting == DEPTH && counts.waiting_since == BOOT + now_ns);
    CHECK(settle(1, 2) == 0);
    expect(DEPTH, 0, 0);
    CHECK(counts.waiting == 0 && counts.waiting_since == 0);
    close_all();
}

/* Many wait, and there are many jobs that each of them may be of. */
static void check_many(void)
{
    enum { WAITING = 20000, N_JOBS = 90 };
    struct ts_job_counts of_job;

    open_all(WAITING);
    for (uint32_t i = 0; i < N_JOBS; i++)
        start(2 + i);
    now_ns += 10 * SECOND;
    for (uint32_t i = 0; i < WAITING; i++)
        end(200000 + i, 500000 + i); /* nobody knows the parent */
    CHECK(settle(1, 1) == 0 && settle(1, 1) == 0);
    expect(0, WAITING, 0);
    CHECK(counts.bytes < WAITING * 1200u);
    ts_job_count(jobs, 5, &of_job);
    CHECK(of_job.undecided == WAITING);
    close_all();
}

/* More wait than may. */
static void check_bounds(void)
{
    open_all(10);
    start(2);
    now_ns += 10 * SECOND;
    for (uint32_t i = 0; i < 100000; i++) {
        end(3 + i % 20000, 2);
        if (i % 5 == 0)
            CHECK(settle(0, 2) == 0);
        ts_parentage_count(parentage, &counts);
        CHECK(counts.waiting <= 15 && counts.remembered <= 17);
        CHECK(counts.processes < 30 && counts.bytes < 200000);
    }
    CHECK(settle(1, 2) == 0 && settle(1, 2) == 0);
    expect(100000, 0, 0);
    close_all();
}

/* Processes that are seen alive take no more room than there is. */
static void check_room(void)
{
    enum { SEEN = 10000 };

    open_all(1);
    for (uint32_t i = 0; i < SEEN; i++) {
        struct ts_alive one = {.pid = 10 + i, .ppid = 0, .start_ns = SECOND};
        struct ts_moment now = moment();
        int rc = ts_parentage_join(parentage, 0, &one, NULL, 0, &now);
        CHECK(rc == 0 || (rc == -ENOMEM && i > 4000));
    }
    ts_parentage_count(parentage, &counts);
    CHECK(counts.processes > 4000 && counts.processes < SEEN);
    end(3, 2);
    CHECK(settle(1, 2) == -ENOMEM);
    expect(0, 0, 1);
    close_all();
}

/* A job that there was no memory for has not begun; records are given up. */
static void check_refused(void)
{
    struct ts_alive init = {.pid = 1};
    struct ts_lineage of = {
        .one = {.pid = 2, .ppid = 1}, .ancestors = &init, .n = 1, .is_whole = 1};
    struct ts_moment now = {0};
    struct ts_job_counts of_job;
    uint32_t outer, job;

    open_all(10);
    calls = 0;
    refused_from = 1;
    refused_to = 2;
    CHECK(ts_parentage_start(parentage, 7, &of, NULL, &now, &outer) == -ENOMEM);
    CHECK(ts_parentage_close(parentage, 7, TS_NO_JOB) == -EINVAL);
    refused_from = refused_to = 0;
    job = start(2);
    now_ns += 10 * SECOND;
    calls = 0;
    refused_from = 1;
    refused_to = 1000;
    end(10, 2);
    refused_from = refused_to = 0;
    end(11, 10); /* a child of a process that there was no memory for */
    CHECK(settle(1, 2) == -ENOMEM);
    CHECK(settle(1, 2) == 0);
    expect(0, 1, 1);
    ts_job_count(jobs, job, &of_job);
    CHECK(of_job.evicted == 1 && of_job.undecided == 1);
    close_all();
}

/* ---- stories ---- */

static void tell(uint32_t *state)
{
    uint8_t story[LONGEST];
    uint32_t size = check_random(state) % LONGEST;

    for (uint32_t i = 0; i < size; i++)
        story[i] = (uint8_t)(check_random(state) >> 16);
    check_parents(story, size);
}

int main(void)
{
    uint32_t state = 1;

    check_deep();
    check_many();
    check_bounds();
    check_room();
    check_refused();
    for (uint32_t i = 0; i < STORIES; i++)
        tell(&state);
    for (uint32_t i = 0; i < REFUSED; i++) {
        calls = 0;
        refused_from = 1 + i % 60;
        refused_to = refused_from + (i / 60 % 3 ? 1 : 1000);
        tell(&state);
    }
    printf("parentage: by example, and %u stories: %lu checks\n", STORIES + REFUSED, checks);
    return 0;
}
