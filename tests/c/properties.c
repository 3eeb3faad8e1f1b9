/* What holds of any datagram and of any struct: layout.c, netlink.c and decode.c. */
#include "properties.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "abi.h"
#include "check.h"
#include "decode.h"
#include "reference.h"

/* ---- layout ---- */

void check_layout(const uint8_t *sent, size_t size, unsigned version)
{
    uint8_t *exact = check_copy(sent, size);
    struct ts_stats *row = check_alloc(sizeof(*row));

    memset(row, 0xa5, sizeof(*row));
    ts_layout_convert(row, exact, size, version);
    CHECK(reference_is_converted(row, exact, size, version));
    if (ts_layout_is_newest(size, version)) {
        struct ts_stats copied = {0};
        CHECK(!reference_has_moved(version, size) && size <= reference_size(version));
        memcpy(&copied, exact, size);
        CHECK(memcmp(row, &copied, sizeof(copied)) == 0);
    } else {
        CHECK(version < TS_OLDEST_VERSION || version > 17 ||
              reference_has_moved(version, size) || size != reference_size(version));
    }
    free(row);
    free(exact);
}

/* ---- netlink ---- */

static uint32_t number(const uint8_t *at)
{
    uint32_t value;

    memcpy(&value, at, sizeof(value));
    return value;
}

static void check_message(const uint8_t *at, size_t size, const struct nl_message *message)
{
    CHECK(message->seq == number(at + 8) && message->port == number(at + 12));
    if (message->attrs) {
        CHECK(message->type >= NLMSG_MIN_TYPE && message->command == at[16]);
        CHECK(message->attrs == at + 20 && message->size == size - 20);
    } else {
        CHECK(message->type < NLMSG_MIN_TYPE && message->size == 0);
    }
    if (message->type == NLMSG_ERROR)
        CHECK(message->error == (int32_t)number(at + 16) && message->error > -4096);
    else
        CHECK(message->error == 0);
    CHECK(nl_family_id(message) == reference_family(at, size));
}

void check_messages(const uint8_t *datagram, size_t size)
{
    uint8_t *exact = check_copy(datagram, size);
    const uint8_t *at = exact;
    size_t left = size;

    for (;;) {
        const uint8_t *start = at;
        enum ts_reason expected = reference_reason(at, left);
        enum ts_reason reason = TS_ACCEPTED;
        struct nl_message message;
        size_t length;
        int rc = nl_message_next(&at, &left, &message, &reason);

        CHECK(rc == (expected ? -EBADMSG : (size_t)(start - exact) < size));
        CHECK(reason == expected && (size_t)(at - exact) + left == size);
        if (rc != 1)
            break;
        length = number(start);
        check_message(start, length, &message);
        CHECK(at == start + (length + 3) / 4 * 4 || left == 0);
        CHECK(at >= start + length);
    }
    free(exact);
}

void check_request(const uint8_t *value, size_t size)
{
    struct nl_request request = {
        .family = 0x1f,
        .flags = NLM_F_ACK,
        .command = 1,
        .attribute = 3,
        .value = value,
        .size = size,
    };
    size_t whole = nl_request_size(size);
    uint8_t *written = check_alloc(whole);
    const uint8_t *at = written;
    size_t left = whole;
    struct nlmsghdr header;
    struct nl_message message;
    struct nl_attribute attribute;
    enum ts_reason reason;

    CHECK(whole % 4 == 0 && whole >= 24 + size && whole < 28 + size);
    memset(written, 0xa5, whole);
    nl_request_write(written, &request, 77);
    memcpy(&header, written, sizeof(header));
    CHECK(header.nlmsg_flags == (NLM_F_REQUEST | NLM_F_ACK));
    CHECK(written[17] == 1 && written[18] == 0 && written[19] == 0);
    CHECK(nl_message_next(&at, &left, &message, &reason) == 1 && left == 0);
    CHECK(message.type == 0x1f && message.command == 1 && message.seq == 77);
    CHECK(message.port == 0 && message.error == 0);
    CHECK(nl_attribute_next(&message.attrs, &message.size, &attribute) == 1);
    CHECK(attribute.type == 3 && attribute.size == size && message.size == 0);
    CHECK(size == 0 || memcmp(attribute.value, value, size) == 0);
    for (size_t i = 24 + size; i < whole; i++)
        CHECK(written[i] == 0);
    CHECK(nl_attribute_next(&message.attrs, &message.size, &attribute) == 0);
    free(written);
}

