/* Datagram -> records. Pure. The public half is ts_decode. */
#ifndef TASKSTATS_DECODE_H
#define TASKSTATS_DECODE_H

#include "netlink.h"

#define TS_NO_CPU 0xffffu
#define TS_NO_ROW 0xffffffffu

/* Appends the records of one TASKSTATS_CMD_NEW message, or nothing. Returns how
 * many, or -EBADMSG with sink->reason. */
int ts_decode_message(const struct nl_message *message, struct ts_sink *sink);

#endif
