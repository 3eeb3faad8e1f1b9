/* Joins records with the ends that the probe has seen. Pure.
 *
 * Which end belongs to a row? The pid alone does not say: the kernel may have given it
 * again, and a late reader sees several owners. Two things tell these apart.
 *
 * Counts: the kernel's record and the end both say how often the task had got a CPU and how
 * long it had waited for one, in ns. If the task did not wait between the two, these are
 * equal: the end fits. If it did, both have grown: the end may fit. An end that fits is not
 * proof. Many tasks run once and wait for 0 ns.
 *
 * Time: a record is made, then it is queued, then its task ends. The end gives the first and
 * the last of these moments (the first is the task's start and its age then). So of two
 * records of one queue, the first one was made before the task of the second one ended.
 * Each row that is settled narrows the windows of the rows before and after it.
 *
 * A row is settled at once if exactly one end fits or may fit it, and fits, and is in the
 * window of no row that waits. All others are held. They are settled when one end is left in
 * their window, and this end is in the window of no other row that waits. If the ring may
 * have lost the row's own end, the row gets none: an end that fits can be that of another
 * owner of the pid.
 *
 * Where every record is heard, each end has a row: the record was queued before the end came.
 * So an end that fits one row alone is that row's, whatever other ends fit the row. */
#include "settle.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "events.h"

#define NONE UINT32_MAX

#define LEAST_END_CHAINS 8192u
#define HELD_CHAINS 1024u
#define HELD_ROOM (TS_MOST_HELD + TS_MOST_TAKEN)
/* Passes over the rows that wait in a drain: each may narrow windows for the next. */
#define MOST_PASSES 8

/* An end that no row has claimed. */
struct end {
    struct ts_end_event event;
    uint32_t next; /* with the same chain of pids, or free */
    uint32_t older, newer;
    uint32_t drain; /* in which it was read */
    int has_row;    /* its record was or will be taken, and was not handed out unsettled */
};

/* When a row's record can have been made and its task have ended, by the events' clock. */
struct window {
    uint64_t after;  /* an earlier record of its queue was made then: its task ended later */
    uint64_t before; /* it was read then, or the task of a later record ended */
    int is_narrow;   /* a later record of its queue is settled */
};

/* A row that is held. */
struct held {
    struct ts_record task;
    struct ts_record group;
    int has_group;
    int64_t until_ns; /* it waits no longer */
    uint32_t next;    /* with the same chain of pids, of those that wait, */
    uint32_t older_waiting, newer_waiting;
};

/* The rest about a held row, in an array of its own: it is searched from end to end. */
struct mark {
    struct window window; /* while it waits for its end */
    uint64_t made_ns;     /* afterwards: when the record was made, */
    uint64_t ended_ns;    /* and when the task ended */
    uint32_t cpu;
    uint32_t claim, claims; /* an end that is its own, and how many are: see find_claims */
    uint32_t looks;         /* drains after which that was looked for */
    int waits;
};

/* What is known of a CPU's queue. */
struct queue {
    uint64_t made_ns;  /* the tasks of records that are read later end after this */
    uint64_t latest;   /* the same of rows that have been passed, */
    uint64_t earliest; /* and when the first of their tasks ended */
};

struct ts_settler {
    int64_t settle_ns;
    const uint64_t *clock; /* of the events; NULL: CLOCK_MONOTONIC */
    uint64_t settled;
    uint64_t unsettled;
    int is_full;
    int is_cut;     /* the last reading of the ring stopped before its end */
    int is_damaged; /* the ring brings nothing any more */
    uint32_t drain;
    uint64_t began_ns;  /* the drain, by the clock of the events */
    uint64_t ends_lost; /* so many ends found no room in the ring; */
    uint64_t lost_ns;   /* all of them before this, by the clock of the events */
    uint64_t heard_from_ns, heard_to_ns; /* an end that is read now has a row, if its task began
                                            and ended between these, by that clock */
    uint64_t unheard;                    /* records that are known to have no row */

    struct end *ends;
    uint32_t most_ends;
    uint32_t *end_chains;
    uint32_t n_end_chains;
    uint32_t oldest, newest; /* ends by age */
    uint32_t free;           /* ends that were in use, the last one first: it is in the cache */
    uint32_t n_ends;         /* in use or free */

