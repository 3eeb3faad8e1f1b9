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
    unsigned cpus = argc == 3 ? (unsigned)atoi(argv[1]) : 0;

    if (cpus < 1 || cpus > MOST_CPUS)
        return 2;
    for (unsigned i = 0; i < cpus; i++) {
        char cpu[8];
        snprintf(cpu, sizeof(cpu), "%u", i);
        sockets[i] = (struct pollfd){.fd = listen_to(cpu), .events = POLLIN};
    }
    get_ready(argv[2]);
    for (;;) {
        poll(sockets, cpus, -1);
        nanosleep(&latency, NULL);
        for (unsigned i = 0; i < cpus; i++)
            if (sockets[i].revents)
                drain_socket(sockets[i].fd, 0, count);
    }
}
