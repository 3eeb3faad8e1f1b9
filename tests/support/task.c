/* A process whose threads, and children, do as they are told. See task.py.
 *
 * Usage: task NEXT ANSWERS ORDERS...
 * with the path of the program that it becomes by exec, and descriptors: where
 * it answers, and where its k-th thread or child reads orders. It answers its pid once it
 * runs, and again after an exec. */
#define _GNU_SOURCE
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define THREADS 5
#define STACK 16384 /* bytes: a thread makes system calls, and no signal reaches a handler */

struct order {
    int32_t what, number;
};

static _Alignas(16) char stacks[THREADS][STACK];
static char **arguments;

static void answer(int32_t number)
{
    if (write(atoi(arguments[2]), &number, sizeof(number)) != sizeof(number))
        syscall(SYS_exit_group, 111);
}

static int obey(void *index);

static void start(int index, int flags)
{
    answer(clone(obey, stacks[index] + STACK, flags, (void *)(intptr_t)index));
}

/* Of the sleeps that may be frozen one that any kernel has. */
static void sleep_freezable(void)
{
    struct timespec long_time = {.tv_sec = 1000000};

    for (;;)
        nanosleep(&long_time, NULL);
}

static int obey(void *index)
{
    int orders = atoi(arguments[3 + (intptr_t)index]);
    struct order order;

    while (read(orders, &order, sizeof(order)) == sizeof(order)) {
        switch (order.what) {
        case 't':
            start(order.number, CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
                                    CLONE_SYSVSEM);
            break;
        case 'c':
            start(order.number, SIGCHLD);
            break;
        case 'r':
            answer(prctl(PR_SET_CHILD_SUBREAPER, order.number, 0, 0, 0));
            break;
        case 'x':
            syscall(SYS_exit, order.number);
            break;
        case 'g':
            syscall(SYS_exit_group, order.number);
            break;
        case 'e':
            execv(arguments[1], arguments);
            answer(-errno);
            break;
        case 's':
            answer(0);
            for (;;)
                ;
        case 'f':
            answer(0);
            sleep_freezable();
            break;
        }
    }
    syscall(SYS_exit_group, 0); /* nobody is there to give orders */
    return 0;
}

int main(int argc, char **argv)
{
    if (argc < 4)
        return 2;
    arguments = argv;
    answer(getpid());
    return obey(NULL);
}
