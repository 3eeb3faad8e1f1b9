/* Assigns each process to a job, by births, and sums what each job used. Pure.
 *
 * A process belongs to what its maker belonged to at its birth. The probe's ring keeps the
 * order of cause and effect: a birth comes before everything else about the process. A
 * record names its process by pid and start. So it makes no difference how late, and in
 * which order, records are read. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "kin.h"

/* Processes whose last record was read that are kept for records of other threads. */
#ifndef TS_MOST_ENDED
#define TS_MOST_ENDED 4096u
#endif

/* The clocks may be set by so much, ns, between an exit and its reading. */
#define CLOCK_SLACK 20000000u

/* The kernel's second is that of the last tick of the CPU that keeps the time. Where this CPU
 * is itself kept waiting, as on a busy virtual machine, a tick has come 0.11 s late. */
#define MOST_LATE 1000000000u

/* Ages are in whole microseconds. */
#define AGE_SLACK 2000u

#ifndef TS_MOST_PLACES
#define TS_MOST_PLACES 65536u /* cgroups that are remembered: a power of 2 */
#endif

struct job {
    int used;
    int open;
    int by_cgroup;
    uint32_t outer;  /* the job that it is within, which may be closed; TS_NO_JOB */
    int outer_known; /* the root's birth was read, or what it belonged to before */
    uint32_t uses;   /* processes and jobs that refer to it: the number is not free */
    uint32_t root;
    uint64_t start_ns, start_end_ns;
    uint64_t living; /* processes that have not ended */
    int unsure;      /* an end without identity was taken for one of its processes' */
    int births_lost;
    uint64_t lost, undecided, evicted;
    uint64_t stamp; /* of the record that was last counted as undecided */
    struct ts_commands commands;
    struct ts_ended *ended;
    uint64_t n_ended, room_ended, remember, forgotten;
};

struct place {
    uint64_t cgroup; /* 0: free */
    uint32_t job;
};

struct ts_jobs {
    struct ts_kinship kin;
    uint64_t since_ns;
    struct job *all;
    uint32_t n;
    uint32_t n_by_cgroup; /* open ones */
    uint32_t n_marked;    /* open ones that lack births */
    uint64_t births_lost;
    uint32_t epoch; /* begins after births were lost */
    uint64_t boot_ns;
    uint64_t shape; /* of the last record that was accepted */
    uint64_t stamp;
    uint64_t doubted; /* the last stamp for which a job counted something as undecided */
    uint64_t drains;  /* that have left the queues empty */
    uint32_t *ending; /* ended processes whose threads' records are not all there */
    uint32_t n_ending, room_ending;
    struct place *places; /* a hash table */
    uint32_t n_places;
    struct ts_jobs_counts counts;
};

static int is_job(uint32_t owner)
{
    return owner < TS_UNDECIDED;
}

static int is_last(const struct ts_record *record)
{
    return record->flags & TS_LAST;
}

/* Whether the start is known, that of the leader for a thread that called exec. */
static int is_identified(const struct ts_record *record)
{
    return record->start_ns != 0;
}

static int is_alone(const struct ts_record *record)
{
    return (record->flags & (TS_LAST | TS_PAIRED)) == TS_LAST;
}

static int is_leader(const struct ts_record *record)
{
    return record->stats.ac_pid == record->stats.ac_tgid;
}

/* ---- opening ---- */

int ts_jobs_new(uint32_t capacity, uint64_t since_ns, struct ts_jobs **jobs)
{
    struct ts_jobs *made = calloc(1, sizeof(*made));
    int rc;

    if (!made)
        return -ENOMEM;
    made->since_ns = since_ns;
    made->places = calloc(2 * (size_t)TS_MOST_PLACES, sizeof(*made->places));
    rc = made->places ? ts_kinship_open(&made->kin, capacity) : -ENOMEM;
    if (rc < 0)
        ts_jobs_free(made);
    else
        *jobs = made;
    return rc;
}

static void empty_job(struct job *job)
{
    ts_commands_free(&job->commands);
    free(job->ended);
    job->ended = NULL;
    job->n_ended = job->room_ended = 0;
}

void ts_jobs_free(struct ts_jobs *jobs)
{
    if (!jobs)
        return;
    for (uint32_t i = 0; i < jobs->n; i++)
        empty_job(&jobs->all[i]);
    ts_kinship_close(&jobs->kin);
    free(jobs->all);
    free(jobs->ending);
    free(jobs->places);
    free(jobs);
}

/* ---- who refers to a job ---- */

static void use(struct ts_jobs *jobs, uint32_t owner)
{
    if (is_job(owner))
        jobs->all[owner].uses++;
}

/* Gives the number back when nothing refers to a closed job any more. */
static void unuse(struct ts_jobs *jobs, uint32_t owner)
{
    while (is_job(owner)) {
        struct job *job = &jobs->all[owner];
        if (--job->uses || job->open)
            return;
        owner = job->outer;
        empty_job(job);
        memset(job, 0, sizeof(*job));
    }
}

/* Returns the job, or the nearest one around it, that has not been closed. */
static uint32_t nearest_open(const struct ts_jobs *jobs, uint32_t owner)
{
    while (is_job(owner) && !jobs->all[owner].open)
        owner = jobs->all[owner].outer;
    return owner;
}

/* Returns the nearest open job that a job is within. */
static uint32_t around(const struct ts_jobs *jobs, uint32_t job)
{
    return nearest_open(jobs, jobs->all[job].outer);
}

/* Whether a job is this one, or is within it. */
static int is_within(const struct ts_jobs *jobs, uint32_t job, uint32_t outer)
{
    while (is_job(job) && job != outer)
        job = jobs->all[job].outer;
    return job == outer;
}

static void set_owner(struct ts_jobs *jobs, struct ts_kin *one, uint32_t owner)
{
    uint32_t before = one->owner;

    if (before == owner)
        return;
    use(jobs, owner);
    if (is_job(owner) && one->line != TS_ENDED)
        jobs->all[owner].living++;
    one->owner = owner;
    if (is_job(before) && one->line != TS_ENDED)
        jobs->all[before].living--;
    unuse(jobs, before);
}

