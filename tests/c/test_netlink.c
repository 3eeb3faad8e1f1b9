/* netlink.c: requests written, messages and attributes walked, whatever their lengths say. */
#include "netlink.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "frames.h"
#include "properties.h"
#include "wire.h"

static const char *folder;
static struct wire wire;

/* ---- messages ---- */

/* The result for the first message of these bytes, in memory of just that size. */
static int first(const uint8_t *bytes, size_t size, struct nl_message *message,
                 enum ts_reason *reason)
{
    uint8_t *exact = check_copy(bytes, size);
    const uint8_t *at = exact;
    size_t left = size;
    int rc = nl_message_next(&at, &left, message, reason);

    CHECK((size_t)(at - exact) + left == size);
    CHECK(rc == 1 || left == size);
    if (rc == 1 && message->attrs)
        CHECK(message->attrs + message->size <= exact + size);
    free(exact);
    return rc;
}

static void expect(const uint8_t *bytes, size_t size, int rc, enum ts_reason why)
{
    struct nl_message message;
    enum ts_reason reason = TS_ACCEPTED;

    CHECK(first(bytes, size, &message, &reason) == rc);
    CHECK(reason == why);
}

static void check_frame(const struct frame *frame)
{
    uint8_t bytes[sizeof(frame->bytes)];
    uint32_t length;

    check_messages(frame->bytes, frame->size);
    if (!frame->is_native) {
        expect(frame->bytes, frame->size, -EBADMSG, TS_BYTE_ORDER);
        return;
    }
    expect(frame->bytes, frame->size, 1, TS_ACCEPTED);
    expect(frame->bytes, 0, 0, TS_ACCEPTED);
    for (size_t size = 1; size < frame->size; size++)
        expect(frame->bytes, size, -EBADMSG, TS_LENGTH);
    memcpy(bytes, frame->bytes, frame->size);
    for (length = 0; length < 16; length++) {
        memcpy(bytes, &length, sizeof(length));
        expect(bytes, frame->size, -EBADMSG, TS_LENGTH);
    }
    for (length = 16; length < 20; length++) { /* no errno, no generic header */
        memcpy(bytes, &length, sizeof(length));
        expect(bytes, frame->size, -EBADMSG, TS_LENGTH);
    }
    length = (uint32_t)frame->size + 1;
    memcpy(bytes, &length, sizeof(length));
    expect(bytes, frame->size, -EBADMSG, TS_LENGTH);
}

static void check_answers(void)
{
    static const int32_t good[] = {0, -1, -4095};
    static const int32_t bad[] = {1, -4096, INT32_MAX, INT32_MIN};
    struct nl_message message;
    enum ts_reason reason;

    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        wire.size = 0;
        wire_answer(&wire, good[i]);
        CHECK(first(wire.bytes, wire.size, &message, &reason) == 1);
        CHECK(message.type == NLMSG_ERROR && message.error == good[i] && message.seq == 7);
        CHECK(message.attrs == NULL && message.size == 0);
    }
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        wire.size = 0;
        wire_answer(&wire, bad[i]);
        expect(wire.bytes, wire.size, -EBADMSG, TS_UNEXPECTED);
    }
}

/* A message of an odd length, its padding there or not, and one behind it. */
static void check_padding(void)
{
    const uint8_t *at = wire.bytes;
    struct nl_message message;
    enum ts_reason reason;
    size_t left;
    size_t start;

    wire.size = 0;
    start = wire_message(&wire, WIRE_FAMILY, 5, 6);
    wire_put(&wire, "x", 1);
    wire_end_message(&wire, start);
    left = wire.size;
    CHECK(nl_message_next(&at, &left, &message, &reason) == 1 && left == 0);
    CHECK(at == wire.bytes + 21 && message.size == 1);
    CHECK(message.seq == 5 && message.port == 6 && message.command == WIRE_NEW);

    wire_put(&wire, "\0\0\0", 3);
    wire_answer(&wire, -1);
    at = wire.bytes;
    left = wire.size;
    CHECK(nl_message_next(&at, &left, &message, &reason) == 1 && at == wire.bytes + 24);
    CHECK(nl_message_next(&at, &left, &message, &reason) == 1 && message.error == -1);
    CHECK(nl_message_next(&at, &left, &message, &reason) == 0);
}

