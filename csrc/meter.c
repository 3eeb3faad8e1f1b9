/* How many exits a CPU has had, counted without reading one: a second listener
 * whose queue is full, so that the kernel counts every record as dropped. Of a peer
 * that plays the kernel, what it says it has sent. */
#include "meter.h"

#include <errno.h>
#include <unistd.h>

#include "abi.h"
#include "peer.h"

#define LEAST_BUFFER 1u /* the kernel makes its least of it: room for two or three answers */
#define MOST_ANSWERS 64

/* ACKs that nobody reads. They are the smallest of all messages: where one does
 * not fit, no record does. */
static int fill(const struct ts_meter *meter, const struct ts_endpoint *endpoint,
                uint16_t family)
{
    struct nl_request request = {
        .family = family,
        .flags = NLM_F_ACK,
        .command = TS_CMD_GET,
        .attribute = TS_ATTR_DEREGISTER,
        .value = "0",
        .size = 2,
    };
    uint32_t drops = 0;
    uint32_t queued;
    int rc = 0;

    for (uint32_t i = 0; rc == 0 && drops == 0 && i < MOST_ANSWERS; i++) {
        rc = ts_socket_send(meter->fd, endpoint, &request, i);
        if (rc == 0)
            rc = ts_socket_counters(meter->fd, &drops, &queued);
    }
    return rc < 0 ? rc : 0;
}

int ts_meter_open(struct ts_meter *meter, const struct ts_endpoint *endpoint, uint16_t family)
{
    struct ts_opened opened;
    int fd = ts_socket_open(endpoint, LEAST_BUFFER, &opened);
    int rc;

    if (fd < 0)
        return fd;
    meter->fd = fd;
    rc = ts_socket_clean(fd, endpoint, family);
    if (rc == 0)
        rc = fill(meter, endpoint, family);
    if (rc < 0)
        ts_meter_close(meter);
    return rc;
}

void ts_meter_ask(struct ts_meter *meter, const struct ts_endpoint *peer, uint32_t port)
{
    meter->peer = peer;
    meter->port = port;
}

static int read_exits(const struct ts_meter *meter, uint32_t *exits)
{
    uint32_t queued;

    if (!meter->peer)
        return ts_socket_counters(meter->fd, exits, &queued);
    *exits = ts_peer_offered(meter->peer, meter->port);
    return 0;
}

int ts_meter_start(struct ts_meter *meter)
{
    uint32_t exits;
    int rc = read_exits(meter, &exits);

    if (rc == 0)
        ts_counter_start(&meter->counted, exits);
    return rc;
}

int ts_meter_read(struct ts_meter *meter)
{
    uint32_t exits;
    int rc;

    if (meter->fd < 0 && !meter->peer)
        return 0;
    rc = read_exits(meter, &exits);
    return rc < 0 ? rc : ts_counter_follow(&meter->counted, exits) != 0;
}

void ts_meter_close(struct ts_meter *meter)
{
    if (meter->fd >= 0)
        close(meter->fd);
    meter->fd = -1;
    meter->peer = NULL;
}
