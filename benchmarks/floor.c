/* The floor under every query: the same system calls in plain C, and nothing
 * done with what comes back. Usage: floor QUERIES IN_A_SEND; prints ns a query. */
#define _GNU_SOURCE
#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SLOTS 64

struct request {
    struct nlmsghdr header;
    struct genlmsghdr generic;
    struct nlattr attribute;
    char value[12];
};

static unsigned char slots[SLOTS][4096];
static struct mmsghdr messages[SLOTS];
static struct iovec vectors[SLOTS];

static struct request make(unsigned short type, unsigned char command, unsigned short attribute,
                           const void *value, unsigned short size)
{
    struct request made = {
        .header = {.nlmsg_len = 24u + ((size + 3u) & ~3u), .nlmsg_type = type, .nlmsg_flags = 1},
        .generic = {.cmd = command, .version = 1},
        .attribute = {.nla_len = (unsigned short)(4 + size), .nla_type = attribute},
    };
    memcpy(made.value, value, size);
    return made;
}

static unsigned short family(int fd)
{
    struct request request = make(GENL_ID_CTRL, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_NAME,
                                  "TASKSTATS", 10);
    send(fd, &request, request.header.nlmsg_len, 0);
    ssize_t n = recv(fd, slots[0], sizeof(slots[0]), 0);
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

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

int main(int argc, char **argv)
{
    int queries = argc == 3 ? atoi(argv[1]) : 0;
    int in_a_send = argc == 3 ? atoi(argv[2]) : 0;
    int fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_GENERIC);
    struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
    int rcvbuf = 2 << 20;
    unsigned pid = 1;

    if (queries < 1 || in_a_send < 1)
        return 2;
    if (connect(fd, (struct sockaddr *)&kernel, sizeof(kernel)) ||
        setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &rcvbuf, sizeof(rcvbuf)))
        return 1;
    struct request one = make(family(fd), 1, 1, &pid, sizeof(pid));
    char *many = malloc((size_t)in_a_send * 28);
    for (int i = 0; i < in_a_send; i++)
        memcpy(many + i * 28, &one, 28);
    for (int i = 0; i < SLOTS; i++) {
        vectors[i] = (struct iovec){slots[i], sizeof(slots[i])};
        messages[i].msg_hdr = (struct msghdr){.msg_iov = &vectors[i], .msg_iovlen = 1};
    }

    double start = now();
    for (int done = 0; done < queries; done += in_a_send) {
        send(fd, many, (size_t)in_a_send * 28, 0);
        if (in_a_send == 1) {
            recv(fd, slots[0], sizeof(slots[0]), 0);
            continue;
        }
        for (int got = 0; got < in_a_send;) {
            int want = in_a_send - got < SLOTS ? in_a_send - got : SLOTS;
            int n = recvmmsg(fd, messages, (unsigned)want, 0, NULL);
            if (n <= 0)
                return 1;
            got += n;
        }
    }
    printf("%.1f\n", (now() - start) / queries);
    return 0;
}
