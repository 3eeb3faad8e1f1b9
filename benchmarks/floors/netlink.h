/* What the floors share: requests to TASKSTATS, and sockets and receive slots
 * set up as the package sets up its own. */
#ifndef FLOOR_NETLINK_H
#define FLOOR_NETLINK_H

#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef SOL_NETLINK
#define SOL_NETLINK 270
#endif

#define SLOTS 64
#define SLOT 4096

struct request {
    struct nlmsghdr header;
    struct genlmsghdr generic;
    struct nlattr attribute;
    char value[28];
};

static unsigned char slots[SLOTS][SLOT];
static struct sockaddr_nl sources[SLOTS];
static struct mmsghdr messages[SLOTS];

static inline struct request make(unsigned short type, unsigned char command,
                                  unsigned short attribute, const void *value,
                                  unsigned short size)
{
    struct request made = {
        .header = {.nlmsg_len = 24u + ((size + 3u) & ~3u),
                   .nlmsg_type = type,
                   .nlmsg_flags = NLM_F_REQUEST},
        .generic = {.cmd = command, .version = 1},
        .attribute = {.nla_len = (unsigned short)(4 + size), .nla_type = attribute},
    };
    memcpy(made.value, value, size);
    return made;
}

static inline void ask(int fd, const struct request *request)
{
    if (send(fd, request, request->header.nlmsg_len, 0) < 0)
        exit(1);
}

/* `rcvbuf` is the doubled figure, which the kernel grants. */
static inline int open_socket(int protocol, uint32_t peer, int rcvbuf)
{
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
    struct sockaddr_nl to = {.nl_family = AF_NETLINK, .nl_pid = peer};
    int half = rcvbuf / 2;
    int on = 1;

    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &half, sizeof(half)) ||
        setsockopt(fd, SOL_NETLINK, NETLINK_NO_ENOBUFS, &on, sizeof(on)) ||
        connect(fd, (struct sockaddr *)&to, sizeof(to)))
        return -1;
    return fd;
}

static inline unsigned short family(int fd)
{
    struct request request =
        make(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_NAME, "TASKSTATS", 10);
    ssize_t n;

    ask(fd, &request);
    n = recv(fd, slots[0], SLOT, 0);
    for (ssize_t at = 20; at + 6 <= n;) {
        struct nlattr attribute;
        unsigned short id;
        memcpy(&attribute, slots[0] + at, sizeof(attribute));
        memcpy(&id, slots[0] + at + 4, sizeof(id));
        if (attribute.nla_type == CTRL_ATTR_FAMILY_ID)
            return id;
        at += (attribute.nla_len + 3) & ~3;
    }
    exit(1);
}

static inline void prepare_slots(void)
{
    static struct iovec vectors[SLOTS];

    for (int i = 0; i < SLOTS; i++) {
        vectors[i] = (struct iovec){slots[i], SLOT};
        messages[i].msg_hdr = (struct msghdr){.msg_name = &sources[i],
                                              .msg_namelen = sizeof(sources[i]),
                                              .msg_iov = &vectors[i],
                                              .msg_iovlen = 1};
    }
}

/* Calls recvmmsg until a call finds the queue short. Returns how many datagrams
 * came from `peer`; `each`, if any, is called with them. */
static inline int drain_socket(int fd, uint32_t peer, void (*each)(const unsigned char *))
{
    int got = 0;
    int n;

    do {
        n = recvmmsg(fd, messages, SLOTS, MSG_DONTWAIT, NULL);
        for (int i = 0; i < n; i++) {
            if (sources[i].nl_pid != peer)
                continue;
            got++;
            if (each)
                each(slots[i]);
        }
    } while (n == SLOTS);
    return got;
}

static inline int64_t now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

#endif
