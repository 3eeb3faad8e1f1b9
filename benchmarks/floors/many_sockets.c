/* The floor under a drain of many sockets: one epoll set, and recvmmsg on each
 * socket that is ready. */
#define _GNU_SOURCE
#include <sys/epoll.h>

#include "netlink.h"

#define EVENTS 64

/* Puts sockets made by open_drain into an epoll set. Returns its descriptor. */
int watch_all(const int *fds, int n)
{
    int set = epoll_create1(EPOLL_CLOEXEC);

    prepare_slots();
    for (int i = 0; i < n; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fds[i]};
        if (epoll_ctl(set, EPOLL_CTL_ADD, fds[i], &event))
            return -1;
    }
    return set;
}

/* Returns the ns it took, or -1 if there were not `count` records. */
int64_t drain_all(int set, uint32_t peer, int count)
{
    struct epoll_event events[EVENTS];
    int64_t start = now();
    int got = 0;
    int n;

    do {
        n = epoll_wait(set, events, EVENTS, 0);
        for (int i = 0; i < n; i++)
            got += drain_socket(events[i].data.fd, peer, NULL);
    } while (n == EVENTS);
    int64_t end = now();
    return got == count ? end - start : -1;
}
