/* decode.c: captured datagrams, and ones made for every version, size, order and padding. */
#include "decode.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "frames.h"
#include "properties.h"
#include "reference.h"
#include "wire.h"

static struct wire wire;
static unsigned native;
static unsigned foreign;
static unsigned made;

static int decode(const void *datagram, size_t size, uint32_t *reason)
{
    static struct ts_record tasks[2];
    static struct ts_record groups[2];
    struct ts_sink sink = {.tasks = tasks, .groups = groups, .capacity = 2};
    int rc = ts_decode(datagram, size, &sink);

    *reason = sink.reason;
    return rc;
}

/* ---- captured ---- */

static void check_frame(const struct frame *frame)
{
    uint32_t reason;
    int rc = check_datagram(frame->bytes, frame->size);

    if (!frame->is_native) {
        foreign++;
        CHECK(decode(frame->bytes, frame->size, &reason) == -EBADMSG);
        CHECK(reason == TS_BYTE_ORDER);
        return;
    }
    native++;
    if (frame->is_record) {
        struct ts_shape shape;
        CHECK(rc == (strstr(frame->name, "thread3") ? 2 : 1));
        CHECK(ts_shape_learn(&shape, frame->bytes, frame->size) ==
              !strstr(frame->name, "/tgid"));
    } else {
        CHECK(rc <= 0);
    }
    for (size_t size = 0; size < frame->size; size++)
        CHECK(check_datagram(frame->bytes, size) == -EBADMSG);
    for (uint32_t size = 16; size < frame->size; size++) { /* cut, and says so */
        uint8_t cut[sizeof(frame->bytes)];
        memcpy(cut, frame->bytes, size);
        memcpy(cut, &size, sizeof(size));
        check_datagram(cut, size);
    }
}

/* Two records of a kernel, one received by the shape of the other. */
static void check_pairs(const char *folder)
{
    static const char *const kernels[] = {"amd64-5.10", "amd64-6.1", "amd64-7.3",
                                          "host618",    "s390x-6.1", "uml61"};
    static const char *const names[] = {"exit", "exit_thread0", "exit_thread3"};

    for (size_t i = 0; i < sizeof(kernels) / sizeof(kernels[0]); i++)
        for (size_t j = 0; j < 9; j++) {
            char path[2][64];
            wire.size = 0;
            for (size_t k = 0; k < 2; k++) {
                struct frame frame;
                snprintf(path[k], sizeof(path[k]), "%s/%s.bin", kernels[i],
                         names[k ? j / 3 : j % 3]);
                frame = read_frame(folder, path[k]);
                wire_put(&wire, frame.bytes, frame.size);
            }
            check_datagram(wire.bytes, wire.size);
        }
}

/* ---- made ---- */

/* Which aggregates, in which order. */
static const uint16_t orders[][2] = {
    {WIRE_AGGR_PID, 0},
    {WIRE_AGGR_TGID, 0},
    {WIRE_AGGR_PID, WIRE_AGGR_TGID},
    {WIRE_AGGR_TGID, WIRE_AGGR_PID},
};
#define ORDERS (sizeof(orders) / sizeof(orders[0]))

static void make(const uint16_t *order, unsigned version, size_t size, uint32_t port,
                 struct aggregate_style style)
{
    size_t start;

    wire.size = 0;
    start = wire_message(&wire, WIRE_FAMILY, 0xfffffff0, port);
    for (int i = 0; i < 2; i++)
        if (order[i])
            wire_aggregate(&wire, order[i], 0x10000000u + (unsigned)i, version, size, style);
    wire_end_message(&wire, start);
    made++;
}

static void check_style(unsigned version, struct aggregate_style style)
{
    size_t whole = reference_size(version > 17 ? 17 : version);
    size_t sizes[] = {2, 143, 150, whole - 8, whole - 1, whole, whole + 4, whole + 8, 496, 560};

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
        for (size_t j = 0; j < ORDERS; j++)
            for (uint32_t port = 0; port < 2; port++) {
                make(orders[j], version, sizes[i], port, style);
                CHECK(check_datagram(wire.bytes, wire.size) == 1 + (orders[j][1] != 0));
            }
}

