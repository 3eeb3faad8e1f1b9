/* One netlink socket: open it connected, request one thing, receive many. */
#ifndef TASKSTATS_SOCKET_H
#define TASKSTATS_SOCKET_H

#include <linux/netlink.h>
#include <sys/socket.h>

#include "netlink.h"

/* Bytes of a receive slot. The largest datagram known has 1,428 (version 17,
 * task and group); a longer one is refused as truncated, never half read. */
#define TS_SLOT 4096

/* Datagrams that one system call takes at most. */
#define TS_SLOTS 64u

struct ts_receiver {
    struct mmsghdr messages[TS_SLOTS];
    struct iovec vectors[TS_SLOTS];
    struct sockaddr_nl sources[TS_SLOTS];
    uint8_t slots[TS_SLOTS][TS_SLOT];
};

void ts_receiver_prepare(struct ts_receiver *receiver);
/* Takes up to `most` datagrams off the queue. Returns how many, or -EAGAIN when
 * it is empty. */
int ts_receiver_take(struct ts_receiver *receiver, int fd, unsigned most);
/* One of them, and whether it may be believed: accepted, foreign or truncated. */
enum ts_reason ts_receiver_datagram(const struct ts_receiver *receiver, unsigned i,
                                    uint32_t port, const uint8_t **at, size_t *size);

/* A socket connected to the endpoint, with its receive buffer. Returns the
 * descriptor; fills opened->port and ->rcvbuf. */
int ts_socket_open(const struct ts_endpoint *endpoint, uint32_t rcvbuf,
                   struct ts_opened *opened);

/* The family's id: the endpoint's own, or what nlctrl says. */
int ts_socket_family(int fd, const struct ts_endpoint *endpoint, struct ts_opened *opened);

/* Ends registrations that this port inherited from a dead listener, and throws
 * away what they had queued. -EINVAL in a PID namespace. */
int ts_socket_clean(int fd, const struct ts_endpoint *endpoint, uint16_t family);

/* Sends one request and waits for its ACK. Returns what the ACK says; a reply
 * that came before it is left in `slot` (TS_SLOT bytes) and in `reply`, whose
 * attrs are NULL if there was none. */
int ts_socket_request(int fd, const struct ts_endpoint *endpoint,
                      const struct nl_request *request, uint8_t *slot,
                      struct nl_message *reply);

/* Sends one request and does not wait. */
int ts_socket_send(int fd, const struct nl_request *request, uint32_t seq);

/* Datagrams dropped since the socket was made (modulo 2^32), bytes now queued. */
int ts_socket_counters(int fd, uint32_t *drops, uint32_t *queued);

/* CLOCK_MONOTONIC in ns. */
int64_t ts_now(void);
/* When an answer that is asked for now is late. */
int64_t ts_answer_deadline(const struct ts_endpoint *endpoint);
/* Waits until fd is readable. Returns 0, -ETIMEDOUT, or -errno. */
int ts_wait_readable(int fd, int64_t deadline_ns);

#endif