    uint32_t held_chains[HELD_CHAINS];
    uint64_t head, tail; /* places of held rows, modulo HELD_ROOM */
    uint32_t waiting;    /* how many of them wait, */
    uint32_t oldest_waiting, newest_waiting;

    struct mark marks[HELD_ROOM];
    struct held held[HELD_ROOM];
    uint32_t n_cpus;
    struct queue queues[]; /* by CPU */
};

static uint64_t clock_of(const struct ts_settler *settler, int64_t now)
{
    return settler->clock ? __atomic_load_n(settler->clock, __ATOMIC_RELAXED) : (uint64_t)now;
}

/* ---- ends ---- */

static uint32_t *end_chain(struct ts_settler *settler, uint32_t pid)
{
    return &settler->end_chains[pid % settler->n_end_chains];
}

/* Whether an end was read before the drain whose rows were taken last. */
static int is_old(const struct ts_settler *settler, uint32_t end)
{
    return settler->ends[end].drain + 1 < settler->drain;
}

static void remove_end(struct ts_settler *settler, uint32_t at)
{
    struct end *end = &settler->ends[at];
    uint32_t *link = end_chain(settler, end->event.pid);

    while (*link != at)
        link = &settler->ends[*link].next;
    *link = end->next;
    *(end->older == NONE ? &settler->oldest : &settler->ends[end->older].newer) = end->newer;
    *(end->newer == NONE ? &settler->newest : &settler->ends[end->newer].older) = end->older;
    end->next = settler->free;
    settler->free = at;
}

static void keep_end(struct ts_settler *settler, const struct ts_end_event *event)
{
    uint32_t *chain = end_chain(settler, event->pid);
    struct end *end;
    uint32_t at;

    if (settler->free == NONE && settler->n_ends == settler->most_ends) {
        uint64_t ended_ns = settler->ends[settler->oldest].event.ended_ns;
        remove_end(settler, settler->oldest);
        if (settler->lost_ns <= ended_ns)
            settler->lost_ns = ended_ns + 1;
    }
    at = settler->free;
    if (at == NONE)
        at = settler->n_ends++;
    else
        settler->free = settler->ends[at].next;
    end = &settler->ends[at];
    end->event = *event;
    end->drain = settler->drain;
    end->has_row =
        event->began_ns >= settler->heard_from_ns && event->ended_ns < settler->heard_to_ns;
    end->next = *chain;
    *chain = at;
    end->older = settler->newest;
    end->newer = NONE;
    *(end->older == NONE ? &settler->oldest : &settler->ends[end->older].newer) = at;
    settler->newest = at;
}

/* ---- which end is a row's ---- */

/* TWO_FIT: two ends of one process. After an exec by another thread than the leader, that
 * thread has the leader's pid and start (fs/exec.c:de_thread). */
enum fit { NO_FIT, MAY_FIT, FITS, TWO_FIT };

/* When the record was made, if this is its end. ac_etime is whole microseconds. */
static uint64_t moment_of(const struct ts_record *row, const struct ts_end_event *event)
{
    return event->began_ns + row->stats.ac_etime * 1000;
}

static enum fit fit(const struct ts_record *row, const struct window *window,
                    const struct ts_end_event *event)
{
    const struct ts_stats *stats = &row->stats;
    uint32_t runs = event->runs - (uint32_t)stats->cpu_count; /* since the record */

    if (row->id != event->pid || (stats->ac_tgid && stats->ac_tgid != event->tgid) ||
        event->cpu_ns < stats->cpu_run_virtual_total ||
        event->waited_ns < stats->cpu_delay_total || runs > UINT32_MAX / 2 ||
        event->ended_ns < event->began_ns ||
        (event->ended_ns - event->began_ns) / 1000 < stats->ac_etime ||
        event->ended_ns < window->after || moment_of(row, event) > window->before)
        return NO_FIT;
    if (runs == 0 && event->runs)
        return event->waited_ns == stats->cpu_delay_total ? FITS : NO_FIT;
    return MAY_FIT;
}