static void check_versions(void)
{
    uint32_t reason;

    for (unsigned version = 4; version <= 18; version++)
        for (int style = 0; style < 8; style++)
            check_style(version, (struct aggregate_style){
                                     .padded = style & 1,
                                     .unknown = style & 2,
                                     .nested = style & 4,
                                 });
    for (unsigned version = 0; version < 4; version++) {
        make(orders[2], version, 328, 0, (struct aggregate_style){0});
        CHECK(check_datagram(wire.bytes, wire.size) == -EBADMSG);
        CHECK(decode(wire.bytes, wire.size, &reason) == -EBADMSG && reason == TS_VERSION);
    }
}

/* Every byte of a datagram with a pair, changed in turn: wrong, or read as it says. */
static void check_changes(void)
{
    static const struct aggregate_style styles[] = {{0}, {.padded = 1}, {.unknown = 1}};

    for (size_t i = 0; i < sizeof(styles) / sizeof(styles[0]); i++) {
        make(orders[2], 16, 560, 0, styles[i]);
        for (size_t at = 0; at < wire.size; at++)
            for (unsigned bit = 0; bit < 8; bit++) {
                wire.bytes[at] ^= (uint8_t)(1u << bit);
                check_datagram(wire.bytes, wire.size);
                wire.bytes[at] ^= (uint8_t)(1u << bit);
            }
    }
}

static void check_wrong(void)
{
    static const uint16_t twice[][2] = {
        {WIRE_AGGR_PID, WIRE_AGGR_PID},
        {WIRE_AGGR_TGID, WIRE_AGGR_TGID},
    };
    uint32_t reason;
    size_t start;

    for (size_t i = 0; i < 2; i++) {
        make(twice[i], 16, 560, 0, (struct aggregate_style){0});
        CHECK(check_datagram(wire.bytes, wire.size) == -EBADMSG);
        CHECK(decode(wire.bytes, wire.size, &reason) == -EBADMSG && reason == TS_ATTRIBUTE);
    }
    for (uint16_t type = 1; type <= 0x10; type++) { /* no message of a service's */
        wire.size = 0;
        start = wire_message(&wire, type, 0, 0);
        wire_number(&wire, 0);
        wire_end_message(&wire, start);
        check_datagram(wire.bytes, wire.size);
    }
    make(orders[0], 16, 560, 0, (struct aggregate_style){0});
    start = wire.size;
    wire_answer(&wire, -3); /* an error behind a record: neither */
    CHECK(check_datagram(wire.bytes, wire.size) == -3);
    CHECK(decode(wire.bytes, wire.size, &reason) == -3 && reason == TS_ANSWER);
    wire.size = start;
    wire_answer(&wire, 0);
    CHECK(check_datagram(wire.bytes, wire.size) == 1);
    make(orders[0], 18, 0xffff - 4 - 4 - 12, 0, (struct aggregate_style){0});
    CHECK(check_datagram(wire.bytes, wire.size) == 1); /* the longest that there can be */
}

/* ---- what has no shape, or another ---- */

static const struct aggregate_style plain = {0};

static int has_shape(void)
{
    struct ts_shape shape;
    uint8_t *exact = check_copy(wire.bytes, wire.size);
    int learned = ts_shape_learn(&shape, exact, wire.size);

    check_datagram(wire.bytes, wire.size);
    free(exact);
    return learned;
}

/* A task whose parts stand in this order; 0 ends it. */
static void make_task(const uint16_t *parts)
{
    size_t start;
    size_t nest;

    wire.size = 0;
    start = wire_message(&wire, WIRE_FAMILY, 1, 0);
    nest = wire_attribute(&wire, WIRE_AGGR_PID);
    for (; *parts; parts++) {
        size_t at = wire_attribute(&wire, *parts);
        if (*parts == WIRE_PID)
            wire_number(&wire, 12345);
        if (*parts == WIRE_STATS)
            wire_struct(&wire, 16, 560);
        wire_end_attribute(&wire, at);
    }
    wire_end_attribute(&wire, nest);
    wire_end_message(&wire, start);
}