/* What a process belongs to now: its job may have been closed. */
static uint32_t owner_of(struct ts_jobs *jobs, uint32_t one)
{
    struct ts_kin *process = &jobs->kin.all[one];

    set_owner(jobs, process, nearest_open(jobs, process->owner));
    return process->owner;
}

/* ---- what is not certain ---- */

static void mark(struct ts_jobs *jobs, uint32_t owner)
{
    for (owner = nearest_open(jobs, owner); is_job(owner); owner = around(jobs, owner)) {
        struct job *job = &jobs->all[owner];
        if (!job->births_lost)
            jobs->n_marked++;
        job->births_lost = 1;
    }
}

/* A birth was lost: it was of a process of any job that had some. */
static void lose_births(struct ts_jobs *jobs)
{
    for (uint32_t i = 0; i < jobs->n; i++)
        if (jobs->all[i].used && (jobs->all[i].living || jobs->all[i].unsure))
            mark(jobs, i);
}

/* Whether a process that started then can be a job's whose births are not all known. */
static int may_be_of(const struct job *job, uint64_t start_ns)
{
    return job->open && job->births_lost && job->start_ns <= start_ns;
}

/* Returns the owner of a process without a known birth. */
static uint32_t unknown_owner(const struct ts_jobs *jobs, uint64_t start_ns)
{
    if (jobs->n_marked)
        for (uint32_t i = 0; i < jobs->n; i++)
            if (may_be_of(&jobs->all[i], start_ns))
                return TS_UNDECIDED;
    return TS_NO_JOB;
}

/* Counts records as ones that may be of a job, and of those around it: each once a stamp. */
static void doubt(struct ts_jobs *jobs, uint32_t owner, uint64_t records)
{
    for (owner = nearest_open(jobs, owner); is_job(owner); owner = around(jobs, owner)) {
        struct job *job = &jobs->all[owner];
        if (job->stamp != jobs->stamp)
            job->undecided += records;
        job->stamp = jobs->doubted = jobs->stamp;
    }
}

static void doubt_marked(struct ts_jobs *jobs, uint64_t start_ns, uint64_t records)
{
    for (uint32_t i = 0; i < jobs->n; i++)
        if (may_be_of(&jobs->all[i], start_ns))
            doubt(jobs, i, records);
}

/* Returns TS_UNDECIDED if a job counted this record as undecided, else TS_NO_JOB. */
static uint32_t doubted_owner(const struct ts_jobs *jobs)
{
    return jobs->doubted == jobs->stamp ? TS_UNDECIDED : TS_NO_JOB;
}

static void doubt_by_cgroup(struct ts_jobs *jobs, uint64_t records)
{
    for (uint32_t i = 0; i < jobs->n; i++)
        if (jobs->all[i].open && jobs->all[i].by_cgroup)
            doubt(jobs, i, records);
}

/* A job, and those around it, lack records. */
static void lack(struct ts_jobs *jobs, uint32_t owner, uint64_t records)
{
    for (owner = nearest_open(jobs, owner); is_job(owner); owner = around(jobs, owner))
        jobs->all[owner].evicted += records;
}

/* Gives up records of a process. They may be of any job by cgroup. */
static void give_up(struct ts_jobs *jobs, uint32_t owner, uint64_t records)
{
    jobs->counts.evicted += records;
    lack(jobs, owner, records);
    for (uint32_t i = 0; jobs->n_by_cgroup && i < jobs->n; i++)
        if (jobs->all[i].open && jobs->all[i].by_cgroup)
            jobs->all[i].evicted += records;
}

void ts_jobs_lose(struct ts_jobs *jobs, uint64_t records)
{
    jobs->counts.lost += records;
    for (uint32_t i = 0; i < jobs->n; i++)
        if (jobs->all[i].open)
            jobs->all[i].lost += records;
}

void ts_jobs_give_up(struct ts_jobs *jobs, uint64_t records)
{
    jobs->counts.evicted += records;
    for (uint32_t i = 0; i < jobs->n; i++)
        if (jobs->all[i].open)
            jobs->all[i].evicted += records;
}

/* ---- sums ---- */

static void remember(struct job *job, const struct ts_ended *ended)
{
    if (job->n_ended == job->remember) {
        job->forgotten++;
        return;
    }
    if (job->n_ended == job->room_ended) {
        uint64_t room = job->room_ended ? 2 * job->room_ended : 64;
        struct ts_ended *grown = realloc(job->ended, room * sizeof(*grown));
        if (!grown) {
            job->forgotten++;
            return;
        }
        job->ended = grown;
        job->room_ended = room;
    }
    job->ended[job->n_ended++] = *ended;
}

static void describe(struct ts_ended *ended, const struct ts_record *record)
{
    const struct ts_stats *stats = &record->stats;

    memset(ended, 0, sizeof(*ended));
    ended->received_ns = record->received_ns;
    ended->elapsed_us = stats->ac_tgetime;
    ended->exe_dev = stats->ac_exe_dev;
    ended->exe_inode = stats->ac_exe_inode;
    ended->pid = stats->ac_tgid;
    ended->ppid = stats->ac_ppid;
    ended->status = stats->ac_exitcode;
    memcpy(ended->comm, stats->ac_comm, sizeof(ended->comm));
}

/* Whether its start is known to the nanosecond: then each of its threads' records was checked
 * by the process's age. */
static int is_exact(const struct ts_kin *process)
{
    return process->start_ns == process->start_end_ns;
}

static void describe_birth(struct ts_ended *ended, const struct ts_kin *process)
{
    ended->start_ns = is_exact(process) ? process->start_ns : 0;
    ended->maker_pid = process->maker_pid;
    ended->maker_start_ns = process->maker_start_ns;
}

/* Adds a process that never had a second thread. */
static int add_record(struct job *job, const struct ts_record *record,
                      const struct ts_kin *process)
{
    const struct ts_stats *stats = &record->stats;
    struct ts_totals *totals = ts_commands_find(&job->commands, stats->ac_comm,
                                                stats->ac_exe_dev, stats->ac_exe_inode);
    struct ts_ended ended;

    if (!totals)
        return -ENOMEM;
    ts_totals_add_record(totals, record);
    if (job->n_ended == job->remember) {
        job->forgotten++;
        return 0;
    }
    describe(&ended, record);
    ended.cpu_ns =
        record->flags & TS_SETTLED ? record->final_cpu_ns : stats->cpu_run_virtual_total;
    if (process)
        describe_birth(&ended, process);
    if (is_identified(record) && is_leader(record))
        ended.start_ns = record->start_ns;
    remember(job, &ended);
    return 0;
}

