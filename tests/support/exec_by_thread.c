/* exec_by_thread CPU OTHER: the first thread waits on CPU for its end. The second uses 20 ms of
 * CPU time on OTHER, and then calls exec: it takes the pid of the first one, which is killed.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static void stay_on(const char *cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(atoi(cpu), &set);
    sched_setaffinity(0, sizeof(set), &set);
}

static void *second(void *other)
{
    struct timespec used;

    stay_on(other);
    do
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    while (used.tv_sec == 0 && used.tv_nsec < 20000000);
    execl("/bin/true", "true", (char *)NULL);
    _exit(1);
}

int main(int argc, char **argv)
{
    pthread_t thread;

    if (argc != 3)
        return 2;
    stay_on(argv[1]);
    if (pthread_create(&thread, NULL, second, argv[2]))
        return 1;
    for (;;)
        pause();
}
