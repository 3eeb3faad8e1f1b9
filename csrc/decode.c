/* Datagram -> records. Pure.
 *
 * The layout of a message is that of kernel/taskstats.c:mk_reply: an aggregate
 * for the task, another for its group, each nesting an id and the struct. */
#include "decode.h"

#include <errno.h>
#include <string.h>

#include "abi.h"

/* One aggregate, found but not yet copied. */
struct aggregate {
    const uint8_t *stats; /* NULL: the message has none of this kind */
    size_t size;
    uint32_t id;
};

static int refuse(struct ts_sink *sink, enum ts_reason why)
{
    sink->reason = why;
    return -EBADMSG;
}

/* Unknown attributes are skipped, TASKSTATS_TYPE_NULL (padding) among them. */
static int open_aggregate(const struct nl_attribute *nest, uint16_t id_type,
                          struct aggregate *aggregate)
{
    const uint8_t *at = nest->value;
    size_t left = nest->size;
    struct nl_attribute attribute;
    int have_id = 0;
    int more;

    if (aggregate->stats)
        return -EBADMSG; /* a second one of the same kind */
    while ((more = nl_attribute_next(&at, &left, &attribute)) == 1) {
        if (attribute.type == id_type) {
            if (have_id || attribute.size != sizeof(aggregate->id))
                return -EBADMSG;
            memcpy(&aggregate->id, attribute.value, sizeof(aggregate->id));
            have_id = 1;
        } else if (attribute.type == TS_TYPE_STATS) {
            if (aggregate->stats || attribute.size < sizeof(uint16_t))
                return -EBADMSG;
            aggregate->stats = attribute.value;
            aggregate->size = attribute.size;
        }
    }
    return more == 0 && have_id && aggregate->stats ? 0 : -EBADMSG;
}

static int find_aggregates(const struct nl_message *message, struct aggregate *task,
                           struct aggregate *group)
{
    const uint8_t *at = message->attrs;
    size_t left = message->size;
    struct nl_attribute attribute;
    int more;

    while ((more = nl_attribute_next(&at, &left, &attribute)) == 1) {
        int rc = 0;
        if (attribute.type == TS_TYPE_AGGR_PID)
            rc = open_aggregate(&attribute, TS_TYPE_PID, task);
        else if (attribute.type == TS_TYPE_AGGR_TGID)
            rc = open_aggregate(&attribute, TS_TYPE_TGID, group);
        if (rc < 0)
            return rc;
    }
    return more == 0 && (task->stats || group->stats) ? 0 : -EBADMSG;
}

/* Without an elapsed time (cut off, or not summed for a group) there is nothing
 * to judge by. */
static int delay_exceeds(const struct ts_stats *stats)
{
    /* ac_etime is whole microseconds, rounded down. */
    uint64_t limit =
        stats->ac_etime < UINT64_MAX / 1000 ? (stats->ac_etime + 1) * 1000 : UINT64_MAX;

    if (stats->ac_etime == 0)
        return 0;
    return stats->cpu_delay_total > limit || stats->blkio_delay_total > limit ||
           stats->swapin_delay_total > limit || stats->freepages_delay_total > limit ||
           stats->thrashing_delay_total > limit || stats->compact_delay_total > limit ||
           stats->wpcopy_delay_total > limit || stats->irq_delay_total > limit;
}

/* A group whose times are zero: either the kernel predates their sums, or it
 * kept nothing (a zombie that never had a second thread). */
static unsigned group_flags(const struct ts_stats *stats)
{
    if (stats->ac_etime)
        return 0;
    if (stats->cpu_count || stats->cpu_run_virtual_total || stats->cpu_run_real_total)
        return TS_NO_TIMES;
    return TS_NO_TIMES | TS_NO_SUMS;
}

/* ---- making rows ---- */

static void set_header(struct ts_record *row, const struct aggregate *from, unsigned version,
                       uint32_t seq, enum ts_kind kind)
{
    row->id = from->id;
    row->version = (uint16_t)version;
    row->size = (uint16_t)from->size; /* an nla_len is 16 bits */
    row->kind = (uint8_t)kind;
    row->cpu = TS_NO_CPU;
    row->seq = seq;
    row->lost_before = 0;
    row->row = TS_NO_ROW;
    row->received_ns = 0;
    row->pad_header = 0;
    row->final_cpu_ns = row->start_ns = row->cgroup_id = 0;
}

