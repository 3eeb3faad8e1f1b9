/* What layout.c, netlink.c and decode.c make of their input, told again: slowly, member by
 * member, from tests/data/fields.tsv. */
#include "reference.h"

#include <errno.h>
#include <string.h>

struct member {
    const char *name;
    size_t at;
    size_t size;
    int at_15;
    unsigned since;
};

static const struct member members[] = {
#define X(name, at, size, at_15, since) {#name, at, size, at_15, since},
#include "members.inc"
#undef X
};
#define MEMBERS (sizeof(members) / sizeof(members[0]))

/* ---- the struct ---- */

size_t reference_size(unsigned version)
{
    size_t end = 0;

    for (size_t i = 0; i < MEMBERS; i++)
        if (members[i].since <= version && members[i].at + members[i].size > end)
            end = members[i].at + members[i].size;
    return (end + 7) / 8 * 8;
}

/* Release candidates of 6.14 had it under version 14, for a while without the minima. */
static int has_maxima_alone(unsigned version, size_t size)
{
    return version == 14 && size == 496;
}

int reference_has_moved(unsigned version, size_t size)
{
    return version == 15 || has_maxima_alone(version, size) || (version == 14 && size == 560);
}

static int is_minimum(const struct member *member)
{
    size_t length = strlen(member->name);

    return length > 4 && strcmp(member->name + length - 4, "_min") == 0;
}

/* Where such a struct has a member, if it were long enough; -1: nowhere. */
static int find(const struct member *member, unsigned version, size_t size)
{
    int at = member->at_15;

    if (!reference_has_moved(version, size)) {
        if (member->since > version || (member->since == 17 && size < reference_size(17)))
            return -1;
        return (int)member->at;
    }
    if (!has_maxima_alone(version, size) || at < 0)
        return at;
    if (is_minimum(member))
        return -1;
    for (size_t i = 0; i < MEMBERS; i++)
        if (is_minimum(&members[i]) && members[i].at_15 < member->at_15)
            at -= 8;
    return at;
}

static int is_all_zero(const uint8_t *at, size_t size)
{
    while (size--)
        if (*at++)
            return 0;
    return 1;
}

/* What no member takes, up to the next. */
static int is_gap_clean(const uint8_t *row, size_t i, const uint8_t *sent, size_t size,
                        unsigned version)
{
    size_t from = members[i].at + members[i].size;
    size_t to = i + 1 < MEMBERS ? members[i + 1].at : sizeof(struct ts_stats);
    int at = find(&members[i], version, size);
    size_t behind = at < 0 ? size : (size_t)at + members[i].size;

    if (is_all_zero(row + from, to - from))
        return 1;
    return behind + (to - from) <= size && memcmp(row + from, sent + behind, to - from) == 0;
}

int reference_is_converted(const struct ts_stats *row, const uint8_t *sent, size_t size,
                           unsigned version)
{
    const uint8_t *bytes = (const uint8_t *)row;

    for (size_t i = 0; i < MEMBERS; i++) {
        const struct member *member = &members[i];
        int at = find(member, version, size);

        if (at >= 0 && (size_t)at + member->size <= size) {
            if (memcmp(bytes + member->at, sent + at, member->size) != 0)
                return 0;
        } else if (!is_all_zero(bytes + member->at, member->size)) {
            return 0;
        }
        if (!is_gap_clean(bytes, i, sent, size, version))
            return 0;
    }
    return 1;
}

/* ---- a datagram, by numbers ---- */

struct piece {
    const uint8_t *at;
    size_t size;
};

static uint16_t number16(struct piece piece, size_t at)
{
    uint16_t value;

    memcpy(&value, piece.at + at, 2);
    return value;
}

static uint32_t number32(struct piece piece, size_t at)
{
    uint32_t value;

    memcpy(&value, piece.at + at, 4);
    return value;
}

/* The one attribute of this type; how many there are, or -1 if a length is wrong. */
static int select_attribute(struct piece in, unsigned type, struct piece *found)
{
    int n = 0;

    for (size_t at = 0; at < in.size;) {
        size_t length;

        if (in.size - at < 4)
            return -1;
        length = number16(in, at);
        if (length < 4 || length > in.size - at)
            return -1;
        if ((number16(in, at + 2) & 0x3fff) == type) {
            *found = (struct piece){in.at + at + 4, length - 4};
            n++;
        }
        at += (length + 3) / 4 * 4;
    }
    return n;
}

enum ts_reason reference_reason(const uint8_t *message, size_t left)
{
    struct piece in = {message, left};
    uint32_t length;
    uint32_t swapped;
    int32_t error;

    if (left < 16)
        return left ? TS_LENGTH : TS_ACCEPTED;
    length = number32(in, 0);
    swapped = length << 24 | (length & 0xff00) << 8 | (length >> 8 & 0xff00) | length >> 24;
    if (length < 16 || length > left)
        return swapped >= 16 && swapped <= left ? TS_BYTE_ORDER : TS_LENGTH;
    if (number16(in, 4) != 2)
        return number16(in, 4) >= 0x10 && length < 20 ? TS_LENGTH : TS_ACCEPTED;
    if (length < 20)
        return TS_LENGTH;
    error = (int32_t)number32(in, 16);
    return error > 0 || error < -4095 ? TS_UNEXPECTED : TS_ACCEPTED;
}

