/* What holds of the join, whatever becomes of tasks, records and events: settle.c.
 *
 * A story plays tasks on three CPUs that begin, run, wait, send their record and end, with
 * three pids between them, and a listener that drains meanwhile. A model follows the rules of
 * settle.c slowly, with lists that are searched from their start. */
#include "settle.h"

#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "events.h"
#include "properties.h"

#define CPUS 3u
#define PIDS 3u
#define MOST 1024u      /* tasks, births and changes of a story, each */
#define RING (1u << 16) /* bytes */
#define ROOM_BIRTHS 3u
#define ROOM_CHANGES 2u
#define MOST_ROWS 64u /* of a sink */
#define NOBODY UINT32_MAX
#define SETTLE_NS 20000000

struct figures {
    uint64_t runs, waited, cpu_time;
};

struct task {
    uint32_t pid;
    uint32_t cpu;
    uint64_t began, ended;
    uint64_t off; /* since when it has not been on a CPU */
    struct figures now;
    struct figures recorded;
    uint64_t age; /* when it was recorded, in us */
    int has_record, is_over, is_heard;
};

/* A record that was read. */
struct row {
    uint32_t task;
    uint32_t given; /* the task whose end it got, or NOBODY */
    uint32_t cpu;
    int is_paired;
    int64_t until;
    uint64_t after, before; /* its task ended after, and its record was made before */
    int is_narrow;
};

/* An event that is in the ring, or an end that no row has claimed. */
struct event {
    enum ts_event kind;
    uint32_t number; /* of the task, birth or change */
    uint32_t drain;
    int has_row;
};

struct events {
    uint32_t n;
    struct event at[3 * MOST];
};

struct queue {
    uint32_t n;
    uint32_t at[MOST];
};

struct play {
    struct ts_settler *settler;
    struct ts_ring ring;
    uint64_t consumer, producer;
    uint8_t *data;
    struct ts_sink sink;
    /* the machine: */
    int64_t now;
    uint64_t quantum; /* of times waited: the larger, the more tasks are alike */
    uint32_t most_ends;
    uint32_t n_tasks, n_births, n_changes, n_alone;
    struct task tasks[MOST];
    uint32_t owner[PIDS];   /* the task that has this pid */
    uint32_t running[CPUS]; /* the task on this CPU */
    struct queue queues[CPUS];
    uint32_t first_cpu;
    uint32_t unheard; /* records that are in no queue, as far as they are counted */
    int is_stopped;   /* records go to no queue, and are not counted */
    struct events unread;
    /* the model: */
    struct row rows[MOST]; /* as they were read */
    uint32_t received;     /* rows in all: of these, */
    uint32_t taken;        /* given to `take`, */
    uint32_t released;     /* and released */
    struct events ends;
    uint32_t drain;
    uint32_t lost, lost_seen; /* ends */
    uint64_t lost_ns;
    uint32_t unheard_seen;
    uint64_t heard_from, heard_to;
    uint64_t latest[CPUS];
    uint64_t settled;
    uint64_t unsettled;
    uint64_t wrong; /* of the settled */
    uint32_t births_read, changes_read;
    int is_cut; /* the last reading of the ring stopped for want of room */
};

/* ---- the ring ---- */

/* Returns whether there was room. */
static int put_event(struct play *play, enum ts_event kind, uint32_t number, const void *event,
                     uint32_t size)
{
    uint64_t whole = 8 + (size + 7u) / 8 * 8;

    if (play->producer + whole - play->consumer > RING || play->unread.n == 3 * MOST) {
        play->lost += kind == TS_EVENT_END;
        return 0;
    }
    for (uint32_t i = 0; i < 8 + size; i++) {
        uint8_t byte = 0;
        if (i < 4)
            byte = ((const uint8_t *)&size)[i];
        if (i >= 8)
            byte = ((const uint8_t *)event)[i - 8];
        play->data[(play->producer + i) % RING] = byte;
    }
    play->producer += whole;
    play->unread.at[play->unread.n++] = (struct event){.kind = kind, .number = number};
    return 1;
}

