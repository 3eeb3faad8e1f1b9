/* jobs.c: by example, by stories, and with memory that is refused. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "check.h"
#include "properties.h"
#include "taskstats_shim.h"

#define STORIES 5000u
#define REFUSED 2000u
#define LONGEST 400u
#define SINCE 1000u

/* ---- memory: the linker gives these the engine's calls ---- */

void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *memory, size_t size);

static uint32_t calls, refused_from, refused_to; /* calls to refuse */

static int is_refused(void)
{
    calls++;
    return calls >= refused_from && calls < refused_to;
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
static struct ts_job_counts counts;

static uint32_t start(uint32_t root, uint64_t start_ns)
{
    struct ts_job_wanted wanted = {
        .root = root, .start_ns = start_ns, .start_end_ns = start_ns + 9, .remember = 2};
    uint32_t number = TS_NO_JOB;

    CHECK(ts_jobs_start(jobs, &wanted, &number) == 0);
    return number;
}

static void born(uint32_t pid, uint64_t start_ns, uint32_t maker, uint64_t maker_start_ns,
                 uint64_t births_lost)
{
    struct ts_birth birth = {
        .pid = pid, .start_ns = start_ns, .maker_pid = maker, .maker_start_ns = maker_start_ns};
    struct ts_feed feed = {.births = &birth, .n_births = pid != 0, .births_lost = births_lost};

    CHECK(ts_jobs_feed(jobs, &feed) == 0);
}

/* A thread that started then, of a process; `group_runs`: it is the last of several. */
static void ended(uint32_t tgid, uint32_t pid, uint64_t start_ns, uint8_t flags,
                  uint64_t group_runs, uint64_t births_lost)
{
    struct ts_record record = {.flags = flags | TS_SETTLED, .start_ns = start_ns};
    struct ts_record group = {.kind = TS_GROUP};
    struct ts_feed feed = {
        .tasks = &record, .n_tasks = 1, .groups = &group, .births_lost = births_lost};

    record.stats.ac_tgid = tgid;
    record.stats.ac_pid = pid;
    record.stats.cpu_count = 1;
    if (group_runs) {
        record.flags |= TS_PAIRED;
        group.stats.cpu_count = group_runs;
        feed.n_groups = 1;
    }
    CHECK(ts_jobs_feed(jobs, &feed) == 0);
}

static uint64_t processes(uint32_t job, uint64_t *threads)
{
    struct ts_command commands[4];
    uint64_t n = 0;

    *threads = 0;
    for (int i = ts_job_commands(jobs, job, commands, 4); i--;) {
        n += commands[i].totals.processes;
        *threads += commands[i].totals.threads;
    }
    return n;
}

static void expect(uint32_t job, uint64_t n_processes, uint64_t n_threads, uint64_t living)
{
    uint64_t threads;

    CHECK(processes(job, &threads) == n_processes && threads == n_threads);
    ts_job_count(jobs, job, &counts);
    CHECK(counts.living == living);
}

static void open_jobs(uint32_t capacity)
{
    CHECK(ts_jobs_new(capacity, SINCE, &jobs) == 0);
}

static void check_inheritance(void)
{
    struct ts_ended remembered[2];
    uint32_t job;

    open_jobs(100);
    job = start(10, 2000);
    born(10, 2005, 1, 1, 0);
    born(11, 2100, 10, 2005, 0);
    born(12, 2200, 11, 2100, 0);
    born(13, 2300, 1, 1, 0); /* of no job */
    ended(11, 11, 2100, TS_LAST, 0, 0);
    ended(12, 12, 2200, TS_LAST, 0, 0);
    ended(13, 13, 2300, TS_LAST, 0, 0);
    born(11, 2400, 13, 2300, 0); /* its pid again, of no job */
    ended(11, 11, 2400, TS_LAST, 0, 0);
    expect(job, 2, 2, 1);
    CHECK(ts_job_ended(jobs, job, remembered, 2) == 2);
    CHECK(remembered[1].pid == 12 && remembered[1].start_ns == 2200);
    CHECK(remembered[1].maker_pid == 11 && remembered[1].maker_start_ns == 2100);
    ended(10, 10, 2005, TS_LAST, 0, 0);
    expect(job, 3, 3, 0);
    CHECK(counts.forgotten == 1 && !counts.births_lost && !counts.undecided);
    ts_jobs_free(jobs);
}

static void check_nested(void)
{
    uint32_t outer, inner, again;

    open_jobs(100);
    outer = start(10, 2000);
    born(11, 2100, 10, 2000, 0);
    inner = start(11, 2100);
    ts_job_count(jobs, inner, &counts);
    CHECK(counts.outer == outer);
    born(12, 2200, 11, 2100, 0);
    born(13, 2300, 11, 2100, 0);
    ended(12, 12, 2200, TS_LAST, 0, 0);
    expect(inner, 1, 1, 2);
    ts_jobs_close(jobs, inner); /* what it has is the outer one's */
    expect(outer, 1, 1, 1);
    again = start(20, 3000);
    CHECK(again != inner); /* two processes still refer to the number */
    ended(13, 13, 2300, TS_LAST, 0, 0);
    ended(11, 11, 2100, TS_LAST, 0, 0);
    expect(outer, 3, 3, 1);
    CHECK(start(30, 4000) == inner);
    expect(inner, 0, 0, 1);
    ts_jobs_free(jobs);
}

static void check_threads(void)
{
    struct ts_command command;
    uint32_t job;

    open_jobs(100);
    job = start(10, 2000);
    ended(10, 11, 2100, 0, 0, 0);
    expect(job, 0, 0, 1);
    ended(10, 10, 2000, TS_LAST, 3, 0);
    expect(job, 0, 0, 0); /* one is missing */
    ts_jobs_flush(jobs);
    expect(job, 1, 2, 0);
    ended(10, 12, 2200, 0, 0, 0); /* the kernel's sums had it */
    expect(job, 1, 3, 0);
    CHECK(ts_job_commands(jobs, job, &command, 1) == 1 && command.totals.sums[0] == 3);
    ts_jobs_free(jobs);
}

/* A thread of a process whose birth was lost must not be taken for one of an older process. */
static void check_lost_births(void)
{
    uint32_t job;

    open_jobs(100);
    job = start(10, 2000);
    ended(10, 11, 2100, 0, 0, 0);
    ended(10, 10, 2000, TS_LAST, 2, 0);
    expect(job, 1, 2, 0);
    born(0, 0, 0, 0, 1);
    ended(10, 12, 9000, 0, 0, 1);
    expect(job, 1, 2, 0);
    CHECK(counts.undecided == 1 && !counts.births_lost);
    ts_jobs_free(jobs);
    open_jobs(100);
    job = start(10, 2000);
    born(0, 0, 0, 0, 1);
    ended(50, 50, 2500, TS_LAST, 0, 1);
    ended(51, 51, 1500, TS_LAST, 0, 1); /* older than the job */
    expect(job, 0, 0, 1);
    CHECK(counts.undecided == 1 && counts.births_lost);
    ts_jobs_free(jobs);
}

static void check_capacity(void)
{
    struct ts_job_wanted wanted = {.root = 40, .start_ns = 9000, .start_end_ns = 9000};
    uint32_t job;

    open_jobs(2);
    job = start(10, 2000);
    born(11, 2100, 10, 2000, 0);
    CHECK(ts_jobs_start(jobs, &wanted, &job) == -ENOSPC);
    ts_job_count(jobs, job = 0, &counts);
    CHECK(!counts.births_lost);
    born(12, 2200, 11, 2100, 0); /* no room */
    ts_job_count(jobs, job, &counts);
    CHECK(counts.births_lost);
    ts_jobs_free(jobs);
}

/* The number of a job by cgroup is not given away while a process waits for its threads. */
static void check_cgroup_closed(void)
{
    struct ts_job_wanted wanted = {.outer = TS_NO_JOB};
    struct ts_record record = {.flags = TS_SETTLED | TS_LAST | TS_PAIRED, .start_ns = 2000};
    struct ts_record group = {.kind = TS_GROUP};
    struct ts_feed feed = {.tasks = &record, .n_tasks = 1, .groups = &group, .n_groups = 1};
    uint32_t job;

    open_jobs(100);
    CHECK(ts_jobs_start(jobs, &wanted, &job) == 0);
    record.stats.ac_tgid = record.stats.ac_pid = 10;
    record.cgroup_id = 5;
    ts_jobs_place_cgroup(jobs, 5, job);
    CHECK(ts_jobs_feed(jobs, &feed) == 0);
    ts_jobs_close(jobs, job);
    CHECK(start(20, 3000) != job);
    ts_jobs_flush(jobs);
    expect(job + 1, 0, 0, 1);
    ts_jobs_free(jobs);
}

/* The first number is free again while another job has living processes. */
static void check_members(void)
{
    struct ts_member member;
    uint32_t job, first;

    open_jobs(100);
    first = start(10, 2000);
    job = start(20, 3000);
    born(10, 2005, 1, 1, 0);
    ended(10, 10, 2005, TS_LAST, 0, 0);
    ts_jobs_close(jobs, first);
    CHECK(ts_jobs_members(jobs, &member, 1) == 1 && member.job == job && member.pid == 20);
    ts_jobs_free(jobs);
}

/* ---- stories ---- */

static void tell(uint32_t *state)
{
    uint8_t story[LONGEST];
    uint32_t size = check_random(state) % LONGEST;

    for (uint32_t i = 0; i < size; i++)
        story[i] = (uint8_t)(check_random(state) >> 16);
    check_lineages(story, size, refused_from != 0);
}

int main(void)
{
    uint32_t state = 1;

    check_inheritance();
    check_nested();
    check_threads();
    check_lost_births();
    check_capacity();
    check_cgroup_closed();
    check_members();
    for (uint32_t i = 0; i < STORIES; i++)
        tell(&state);
    for (uint32_t i = 0; i < REFUSED; i++) {
        calls = 0;
        refused_from = 1 + i % 40;
        refused_to = refused_from + (i / 40 % 3 ? 1 : 1000);
        tell(&state);
    }
    printf("jobs: by example, and %u stories: %lu checks\n", STORIES + REFUSED, checks);
    return 0;
}