static int add_process(struct job *job, const struct ts_sums *sums,
                       const struct ts_ended *ended)
{
    struct ts_totals *totals =
        ts_commands_find(&job->commands, ended->comm, ended->exe_dev, ended->exe_inode);

    if (!totals)
        return -ENOMEM;
    ts_totals_add(totals, sums, ended);
    remember(job, ended);
    return 0;
}

void ts_jobs_doubt(struct ts_jobs *jobs, const uint32_t *numbers, uint32_t n, uint64_t records)
{
    jobs->stamp++;
    for (uint32_t i = 0; i < n; i++)
        doubt(jobs, numbers[i], records);
}

/* ---- jobs ---- */

static int new_number(struct ts_jobs *jobs, uint32_t *number)
{
    struct job *grown;
    uint32_t i = 0;

    while (i < jobs->n && jobs->all[i].used)
        i++;
    if (i == jobs->n) {
        grown = realloc(jobs->all, (jobs->n + 1) * sizeof(*grown));
        if (!grown)
            return -ENOMEM;
        jobs->all = grown;
        memset(&grown[jobs->n++], 0, sizeof(*grown));
    }
    *number = i;
    return 0;
}

/* Returns the process that has this pid and started in this range; 0 if none is known. */
static uint32_t find_in(const struct ts_kinship *kin, uint32_t pid, uint64_t start_ns,
                        uint64_t start_end_ns)
{
    uint32_t one = ts_kinship_at(kin, pid, start_end_ns);

    /* an ended process with an inexact start is not the one asked for */
    while (one && (kin->all[one].start_end_ns < start_ns ||
                   (kin->all[one].line == TS_ENDED && kin->all[one].start_ns < start_ns)))
        one = ts_kinship_next(kin, one);
    return one;
}

static int is_root_of(const struct job *job, const struct ts_kin *process)
{
    return job->root == process->pid && job->start_ns <= process->start_end_ns &&
           process->start_ns <= job->start_end_ns;
}

/* Returns the job of which the process is the root, perhaps a closed one; or TS_NO_JOB. */
static uint32_t job_of_root(const struct ts_jobs *jobs, const struct ts_kin *process)
{
    for (uint32_t i = process->owner; is_job(i); i = jobs->all[i].outer)
        if (is_root_of(&jobs->all[i], process))
            return i;
    return TS_NO_JOB;
}

static void set_outer(struct ts_jobs *jobs, uint32_t number, uint32_t outer)
{
    uint32_t before = jobs->all[number].outer;

    if (!is_job(outer))
        outer = TS_NO_JOB;
    use(jobs, outer);
    jobs->all[number].outer = outer;
    if (jobs->all[number].births_lost)
        mark(jobs, outer);
    unuse(jobs, before);
}

int ts_jobs_put_within(struct ts_jobs *jobs, uint32_t job, uint32_t outer)
{
    if (is_job(outer) && is_within(jobs, outer, job))
        return -EINVAL;
    set_outer(jobs, job, outer);
    return 0;
}

/* Makes room by forgetting the dead process that has been so for longest. */
static int make_room(struct ts_jobs *jobs);

static uint32_t add_kin(struct ts_jobs *jobs, uint32_t pid, uint64_t start_ns,
                        uint64_t start_end_ns)
{
    uint32_t one = ts_kinship_add(&jobs->kin, pid, start_ns, start_end_ns);

    if (one) {
        jobs->kin.all[one].owner = TS_NO_JOB;
        jobs->kin.all[one].epoch = jobs->epoch;
    }
    return one;
}

static int is_open_root(const struct ts_jobs *jobs, uint32_t one)
{
    for (uint32_t i = 0; i < jobs->n; i++)
        if (jobs->all[i].open && is_root_of(&jobs->all[i], &jobs->kin.all[one]))
            return 1;
    return 0;
}

int ts_jobs_start(struct ts_jobs *jobs, const struct ts_job_wanted *wanted, uint32_t *number)
{
    struct job *job;
    uint32_t one = 0;
    int rc;

    if (wanted->root) {
        one = find_in(&jobs->kin, wanted->root, wanted->start_ns, wanted->start_end_ns);
        if (one && is_open_root(jobs, one))
            return -EEXIST;
    }
    rc = new_number(jobs, number);
    if (rc < 0)
        return rc;
    if (wanted->root && !one) {
        if (make_room(jobs) < 0)
            return -ENOSPC;
        one = add_kin(jobs, wanted->root, wanted->start_ns, wanted->start_end_ns);
        if (!one)
            return -ENOMEM;
    }
    job = &jobs->all[*number];
    job->used = job->open = 1;
    job->outer = TS_NO_JOB;
    job->root = wanted->root;
    job->start_ns = wanted->start_ns;
    job->start_end_ns = wanted->start_end_ns;
    job->remember = wanted->remember;
    if (wanted->root) {
        job->outer_known = jobs->kin.all[one].maker_pid != 0;
        job->start_ns = jobs->kin.all[one].start_ns; /* exact, if its birth was read */
        job->start_end_ns = jobs->kin.all[one].start_end_ns;
        set_outer(jobs, *number, owner_of(jobs, one));
        set_owner(jobs, &jobs->kin.all[one], *number);
    } else {
        job->by_cgroup = 1;
        jobs->n_by_cgroup++;
        set_outer(jobs, *number, wanted->outer);
    }
    return 0;
}

int ts_jobs_join(struct ts_jobs *jobs, uint32_t job, uint32_t pid, uint64_t start_ns,
                 uint64_t start_end_ns)
{
    uint32_t beyond = around(jobs, job);
    uint32_t one = find_in(&jobs->kin, pid, start_ns, start_end_ns);
    uint32_t owner, inner;

    if (!one) {
        if (make_room(jobs) < 0)
            return -ENOSPC;
        one = add_kin(jobs, pid, start_ns, start_end_ns);
        if (!one)
            return -ENOMEM;
    }
    inner = job_of_root(jobs, &jobs->kin.all[one]);
    owner = owner_of(jobs, one);
    if (inner != TS_NO_JOB && jobs->all[inner].open && inner != job) {
        uint32_t outer = around(jobs, inner);
        if ((outer == beyond || !is_job(outer)) && !is_within(jobs, job, inner))
            set_outer(jobs, inner, job);
    } else if (owner == beyond || !is_job(owner)) {
        set_owner(jobs, &jobs->kin.all[one], job);
    }
    return 0;
}

