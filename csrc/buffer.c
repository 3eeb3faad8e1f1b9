/* A bounded queue of what drains have brought, in memory of its own. */
#include "buffer.h"

#include <errno.h>
#include <string.h>

#define LARGEST_CHUNK ((size_t)1 << 20)
#define PAGE ((size_t)4096)

/* How much of each kind there is, or has been taken. */
struct counts {
    uint32_t births;
    uint32_t changes;
    uint32_t tasks;
    uint32_t groups;
};

struct ts_parcel {
    size_t size; /* with what follows: the births, changes, tasks and groups */
    struct counts all;
    struct counts taken;
    uint64_t births_lost;
    int64_t emptied_ns;
};

struct ts_chunk {
    struct ts_chunk *next;
    size_t begin; /* of the first parcel that is not taken whole */
    size_t end;   /* of the last parcel */
    uint64_t data[];
};

static size_t room(const struct ts_buffer *buffer)
{
    return buffer->chunk_size - sizeof(struct ts_chunk);
}

static struct ts_parcel *at(struct ts_chunk *chunk, size_t offset)
{
    return (struct ts_parcel *)((char *)chunk->data + offset);
}

static int add_chunk(struct ts_buffer *buffer)
{
    struct ts_chunk *made = NULL;

    if (buffer->n_chunks < buffer->most_chunks)
        made = buffer->get(buffer->chunk_size);
    if (!made)
        return 0;
    made->next = NULL;
    made->begin = made->end = 0;
    if (buffer->last)
        buffer->last->next = made;
    else
        buffer->first = made;
    buffer->last = made;
    buffer->n_chunks++;
    return 1;
}

static void remove_first(struct ts_buffer *buffer)
{
    struct ts_chunk *gone = buffer->first;

    buffer->first = gone->next;
    buffer->n_chunks--;
    buffer->put_back(gone, buffer->chunk_size);
}

int ts_buffer_open(struct ts_buffer *buffer, uint64_t bytes, void *(*get)(size_t),
                   void (*put_back)(void *, size_t))
{
    size_t chunk = LARGEST_CHUNK;

    memset(buffer, 0, sizeof(*buffer));
    if (bytes / 4 < chunk)
        chunk = (size_t)(bytes / 4) / PAGE * PAGE;
    buffer->get = get;
    buffer->put_back = put_back;
    buffer->chunk_size = chunk;
    buffer->most_chunks = bytes / chunk;
    return add_chunk(buffer) ? 0 : -ENOMEM;
}

void ts_buffer_close(struct ts_buffer *buffer)
{
    while (buffer->first)
        remove_first(buffer);
    buffer->last = NULL;
}

int ts_buffer_is_empty(const struct ts_buffer *buffer)
{
    return buffer->first->begin == buffer->first->end;
}

/* ---- put ---- */

static char *append(char *to, const void *from, size_t size)
{
    if (size)
        memcpy(to, from, size);
    return to + size;
}

int ts_buffer_put(struct ts_buffer *buffer, const struct ts_sink *sink)
{
    size_t births = sink->n_births * sizeof(*sink->births);
    size_t changes = sink->n_changes * sizeof(*sink->changes);
    size_t tasks = sink->n_tasks * sizeof(*sink->tasks);
    size_t groups = sink->n_groups * sizeof(*sink->groups);
    size_t size = sizeof(struct ts_parcel) + births + changes + tasks + groups;
    struct ts_parcel *parcel;
    char *to;

    if (size > room(buffer) - buffer->last->end && !add_chunk(buffer))
        return 0;
    parcel = at(buffer->last, buffer->last->end);
    *parcel = (struct ts_parcel){
        .size = size,
        .all = {sink->n_births, sink->n_changes, sink->n_tasks, sink->n_groups},
        .births_lost = sink->births_lost,
        .emptied_ns = sink->emptied_ns,
    };
    to = append((char *)(parcel + 1), sink->births, births);
    to = append(to, sink->changes, changes);
    to = append(to, sink->tasks, tasks);
    append(to, sink->groups, groups);
    buffer->last->end += size;
    buffer->newest = parcel;
    buffer->waiting += sink->n_tasks;
    buffer->used += size;
    if (buffer->used > buffer->most_used)
        buffer->most_used = buffer->used;
    return 1;
}

void ts_buffer_note(struct ts_buffer *buffer, const struct ts_sink *sink)
{
    int empty = ts_buffer_is_empty(buffer);
    int64_t *emptied_ns = empty ? &buffer->emptied_ns : &buffer->newest->emptied_ns;

    if (sink->emptied_ns)
        *emptied_ns = sink->emptied_ns;
    if (empty)
        buffer->births_lost = sink->births_lost;
    else
        buffer->newest->births_lost = sink->births_lost;
}

/* ---- take ---- */

static uint32_t least(uint32_t one, uint32_t other)
{
    return one < other ? one : other;
}

