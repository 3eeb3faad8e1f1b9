/* The kernel's side of the interface in numbers, and how the struct of any
 * version is brought to the newest layout. Facts: kernel/taskstats.c,
 * include/uapi/linux/{taskstats,cgroupstats}.h. */
#ifndef TASKSTATS_ABI_H
#define TASKSTATS_ABI_H

#include <stddef.h>
#include <stdint.h>

#include "taskstats_shim.h"

#define TS_FAMILY_NAME "TASKSTATS"

/* genetlink commands */
#define TS_CMD_GET 1
#define TS_CMD_NEW 2
#define TS_CMD_CGROUP_GET 4
#define TS_CMD_CGROUP_NEW 5

/* attributes of a GET */
#define TS_ATTR_PID 1
#define TS_ATTR_TGID 2
#define TS_ATTR_REGISTER 3
#define TS_ATTR_DEREGISTER 4

/* attributes of a NEW; AGGR_* nest the others */
#define TS_TYPE_PID 1
#define TS_TYPE_TGID 2
#define TS_TYPE_STATS 3
#define TS_TYPE_AGGR_PID 4
#define TS_TYPE_AGGR_TGID 5

#define TS_CGROUP_ATTR_FD 1
#define TS_CGROUP_TYPE_STATS 1

/* ac_flag: the last thread of its group is out (version 12) */
#define TS_AGROUP 0x20

#define TS_OLDEST_VERSION 4

/* Copies a struct of `size` bytes, up to its last whole member, to the newest
 * layout; the rest of `to` becomes zero. */
void ts_layout_convert(struct ts_stats *to, const void *from, size_t size, unsigned version);
/* Whether a struct of this size and version is laid out as the newest is, up to its end. */
int ts_layout_is_newest(size_t size, unsigned version);

#endif
