/* The floor under a drain: recvmmsg until the queue is empty, and nothing done
 * with what comes but a look at who sent it. */
#define _GNU_SOURCE
#include "netlink.h"

/* A socket connected to `peer`; its port. Returns the descriptor. */
int open_drain(uint32_t peer, int rcvbuf, uint32_t *port)
{
    int fd = open_socket(NETLINK_USERSOCK, peer, rcvbuf);
    struct sockaddr_nl own;
    socklen_t size = sizeof(own);

    if (fd < 0 || getsockname(fd, (struct sockaddr *)&own, &size))
        return -1;
    *port = own.nl_pid;
    prepare_slots();
    return fd;
}

/* Returns the ns it took, or -1 if there were not `count` records. */
int64_t drain(int fd, uint32_t peer, int count)
{
    int64_t start = now();
    int got = drain_socket(fd, peer, NULL);
    int64_t end = now();

    return got == count ? end - start : -1;
}
