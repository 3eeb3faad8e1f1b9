/* buffer.c against a plain list: whatever is put comes out once, in order, in any pieces. */
#include "buffer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

#define RUNS 200u
#define STEPS 300u
#define MOST_TASKS 40u
#define MOST_BIRTHS 30u
#define MOST_CHANGES 5u

static unsigned long in_use; /* chunks */
static unsigned long most_in_use;
static int out_of_memory;

static void *get(size_t size)
{
    if (out_of_memory)
        return NULL;
    if (++in_use > most_in_use)
        most_in_use = in_use;
    return check_alloc(size);
}

static void put_back(void *memory, size_t size)
{
    memset(memory, 0xee, size);
    free(memory);
    in_use--;
}

/* What the writer sends: numbered, so that the reader knows what has to come next. */
struct writer {
    struct ts_record tasks[MOST_TASKS];
    struct ts_record groups[MOST_TASKS];
    struct ts_birth births[MOST_BIRTHS];
    struct ts_cgroup_change changes[MOST_CHANGES];
    uint32_t task;
    uint32_t birth;
    uint32_t change;
    int64_t drains;
};

/* Every third task has a group, and some groups are alone. */
static void fill(struct writer *writer, struct ts_sink *sink, uint32_t *random)
{
    uint32_t n = check_random(random) % (MOST_TASKS + 1);

    *sink = (struct ts_sink){
        .tasks = writer->tasks,
        .groups = writer->groups,
        .capacity = MOST_TASKS,
        .births = writer->births,
        .changes = writer->changes,
    };
    for (uint32_t i = 0; i < n; i++) {
        struct ts_record *task = &writer->tasks[sink->n_tasks];
        *task = (struct ts_record){.id = writer->task + i, .row = UINT32_MAX};
        if (task->id % 3 == 0) {
            struct ts_record *group = &writer->groups[sink->n_groups];
            *group = (struct ts_record){.id = task->id, .flags = TS_PAIRED, .row = i};
            task->flags = TS_PAIRED;
            task->row = sink->n_groups++;
        }
        task->final_cpu_ns = task->id * 3ull;
        sink->n_tasks++;
    }
    sink->n_births = check_random(random) % 3 ? 0 : check_random(random) % (MOST_BIRTHS + 1);
    for (uint32_t i = 0; i < sink->n_births; i++)
        writer->births[i] = (struct ts_birth){.pid = writer->birth + i};
    sink->n_changes = check_random(random) % 7 ? 0 : check_random(random) % (MOST_CHANGES + 1);
    for (uint32_t i = 0; i < sink->n_changes; i++)
        writer->changes[i] = (struct ts_cgroup_change){.id = writer->change + i};
    sink->births_lost = (uint64_t)writer->drains;
    sink->emptied_ns = check_random(random) % 2 ? writer->drains + 1 : 0;
}

static void sent(struct writer *writer, const struct ts_sink *sink)
{
    writer->task += sink->n_tasks;
    writer->birth += sink->n_births;
    writer->change += sink->n_changes;
    writer->drains++;
}

struct reader {
    struct ts_record *tasks;
    struct ts_record *groups;
    struct ts_birth *births;
    struct ts_cgroup_change *changes;
    uint32_t task;
    uint32_t birth;
    uint32_t change;
    int64_t emptied_ns;
};

static void check_rows(const struct ts_sink *sink, struct reader *reader)
{
    uint32_t groups = 0;

    for (uint32_t i = 0; i < sink->n_tasks; i++) {
        const struct ts_record *task = &sink->tasks[i];
        CHECK(task->id == reader->task++);
        CHECK(task->final_cpu_ns == task->id * 3ull);
        if (task->id % 3 || !sink->groups) {
            CHECK(!(task->flags & TS_PAIRED) && task->row == UINT32_MAX);
            continue;
        }
        CHECK(task->flags & TS_PAIRED && task->row == groups++);
        CHECK(sink->groups[task->row].id == task->id && sink->groups[task->row].row == i);
    }
    CHECK(sink->n_groups == groups);
    for (uint32_t i = 0; sink->births && i < sink->n_births; i++)
        CHECK(sink->births[i].pid == reader->birth++);
    for (uint32_t i = 0; sink->changes && i < sink->n_changes; i++)
        CHECK(sink->changes[i].id == reader->change++);
    CHECK(sink->emptied_ns >= reader->emptied_ns);
    reader->emptied_ns = sink->emptied_ns;
}