/* Gives what a job has to the one that it is within. */
static int hand_over(struct ts_jobs *jobs, const struct job *from, uint32_t outer)
{
    struct job *to = &jobs->all[outer];
    int rc = 0;

    for (uint32_t i = 0; i < from->commands.n; i++) {
        const struct ts_command *command = from->commands.found[i];
        struct ts_totals *totals = ts_commands_find(&to->commands, command->comm,
                                                    command->exe_dev, command->exe_inode);
        if (totals) {
            ts_totals_add_totals(totals, &command->totals);
        } else {
            lack(jobs, outer, command->totals.threads);
            rc = -ENOMEM;
        }
    }
    for (uint64_t i = 0; i < from->n_ended; i++)
        remember(to, &from->ended[i]);
    to->forgotten += from->forgotten;
    return rc;
}

int ts_jobs_close(struct ts_jobs *jobs, uint32_t number)
{
    struct job *job = &jobs->all[number];
    uint32_t outer;
    int rc = 0;

    if (job->births_lost)
        jobs->n_marked--;
    if (job->by_cgroup) {
        jobs->n_by_cgroup--;
        ts_jobs_forget_cgroups(jobs);
    }
    job->open = 0;
    outer = around(jobs, number);
    if (is_job(outer))
        rc = hand_over(jobs, job, outer);
    if (is_job(outer) || job->by_cgroup || job->outer_known)
        empty_job(job); /* else the root's birth may say whose this is */
    job->uses++;        /* once more, so that it is freed by what frees others */
    unuse(jobs, number);
    return rc;
}

/* ---- cgroups ---- */

static struct place *find_place(const struct ts_jobs *jobs, uint64_t cgroup)
{
    uint32_t mask = 2 * TS_MOST_PLACES - 1;
    uint32_t at = (uint32_t)(cgroup * 0x9e3779b97f4a7c15u >> 40) & mask;

    while (jobs->places[at].cgroup && jobs->places[at].cgroup != cgroup)
        at = (at + 1) & mask;
    return &jobs->places[at];
}

void ts_jobs_forget_cgroups(struct ts_jobs *jobs)
{
    memset(jobs->places, 0, 2 * (size_t)TS_MOST_PLACES * sizeof(*jobs->places));
    jobs->n_places = 0;
}

int ts_jobs_place_cgroup(struct ts_jobs *jobs, uint64_t id, uint32_t job)
{
    struct place *place;

    if (jobs->n_places >= TS_MOST_PLACES)
        ts_jobs_forget_cgroups(jobs);
    place = find_place(jobs, id);
    jobs->n_places += !place->cgroup;
    place->cgroup = id;
    place->job = job;
    return 0;
}

int ts_jobs_new_cgroups(struct ts_jobs *jobs, const struct ts_record *tasks, uint32_t n,
                        uint64_t *ids, uint32_t room)
{
    uint32_t found = 0;
    uint64_t latest = 0;

    for (uint32_t i = 0; jobs->n_by_cgroup && i < n && found < room; i++) {
        uint64_t id = tasks[i].cgroup_id;
        if (!(tasks[i].flags & TS_SETTLED) || !id || id == latest ||
            find_place(jobs, id)->cgroup)
            continue;
        latest = ids[found++] = id;
    }
    return (int)found;
}

/* Which job by cgroup a record is of. */
static uint32_t job_by_cgroup(const struct ts_jobs *jobs, const struct ts_record *record)
{
    const struct place *place;

    if (!jobs->n_by_cgroup)
        return TS_NO_JOB;
    if (!(record->flags & TS_SETTLED) || !record->cgroup_id)
        return TS_UNDECIDED;
    place = find_place(jobs, record->cgroup_id);
    return place->cgroup ? place->job : TS_UNDECIDED;
}

/* ---- processes ---- */

/* A process that nobody can say anything about any more: what of it was heard is given up. */
static void forget(struct ts_jobs *jobs, uint32_t one)
{
    struct ts_kin *process = &jobs->kin.all[one];
    uint32_t owner = owner_of(jobs, one);

    if (process->threads) {
        if (!process->threads->done) {
            jobs->counts.waiting -= process->threads->sums.threads;
            give_up(jobs, owner, process->threads->sums.threads);
        }
        unuse(jobs, process->threads->by_cgroup);
    }
    set_owner(jobs, process, TS_NO_JOB);
    ts_kinship_remove(&jobs->kin, one);
}

/* Whether all its threads were heard, and no other process's. */
static int is_whole(const struct ts_threads *threads)
{
    return threads->has_group && ts_sums_match(&threads->sums, &threads->group);
}

/* Forgets a process of which records may still come. They must not be taken for those of an
 * older process with the same pid. */
static void evict(struct ts_jobs *jobs, uint32_t one)
{
    struct ts_kinship *kin = &jobs->kin;
    const struct ts_kin *process = &kin->all[one];

    if (process->line == TS_ENDED)
        ts_jobs_flush(jobs);
    if (process->line != TS_ENDED || (process->threads && !is_whole(process->threads))) {
        mark(jobs, owner_of(jobs, one)); /* its records will be nobody's */
        for (uint32_t i = ts_kinship_next(kin, one); i; i = ts_kinship_next(kin, i))
            kin->all[i].epoch = jobs->epoch - 1;
    }
    forget(jobs, one);
}

static int make_room(struct ts_jobs *jobs)
{
    struct ts_kinship *kin = &jobs->kin;

    if (kin->n < kin->capacity)
        return 0;
    if (!kin->oldest[TS_ENDED] && !kin->oldest[TS_REPLACED])
        return -ENOSPC;
    evict(jobs, kin->oldest[TS_ENDED] ? kin->oldest[TS_ENDED] : kin->oldest[TS_REPLACED]);
    return 0;
}