static void put_birth(struct play *play)
{
    struct ts_birth_event event = {
        .event = TS_EVENT_BIRTH,
        .pid = play->n_births,
        .maker_pid = ~play->n_births,
        .start_ns = play->n_births * UINT64_C(3),
        .maker_start_ns = play->n_births * UINT64_C(5),
        .cgroup_id = play->n_births * UINT64_C(7),
    };

    play->n_births +=
        (uint32_t)put_event(play, TS_EVENT_BIRTH, play->n_births, &event, sizeof(event));
}

/* Paths of every length, also of one that the kernel has cut. */
static uint32_t path_length(uint32_t number)
{
    static const uint32_t lengths[] = {0, 1, 7, 100, 1021, 1022, 1023, 1024};

    return lengths[number % 8];
}

static void put_change(struct play *play)
{
    struct ts_cgroup_event event = {
        .event = TS_EVENT_CGROUP,
        .change = play->n_changes,
        .id = play->n_changes * UINT64_C(11),
    };

    memset(event.path, 'p', path_length(play->n_changes));
    play->n_changes +=
        (uint32_t)put_event(play, TS_EVENT_CGROUP, play->n_changes, &event, sizeof(event));
}

/* ---- tasks ---- */

static void leave_cpu(struct play *play, uint32_t number)
{
    struct task *task = &play->tasks[number];

    if (play->running[task->cpu] != number)
        return;
    play->running[task->cpu] = NOBODY;
    task->off = (uint64_t)play->now;
}

/* Puts a task on its CPU: the one that is there has to wait. */
static void take_cpu(struct play *play, uint32_t number)
{
    struct task *task = &play->tasks[number];

    if (play->running[task->cpu] == number)
        return;
    if (play->running[task->cpu] != NOBODY)
        leave_cpu(play, play->running[task->cpu]);
    task->now.runs++;
    task->now.waited += ((uint64_t)play->now - task->off) / play->quantum * play->quantum;
    play->running[task->cpu] = number;
}

static void run(struct play *play, uint32_t number, uint32_t ns)
{
    if (play->tasks[number].is_over)
        return;
    take_cpu(play, number);
    play->tasks[number].now.cpu_time += ns;
    play->now += ns;
}

static void migrate(struct play *play, uint32_t number, uint32_t cpu)
{
    if (play->tasks[number].is_over)
        return;
    leave_cpu(play, number);
    play->now += 300000;
    play->tasks[number].cpu = cpu % CPUS;
}

static void begin(struct play *play, uint32_t pid)
{
    struct task *task = &play->tasks[play->n_tasks];

    if (play->n_tasks == MOST || play->owner[pid] != NOBODY)
        return;
    *task = (struct task){
        .pid = pid + 1,
        .cpu = play->n_tasks % CPUS,
        .began = (uint64_t)play->now,
        .off = (uint64_t)play->now,
    };
    play->owner[pid] = play->n_tasks++;
    play->now += 7000 + play->n_tasks % 13;
    run(play, play->owner[pid], 50000);
}

static void free_pid(struct play *play, uint32_t number)
{
    uint32_t *owner = &play->owner[play->tasks[number].pid - 1];

    if (*owner == number)
        *owner = NOBODY;
}

static void send_record(struct play *play, uint32_t number, int is_lost)
{
    struct task *task = &play->tasks[number];

    if (task->has_record || task->is_over)
        return;
    run(play, number, 1000);
    task->has_record = 1;
    task->age = ((uint64_t)play->now - task->began) / 1000;
    task->recorded = task->now;
    if (!is_lost && !play->is_stopped) {
        struct queue *queue = &play->queues[task->cpu];
        queue->at[queue->n++] = number;
        task->is_heard = 1;
    }
    play->unheard += (uint32_t)(is_lost && !play->is_stopped);
}

