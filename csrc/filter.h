/* A socket's filter: what the kernel keeps out of its queue. */
#ifndef TASKSTATS_FILTER_H
#define TASKSTATS_FILTER_H

#include "taskstats_shim.h"

/* Lets in what the classic BPF program accepts. -EINVAL if it is none. */
int ts_filter_attach(int fd, const struct ts_instruction *program, uint32_t n);

/* Lets nothing more in. It needs no right, and what it keeps out is not counted as
 * dropped. */
void ts_filter_shut(int fd);

#endif
