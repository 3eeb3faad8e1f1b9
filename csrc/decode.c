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
        stats->ac_etime < UINT64_MAX / 1000 - 1 ? (stats->ac_etime + 1) * 1000 : UINT64_MAX;

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

static struct ts_record *append(struct ts_record *row, const struct aggregate *from,
                                unsigned version, enum ts_kind kind)
{
    row->id = from->id;
    row->version = (uint16_t)version;
    row->size = (uint16_t)from->size; /* an nla_len is 16 bits */
    row->kind = (uint8_t)kind;
    row->flags = 0;
    row->cpu = TS_NO_CPU;
    row->lost_before = 0;
    row->row = TS_NO_ROW;
    row->received_ns = 0;
    ts_layout_convert(&row->stats, from->stats, from->size, version);
    return row;
}

int ts_decode_message(const struct nl_message *message, struct ts_sink *sink)
{
    struct aggregate task = {0};
    struct aggregate group = {0};
    struct ts_record *task_row = NULL;
    struct ts_record *group_row = NULL;
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
    if ((task.stats && (!sink->tasks || sink->n_tasks == sink->capacity)) ||
        (group.stats && (!sink->groups || sink->n_groups == sink->capacity)))
        return refuse(sink, TS_ROOM);

    if (task.stats) {
        task_row = append(&sink->tasks[sink->n_tasks], &task, version, TS_TASK);
        task_row->seq = message->seq;
        task_row->flags = (uint8_t)(exit | (task_row->stats.ac_flag & TS_AGROUP ? TS_LAST : 0) |
                                    (delay_exceeds(&task_row->stats) ? TS_DELAY_EXCEEDS : 0));
    }
    if (group.stats) {
        group_row = append(&sink->groups[sink->n_groups], &group, version, TS_GROUP);
        group_row->seq = message->seq;
        group_row->flags = (uint8_t)(exit | group_flags(&group_row->stats));
        /* A live group's elapsed time may leave out threads that are dead while
         * its delays count them, so only a finished one can be judged. */
        if (exit && delay_exceeds(&group_row->stats))
            group_row->flags |= TS_DELAY_EXCEEDS;
    }
    if (task_row && group_row) {
        task_row->flags |= TS_PAIRED;
        group_row->flags |= TS_PAIRED;
        task_row->row = sink->n_groups;
        group_row->row = sink->n_tasks;
    }
    sink->n_tasks += task_row != NULL;
    sink->n_groups += group_row != NULL;
    return (task_row != NULL) + (group_row != NULL);
}

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