/* NULL for a CPU that the settler was not told of. */
static struct queue *queue_of(struct ts_settler *settler, uint32_t cpu)
{
    return cpu < settler->n_cpus ? &settler->queues[cpu] : NULL;
}

/* The window of a row that has just been read. */
static struct window window_of(struct ts_settler *settler, const struct ts_record *row,
                               uint64_t now)
{
    const struct queue *queue = queue_of(settler, row->cpu);

    return (struct window){.after = queue ? queue->made_ns : 0, .before = now};
}

static void settle(struct ts_settler *settler, struct ts_record *row,
                   const struct ts_end_event *event)
{
    struct queue *queue = queue_of(settler, row->cpu);
    uint64_t moment = moment_of(row, event);

    row->final_cpu_ns = event->cpu_ns;
    row->start_ns = event->start_ns;
    row->cgroup_id = event->cgroup_id;
    row->flags |= TS_SETTLED;
    settler->settled++;
    if (queue && moment > queue->made_ns)
        queue->made_ns = moment;
}

static int is_of_same_process(const struct ts_end_event *one, const struct ts_end_event *other)
{
    return one->tgid == other->tgid && one->start_ns == other->start_ns;
}

/* Looks for the only end that fits or may fit a row, or two of one process: `*end` is the
 * one that ended last; NONE if there is none, or if there are ends of two processes.
 * Returns how well it fits. */
static enum fit only_end(struct ts_settler *settler, const struct ts_record *row,
                         const struct window *window, uint32_t *end)
{
    enum fit found = NO_FIT;

    *end = NONE;
    for (uint32_t at = *end_chain(settler, row->id); at != NONE; at = settler->ends[at].next) {
        const struct ts_end_event *event = &settler->ends[at].event;
        enum fit this = fit(row, window, event);
        if (this == NO_FIT)
            continue;
        if (found == TWO_FIT ||
            (found != NO_FIT && !is_of_same_process(event, &settler->ends[*end].event))) {
            *end = NONE;
            return NO_FIT;
        }
        if (found == NO_FIT || event->ended_ns > settler->ends[*end].event.ended_ns)
            *end = at;
        found = found == NO_FIT ? this : TWO_FIT;
    }
    return found;
}

/* ---- held rows ---- */

static struct held *held_at(struct ts_settler *settler, uint64_t place)
{
    return &settler->held[place % HELD_ROOM];
}

static struct mark *mark_at(struct ts_settler *settler, uint64_t place)
{
    return &settler->marks[place % HELD_ROOM];
}

static uint32_t *held_chain(struct ts_settler *settler, uint32_t pid)
{
    return &settler->held_chains[pid % HELD_CHAINS];
}

static void wait_no_more(struct ts_settler *settler, uint32_t at)
{
    struct held *held = &settler->held[at];
    uint32_t *link = held_chain(settler, held->task.id);

    while (*link != at)
        link = &settler->held[*link].next;
    *link = held->next;
    *(held->older_waiting == NONE ? &settler->oldest_waiting
                                  : &settler->held[held->older_waiting].newer_waiting) =
        held->newer_waiting;
    *(held->newer_waiting == NONE ? &settler->newest_waiting
                                  : &settler->held[held->newer_waiting].older_waiting) =
        held->older_waiting;
    settler->marks[at].waits = 0;
    settler->waiting--;
}

static void wait_from_now_on(struct ts_settler *settler, uint32_t at)
{
    struct held *held = &settler->held[at];
    uint32_t *chain = held_chain(settler, held->task.id);

    held->next = *chain;
    *chain = at;
    held->older_waiting = settler->newest_waiting;
    held->newer_waiting = NONE;
    *(held->older_waiting == NONE ? &settler->oldest_waiting
                                  : &settler->held[held->older_waiting].newer_waiting) = at;
    settler->newest_waiting = at;
    settler->waiting++;
}

