/* What holds of jobs, whatever becomes of births and records: jobs.c.
 *
 * A story plays processes with eight pids between them, that fork, run threads and end, and
 * jobs that begin and are closed. Births and records can be lost, and records come late and
 * in any order. Each task has a bit of its own in its record's sums: so a job's sums show
 * which tasks it has. The model knows what each process belongs to. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "properties.h"
#include "taskstats_shim.h"

#define TASKS 384u /* of a story; six sums hold their bits */
#define WORDS (TASKS / 64)
#define FIRST_SUM 17u /* of read_char, the first of the six */
#define PIDS 8u
#define JOBS 12u
#define CGROUPS 6u
#define NONE UINT32_MAX
#define TICK 10000000u      /* ns: how exactly a root's start is known */
#define SINCE 10000000000u  /* ns */
#define BOOT 1000000000000u /* ns */

struct bits {
    uint64_t words[WORDS];
};

struct process {
    uint32_t pid, maker, n_threads, n_living, n_children, job, cgroup;
    uint64_t start_ns;
    uint64_t cpu_count; /* of the threads that have ended */
    struct bits bits;
    int joined;        /* to a job that was attached to */
    int known;         /* all births from its job's root on were read */
    int birth;         /* 0: it was there before the first; 1: to be read; 2: read; 3: lost */
    uint32_t last_fed; /* when its last record was fed: 0: it was not */
};

struct task {
    uint32_t process;
    uint64_t start_ns;
    int is_over, is_leader, is_settled, is_lost;
    uint32_t fed; /* when: 0: it was not */
    struct ts_record record, group;
};

struct sim_job {
    uint32_t number, root, outer, cgroup, began;
    int is_open, attached;
};

struct family {
    struct ts_jobs *jobs;
    uint64_t now;
    uint32_t moment; /* counts feeds and jobs */
    uint32_t n_processes, n_tasks, n_jobs, n_pending, n_births;
    struct process processes[TASKS];
    struct task tasks[TASKS];
    uint32_t pending[TASKS]; /* tasks whose record is to be read */
    struct sim_job all[JOBS];
    uint64_t births_lost, fed;
    uint32_t lost_before;
    int ample;   /* room for all processes */
    int certain; /* nothing was lost or unsettled, and no memory was refused */
};

static struct family play; /* so that it takes nothing of the memory that may be refused */

/* ---- the kernel ---- */

static void put_bit(struct bits *bits, uint32_t task)
{
    bits->words[task / 64] |= UINT64_C(1) << task % 64;
}

static int has_bit(const struct bits *bits, uint32_t task)
{
    return bits->words[task / 64] >> task % 64 & 1;
}

static uint32_t add_task(uint32_t process)
{
    struct task *task = &play.tasks[play.n_tasks];

    task->process = process;
    task->start_ns = play.now;
    task->is_leader = play.processes[process].n_threads == 0;
    play.processes[process].n_threads++;
    play.processes[process].n_living++;
    return play.n_tasks++;
}

static uint32_t free_pid(uint32_t from)
{
    for (uint32_t i = 0; i < PIDS; i++) {
        uint32_t pid = 1 + (from + i) % PIDS, p = 0;
        while (p < play.n_processes &&
               (play.processes[p].pid != pid || !play.processes[p].n_living))
            p++;
        if (p == play.n_processes)
            return pid;
    }
    return 0;
}

static void add_process(uint32_t maker, uint32_t cgroup, int birth)
{
    uint32_t pid = free_pid(play.n_processes * 5);
    struct process *made = &play.processes[play.n_processes];

    if (!pid || play.n_tasks == TASKS)
        return;
    made->pid = pid;
    made->start_ns = play.now;
    made->maker = maker;
    made->birth = birth;
    made->cgroup = 1 + cgroup % CGROUPS;
    made->job = maker == NONE ? NONE : play.processes[maker].job;
    if (maker != NONE)
        play.processes[maker].n_children++;
    add_task(play.n_processes++);
    if (birth == 3) {
        play.births_lost++;
        play.certain = 0;
    }
}

/* Returns the one of the living processes that a byte says. */
static uint32_t living(uint8_t which)
{
    uint32_t n = 0, p;

    for (p = 0; p < play.n_processes; p++)
        n += play.processes[p].n_living != 0;
    if (!n)
        return NONE;
    n = which % n;
    for (p = 0; !play.processes[p].n_living || n--; p++)
        ;
    return p;
}

