/* Joins records with the ends that the probe has seen. Pure.
 *
 * Which end belongs to a row? The pid alone does not say: the kernel may have given it
 * again, and a late reader sees several owners. The kernel's record and the end both say
 * how often the task had got a CPU and how long it had waited for one, in ns. If the task
 * did not wait between the two, these are equal, and the pair is certain. If it did, the
 * end gives the moment at which the record was made (the task's start and its age then).
 * The pair is taken if the record was not read before that moment, no other end fits the
 * row, and no other waiting row fits the end. All other rows stay without an end.
 *
 * A queue's order helps too. A record is made, then queued, and then its task ends: so
 * no task ended before an earlier record of the same queue was made. */
#include "settle.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "events.h"

#define NONE UINT32_MAX

#define LEAST_END_CHAINS 8192u
#define HELD_CHAINS 1024u
#define HELD_ROOM (TS_MOST_HELD + TS_MOST_TAKEN)

/* An end that no row has claimed. */
struct end {
    struct ts_end_event event;
    uint32_t next; /* with the same chain of pids, or free */
    uint32_t older, newer;
    uint32_t drain; /* in which it was read */
};

/* A row that is held. */
struct held {
    struct ts_record task;
    struct ts_record group;
    int has_group;
    int waits;        /* for its end */
    int64_t until_ns; /* but no longer */
    uint64_t read_ns; /* when it was read, by the clock of the events */
    uint64_t after;   /* its task did not end before: see `fit` */
    uint32_t next;    /* with the same chain of pids, of those that wait, */
    uint32_t older_waiting, newer_waiting;
};

struct ts_settler {
    int64_t settle_ns;
    const uint64_t *clock; /* of the events; NULL: CLOCK_MONOTONIC */
    uint64_t settled;
    uint64_t unsettled;
    int is_full;
    uint32_t drain;

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

    struct held held[HELD_ROOM];
    uint32_t n_cpus;
    uint64_t latest[]; /* by CPU: when the latest record was made of which that is known */
};

/* ---- ends ---- */

static uint32_t *end_chain(struct ts_settler *settler, uint32_t pid)
{
    return &settler->end_chains[pid % settler->n_end_chains];
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

    if (settler->free == NONE && settler->n_ends == settler->most_ends)
        remove_end(settler, settler->oldest);
    at = settler->free;
    if (at == NONE)
        at = settler->n_ends++;
    else
        settler->free = settler->ends[at].next;
    end = &settler->ends[at];
    end->event = *event;
    end->drain = settler->drain;
    end->next = *chain;
    *chain = at;
    end->older = settler->newest;
    end->newer = NONE;
    *(end->older == NONE ? &settler->oldest : &settler->ends[end->older].newer) = at;
    settler->newest = at;
}

/* ---- which end is a row's ---- */

enum fit { NO_FIT, MAY_FIT, FITS };

/* When the record was made, if this is its end. ac_etime is whole microseconds. */
static uint64_t moment_of(const struct ts_record *row, const struct ts_end_event *event)
{
    return event->began_ns + row->stats.ac_etime * 1000;
}

/* `after` is when the latest record was made that was read from the same queue before. */
static enum fit fit(const struct ts_record *row, uint64_t after,
                    const struct ts_end_event *event)
{
    const struct ts_stats *stats = &row->stats;
    uint32_t runs = event->runs - (uint32_t)stats->cpu_count; /* since the record */

    if (row->id != event->pid || (stats->ac_tgid && stats->ac_tgid != event->tgid) ||
        event->cpu_ns < stats->cpu_run_virtual_total ||
        event->waited_ns < stats->cpu_delay_total || runs > UINT32_MAX / 2 ||
        event->ended_ns < event->began_ns || event->ended_ns < after ||
        (event->ended_ns - event->began_ns) / 1000 < stats->ac_etime)
        return NO_FIT;
    if (runs == 0 && event->runs)
        return event->waited_ns == stats->cpu_delay_total ? FITS : NO_FIT;
    return MAY_FIT;
}

