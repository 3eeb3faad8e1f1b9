/* The kernel's part on a fake endpoint: exit records, as fast as can be sent. */
#define _GNU_SOURCE
#include "netlink.h"

/* Sends `count` copies of a captured datagram of one message to a port, their
 * numbers running on from `seq`. Returns how many were queued. */
int send_records(int from, uint32_t port, const void *datagram, size_t size, int count,
                 uint32_t seq)
{
    struct sockaddr_nl to = {.nl_family = AF_NETLINK, .nl_pid = port};
    struct nlmsghdr *header = (struct nlmsghdr *)slots[0];
    int sent = 0;

    memcpy(slots[0], datagram, size);
    for (; sent < count; sent++) {
        header->nlmsg_seq = seq + (uint32_t)sent;
        if (sendto(from, slots[0], size, MSG_DONTWAIT, (struct sockaddr *)&to, sizeof(to)) < 0)
            break;
    }
    return sent;
}