static void end(struct play *play, uint32_t number, int is_lost)
{
    struct task *task = &play->tasks[number];
    struct ts_end_event event;

    if (task->is_over)
        return;
    run(play, number, 2000);
    event = (struct ts_end_event){
        .event = TS_EVENT_END,
        .pid = task->pid,
        .tgid = task->pid + 10,
        .runs = (uint32_t)task->now.runs,
        .start_ns = task->began + 1000,
        .began_ns = task->began,
        .ended_ns = (uint64_t)play->now,
        .cpu_ns = task->now.cpu_time,
        .waited_ns = task->now.waited,
        .cgroup_id = number,
    };
    task->is_over = 1;
    task->ended = (uint64_t)play->now;
    play->unheard += (uint32_t)(!task->has_record && !play->is_stopped);
    leave_cpu(play, number);
    free_pid(play, number);
    if (is_lost)
        play->lost++;
    else
        put_event(play, TS_EVENT_END, number, &event, sizeof(event));
}

/* ---- the model of the join ---- */

enum fit { NO_FIT, MAY_FIT, FITS };

static uint64_t moment(const struct play *play, const struct row *row, uint32_t ended)
{
    return play->tasks[ended].began + play->tasks[row->task].age * 1000;
}

static enum fit fit(const struct play *play, const struct row *row, uint32_t ended)
{
    const struct task *task = &play->tasks[ended];
    const struct task *own = &play->tasks[row->task];
    const struct figures *then = &own->recorded;

    if (own->pid != task->pid || task->now.cpu_time < then->cpu_time ||
        task->now.waited < then->waited || task->now.runs < then->runs ||
        (task->ended - task->began) / 1000 < own->age || task->ended < row->after ||
        moment(play, row, ended) > row->before)
        return NO_FIT;
    if (task->now.runs > then->runs)
        return MAY_FIT;
    return task->now.waited == then->waited ? FITS : NO_FIT;
}

/* How many ends that no row has claimed fit or may fit a row; the place of the last one. */
static uint32_t ends_for(const struct play *play, const struct row *row, uint32_t *found)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < play->ends.n; i++)
        if (fit(play, row, play->ends.at[i].number) != NO_FIT) {
            *found = i;
            n++;
        }
    return n;
}

/* How many rows that wait an end fits or may fit; the last one. */
static uint32_t rows_for(const struct play *play, uint32_t ended, uint32_t *found)
{
    uint32_t n = 0;

    for (uint32_t i = play->released; i < play->taken; i++)
        if (play->rows[i].given == NOBODY && fit(play, &play->rows[i], ended) != NO_FIT) {
            *found = i;
            n++;
        }
    return n;
}

static void give(struct play *play, struct row *row, uint32_t ended)
{
    uint64_t when = moment(play, row, ended);

    CHECK(row->given == NOBODY);
    row->given = ended;
    play->wrong += row->task != ended;
    if (when > play->latest[row->cpu])
        play->latest[row->cpu] = when;
    play->settled++;
}

static void remove_event(struct events *events, uint32_t at)
{
    events->n--;
    memmove(&events->at[at], &events->at[at + 1], (events->n - at) * sizeof(events->at[0]));
}

static void read_end(struct play *play, uint32_t ended)
{
    uint32_t row, end;

    if (rows_for(play, ended, &row) == 1 && fit(play, &play->rows[row], ended) == FITS &&
        play->rows[row].after >= play->lost_ns && ends_for(play, &play->rows[row], &end) == 0) {
        give(play, &play->rows[row], ended);
        return;
    }
    if (play->ends.n == play->most_ends) {
        uint64_t oldest = play->tasks[play->ends.at[0].number].ended;
        remove_event(&play->ends, 0);
        if (play->lost_ns <= oldest)
            play->lost_ns = oldest + 1;
    }
    play->ends.at[play->ends.n++] =
        (struct event){.kind = TS_EVENT_END,
                       .number = ended,
                       .drain = play->drain,
                       .has_row = play->tasks[ended].began >= play->heard_from &&
                                  play->tasks[ended].ended < play->heard_to};
}

