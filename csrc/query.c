/* Queries: many GETs in one send, and every id answered. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "abi.h"
#include "decode.h"
#include "process.h"
#include "receive.h"
#include "socket.h"

#define MOST_REQUESTS 512u /* a send; 14 KB, well under the default send buffer */
#define REQUEST_SIZE 28u
#define FIRST_SEQ 1000u /* clear of what opening used */

/* What one reply costs the receive buffer at most: its 2 KiB allocation and the
 * kernel's overhead. Replies of version 16 cost 1,280, of version 17 2,304. */
#define REPLY_COST 2304u

struct ts_client {
    struct ts_endpoint endpoint;
    uint32_t owner;       /* ts_process of who opened it */
    pthread_mutex_t lock; /* all that follows */
    int fd;
    uint16_t family;
    uint32_t seq;
    uint32_t window; /* requests whose replies fit the receive buffer */
    uint8_t answered[MOST_REQUESTS];
    uint8_t requests[MOST_REQUESTS * REQUEST_SIZE];
    struct ts_receiver receiver;
};

/* One send's worth of ids, and what has come back for it. */
struct window {
    const uint32_t *ids;
    uint32_t n;
    uint32_t kind;
    uint32_t first_seq;
    uint32_t answered;
    struct ts_record *rows;
    uint32_t found;
    int32_t *errors;
    int disordered;
};

/* ---- open and close ---- */

static uint32_t window_for(uint32_t rcvbuf)
{
    uint32_t fit = rcvbuf / REPLY_COST;

    return fit < 1 ? 1 : fit > MOST_REQUESTS ? MOST_REQUESTS : fit;
}

static int prepare_socket(int fd, const struct ts_endpoint *endpoint, struct ts_opened *opened)
{
    int rc = ts_socket_family(fd, endpoint, opened);

    if (rc < 0 || !endpoint->cpus)
        return rc;
    opened->step = TS_STEP_CLEAN;
    rc = ts_socket_clean(fd, endpoint, (uint16_t)opened->family);
    /* Refused in a PID namespace; exit records that come all the same are told
     * from answers by their port and number. */
    return rc == -EINVAL ? 0 : rc;
}

int ts_client_open(const struct ts_endpoint *endpoint, uint32_t rcvbuf,
                   struct ts_client **client, struct ts_opened *opened)
{
    struct ts_client *made;
    int fd = ts_socket_open(endpoint, rcvbuf, opened);
    int rc = fd < 0 ? fd : prepare_socket(fd, endpoint, opened);

    if (rc < 0) {
        if (fd >= 0)
            close(fd);
        return rc;
    }
    made = ts_alloc(sizeof(*made));
    if (!made) {
        close(fd);
        return -ENOMEM;
    }
    memset(made, 0, sizeof(*made));
    made->endpoint = *endpoint;
    made->endpoint.cpus = NULL; /* the caller's, and not needed again */
    made->owner = ts_process();
    made->fd = fd;
    made->family = (uint16_t)opened->family;
    made->seq = FIRST_SEQ;
    made->window = window_for(opened->rcvbuf);
    pthread_mutex_init(&made->lock, NULL);
    ts_receiver_prepare(&made->receiver);
    *client = made;
    return 0;
}

int ts_client_close(struct ts_client *client)
{
    int inherited = client->owner != ts_process();

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
    int64_t deadline = 0;
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
    while (sent < 0 && ts_socket_again(&client->endpoint, &deadline));
    return sent < 0 ? -errno : (int)n;
}

/* Returns 0, or why there is no record in this reply. It must hold one, of the
 * id and kind that was asked for. */
