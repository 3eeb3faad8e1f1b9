/* What the probe's programs write into their ring, and a peer that plays the kernel
 * likewise. */
#ifndef TASKSTATS_EVENTS_H
#define TASKSTATS_EVENTS_H

#include <stdint.h>

#define TS_PATH_SIZE 1024 /* include/trace/events/cgroup.h: no path is longer */

enum ts_event { TS_EVENT_END = 1, TS_EVENT_BIRTH, TS_EVENT_CGROUP, TS_EVENTS };

/* A task has used a CPU for the last time. Times in ns. */
struct ts_end_event {
    uint32_t event;
    uint32_t pid;
    uint32_t tgid;
    uint32_t runs;      /* how often it got a CPU (sched_info.pcount), modulo 2^32 */
    uint64_t start_ns;  /* CLOCK_BOOTTIME */
    uint64_t began_ns;  /* the same by CLOCK_MONOTONIC, */
    uint64_t ended_ns;  /* and now */
    uint64_t cpu_ns;    /* on a CPU, all of it (se.sum_exec_runtime) */
    uint64_t waited_ns; /* for a CPU (sched_info.run_delay) */
    uint64_t cgroup_id;
};

/* A process was made. */
struct ts_birth_event {
    uint32_t event;
    uint32_t pid;
    uint32_t maker_pid; /* the process that called fork */
    uint32_t reserved;
    uint64_t start_ns; /* CLOCK_BOOTTIME */
    uint64_t maker_start_ns;
    uint64_t cgroup_id;
};

/* A cgroup was made, renamed or removed. */
struct ts_cgroup_event {
    uint32_t event;
    uint32_t change; /* enum ts_cgroup_change_kind */
    uint64_t id;
    char path[TS_PATH_SIZE]; /* bytes after its NUL mean nothing */
};

#endif