static void settle(struct ts_settler *settler, struct ts_record *row,
                   const struct ts_end_event *event)
{
    uint64_t moment = moment_of(row, event);

    row->final_cpu_ns = event->cpu_ns;
    row->start_ns = event->start_ns;
    row->cgroup_id = event->cgroup_id;
    row->flags |= TS_SETTLED;
    settler->settled++;
    if (row->cpu < settler->n_cpus && moment > settler->latest[row->cpu])
        settler->latest[row->cpu] = moment;
}

static uint64_t latest_of(const struct ts_settler *settler, uint32_t cpu)
{
    return cpu < settler->n_cpus ? settler->latest[cpu] : 0;
}

/* The only end that certainly is the row's, or NONE. */
static uint32_t certain_end(struct ts_settler *settler, const struct ts_record *row)
{
    uint64_t after = latest_of(settler, row->cpu);
    uint32_t found = NONE;

    for (uint32_t at = *end_chain(settler, row->id); at != NONE; at = settler->ends[at].next)
        if (fit(row, after, &settler->ends[at].event) == FITS) {
            if (found != NONE)
                return NONE;
            found = at;
        }
    return found;
}

static int settle_if_certain(struct ts_settler *settler, struct ts_record *row)
{
    uint32_t at = certain_end(settler, row);

    if (at == NONE)
        return 0;
    settle(settler, row, &settler->ends[at].event);
    remove_end(settler, at);
    return 1;
}

/* ---- held rows ---- */

static struct held *held_at(struct ts_settler *settler, uint64_t place)
{
    return &settler->held[place % HELD_ROOM];
}

static uint32_t *held_chain(struct ts_settler *settler, uint32_t pid)
{
    return &settler->held_chains[pid % HELD_CHAINS];
}

static void wait_no_more(struct ts_settler *settler, struct held *held)
{
    uint32_t at = (uint32_t)(held - settler->held);
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
    held->waits = 0;
    settler->waiting--;
}

