/* What the C consumers of storms share.
 *
 * Usage: PROGRAM RCVBUF count|time STORM..., the bytes of each queue and the pids
 * of the storms. They say "ready" and hear until SIGTERM; consumers.py has what
 * they print then. */
#ifndef FLOOR_CONSUMER_H
#define FLOOR_CONSUMER_H

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include "netlink.h"
#include "taskstats_shim.h"

#define STATS_AT 36 /* in a datagram: the headers, the aggregate's and the id's attributes */
#define MOST_TIMED 100000

static int n_storms;
static uint32_t storms[64];
static int is_timed;
static long seen, overruns, queue;
static int64_t before, late[MOST_TIMED];

static inline int64_t cpu_time(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return (int64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000000 +
           (int64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1000;
}

static void report(int signal)
{
    dprintf(1,
            "{\"records\": %ld, \"cpu_ns\": %lld, \"overruns\": %ld, \"queue\": %ld, "
            "\"late_ns\": [",
            seen, (long long)(cpu_time() - before), overruns, queue);
    for (long i = 0; is_timed && i < seen; i++)
        dprintf(1, "%s%lld", i ? ", " : "", (long long)late[i]);
    dprintf(1, "]}\n");
    _exit(signal != SIGTERM);
}

/* Reads the arguments; the bytes of each queue. Who started it, it does not outlive. */
static inline int arguments(int argc, char **argv)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (argc < 4 || argc - 3 > (int)(sizeof(storms) / sizeof(*storms)))
        exit(2);
    is_timed = argv[2][0] == 't';
    for (int i = 3; i < argc; i++)
        storms[n_storms++] = (uint32_t)atoi(argv[i]);
    return atoi(argv[1]);
}

static inline void get_ready(void)
{
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

/* A thread of a storm, or a process that it made. */
static inline int is_of_storm(const unsigned char *datagram)
{
    uint32_t pid = word(datagram, offsetof(struct ts_stats, ac_pid));
    uint32_t ppid = word(datagram, offsetof(struct ts_stats, ac_ppid));
    uint32_t tgid = word(datagram, offsetof(struct ts_stats, ac_tgid));

    for (int i = 0; i < n_storms; i++)
        if (ppid == storms[i] || (tgid == storms[i] && pid != tgid))
            return 1;
    return 0;
}

/* A record is at hand. In a timed storm its name is the moment of its exit. */
static inline void take(const unsigned char *datagram)
{
    const char *name = (const char *)datagram + STATS_AT + offsetof(struct ts_stats, ac_comm);

    if (!is_of_storm(datagram))
        return;
    if (is_timed) {
        if (seen == MOST_TIMED)
            exit(1);
        late[seen] = now() - strtoll(name, NULL, 16);
    }
    seen++;
}

/* `cpus` is a list in the kernel's notation. The socket has its queue already. */
static inline void register_on(int fd, const char *cpus)
{
    struct request request = make(family(fd), 1, 3, cpus, (unsigned short)(strlen(cpus) + 1));
    int granted;
    socklen_t size = sizeof(granted);

    if (getsockopt(fd, SOL_SOCKET, SO_RCVBUF, &granted, &size))
        exit(1);
    queue += granted;
    ask(fd, &request);
}

#endif