/* The birth of a job's root: the job is within the maker's, unless it is already within one
 * that was attached within the maker's. Or of a process that lived when a job was attached to:
 * it is of its maker's job, unless that is one around the attached one. */
static void take_known_birth(struct ts_jobs *jobs, uint32_t one, uint32_t owner,
                             const struct ts_birth *birth)
{
    uint32_t rooted = job_of_root(jobs, &jobs->kin.all[one]);
    struct job *job;

    if (rooted == TS_NO_JOB) {
        if (is_job(owner) && !is_within(jobs, owner_of(jobs, one), owner))
            set_owner(jobs, &jobs->kin.all[one], owner);
        return;
    }
    job = &jobs->all[rooted];
    job->start_ns = job->start_end_ns = birth->start_ns;
    if (job->outer_known)
        return;
    job->outer_known = 1;
    if (is_job(owner) && !is_within(jobs, owner, rooted) &&
        !is_within(jobs, job->outer, owner)) {
        set_outer(jobs, rooted, owner);
        if (!job->open)
            hand_over(jobs, job, owner);
    }
    if (!job->open)
        empty_job(job);
}

static void take_birth(struct ts_jobs *jobs, const struct ts_birth *birth)
{
    struct ts_kinship *kin = &jobs->kin;
    uint32_t maker = ts_kinship_find(kin, birth->maker_pid, birth->maker_start_ns);
    uint32_t owner = maker ? owner_of(jobs, maker) : unknown_owner(jobs, birth->maker_start_ns);
    uint32_t one = ts_kinship_find(kin, birth->pid, birth->start_ns);
    struct ts_kin *process;

    if (maker)
        kin->all[maker].start_ns = kin->all[maker].start_end_ns = birth->maker_start_ns;
    if (!one) {
        uint32_t before = ts_kinship_at(kin, birth->pid, birth->start_ns);
        if (before) /* it is dead: it can make room, and has no claim to records to come */
            ts_kinship_line_up(kin, before, TS_REPLACED);
        if (make_room(jobs) == 0)
            one = add_kin(jobs, birth->pid, birth->start_ns, birth->start_ns);
        if (!one) {
            jobs->epoch++; /* its threads may look like those of an older process */
            mark(jobs, owner);
            return;
        }
        set_owner(jobs, &kin->all[one], owner);
    } else {
        take_known_birth(jobs, one, owner, birth);
    }
    process = &kin->all[one];
    process->start_ns = process->start_end_ns = birth->start_ns;
    process->maker_pid = birth->maker_pid;
    process->maker_start_ns = birth->maker_start_ns;
}

/* ---- which process a record is of ---- */

/* Where a record can belong. */
struct found {
    uint32_t process; /* 0: none that is known */
    uint32_t owner;   /* TS_UNDECIDED: it is counted as undecided already */
};

/* Whether a thread may be of another process with the same pid, which is not known. */
static int is_doubtful(const struct ts_jobs *jobs, const struct ts_kin *process)
{
    return process->epoch != jobs->epoch;
}

/* Whether a thread's record can be of a process with its tgid: a process ends once, and the
 * record tells when it has started, to a microsecond. */
static int may_be_in(const struct ts_jobs *jobs, const struct ts_record *record,
                     const struct ts_kin *process)
{
    const struct ts_stats *stats = &record->stats;
    uint64_t start_ns = record->start_ns + (stats->ac_etime - stats->ac_tgetime) * 1000;

    if (is_last(record) && process->line == TS_ENDED)
        return 0;
    return !is_doubtful(jobs, process) || (start_ns + AGE_SLACK >= process->start_ns &&
                                           start_ns <= process->start_end_ns + AGE_SLACK);
}

static struct found find_identified(struct ts_jobs *jobs, const struct ts_record *record)
{
    uint32_t tgid = record->stats.ac_tgid;
    struct found found;

    found.process = is_leader(record) ? ts_kinship_find(&jobs->kin, tgid, record->start_ns)
                                      : ts_kinship_at(&jobs->kin, tgid, record->start_ns);
    found.owner =
        found.process ? owner_of(jobs, found.process) : unknown_owner(jobs, record->start_ns);
    if (found.process && !may_be_in(jobs, record, &jobs->kin.all[found.process])) {
        doubt(jobs, found.owner, 1);
        found.process = 0;
        found.owner = TS_UNDECIDED;
    }
    if (found.owner == TS_UNDECIDED) {
        doubt_marked(jobs, record->start_ns, 1);
        found.owner = doubted_owner(jobs);
    }
    return found;
}

/* When its process has started, by the record alone: the kernel counts the exit's second as
 * ac_btime64 + ac_etime (kernel/tsacct.c:bacct_add_tsk), and the process's age. */
static void start_of(const struct ts_jobs *jobs, const struct ts_record *record, int64_t *from,
                     int64_t *to)
{
    const struct ts_stats *stats = &record->stats;
    int64_t second = (int64_t)(stats->ac_btime64 + stats->ac_etime / 1000000);
    int64_t age = (int64_t)(stats->ac_tgetime * 1000);
    int64_t boot = (int64_t)jobs->boot_ns;

    *from = second * 1000000000 - age - 1000 - boot - CLOCK_SLACK;
    *to = (second + 1) * 1000000000 + MOST_LATE - age - boot + CLOCK_SLACK;
}

/* Whether a process has started between two moments, and ended before the next one with its
 * pid has started. */
static int fits_age(const struct ts_kinship *kin, uint32_t one, const struct ts_record *record,
                    int64_t from, int64_t to)
{
    const struct ts_kin *process = &kin->all[one];
    uint64_t end_ns = process->start_ns + record->stats.ac_tgetime * 1000;
    uint32_t newer = 0;

    if ((int64_t)process->start_end_ns < from || (int64_t)process->start_ns > to)
        return 0;
    for (uint32_t at = ts_kinship_first(kin, process->pid); at != one;
         at = ts_kinship_next(kin, at))
        newer = at;
    return !newer || end_ns <= kin->all[newer].start_end_ns;
}

/* A record without identity. It is assigned if all processes that it can be of belong to the
 * same job, and to one of them if it is the only one. */