static void take_row(struct play *play, struct row *row, uint64_t now)
{
    uint32_t end, only;

    row->after = play->latest[row->cpu];
    row->before = now;
    row->until = (int64_t)now + SETTLE_NS;
    if (ends_for(play, row, &end) != 1 || fit(play, row, play->ends.at[end].number) != FITS ||
        row->after < play->lost_ns ||
        rows_for(play, play->ends.at[end].number, &only) != 1) /* itself */
        return;
    give(play, row, play->ends.at[end].number);
    remove_event(&play->ends, end);
}

/* Each row that has its end bounds those that wait and came before or after it. */
static void narrow(struct play *play)
{
    for (uint32_t i = play->released; i < play->taken; i++)
        for (uint32_t j = play->released; j < play->taken; j++) {
            struct row *row = &play->rows[i];
            const struct row *other = &play->rows[j];
            if (row->given != NOBODY || other->given == NOBODY || row->cpu != other->cpu)
                continue;
            if (j < i && row->after < moment(play, other, other->given))
                row->after = moment(play, other, other->given);
            if (j > i && row->before > play->tasks[other->given].ended)
                row->before = play->tasks[other->given].ended;
            if (j > i)
                row->is_narrow = 1;
        }
}

static int has_candidates(const struct play *play)
{
    uint32_t end;
    int found = 0;

    for (uint32_t i = play->released; i < play->taken; i++)
        found |= play->rows[i].given == NOBODY && ends_for(play, &play->rows[i], &end);
    return found;
}

static void settle_waiting(struct play *play, int emptied)
{
    uint32_t settled = 1;

    for (int pass = 0; pass < 8 && settled && has_candidates(play); pass++) {
        narrow(play);
        settled = 0;
        for (uint32_t i = play->released; i < play->taken; i++) {
            struct row *row = &play->rows[i];
            uint32_t end, only;

            if (row->given != NOBODY || ends_for(play, row, &end) != 1 ||
                rows_for(play, play->ends.at[end].number, &only) != 1)
                continue;
            if (row->after < play->lost_ns ||
                (fit(play, row, play->ends.at[end].number) == MAY_FIT && !emptied &&
                 !row->is_narrow))
                continue;
            give(play, row, play->ends.at[end].number);
            remove_event(&play->ends, end);
            settled++;
        }
    }
}

static void doubt_later_ends(struct play *play)
{
    if (play->heard_from <= (uint64_t)play->now)
        play->heard_from = (uint64_t)play->now + 1;
}

static void doubt_all_ends(struct play *play)
{
    for (uint32_t i = 0; i < play->ends.n; i++)
        play->ends.at[i].has_row = 0;
    doubt_later_ends(play);
}

static void forget_ends(struct play *play)
{
    uint32_t row;

    for (uint32_t i = 0; i < play->ends.n;)
        if (play->ends.at[i].drain + 1 < play->drain &&
            !rows_for(play, play->ends.at[i].number, &row)) {
            if (play->ends.at[i].has_row)
                doubt_all_ends(play);
            remove_event(&play->ends, i);
        } else {
            i++;
        }
}

/* ---- where every record is heard ---- */

/* How many of the rows that wait have a pid. */
static uint32_t alike(const struct play *play, uint32_t pid)
{
    uint32_t n = 0;

    for (uint32_t i = play->released; i < play->taken; i++)
        n += play->rows[i].given == NOBODY && play->tasks[play->rows[i].task].pid == pid;
    return n;
}

/* How many ends a row has to itself that must have a row; the last one. */
static uint32_t claims(const struct play *play, uint32_t row, uint32_t *found)
{
    uint32_t n = 0;
    uint32_t only = NOBODY;

    for (uint32_t i = 0; i < play->ends.n; i++) {
        const struct event *end = &play->ends.at[i];
        if (!end->has_row || end->drain + 1 >= play->drain ||
            alike(play, play->tasks[end->number].pid) > TS_MOST_ALIKE ||
            rows_for(play, end->number, &only) != 1 || only != row)
            continue;
        *found = end->number;
        n++;
    }
    return n;
}

static int is_in_doubt(const struct play *play)
{
    uint32_t end;

    for (uint32_t i = play->released; i < play->taken; i++)
        if (claims(play, i, &end))
            return 1;
    return 0;
}

