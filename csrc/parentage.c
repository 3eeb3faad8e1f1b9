/* Assigns each process to a job by what exit records and the living prove. Pure.
 *
 * Without a probe nothing says who made a process. A record names the parent that the process
 * had when it ended, by a pid alone. So a process is assigned only where one answer is left:
 *
 * - The owner of a pid at some moment is known once all records of before that moment were
 *   read, and the living were looked at before that. Each process has a range in which it
 *   started and one in which it ended: the kernel's second of the exit is ac_btime64 + ac_etime
 *   (kernel/tsacct.c:bacct_add_tsk), and ac_tgetime is the age. Two owners within about two
 *   seconds leave the child undecided.
 * - A child of a process of a job is the job's, unless the parent can have inherited it: as a
 *   child subreaper, which only an ancestor of the job's root can be for the job's orphans, or
 *   as the init of a PID namespace, which adopts whatever enters it. So a parent that was never
 *   seen alive in the initial PID namespace decides nothing, if there has ever been another PID
 *   namespace.
 * - After a loss, only a parent that surely lived when the child ended decides. A record counts
 *   as lost as well if there was no memory for it, or if too many others came after it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "owners.h"

#define SECOND INT64_C(1000000000)
#define TICK INT64_C(10000000) /* /proc tells starts to 10 ms */

/* The clocks may be set by so much, ns, between an exit and its reading. */
#define SLACK INT64_C(20000000)

/* The kernel's second is that of the last tick of the CPU that keeps the time. Where this CPU
 * is itself kept waiting, as on a busy virtual machine, a tick has come 0.11 s late. */
#define MOST_LATE SECOND

/* init and kthreadd have no parent. Of others, a parent 0 is one that ended in that moment. */
#define LAST_WITHOUT_PARENT 2u

/* How long after a loss records may be read that are older than the lost ones, ns. */
#define DOUBT (2 * SECOND)

/* No sum of times below this overflows. */
#define LONGEST INT64_C(4000000000000000000)

struct job {
    uint32_t number;
    int64_t start_ns;            /* CLOCK_REALTIME, the earliest */
    struct ts_owner *subreaper;  /* an ancestor of the root; NULL: none is named */
    struct ts_owner **ancestors; /* of the root, the nearest first */
    uint32_t n_ancestors;
    int knows_ancestors;
    int has_until;
    const struct ts_doubts *until; /* this job and those that began before, once asked for */
};

enum stage {
    IDLE,
    ASKING,         /* the living are looked at, for those that wait */
    BOUNDING,       /* that was done, or there was no need */
    FLUSHING,       /* the same look, of a flush because too many wait */
    FLUSHING_ALONE, /* of a flush that was called for */
    FORGETTING,
};

struct wanted {
    uint32_t pid;
    uint32_t is_there;
};

struct ts_parentage {
    struct ts_jobs *jobs;
    struct ts_owners owners;
    struct ts_doubt_sets sets;
    struct job *all;   /* open jobs, those that began first at the front */
    uint32_t *numbers; /* room for the number of each job */
    uint32_t n_jobs, room_jobs;
    uint32_t n_rootless; /* jobs of which not all ancestors are known */
    uint32_t capacity;
    struct ts_owner **waiting; /* without a verdict: first those that were asked for */
    uint32_t n_waiting, n_asked, room_waiting;
    int64_t asked_ns;          /* CLOCK_MONOTONIC */
    struct ts_owner *departed; /* seen alive, then missed: they may have a record as well */
    struct ts_owner **last_departed;
    uint32_t n_departed;
    int64_t doubt_until; /* CLOCK_REALTIME */
    struct wanted *wanted;
    uint32_t n_wanted;
    uint32_t asking; /* the number of the look */
    enum stage stage;
    struct ts_moment now;
    int failed; /* there was no memory since the last return of -ENOMEM */
};

static const struct ts_verdict none = {TS_NO_JOB, NULL};

static int is_job(uint32_t job)
{
    return job < TS_UNDECIDED;
}

static int64_t bounded(uint64_t time)
{
    return time < (uint64_t)LONGEST ? (int64_t)time : LONGEST;
}

/* ---- opening ---- */

int ts_parentage_new(struct ts_jobs *jobs, uint32_t capacity, struct ts_parentage **parentage)
{
    struct ts_parentage *made = calloc(1, sizeof(*made));
    uint32_t most = capacity < UINT32_MAX / 16 ? 8 * capacity + 4096 : UINT32_MAX / 2;
    int rc;

    if (!made)
        return -ENOMEM;
    made->jobs = jobs;
    made->capacity = capacity;
    made->last_departed = &made->departed;
    rc = ts_owners_open(&made->owners, most);
    if (rc == 0)
        rc = ts_doubts_open(&made->sets);
    if (rc < 0)
        ts_parentage_free(made);
    else
        *parentage = made;
    return rc;
}

void ts_parentage_free(struct ts_parentage *parentage)
{
    if (!parentage)
        return;
    for (uint32_t i = 0; i < parentage->n_jobs; i++)
        free(parentage->all[i].ancestors);
    ts_owners_close(&parentage->owners);
    ts_doubts_close(&parentage->sets);
    free(parentage->all);
    free(parentage->numbers);
    free(parentage->waiting);
    free(parentage->wanted);
    free(parentage);
}

static void take_moment(struct ts_parentage *p, const struct ts_moment *now)
{
    p->now = *now;
}

