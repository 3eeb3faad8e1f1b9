/* Many datagrams a system call, each record's struct straight into its row. */
#ifndef TASKSTATS_RECEIVE_H
#define TASKSTATS_RECEIVE_H

#include <linux/netlink.h>
#include <sys/socket.h>

#include "decode.h"

/* Bytes of a receive slot. The largest datagram known has 1,428 (version 17,
 * task and group); what does not fit is refused as truncated, never half read. */
#define TS_SLOT 4096

/* Datagrams that one system call takes at most. */
#define TS_SLOTS 64u

/* A datagram is cut as it is received: up to the struct's end, and the rest. Without a
 * shape to cut by, it comes whole. */
enum { TS_PART_ROW, TS_PART_REST, TS_PARTS };

struct ts_receiver {
    struct mmsghdr messages[TS_SLOTS];
    struct iovec parts[TS_SLOTS][TS_PARTS];
    struct sockaddr_nl sources[TS_SLOTS];
    const struct ts_shape *shape; /* NULL: datagrams come whole */
    struct ts_record *rows;
    uint8_t slots[TS_SLOTS][TS_SLOT];
    uint8_t whole[TS_HEAD + sizeof(struct ts_stats) + TS_SLOT];
};

void ts_receiver_prepare(struct ts_receiver *receiver);

/* From now on datagrams are cut by this shape, which the caller keeps; if it has
 * changed, call it again. */
void ts_receiver_cut(struct ts_receiver *receiver, const struct ts_shape *shape);

/* Takes up to `most` datagrams off the queue; if they are cut, their structs go to
 * `rows`. Returns how many, or -EAGAIN when it is empty. */
int ts_receiver_take(struct ts_receiver *receiver, int fd, unsigned most,
                     struct ts_record *rows);

/* One of them, and whether it may be believed: accepted, foreign or truncated. */
enum ts_reason ts_receiver_datagram(const struct ts_receiver *receiver, unsigned i,
                                    uint32_t port, struct ts_datagram *datagram);

/* Its bytes in one piece, good until the next call. */
const uint8_t *ts_receiver_whole(struct ts_receiver *receiver,
                                 const struct ts_datagram *datagram);

#endif