/* Control messages have no generic header, and NLMSG_MIN_TYPE is the first that does. */
static void check_types(void)
{
    struct nl_message message;
    enum ts_reason reason;

    for (uint16_t type = 1; type <= NLMSG_MIN_TYPE; type++) {
        if (type == NLMSG_ERROR)
            continue;
        wire.size = 0;
        wire_end_message(&wire, wire_message(&wire, type, 0, 0));
        CHECK(first(wire.bytes, wire.size, &message, &reason) == 1);
        CHECK(message.type == type && (message.attrs != NULL) == (type == NLMSG_MIN_TYPE));
    }
}

/* ---- attributes ---- */

static void check_attributes(void)
{
    size_t lengths[] = {0, 1, 2, 3, 4, 5, 8};

    for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++) {
        size_t size = lengths[i];
        size_t start;
        wire.size = 0;
        start = wire_attribute(&wire, (uint16_t)(NLA_F_NESTED | NLA_F_NET_BYTEORDER | 9));
        wire_put(&wire, "8 bytes.", size);
        wire_end_attribute(&wire, start);
        for (size_t given = 0; given <= wire.size; given++) {
            uint8_t *exact = check_copy(wire.bytes, given);
            const uint8_t *at = exact;
            size_t left = given;
            struct nl_attribute attribute;
            int rc = nl_attribute_next(&at, &left, &attribute);
            CHECK(rc == (given == 0 ? 0 : given < 4 + size ? -EBADMSG : 1));
            CHECK(rc != 1 || (attribute.type == 9 && attribute.size == size && left == 0));
            CHECK(rc != 1 || (attribute.value == exact + 4 && at == exact + given));
            free(exact);
        }
    }
    for (uint16_t length = 0; length < 4; length++) {
        const uint8_t *at = wire.bytes;
        size_t left = wire.size;
        struct nl_attribute attribute;
        memcpy(wire.bytes, &length, sizeof(length));
        CHECK(nl_attribute_next(&at, &left, &attribute) == -EBADMSG && at == wire.bytes);
    }
}

/* ---- nlctrl's reply ---- */

static unsigned native_kernels;

static void check_family(const struct frame *frame)
{
    const uint8_t *at = frame->bytes;
    size_t left = frame->size;
    struct nl_message message;
    enum ts_reason reason;
    char path[64];
    struct frame record;
    uint16_t type;

    if (!frame->is_native || !strstr(frame->name, "/ctrl."))
        return;
    native_kernels++;
    snprintf(path, sizeof(path), "%.*s/pid.bin", (int)strcspn(frame->name, "/"), frame->name);
    record = read_frame(folder, path);
    memcpy(&type, record.bytes + 4, sizeof(type));
    CHECK(nl_message_next(&at, &left, &message, &reason) == 1);
    CHECK(nl_family_id(&message) == type);
    message.command++;
    CHECK(nl_family_id(&message) == 0);
    message.command--;
    message.type++;
    CHECK(nl_family_id(&message) == 0);
    message.type--;
    message.size = 6; /* in the first attribute */
    CHECK(nl_family_id(&message) == 0);
}

static void check_odd_families(void)
{
    static const uint16_t id = 0x1f;
    struct nl_message message;
    enum ts_reason reason;

    for (size_t size = 1; size <= 3; size++) {
        size_t start;
        size_t at;
        wire.size = 0;
        start = wire_message(&wire, GENL_ID_CTRL, 0, 0);
        wire.bytes[16] = CTRL_CMD_NEWFAMILY;
        at = wire_attribute(&wire, CTRL_ATTR_FAMILY_ID);
        wire_put(&wire, &id, size < 2 ? size : 2);
        if (size == 3)
            wire_put(&wire, "", 1);
        wire_end_attribute(&wire, at);
        wire_end_message(&wire, start);
        const uint8_t *from = wire.bytes;
        size_t left = wire.size;
        CHECK(nl_message_next(&from, &left, &message, &reason) == 1);
        CHECK(nl_family_id(&message) == (size == 2 ? id : 0));
    }
}

int main(int argc, char **argv)
{
    unsigned frames;

    CHECK(argc == 2);
    folder = argv[1];
    for (size_t size = 0; size <= 12; size++)
        check_request((const uint8_t *)"0-1023,2048", size);
    frames = each_frame(folder, check_frame);
    check_answers();
    check_padding();
    check_types();
    check_attributes();
    each_frame(folder, check_family);
    check_odd_families();
    printf("netlink: %u frames, family ids of %u kernels of this byte order: %lu checks\n",
           frames, native_kernels, checks);
    CHECK(native_kernels > 0);
    return 0;
}