/* Into a sink of some size, exactly allocated. Returns whether it lacked room for events. */
static int take(struct ts_buffer *buffer, struct reader *reader, uint32_t capacity,
                uint32_t events)
{
    struct ts_sink sink = {
        .tasks = check_alloc(capacity * sizeof(struct ts_record)),
        .groups = check_alloc(capacity * sizeof(struct ts_record)),
        .capacity = capacity,
        .births = check_alloc(events * sizeof(struct ts_birth)),
        .room_births = events,
        .changes = check_alloc(events * sizeof(struct ts_cgroup_change)),
        .room_changes = events,
    };
    int full = ts_buffer_take(buffer, &sink);

    check_rows(&sink, reader);
    CHECK(full || sink.n_tasks == capacity || ts_buffer_is_empty(buffer));
    CHECK(!full || sink.n_births == events || sink.n_changes == events);
    free(sink.tasks);
    free(sink.groups);
    free(sink.births);
    free(sink.changes);
    return full;
}

static void take_all(struct ts_buffer *buffer, struct reader *reader)
{
    while (!ts_buffer_is_empty(buffer))
        take(buffer, reader, 1000, 1000);
}

static void run(uint32_t seed)
{
    static struct writer writer;
    struct reader reader = {0};
    struct ts_buffer buffer;
    struct ts_sink sink;
    uint32_t random = seed;
    uint64_t bytes = TS_LEAST_BUFFER + check_random(&random) % (4u << 20);

    memset(&writer, 0, sizeof(writer));
    most_in_use = 0;
    CHECK(ts_buffer_open(&buffer, bytes, get, put_back) == 0);
    CHECK(in_use == 1 && ts_buffer_is_empty(&buffer));
    for (unsigned i = 0; i < STEPS; i++) {
        uint32_t capacity = 1 + check_random(&random) % 60;
        uint32_t events = 1 + check_random(&random) % 40;

        fill(&writer, &sink, &random);
        out_of_memory = check_random(&random) % 16 == 0;
        if (sink.n_tasks + sink.n_births + sink.n_changes == 0)
            ts_buffer_note(&buffer, &sink);
        else if (ts_buffer_put(&buffer, &sink))
            sent(&writer, &sink);
        else
            CHECK(!ts_buffer_is_empty(&buffer)); /* an empty one has room */
        out_of_memory = 0;
        CHECK(buffer.used <= bytes && buffer.most_used >= buffer.used);
        CHECK(buffer.waiting == writer.task - reader.task);
        CHECK(in_use == buffer.n_chunks && in_use * buffer.chunk_size <= bytes);
        if (check_random(&random) % (1 + seed % 4) == 0)
            take(&buffer, &reader, capacity, events);
        if (seed % 5 == 0 && check_random(&random) % 40 == 0)
            take_all(&buffer, &reader);
    }
    take_all(&buffer, &reader);
    CHECK(reader.task == writer.task && reader.birth == writer.birth);
    CHECK(reader.change == writer.change);
    CHECK(buffer.used == 0 && buffer.waiting == 0 && in_use == 1);
    ts_buffer_close(&buffer);
    CHECK(in_use == 0);
}

/* It fills up to its size, keeps what it has, and goes on when something was taken. */
static void check_full(void)
{
    static struct writer writer;
    struct reader reader = {0};
    struct ts_buffer buffer;
    struct ts_sink sink;
    uint32_t random = 1;

    memset(&writer, 0, sizeof(writer));
    CHECK(ts_buffer_open(&buffer, TS_LEAST_BUFFER, get, put_back) == 0);
    for (fill(&writer, &sink, &random); ts_buffer_put(&buffer, &sink);
         fill(&writer, &sink, &random))
        sent(&writer, &sink);
    CHECK(buffer.used > TS_LEAST_BUFFER * 3 / 4);
    CHECK(!ts_buffer_put(&buffer, &sink));
    while (!ts_buffer_put(&buffer, &sink))
        take(&buffer, &reader, 10, 10);
    sent(&writer, &sink);
    take_all(&buffer, &reader);
    CHECK(reader.task == writer.task);
    ts_buffer_close(&buffer);
    out_of_memory = 1;
    CHECK(ts_buffer_open(&buffer, TS_LEAST_BUFFER, get, put_back) < 0);
    out_of_memory = 0;
    ts_buffer_close(&buffer);
}

