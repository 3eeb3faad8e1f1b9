/* The floor under every query: the same system calls in plain C, and nothing
 * done with what comes back. Usage: queries QUERIES IN_A_SEND; prints ns a query. */
#define _GNU_SOURCE
#include "netlink.h"

int main(int argc, char **argv)
{
    int queries = argc == 3 ? atoi(argv[1]) : 0;
    int in_a_send = argc == 3 ? atoi(argv[2]) : 0;
    int fd = open_socket(NETLINK_GENERIC, 0, 4 << 20);
    unsigned pid = 1;
    struct request one;
    size_t size;
    char *many;

    if (fd < 0 || queries < 1 || in_a_send < 1)
        return 2;
    one = make(family(fd), 1, 1, &pid, sizeof(pid));
    size = one.header.nlmsg_len;
    many = malloc((size_t)in_a_send * size);
    for (int i = 0; i < in_a_send; i++)
        memcpy(many + (size_t)i * size, &one, size);
    prepare_slots();

    int64_t start = now();
    for (int done = 0; done < queries; done += in_a_send) {
        send(fd, many, (size_t)in_a_send * size, 0);
        if (in_a_send == 1) {
            recv(fd, slots[0], SLOT, 0);
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
    printf("%.1f\n", (double)(now() - start) / queries);
    return 0;
}