/* Holds a row of the sink; with its end, or NULL if it waits for that. */
static void hold(struct ts_settler *settler, const struct ts_sink *sink, uint32_t task,
                 const struct window *window, const struct ts_end_event *event, int64_t now)
{
    uint64_t place = settler->tail++;
    struct held *held = held_at(settler, place);
    struct mark *mark = mark_at(settler, place);

    held->task = sink->tasks[task];
    held->has_group = (held->task.flags & TS_PAIRED) != 0;
    if (held->has_group)
        held->group = sink->groups[held->task.row];
    held->until_ns = now + settler->settle_ns;
    *mark = (struct mark){.window = *window, .cpu = held->task.cpu, .waits = !event};
    if (event) {
        mark->made_ns = moment_of(&held->task, event);
        mark->ended_ns = event->ended_ns;
    } else {
        wait_from_now_on(settler, (uint32_t)(place % HELD_ROOM));
    }
}

static void settle_held(struct ts_settler *settler, uint32_t at,
                        const struct ts_end_event *event)
{
    struct ts_record *row = &settler->held[at].task;
    struct mark *mark = &settler->marks[at];

    wait_no_more(settler, at);
    mark->made_ns = moment_of(row, event);
    mark->ended_ns = event->ended_ns;
    settle(settler, row, event);
}

static enum fit fit_held(const struct ts_settler *settler, uint32_t at,
                         const struct ts_end_event *event)
{
    return fit(&settler->held[at].task, &settler->marks[at].window, event);
}

/* How many of the rows that wait an end fits or may fit, two at most; `*row` is the last. */
static int rows_for(struct ts_settler *settler, const struct ts_end_event *event, uint32_t *row)
{
    int n = 0;

    for (uint32_t at = settler->waiting ? *held_chain(settler, event->pid) : NONE;
         at != NONE && n < 2; at = settler->held[at].next)
        if (fit_held(settler, at, event) != NO_FIT) {
            *row = at;
            n++;
        }
    return n;
}

/* Whether the end of a row with this window was certainly not lost: it came after all ends
 * that were. */
static int is_after_losses(const struct ts_settler *settler, const struct window *window)
{
    return window->after >= settler->lost_ns;
}

/* Gives an end that was just read to the row that it fits, if no other row and no other end
 * is in question. */
static int give_to_held(struct ts_settler *settler, const struct ts_end_event *event)
{
    uint32_t at;

    if (rows_for(settler, event, &at) != 1 || fit_held(settler, at, event) != FITS ||
        !is_after_losses(settler, &settler->marks[at].window))
        return 0;
    for (uint32_t end = *end_chain(settler, event->pid); end != NONE;
         end = settler->ends[end].next)
        if (fit_held(settler, at, &settler->ends[end].event) != NO_FIT)
            return 0;
    settle_held(settler, at, event);
    return 1;
}

/* Narrows the windows of the rows that wait, by the rows that are settled. */
static void narrow(struct ts_settler *settler)
{
    for (uint32_t cpu = 0; cpu < settler->n_cpus; cpu++) {
        settler->queues[cpu].latest = 0;
        settler->queues[cpu].earliest = UINT64_MAX;
    }
    for (uint64_t place = settler->head; place < settler->tail; place++) {
        struct mark *mark = mark_at(settler, place);
        struct queue *queue = queue_of(settler, mark->cpu);
        if (queue && !mark->waits && mark->made_ns > queue->latest)
            queue->latest = mark->made_ns;
        if (queue && mark->waits && mark->window.after < queue->latest)
            mark->window.after = queue->latest;
    }
    for (uint64_t place = settler->tail; place-- > settler->head;) {
        struct mark *mark = mark_at(settler, place);
        struct queue *queue = queue_of(settler, mark->cpu);
        if (queue && !mark->waits && mark->ended_ns < queue->earliest)
            queue->earliest = mark->ended_ns;
        if (!queue || !mark->waits || queue->earliest == UINT64_MAX)
            continue;
        mark->window.is_narrow = 1;
        if (mark->window.before > queue->earliest)
            mark->window.before = queue->earliest;
    }
}

/* A row is handed out without its end: that may be any of those that fit it. */
static void doubt_ends_of(struct ts_settler *settler, uint32_t at)
{
    for (uint32_t end = *end_chain(settler, settler->held[at].task.id); end != NONE;
         end = settler->ends[end].next)
        if (fit_held(settler, at, &settler->ends[end].event) != NO_FIT)
            settler->ends[end].has_row = 0;
}