static void judge_task(struct ts_record *row, unsigned exit)
{
    row->flags = (uint8_t)(exit | (row->stats.ac_flag & TS_AGROUP ? TS_LAST : 0) |
                           (delay_exceeds(&row->stats) ? TS_DELAY_EXCEEDS : 0));
}

/* A live group's elapsed time may leave out threads that are dead while its
 * delays count them, so only a finished one can be judged. */
static void judge_group(struct ts_record *row, unsigned exit)
{
    row->flags = (uint8_t)(exit | group_flags(&row->stats));
    if (exit && delay_exceeds(&row->stats))
        row->flags |= TS_DELAY_EXCEEDS;
}

static struct ts_record *append_group(struct ts_sink *sink, const struct aggregate *group,
                                      unsigned version, uint32_t seq, unsigned exit)
{
    struct ts_record *row = &sink->groups[sink->n_groups++];

    set_header(row, group, version, seq, TS_GROUP);
    ts_layout_convert(&row->stats, group->stats, group->size, version);
    judge_group(row, exit);
    return row;
}

/* The last task and the last group of the sink came together. */
static void pair(struct ts_sink *sink)
{
    struct ts_record *task = &sink->tasks[sink->n_tasks - 1];
    struct ts_record *group = &sink->groups[sink->n_groups - 1];

    task->flags |= TS_PAIRED;
    group->flags |= TS_PAIRED;
    task->row = sink->n_groups - 1;
    group->row = sink->n_tasks - 1;
}

static int has_room(const struct ts_record *rows, uint32_t used, const struct ts_sink *sink)
{
    return rows && used < sink->capacity;
}

/* ---- a message ---- */

int ts_decode_message(const struct nl_message *message, struct ts_sink *sink)
{
    struct aggregate task = {0};
    struct aggregate group = {0};
    unsigned exit = message->port == 0 ? TS_EXIT : 0; /* replies carry our port */
    uint16_t version;

    if (message->type <= GENL_ID_CTRL || message->command != TS_CMD_NEW)
        return refuse(sink, TS_UNEXPECTED);
    if (find_aggregates(message, &task, &group) < 0)
        return refuse(sink, TS_ATTRIBUTE);
    /* A group's own version is 0 on kernels before "taskstats: set version in
     * TGID exit notifications". */
    memcpy(&version, task.stats ? task.stats : group.stats, sizeof(version));
    if (version < TS_OLDEST_VERSION)
        return refuse(sink, TS_VERSION);
    if ((task.stats && !has_room(sink->tasks, sink->n_tasks, sink)) ||
        (group.stats && !has_room(sink->groups, sink->n_groups, sink)))
        return refuse(sink, TS_ROOM);

    if (task.stats) {
        struct ts_record *row = &sink->tasks[sink->n_tasks++];
        set_header(row, &task, version, message->seq, TS_TASK);
        ts_layout_convert(&row->stats, task.stats, task.size, version);
        judge_task(row, exit);
    }
    if (group.stats)
        append_group(sink, &group, version, message->seq, exit);
    if (task.stats && group.stats)
        pair(sink);
    return (task.stats != NULL) + (group.stats != NULL);
}

/* ---- records that are received straight into their rows ---- */

/* Where these stand in a datagram: nlmsghdr, genlmsghdr, the aggregate's header,
 * the id's attribute, then perhaps padding, then the struct's header. */
enum { AT_LENGTH = 0, AT_TYPE = 4, AT_SEQ = 8, AT_PORT = 12, AT_NEST = 20, AT_ID = 28 };
enum { AFTER_ID = 32 };

static uint32_t load32(const uint8_t *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof(value));
    return value;
}

const uint8_t *ts_datagram_head(const struct ts_datagram *datagram,
                                const struct ts_shape *shape)
{
    return (const uint8_t *)&datagram->row->stats - shape->head_size;
}