/* Frees the sets that nothing refers to any more, if it is time. */
static void sweep(struct ts_parentage *p)
{
    if (!ts_doubts_is_due(&p->sets))
        return;
    for (uint32_t i = 0; i < p->owners.n_chunks; i++)
        for (uint32_t k = 0; k < TS_OWNERS_CHUNK; k++)
            if (p->owners.chunks[i][k].uses) {
                ts_doubts_mark(p->owners.chunks[i][k].verdict.doubts);
                ts_doubts_mark(p->owners.chunks[i][k].perhaps);
            }
    for (uint32_t i = 0; i < p->n_jobs; i++)
        if (p->all[i].has_until)
            ts_doubts_mark(p->all[i].until);
    ts_doubts_sweep(&p->sets);
}

/* Ends a call: 0, or -ENOMEM. */
static int done(struct ts_parentage *p)
{
    int failed = p->failed || p->sets.failed;

    p->failed = p->sets.failed = 0;
    sweep(p);
    return failed ? -ENOMEM : 0;
}

static void doubt_from_now(struct ts_parentage *p)
{
    p->doubt_until = p->now.real_ns + DOUBT;
}

/* ---- what can be said without a parent ---- */

static int compare(const void *a, const void *b)
{
    uint32_t first = *(const uint32_t *)a, second = *(const uint32_t *)b;

    return (first > second) - (first < second);
}

/* Returns a set of the numbers that were put at the front of `numbers`. */
static const struct ts_doubts *set_of(struct ts_parentage *p, uint32_t n)
{
    if (n > 1)
        qsort(p->numbers, n, sizeof(*p->numbers), compare);
    return ts_doubts_of(&p->sets, p->numbers, n);
}

/* The verdict about a process of which nothing is known but when it started: it may be any
 * job's that began before. */
static struct ts_verdict perhaps(struct ts_parentage *p, int64_t start_ns)
{
    uint32_t from = 0, to = p->n_jobs;
    struct job *last;

    while (from < to) {
        uint32_t middle = from + (to - from) / 2;
        if (p->all[middle].start_ns <= start_ns)
            from = middle + 1;
        else
            to = middle;
    }
    if (!from)
        return none;
    last = &p->all[from - 1];
    if (!last->has_until) {
        for (uint32_t i = 0; i < from; i++)
            p->numbers[i] = p->all[i].number;
        last->until = set_of(p, from);
        last->has_until = 1;
    }
    return (struct ts_verdict){TS_UNDECIDED, last->until};
}

static const struct ts_doubts *with_job(struct ts_parentage *p, const struct ts_doubts *doubts,
                                        uint32_t job)
{
    return is_job(job) ? ts_doubts_with(&p->sets, doubts, job) : doubts;
}

static void decide(struct ts_owner *one, struct ts_verdict verdict)
{
    one->verdict = verdict;
    one->decided = 1;
}

/* ---- what a child has of its parent ---- */

/* Whether the parent may have inherited the child as an orphan of a job. */
static int inherits(const struct ts_owner *parent, const struct job *job,
                    const struct ts_owner *child)
{
    if (child->start.last < job->start_ns)
        return 0;
    if (job->subreaper && (job->subreaper->lives || parent == job->subreaper))
        return parent == job->subreaper;
    for (uint32_t i = 0; i < job->n_ancestors; i++)
        if (job->ancestors[i] == parent)
            return 1;
    return !job->knows_ancestors;
}

/* Returns the verdict about a child of a process with this verdict. */
static struct ts_verdict inherit(struct ts_parentage *p, const struct ts_owner *parent,
                                 struct ts_verdict verdict, const struct ts_owner *child)
{
    const struct ts_doubts *doubts;
    uint32_t n = 0, named = TS_NO_JOB;

    if (!parent->is_safe && p->now.may_nest) {
        doubts = perhaps(p, child->start.last).doubts;
        doubts = ts_doubts_join(&p->sets, doubts, verdict.doubts);
        doubts = with_job(p, doubts, verdict.job);
        return doubts ? (struct ts_verdict){TS_UNDECIDED, doubts} : none;
    }
    if (!parent->heirs && !p->n_rootless) /* it inherits nothing */
        return !is_job(verdict.job) && verdict.doubts
                   ? (struct ts_verdict){TS_UNDECIDED, verdict.doubts}
                   : verdict;
    for (uint32_t i = 0; i < p->n_jobs; i++)
        if (inherits(parent, &p->all[i], child)) {
            if (p->all[i].subreaper == parent)
                named = p->all[i].number;
            p->numbers[n++] = p->all[i].number;
        }
    if (n == 1 && is_job(named) && !parent->shared)
        return (struct ts_verdict){named, verdict.doubts};
    doubts = ts_doubts_join(&p->sets, verdict.doubts, set_of(p, n));
    if (!is_job(verdict.job) && doubts)
        return (struct ts_verdict){TS_UNDECIDED, doubts};
    return (struct ts_verdict){verdict.job, doubts};
}

/* ---- the living ---- */

/* Returns the parent of a process that was seen alive, if that was seen alive too. A parent is
 * older than its child. A younger process has got the pid of a parent that ended. */
static struct ts_owner *parent_of_living(const struct ts_parentage *p,
                                         const struct ts_owner *one)
{
    struct ts_owner *parent = ts_owners_living(&p->owners, one->ppid);

    if (!parent || one->tick_ns == TS_NO_TICK || parent->tick_ns > one->tick_ns)
        return NULL;
    return parent;
}