static void doubt_later_ends(struct ts_settler *settler, uint64_t now)
{
    if (settler->heard_from_ns <= now)
        settler->heard_from_ns = now + 1;
}

/* Says which process a row is of, where two ends of that process fit it: the row has its
 * start, and no final CPU time. At most two rows may be in question. */
static int identify(struct ts_settler *settler, uint32_t at, const struct ts_end_event *event)
{
    struct held *held = &settler->held[at];
    struct mark *mark = &settler->marks[at];
    uint32_t end, n = 0;

    for (uint32_t row = *held_chain(settler, event->pid); row != NONE;
         row = settler->held[row].next)
        if (fit_held(settler, row, event) != NO_FIT) {
            const struct window *window = &settler->marks[row].window;
            enum fit how = only_end(settler, &settler->held[row].task, window, &end);
            if (++n > 2 || how == NO_FIT ||
                !is_of_same_process(&settler->ends[end].event, event))
                return 0;
        }
    doubt_ends_of(settler, at);
    wait_no_more(settler, at);
    mark->made_ns = moment_of(&held->task, event);
    mark->ended_ns = event->ended_ns;
    held->task.start_ns = event->start_ns;
    settler->unsettled++;
    return 1;
}

/* Whether `resolve` may yet give this end to a row. It had a chance once it has looked for the
 * row's own end twice: the first time the end may not have been old enough. */
static int can_be_resolved(const struct ts_settler *settler, uint32_t row, uint32_t end)
{
    return settler->ends[end].has_row && settler->marks[row].looks < 2;
}

/* Whether an end is there for any of the rows that wait: mostly there is none. */
static int has_candidates(struct ts_settler *settler)
{
    for (uint32_t at = settler->oldest_waiting; at != NONE;
         at = settler->held[at].newer_waiting)
        for (uint32_t end = *end_chain(settler, settler->held[at].task.id); end != NONE;
             end = settler->ends[end].next)
            if (fit_held(settler, at, &settler->ends[end].event) != NO_FIT)
                return 1;
    return 0;
}

/* Settles the rows that wait and have an end to themselves. Returns how many these were. */
static uint32_t settle_waiting(struct ts_settler *settler, int emptied)
{
    uint32_t n = 0;
    uint32_t next;

    for (uint32_t at = settler->oldest_waiting; at != NONE; at = next) {
        const struct window *window = &settler->marks[at].window;
        uint32_t end, row;
        enum fit how = only_end(settler, &settler->held[at].task, window, &end);

        next = settler->held[at].newer_waiting;
        if (how == NO_FIT || !is_after_losses(settler, window))
            continue;
        /* A row that the end fits better may be in a queue that has not been read. */
        if (how == MAY_FIT && !emptied && !window->is_narrow)
            continue;
        if (how == TWO_FIT) {
            /* Not in the drain that brought them: what is read next may tell them apart. */
            if ((emptied || window->is_narrow) && is_old(settler, end) &&
                !can_be_resolved(settler, at, end))
                n += (uint32_t)identify(settler, at, &settler->ends[end].event);
            continue;
        }
        if (rows_for(settler, &settler->ends[end].event, &row) != 1)
            continue;
        settle_held(settler, at, &settler->ends[end].event);
        remove_end(settler, end);
        n++;
    }
    return n;
}

static void settle_all(struct ts_settler *settler, int emptied)
{
    for (int pass = 0; pass < MOST_PASSES && has_candidates(settler); pass++) {
        narrow(settler);
        if (!settle_waiting(settler, emptied))
            break;
    }
}

/* Whether an end fits just one of the rows that wait, and which. The answer is no where many
 * rows with its pid wait: to compare them all would take long. */
static int has_one_row(struct ts_settler *settler, const struct ts_end_event *event,
                       uint32_t *row)
{
    uint32_t seen = 0;

    for (uint32_t at = *held_chain(settler, event->pid); at != NONE;
         at = settler->held[at].next)
        if (++seen > TS_MOST_ALIKE)
            return 0;
    return rows_for(settler, event, row) == 1;
}