/* ---- a datagram ---- */

#define MOST 512 /* records of a datagram here */
#define LEAST 40 /* bytes of a message with one */

static int count(const struct told *told, int n, int kind)
{
    int found = 0;

    for (int i = 0; i < n; i++)
        found += told[i].kind == kind;
    return found;
}

static struct ts_sink make_sink(uint32_t capacity)
{
    struct ts_sink sink = {
        .tasks = check_alloc(capacity * sizeof(struct ts_record)),
        .groups = check_alloc(capacity * sizeof(struct ts_record)),
        .capacity = capacity,
    };

    if (capacity) {
        memset(sink.tasks, 0xa5, capacity * sizeof(struct ts_record));
        memset(sink.groups, 0xa5, capacity * sizeof(struct ts_record));
    }
    return sink;
}

static void free_sink(struct ts_sink *sink)
{
    free(sink->tasks);
    free(sink->groups);
}

static void check_rows(const struct ts_sink *sink, const struct told *told, int n)
{
    uint32_t task = 0;
    uint32_t group = 0;

    for (int i = 0; i < n; i++) {
        unsigned is_task = told[i].kind == TS_TASK;
        CHECK(reference_is_row(is_task ? &sink->tasks[task] : &sink->groups[group], &told[i]));
        if (told[i].paired && is_task) {
            CHECK(sink->tasks[task].row == group);
            CHECK(sink->groups[group].row == task);
        }
        task += is_task;
        group += !is_task;
    }
}

/* With one row too few, and with an array that is not there: nothing. */
static void check_room(const uint8_t *datagram, size_t size, const struct ts_sink *whole)
{
    uint32_t most = whole->n_tasks > whole->n_groups ? whole->n_tasks : whole->n_groups;
    struct ts_sink few = make_sink(most - 1);
    struct ts_sink none = {.capacity = most};

    CHECK(ts_decode(datagram, size, &few) == -EBADMSG && few.reason == TS_ROOM);
    CHECK(few.n_tasks == 0 && few.n_groups == 0);
    CHECK(ts_decode(datagram, size, &none) == -EBADMSG && none.reason == TS_ROOM);
    CHECK(none.n_tasks == 0 && none.n_groups == 0);
    free_sink(&few);
}

/* ---- a datagram that is cut as it is received ---- */

/* As receive.c does it: a datagram of this kernel into its row, the rest beside. What was
 * in the row before is the row of another record. */
static int check_cut(const struct ts_shape *shape, const uint8_t *datagram, size_t size,
                     uint32_t at, const struct ts_record *before)
{
    struct ts_sink whole = make_sink(2);
    struct ts_sink cut = make_sink(2);
    size_t first = shape->head_size + shape->size;
    size_t in_row = size < first ? size : first;
    uint8_t *rest = check_copy(datagram + in_row, size - in_row);
    struct ts_datagram received = {.row = &cut.tasks[at], .rest = rest, .size = size};
    int rc = ts_decode(datagram, size, &whole);
    int n;

    cut.tasks[at] = *before;
    CHECK(ts_datagram_head(&received, shape) ==
          (const uint8_t *)received.row + TS_HEAD - shape->head_size);
    memcpy((uint8_t *)received.row + TS_HEAD - shape->head_size, datagram, in_row);
    n = ts_decode_cut(shape, &received, &cut);
    if (n == 0) {
        CHECK(cut.n_tasks == 0 && cut.n_groups == 0);
    } else {
        CHECK(n == rc && cut.n_tasks == whole.n_tasks && cut.n_groups == whole.n_groups);
        CHECK(memcmp(cut.tasks, whole.tasks, whole.n_tasks * sizeof(*cut.tasks)) == 0);
        CHECK(memcmp(cut.groups, whole.groups, whole.n_groups * sizeof(*cut.groups)) == 0);
    }
    if (n == 2) { /* no room for its group: nothing */
        cut.tasks[at] = *before;
        memcpy((uint8_t *)received.row + TS_HEAD - shape->head_size, datagram, in_row);
        cut.n_tasks = 0;
        cut.n_groups = cut.capacity;
        CHECK(ts_decode_cut(shape, &received, &cut) == 0);
        CHECK(cut.n_tasks == 0 && cut.n_groups == cut.capacity);
    }
    free(rest);
    free_sink(&whole);
    free_sink(&cut);
    return n;
}

