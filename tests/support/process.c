/* csrc/process.c where the kernel wipes pages in children, where it refuses to, and where
 * it says that it does and does not. See tests/unit/test_process.py.
 *
 * Usage: process real|refused|ignored. Prints how often it asked for a page, then whether
 * a process has kept its number, and whether its child and its child's child have others. */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *mode;
static int asked;

static int answered(void *memory, size_t size, int advice)
{
    asked++;
    if (mode[2] == 'a')
        return madvise(memory, size, advice);
    errno = EINVAL;
    return mode[0] == 'i' ? 0 : -1;
}

#define madvise answered
#include "../../csrc/process.c"

static int (*to_call)(uint32_t);
static uint32_t argument;

static int call(void *unused)
{
    (void)unused;
    _exit(to_call(argument));
}

/* What a child returns that the C library's fork knows nothing of. */
static int in_child(int (*function)(uint32_t), uint32_t number)
{
    /* Each child has a copy of it, and none returns to what its parent had there. */
    static char stack[1 << 16] __attribute__((aligned(16)));
    int status;
    pid_t child;

    to_call = function;
    argument = number;
    child = clone(call, stack + sizeof(stack), SIGCHLD, NULL);
    if (child < 0 || waitpid(child, &status, 0) != child || !WIFEXITED(status))
        exit(1);
    return WEXITSTATUS(status);
}

static int is_another(uint32_t number)
{
    return ts_process() != number;
}

static int both_are_others(uint32_t number)
{
    uint32_t own = ts_process();

    return own != number && in_child(is_another, number) && in_child(is_another, own);
}

int main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    mode = argv[1];
    uint32_t number = ts_process();
    int kept = ts_process() == number && ts_process() == number;
    int others = in_child(both_are_others, number);
    printf("%d %d %d\n", asked, kept && ts_process() == number, others);
    return 0;
}