static struct found find_by_age(struct ts_jobs *jobs, const struct ts_record *record)
{
    struct ts_kinship *kin = &jobs->kin;
    struct found found = {0, TS_NO_JOB};
    int64_t from, to;
    int fits = 0, known = 0, certain = 1;
    int old; /* it may be of a process that no birth has told of */

    start_of(jobs, record, &from, &to);
    old = from < (int64_t)jobs->since_ns;
    for (uint32_t one = ts_kinship_first(kin, record->stats.ac_tgid); one;
         one = ts_kinship_next(kin, one)) {
        const struct ts_kin *process = &kin->all[one];
        uint32_t owner = owner_of(jobs, one);
        known += is_job(owner);
        if (is_last(record) && process->line == TS_ENDED)
            continue;
        if (!fits_age(kin, one, record, from, to))
            continue;
        if (process->start_ns < jobs->since_ns)
            old = 0; /* this is that process */
        certain = certain && (!fits || owner == found.owner);
        found.owner = owner;
        found.process = fits++ ? 0 : one;
    }
    if (!known && !jobs->n_marked) {
        found.owner = TS_NO_JOB;
        return found;
    }
    certain = certain && fits && !old && !jobs->births_lost;
    if (certain && (fits == 1 || (is_alone(record) && found.owner != TS_UNDECIDED)))
        return found;
    for (uint32_t one = ts_kinship_first(kin, record->stats.ac_tgid); one;
         one = ts_kinship_next(kin, one)) {
        if (is_last(record) && kin->all[one].line == TS_ENDED)
            continue;
        if (!fits || /* the clock may have been set since its end */
            fits_age(kin, one, record, from, to))
            doubt(jobs, owner_of(jobs, one), 1);
    }
    doubt_marked(jobs, to < 0 ? 0 : (uint64_t)to, 1);
    found.process = 0;
    found.owner = doubted_owner(jobs);
    return found;
}

/* ---- records ---- */

/* What is added to a job: a process of one thread by its record, or one of several threads. */
struct addition {
    uint64_t records;
    const struct ts_kin *process;
    const struct ts_record *record; /* NULL: one of several threads, */
    const struct ts_ended *ended;
    const struct ts_sums *sums;
    const struct ts_sums *before; /* of which this much was added before */
};

static int add(struct job *job, const struct addition *it)
{
    struct ts_totals *totals;

    if (it->record)
        return add_record(job, it->record, it->process);
    if (!it->before)
        return add_process(job, it->sums, it->ended);
    totals = ts_commands_find(&job->commands, it->ended->comm, it->ended->exe_dev,
                              it->ended->exe_inode);
    if (!totals)
        return -ENOMEM;
    ts_totals_add_thread(totals, it->before, it->sums);
    return 0;
}

/* Adds to the jobs, and counts. */
static int attribute(struct ts_jobs *jobs, uint32_t owner, uint32_t by_cgroup,
                     const struct addition *it)
{
    uint32_t those[2] = {owner, nearest_open(jobs, by_cgroup)};
    uint64_t *count = &jobs->counts.outside;
    int rc = 0;

    if (owner == TS_UNDECIDED || by_cgroup == TS_UNDECIDED)
        count = &jobs->counts.undecided;
    for (unsigned i = 0; i < 2; i++) {
        if (!is_job(those[i]))
            continue;
        if (add(&jobs->all[those[i]], it) == 0) {
            count = &jobs->counts.attributed;
            continue;
        }
        lack(jobs, those[i], it->records);
        if (count != &jobs->counts.attributed)
            count = &jobs->counts.evicted;
        rc = -ENOMEM;
    }
    if (by_cgroup == TS_UNDECIDED)
        doubt_by_cgroup(jobs, it->records);
    *count += it->records;
    return rc;
}

int ts_jobs_add_record(struct ts_jobs *jobs, uint32_t job, const struct ts_record *record)
{
    return attribute(jobs, nearest_open(jobs, job), TS_NO_JOB,
                     &(struct addition){.records = 1, .record = record});
}

int ts_jobs_add_process(struct ts_jobs *jobs, uint32_t job, const struct ts_sums *sums,
                        const struct ts_ended *ended)
{
    return attribute(
        jobs, nearest_open(jobs, job), TS_NO_JOB,
        &(struct addition){.records = sums->threads, .ended = ended, .sums = sums});
}

/* Its last thread's record was read. */
static void end(struct ts_jobs *jobs, uint32_t one, int settled)
{
    struct ts_kin *process = &jobs->kin.all[one];

    if (process->line == TS_ENDED)
        return;
    if (is_job(process->owner)) {
        jobs->all[process->owner].living--;
        for (uint32_t i = process->owner; !settled && is_job(i); i = jobs->all[i].outer)
            jobs->all[i].unsure = 1;
    }
    ts_kinship_line_up(&jobs->kin, one, TS_ENDED);
    if (jobs->kin.n_in[TS_ENDED] > TS_MOST_ENDED)
        evict(jobs, jobs->kin.oldest[TS_ENDED]);
}

/* Counts records of a process of several threads as undecided, if a job may have them. */
static void doubt_process(struct ts_jobs *jobs, uint32_t one, uint64_t records)
{
    const struct ts_kin *process = &jobs->kin.all[one];
    uint32_t owner = owner_of(jobs, one);

    doubt(jobs, owner, records);
    if (owner != TS_UNDECIDED) /* else these jobs have counted each record */
        doubt_marked(jobs, process->start_ns, records);
    if (process->threads->by_cgroup == TS_UNDECIDED)
        doubt_by_cgroup(jobs, records);
    else
        doubt(jobs, process->threads->by_cgroup, records);
    if (owner == TS_UNDECIDED || jobs->doubted == jobs->stamp)
        jobs->counts.undecided += records;
    else
        jobs->counts.outside += records;
}

/* What a process has used, by its threads and by the kernel's own sums. */
static struct ts_sums sums_of(const struct ts_threads *threads)
{
    struct ts_sums sums = threads->sums;

    if (threads->has_group)
        ts_sums_raise(&sums, &threads->group);
    return sums;
}

