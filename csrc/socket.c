/* One netlink socket: open it connected, ask for one thing, read its counters. */
#include "socket.h"

#include <errno.h>
#include <linux/sock_diag.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "abi.h"

#ifndef SOL_NETLINK
#define SOL_NETLINK 270
#endif

/* ---- time ---- */

int64_t ts_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int64_t ts_answer_deadline(const struct ts_endpoint *endpoint)
{
    return ts_now() + (int64_t)endpoint->timeout_ms * 1000000;
}

int ts_wait_readable(int fd, int64_t deadline_ns)
{
    struct pollfd waited = {.fd = fd, .events = POLLIN};

    for (;;) {
        int64_t left = deadline_ns - ts_now();
        struct timespec timeout = {.tv_sec = left / 1000000000, .tv_nsec = left % 1000000000};
        int n;

        if (left <= 0)
            return -ETIMEDOUT;
        n = ppoll(&waited, 1, &timeout, NULL);
        if (n > 0)
            return 0;
        if (n < 0 && errno != EINTR)
            return -errno;
    }
}

/* ---- open ---- */

/* Beyond net.core.rmem_max if we may. The kernel doubles what is set, and
 * counts its own overhead: `rcvbuf` is the doubled figure. */
static int set_buffer(int fd, uint32_t rcvbuf, uint32_t *granted)
{
    int half = (int)(rcvbuf / 2);
    int got = 0;
    socklen_t size = sizeof(got);

    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &half, sizeof(half)) < 0 &&
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &half, sizeof(half)) < 0)
        return -errno;
    if (getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &got, &size) < 0)
        return -errno;
    *granted = (uint32_t)got;
    return 0;
}

static int set_option(int fd, int option)
{
    int on = 1;

    return setsockopt(fd, SOL_NETLINK, option, &on, sizeof(on)) < 0 ? -errno : 0;
}

/* connect() binds as well, so that nothing but the endpoint's datagrams is let
 * in: other senders get ECONNREFUSED. The moment between the two is why every
 * reader checks the source all the same. */
static int connect_to(int fd, uint32_t port, uint32_t *own_port)
{
    struct sockaddr_nl peer = {.nl_family = AF_NETLINK, .nl_pid = port};
    struct sockaddr_nl own;
    socklen_t size = sizeof(own);

    if (connect(fd, (struct sockaddr *)&peer, sizeof(peer)) < 0 ||
        getsockname(fd, (struct sockaddr *)&own, &size) < 0)
        return -errno;
    *own_port = own.nl_pid;
    return 0;
}

int ts_socket_open(const struct ts_endpoint *endpoint, uint32_t rcvbuf,
                   struct ts_opened *opened)
{
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, endpoint->protocol);
    int rc;

    opened->step = TS_STEP_SOCKET;
    if (fd < 0)
        return -errno;
    opened->step = TS_STEP_BUFFER;
    rc = set_buffer(fd, rcvbuf, &opened->rcvbuf);
    /* Without it one overflow drops everything until the queue is empty. */
    if (rc == 0)
        rc = set_option(fd, NETLINK_NO_ENOBUFS);
    if (rc == 0) {
        (void)set_option(fd, NETLINK_CAP_ACK); /* since 4.3; only makes errors shorter */
        opened->step = TS_STEP_CONNECT;
        rc = connect_to(fd, endpoint->port, &opened->port);
    }
    if (rc < 0) {
        close(fd);
        return rc;
    }
    return fd;
}

/* ---- one request, one answer ---- */

int ts_socket_again(const struct ts_endpoint *endpoint, int64_t *deadline_ns)
{
    if (errno == EINTR)
        return 1;
    if (errno != EAGAIN || endpoint->synchronous)
        return 0;
    if (*deadline_ns == 0)
        *deadline_ns = ts_answer_deadline(endpoint);
    if (ts_now() >= *deadline_ns)
        return 0;
    poll(NULL, 0, 1);
    return 1;
}

int ts_socket_send(int fd, const struct ts_endpoint *endpoint, const struct nl_request *request,
                   uint32_t seq)
{
    uint8_t message[TS_REPLY_SIZE]; /* a CPU list may be long */
    size_t size = nl_request_size(request->size);
    int64_t deadline = 0;
    ssize_t sent;

    if (size > sizeof(message))
        return -E2BIG;
    nl_request_write(message, request, seq);
    do
        sent = send(fd, message, size, 0);
    while (sent < 0 && ts_socket_again(endpoint, &deadline));
    return sent < 0 ? -errno : 0;
}

/* The next datagram from the endpoint into `slot`; others are skipped. On the
 * kernel an answer is queued when send returns: an empty queue means a loss. */
