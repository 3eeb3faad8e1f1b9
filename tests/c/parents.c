/* What holds of jobs without births, whatever becomes of records: parentage.c.
 *
 * A story plays processes with eight pids between them, that fork and end, subreapers, and jobs
 * that begin and are closed. Records can be lost, and are read late and in any order. Each
 * process has a bit of its own in its record's sums: so a job's sums show which it has. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "properties.h"
#include "taskstats_shim.h"

#define PROCESSES 384u /* of a story; six sums hold their bits */
#define WORDS (PROCESSES / 64)
#define FIRST_SUM 17u /* of read_char, the first of the six */
#define PIDS 8u
#define JOBS 12u
#define NONE UINT32_MAX
#define TICK 10000000
#define BOOT INT64_C(1700000000000000000) /* CLOCK_REALTIME at the boot, ns */

struct person {
    uint32_t pid, parent, job;
    int64_t start_ns;
    int lives, is_subreaper;
    int is_dedicated; /* a subreaper that makes roots of jobs alone */
    struct ts_record record;
};

struct sim_job {
    uint32_t number, outer;
    int is_open;
};

static struct {
    struct ts_jobs *jobs;
    struct ts_parentage *parentage;
    int64_t now; /* CLOCK_BOOTTIME and CLOCK_MONOTONIC */
    uint32_t may_nest;
    uint32_t n, n_jobs, n_pending, n_given;
    struct person all[PROCESSES];
    struct sim_job of[JOBS];
    uint32_t pending[PROCESSES];        /* processes whose record is to be read */
    struct ts_several given[PROCESSES]; /* that are not added up yet */
    uint32_t given_to[PROCESSES];       /* the processes */
    uint64_t fed;
    uint32_t lost_before;
    int has_lost; /* or a subreaper has a child that is no root: nothing is certain */
} play;           /* so that it takes nothing of the memory that may be refused */

/* ---- the kernel ---- */

static uint32_t with_pid(uint32_t pid)
{
    for (uint32_t i = 0; i < play.n; i++)
        if (play.all[i].lives && play.all[i].pid == pid)
            return i;
    return NONE;
}

static uint32_t living(uint8_t which)
{
    for (uint32_t i = 0; i < play.n; i++) {
        uint32_t one = (which + i) % play.n;
        if (play.all[one].lives)
            return one;
    }
    return 0;
}

static uint32_t add_person(uint32_t parent, uint8_t from)
{
    struct person *made = &play.all[play.n];
    uint32_t pid = 1;

    if (play.n == PROCESSES)
        return NONE;
    for (uint32_t i = 0; play.n && i < PIDS; i++)
        if (with_pid(pid = 2 + (from + i) % PIDS) == NONE)
            break;
    if (play.n && with_pid(pid) != NONE)
        return NONE;
    memset(made, 0, sizeof(*made));
    made->pid = pid;
    made->parent = parent;
    made->job = parent == NONE ? NONE : play.all[parent].job;
    made->start_ns = play.now += 1000;
    made->lives = 1;
    return play.n++;
}

static void end(uint32_t which, int several)
{
    struct person *one = &play.all[which];
    uint64_t age_us, second;
    uint32_t heir;

    if (which == 0)
        return;
    play.now += 1000;
    one->lives = 0;
    age_us = (uint64_t)(play.now - one->start_ns) / 1000;
    second = (uint64_t)((BOOT + play.now) / 1000000000);
    memset(&one->record, 0, sizeof(one->record));
    one->record.flags = (uint8_t)(TS_LAST | (several ? TS_PAIRED : 0));
    one->record.received_ns = (uint64_t)(BOOT + play.now);
    one->record.stats.ac_pid = one->record.stats.ac_tgid = one->pid;
    one->record.stats.ac_ppid = one->parent == NONE ? 0 : play.all[one->parent].pid;
    one->record.stats.ac_etime = one->record.stats.ac_tgetime = age_us;
    one->record.stats.ac_btime64 = second - age_us / 1000000;
    (&one->record.stats.read_char)[which / 64] = UINT64_C(1) << which % 64;
    for (heir = one->parent; heir && !(play.all[heir].lives && play.all[heir].is_subreaper);)
        heir = play.all[heir].parent;
    for (uint32_t i = 0; i < play.n; i++)
        if (play.all[i].lives && play.all[i].parent == which)
            play.all[i].parent = heir;
    play.pending[play.n_pending++] = which;
}

/* ---- what is looked up ---- */

static struct ts_moment moment(void)
{
    struct ts_moment now = {.boot_ns = play.now,
                            .real_ns = BOOT + play.now,
                            .monotonic_ns = play.now,
                            .may_nest = play.may_nest};

    return now;
}

static struct ts_alive look_at(uint32_t which)
{
    const struct person *one = &play.all[which];
    struct ts_alive alive = {.pid = one->pid,
                             .ppid = one->parent == NONE ? 0 : play.all[one->parent].pid,
                             .start_ns = (uint64_t)(one->start_ns - one->start_ns % TICK)};