int check_received(const uint8_t *first, size_t first_size, const uint8_t *datagram,
                   size_t size)
{
    struct ts_shape *shape = check_alloc(sizeof(*shape));
    struct ts_record before;
    int n = 0;

    memset(&before, 0xa5, sizeof(before));
    if (ts_shape_learn(shape, first, first_size))
        n = check_cut(shape, datagram, size, 0, &before);
    free(shape);
    return n;
}

/* The kernel's next record may be like it, or differ in one byte, or be cut off. */
static void check_shape(const uint8_t *datagram, size_t size, const struct ts_sink *whole)
{
    struct ts_shape *shape = check_alloc(sizeof(*shape));
    uint8_t *other = check_copy(datagram, size);
    struct ts_record before = whole->tasks[0];
    uint32_t chosen = 1 + (uint32_t)size; /* which byte; another for other bytes */

    for (size_t i = 0; i < size; i++)
        chosen = chosen * 31 + datagram[i];
    check_random(&chosen);
    if (ts_shape_learn(shape, datagram, size)) {
        size_t places = shape->head_size + (chosen & 1 ? 4 : shape->size);
        size_t at = (chosen >> 8) % (places < size ? places : size);

        CHECK(shape->head_size <= TS_HEAD && shape->head_size + shape->size <= size);
        memset((uint8_t *)&before.stats + shape->size, 0xa5,
               sizeof(before.stats) - shape->size);
        if (shape->head_size + shape->size == size)
            CHECK(check_cut(shape, datagram, size, 0, &whole->tasks[0]) == 1);
        check_cut(shape, datagram, size, 1, &before);
        other[at] ^= (uint8_t)(1u << (chosen >> 2) % 8);
        check_cut(shape, other, size, chosen & 1, &before);
        other[at] = datagram[at];
        size = (chosen >> 8) % size;
        check_cut(shape, other, size, 0, &before);
        if (size >= 16)
            memcpy(other, &(uint32_t){(uint32_t)size}, sizeof(uint32_t));
        check_cut(shape, other, size, 0, &before); /* which it tells itself */
    }
    free(other);
    free(shape);
}

/* What shape a kernel's records have, when there is no padding or UML's, and no more. */
static int is_plain(const struct told *told, const uint8_t *datagram, size_t size)
{
    size_t at = (size_t)(told->stats - datagram);
    size_t end = at + told->size;
    uint16_t nest;

    memcpy(&nest, datagram + 20, sizeof(nest));
    return (at == 36 || at == 40) && told->size % 4 == 0 && end <= size && nest == end - 20 &&
           memcmp(datagram + 28, &told->id, 4) == 0 &&
           ts_layout_is_newest(told->size, told->version);
}

int check_datagram(const uint8_t *datagram, size_t size)
{
    uint8_t *exact = check_copy(datagram, size);
    static struct told told[MOST];
    int expected = reference_decode(exact, size, told, MOST);
    uint32_t tasks = expected > 0 ? (uint32_t)count(told, expected, TS_TASK) : 0;
    uint32_t groups = expected > 0 ? (uint32_t)count(told, expected, TS_GROUP) : 0;
    uint32_t most = tasks > groups ? tasks : groups; /* none to spare */
    struct ts_sink sink = make_sink(expected < 0 ? (uint32_t)size / LEAST + 1 : most);
    int rc = ts_decode(exact, size, &sink);

    CHECK(rc == expected);
    CHECK(sink.n_tasks == tasks && sink.n_groups == groups);
    CHECK((sink.reason == TS_ACCEPTED) == (rc >= 0));
    CHECK((sink.reason == TS_ANSWER) == (rc < 0 && rc != -EBADMSG) || rc == -EBADMSG);
    if (rc > 0) {
        check_rows(&sink, told, expected);
        check_room(exact, size, &sink);
        if (tasks) {
            size_t first = (number(exact) + (size_t)3) / 4 * 4;
            struct ts_shape shape;
            if (number(exact) == size && told[0].kind == TS_TASK &&
                is_plain(&told[0], exact, size))
                CHECK(ts_shape_learn(&shape, exact, size) == 1);
            check_shape(exact, size, &sink);
            if (first < size)
                check_received(exact, number(exact), exact + first, size - first);
        }
    }
    free_sink(&sink);
    free(exact);
    return rc;
}