static void resolve(struct play *play)
{
    uint32_t ends[MOST];
    uint32_t n = 1;

    if (play->unheard != play->unheard_seen)
        doubt_all_ends(play);
    play->unheard_seen = play->unheard;
    for (int pass = 0; pass < 8 && n; pass++) {
        n = 0;
        for (uint32_t i = play->released; i < play->taken; i++)
            if (claims(play, i, &ends[i]) != 1)
                ends[i] = NOBODY;
        for (uint32_t i = play->released; i < play->taken; i++) {
            if (ends[i] == NOBODY)
                continue;
            /* It is no guess, unless an end that fitted by chance is missing. */
            CHECK(ends[i] == play->rows[i].task || play->wrong);
            give(play, &play->rows[i], ends[i]);
            for (uint32_t k = 0; k < play->ends.n; k++)
                if (play->ends.at[k].number == ends[i])
                    remove_event(&play->ends, k);
            n++;
        }
        if (n)
            settle_waiting(play, 1);
    }
}

/* ---- the listener ---- */

/* Stops where the sink has no room, as the model does: and then goes on another time. */
static void read_ring(struct play *play)
{
    struct ts_sink *sink = &play->sink;
    uint32_t births = sink->n_births;
    uint32_t changes = sink->n_changes;
    uint32_t read = 0;

    while (read < play->unread.n && births < ROOM_BIRTHS && changes < ROOM_CHANGES) {
        const struct event *event = &play->unread.at[read++];
        if (event->kind == TS_EVENT_END)
            read_end(play, event->number);
        births += event->kind == TS_EVENT_BIRTH;
        changes += event->kind == TS_EVENT_CGROUP;
    }
    play->unread.n -= read;
    memmove(play->unread.at, play->unread.at + read, play->unread.n * sizeof(struct event));
    ts_settler_read(play->settler, &play->ring, sink);
    CHECK(!play->ring.damaged && play->consumer == play->ring.position);
    CHECK((play->consumer == play->producer) == (play->unread.n == 0));
    CHECK(sink->n_births == births && sink->n_changes == changes);
    play->is_cut = births == ROOM_BIRTHS || changes == ROOM_CHANGES;
    CHECK(ts_settler_is_full(play->settler) ==
          (births == ROOM_BIRTHS || changes == ROOM_CHANGES));
}

static void release(struct play *play, int64_t now)
{
    struct ts_sink *sink = &play->sink;
    uint32_t tasks = sink->n_tasks;
    uint32_t groups = sink->n_groups;
    int is_full = 0;

    while (play->released < play->taken && !is_full) {
        const struct row *row = &play->rows[play->released];
        if (row->given == NOBODY && (row->until > now || play->is_cut) &&
            play->taken - play->released <= TS_MOST_HELD)
            break;
        is_full = tasks == sink->capacity || (row->is_paired && groups == sink->capacity);
        if (is_full)
            break;
        tasks++;
        groups += (uint32_t)row->is_paired;
        play->unsettled += row->given == NOBODY;
        if (row->given == NOBODY) {
            for (uint32_t i = 0; i < play->ends.n; i++)
                if (fit(play, row, play->ends.at[i].number) != NO_FIT)
                    play->ends.at[i].has_row = 0;
            doubt_later_ends(play);
        }
        play->released++;
    }
    ts_settler_release(play->settler, sink, now);
    CHECK(sink->n_tasks == tasks && sink->n_groups == groups);
    CHECK(!is_full || ts_settler_is_full(play->settler));
    CHECK(ts_settler_held(play->settler) == play->taken - play->released);
    if (play->released < play->taken)
        CHECK(ts_settler_due(play->settler) == play->rows[play->released].until);
}

/* A group's record alone, as no kernel sends it at an exit. */
static void receive_alone(struct play *play)
{
    struct ts_sink *sink = &play->sink;

    if (sink->n_groups < sink->capacity)
        sink->groups[sink->n_groups++] =
            (struct ts_record){.kind = TS_GROUP, .seq = MOST + play->n_alone++};
}