    /* so that no other process can have the same pid and the same start */
    if (play.now <= (int64_t)alive.start_ns + TICK)
        play.now = (int64_t)alive.start_ns + TICK + 1;
    return alive;
}

static struct ts_lineage lineage(uint32_t which, struct ts_alive *ancestors)
{
    struct ts_lineage of = {
        .one = look_at(which), .ancestors = ancestors, .is_whole = which % 8 != 7};

    for (uint32_t i = play.all[which].parent; i != NONE && of.n < 2 * PIDS;
         i = play.all[i].parent)
        ancestors[of.n++] = look_at(i);
    return of;
}

static void answer(int wanted)
{
    while (wanted > 0) {
        uint32_t pids[2 * PIDS];
        struct ts_alive found[2 * PIDS];
        struct ts_moment before = moment(), after;
        uint32_t n = 0;

        CHECK(wanted <= (int)(2 * PIDS));
        ts_parentage_wanted(play.parentage, pids);
        for (int i = 0; i < wanted; i++) {
            uint32_t one = with_pid(pids[i]);
            CHECK(!i || pids[i] > pids[i - 1]);
            if (one != NONE)
                found[n++] = look_at(one);
        }
        after = moment();
        wanted = ts_parentage_found(play.parentage, found, n, before.real_ns, &after);
    }
    CHECK(wanted == 0 || wanted == -ENOMEM);
}

/* ---- what is true ---- */

static int is_within(uint32_t job, uint32_t outer)
{
    while (job != NONE && job != outer)
        job = play.of[job].outer;
    return job == outer;
}

static uint32_t job_with(uint32_t number)
{
    uint32_t j = 0;

    while (j < play.n_jobs && (!play.of[j].is_open || play.of[j].number != number))
        j++;
    return j < play.n_jobs ? j : NONE;
}

static void check_job(uint32_t j)
{
    static struct ts_command commands[4];
    int n = ts_job_commands(play.jobs, play.of[j].number, commands, 4);

    for (int i = 0; i < n && !play.has_lost; i++)
        for (uint32_t p = 0; p < play.n; p++)
            if (commands[i].totals.sums[FIRST_SUM + p / 64] >> p % 64 & 1)
                CHECK(is_within(play.all[p].job, j));
}

static void check_all(void)
{
    struct ts_jobs_counts counts;
    struct ts_parentage_counts waiting;

    ts_jobs_count(play.jobs, &counts);
    ts_parentage_count(play.parentage, &waiting);
    CHECK(counts.attributed + counts.outside + counts.undecided + counts.evicted +
              waiting.waiting + play.n_given ==
          play.fed);
    CHECK(waiting.remembered <= waiting.processes);
    for (uint32_t j = 0; j < play.n_jobs; j++)
        if (play.of[j].is_open)
            check_job(j);
}

static void check_living(uint8_t which)
{
    struct ts_alive ancestors[2 * PIDS];
    uint32_t one = living(which), number = TS_NO_JOB;
    struct ts_lineage of = lineage(one, ancestors);
    struct ts_moment now = moment();
    int rc = ts_parentage_of(play.parentage, &of, &now, &number);

    CHECK(rc == 0 || rc == -ENOMEM);
    if (number < TS_UNDECIDED && !play.has_lost) {
        CHECK(job_with(number) != NONE);
        CHECK(is_within(play.all[one].job, job_with(number)));
    }
}

/* ---- jobs ---- */

static void start(uint8_t which, int named)
{
    struct ts_job_wanted wanted = {0};
    struct ts_alive ancestors[2 * PIDS], heir;
    struct sim_job *job = &play.of[play.n_jobs];
    struct ts_lineage of;
    struct ts_moment now;
    uint32_t maker = living(which), root, outer;

    if (named && !play.all[maker].is_dedicated) {
        maker = add_person(maker, which);
        if (maker == NONE)
            return;
        play.all[maker].is_subreaper = play.all[maker].is_dedicated = 1;
    }
    named = play.all[maker].is_dedicated;
    root = play.n_jobs < JOBS ? add_person(maker, which / 8) : NONE;
    if (root == NONE)
        return;
    of = lineage(root, ancestors);
    heir = look_at(maker);
    wanted.root = of.one.pid;
    wanted.start_ns = of.one.start_ns;
    wanted.start_end_ns = of.one.start_ns + TICK - 1;
    job->outer = play.all[root].job;
    job->is_open = 1;
    play.all[root].job = play.n_jobs++;
    if (ts_jobs_start(play.jobs, &wanted, &job->number) < 0) {
        job->is_open = 0;
        play.has_lost |= named;
        return;
    }
    now = moment();
    if (ts_parentage_start(play.parentage, job->number, &of, named ? &heir : NULL, &now,
                           &outer) < 0) {
        job->is_open = 0;
        play.has_lost |= named;
        ts_jobs_close(play.jobs, job->number);
        return;
    }
    ts_jobs_put_within(play.jobs, job->number, outer);
}

