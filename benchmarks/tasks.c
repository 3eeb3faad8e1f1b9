/* Processes that wait. See tasks.py.
 *
 * Usage: tasks N; forks N children that pause, and prints their pids once all do.
 * At the end of stdin it ends them, and itself; if it is killed they end too. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static void wait_for_the_end(pid_t parent, int ready)
{
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) || getppid() != parent || write(ready, "", 1) != 1)
        _exit(1);
    close(ready);
    for (;;)
        pause();
}

int main(int argc, char **argv)
{
    int n = argc == 2 ? atoi(argv[1]) : 0;
    pid_t *pids = calloc((size_t)n, sizeof(*pids));
    pid_t parent = getpid();
    int made = 0;
    int ready[2];
    char byte;

    if (n < 1 || !pids || pipe(ready))
        return 2;
    while (made < n && (pids[made] = fork()) >= 0) {
        if (pids[made] == 0)
            wait_for_the_end(parent, ready[1]);
        if (read(ready[0], &byte, 1) != 1)
            break;
        made++;
    }
    for (int i = 0; made == n && i < n; i++)
        printf("%d ", pids[i]);
    printf("\n");
    fflush(stdout);

    while (read(0, &byte, 1) > 0)
        ;
    for (int i = 0; i < made; i++)
        kill(pids[i], SIGKILL);
    while (wait(NULL) > 0)
        ;
    return made != n;
}