/* Returns the verdict about a process that was seen alive. */
static struct ts_verdict verdict_of_living(struct ts_parentage *p, struct ts_owner *one)
{
    struct ts_owner *at = one, *way = NULL, *parent;
    struct ts_verdict verdict;

    while (at && !at->decided && !at->on_stack) {
        at->on_stack = 1;
        at->below = way;
        way = at;
        at = parent_of_living(p, at);
    }
    /* Its parent ended meanwhile; or by what was seen, each one of several made the next. */
    if (!(at && at->decided) && way && way->pid > LAST_WITHOUT_PARENT) {
        verdict = perhaps(p, one->start.last);
        for (; way; way = way->below)
            way->on_stack = 0;
        return verdict;
    }
    parent = at && at->decided ? at : NULL;
    verdict = parent ? parent->verdict : none;
    for (; way; way = way->below) {
        verdict = parent ? inherit(p, parent, verdict, way) : none;
        decide(way, verdict);
        way->on_stack = 0;
        parent = way;
    }
    return verdict;
}

/* A process that was seen alive has ended. */
static void go(struct ts_parentage *p, struct ts_owner *one)
{
    one->end = (struct ts_range){one->seen_ns, INT64_MAX};
    one->gone_ns = p->now.monotonic_ns;
    ts_owners_end(&p->owners, one);
    one->uses++;
    one->departed = NULL;
    *p->last_departed = one;
    p->last_departed = &one->departed;
    p->n_departed++;
}

/* Returns the living process, as it is known already or from now on; NULL if there is no
 * memory. It was looked at after `seen_ns`; NULL: not known: then after its start. */
static struct ts_owner *see(struct ts_parentage *p, const struct ts_alive *alive,
                            const int64_t *seen_ns)
{
    struct ts_owner *known = ts_owners_living(&p->owners, alive->pid);
    int64_t tick_ns = bounded(alive->start_ns);
    int64_t start_ns = tick_ns + p->now.real_ns - p->now.boot_ns;

    if (known && known->tick_ns == tick_ns) {
        known->ppid = alive->ppid;
        return known;
    }
    if (known)
        go(p, known);
    known = ts_owners_add(&p->owners, alive->pid, alive->ppid);
    if (!known) {
        p->failed = 1;
        doubt_from_now(p);
        return NULL;
    }
    known->lives = 1;
    known->is_safe = !alive->is_nested;
    known->tick_ns = tick_ns;
    known->start = (struct ts_range){start_ns - SLACK, start_ns + TICK - 1 + SLACK};
    known->seen_ns = seen_ns ? *seen_ns : known->start.first;
    return known;
}

/* ---- jobs ---- */

static int reserve_job(struct ts_parentage *p)
{
    uint32_t room = p->room_jobs ? 2 * p->room_jobs : 16;
    struct job *all;
    uint32_t *numbers;

    if (p->n_jobs < p->room_jobs)
        return 0;
    all = realloc(p->all, room * sizeof(*all));
    if (!all)
        return -ENOMEM;
    p->all = all;
    numbers = realloc(p->numbers, room * sizeof(*numbers));
    if (!numbers)
        return -ENOMEM;
    p->numbers = numbers;
    p->room_jobs = room;
    return 0;
}

static void name_heir(struct ts_owner *one)
{
    one->named = 1;
    one->heirs++;
    one->uses++;
}

static void unname_heir(struct ts_parentage *p, struct ts_owner *one)
{
    one->heirs--;
    ts_owners_drop(&p->owners, one);
}

/* No set of jobs that began before some moment holds any more. */
static void forget_until(struct ts_parentage *p)
{
    for (uint32_t i = 0; i < p->n_jobs; i++)
        p->all[i].has_until = 0;
}

/* Sees the ancestors. Returns -ENOMEM if there was no memory for one of them. */
static int see_ancestors(struct ts_parentage *p, const struct ts_lineage *of,
                         struct ts_owner **ancestors)
{
    int rc = 0;

    for (uint32_t i = 0; i < of->n; i++) {
        struct ts_owner *one = see(p, &of->ancestors[i], NULL);
        if (!one)
            rc = -ENOMEM;
        else if (ancestors)
            ancestors[i] = one;
    }
    return rc;
}

int ts_parentage_start(struct ts_parentage *p, uint32_t number, const struct ts_lineage *of,
                       const struct ts_alive *subreaper, const struct ts_moment *now,
                       uint32_t *outer)
{
    struct ts_owner *root, *heir, **ancestors;
    struct ts_verdict verdict;
    uint32_t at;
    int rc;

    take_moment(p, now);
    ancestors = calloc(of->n + 1, sizeof(struct ts_owner *));
    rc = ancestors ? reserve_job(p) : -ENOMEM;
    root = see(p, &of->one, NULL);
    if (see_ancestors(p, of, ancestors) < 0 || !root)
        rc = -ENOMEM;
    heir = subreaper ? see(p, subreaper, NULL) : NULL;
    if (rc < 0 || (subreaper && !heir)) {
        free(ancestors);
        done(p);
        return -ENOMEM;
    }
    /* A child of its own job's subreaper is no orphan of another job. */
    verdict = verdict_of_living(p, heir && heir->pid == of->one.ppid ? heir : root);
    root->named = 1;
    for (uint32_t i = 0; of->is_whole && i < of->n; i++)
        name_heir(ancestors[i]);
    if (heir)
        name_heir(heir);
    for (at = p->n_jobs++; at && p->all[at - 1].start_ns > root->start.first; at--)
        p->all[at] = p->all[at - 1];
    p->all[at] = (struct job){.number = number,
                              .start_ns = root->start.first,
                              .subreaper = heir,
                              .ancestors = ancestors,
                              .n_ancestors = of->is_whole ? of->n : 0,
                              .knows_ancestors = !!of->is_whole};
    p->n_rootless += !of->is_whole;
    forget_until(p);
    decide(root, (struct ts_verdict){number, verdict.doubts});
    *outer = verdict.job;
    sweep(p);
    return 0;
}

