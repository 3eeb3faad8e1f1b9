/* A consumer of exits that wakes for each record, as the kernel's getdelays
 * does: one socket for all CPUs, one recv a record, and an error is told and
 * gone on from. A RCVBUF of 0 leaves the queue as it is. See consumer.h. */
#define _GNU_SOURCE
#include "consumer.h"

int main(int argc, char **argv)
{
    int half = arguments(argc, argv) / 2; /* the kernel doubles it */
    int fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_GENERIC);
    struct sockaddr_nl own = {.nl_family = AF_NETLINK};
    char cpus[28];

    if (fd < 0 || bind(fd, (struct sockaddr *)&own, sizeof(own)) ||
        (half && setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &half, sizeof(half))))
        return 1;
    snprintf(cpus, sizeof(cpus), "0-%ld", sysconf(_SC_NPROCESSORS_CONF) - 1);
    register_on(fd, cpus);
    get_ready();
    for (;;) {
        if (recv(fd, slots[0], SLOT, 0) > 0)
            take(slots[0]);
        else if (errno == ENOBUFS)
            overruns++;
    }
}