static void wait_from_now_on(struct ts_settler *settler, struct held *held)
{
    uint32_t at = (uint32_t)(held - settler->held);
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

static void hold(struct ts_settler *settler, const struct ts_sink *sink, uint32_t task,
                 int64_t now)
{
    struct held *held = held_at(settler, settler->tail++);

    held->task = sink->tasks[task];
    held->has_group = (held->task.flags & TS_PAIRED) != 0;
    if (held->has_group)
        held->group = sink->groups[held->task.row];
    held->until_ns = now + settler->settle_ns;
    held->read_ns =
        settler->clock ? __atomic_load_n(settler->clock, __ATOMIC_RELAXED) : (uint64_t)now;
    held->waits = !(held->task.flags & TS_SETTLED);
    if (held->waits) {
        held->after = latest_of(settler, held->task.cpu);
        wait_from_now_on(settler, held);
    }
}

/* Gives an end that has just been read to the only held row that it certainly is of. */
static int give_to_held(struct ts_settler *settler, const struct ts_end_event *event)
{
    struct held *found = NULL;

    if (!settler->waiting)
        return 0;
    for (uint32_t at = *held_chain(settler, event->pid); at != NONE;
         at = settler->held[at].next)
        if (fit(&settler->held[at].task, settler->held[at].after, event) == FITS) {
            if (found)
                return 0;
            found = &settler->held[at];
        }
    if (!found)
        return 0;
    wait_no_more(settler, found);
    settle(settler, &found->task, event);
    return 1;
}

/* Whether this may be the end of a held row: its record was not made after it was read. */
static int is_possible(const struct held *held, const struct ts_end_event *event)
{
    return fit(&held->task, held->after, event) == MAY_FIT &&
           moment_of(&held->task, event) <= held->read_ns;
}

/* The only end that may be of a held row, if no other row may have it; or NONE. */
static uint32_t possible_end(struct ts_settler *settler, const struct held *held)
{
    uint32_t found = NONE;

    for (uint32_t at = *end_chain(settler, held->task.id); at != NONE;
         at = settler->ends[at].next) {
        if (!is_possible(held, &settler->ends[at].event))
            continue;
        if (found != NONE)
            return NONE;
        found = at;
    }
    for (uint32_t at = *held_chain(settler, held->task.id); found != NONE && at != NONE;
         at = settler->held[at].next)
        if (&settler->held[at] != held && fit(&settler->held[at].task, settler->held[at].after,
                                              &settler->ends[found].event) != NO_FIT)
            return NONE;
    return found;
}

/* Rows of tasks that had to wait for a CPU after their record was made. */
static void settle_possible(struct ts_settler *settler)
{
    uint32_t next;

    for (uint32_t at = settler->oldest_waiting; at != NONE; at = next) {
        struct held *held = &settler->held[at];
        uint32_t end = possible_end(settler, held);

        next = held->newer_waiting;
        if (end == NONE)
            continue;
        wait_no_more(settler, held);
        settle(settler, &held->task, &settler->ends[end].event);
        remove_end(settler, end);
    }
}

/* Whether a row that waits may have this end. */
static int is_wanted(struct ts_settler *settler, const struct ts_end_event *event)
{
    for (uint32_t at = settler->waiting ? *held_chain(settler, event->pid) : NONE; at != NONE;
         at = settler->held[at].next)
        if (fit(&settler->held[at].task, settler->held[at].after, event) != NO_FIT)
            return 1;
    return 0;
}

/* The queues have been read until they were empty. A record is sent before its task's end:
 * an end that was read earlier and that no row wants has no record. It was lost, or
 * filtered, or is of a CPU that nobody listens to. */
static void forget_ends(struct ts_settler *settler)
{
    uint32_t newer;

    for (uint32_t at = settler->oldest; at != NONE && settler->ends[at].drain != settler->drain;
         at = newer) {
        newer = settler->ends[at].newer;
        if (!is_wanted(settler, &settler->ends[at].event))
            remove_end(settler, at);
    }
}

/* ---- taking rows, and handing them out ---- */

/* Removes from the sink the rows from `task` on, and their groups from `group` on; a group
 * that came alone stays. */
static void cut(struct ts_sink *sink, uint32_t task, uint32_t group)
{
    uint32_t kept = group;

    for (uint32_t at = group; at < sink->n_groups; at++) {
        const struct ts_record *row = &sink->groups[at];
        if ((row->flags & TS_PAIRED) && row->row >= task)
            continue;
        if (kept != at) {
            sink->groups[kept] = *row;
            if (row->flags & TS_PAIRED)
                sink->tasks[row->row].row = kept;
        }
        kept++;
    }
    sink->n_groups = kept;
    sink->n_tasks = task;
}

void ts_settler_take(struct ts_settler *settler, struct ts_sink *sink, uint32_t task,
                     uint32_t group, int emptied, int64_t now)
{
    uint32_t stay = NONE; /* rows before this one stay in the sink */

    if (settler->head != settler->tail)
        stay = task;
    for (uint32_t at = task; at < sink->n_tasks; at++) {
        int settled = settle_if_certain(settler, &sink->tasks[at]);
        if (!settled && stay == NONE)
            stay = at;
        if (stay != NONE)
            hold(settler, sink, at, now);
    }
    if (stay != NONE)
        cut(sink, stay, group);
    settle_possible(settler);
    if (emptied)
        forget_ends(settler);
    settler->drain++;
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
        struct held *held = held_at(settler, settler->head);
        int must = now >= held->until_ns || settler->tail - settler->head > TS_MOST_HELD;

        if (held->waits && !must)
            return;
        if (!append(sink, held)) {
            settler->is_full = 1;
            return;
        }
        if (held->waits) {
            wait_no_more(settler, held);
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
        malloc(sizeof(*made) + ((size_t)last_cpu + 1) * sizeof(made->latest[0]));
    struct end *ends = malloc(most_ends * sizeof(*ends));
    uint32_t *chains = malloc(n_chains * sizeof(*chains));

    if (!made || !ends || !chains) {
        free(made);
        free(ends);
        free(chains);
        return NULL;
    }
    memset(made, 0, offsetof(struct ts_settler, held));
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
    memset(made->latest, 0, made->n_cpus * sizeof(made->latest[0]));
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