static void end_task(uint8_t which, int is_settled)
{
    uint32_t p = living(which), t = 0, n;
    struct process *process;
    struct task *task;
    struct ts_record *record;
    int last;

    if (p == NONE)
        return;
    process = &play.processes[p];
    n = which / 16 % process->n_living;
    while (play.tasks[t].process != p || play.tasks[t].is_over || n--)
        t++;
    task = &play.tasks[t];
    record = &task->record;
    last = --process->n_living == 0;
    task->is_over = 1;
    task->is_settled = is_settled;
    play.certain &= is_settled;
    record->kind = TS_TASK;
    record->flags = TS_EXIT;
    record->received_ns = BOOT + play.now;
    record->stats.ac_tgid = process->pid;
    record->stats.ac_pid = task->is_leader ? process->pid : 1000 + t;
    record->stats.ac_etime = (play.now - task->start_ns) / 1000;
    record->stats.ac_btime64 =
        (BOOT + play.now) / 1000000000 - record->stats.ac_etime / 1000000;
    record->stats.ac_tgetime = (play.now - process->start_ns) / 1000;
    record->stats.cpu_count = 1 + (t * UINT64_C(0x9e3779b97f4a7c15) >> 24);
    (&record->stats.read_char)[t / 64] = UINT64_C(1) << t % 64;
    memcpy(record->stats.ac_comm, which & 1 ? "one" : "two", 4);
    if (is_settled) {
        record->flags |= TS_SETTLED;
        record->start_ns = task->start_ns;
        record->cgroup_id = process->cgroup;
        record->final_cpu_ns = 1;
    }
    process->cpu_count += record->stats.cpu_count;
    put_bit(&process->bits, t);
    if (last) {
        record->flags |= TS_LAST;
        if (process->n_threads > 1) {
            record->flags |= TS_PAIRED;
            task->group.kind = TS_GROUP;
            task->group.stats.cpu_count = process->cpu_count;
            memcpy(&task->group.stats.read_char, &process->bits, sizeof(process->bits));
        }
    }
    play.pending[play.n_pending++] = t;
}

/* ---- jobs ---- */

static uint32_t nearest(uint32_t job)
{
    while (job != NONE && !play.all[job].is_open)
        job = play.all[job].outer;
    return job;
}

/* Whether a process is of a job, or of one within it. */
static int is_of(const struct process *process, uint32_t job)
{
    uint32_t at = process->job;

    if (play.all[job].cgroup)
        return process->cgroup == play.all[job].cgroup;
    while (at != NONE && at != job)
        at = play.all[at].outer;
    return at == job;
}

static uint64_t tick_of(const struct process *process)
{
    return process->start_ns / TICK * TICK;
}

static int descends(uint32_t process, uint32_t from)
{
    while (process != NONE && process != from)
        process = play.processes[process].maker;
    return process == from;
}

static uint32_t job_of_root(uint32_t root)
{
    for (uint32_t j = 0; j < play.n_jobs; j++)
        if (play.all[j].is_open && play.all[j].root == root)
            return j;
    return NONE;
}

static void join(uint32_t j, uint32_t p, uint32_t around)
{
    struct process *process = &play.processes[p];
    uint32_t inner = job_of_root(p);
    int rc = ts_jobs_join(play.jobs, play.all[j].number, process->pid, tick_of(process),
                          tick_of(process) + TICK - 1);

    if (rc < 0)
        play.all[j].attached = 2; /* the caller knows */
    if (inner != NONE && nearest(play.all[inner].outer) == around) {
        play.all[inner].outer = j;
    } else if (nearest(process->job) == around) {
        process->job = j;
        process->joined = 1;
    }
}

static uint32_t read_births(struct ts_birth *births)
{
    uint32_t n = 0;

    for (uint32_t p = 0; p < play.n_processes; p++) {
        struct process *process = &play.processes[p];
        const struct process *maker;
        if (process->birth != 1)
            continue;
        maker = &play.processes[process->maker];
        births[n++] = (struct ts_birth){
            .pid = process->pid,
            .start_ns = process->start_ns,
            .maker_pid = maker->pid,
            .maker_start_ns = maker->start_ns,
        };
        process->birth = 2;
        process->known |= maker->known;
    }
    return n;
}

/* Before a job attaches: whose birth is read after that would be the job's even if dead. */
static void feed_births(void)
{
    static struct ts_birth births[TASKS];
    struct ts_feed batch = {.births = births, .births_lost = play.births_lost, .boot_ns = BOOT};

    batch.n_births = read_births(births);
    ts_jobs_feed(play.jobs, &batch);
}

