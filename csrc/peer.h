/* What a peer that plays the kernel counts of each port, since a full queue of a
 * socket that another process sends to does not. */
#ifndef TASKSTATS_PEER_H
#define TASKSTATS_PEER_H

#include "taskstats_shim.h"

/* Exit records that were sent to this port; 0 where the sockets count. */
uint32_t ts_peer_offered(const struct ts_endpoint *endpoint, uint32_t port);
/* Of those, the ones for which its queue had no room. */
uint32_t ts_peer_dropped(const struct ts_endpoint *endpoint, uint32_t port);

#endif