/* Counts for each row that waits the ends that must have a row and fit this one alone. Returns
 * whether there are any. To be called when the last drain has left the queues empty. */
static int find_claims(struct ts_settler *settler)
{
    uint32_t row;
    int found = 0;

    for (uint32_t at = settler->oldest_waiting; at != NONE;
         at = settler->held[at].newer_waiting)
        settler->marks[at].claims = 0;
    for (uint32_t end = settler->oldest; end != NONE && is_old(settler, end);
         end = settler->ends[end].newer)
        if (settler->ends[end].has_row &&
            has_one_row(settler, &settler->ends[end].event, &row)) {
            settler->marks[row].claims++;
            settler->marks[row].claim = end;
            found = 1;
        }
    return found;
}

int ts_settler_is_in_doubt(struct ts_settler *settler)
{
    for (uint32_t at = settler->oldest_waiting; at != NONE;
         at = settler->held[at].newer_waiting)
        settler->marks[at].looks++;
    return settler->waiting && find_claims(settler);
}

/* Records that were sent are missing: so no end need have a row, nor an end that comes later of
 * a task that has begun by now. */
static void doubt_all_ends(struct ts_settler *settler, uint64_t now)
{
    for (uint32_t end = settler->oldest; end != NONE; end = settler->ends[end].newer)
        settler->ends[end].has_row = 0;
    doubt_later_ends(settler, now);
}

void ts_settler_resolve(struct ts_settler *settler, uint64_t unheard, int64_t now)
{
    if (unheard != settler->unheard)
        doubt_all_ends(settler, clock_of(settler, now));
    settler->unheard = unheard;
    for (int pass = 0; pass < MOST_PASSES && find_claims(settler); pass++) {
        uint32_t n = 0;
        uint32_t next;

        for (uint32_t at = settler->oldest_waiting; at != NONE; at = next) {
            const struct mark *mark = &settler->marks[at];
            next = settler->held[at].newer_waiting;
            if (mark->claims != 1) /* two cannot both be its own */
                continue;
            settle_held(settler, at, &settler->ends[mark->claim].event);
            remove_end(settler, mark->claim);
            n++;
        }
        if (!n)
            break;
        settle_all(settler, 1);
    }
}

/* The queues have been read until they were empty. A record is sent before its task's end:
 * an end that was read earlier and that no row wants has no record. It was lost, or
 * filtered, or is of a CPU that nobody listens to. Where it should have one, records are
 * missing that nothing has told of. */
static void forget_ends(struct ts_settler *settler, uint64_t now)
{
    uint32_t newer, row;

    for (uint32_t at = settler->oldest; at != NONE && is_old(settler, at); at = newer) {
        newer = settler->ends[at].newer;
        if (rows_for(settler, &settler->ends[at].event, &row))
            continue;
        if (settler->ends[at].has_row)
            doubt_all_ends(settler, now);
        remove_end(settler, at);
    }
}

/* The queues have been read until they were empty: what is read later was queued since this
 * drain began, and its task ends after that. */
static void raise_windows(struct ts_settler *settler)
{
    for (uint32_t cpu = 0; cpu < settler->n_cpus; cpu++)
        if (settler->queues[cpu].made_ns < settler->began_ns)
            settler->queues[cpu].made_ns = settler->began_ns;
}

/* ---- taking rows, and handing them out ---- */

/* Removes from the sink the rows from `task` on, and their groups from `group` on. A group
 * that came alone stays. Groups are in the order of their rows: none moves whose row stays. */
static void cut(struct ts_sink *sink, uint32_t task, uint32_t group)
{
    uint32_t kept = group;

    for (uint32_t at = group; at < sink->n_groups; at++) {
        const struct ts_record *row = &sink->groups[at];
        if ((row->flags & TS_PAIRED) && row->row >= task)
            continue;
        if (kept != at)
            sink->groups[kept] = *row;
        kept++;
    }
    sink->n_groups = kept;
    sink->n_tasks = task;
}

void ts_settler_hear_all(struct ts_settler *settler, int64_t now)
{
    settler->heard_from_ns = clock_of(settler, now) + 1;
}

