/* The floor under every query: the same system calls in plain C, and nothing
 * done with what comes back; the requests are made before.
 * Usage: queries TIMES IN_A_SEND <IDS; prints ns a query. */
#define _GNU_SOURCE
#include "ids.h"
#include "netlink.h"

#define REQUEST_SIZE 28

static char requests[MOST_IDS][REQUEST_SIZE];

static int receive(int fd, int wanted)
{
    while (wanted > 0) {
        int n = recvmmsg(fd, messages, (unsigned)(wanted < SLOTS ? wanted : SLOTS), 0, NULL);
        if (n <= 0)
            return -1;
        wanted -= n;
    }
    return 0;
}

static void query_all(int fd, int n, int in_a_send)
{
    for (int done = 0; done < n; done += in_a_send) {
        int asked = n - done < in_a_send ? n - done : in_a_send;
        size_t size = (size_t)asked * REQUEST_SIZE;

        if (send(fd, requests[done], size, 0) != (ssize_t)size ||
            (asked == 1 ? recv(fd, slots[0], SLOT, 0) <= 0 : receive(fd, asked)))
            exit(1);
    }
}

int main(int argc, char **argv)
{
    int times = argc == 3 ? atoi(argv[1]) : 0;
    int in_a_send = argc == 3 ? atoi(argv[2]) : 0;
    int fd = open_socket(NETLINK_GENERIC, 0, 4 << 20);
    int n = read_ids();
    unsigned short taskstats;
    int64_t start;

    if (fd < 0 || times < 1 || in_a_send < 1 || n < 1)
        return 2;
    taskstats = family(fd);
    for (int i = 0; i < n; i++) {
        struct request request = make(taskstats, 1, 1, &ids[i], sizeof(ids[i]));
        memcpy(requests[i], &request, REQUEST_SIZE);
    }
    prepare_slots();

    query_all(fd, n, in_a_send); /* to warm up */
    start = now();
    for (int i = 0; i < times; i++)
        query_all(fd, n, in_a_send);
    printf("%.1f\n", (double)(now() - start) / times / n);
    return 0;
}