static void receive(struct play *play, uint32_t cpu)
{
    struct ts_sink *sink = &play->sink;
    struct queue *queue = &play->queues[cpu];
    uint32_t number = queue->at[0];
    const struct task *task = &play->tasks[number];
    struct ts_record *record = &sink->tasks[sink->n_tasks];
    int is_paired = number % 3 == 0 && sink->n_groups < sink->capacity;

    queue->n--;
    memmove(queue->at, queue->at + 1, queue->n * sizeof(queue->at[0]));
    play->rows[play->received++] =
        (struct row){.task = number, .given = NOBODY, .cpu = cpu, .is_paired = is_paired};
    *record = (struct ts_record){
        .id = task->pid,
        .kind = TS_TASK,
        .cpu = (uint16_t)cpu,
        .seq = number,
        .stats.ac_tgid = number % 5 ? task->pid + 10 : 0, /* of an old kernel */
        .stats.ac_etime = task->age,
        .stats.cpu_count = task->recorded.runs,
        .stats.cpu_delay_total = task->recorded.waited,
        .stats.cpu_run_virtual_total = task->recorded.cpu_time,
    };
    if (is_paired) {
        sink->groups[sink->n_groups] = *record;
        sink->groups[sink->n_groups].row = sink->n_tasks;
        record->row = sink->n_groups++;
        record->flags = sink->groups[record->row].flags = TS_PAIRED;
    }
    sink->n_tasks++;
}

static void check_row(const struct play *play, uint32_t at, const struct row *row)
{
    const struct ts_sink *sink = &play->sink;
    const struct ts_record *record = &sink->tasks[at];

    CHECK(record->seq == row->task && record->cpu == row->cpu);
    CHECK(!(record->flags & TS_SETTLED) == (row->given == NOBODY));
    CHECK(!(record->flags & TS_PAIRED) == !row->is_paired);
    if (row->given != NOBODY) {
        const struct task *given = &play->tasks[row->given];
        CHECK(record->cgroup_id == row->given && record->start_ns == given->began + 1000);
        CHECK(record->final_cpu_ns == given->now.cpu_time);
    }
    if (row->is_paired) {
        CHECK(record->row < sink->n_groups && sink->groups[record->row].row == at);
        CHECK(sink->groups[record->row].seq == row->task);
    }
}

/* What the caller finds in the sink. It empties it. */
static void look(struct play *play, uint32_t alone)
{
    struct ts_sink *sink = &play->sink;
    const struct row *row = &play->rows[play->released - sink->n_tasks];
    struct ts_probe_stats stats;
    uint32_t groups = 0;

    for (uint32_t i = 0; i < sink->n_tasks; i++) {
        check_row(play, i, &row[i]);
        groups += (uint32_t)row[i].is_paired;
    }
    for (uint32_t i = 0; i < sink->n_groups; i++)
        if (sink->groups[i].seq >= MOST) {
            CHECK(sink->groups[i].seq == MOST + alone++);
            groups++;
        }
    CHECK(sink->n_groups == groups && alone == play->n_alone);
    for (uint32_t i = 0; i < sink->n_births; i++) {
        const struct ts_birth *birth = &sink->births[i];
        CHECK(birth->pid == play->births_read && birth->maker_pid == ~birth->pid);
        CHECK(birth->start_ns == birth->pid * UINT64_C(3));
        CHECK(birth->maker_start_ns == birth->pid * UINT64_C(5));
        CHECK(birth->cgroup_id == birth->pid * UINT64_C(7));
        play->births_read++;
    }
    for (uint32_t i = 0; i < sink->n_changes; i++) {
        const struct ts_cgroup_change *change = &sink->changes[i];
        uint32_t length = path_length(play->changes_read);
        CHECK(change->change == play->changes_read);
        CHECK(change->id == play->changes_read * UINT64_C(11));
        CHECK(change->length == (length < 1023 ? length : 0));
        for (uint32_t j = 0; j < change->length; j++)
            CHECK(change->path[j] == 'p');
        play->changes_read++;
    }
    ts_settler_count(play->settler, &stats);
    CHECK(stats.settled == play->settled && stats.unsettled == play->unsettled);
    CHECK(stats.settled + stats.unsettled + stats.held == play->received);
    sink->n_tasks = sink->n_groups = sink->n_births = sink->n_changes = 0;
}

