/* A consumer of exits that wakes for each record, as the kernel's getdelays
 * does: one socket for all CPUs, one recv a record. See consumer.h. */
#define _GNU_SOURCE
#include "consumer.h"

int main(int argc, char **argv)
{
    char cpus[28];
    int fd;

    if (argc != 3)
        return 2;
    snprintf(cpus, sizeof(cpus), "0-%d", atoi(argv[1]) - 1);
    fd = listen_to(cpus);
    get_ready(argv[2]);
    for (;;) {
        if (recv(fd, slots[0], SLOT, 0) > 0)
            count(slots[0]);
    }
}