void ts_settler_hear_no_more(struct ts_settler *settler, int64_t now)
{
    settler->heard_to_ns = clock_of(settler, now);
}

void ts_settler_begin(struct ts_settler *settler, int64_t now)
{
    settler->began_ns = clock_of(settler, now);
}

void ts_settler_count_lost(struct ts_settler *settler, uint64_t ends, int64_t now)
{
    if (ends != settler->ends_lost)
        settler->lost_ns = clock_of(settler, now) + 1;
    settler->ends_lost = ends;
}

void ts_settler_take(struct ts_settler *settler, struct ts_sink *sink, uint32_t task,
                     uint32_t group, int emptied, int64_t now)
{
    uint64_t read_ns = clock_of(settler, now);
    uint32_t stay = NONE; /* rows before this one stay in the sink */

    settler->drain++;
    if (settler->head != settler->tail)
        stay = task;
    for (uint32_t at = task; at < sink->n_tasks; at++) {
        struct window window = window_of(settler, &sink->tasks[at], read_ns);
        const struct ts_end_event *event = NULL;
        uint32_t end, row;
        enum fit how = only_end(settler, &sink->tasks[at], &window, &end);

        if (how == FITS && is_after_losses(settler, &window) &&
            rows_for(settler, &settler->ends[end].event, &row) == 0) {
            event = &settler->ends[end].event;
            settle(settler, &sink->tasks[at], event);
            remove_end(settler, end); /* it can be read until the next one is kept */
        } else if (stay == NONE) {
            stay = at;
        }
        if (stay != NONE)
            hold(settler, sink, at, &window, event, now);
    }
    if (stay != NONE)
        cut(sink, stay, group);
    settle_all(settler, emptied);
    if (emptied) {
        forget_ends(settler, read_ns);
        raise_windows(settler);
    }
}

/* Appends a held row, and its group, to the sink. Returns whether there was room. */
static int append(struct ts_sink *sink, const struct held *held)
{
    struct ts_record *task = &sink->tasks[sink->n_tasks];

    if (sink->n_tasks == sink->capacity ||
        sink->n_groups + (uint32_t)held->has_group > sink->capacity)
        return 0;
    *task = held->task;
    if (held->has_group) {
        struct ts_record *group = &sink->groups[sink->n_groups];
        *group = held->group;
        task->row = sink->n_groups++;
        group->row = sink->n_tasks;
    }
    sink->n_tasks++;
    return 1;
}

void ts_settler_release(struct ts_settler *settler, struct ts_sink *sink, int64_t now)
{
    while (settler->head != settler->tail) {
        const struct held *held = held_at(settler, settler->head);
        int waits = mark_at(settler, settler->head)->waits;
        /* An end that has not been read yet is not late. */
        int is_late = (now >= held->until_ns && !settler->is_cut) || settler->is_damaged;
        int must = is_late || settler->tail - settler->head > TS_MOST_HELD;

        if (waits && !must)
            return;
        if (!append(sink, held)) {
            settler->is_full = 1;
            return;
        }
        if (waits) {
            doubt_ends_of(settler, (uint32_t)(settler->head % HELD_ROOM));
            doubt_later_ends(settler, clock_of(settler, now));
            wait_no_more(settler, (uint32_t)(settler->head % HELD_ROOM));
            settler->unsettled++;
        }
        settler->head++;
    }
    settler->head = settler->tail = 0; /* these places are in the cache */
}

/* ---- events ---- */

static void add_birth(struct ts_sink *sink, const struct ts_birth_event *event)
{
    sink->births[sink->n_births++] = (struct ts_birth){
        .start_ns = event->start_ns,
        .maker_start_ns = event->maker_start_ns,
        .cgroup_id = event->cgroup_id,
        .pid = event->pid,
        .maker_pid = event->maker_pid,
    };
}

static void add_change(struct ts_sink *sink, const struct ts_cgroup_event *event)
{
    struct ts_cgroup_change *change = &sink->changes[sink->n_changes++];
    size_t length = strnlen(event->path, TS_PATH_SIZE);

    /* The kernel cuts a path that is longer: then it is no path. */
    if (length >= TS_PATH_SIZE - 1)
        length = 0;
    change->id = event->id;
    change->change = event->change;
    change->length = (uint32_t)length;
    memcpy(change->path, event->path, length);
}