static void close_job(uint8_t which)
{
    struct ts_job_counts counts;
    uint32_t j = play.n_jobs ? which % play.n_jobs : 0;

    if (!play.n_jobs || !play.of[j].is_open)
        return;
    check_all();
    ts_job_count(play.jobs, play.of[j].number, &counts);
    ts_parentage_close(play.parentage, play.of[j].number, counts.outer);
    play.of[j].is_open = 0;
    ts_jobs_close(play.jobs, play.of[j].number);
}

/* ---- the listener ---- */

static void add_up(uint32_t most, int is_complete)
{
    while (most-- && play.n_given) {
        struct ts_sums sums = {.threads = 1};
        struct ts_ended ended = {0};
        uint32_t last = --play.n_given;
        const struct ts_record *record = &play.all[play.given_to[last]].record;
        ended.pid = record->stats.ac_tgid;
        ended.received_ns = record->received_ns;
        memcpy(&sums.values[FIRST_SUM], &record->stats.read_char, WORDS * sizeof(uint64_t));
        ts_parentage_add(play.parentage, play.given[last].process, &sums, &ended, is_complete);
    }
}

static void feed(uint8_t how)
{
    static struct ts_record tasks[PROCESSES];
    static uint32_t whose[PROCESSES];
    uint32_t most = how % 4 ? how % 4 : play.n_pending, n = 0;
    struct ts_moment now = moment();
    int n_several;

    while (most-- && play.n_pending) {
        uint32_t at = how / 4 % play.n_pending, one = play.pending[at];
        play.pending[at] = play.pending[--play.n_pending];
        whose[n] = one;
        tasks[n] = play.all[one].record;
        tasks[n].lost_before = play.lost_before;
        tasks[n].flags |= play.lost_before ? TS_LOST_BEFORE : 0;
        play.lost_before = 0;
        n++;
    }
    n_several = ts_parentage_feed(play.parentage, tasks, n, &now, &play.given[play.n_given]);
    for (int i = 0; i < n_several; i++, play.n_given++)
        play.given_to[play.n_given] = whose[play.given[play.n_given].row];
    play.fed += n;
    add_up(how / 64, how % 8 != 7);
    answer(ts_parentage_settle(play.parentage, play.n_pending ? -1 : play.now, &now));
}

static void lose_record(uint8_t which)
{
    struct ts_moment now = moment();
    uint32_t at = play.n_pending ? which % play.n_pending : 0;

    if (!play.n_pending)
        return;
    play.pending[at] = play.pending[--play.n_pending];
    play.has_lost = 1;
    if (which & 1)
        play.lost_before++;
    else
        ts_parentage_lose(play.parentage, &now);
}

static void flush(void)
{
    struct ts_moment now = moment();

    answer(ts_parentage_flush(play.parentage, &now));
}

static void act(uint8_t what, uint8_t which)
{
    static const int64_t pause_ns[] = {0, 20000, 2000000, 40000000, 300000000, 1500000000};
    uint32_t one = living(which);

    play.now += pause_ns[what / 16 % 6];
    switch (what % 16) {
    case 0:
        if (which >= 224)
            lose_record(which);
        break;
    case 1:
        close_job(which);
        break;
    case 2:
    case 3:
        start(which, what % 16 == 3);
        break;
    case 4:
        play.all[one].is_subreaper = 1;
        break;
    case 5:
        check_living(which);
        break;
    case 6:
        if (which >= 192)
            flush();
        break;
    case 7:
    case 8:
    case 9:
        if (!play.all[one].is_dedicated)
            add_person(one, which / 8);
        break;
    case 10:
        end(one, 1);
        break;
    case 11:
    case 12:
        end(one, 0);
        break;
    default:
        feed(which);
    }
}

void check_parents(const uint8_t *story, size_t size)
{
    struct ts_moment now;

    if (size < 1)
        return;
    memset(&play, 0, sizeof(play));
    play.may_nest = story[0] % 4 == 3;
    if (ts_jobs_new(1000, 1, &play.jobs) < 0)
        return;
    if (ts_parentage_new(play.jobs, story[0] & 4 ? 1000 : 1 + story[0] / 8 % 8,
                         &play.parentage) < 0) {
        ts_jobs_free(play.jobs);
        return;
    }
    play.now = 1000;
    add_person(NONE, 0);
    play.now += 3000000000;
    add_person(0, 1);
    play.now += 3000000000;
    for (size_t i = 1; i + 1 < size; i += 2)
        act(story[i], story[i + 1]);
    feed(0);
    feed(0);
    add_up(PROCESSES, 1);
    flush();
    now = moment();
    answer(ts_parentage_settle(play.parentage, play.now, &now));
    CHECK(play.n_given == 0);
    check_all();
    ts_parentage_free(play.parentage);
    ts_jobs_free(play.jobs);
}