/* Births and changes. Returns whether all of them have been taken. */
static int take_events(struct ts_parcel *parcel, struct ts_sink *sink)
{
    const struct ts_birth *births = (const struct ts_birth *)(parcel + 1);
    const struct ts_cgroup_change *changes =
        (const struct ts_cgroup_change *)(births + parcel->all.births);
    uint32_t n = parcel->all.births - parcel->taken.births;

    if (sink->births) {
        n = least(n, sink->room_births - sink->n_births);
        append((char *)(sink->births + sink->n_births), births + parcel->taken.births,
               n * sizeof(*births));
        sink->n_births += n;
    }
    parcel->taken.births += n;
    n = parcel->all.changes - parcel->taken.changes;
    if (sink->changes) {
        n = least(n, sink->room_changes - sink->n_changes);
        append((char *)(sink->changes + sink->n_changes), changes + parcel->taken.changes,
               n * sizeof(*changes));
        sink->n_changes += n;
    }
    parcel->taken.changes += n;
    return parcel->taken.births == parcel->all.births &&
           parcel->taken.changes == parcel->all.changes;
}

/* How many groups come with the next n tasks: the groups stand in the order of their tasks. */
static uint32_t groups_of(const struct ts_parcel *parcel, const struct ts_record *groups,
                          uint32_t n)
{
    uint32_t task = parcel->taken.tasks + n;
    uint32_t group = parcel->taken.groups;

    if (task == parcel->all.tasks)
        return parcel->all.groups - group;
    while (group < parcel->all.groups &&
           !(groups[group].flags & TS_PAIRED && groups[group].row >= task))
        group++;
    return group - parcel->taken.groups;
}

/* Corrects in rows just copied the places of the other record of each pair. */
static void move_pairs(struct ts_record *rows, uint32_t n, uint32_t before, uint32_t now)
{
    for (uint32_t i = 0; i < n; i++)
        if (rows[i].flags & TS_PAIRED)
            rows[i].row = rows[i].row - before + now;
}

static void unpair(struct ts_record *rows, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if (rows[i].flags & TS_PAIRED) {
            rows[i].flags &= (uint8_t)~TS_PAIRED;
            rows[i].row = UINT32_MAX;
        }
}

static void take_rows(struct ts_buffer *buffer, struct ts_parcel *parcel, struct ts_sink *sink)
{
    const char *events = (const char *)(parcel + 1) +
                         parcel->all.births * sizeof(struct ts_birth) +
                         parcel->all.changes * sizeof(struct ts_cgroup_change);
    const struct ts_record *tasks = (const struct ts_record *)events;
    const struct ts_record *groups = tasks + parcel->all.tasks;
    uint32_t n = least(parcel->all.tasks - parcel->taken.tasks, sink->capacity - sink->n_tasks);
    uint32_t n_groups = groups_of(parcel, groups, n);

    if (sink->groups) {
        n_groups = least(n_groups, sink->capacity - sink->n_groups);
        append((char *)(sink->groups + sink->n_groups), groups + parcel->taken.groups,
               n_groups * sizeof(*groups));
        move_pairs(sink->groups + sink->n_groups, n_groups, parcel->taken.tasks, sink->n_tasks);
    }
    append((char *)(sink->tasks + sink->n_tasks), tasks + parcel->taken.tasks,
           n * sizeof(*tasks));
    if (sink->groups) {
        move_pairs(sink->tasks + sink->n_tasks, n, parcel->taken.groups, sink->n_groups);
        sink->n_groups += n_groups;
    } else {
        unpair(sink->tasks + sink->n_tasks, n);
    }
    sink->n_tasks += n;
    parcel->taken.tasks += n;
    parcel->taken.groups += n_groups;
    buffer->waiting -= n;
}

static void drop_parcel(struct ts_buffer *buffer, const struct ts_parcel *parcel)
{
    struct ts_chunk *chunk = buffer->first;

    if (parcel->emptied_ns)
        buffer->emptied_ns = parcel->emptied_ns;
    buffer->used -= parcel->size;
    chunk->begin += parcel->size;
    if (chunk->begin < chunk->end)
        return;
    if (chunk->next)
        remove_first(buffer);
    else
        chunk->begin = chunk->end = 0;
}

int ts_buffer_take(struct ts_buffer *buffer, struct ts_sink *sink)
{
    int full = 0;

    while (!full && !ts_buffer_is_empty(buffer)) {
        struct ts_parcel *parcel = at(buffer->first, buffer->first->begin);

        full = !take_events(parcel, sink);
        if (full)
            break;
        buffer->births_lost = parcel->births_lost; /* births come before rows */
        take_rows(buffer, parcel, sink);
        if (parcel->taken.tasks < parcel->all.tasks ||
            parcel->taken.groups < parcel->all.groups)
            break;
        drop_parcel(buffer, parcel);
    }
    sink->emptied_ns = buffer->emptied_ns;
    sink->births_lost = buffer->births_lost;
    return full;
}
