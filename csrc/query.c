/* Questions: many GETs in one send, every id answered; a cgroup's counts. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "abi.h"
#include "decode.h"
#include "socket.h"

#define SLOTS 32u          /* datagrams a recvmmsg */
#define MOST_REQUESTS 512u /* a send; 14 KB, well under the default send buffer */

/* What one reply costs the receive buffer at most: its 2 KiB allocation and the
 * kernel's overhead. Replies of version 16 cost 1,280, of version 17 2,304. */
#define REPLY_COST 2304u

#define REQUEST_SIZE 28u

struct ts_client {
    struct ts_endpoint endpoint;
    pthread_mutex_t lock; /* all that follows, but for the fork check */
    unsigned generation;
    int fd;
    uint16_t family;
    uint32_t seq;
    uint32_t window; /* requests whose replies fit the receive buffer */
    uint8_t answered[MOST_REQUESTS];
    uint8_t requests[MOST_REQUESTS * REQUEST_SIZE];
    struct mmsghdr messages[SLOTS];
    struct iovec vectors[SLOTS];
    struct sockaddr_nl sources[SLOTS];
    uint8_t slots[SLOTS][TS_SLOT];
};

/* One send's worth of ids, and what has come back for it. */
struct window {
    const uint32_t *ids;
    uint32_t n;
    uint32_t kind;
    uint32_t first_seq;
    uint32_t answered;
    struct ts_sink *sink;
    int32_t *errors;
    int disordered;
};

static uint32_t window_for(uint32_t rcvbuf)
{
    uint32_t fit = rcvbuf / REPLY_COST;

    return fit < 1 ? 1 : fit > MOST_REQUESTS ? MOST_REQUESTS : fit;
}

static void prepare_slots(struct ts_client *client)
{
    for (unsigned i = 0; i < SLOTS; i++) {
        client->vectors[i] = (struct iovec){client->slots[i], TS_SLOT};
        client->messages[i].msg_hdr = (struct msghdr){
            .msg_name = &client->sources[i],
            .msg_namelen = sizeof(client->sources[i]),
            .msg_iov = &client->vectors[i],
            .msg_iovlen = 1,
        };
    }
}

int ts_client_open(const struct ts_endpoint *endpoint, uint32_t rcvbuf,
                   struct ts_client **client, struct ts_opened *opened)
{
    unsigned generation = ts_fork_generation();
    int fd = ts_socket_open(endpoint, rcvbuf, opened);
    int rc = fd;

    if (fd >= 0)
        rc = ts_socket_family(fd, endpoint, opened);
    if (rc == 0) {
        opened->step = TS_STEP_CLEAN;
        rc = ts_socket_clean(fd, endpoint, (uint16_t)opened->family);
        /* A PID namespace can have no registration, so there is none to end. */
        if (rc == -EINVAL)
            rc = 0;
    }
    if (rc == 0) {
        struct ts_client *made = ts_alloc(sizeof(*made));
        rc = -ENOMEM;
        if (made) {
            memset(made, 0, sizeof(*made));
            made->endpoint = *endpoint;
            made->endpoint.cpus = NULL; /* the caller's, and not needed again */
            made->generation = generation;
            made->fd = fd;
            made->family = (uint16_t)opened->family;
            made->seq = 1000; /* clear of what opening used */
            made->window = window_for(opened->rcvbuf);
            pthread_mutex_init(&made->lock, NULL);
            prepare_slots(made);
            *client = made;
            return 0;
        }
    }
    if (fd >= 0)
        close(fd);
    return rc;
}

int ts_client_close(struct ts_client *client)
{
    int inherited = client->generation != ts_fork_generation();

    if (!inherited) /* in a child the lock may be held by a thread that is not there */
        pthread_mutex_lock(&client->lock);
    if (client->fd >= 0)
        close(client->fd);
    client->fd = -1;
    if (!inherited)
        pthread_mutex_unlock(&client->lock);
    return 0;
}

/* ---- one window ---- */

/* Sends up to `most` of the requests not answered yet. */
static int send_requests(struct ts_client *client, const struct window *window, uint32_t most)
{
    struct nl_request request = {
        .family = client->family,
        .command = TS_CMD_GET,
        .attribute = window->kind == TS_TASK ? TS_ATTR_PID : TS_ATTR_TGID,
        .size = sizeof(uint32_t),
    };
    uint8_t *out = client->requests;
    uint32_t n = 0;
    ssize_t sent;

    for (uint32_t i = 0; i < window->n && n < most; i++) {
        if (client->answered[i])
            continue;
        request.value = &window->ids[i];
        nl_request_write(out, &request, window->first_seq + i);
        out += REQUEST_SIZE;
        n++;
    }
    do
        sent = send(client->fd, client->requests, n * REQUEST_SIZE, 0);
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : (int)n;
}