/* Adds a process of several threads to its job: no more is expected of it. */
static int finish(struct ts_jobs *jobs, uint32_t one)
{
    struct ts_kin *process = &jobs->kin.all[one];
    struct ts_threads *threads = process->threads;
    struct ts_sums sums;

    threads->done = 1;
    jobs->counts.waiting -= threads->sums.threads;
    jobs->stamp++;
    if (!is_whole(threads) && is_doubtful(jobs, process) && !is_exact(process)) {
        doubt_process(jobs, one, threads->sums.threads);
        return 0;
    }
    sums = sums_of(threads);
    threads->ended.cpu_ns = ts_sums_cpu_ns(&sums);
    if (threads->has_leader)
        memcpy(threads->ended.comm, threads->leader, sizeof(threads->leader));
    describe_birth(&threads->ended, process);
    return attribute(
        jobs, owner_of(jobs, one), threads->by_cgroup,
        &(struct addition){.records = sums.threads, .ended = &threads->ended, .sums = &sums});
}

/* Finishes the processes whose last record came when fewer drains had left the queues empty. In
 * the drain that brings it, a CPU may have been read before another thread ended there. */
static void finish_before(struct ts_jobs *jobs, uint64_t drain)
{
    uint32_t left = 0;

    for (uint32_t i = 0; i < jobs->n_ending; i++) {
        uint32_t one = jobs->ending[i];
        if (jobs->kin.all[one].threads->drain < drain)
            finish(jobs, one);
        else
            jobs->ending[left++] = one;
    }
    jobs->n_ending = left;
}

void ts_jobs_flush(struct ts_jobs *jobs)
{
    finish_before(jobs, UINT64_MAX);
}

static int wait_for_threads(struct ts_jobs *jobs, uint32_t one)
{
    if (jobs->n_ending == jobs->room_ending) {
        uint32_t room = jobs->room_ending ? 2 * jobs->room_ending : 64;
        uint32_t *grown = realloc(jobs->ending, room * sizeof(*grown));
        if (!grown)
            return finish(jobs, one);
        jobs->ending = grown;
        jobs->room_ending = room;
    }
    jobs->ending[jobs->n_ending++] = one;
    return 0;
}

/* A thread whose record comes after its process was added. The kernel's sums may hold it
 * already: only what it brings beyond them is added. */
static int add_late(struct ts_jobs *jobs, uint32_t one, const struct ts_record *record)
{
    struct ts_threads *threads = jobs->kin.all[one].threads;
    struct ts_sums before, sums;

    if (is_doubtful(jobs, &jobs->kin.all[one]) && !is_exact(&jobs->kin.all[one])) {
        doubt_process(jobs, one, 1);
        return 0;
    }
    before = sums_of(threads);
    ts_sums_add(&threads->sums, record);
    sums = sums_of(threads);
    return attribute(
        jobs, owner_of(jobs, one), threads->by_cgroup,
        &(struct addition){
            .records = 1, .ended = &threads->ended, .sums = &sums, .before = &before});
}

/* Folds a thread's record into its process. */
static int fold(struct ts_jobs *jobs, uint32_t one, const struct ts_record *record,
                const struct ts_record *group)
{
    struct ts_kin *process = &jobs->kin.all[one];
    struct ts_threads *threads = process->threads;

    if (threads && threads->done)
        return add_late(jobs, one, record);
    if (!threads) {
        threads = ts_kinship_several(&jobs->kin, one);
        if (!threads) {
            give_up(jobs, owner_of(jobs, one), 1);
            return -ENOMEM;
        }
        threads->by_cgroup = TS_NO_JOB;
    }
    ts_sums_add(&threads->sums, record);
    jobs->counts.waiting++;
    if (is_leader(record)) {
        threads->has_leader = 1;
        memcpy(threads->leader, record->stats.ac_comm, sizeof(threads->leader));
    }
    if (is_last(record)) {
        threads->drain = jobs->drains;
        describe(&threads->ended, record);
        unuse(jobs, threads->by_cgroup);
        threads->by_cgroup = job_by_cgroup(jobs, record);
        use(jobs, threads->by_cgroup);
        threads->has_group = group != NULL;
        if (group)
            threads->group = *group;
    } else if (process->line != TS_ENDED) {
        return 0;
    }
    if (is_whole(threads)) {
        /* With the last thread's record it does not wait yet. */
        for (uint32_t i = 0; !is_last(record) && i < jobs->n_ending; i++)
            if (jobs->ending[i] == one)
                jobs->ending[i] = jobs->ending[--jobs->n_ending];
        return finish(jobs, one);
    }
    return is_last(record) ? wait_for_threads(jobs, one) : 0;
}

/* Adds the process of a thread that no birth has told of: TS_NO_JOB, TS_UNDECIDED. */
static uint32_t add_old(struct ts_jobs *jobs, const struct ts_record *record, uint32_t owner)
{
    uint32_t one = 0;

    if (is_identified(record) && make_room(jobs) == 0)
        one = add_kin(jobs, record->stats.ac_tgid, is_leader(record) ? record->start_ns : 0,
                      record->start_ns);
    if (one) {
        jobs->kin.all[one].owner = owner;
        jobs->kin.all[one].epoch = jobs->epoch - !!jobs->births_lost;
    }
    return one;
}

static int take_record(struct ts_jobs *jobs, const struct ts_record *record,
                       const struct ts_record *group)
{
    int identified = is_identified(record);
    struct found found;
    int kept, several, rc;

    jobs->stamp++;
    found = identified ? find_identified(jobs, record) : find_by_age(jobs, record);
    if (found.process && jobs->kin.all[found.process].threads == NULL && is_alone(record)) {
        rc = attribute(jobs, found.owner, job_by_cgroup(jobs, record),
                       &(struct addition){.records = 1,
                                          .record = record,
                                          .process = &jobs->kin.all[found.process]});
        if (identified)
            forget(jobs, found.process);
        else
            end(jobs, found.process, 0);
        return rc;
    }
    kept = found.process && jobs->kin.all[found.process].threads != NULL;
    several = found.process || !is_alone(record);
    if (kept || is_job(found.owner) || (several && jobs->n_by_cgroup)) {
        if (!found.process)
            found.process = add_old(jobs, record, found.owner);
        if (found.process) {
            if (is_last(record))
                end(jobs, found.process, identified);
            return fold(jobs, found.process, record, group);
        }
        if (identified) { /* the group's sums may bring it: it must not be counted twice */
            give_up(jobs, TS_NO_JOB, 1);
            return 0;
        }
    }
    rc = attribute(jobs, found.owner, job_by_cgroup(jobs, record),
                   &(struct addition){.records = 1, .record = record});
    if (found.process && is_last(record))
        end(jobs, found.process, identified);
    return rc;
}

