/* What the probe must know of the kernel, from its BTF: where it keeps what the programs
 * read. The public part is ts_probe_read_layout. Pure. */
#ifndef TASKSTATS_OFFSETS_H
#define TASKSTATS_OFFSETS_H

#include "programs.h"

struct ts_probe_kernel {
    struct ts_probe_layout layout;
    int subsystem;                /* the controller's number; -1 if none was asked for */
    int tracepoints[TS_PROGRAMS]; /* ids of their types in the BTF; -ENOENT: no such */
};

/* `controller` is of a cgroup hierarchy of version 1 ("cpuacct"), or NULL. -ENOENT if the
 * kernel lacks something but a tracepoint, -EBADMSG if it is no BTF, or -ENOMEM. */
int ts_probe_read_kernel(const void *btf, size_t size, const char *controller,
                         struct ts_probe_kernel *kernel);

#endif