static void check_shapes(void)
{
    static const uint16_t usual[] = {WIRE_PID, WIRE_STATS, 0};
    static const uint16_t padded[] = {WIRE_PID, WIRE_NULL, WIRE_STATS, 0};
    static const uint16_t odd[][5] = {
        {WIRE_STATS, WIRE_PID, 0},
        {WIRE_NULL, WIRE_STATS, WIRE_PID, 0},
        {WIRE_NULL, WIRE_PID, WIRE_STATS, 0},
        {WIRE_PID, WIRE_NULL, WIRE_NULL, WIRE_STATS, 0},
        {WIRE_PID, WIRE_STATS, WIRE_NULL, 0},
    };

    make_task(usual);
    CHECK(has_shape());
    make_task(padded);
    CHECK(has_shape());
    for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
        make_task(odd[i]);
        CHECK(!has_shape());
        CHECK(check_datagram(wire.bytes, wire.size) == 1);
    }
    make(orders[0], 16, 558, 0, plain); /* of no whole words */
    CHECK(!has_shape());
    make(orders[1], 16, 560, 0, plain);
    CHECK(!has_shape());
    wire.size--; /* cut */
    CHECK(!has_shape());
    wire.size = 0;
    wire_answer(&wire, 0);
    CHECK(!has_shape());
    wire.size = 0;
    wire_end_message(&wire, wire_message(&wire, WIRE_FAMILY, 0, 0)); /* empty */
    CHECK(!has_shape());
    make_task(usual);
    wire_answer(&wire, 0);
    CHECK(!has_shape());
}

/* What comes behind the struct of a record that has the shape. */
static void check_behind(void)
{
    static const uint16_t two_tasks[] = {WIRE_AGGR_PID, WIRE_AGGR_PID};
    uint8_t *first;
    size_t size;

    make(orders[0], 16, 560, 0, plain);
    size = wire.size;
    first = check_copy(wire.bytes, size);
    CHECK(check_received(first, size, wire.bytes, wire.size) == 1);
    make(orders[2], 16, 560, 0, plain);
    CHECK(check_received(first, size, wire.bytes, wire.size) == 2);
    make(two_tasks, 16, 560, 0, plain);
    CHECK(check_received(first, size, wire.bytes, wire.size) == 0);
    make(orders[0], 16, 552, 0, plain);
    CHECK(check_received(first, size, wire.bytes, wire.size) == 0);
    make(orders[0], 17, 560, 0, plain);
    CHECK(check_received(first, size, wire.bytes, wire.size) == 0);
    free(first);
}

/* ---- a group of which the kernel summed something, or nothing ---- */

static void check_sums(void)
{
    static const size_t sums[] = {
        offsetof(struct ts_stats, cpu_count), offsetof(struct ts_stats, cpu_run_real_total),
        offsetof(struct ts_stats, cpu_run_virtual_total), offsetof(struct ts_stats, ac_etime)};
    enum { STRUCT_AT = 36 };

    for (unsigned chosen = 0; chosen < 16; chosen++) {
        make(orders[1], 16, 560, 0, plain);
        for (size_t i = 0; i < 4; i++)
            if (!(chosen >> i & 1))
                memset(wire.bytes + STRUCT_AT + sums[i], 0, sizeof(uint64_t));
        CHECK(check_datagram(wire.bytes, wire.size) == 1);
    }
}

int main(int argc, char **argv)
{
    unsigned frames;

    CHECK(argc == 2);
    frames = each_frame(argv[1], check_frame);
    CHECK(frames == native + foreign && native && foreign);
    check_pairs(argv[1]);
    check_versions();
    check_changes();
    check_wrong();
    check_shapes();
    check_behind();
    check_sums();
    printf("decode: %u frames of this byte order, %u of the other, %u made: %lu checks\n",
           native, foreign, made, checks);
    return 0;
}