int ts_parentage_join(struct ts_parentage *p, uint32_t job, const struct ts_alive *alive,
                      const uint32_t *around, uint32_t n, const struct ts_moment *now)
{
    struct ts_verdict verdict;
    struct ts_owner *one;
    int takes;

    take_moment(p, now);
    one = see(p, alive, NULL);
    if (!one)
        return done(p);
    verdict = verdict_of_living(p, one);
    takes = !is_job(verdict.job);
    for (uint32_t i = 0; i < n; i++)
        takes |= verdict.job == around[i];
    if (takes) {
        verdict.doubts = ts_doubts_without(&p->sets, verdict.doubts, job);
        decide(one, (struct ts_verdict){job, verdict.doubts});
    }
    return done(p);
}

/* A set, and what it becomes when a job is closed. */
struct change {
    const struct ts_doubts *from, *to;
};

static const struct ts_doubts *changed(struct ts_parentage *p, struct change *last,
                                       const struct ts_doubts *from, uint32_t job,
                                       uint32_t outer)
{
    if (!ts_doubts_has(from, job))
        return from;
    if (last->from != from) { /* most are the same */
        last->from = from;
        last->to = with_job(p, ts_doubts_without(&p->sets, from, job), outer);
    }
    return last->to;
}

int ts_parentage_close(struct ts_parentage *p, uint32_t number, uint32_t outer)
{
    struct change doubts = {NULL, NULL}, own = {NULL, NULL}, may_be = {NULL, NULL};
    struct job *job = p->all;

    while (job < p->all + p->n_jobs && job->number != number)
        job++;
    if (job == p->all + p->n_jobs)
        return -EINVAL;
    for (uint32_t i = 0; i < job->n_ancestors; i++)
        unname_heir(p, job->ancestors[i]);
    if (job->subreaper) {
        job->subreaper->shared = 1;
        unname_heir(p, job->subreaper);
    }
    free(job->ancestors);
    p->n_rootless -= !job->knows_ancestors;
    p->n_jobs--;
    memmove(job, job + 1, (size_t)(p->all + p->n_jobs - job) * sizeof(*job));
    forget_until(p);
    for (uint32_t i = 0; i < p->owners.n_chunks; i++)
        for (uint32_t k = 0; k < TS_OWNERS_CHUNK; k++) {
            struct ts_owner *one = &p->owners.chunks[i][k];
            if (!one->uses)
                continue;
            if (one->decided && one->verdict.job == number)
                one->verdict.job = outer;
            if (one->decided && one->verdict.job == outer) /* it is no doubt what is certain */
                one->verdict.doubts = changed(p, &own, one->verdict.doubts, number, TS_NO_JOB);
            else
                one->verdict.doubts = changed(p, &doubts, one->verdict.doubts, number, outer);
            one->perhaps = changed(p, &may_be, one->perhaps, number, outer);
        }
    return done(p);
}

int ts_parentage_of(struct ts_parentage *p, const struct ts_lineage *of,
                    const struct ts_moment *now, uint32_t *job)
{
    struct ts_owner *one = NULL;

    take_moment(p, now);
    if (see_ancestors(p, of, NULL) == 0 && of->is_whole)
        one = see(p, &of->one, NULL);
    *job = one ? verdict_of_living(p, one).job : TS_UNDECIDED;
    return done(p);
}

/* ---- what is known is counted ---- */

/* Records that no memory was there for: they may be of any job. */
static void give_up(struct ts_parentage *p, uint64_t records)
{
    ts_jobs_give_up(p->jobs, records);
    p->failed = 1;
}

static void doubt(struct ts_parentage *p, const struct ts_doubts *doubts, uint64_t records)
{
    if (doubts == &ts_doubts_all) {
        for (uint32_t i = 0; i < p->n_jobs; i++)
            p->numbers[i] = p->all[i].number;
        ts_jobs_doubt(p->jobs, p->numbers, p->n_jobs, records);
    } else if (doubts) {
        ts_jobs_doubt(p->jobs, doubts->jobs, doubts->n, records);
    }
}

static void count(struct ts_parentage *p, struct ts_verdict verdict, uint32_t records, int rc)
{
    if (rc < 0)
        p->failed = 1;
    doubt(p, verdict.doubts, records);
}

static void add_process(struct ts_parentage *p, struct ts_verdict verdict,
                        const struct ts_sums *sums, const struct ts_ended *ended)
{
    int rc = ts_jobs_add_process(p->jobs, verdict.job, sums, ended);

    count(p, verdict, sums->threads, rc);
}

/* Adds a process to its job, if its verdict and what it used are known. */
static void add(struct ts_parentage *p, struct ts_owner *one)
{
    struct ts_addition *addition = one->addition;

    if (!addition || !one->decided)
        return;
    if (addition->is_record)
        count(p, one->verdict, 1,
              ts_jobs_add_record(p->jobs, one->verdict.job, &addition->of.record));
    else
        add_process(p, one->verdict, &addition->of.process.sums, &addition->of.process.ended);
    ts_owners_release(&p->owners, one);
}