static void start(uint8_t which, int attach)
{
    uint32_t p = living(which), j = play.n_jobs, around;
    struct sim_job *job = &play.all[j];
    struct ts_job_wanted wanted = {.remember = which % 4};
    int rc;

    if (p == NONE || j == JOBS || (!attach && play.processes[p].n_children))
        return;
    wanted.root = play.processes[p].pid;
    wanted.start_ns = tick_of(&play.processes[p]);
    wanted.start_end_ns = wanted.start_ns + TICK - 1;
    if (attach)
        feed_births();
    rc = ts_jobs_start(play.jobs, &wanted, &job->number);
    if (job_of_root(p) != NONE) {
        CHECK(rc == -EEXIST);
        return;
    }
    CHECK(rc == 0 || !play.ample || !play.certain);
    if (rc < 0)
        return;
    around = nearest(play.processes[p].job);
    *job = (struct sim_job){
        .number = job->number,
        .root = p,
        .outer = around,
        .began = ++play.moment,
        .is_open = 1,
        .attached = attach,
    };
    play.n_jobs++;
    play.processes[p].job = j;
    play.processes[p].known = 1;
    play.processes[p].joined = attach;
    for (uint32_t i = 0; attach && i < play.n_processes; i++)
        if (i != p && play.processes[i].n_living && descends(i, p))
            join(j, i, around);
}

static void start_cgroup(uint8_t which)
{
    struct ts_job_wanted wanted = {.outer = TS_NO_JOB};
    struct sim_job *job = &play.all[play.n_jobs];

    if (play.n_jobs == JOBS)
        return;
    for (uint32_t i = 0; i < play.n_jobs; i++)
        if (play.all[i].is_open && play.all[i].cgroup == 1u + which % CGROUPS)
            return;
    if (ts_jobs_start(play.jobs, &wanted, &job->number) < 0)
        return;
    *job = (struct sim_job){
        .number = job->number,
        .root = NONE,
        .outer = NONE,
        .cgroup = 1u + which % CGROUPS,
        .began = ++play.moment,
        .is_open = 1,
    };
    play.n_jobs++;
    ts_jobs_forget_cgroups(play.jobs);
}

/* ---- what holds ---- */

static struct bits bits_of(const struct sim_job *job)
{
    static struct ts_command commands[TASKS];
    struct bits bits = {{0}};
    int n = ts_job_commands(play.jobs, job->number, commands, TASKS);

    for (int i = 0; i < n; i++)
        for (unsigned w = 0; w < WORDS; w++) {
            CHECK(!(bits.words[w] & commands[i].totals.sums[FIRST_SUM + w]));
            bits.words[w] |= commands[i].totals.sums[FIRST_SUM + w];
        }
    return bits;
}

/* Whether nobody could doubt what this task belongs to. */
static int is_plain(const struct task *task)
{
    const struct process *process = &play.processes[task->process];

    return play.ample && task->is_settled && process->n_threads == 1 && process->known;
}

static void check_job(uint32_t j)
{
    const struct sim_job *job = &play.all[j];
    struct ts_job_counts counts;
    struct ts_jobs_counts all;
    struct bits with_inner;
    int declared;

    with_inner = bits_of(job);
    for (uint32_t t = 0; t < TASKS; t++) /* no stranger */
        if (has_bit(&with_inner, t))
            CHECK(is_of(&play.processes[play.tasks[t].process], j) ||
                  (job->attached && descends(play.tasks[t].process, job->root)));
    for (uint32_t i = 0; i < play.n_jobs; i++) {
        struct process inside = {.job = i};
        struct bits more;
        if (i == j || !play.all[i].is_open || play.all[i].cgroup || job->cgroup ||
            !is_of(&inside, j))
            continue;
        more = bits_of(&play.all[i]);
        for (unsigned w = 0; w < WORDS; w++) {
            CHECK(!(with_inner.words[w] & more.words[w]));
            with_inner.words[w] |= more.words[w];
        }
    }
    ts_jobs_count(play.jobs, &all);
    ts_job_count(play.jobs, job->number, &counts);
    declared = counts.lost || counts.undecided || counts.evicted || counts.births_lost ||
               job->attached == 2 || (job->cgroup && all.waiting);
    for (uint32_t t = 0; t < play.n_tasks; t++) { /* nothing missing */
        const struct task *task = &play.tasks[t];
        const struct process *process = &play.processes[task->process];
        if (!process->last_fed || !task->fed || task->fed < job->began ||
            process->last_fed < job->began || process->joined || !is_of(process, j))
            continue;
        if (!declared || (is_plain(task) && play.certain && !job->cgroup))
            CHECK(has_bit(&with_inner, t));
    }
    if (play.certain && play.ample && !job->cgroup && !counts.births_lost)
        CHECK(!counts.undecided && !counts.evicted && !counts.lost);
}

