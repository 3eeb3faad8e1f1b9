/* A consumer of exits that lets records gather for 5 ms: the package's system
 * calls in plain C, one socket for each CPU. See consumer.h. */
#define _GNU_SOURCE
#include <poll.h>

#include "consumer.h"

#define MOST_CPUS 512

int main(int argc, char **argv)
{
    static const struct timespec latency = {.tv_nsec = 5000000};
    struct pollfd sockets[MOST_CPUS];
    int rcvbuf = arguments(argc, argv);
    long cpus = sysconf(_SC_NPROCESSORS_CONF);

    if (cpus > MOST_CPUS)
        return 2;
    for (long i = 0; i < cpus; i++) {
        char cpu[24];
        snprintf(cpu, sizeof(cpu), "%ld", i);
        sockets[i] =
            (struct pollfd){.fd = open_socket(NETLINK_GENERIC, 0, rcvbuf), .events = POLLIN};
        if (sockets[i].fd < 0)
            return 1;
        register_on(sockets[i].fd, cpu);
    }
    get_ready();
    for (;;) {
        poll(sockets, (nfds_t)cpus, -1);
        nanosleep(&latency, NULL);
        for (long i = 0; i < cpus; i++)
            if (sockets[i].revents)
                drain_socket(sockets[i].fd, 0, take);
    }
}
