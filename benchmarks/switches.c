/* Switches from task to task, as many as can be. See switches.py.
 *
 * Usage: switches CPU TASKS SWITCHES; the processes hand a byte round through pipes, on one
 * CPU. Prints the ns that it took, and how many switches the kernel counted. */
#define _GNU_SOURCE
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MOST 256

static int64_t now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static long switches(int who)
{
    struct rusage usage;

    getrusage(who, &usage);
    return usage.ru_nvcsw + usage.ru_nivcsw;
}

static void pass(int from, int to, long rounds)
{
    char byte;

    while (rounds-- > 0)
        if (read(from, &byte, 1) != 1 || write(to, &byte, 1) != 1)
            exit(1);
}

int main(int argc, char **argv)
{
    int tasks = argc == 4 ? atoi(argv[2]) : 0;
    long rounds = argc == 4 && tasks ? atol(argv[3]) / tasks : 0;
    int pipes[MOST][2];
    cpu_set_t cpu;
    int64_t start;
    char byte = 0;

    if (tasks < 2 || tasks > MOST || rounds < 1)
        return 2;
    CPU_ZERO(&cpu);
    CPU_SET(atoi(argv[1]), &cpu);
    if (sched_setaffinity(0, sizeof(cpu), &cpu))
        return 1;
    for (int i = 0; i < tasks; i++)
        if (pipe(pipes[i]))
            return 1;
    for (int i = 1; i < tasks; i++)
        if (fork() == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            pass(pipes[i - 1][0], pipes[i][1], rounds + 1);
            exit(0);
        }
    /* One round first, so that all have begun. */
    if (write(pipes[0][1], &byte, 1) != 1 || read(pipes[tasks - 1][0], &byte, 1) != 1)
        return 1;
    start = now();
    for (long i = 0; i < rounds; i++)
        if (write(pipes[0][1], &byte, 1) != 1 || read(pipes[tasks - 1][0], &byte, 1) != 1)
            return 1;
    printf("%lld ", (long long)(now() - start));
    while (wait(NULL) > 0)
        ;
    printf("%ld\n", switches(RUSAGE_SELF) + switches(RUSAGE_CHILDREN));
    return 0;
}