static void act(struct play *play, unsigned what, uint32_t n);

static void act_all(struct play *play, const uint8_t *story, size_t size)
{
    for (size_t i = 0; i + 1 < size; i += 2)
        act(play, story[i], story[i + 1]);
}

/* A drain as drain.c does it. What happens meanwhile happens once the first of the queues
 * has been read, and once more when all have been. */
static void drain(struct play *play, const uint8_t *meanwhile, size_t size, uint32_t capacity)
{
    struct ts_sink *sink = &play->sink;
    uint32_t alone = play->n_alone;
    uint64_t began = (uint64_t)play->now;
    uint32_t task, group, room;
    int emptied = 1;

    sink->capacity = capacity;
    ts_settler_begin(play->settler, play->now);
    read_ring(play);
    release(play, play->now);
    task = sink->n_tasks;
    group = sink->n_groups;
    room = TS_MOST_HELD + TS_MOST_TAKEN - (play->taken - play->released);
    room = room < TS_MOST_TAKEN ? room : TS_MOST_TAKEN;
    CHECK(ts_settler_room(play->settler) == room);
    room = room < capacity - task ? room : capacity - task;
    for (uint32_t i = 0; i < CPUS; i++) {
        uint32_t cpu = (play->first_cpu + i) % CPUS;
        if (i == 1)
            act_all(play, meanwhile, size);
        if (play->now % 5 == 0)
            receive_alone(play);
        while (play->queues[cpu].n && sink->n_tasks - task < room)
            receive(play, cpu);
        emptied = emptied && sink->n_tasks - task < room;
    }
    play->first_cpu++;
    act_all(play, meanwhile, size);
    read_ring(play);
    if (play->lost != play->lost_seen)
        play->lost_ns = (uint64_t)play->now + 1;
    play->lost_seen = play->lost;
    ts_settler_count_lost(play->settler, play->lost, play->now);
    play->drain++;
    ts_settler_take(play->settler, sink, task, group, emptied, play->now);
    while (play->taken < play->received)
        take_row(play, &play->rows[play->taken++], (uint64_t)play->now);
    settle_waiting(play, emptied);
    if (emptied)
        forget_ends(play);
    for (uint32_t cpu = 0; emptied && cpu < CPUS; cpu++)
        if (play->latest[cpu] < began)
            play->latest[cpu] = began;
    if (size > 1)
        act(play, meanwhile[0], meanwhile[1]);
    if (emptied) {
        int in_doubt = is_in_doubt(play);
        CHECK(ts_settler_is_in_doubt(play->settler) == in_doubt);
        if (in_doubt) {
            resolve(play);
            ts_settler_resolve(play->settler, play->unheard, play->now);
        }
    }
    /* Rows that the model has not released yet stand in the sink where none was held. */
    while (sink->n_tasks > task) {
        CHECK(play->rows[play->released++].given != NOBODY);
        task++;
    }
    release(play, play->now);
    look(play, alone);
}

static void hear_all(struct play *play)
{
    ts_settler_hear_all(play->settler, play->now++);
    play->heard_from = (uint64_t)play->now;
}

