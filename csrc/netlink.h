/* Netlink messages and attributes, written and walked in memory. Pure. */
#ifndef TASKSTATS_NETLINK_H
#define TASKSTATS_NETLINK_H

#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <stddef.h>
#include <stdint.h>

#include "taskstats_shim.h"

/* ---- writing: requests of one attribute ---- */

struct nl_request {
    uint16_t family;
    uint16_t flags; /* beside NLM_F_REQUEST */
    uint8_t command;
    uint16_t attribute;
    const void *value;
    size_t size;
};

/* Bytes that a request with a value of `size` bytes takes. */
size_t nl_request_size(size_t size);
/* Writes one request with this sequence number at `at`, which has room for it. */
void nl_request_write(void *at, const struct nl_request *request, uint32_t seq);

/* ---- walking: the messages of a datagram ---- */

struct nl_message {
    uint16_t type;
    uint32_t seq;
    uint32_t port;
    int error;       /* NLMSG_ERROR: 0 (an ACK) or the kernel's -errno */
    uint8_t command; /* else: genetlink's */
    const uint8_t *attrs;
    size_t size;
};

/* Takes the next message off [*at, *at + *left). Returns 1, 0 at the end, or
 * -EBADMSG with the reason. */
int nl_message_next(const uint8_t **at, size_t *left, struct nl_message *message,
                    enum ts_reason *reason);

struct nl_attribute {
    uint16_t type; /* without NLA_F_NESTED, NLA_F_NET_BYTEORDER */
    const uint8_t *value;
    size_t size;
};

/* The same for attributes; -EBADMSG if a length does not fit. */
int nl_attribute_next(const uint8_t **at, size_t *left, struct nl_attribute *attribute);

/* The family id in a reply of nlctrl, 0 if it has none. */
uint16_t nl_family_id(const struct nl_message *message);

#endif