/* A sink that takes tasks alone. */
static void check_tasks_alone(void)
{
    static struct writer writer;
    struct reader reader = {0};
    struct ts_record rows[7];
    struct ts_buffer buffer;
    struct ts_sink sink;
    uint32_t random = 3;

    memset(&writer, 0, sizeof(writer));
    CHECK(ts_buffer_open(&buffer, TS_LEAST_BUFFER, get, put_back) == 0);
    for (int i = 0; i < 10; i++) {
        fill(&writer, &sink, &random);
        CHECK(ts_buffer_put(&buffer, &sink));
        sent(&writer, &sink);
    }
    while (!ts_buffer_is_empty(&buffer)) {
        sink = (struct ts_sink){.tasks = rows, .capacity = 7};
        CHECK(ts_buffer_take(&buffer, &sink) == 0);
        check_rows(&sink, &reader);
    }
    CHECK(reader.task == writer.task);
    ts_buffer_close(&buffer);
}

/* A drain that brought nothing: what it says is true once all before it was taken. */
static void check_notes(void)
{
    struct ts_record row = {.id = 0, .row = UINT32_MAX};
    struct ts_sink brought = {.tasks = &row, .n_tasks = 1, .emptied_ns = 5};
    struct ts_sink nothing = {.emptied_ns = 7, .births_lost = 2};
    struct ts_record rows[2];
    struct ts_sink sink = {.tasks = rows, .capacity = 2};
    struct ts_buffer buffer;

    CHECK(ts_buffer_open(&buffer, TS_LEAST_BUFFER, get, put_back) == 0);
    ts_buffer_take(&buffer, &sink);
    CHECK(sink.emptied_ns == 0);
    CHECK(ts_buffer_put(&buffer, &brought));
    ts_buffer_note(&buffer, &nothing);
    ts_buffer_take(&buffer, &sink);
    CHECK(sink.n_tasks == 1 && sink.emptied_ns == 7 && sink.births_lost == 2);
    nothing.emptied_ns = 9;
    ts_buffer_note(&buffer, &nothing);
    ts_buffer_take(&buffer, &sink);
    CHECK(sink.n_tasks == 1 && sink.emptied_ns == 9);
    nothing.emptied_ns = 0; /* which left something behind: nothing new is known */
    ts_buffer_note(&buffer, &nothing);
    ts_buffer_take(&buffer, &sink);
    CHECK(sink.emptied_ns == 9);
    ts_buffer_close(&buffer);
}

/* A parcel that is taken in parts: what was lost is told with the first, since births come
 * before rows. */
static void check_losses(void)
{
    struct ts_record two[2] = {{.id = 0, .row = UINT32_MAX}, {.id = 1, .row = UINT32_MAX}};
    struct ts_sink brought = {.tasks = two, .n_tasks = 2, .births_lost = 3};
    struct ts_record row;
    struct ts_sink sink = {.tasks = &row, .capacity = 1};
    struct ts_buffer buffer;

    CHECK(ts_buffer_open(&buffer, TS_LEAST_BUFFER, get, put_back) == 0);
    CHECK(ts_buffer_put(&buffer, &brought));
    ts_buffer_take(&buffer, &sink);
    CHECK(sink.n_tasks == 1 && sink.births_lost == 3);
    ts_buffer_close(&buffer);
}

int main(void)
{
    check_losses();
    check_full();
    check_tasks_alone();
    check_notes();
    for (uint32_t seed = 1; seed <= RUNS; seed++)
        run(seed);
    printf("buffer: %lu checks\n", checks);
    return 0;
}
