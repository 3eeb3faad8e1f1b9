/* A tree of processes that forks as fast as it can: `wild NUMBER` makes so many, half of them
 * orphans, and exits when all have ended. */
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define BRANCHES 4

static pid_t make(void)
{
    pid_t pid = fork();

    if (pid < 0)
        abort();
    return pid;
}

/* Each child makes one, and does not wait for it. */
static void branch(long number)
{
    for (long i = 0; i < number; i += 2) {
        if (make() == 0) {
            if (i + 1 < number && make() == 0)
                _exit(0);
            _exit(0);
        }
        while (wait(NULL) < 0)
            ;
    }
    _exit(0);
}

int main(int argc, char **argv)
{
    long number = argc > 1 ? atol(argv[1]) - BRANCHES : 0;

    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); /* it waits for the orphans */
    for (long i = 0; i < BRANCHES; i++)
        if (make() == 0)
            branch(number / BRANCHES + (i < number % BRANCHES));
    while (wait(NULL) > 0)
        ;
    return 0;
}