/* The record must be of the id that was asked for. */
static int take_record(struct window *window, uint32_t i, const struct nl_message *message)
{
    struct ts_sink *sink = window->sink;
    uint32_t n_tasks = sink->n_tasks;
    uint32_t n_groups = sink->n_groups;
    int rc = ts_decode_message(message, sink);

    if (rc < 0)
        return rc;
    if (rc == 1 &&
        (window->kind == TS_TASK
             ? sink->n_tasks > n_tasks && sink->tasks[n_tasks].id == window->ids[i]
             : sink->n_groups > n_groups && sink->groups[n_groups].id == window->ids[i]))
        return 0;
    sink->n_tasks = n_tasks;
    sink->n_groups = n_groups;
    sink->reason = TS_UNEXPECTED;
    return -EBADMSG;
}

/* Writes down an answer. -EPERM is the answer to all; anything else is to an id. */
static int settle(struct ts_client *client, struct window *window, uint32_t i, int error)
{
    if (error == -EPERM)
        return error;
    if (i != window->answered)
        window->disordered = 1;
    window->errors[i] = error;
    client->answered[i] = 1;
    window->answered++;
    return 0;
}

static int is_awaited(const struct ts_client *client, const struct window *window, uint32_t i)
{
    return i < window->n && !client->answered[i];
}

static int take_datagram(struct ts_client *client, struct window *window, unsigned slot)
{
    const uint8_t *at = client->slots[slot];
    size_t left = client->messages[slot].msg_len;
    int cut = client->messages[slot].msg_hdr.msg_flags & MSG_TRUNC;
    enum ts_reason reason = TS_CUT;
    struct nl_message message;
    int more = -EBADMSG;

    if (client->sources[slot].nl_pid != client->endpoint.port)
        return 0;
    while (!cut && (more = nl_message_next(&at, &left, &message, &reason)) == 1) {
        uint32_t i = message.seq - window->first_seq;
        int rc = 0;

        if (!is_awaited(client, window, i))
            continue;
        if (message.type != NLMSG_ERROR && message.port != 0)
            rc = settle(client, window, i, take_record(window, i, &message));
        else if (message.type == NLMSG_ERROR && message.error < 0)
            rc = settle(client, window, i, message.error);
        /* else an exit record (port 0, a number of its own), or an ACK */
        if (rc < 0)
            return rc;
    }
    if (more < 0 && left >= sizeof(struct nlmsghdr)) {
        struct nlmsghdr header;
        memcpy(&header, at, sizeof(header));
        uint32_t i = header.nlmsg_seq - window->first_seq;
        window->sink->reason = reason;
        return is_awaited(client, window, i) ? settle(client, window, i, -EBADMSG) : 0;
    }
    return 0;
}

/* Takes what has come for the `expected` requests just sent. On the kernel all
 * of it is queued already: an empty queue with answers missing is a loss. */
static int collect(struct ts_client *client, struct window *window, uint32_t expected)
{
    int64_t deadline = 0;
    uint32_t target = window->answered + expected;

    while (window->answered < target) {
        uint32_t missing = target - window->answered;
        int n = recvmmsg(client->fd, client->messages, missing < SLOTS ? missing : SLOTS,
                         MSG_DONTWAIT, NULL);

        for (int i = 0; i < n; i++) {
            int rc = take_datagram(client, window, (unsigned)i);
            if (rc < 0)
                return rc;
        }
        if (n >= 0 || errno == EINTR || errno == ENOBUFS)
            continue;
        if (errno != EAGAIN)
            return -errno;
        if (client->endpoint.synchronous)
            return 0;
        if (deadline == 0)
            deadline = ts_now() + (int64_t)client->endpoint.timeout_ms * 1000000;
        int rc = ts_wait_readable(client->fd, deadline);
        if (rc < 0)
            return rc == -ETIMEDOUT ? 0 : rc;
    }
    return 0;
}

