/* One netlink socket: open it connected, ask for one thing, read its counters. */
#ifndef TASKSTATS_SOCKET_H
#define TASKSTATS_SOCKET_H

#include "netlink.h"

/* Bytes for one answer: a CPU list may be long. */
#define TS_REPLY_SIZE 4096

/* A socket connected to the endpoint, with its receive buffer. Returns the
 * descriptor; fills opened->port and ->rcvbuf. */
int ts_socket_open(const struct ts_endpoint *endpoint, uint32_t rcvbuf,
                   struct ts_opened *opened);

/* The family's id: the endpoint's own, or what nlctrl says. */
int ts_socket_family(int fd, const struct ts_endpoint *endpoint, struct ts_opened *opened);

/* Ends registrations that this port inherited from a dead listener, and throws
 * away what they had queued. -EINVAL in a PID namespace. */
int ts_socket_clean(int fd, const struct ts_endpoint *endpoint, uint16_t family);

/* Throws away what is queued. */
void ts_socket_empty(int fd);

/* Sends one request and waits for its ACK. Returns what the ACK says; a reply
 * that came before it is left in `slot` (TS_REPLY_SIZE bytes) and in `reply`, whose
 * attrs are NULL if there was none. */
int ts_socket_request(int fd, const struct ts_endpoint *endpoint,
                      const struct nl_request *request, uint8_t *slot,
                      struct nl_message *reply);

/* Sends one request and does not wait for an answer. */
int ts_socket_send(int fd, const struct ts_endpoint *endpoint, const struct nl_request *request,
                   uint32_t seq);

/* Whether to send again what could not be sent. The kernel takes a request at once; a
 * peer has a queue, and while that is full this waits a moment, until the deadline; one
 * of 0 is set by the first call, so that sending reads no clock. */
int ts_socket_again(const struct ts_endpoint *endpoint, int64_t *deadline_ns);

/* Datagrams dropped since the socket was made (modulo 2^32), bytes now queued. */
int ts_socket_counters(int fd, uint32_t *drops, uint32_t *queued);

/* CLOCK_MONOTONIC in ns. */
int64_t ts_now(void);
/* When an answer that is asked for now is late. */
int64_t ts_answer_deadline(const struct ts_endpoint *endpoint);
/* Waits until fd is readable. Returns 0, -ETIMEDOUT, or -errno. */
int ts_wait_readable(int fd, int64_t deadline_ns);

#endif
