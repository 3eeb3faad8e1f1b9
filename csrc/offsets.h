/* What the programs need to know about the kernel, from its BTF. The public part is
 * ts_probe_read_layout. Pure. */
#ifndef TASKSTATS_OFFSETS_H
#define TASKSTATS_OFFSETS_H

#include "programs.h"

struct ts_probe_kernel {
    struct ts_probe_layout layout;
    int subsystem;                /* the controller's number; -1 if none was asked for */
    int tracepoints[TS_PROGRAMS]; /* ids of their types in the BTF, or -ENOENT */
};

/* `controller` is one of a cgroup hierarchy of version 1 ("cpuacct"), or NULL. Returns 0 even
 * if the kernel lacks a tracepoint. Returns -ENOENT if it lacks anything else, -EBADMSG if
 * the data is not BTF, -EOPNOTSUPP if the kernel is one of 32 bits, or -ENOMEM. */
int ts_probe_read_kernel(const void *btf, size_t size, const char *controller,
                         struct ts_probe_kernel *kernel);

#endif
