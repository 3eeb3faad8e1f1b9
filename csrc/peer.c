/* What a peer that plays the kernel counts of each port. */
#include "peer.h"

/* The peer is another thread or process: what it writes is read at any moment. */
static uint32_t load(const uint32_t *at)
{
    return __atomic_load_n(at, __ATOMIC_ACQUIRE);
}

static const struct ts_sent *find(const struct ts_endpoint *endpoint, uint32_t port)
{
    for (uint32_t i = 0; i < endpoint->n_sent; i++) {
        const struct ts_sent *place =
            &endpoint->sent[(port % endpoint->n_sent + i) % endpoint->n_sent];
        uint32_t owner = load(&place->port);

        if (owner == port)
            return place;
        if (owner == 0)
            break;
    }
    return NULL;
}

uint32_t ts_peer_offered(const struct ts_endpoint *endpoint, uint32_t port)
{
    const struct ts_sent *sent = find(endpoint, port);

    return sent ? load(&sent->offered) : 0;
}

uint32_t ts_peer_dropped(const struct ts_endpoint *endpoint, uint32_t port)
{
    const struct ts_sent *sent = find(endpoint, port);

    return sent ? load(&sent->dropped) : 0;
}