static int by_seq(const void *a, const void *b)
{
    const struct ts_record *left = a;
    const struct ts_record *right = b;

    return (int32_t)(left->seq - right->seq) < 0 ? -1 : left->seq != right->seq;
}

/* Asks until every id of the window is answered, three times in vain at most. */
static int run_window(struct ts_client *client, struct window *window)
{
    int in_vain = 0;

    memset(client->answered, 0, window->n);
    while (window->answered < window->n) {
        uint32_t before = window->answered;
        int n = send_requests(client, window, client->window);
        int rc = n < 0 ? n : collect(client, window, (uint32_t)n);

        if (rc < 0)
            return rc;
        if (window->answered == before + (uint32_t)n)
            continue;
        /* Replies were lost although they should have fitted: ask for fewer. */
        if (client->window > 1)
            client->window /= 2;
        in_vain = window->answered == before ? in_vain + 1 : 0;
        if (in_vain == 3)
            return client->endpoint.synchronous ? -ENOBUFS : -ETIMEDOUT;
    }
    return 0;
}

static int query_window(struct ts_client *client, struct window *window)
{
    struct ts_sink *sink = window->sink;
    uint32_t row = window->kind == TS_TASK ? sink->n_tasks : sink->n_groups;
    int rc;

    pthread_mutex_lock(&client->lock);
    if (client->fd < 0) {
        rc = -EBADF;
    } else {
        if (window->n > client->window)
            window->n = client->window;
        window->first_seq = client->seq;
        client->seq += window->n;
        rc = run_window(client, window);
    }
    pthread_mutex_unlock(&client->lock);

    if (window->disordered) {
        struct ts_record *rows = window->kind == TS_TASK ? sink->tasks : sink->groups;
        uint32_t end = window->kind == TS_TASK ? sink->n_tasks : sink->n_groups;
        qsort(rows + row, end - row, sizeof(*rows), by_seq);
    }
    return rc;
}

int ts_client_query(struct ts_client *client, uint32_t kind, const uint32_t *ids, uint32_t n,
                    struct ts_sink *sink, int32_t *errors)
{
    if (client->generation != ts_fork_generation())
        return -EOWNERDEAD;
    for (uint32_t done = 0; done < n;) {
        struct window window = {
            .ids = ids + done,
            .n = n - done,
            .kind = kind,
            .sink = sink,
            .errors = errors + done,
        };
        int rc = query_window(client, &window);
        if (rc < 0)
            return rc;
        done += window.n;
    }
    return 0;
}

/* ---- cgroups ---- */

#define CGROUP2_MAGIC 0x63677270 /* statfs(2) of a cgroup v2 */

static int read_counts(const struct nl_message *reply, struct ts_cgroup *counts)
{
    const uint8_t *at = reply->attrs;
    size_t left = reply->size;
    struct nl_attribute attribute;

    while (at && nl_attribute_next(&at, &left, &attribute) == 1)
        if (attribute.type == TS_CGROUP_TYPE_STATS && attribute.size >= sizeof(*counts) &&
            reply->command == TS_CMD_CGROUP_NEW) {
            memcpy(counts, attribute.value, sizeof(*counts));
            return 0;
        }
    return -EBADMSG;
}

int ts_cgroup(const struct ts_endpoint *endpoint, int fd, struct ts_cgroup *counts,
              struct ts_opened *opened)
{
    uint32_t value = (uint32_t)fd;
    struct nl_request request = {
        .command = TS_CMD_CGROUP_GET,
        .attribute = TS_CGROUP_ATTR_FD,
        .value = &value,
        .size = sizeof(value),
    };
    uint8_t slot[TS_SLOT];
    struct nl_message reply;
    struct statfs where;
    int s;
    int rc;

    if (fcntl(fd, F_GETFD) < 0) /* before the socket can take a closed number */
        return -EBADF;
    rc = s = ts_socket_open(endpoint, 64 << 10, opened);

    if (s >= 0)
        rc = ts_socket_family(s, endpoint, opened);
    if (rc == 0) {
        request.family = (uint16_t)opened->family;
        rc = ts_socket_ask(s, endpoint, &request, slot, &reply);
        if (rc == 0)
            rc = reply.attrs ? read_counts(&reply, counts) : -EBADF;
        else if (rc == -EINVAL && fstatfs(fd, &where) == 0 && where.f_type == CGROUP2_MAGIC)
            rc = -EMEDIUMTYPE;
    }
    if (s >= 0)
        close(s);
    return rc;
}