static void act(struct play *play, unsigned what, uint32_t n)
{
    uint32_t task = play->owner[n % PIDS];
    uint32_t back = n / 16 % 8 + 1; /* a task that may have given its pid away */

    play->now += 1000 + what;
    switch (what / 4 % 8) {
    case 0:
        begin(play, n % PIDS);
        break;
    case 1:
        if (task == NOBODY)
            break;
        send_record(play, task, n >= 240);
        if (n % 2)
            free_pid(play, task);
        break;
    case 2:
        if (task != NOBODY)
            run(play, task, n * 1000);
        break;
    case 3:
        if (task != NOBODY)
            migrate(play, task, n / 4);
        break;
    case 4:
        if (back <= play->n_tasks)
            end(play, play->n_tasks - back, n % 16 == 0);
        break;
    case 5: /* a short one, from beginning to end */
        if (task != NOBODY || play->n_tasks == MOST)
            break;
        begin(play, n % PIDS);
        task = play->n_tasks - 1;
        send_record(play, task, n >= 240);
        if (n & 8)
            migrate(play, task, n / 4);
        end(play, task, n % 16 == 15);
        break;
    case 6:
        if (play->n_births < MOST && play->n_changes < MOST)
            n % 4 ? put_birth(play) : put_change(play);
        break;
    default:
        play->now += n * INT64_C(100000);
        if (n == 254 && play->heard_from == UINT64_MAX)
            hear_all(play);
        if (n != 255 || play->is_stopped)
            break;
        ts_settler_hear_no_more(play->settler, play->now);
        play->heard_to = (uint64_t)play->now;
        play->is_stopped = 1;
    }
}

static void open_play(struct play *play, unsigned first)
{
    static const uint64_t quanta[] = {1, 1, 100000, UINT64_C(1) << 50};
    struct ts_sink *sink = &play->sink;

    memset(play, 0, sizeof(*play));
    memset(play->owner, 0xff, sizeof(play->owner));
    memset(play->running, 0xff, sizeof(play->running));
    play->most_ends = first & 4 ? 3 : MOST;
    play->settler = ts_settler_new(SETTLE_NS, CPUS - 1, play->most_ends);
    play->data = check_alloc(RING);
    play->now = 1000000000;
    play->heard_from = play->heard_to = UINT64_MAX;
    if (first & 8)
        hear_all(play);
    play->quantum = quanta[first % 4];
    sink->tasks = check_alloc(MOST_ROWS * sizeof(*sink->tasks));
    sink->groups = check_alloc(MOST_ROWS * sizeof(*sink->groups));
    sink->births = check_alloc(ROOM_BIRTHS * sizeof(*sink->births));
    sink->changes = check_alloc(ROOM_CHANGES * sizeof(*sink->changes));
    sink->room_births = ROOM_BIRTHS;
    sink->room_changes = ROOM_CHANGES;
    ts_ring_open(&play->ring, &play->consumer, &play->producer, play->data, RING);
}

/* When all has been read and every deadline is over, nothing is held. */
static void close_play(struct play *play)
{
    struct ts_sink *sink = &play->sink;

    while (play->unread.n || play->received < play->n_tasks || play->released < play->taken) {
        uint32_t left = 0;
        drain(play, NULL, 0, MOST_ROWS);
        for (uint32_t i = 0; i < CPUS; i++)
            left += play->queues[i].n;
        if (!left && !play->unread.n && play->released == play->taken)
            break;
        if (!left)
            play->now += SETTLE_NS;
    }
    CHECK(ts_settler_held(play->settler) == 0 && play->consumer == play->producer);
    CHECK(play->settled + play->unsettled == play->received);
    ts_settler_free(play->settler);
    free(play->data);
    free(sink->tasks);
    free(sink->groups);
    free(sink->births);
    free(sink->changes);
}

/* A byte for how much tasks are alike, for the ends kept, and for whether all is heard; then
 * two an act: what, and how much. */
void check_settling(const uint8_t *story, size_t size)
{
    static const uint32_t capacities[] = {1, 2, 7, MOST_ROWS};
    struct play *play = check_alloc(sizeof(*play));

    open_play(play, size ? story[0] : 0);
    for (size_t i = 1; i + 1 < size; i += 2)
        if (story[i] % 4 == 0) {
            size_t inner = story[i + 1] / 16 % 8 * 2u;
            if (inner > size - i - 2)
                inner = (size - i - 2) / 2 * 2;
            drain(play, story + i + 2, inner, capacities[story[i + 1] % 4]);
            i += inner;
        } else {
            act(play, story[i], story[i + 1]);
        }
    close_play(play);
    free(play);
}