static int take_record(struct window *window, uint32_t i, const struct nl_message *message)
{
    struct ts_record *row = window->rows + window->found;
    struct ts_sink sink = {.capacity = 1};

    if (window->kind == TS_TASK)
        sink.tasks = row;
    else
        sink.groups = row;
    if (ts_decode_message(message, &sink) < 0)
        return -(TS_REFUSED + (int)sink.reason);
    if (row->id != window->ids[i])
        return -(TS_REFUSED + TS_UNEXPECTED);
    window->found++;
    return 0;
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

static int take_message(struct ts_client *client, struct window *window,
                        const struct nl_message *message)
{
    uint32_t i = message->seq - window->first_seq;

    if (!is_awaited(client, window, i))
        return 0;
    if (message->error == -EAGAIN) /* the reply did not fit, but word of that did: ask again */
        return 0;
    if (message->type == NLMSG_ERROR && message->error < 0)
        return settle(client, window, i, message->error);
    if (message->type != NLMSG_ERROR && message->port != 0)
        return settle(client, window, i, take_record(window, i, message));
    return 0; /* an ACK, or an exit record: port 0, and a number of its own */
}

/* A damaged datagram answers the request whose number it carries. */
static int take_damaged(struct ts_client *client, struct window *window, const uint8_t *at,
                        size_t left, enum ts_reason reason)
{
    struct nlmsghdr header;

    if (left < sizeof(header))
        return 0;
    memcpy(&header, at, sizeof(header));
    uint32_t i = header.nlmsg_seq - window->first_seq;
    if (!is_awaited(client, window, i))
        return 0;
    return settle(client, window, i, -(TS_REFUSED + (int)reason));
}

static int take_datagram(struct ts_client *client, struct window *window, unsigned slot)
{
    struct ts_datagram datagram;
    struct nl_message message;
    enum ts_reason reason =
        ts_receiver_datagram(&client->receiver, slot, client->endpoint.port, &datagram);
    const uint8_t *at = ts_receiver_whole(&client->receiver, &datagram);
    size_t left = datagram.size;
    int more;

    if (reason == TS_FOREIGN)
        return 0;
    if (reason == TS_TRUNCATED)
        return take_damaged(client, window, at, left, reason);
    while ((more = nl_message_next(&at, &left, &message, &reason)) == 1) {
        int rc = take_message(client, window, &message);
        if (rc < 0)
            return rc;
    }
    return more < 0 ? take_damaged(client, window, at, left, reason) : 0;
}

/* Takes what has come for the `expected` requests just sent. On the kernel all
 * of it is queued already: an empty queue with answers missing is a loss. */
static int collect(struct ts_client *client, struct window *window, uint32_t expected)
{
    uint32_t target = window->answered + expected;
    int64_t deadline = 0;

    for (;;) {
        int n =
            ts_receiver_take(&client->receiver, client->fd, target - window->answered, NULL);

        for (int i = 0; i < n; i++) {
            int rc = take_datagram(client, window, (unsigned)i);
            if (rc < 0)
                return rc;
        }
        if (window->answered >= target)
            return 0;
        if (deadline == 0) /* most often all has come at once: then no clock is read */
            deadline = ts_answer_deadline(&client->endpoint);
        if (n == -EAGAIN && !client->endpoint.synchronous)
            n = ts_wait_readable(client->fd, deadline);
        else if (n > 0 && ts_now() > deadline)
            n = -ETIMEDOUT; /* much came, and not what was asked for */
        if (n == -EAGAIN || n == -ETIMEDOUT)
            return 0;
        if (n < 0)
            return n;
    }
}

/* Asks until every id of the window is answered, three times in vain at most. */
static int run_window(struct ts_client *client, struct window *window)
{
    uint32_t most = client->window;
    int in_vain = 0;

    memset(client->answered, 0, window->n);
    while (window->answered < window->n) {
        uint32_t before = window->answered;
        int n = send_requests(client, window, most);
        int rc = n < 0 ? n : collect(client, window, (uint32_t)n);

        if (rc < 0 && !(n == -EMSGSIZE && most > 1))
            return rc;
        if (n >= 0 && window->answered >= before + (uint32_t)n)
            continue;
        /* Some did not fit, the replies or already the requests: ask for fewer. */
        if (most > 1)
            most /= 2;
        in_vain = n >= 0 && window->answered == before ? in_vain + 1 : 0;
        if (in_vain == 3)
            return client->endpoint.synchronous ? -ENOBUFS : -ETIMEDOUT;
    }
    return 0;
}

static int by_seq(const void *a, const void *b)
{
    const struct ts_record *left = a;
    const struct ts_record *right = b;

    return (int32_t)(left->seq - right->seq) < 0 ? -1 : left->seq != right->seq;
}

static int query_window(struct ts_client *client, struct window *window)
{
    int rc = -EBADF;

    pthread_mutex_lock(&client->lock);
    if (client->fd >= 0) {
        if (window->n > client->window)
            window->n = client->window;
        window->first_seq = client->seq;
        client->seq += window->n;
        rc = run_window(client, window);
    }
    pthread_mutex_unlock(&client->lock);

    if (window->disordered)
        qsort(window->rows, window->found, sizeof(*window->rows), by_seq);
    return rc;
}

int ts_client_query(struct ts_client *client, uint32_t kind, const uint32_t *ids, uint32_t n,
                    struct ts_record *rows, int32_t *errors)
{
    int32_t error = 0;
    uint32_t found = 0;

    if (client->owner != ts_process())
        return -EOWNERDEAD;
    if (!errors && n != 1)
        return -EINVAL;
    for (uint32_t done = 0; done < n;) {
        struct window window = {
            .ids = ids + done,
            .n = n - done,
            .kind = kind,
            .rows = rows + found,
            .errors = errors ? errors + done : &error,
        };
        int rc = query_window(client, &window);
        if (rc < 0)
            return rc;
        done += window.n;
        found += window.found;
    }
    return error ? error : (int)found;
}