/* ---- the stream ---- */

/* Makes room for one more that waits, and for the pids that it may want to be looked at. */
static int reserve(struct ts_parentage *p)
{
    uint32_t room = p->room_waiting ? 2 * p->room_waiting : 256;
    struct ts_owner **waiting;
    struct wanted *wanted;

    if (p->n_waiting < p->room_waiting)
        return 0;
    waiting = realloc(p->waiting, room * sizeof(*waiting));
    if (!waiting)
        return -ENOMEM;
    p->waiting = waiting;
    wanted = realloc(p->wanted, 2 * (size_t)room * sizeof(*wanted));
    if (!wanted)
        return -ENOMEM;
    p->wanted = wanted;
    p->room_waiting = room;
    return 0;
}

/* Takes a process that has ended, by its last record. */
static struct ts_owner *take(struct ts_parentage *p, const struct ts_record *record)
{
    const struct ts_stats *stats = &record->stats;
    uint64_t second = stats->ac_btime64 + stats->ac_etime / 1000000;
    int64_t first = second < (uint64_t)(LONGEST / SECOND) ? (int64_t)second * SECOND : LONGEST;
    int64_t age_ns = stats->ac_tgetime < (uint64_t)LONGEST / 1000
                         ? (int64_t)stats->ac_tgetime * 1000
                         : LONGEST;
    struct ts_owner *one = NULL;

    if (reserve(p) == 0)
        one = ts_owners_add(&p->owners, stats->ac_tgid, stats->ac_ppid);
    if (!one) {
        p->failed = 1;
        doubt_from_now(p);
        return NULL;
    }
    one->end = (struct ts_range){first, first + SECOND + MOST_LATE + SLACK};
    one->start = (struct ts_range){one->end.first - age_ns - 1000, one->end.last - age_ns};
    ts_owners_line_up(&p->owners, one);
    one->uses++;
    p->waiting[p->n_waiting++] = one;
    return one;
}

static void take_alone(struct ts_parentage *p, const struct ts_record *record)
{
    struct ts_owner *one = take(p, record);
    struct ts_addition *kept = one ? ts_owners_keep(&p->owners, one) : NULL;

    if (!kept) {
        give_up(p, 1);
        return;
    }
    kept->records = 1;
    kept->is_record = 1;
    kept->of.record = *record;
}

int ts_parentage_feed(struct ts_parentage *p, const struct ts_record *tasks, uint32_t n,
                      const struct ts_moment *now, struct ts_several *several)
{
    uint64_t lost = 0;
    uint32_t found = 0;

    take_moment(p, now);
    for (uint32_t i = 0; i < n; i++) {
        const struct ts_record *task = &tasks[i];
        if (task->flags & TS_LOST_BEFORE)
            lost += task->lost_before;
        if ((task->flags & (TS_LAST | TS_PAIRED)) == TS_LAST) {
            take_alone(p, task);
            continue;
        }
        several[found] = (struct ts_several){.row = i, .is_last = task->flags & TS_LAST};
        if (task->flags & TS_LAST) {
            several[found].process = take(p, task);
            if (several[found].process)
                several[found].process->uses++;
        }
        found++;
    }
    if (lost) {
        ts_jobs_lose(p->jobs, lost);
        doubt_from_now(p);
    }
    return (int)found;
}

void ts_parentage_add(struct ts_parentage *p, struct ts_owner *one, const struct ts_sums *sums,
                      const struct ts_ended *ended, int is_complete)
{
    struct ts_addition *kept;

    if (!one) {
        give_up(p, sums->threads);
        return;
    }
    if (!is_complete) /* a thread may be of another owner of the pid */
        decide(one, perhaps(p, INT64_MAX));
    if (one->decided) {
        add_process(p, one->verdict, sums, ended);
    } else if ((kept = ts_owners_keep(&p->owners, one))) {
        kept->records = sums->threads;
        kept->is_record = 0;
        kept->of.process.sums = *sums;
        kept->of.process.ended = *ended;
    } else {
        give_up(p, sums->threads);
    }
    ts_owners_drop(&p->owners, one);
}

void ts_parentage_lose(struct ts_parentage *p, const struct ts_moment *now)
{
    take_moment(p, now);
    doubt_from_now(p);
}

/* ---- verdicts ---- */

/* Whether a process may have lived within a second of a range of time. */
static int is_near(const struct ts_owner *one, struct ts_range range)
{
    if (one->start.first - SECOND > range.last)
        return 0;
    return one->lives || one->end.last >= range.first - SECOND;
}

static int overlap(struct ts_range a, struct ts_range b)
{
    return a.first <= b.last && b.first <= a.last;
}

/* The others that have, or had, the pid: those that ended, then the one that lives. */
static struct ts_owner *next_owner(const struct ts_parentage *p, uint32_t pid,
                                   const struct ts_owner *but, const struct ts_owner *from)
{
    struct ts_owner *one;

    if (from && from->lives)
        return NULL;
    one = from ? ts_owners_next(from) : ts_owners_first(&p->owners, pid);
    while (one && (one->lives || one == but))
        one = ts_owners_next(one);
    return one ? one : ts_owners_living(&p->owners, pid);
}

/* Whether the owners of a pid near a range of time are several, at least: one that was seen
 * alive may be one of the records. */
static int are_several(const struct ts_parentage *p, uint32_t pid, const struct ts_owner *but,
                       struct ts_range range)
{
    uint32_t n = 0;

