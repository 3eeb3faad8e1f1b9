/* Where the kernel keeps what the probe's programs read. The public half is
 * ts_probe_read_layout. Pure. */
#ifndef TASKSTATS_OFFSETS_H
#define TASKSTATS_OFFSETS_H

#include "taskstats_shim.h"

/* The number of a cgroup controller ("cpuacct"). -ENOENT if the kernel has no such. */
int ts_probe_subsystem(const void *btf, size_t size, const char *controller);

#endif
