/* What the C consumers of a storm share. Usage: PROGRAM CPUS STORM, a number of
 * CPUs and the pid of the storm. Says "ready", then hears until SIGTERM, which
 * comes when the queues are empty: it prints how many of the storm's records it
 * has seen, and the CPU time since "ready" in ns. */
#ifndef FLOOR_CONSUMER_H
#define FLOOR_CONSUMER_H

#include <signal.h>
#include <stddef.h>
#include <sys/resource.h>

#include "netlink.h"
#include "taskstats_shim.h"

#define RCVBUF (32 << 20)
#define STATS_AT 36 /* in a datagram: the headers, the aggregate's and the id's attributes */

static uint32_t storm;
static long seen;
static int64_t before;

static inline int64_t cpu_time(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return (int64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000000 +
           (int64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000;
}

static void report(int signal)
{
    dprintf(1, "%ld %lld\n", seen, (long long)(cpu_time() - before));
    _exit(signal != SIGTERM);
}

static inline void get_ready(const char *pid)
{
    storm = (uint32_t)atoi(pid);
    signal(SIGTERM, report);
    prepare_slots();
    before = cpu_time();
    dprintf(1, "ready\n");
}

static inline uint32_t word(const unsigned char *datagram, size_t offset)
{
    uint32_t value;

    memcpy(&value, datagram + STATS_AT + offset, sizeof(value));
    return value;
}

/* A thread of the storm, or a process that it made. */
static inline void count(const unsigned char *datagram)
{
    int thread = word(datagram, offsetof(struct ts_stats, ac_tgid)) == storm &&
                 word(datagram, offsetof(struct ts_stats, ac_pid)) != storm;

    seen += thread || word(datagram, offsetof(struct ts_stats, ac_ppid)) == storm;
}

/* `cpus` is a list in the kernel's notation. */
static inline int listen_to(const char *cpus)
{
    int fd = open_socket(NETLINK_GENERIC, 0, RCVBUF);
    struct request request;

    if (fd < 0)
        exit(1);
    request = make(family(fd), 1, 3, cpus, (unsigned short)(strlen(cpus) + 1));
    ask(fd, &request);
    return fd;
}

#endif