static void check_all(void)
{
    struct ts_jobs_counts counts;

    ts_jobs_flush(play.jobs);
    ts_jobs_count(play.jobs, &counts);
    CHECK(counts.attributed + counts.outside + counts.undecided + counts.evicted +
              counts.waiting ==
          play.fed);
    for (uint32_t j = 0; j < play.n_jobs; j++)
        if (play.all[j].is_open)
            check_job(j);
}

static void close_job(uint8_t which)
{
    uint32_t j = play.n_jobs ? which % play.n_jobs : 0;

    if (!play.n_jobs || !play.all[j].is_open)
        return;
    check_all();
    play.all[j].is_open = 0;
    ts_jobs_close(play.jobs, play.all[j].number);
}

/* ---- the listener ---- */

static void place_cgroups(const struct ts_record *tasks, uint32_t n)
{
    uint64_t ids[TASKS];
    int found;

    found = ts_jobs_new_cgroups(play.jobs, tasks, n, ids, TASKS);
    for (int i = 0; i < found; i++) {
        uint32_t number = TS_NO_JOB;
        for (uint32_t j = 0; j < play.n_jobs; j++)
            if (play.all[j].is_open && play.all[j].cgroup == ids[i])
                number = play.all[j].number;
        ts_jobs_place_cgroup(play.jobs, ids[i], number);
    }
}

static void feed(uint8_t how)
{
    static struct ts_record tasks[TASKS], groups[TASKS];
    static struct ts_birth births[TASKS];
    uint32_t most = how % 4 ? how % 4 : play.n_pending;
    struct ts_feed batch = {.tasks = tasks, .groups = groups, .births = births};

    play.moment++;
    while (most-- && play.n_pending) {
        uint32_t at = how / 4 % play.n_pending;
        struct task *task = &play.tasks[play.pending[at]];
        play.pending[at] = play.pending[--play.n_pending];
        task->fed = play.moment;
        if (task->record.flags & TS_LAST)
            play.processes[task->process].last_fed = play.moment;
        task->record.lost_before = play.lost_before;
        play.lost_before = 0;
        if (task->record.flags & TS_PAIRED) {
            task->record.row = batch.n_groups;
            groups[batch.n_groups++] = task->group;
        }
        tasks[batch.n_tasks++] = task->record;
    }
    batch.n_births = read_births(births);
    batch.births_lost = play.births_lost;
    batch.boot_ns = BOOT;
    batch.emptied = !play.n_pending && how / 128;
    play.fed += batch.n_tasks;
    place_cgroups(tasks, batch.n_tasks);
    if (ts_jobs_feed(play.jobs, &batch) < 0)
        play.certain = 0;
}

static void lose_record(uint8_t which)
{
    uint32_t at;

    if (!play.n_pending)
        return;
    at = which % play.n_pending;
    play.tasks[play.pending[at]].is_lost = 1;
    play.pending[at] = play.pending[--play.n_pending];
    play.certain = 0;
    if (which & 1)
        play.lost_before++;
    else
        ts_jobs_lose(play.jobs, 1);
}

static void act(uint8_t what, uint8_t which)
{
    uint32_t p = living(which);

    play.now += 20000000u + what / 16 * 70000000u;
    switch (what % 16) {
    case 0:
        lose_record(which);
        break;
    case 1:
        if (p != NONE)
            add_process(p, which, 3);
        break;
    case 2:
        start(which, 1);
        break;
    case 3:
        close_job(which);
        break;
    case 4:
        start_cgroup(which);
        break;
    case 5:
        end_task(which, 0);
        break;
    case 6:
        start(which, 0);
        break;
    case 7:
    case 8:
        if (p != NONE && play.n_tasks < TASKS)
            add_task(p);
        break;
    case 9:
    case 10:
        if (p != NONE)
            add_process(p, which / 16, 1);
        break;
    case 11:
    case 12:
    case 13:
        end_task(which, 1);
        break;
    case 14:
    case 15:
        feed(which);
        break;
    }
}

void check_lineages(const uint8_t *story, size_t size, int refused)
{
    if (size < 1)
        return;
    memset(&play, 0, sizeof(play));
    play.ample = story[0] & 1;
    play.certain = !refused;
    if (ts_jobs_new(play.ample ? 1000 : 3 + story[0] / 2 % 8, SINCE, &play.jobs) < 0)
        return;
    play.now = SINCE / 2;
    add_process(NONE, 0, 0);
    play.now += 1000000000;
    add_process(0, 1, 0);
    play.now = SINCE + 1;
    for (size_t i = 1; i + 1 < size; i += 2)
        act(story[i], story[i + 1]);
    feed(128);
    feed(128); /* losses that no record has told of */
    if (play.lost_before)
        ts_jobs_lose(play.jobs, play.lost_before);
    check_all();
    ts_jobs_free(play.jobs);
}
