/* What holds of a table of ports, however full it is: peer.c. */
#include "properties.h"

#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "peer.h"

#define PORTS 64

static void enter(struct ts_sent *table, uint32_t n, struct ts_sent sent)
{
    uint32_t at = sent.port % n;

    while (table[at].port)
        at = (at + 1) % n;
    table[at] = sent;
}

/* A byte for how many places, one for which ports are near each other, then ports. */
void check_peers(const uint8_t *story, size_t size)
{
    uint32_t n = size ? story[0] % PORTS + 1u : 1;
    uint32_t stride = size > 1 ? story[1] : 0;
    struct ts_sent *table = check_alloc(n * sizeof(*table));
    struct ts_endpoint endpoint = {.sent = table, .n_sent = n};
    struct ts_sent known[PORTS];
    uint32_t entered = 0;

    memset(table, 0, n * sizeof(*table));
    for (size_t i = 2; i < size && entered + 1 < n; i++) {
        uint32_t port = story[i] * (stride + 1) + 1;
        int is_new = 1;
        for (uint32_t j = 0; j < entered; j++)
            is_new &= known[j].port != port;
        if (!is_new)
            continue;
        known[entered] = (struct ts_sent){port, 1000 + entered, 2000 + entered};
        enter(table, n, known[entered++]);
    }
    for (uint32_t j = 0; j < entered; j++) {
        CHECK(ts_peer_offered(&endpoint, known[j].port) == known[j].offered);
        CHECK(ts_peer_dropped(&endpoint, known[j].port) == known[j].dropped);
    }
    CHECK(ts_peer_offered(&endpoint, 0x80000000) == 0);
    CHECK(ts_peer_dropped(&endpoint, 0x80000000) == 0);
    endpoint.n_sent = 0;
    CHECK(ts_peer_offered(&endpoint, 1) == 0);
    free(table);
}