/* The last one counts, if there are several before what is wrong. */
uint16_t reference_family(const uint8_t *message, size_t size)
{
    struct piece in = {message, size};
    uint16_t id = 0;

    if (size < 20 || number16(in, 4) != 0x10 || message[16] != 1)
        return 0;
    for (size_t at = 20; size >= at + 4;) {
        size_t length = number16(in, at);
        if (length < 4 || length > size - at)
            break;
        if ((number16(in, at + 2) & 0x3fff) == 1 && length == 6)
            id = number16(in, at + 4);
        at += (length + 3) / 4 * 4;
    }
    return id;
}

/* Returns 1, 0 if there is none of this kind, -1 if it is wrong. */
static int tell(struct piece attributes, int kind, struct told *told)
{
    struct piece nest;
    struct piece id;
    struct piece stats;
    int n = select_attribute(attributes, kind == TS_TASK ? 4 : 5, &nest);

    if (n != 1)
        return n == 0 ? 0 : -1;
    if (select_attribute(nest, kind == TS_TASK ? 1 : 2, &id) != 1 || id.size != 4 ||
        select_attribute(nest, 3, &stats) != 1 || stats.size < 2)
        return -1;
    told->kind = kind;
    told->id = number32(id, 0);
    told->version = number16(stats, 0);
    told->stats = stats.at;
    told->size = stats.size;
    return 1;
}

static int tell_message(struct piece message, struct told *told, int room)
{
    struct piece attributes = {message.at + 20, message.size - 20};
    struct told found[2] = {{0}};
    int n_tasks;
    int n_groups;

    if (message.size < 20 || number16(message, 4) <= 0x10 || message.at[16] != 2)
        return -EBADMSG;
    n_tasks = tell(attributes, TS_TASK, &found[0]);
    n_groups = tell(attributes, TS_GROUP, &found[n_tasks > 0]);
    if (n_tasks < 0 || n_groups < 0 || n_tasks + n_groups == 0 || found[0].version < 4 ||
        n_tasks + n_groups > room)
        return -EBADMSG;
    for (int i = 0; i < n_tasks + n_groups; i++) {
        told[i] = found[i];
        told[i].seq = number32(message, 8);
        told[i].exit = number32(message, 12) == 0;
        told[i].paired = n_tasks + n_groups == 2;
        told[i].version = found[0].version; /* of a pair both are of the task's */
    }
    return n_tasks + n_groups;
}

int reference_decode(const uint8_t *datagram, size_t size, struct told *told, int room)
{
    int n = 0;

    if (size == 0)
        return -EBADMSG;
    for (size_t at = 0; at < size;) {
        struct piece message = {datagram + at, size - at};
        unsigned type;

        if (message.size < 16 || number32(message, 0) < 16 ||
            number32(message, 0) > message.size)
            return -EBADMSG;
        message.size = number32(message, 0);
        type = number16(message, 4);
        if (type >= 0x10 && message.size < 20)
            return -EBADMSG;
        if (type == 2) { /* an error, or an ACK */
            int32_t error = message.size < 20 ? 1 : (int32_t)number32(message, 16);
            if (error > 0 || error < -4095)
                return -EBADMSG;
            if (error < 0)
                return error;
        } else if (type != 1 && type != 3) {
            int found = tell_message(message, told + n, room - n);
            if (found < 0)
                return found;
            n += found;
        }
        at += (message.size + 3) / 4 * 4;
    }
    return n;
}

/* ---- a row ---- */

/* 1,000 ns a microsecond; ac_etime is rounded down. */
static int is_longer(uint64_t delay, uint64_t etime)
{
    return etime && delay && (delay - 1) / 1000 > etime;
}

static unsigned flags_of(const struct ts_stats *s, const struct told *told)
{
    unsigned flags = 0;
    int group = told->kind == TS_GROUP;

    if (told->exit)
        flags |= TS_EXIT;
    if (told->paired)
        flags |= TS_PAIRED;
    if (!group && s->ac_flag & 0x20)
        flags |= TS_LAST;
    if (group && s->ac_etime == 0)
        flags |= TS_NO_TIMES;
    if (group && s->ac_etime == 0 && s->cpu_count == 0 && s->cpu_run_virtual_total == 0 &&
        s->cpu_run_real_total == 0)
        flags |= TS_NO_SUMS;
    if ((!group || told->exit) && (is_longer(s->cpu_delay_total, s->ac_etime) ||
                                   is_longer(s->blkio_delay_total, s->ac_etime) ||
                                   is_longer(s->swapin_delay_total, s->ac_etime) ||
                                   is_longer(s->freepages_delay_total, s->ac_etime) ||
                                   is_longer(s->thrashing_delay_total, s->ac_etime) ||
                                   is_longer(s->compact_delay_total, s->ac_etime) ||
                                   is_longer(s->wpcopy_delay_total, s->ac_etime) ||
                                   is_longer(s->irq_delay_total, s->ac_etime)))
        flags |= TS_DELAY_EXCEEDS;
    return flags;
}

int reference_is_row(const struct ts_record *row, const struct told *told)
{
    return row->id == told->id && row->version == told->version && row->size == told->size &&
           row->kind == told->kind && row->cpu == 0xffff && row->seq == told->seq &&
           row->lost_before == 0 && row->received_ns == 0 && row->pad_header == 0 &&
           (told->paired || row->row == 0xffffffff) &&
           reference_is_converted(&row->stats, told->stats, told->size, told->version) &&
           row->flags == flags_of(&row->stats, told);
}