    for (struct ts_owner *one = NULL; (one = next_owner(p, pid, but, one));) {
        int is_another = is_near(one, range);
        if (is_another && one->tick_ns != TS_NO_TICK)
            for (struct ts_owner *other = NULL; (other = next_owner(p, pid, but, other));)
                if (other->tick_ns == TS_NO_TICK && is_near(other, range) &&
                    overlap(other->start, one->start))
                    is_another = 0;
        n += (uint32_t)is_another;
    }
    return n > 1;
}

/* Whether a process can have had the parent's pid when the child ended, by the latest start of
 * those that surely were there: who started surely before has ended before that. */
static int can_be_parent(const struct ts_owner *one, struct ts_range end, int64_t latest)
{
    return one->start.first <= end.last && one->start.last >= latest;
}

/* Finds the start that `can_be_parent` compares with. Returns 0 if it cannot be told who had
 * the parent's pid when the child ended. */
static int find_parents(const struct ts_parentage *p, const struct ts_owner *child, int surely,
                        int64_t *latest)
{
    struct ts_range end = child->end;
    int in_doubt = end.first <= p->doubt_until;

    if (are_several(p, child->ppid, child, end))
        return 0; /* their ranges say too little */
    *latest = INT64_MIN;
    for (struct ts_owner *one = NULL; (one = next_owner(p, child->ppid, child, one));)
        if (one->start.first <= end.last && one->start.last <= end.first &&
            one->start.first > *latest)
            *latest = one->start.first;
    if (!surely && !in_doubt)
        return 1;
    /* A process that nobody has heard of may have been there: not beside one that lived on. */
    for (struct ts_owner *one = NULL; (one = next_owner(p, child->ppid, child, one));)
        if (can_be_parent(one, end, *latest) &&
            ((one->start.last <= end.first && (one->lives || one->end.first >= end.last)) ||
             (!in_doubt && one->named && one->lives)))
            return 1;
    return 0;
}

/* The verdict about a process that is a child of one of several. */
struct agreement {
    uint32_t n;
    uint32_t job;
    int differ;
    const struct ts_doubts *jobs, *doubts;
};

static void agree(struct ts_parentage *p, struct agreement *all, struct ts_verdict verdict)
{
    if (!all->n++)
        all->job = verdict.job;
    all->differ |= verdict.job != all->job;
    all->doubts = ts_doubts_join(&p->sets, all->doubts, verdict.doubts);
    if (all->differ) {
        all->jobs = with_job(p, all->jobs, all->job);
        all->jobs = with_job(p, all->jobs, verdict.job);
    }
}

static struct ts_verdict agreed(struct ts_parentage *p, const struct agreement *all)
{
    if (!all->differ)
        return (struct ts_verdict){all->job, all->doubts};
    return (struct ts_verdict){TS_UNDECIDED, ts_doubts_join(&p->sets, all->doubts, all->jobs)};
}

/* Whether a set has jobs but this one. */
static int has_others(const struct ts_doubts *set, uint32_t job)
{
    return set && (set == &ts_doubts_all || set->n > 1 || set->jobs[0] != job);
}

/* Reaches a verdict about a process; or returns the one whose verdict is needed first. */
static struct ts_owner *judge(struct ts_parentage *p, struct ts_owner *child, int surely)
{
    struct agreement all = {0};
    struct ts_verdict verdict = none;
    int64_t latest = 0;
    int are_told;

    if (child->decided)
        return NULL;
    are_told = find_parents(p, child, surely, &latest);
    for (struct ts_owner *one = NULL;
         are_told && (one = next_owner(p, child->ppid, child, one));)
        if (!one->decided && one->tick_ns == TS_NO_TICK &&
            can_be_parent(one, child->end, latest))
            return one;
    for (struct ts_owner *one = NULL;
         are_told && (one = next_owner(p, child->ppid, child, one));)
        if (can_be_parent(one, child->end, latest)) {
            /* The parent of one that was seen alive is told as of then, not of its end. */
            verdict = one->decided ? one->verdict : verdict_of_living(p, one);
            agree(p, &all, inherit(p, one, verdict, child));
        }
    verdict = all.n ? agreed(p, &all) : perhaps(p, child->start.last);
    if (has_others(child->perhaps, verdict.job)) {
        const struct ts_doubts *doubts =
            ts_doubts_join(&p->sets, verdict.doubts, child->perhaps);
        verdict = (struct ts_verdict){TS_UNDECIDED, with_job(p, doubts, verdict.job)};
    }
    decide(child, verdict);
    return NULL;
}

static struct ts_owner *pop(struct ts_owner *top)
{
    top->on_stack = 0;
    return top->below;
}

/* Reaches the verdict about a process, and those that it depends on. */
static void judge_with_parents(struct ts_parentage *p, struct ts_owner *one, int surely)
{
    struct ts_owner *top = one, *first;

    one->below = NULL;
    one->on_stack = 1;
    while (top) {
        first = judge(p, top, surely);
        if (first && !first->asked)
            break; /* the owners of its parent's pid are not all known yet */
        if (first && !first->on_stack) {
            first->below = top;
            first->on_stack = 1;
            top = first;
            continue;
        }
        if (first)
            decide(top, perhaps(p, top->start.last));
        top = pop(top);
    }
    while (top)
        top = pop(top);
}

/* Judges those that the living were looked at for, and adds them up. Those without a verdict
 * stay. */