static int is_full(const struct ts_sink *sink)
{
    return (sink->births && sink->n_births == sink->room_births) ||
           (sink->changes && sink->n_changes == sink->room_changes);
}

void ts_settler_read(struct ts_settler *settler, struct ts_ring *ring, struct ts_sink *sink)
{
    const void *found;
    uint32_t size;

    settler->is_full = is_full(sink);
    while (!settler->is_full && (found = ts_ring_next(ring, &size))) {
        uint32_t event = 0;

        if (size >= sizeof(event))
            memcpy(&event, found, sizeof(event));
        if (event == TS_EVENT_END && size == sizeof(struct ts_end_event)) {
            if (!give_to_held(settler, found))
                keep_end(settler, found);
        } else if (event == TS_EVENT_BIRTH && size == sizeof(struct ts_birth_event)) {
            if (sink->births)
                add_birth(sink, found);
        } else if (event == TS_EVENT_CGROUP && size == sizeof(struct ts_cgroup_event)) {
            if (sink->changes)
                add_change(sink, found);
        } else {
            ring->damaged = 1;
        }
        settler->is_full = is_full(sink);
    }
    settler->is_cut = settler->is_full;
    settler->is_damaged = ring->damaged;
    ts_ring_release(ring);
}

/* ---- the rest ---- */

int ts_settler_is_full(const struct ts_settler *settler)
{
    return settler->is_full;
}

uint32_t ts_settler_held(const struct ts_settler *settler)
{
    return (uint32_t)(settler->tail - settler->head);
}

uint32_t ts_settler_room(const struct ts_settler *settler)
{
    uint64_t room = HELD_ROOM - (settler->tail - settler->head);

    return room < TS_MOST_TAKEN ? (uint32_t)room : TS_MOST_TAKEN;
}

int64_t ts_settler_due(const struct ts_settler *settler)
{
    return settler->held[settler->head % HELD_ROOM].until_ns;
}

void ts_settler_count(const struct ts_settler *settler, struct ts_probe_stats *stats)
{
    stats->settled = settler->settled;
    stats->unsettled = settler->unsettled;
    stats->held = settler->waiting;
}

struct ts_settler *ts_settler_new(int64_t settle_ns, uint32_t last_cpu, uint32_t most_ends)
{
    uint32_t n_chains = most_ends / 4 < LEAST_END_CHAINS ? LEAST_END_CHAINS : most_ends / 4;
    /* Most of these is never touched, and costs nothing until then. */
    struct ts_settler *made =
        malloc(sizeof(*made) + ((size_t)last_cpu + 1) * sizeof(made->queues[0]));
    struct end *ends = malloc(most_ends * sizeof(*ends));
    uint32_t *chains = malloc(n_chains * sizeof(*chains));

    if (!made || !ends || !chains) {
        free(made);
        free(ends);
        free(chains);
        return NULL;
    }
    memset(made, 0, offsetof(struct ts_settler, marks));
    made->settle_ns = settle_ns;
    made->ends = ends;
    made->most_ends = most_ends;
    made->end_chains = chains;
    made->n_end_chains = n_chains;
    memset(chains, 0xff, n_chains * sizeof(*chains));
    memset(made->held_chains, 0xff, sizeof(made->held_chains));
    made->oldest = made->newest = made->free = NONE;
    made->oldest_waiting = made->newest_waiting = NONE;
    made->n_cpus = last_cpu + 1;
    made->heard_from_ns = made->heard_to_ns = UINT64_MAX;
    memset(made->queues, 0, made->n_cpus * sizeof(made->queues[0]));
    return made;
}

void ts_settler_use_clock(struct ts_settler *settler, const uint64_t *clock)
{
    settler->clock = clock;
}

void ts_settler_free(struct ts_settler *settler)
{
    if (!settler)
        return;
    free(settler->ends);
    free(settler->end_chains);
    free(settler);
}