static ssize_t receive(int fd, const struct ts_endpoint *endpoint, uint8_t *slot,
                       int64_t deadline_ns)
{
    while (ts_now() < deadline_ns) {
        struct sockaddr_nl from;
        socklen_t size = sizeof(from);
        ssize_t n =
            recvfrom(fd, slot, TS_REPLY_SIZE, MSG_DONTWAIT, (struct sockaddr *)&from, &size);

        if (n >= 0 && from.nl_pid == endpoint->port)
            return n;
        if (n < 0 && errno == EAGAIN) {
            int rc = endpoint->synchronous ? -EAGAIN : ts_wait_readable(fd, deadline_ns);
            if (rc < 0)
                return rc;
        } else if (n < 0 && errno != EINTR && errno != ENOBUFS) {
            return -errno;
        }
    }
    return -ETIMEDOUT;
}

static int await_ack(int fd, const struct ts_endpoint *endpoint, uint32_t seq, uint8_t *slot,
                     struct nl_message *reply)
{
    int64_t deadline = ts_answer_deadline(endpoint);
    uint8_t other[TS_REPLY_SIZE];

    for (;;) {
        uint8_t *into = reply->attrs ? other : slot;
        ssize_t n = receive(fd, endpoint, into, deadline);
        const uint8_t *at = into;
        size_t left = (size_t)n;
        struct nl_message message;
        enum ts_reason reason;

        if (n < 0)
            return (int)n;
        while (nl_message_next(&at, &left, &message, &reason) == 1) {
            if (message.seq != seq)
                continue;
            if (message.type == NLMSG_ERROR)
                return message.error;
            if (message.attrs && !reply->attrs && message.port)
                *reply = message;
        }
    }
}

int ts_socket_request(int fd, const struct ts_endpoint *endpoint,
                      const struct nl_request *request, uint8_t *slot, struct nl_message *reply)
{
    struct nl_request asked = *request;
    uint32_t seq = 1;
    int rc;

    asked.flags |= NLM_F_ACK;
    /* An ACK may find the queue full of an inherited registration's records;
     * by the time that is noticed the queue is empty. */
    do {
        memset(reply, 0, sizeof(*reply));
        rc = ts_socket_send(fd, endpoint, &asked, seq);
        if (rc == 0)
            rc = await_ack(fd, endpoint, seq, slot, reply);
    } while (rc == -EAGAIN && seq++ < 8);
    return rc == -EAGAIN ? -ENOBUFS : rc;
}

int ts_socket_family(int fd, const struct ts_endpoint *endpoint, struct ts_opened *opened)
{
    static const char name[] = TS_FAMILY_NAME;
    struct nl_request request = {
        .family = GENL_ID_CTRL,
        .command = CTRL_CMD_GETFAMILY,
        .attribute = CTRL_ATTR_FAMILY_NAME,
        .value = name,
        .size = sizeof(name),
    };
    uint8_t slot[TS_REPLY_SIZE];
    struct nl_message reply;
    int rc = 0;

    opened->step = TS_STEP_FAMILY;
    opened->family = endpoint->family;
    if (opened->family == 0) {
        rc = ts_socket_request(fd, endpoint, &request, slot, &reply);
        if (rc == 0)
            opened->family = nl_family_id(&reply);
        if (rc == 0 && opened->family == 0)
            rc = -EBADMSG;
    }
    return rc;
}

void ts_socket_empty(int fd)
{
    uint8_t some[1]; /* the rest of a datagram goes with it */

    while (recv(fd, some, sizeof(some), MSG_DONTWAIT) >= 0 || errno == EINTR)
        continue;
}

int ts_socket_clean(int fd, const struct ts_endpoint *endpoint, uint16_t family)
{
    struct nl_request request = {
        .family = family,
        .command = TS_CMD_GET,
        .attribute = TS_ATTR_DEREGISTER,
        .value = endpoint->cpus,
        .size =
            strlen(endpoint->cpus) + 1, /* some kernels eat a last character that is no NUL */
    };
    uint8_t slot[TS_REPLY_SIZE];
    struct nl_message reply;
    int rc = ts_socket_request(fd, endpoint, &request, slot, &reply);

    if (rc == 0)
        ts_socket_empty(fd);
    return rc;
}

int ts_socket_counters(int fd, uint32_t *drops, uint32_t *queued)
{
    uint32_t memory[SK_MEMINFO_VARS] = {0};
    socklen_t size = sizeof(memory);

    if (getsockopt(fd, SOL_SOCKET, SO_MEMINFO, memory, &size) < 0)
        return -errno;
    *drops = memory[SK_MEMINFO_DROPS];
    *queued = memory[SK_MEMINFO_RMEM_ALLOC];
    return 0;
}