/* The group's record that came with a task's; NULL if there is none. */
static const struct ts_record *group_of(const struct ts_feed *feed,
                                        const struct ts_record *task)
{
    if (!(task->flags & TS_PAIRED) || task->row >= feed->n_groups)
        return NULL;
    return &feed->groups[task->row];
}

/* What decides which fields a record has, and whether it is one of an exit. */
static uint64_t shape_of(const struct ts_record *record)
{
    return record->version | (uint64_t)record->size << 16 | (uint64_t)record->kind << 32 |
           (uint64_t)(record->flags & TS_EXIT) << 40;
}

int ts_jobs_check(const struct ts_jobs *jobs, const struct ts_record *tasks, uint32_t n)
{
    int found = 0;

    for (uint32_t i = 0; i < n; i++) {
        if (shape_of(&tasks[i]) != jobs->shape)
            found |= TS_UNLIKE;
        if (!is_identified(&tasks[i]))
            found |= TS_NEEDS_CLOCK;
    }
    return found;
}

void ts_jobs_accept(struct ts_jobs *jobs, const struct ts_record *tasks, uint32_t n)
{
    if (n)
        jobs->shape = shape_of(&tasks[n - 1]);
}

int ts_jobs_feed(struct ts_jobs *jobs, const struct ts_feed *feed)
{
    int rc = 0;

    jobs->boot_ns = feed->boot_ns;
    if (feed->births_lost > jobs->births_lost) /* before the first of these, perhaps */
        lose_births(jobs);
    for (uint32_t i = 0; i < feed->n_births; i++)
        take_birth(jobs, &feed->births[i]);
    if (feed->births_lost > jobs->births_lost) {
        jobs->epoch++;
        jobs->births_lost = feed->births_lost;
    }
    for (uint32_t i = 0; i < feed->n_tasks; i++) {
        const struct ts_record *task = &feed->tasks[i];
        if (task->lost_before)
            ts_jobs_lose(jobs, task->lost_before);
        if (take_record(jobs, task, group_of(feed, task)) < 0)
            rc = -ENOMEM;
    }
    if (feed->emptied)
        finish_before(jobs, jobs->drains++);
    return rc;
}

/* ---- reading ---- */

void ts_jobs_count(const struct ts_jobs *jobs, struct ts_jobs_counts *counts)
{
    const struct ts_kinship *kin = &jobs->kin;

    *counts = jobs->counts;
    counts->processes = kin->n;
    counts->bytes = ts_kinship_bytes(kin) + sizeof(*jobs) +
                    2 * (size_t)TS_MOST_PLACES * sizeof(*jobs->places) +
                    jobs->n * sizeof(*jobs->all) + jobs->room_ending * sizeof(*jobs->ending);
    for (uint32_t i = 0; i < jobs->n; i++)
        counts->bytes += jobs->all[i].room_ended * sizeof(struct ts_ended) +
                         jobs->all[i].commands.n * sizeof(struct ts_command);
    for (uint32_t i = 0; i < jobs->n_ending; i++) {
        uint64_t since = kin->all[jobs->ending[i]].threads->ended.received_ns;
        if (!counts->waiting_since || since < counts->waiting_since)
            counts->waiting_since = since;
    }
}

int ts_job_count(const struct ts_jobs *jobs, uint32_t number, struct ts_job_counts *counts)
{
    const struct job *job = &jobs->all[number];

    counts->n_commands = job->commands.n;
    counts->outer = around(jobs, number);
    counts->remembered = job->n_ended;
    counts->forgotten = job->forgotten;
    counts->living = job->living;
    counts->lost = job->lost;
    counts->undecided = job->undecided;
    counts->evicted = job->evicted;
    counts->births_lost = (uint64_t)job->births_lost;
    return 0;
}

int ts_job_within(const struct ts_jobs *jobs, uint32_t outer, uint32_t *numbers, uint32_t room)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < jobs->n; i++) {
        if (!jobs->all[i].open || !is_within(jobs, i, outer))
            continue;
        if (n < room)
            numbers[n] = i;
        n++;
    }
    return (int)n;
}

int ts_job_commands(const struct ts_jobs *jobs, uint32_t job, struct ts_command *commands,
                    uint32_t room)
{
    const struct ts_commands *of = &jobs->all[job].commands;
    uint32_t n = of->n < room ? of->n : room;

    for (uint32_t i = 0; i < n; i++)
        commands[i] = *of->found[i];
    return (int)n;
}

int ts_job_ended(const struct ts_jobs *jobs, uint32_t job, struct ts_ended *ended,
                 uint32_t room)
{
    uint64_t n = jobs->all[job].n_ended < room ? jobs->all[job].n_ended : room;

    if (n)
        memcpy(ended, jobs->all[job].ended, n * sizeof(*ended));
    return (int)n;
}

uint32_t ts_jobs_of(struct ts_jobs *jobs, uint32_t pid, uint64_t start_ns,
                    uint64_t start_end_ns)
{
    uint32_t one = find_in(&jobs->kin, pid, start_ns, start_end_ns);

    return one ? owner_of(jobs, one) : unknown_owner(jobs, start_end_ns);
}

int ts_jobs_members(const struct ts_jobs *jobs, struct ts_member *members, uint32_t room)
{
    const struct ts_kinship *kin = &jobs->kin;
    uint32_t n = 0;

    for (uint32_t i = 1; i < kin->size; i++) {
        const struct ts_kin *one = &kin->all[i];
        uint32_t job = one->used ? nearest_open(jobs, one->owner) : TS_NO_JOB;
        if (one->line != TS_LIVING || !is_job(job))
            continue;
        if (n < room) {
            struct ts_member *member = &members[n];
            member->start_ns = one->start_ns;
            member->start_end_ns = one->start_end_ns;
            member->cpu_ns = one->threads ? ts_sums_cpu_ns(&one->threads->sums) : 0;
            member->pid = one->pid;
            member->job = job;
        }
        n++;
    }
    return (int)n;
}