static void judge_asked(struct ts_parentage *p, int surely)
{
    uint32_t n = p->n_asked, left = 0;

    for (uint32_t i = 0; i < n; i++)
        judge_with_parents(p, p->waiting[i], surely);
    for (uint32_t i = 0; i < n; i++) {
        struct ts_owner *one = p->waiting[i];
        if (!one->decided) {
            p->waiting[left++] = one;
            continue;
        }
        add(p, one);
        ts_owners_drop(&p->owners, one);
    }
    if (p->n_waiting > n)
        memmove(p->waiting + left, p->waiting + n, (p->n_waiting - n) * sizeof(*p->waiting));
    p->n_waiting -= n - left;
    p->n_asked = 0;
}

/* ---- those seen alive that have ended ---- */

/* Joins one with the record of its end. */
static void join_record(struct ts_parentage *p, struct ts_owner *one, int surely)
{
    struct ts_owner *record = NULL;
    uint32_t n = 0;
    int in_doubt = surely || one->is_unsure;
    struct ts_verdict verdict = one->decided ? one->verdict : verdict_of_living(p, one);
    const struct ts_doubts *jobs = NULL;

    for (int turn = 0; turn < 2; turn++) {
        for (struct ts_owner *other = ts_owners_first(&p->owners, one->pid); other;
             other = ts_owners_next(other)) {
            if (other == one || other->lives || !overlap(other->start, one->start) ||
                other->end.last < one->seen_ns)
                continue;
            if (turn == 0) {
                n++;
                record = other;
                /* Before its record was read, or after a loss: what is there may be another
                 * process's that had the pid in the same second. */
                in_doubt |= other->end.first <= p->doubt_until;
            } else if (!other->decided) {
                other->perhaps = ts_doubts_join(&p->sets, other->perhaps, jobs);
            }
        }
        if (turn == 0 && n == 1 && !record->decided && !in_doubt) {
            one->end = record->end;
            decide(record, verdict);
            ts_owners_unlist(&p->owners, record);
            return;
        }
        jobs = with_job(p, verdict.doubts, verdict.job);
    }
}

/* Takes processes for ended that were seen alive and of which nothing has been heard since, if
 * they are many: their records may have been lost. */
static void let_go(struct ts_parentage *p)
{
    if (p->owners.n - p->owners.n_in_line < 4 * (uint64_t)p->capacity + 2048)
        return;
    for (uint32_t i = 0; i < p->owners.n_chunks; i++)
        for (uint32_t k = 0; k < TS_OWNERS_CHUNK; k++) {
            struct ts_owner *one = &p->owners.chunks[i][k];
            if (one->uses && one->lives && !one->named && !one->heirs &&
                one->pid > LAST_WITHOUT_PARENT)
                go(p, one);
        }
}

/* Joins those that were seen alive with the records of their ends. All records that were queued
 * before a moment were taken; < 0: no more are on their way. */
static void join_departed(struct ts_parentage *p, int64_t emptied_ns)
{
    struct ts_owner **at = &p->departed;

    while (*at) {
        struct ts_owner *one = *at;
        if (emptied_ns < 0 || emptied_ns >= one->gone_ns)
            join_record(p, one, emptied_ns < 0);
        if (emptied_ns < 0 || emptied_ns < one->gone_ns) {
            at = &one->departed;
            continue;
        }
        *at = one->departed;
        p->n_departed--;
        ts_owners_drop(&p->owners, one);
    }
    p->last_departed = at;
    while (p->n_departed > p->capacity) {
        struct ts_owner *one = p->departed;
        p->departed = one->departed;
        p->n_departed--;
        ts_owners_drop(&p->owners, one);
        /* Its record, if there is one, is judged by itself. */
        doubt_from_now(p);
    }
    if (!p->departed)
        p->last_departed = &p->departed;
}

/* ---- looking at the living ---- */

static int compare_wanted(const void *a, const void *b)
{
    const struct wanted *first = a, *second = b;

    return (first->pid > second->pid) - (first->pid < second->pid);
}

static void want(struct ts_parentage *p, uint32_t pid)
{
    /* The init of the namespace lives as long as who looks. */
    if (pid > 1 || (pid == 1 && !ts_owners_living(&p->owners, 1)))
        p->wanted[p->n_wanted++] = (struct wanted){pid, 0};
}

static void sort_wanted(struct ts_parentage *p)
{
    uint32_t n = 0;

    if (p->n_wanted > 1)
        qsort(p->wanted, p->n_wanted, sizeof(*p->wanted), compare_wanted);
    for (uint32_t i = 0; i < p->n_wanted; i++)
        if (!n || p->wanted[n - 1].pid != p->wanted[i].pid)
            p->wanted[n++] = p->wanted[i];
    p->n_wanted = n;
}

/* Wants the parents of those that wait to be looked at, and the living whose pid one of them
 * has. */
static void ask(struct ts_parentage *p)
{
    p->n_asked = p->n_waiting;
    p->n_wanted = 0;
    p->asking++;
    for (uint32_t i = 0; i < p->n_waiting; i++) {
        struct ts_owner *one = p->waiting[i];
        one->asked = 1;
        want(p, one->ppid);
        if (ts_owners_living(&p->owners, one->pid))
            want(p, one->pid);
    }
    sort_wanted(p);
}

static struct wanted *find_wanted(struct ts_parentage *p, uint32_t pid)
{
    struct wanted key = {pid, 0};

    return bsearch(&key, p->wanted, p->n_wanted, sizeof(key), compare_wanted);
}

/* Takes what is not known any more when a process is forgotten: it may have been the parent of
 * a process that ended before it, or the one that was seen alive with its pid. */