int ts_shape_learn(struct ts_shape *shape, const uint8_t *datagram, size_t size)
{
    const uint8_t *at = datagram;
    struct nl_message message;
    struct aggregate task = {0};
    struct aggregate group = {0};
    enum ts_reason reason;

    if (nl_message_next(&at, &size, &message, &reason) != 1 || size != 0 || !message.attrs ||
        find_aggregates(&message, &task, &group) < 0 || !task.stats)
        return 0;
    size_t head_size = (size_t)(task.stats - datagram);
    uint16_t nest_size;
    memcpy(&nest_size, datagram + AT_NEST, sizeof(nest_size));
    memcpy(&shape->version, task.stats, sizeof(shape->version));
    if (head_size <= AFTER_ID || head_size > TS_HEAD || task.size % 4 != 0 ||
        nest_size != head_size - AT_NEST + task.size || load32(datagram + AT_ID) != task.id ||
        !ts_layout_is_newest(task.size, shape->version))
        return 0;
    shape->head_size = (uint32_t)head_size;
    shape->size = (uint32_t)task.size;
    memcpy(shape->head, datagram, head_size);
    return 1;
}

/* All but length, number and id are as in the shape. */
static int has_shape(const struct ts_shape *shape, const struct ts_datagram *datagram)
{
    const uint8_t *head = ts_datagram_head(datagram, shape);
    uint32_t differ = datagram->size < shape->head_size + shape->size;

    differ |= load32(head + AT_LENGTH) ^ (uint32_t)datagram->size;
    differ |= load32(head + AT_TYPE) ^ load32(shape->head + AT_TYPE);
    for (size_t at = AT_PORT; at < AT_ID; at += 4)
        differ |= load32(head + at) ^ load32(shape->head + at);
    for (size_t at = AFTER_ID; at < shape->head_size; at += 4)
        differ |= load32(head + at) ^ load32(shape->head + at);
    return differ == 0 && datagram->row->stats.version == shape->version;
}

/* What comes after the first struct: nothing, or a group. */
static int open_rest(const struct ts_shape *shape, const struct ts_datagram *datagram,
                     struct aggregate *group)
{
    struct nl_message rest = {
        .attrs = datagram->rest,
        .size = datagram->size - shape->head_size - shape->size,
    };
    struct aggregate task = {0};

    if (rest.size == 0)
        return 0;
    return find_aggregates(&rest, &task, group) < 0 || task.stats ? -EBADMSG : 0;
}

int ts_decode_cut(const struct ts_shape *shape, const struct ts_datagram *datagram,
                  struct ts_sink *sink)
{
    const uint8_t *head = ts_datagram_head(datagram, shape);
    uint32_t seq = load32(head + AT_SEQ);
    struct aggregate task = {.size = shape->size, .id = load32(head + AT_ID)};
    struct aggregate group = {0};
    unsigned exit = load32(shape->head + AT_PORT) == 0 ? TS_EXIT : 0;
    struct ts_record *row = &sink->tasks[sink->n_tasks];

    if (!has_shape(shape, datagram) || open_rest(shape, datagram, &group) < 0 ||
        (group.stats && !has_room(sink->groups, sink->n_groups, sink)))
        return 0;
    if (row != datagram->row)
        memcpy(&row->stats, &datagram->row->stats, shape->size);
    memset((uint8_t *)&row->stats + shape->size, 0, sizeof(row->stats) - shape->size);
    set_header(row, &task, shape->version, seq, TS_TASK);
    judge_task(row, exit);
    sink->n_tasks++;
    if (!group.stats)
        return 1;
    append_group(sink, &group, shape->version, seq, exit);
    pair(sink);
    return 2;
}

/* ---- a datagram ---- */

int ts_decode(const void *datagram, size_t size, struct ts_sink *sink)
{
    const uint8_t *at = datagram;
    size_t left = size;
    uint32_t n_tasks = sink->n_tasks;
    uint32_t n_groups = sink->n_groups;
    struct nl_message message;
    enum ts_reason reason = TS_LENGTH;
    int more = size ? 1 : -EBADMSG;
    int rc = 0;
    int n = 0;

    sink->reason = TS_ACCEPTED;
    while (more == 1 && (more = nl_message_next(&at, &left, &message, &reason)) == 1) {
        if (message.type == NLMSG_ERROR) {
            rc = message.error;
            if (rc < 0)
                sink->reason = TS_ANSWER;
        } else if (message.type == NLMSG_NOOP || message.type == NLMSG_DONE) {
            rc = 0;
        } else {
            rc = ts_decode_message(&message, sink);
        }
        if (rc < 0)
            break;
        n += rc;
    }
    if (more < 0)
        rc = refuse(sink, reason);
    if (rc < 0) {
        sink->n_tasks = n_tasks;
        sink->n_groups = n_groups;
        return rc;
    }
    return n;
}
