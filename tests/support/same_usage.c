/* To be preloaded into GNU time: the elapsed time and the usage that it finds are those of USAGE. */

#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>

static struct rusage usage;
static long wall;
static int status;

__attribute__((constructor)) static void read_usage(void)
{
    const char *text = getenv("USAGE");
    long user, system;

    if (!text || sscanf(text, "%ld %ld %ld %d %ld %ld %ld %ld %ld %ld %ld", &wall, &user, &system,
                        &status, &usage.ru_maxrss, &usage.ru_minflt, &usage.ru_majflt,
                        &usage.ru_nvcsw, &usage.ru_nivcsw, &usage.ru_inblock,
                        &usage.ru_oublock) != 11)
        abort();
    usage.ru_utime = (struct timeval){user / 1000000, user % 1000000};
    usage.ru_stime = (struct timeval){system / 1000000, system % 1000000};
}

/* The clock stands at 0 when it is asked for the first time, and at the end from then on. */
int gettimeofday(struct timeval *now, void *zone)
{
    static long asked;
    long at = asked++ ? wall : 0;

    (void)zone;
    *now = (struct timeval){at / 1000000, at % 1000000};
    return 0;
}

pid_t wait3(int *its_status, int options, struct rusage *its_usage)
{
    pid_t child = waitpid(-1, its_status, options);

    *its_status = status;
    *its_usage = usage;
    return child;
}
