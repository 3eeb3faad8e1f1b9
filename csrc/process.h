/* Which process this is, without a system call. */
#ifndef TASKSTATS_PROCESS_H
#define TASKSTATS_PROCESS_H

#include <sys/types.h>

/* As getpid, a system call that each query would pay for. */
pid_t ts_process(void);

#endif