static void doubt_forgotten(struct ts_parentage *p, struct ts_owner *one)
{
    int64_t end_ns = one->end.last;

    one->is_unsure = 1;
    if (end_ns == INT64_MAX)
        end_ns = p->now.real_ns - (p->now.monotonic_ns - one->gone_ns);
    if (end_ns > p->doubt_until)
        p->doubt_until = end_ns;
    for (struct ts_owner *other = ts_owners_first(&p->owners, one->pid); other;
         other = ts_owners_next(other))
        if (other != one && other->tick_ns != TS_NO_TICK && overlap(other->start, one->start) &&
            end_ns >= other->seen_ns)
            other->is_unsure = 1;
}

static void forget(struct ts_parentage *p)
{
    if (p->owners.n_in_line < p->capacity + (uint64_t)p->capacity / 4)
        return;
    while (p->owners.n_in_line > p->capacity) {
        if (p->owners.oldest->is_listed) /* else it is one that was seen alive */
            doubt_forgotten(p, p->owners.oldest);
        ts_owners_forget(&p->owners);
    }
}

/* Goes on with settling until processes are wanted: returns how many; 0: it is done. */
static int go_on(struct ts_parentage *p)
{
    while (!p->n_wanted && p->stage != IDLE) {
        switch (p->stage) {
        case ASKING:
            p->asked_ns = p->now.monotonic_ns;
            p->stage = BOUNDING;
            break;
        case BOUNDING:
            p->stage = FORGETTING;
            if (p->n_waiting > p->capacity) {
                ask(p);
                p->stage = FLUSHING;
            }
            break;
        case FLUSHING:
        case FLUSHING_ALONE:
            join_departed(p, -1);
            judge_asked(p, 1);
            p->stage = p->stage == FLUSHING ? FORGETTING : IDLE;
            break;
        default:
            forget(p);
            p->stage = IDLE;
        }
    }
    return p->n_wanted ? (int)p->n_wanted : done(p);
}

/* Begins anew, where the caller has not looked up what was wanted. */
static void begin(struct ts_parentage *p, const struct ts_moment *now)
{
    take_moment(p, now);
    if (p->n_wanted)
        p->n_asked = 0;
    p->n_wanted = 0;
    p->stage = IDLE;
}

int ts_parentage_settle(struct ts_parentage *p, int64_t emptied_ns, const struct ts_moment *now)
{
    begin(p, now);
    if (p->n_asked && emptied_ns >= 0 && emptied_ns >= p->asked_ns) {
        join_departed(p, emptied_ns);
        judge_asked(p, 0);
    }
    let_go(p);
    p->stage = BOUNDING;
    if (p->n_waiting && !p->n_asked) {
        ask(p);
        p->stage = ASKING;
    }
    return go_on(p);
}

int ts_parentage_flush(struct ts_parentage *p, const struct ts_moment *now)
{
    begin(p, now);
    if (p->n_waiting) {
        ask(p);
        p->stage = FLUSHING_ALONE;
    }
    return go_on(p);
}

void ts_parentage_wanted(const struct ts_parentage *p, uint32_t *pids)
{
    for (uint32_t i = 0; i < p->n_wanted; i++)
        pids[i] = p->wanted[i].pid;
}

int ts_parentage_found(struct ts_parentage *p, const struct ts_alive *found, uint32_t n,
                       int64_t before_ns, const struct ts_moment *now)
{
    take_moment(p, now);
    for (uint32_t i = 0; i < n; i++) {
        struct wanted *wanted = find_wanted(p, found[i].pid);
        if (wanted)
            wanted->is_there = 1;
    }
    for (uint32_t i = 0; i < p->n_wanted; i++) {
        struct ts_owner *one = ts_owners_living(&p->owners, p->wanted[i].pid);
        if (one && !p->wanted[i].is_there)
            go(p, one);
    }
    /* Their parents next, where they decide: a parent is looked at after its child. Before, an
     * earlier owner of its pid may be there. */
    p->n_wanted = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t ppid = found[i].ppid;
        struct ts_owner *one = ts_owners_living(&p->owners, found[i].pid);
        int is_known = one && one->asking == p->asking && one->ppid == ppid &&
                       one->tick_ns == bounded(found[i].start_ns);
        one = see(p, &found[i], &before_ns);
        if (!one)
            continue;
        one->asking = p->asking;
        if (!is_known && !one->decided && p->n_wanted < 2 * p->room_waiting)
            want(p, ppid);
    }
    sort_wanted(p);
    return go_on(p);
}

/* ---- reading ---- */

void ts_parentage_count(const struct ts_parentage *p, struct ts_parentage_counts *counts)
{
    memset(counts, 0, sizeof(*counts));
    for (uint32_t i = 0; i < p->n_waiting; i++) {
        const struct ts_addition *addition = p->waiting[i]->addition;
        uint64_t since;
        if (!addition)
            continue;
        since = addition->is_record ? addition->of.record.received_ns
                                    : addition->of.process.ended.received_ns;
        if (!counts->waiting || since < counts->waiting_since)
            counts->waiting_since = since;
        counts->waiting += addition->records;
    }
    counts->processes = p->owners.n;
    counts->remembered = p->owners.n_in_line;
    counts->bytes = ts_owners_bytes(&p->owners) + p->sets.bytes +
                    p->room_waiting * (sizeof(*p->waiting) + 2 * sizeof(*p->wanted)) +
                    p->room_jobs * (sizeof(*p->all) + sizeof(*p->numbers));
}
