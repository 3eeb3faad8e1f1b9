/* Netlink messages and attributes, written and walked in memory. Pure. */
#include "netlink.h"

#include <errno.h>
#include <string.h>

/* The kernel's NLMSG_HDRLEN, GENL_HDRLEN, NLA_HDRLEN and NLA_ALIGN, unsigned. */
enum { MESSAGE_HEADER = 16u, GENERIC_HEADER = 4u, ATTRIBUTE_HEADER = 4u };

static size_t align4(size_t size)
{
    return (size + 3) & ~(size_t)3;
}

/* Kernel structs stand at any alignment in a datagram: always copied. */
static uint32_t load32(const uint8_t *at)
{
    uint32_t value;
    memcpy(&value, at, sizeof(value));
    return value;
}

size_t nl_request_size(size_t size)
{
    return MESSAGE_HEADER + GENERIC_HEADER + ATTRIBUTE_HEADER + align4(size);
}

void nl_request_write(void *at, const struct nl_request *request, uint32_t seq)
{
    size_t whole = nl_request_size(request->size);
    struct nlmsghdr header = {
        .nlmsg_len = (uint32_t)whole,
        .nlmsg_type = request->family,
        .nlmsg_flags = (uint16_t)(NLM_F_REQUEST | request->flags),
        .nlmsg_seq = seq,
    };
    struct genlmsghdr generic = {.cmd = request->command, .version = 1};
    struct nlattr attribute = {
        .nla_len = (uint16_t)(ATTRIBUTE_HEADER + request->size),
        .nla_type = request->attribute,
    };
    uint8_t *out = at;

    memcpy(out, &header, sizeof(header));
    memcpy(out + MESSAGE_HEADER, &generic, sizeof(generic));
    memcpy(out + MESSAGE_HEADER + GENERIC_HEADER, &attribute, sizeof(attribute));
    out += MESSAGE_HEADER + GENERIC_HEADER + ATTRIBUTE_HEADER;
    memcpy(out, request->value, request->size);
    memset(out + request->size, 0, align4(request->size) - request->size);
}

static int refuse(enum ts_reason *reason, enum ts_reason why)
{
    *reason = why;
    return -EBADMSG;
}

int nl_message_next(const uint8_t **at, size_t *left, struct nl_message *message,
                    enum ts_reason *reason)
{
    struct nlmsghdr header;
    const uint8_t *body;

    if (*left == 0)
        return 0;
    if (*left < sizeof(header))
        return refuse(reason, TS_LENGTH);
    memcpy(&header, *at, sizeof(header));
    if (header.nlmsg_len < sizeof(header) || header.nlmsg_len > *left) {
        uint32_t swapped = __builtin_bswap32(header.nlmsg_len);
        int other = swapped >= sizeof(header) && swapped <= *left;
        return refuse(reason, other ? TS_BYTE_ORDER : TS_LENGTH);
    }

    size_t size = header.nlmsg_len - MESSAGE_HEADER;
    body = *at + MESSAGE_HEADER;
    *message = (struct nl_message){
        .type = header.nlmsg_type,
        .seq = header.nlmsg_seq,
        .port = header.nlmsg_pid,
    };
    if (message->type == NLMSG_ERROR) {
        if (size < sizeof(int32_t))
            return refuse(reason, TS_LENGTH);
        message->error = (int)(int32_t)load32(body);
        if (message->error > 0 || message->error < -4095)
            return refuse(reason, TS_UNEXPECTED);
    } else if (message->type >= NLMSG_MIN_TYPE) {
        if (size < GENERIC_HEADER)
            return refuse(reason, TS_LENGTH);
        message->command = body[0];
        message->attrs = body + GENERIC_HEADER;
        message->size = size - GENERIC_HEADER;
    }

    size_t step = align4((size_t)header.nlmsg_len);
    if (step > *left)
        step = *left; /* the last message's padding may be missing */
    *at += step;
    *left -= step;
    return 1;
}

int nl_attribute_next(const uint8_t **at, size_t *left, struct nl_attribute *attribute)
{
    struct nlattr header;

    if (*left == 0)
        return 0;
    if (*left < sizeof(header))
        return -EBADMSG;
    memcpy(&header, *at, sizeof(header));
    if (header.nla_len < sizeof(header) || header.nla_len > *left)
        return -EBADMSG;

    attribute->type = (uint16_t)(header.nla_type & ~(NLA_F_NESTED | NLA_F_NET_BYTEORDER));
    attribute->value = *at + ATTRIBUTE_HEADER;
    attribute->size = (size_t)header.nla_len - ATTRIBUTE_HEADER;

    size_t step = align4((size_t)header.nla_len);
    if (step > *left)
        step = *left;
    *at += step;
    *left -= step;
    return 1;
}

uint16_t nl_family_id(const struct nl_message *message)
{
    const uint8_t *at = message->attrs;
    size_t left = message->size;
    struct nl_attribute attribute;
    uint16_t id = 0;

    if (message->type != GENL_ID_CTRL || message->command != CTRL_CMD_NEWFAMILY)
        return 0;
    while (nl_attribute_next(&at, &left, &attribute) == 1)
        if (attribute.type == CTRL_ATTR_FAMILY_ID && attribute.size == sizeof(id))
            memcpy(&id, attribute.value, sizeof(id));
    return id;
}
