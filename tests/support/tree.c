/* Random trees of processes, and for each process the truth about it. See tree.py.
 *
 * Usage: tree SEED PROCESSES GROUPS TRUTH
 * makes PROCESSES in random trees, and GROUPS process groups of 41 that are killed at
 * once. TRUTH is a file of `struct truth`, one for each process by its number; 0 is this
 * process. A process is named after its number, so that its record can be told from all
 * others. Begins at a line on stdin, and exits when all that it made have been reaped. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MOST 60   /* processes of a tree */
#define AT_ONCE 8 /* trees */
#define GROUP 41  /* processes of a group */

struct truth {
    uint64_t before_ns, after_ns; /* CLOCK_BOOTTIME around the fork */
    uint32_t pid;
    uint32_t maker; /* its number */
};

static struct truth *truths;
static pid_t root;
static int ready[2]; /* a pipe: a byte from each process of a group */

static void fail(const char *what)
{
    fprintf(stderr, "tree: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_BOOTTIME, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static uint32_t any(uint32_t *seed, uint32_t below)
{
    *seed = *seed * 1103515245 + 12345;
    return (*seed >> 16) % below;
}

static void take_name(uint32_t number)
{
    char name[16];

    snprintf(name, sizeof(name), "%x-%x", (unsigned)root, number);
    prctl(PR_SET_NAME, name);
}

/* ---- ways to make a process; each writes down the truth ---- */

enum way { FORK, VFORK, CLONE_SIBLING, WAYS };

/* The child of vfork has this memory: it may only leave. */
static void make_leaf(uint32_t number)
{
    pid_t pid = vfork();

    if (pid == 0) {
        take_name(number);
        _exit(0);
    }
    truths[number].pid = (uint32_t)pid;
}

static pid_t make(uint32_t maker, uint32_t number, enum way way, int is_leaf)
{
    struct truth *truth = &truths[number];
    pid_t pid = -1;

    truth->maker = maker;
    truth->before_ns = now();
    if (way == VFORK && is_leaf)
        make_leaf(number);
    else if (way == CLONE_SIBLING && maker)
        pid = (pid_t)syscall(SYS_clone, CLONE_PARENT | SIGCHLD, NULL, NULL, NULL, NULL);
    else
        pid = fork();
    if (pid == 0) {
        take_name(number);
        return 0;
    }
    truth->after_ns = now();
    if (pid > 0)
        truth->pid = (uint32_t)pid;
    if (!truth->pid || truth->pid > INT32_MAX)
        fail("fork");
    return (pid_t)truth->pid;
}

/* ---- random trees ---- */

/* Makes the processes numbered from `number` + 1 to before `end` below `number`, and
 * waits for none of them, some or all. */
static void grow(uint32_t number, uint32_t end, uint32_t seed)
{
    uint32_t next = number + 1;

    seed ^= number * 2654435761u;
    while (next < end) {
        uint32_t size = 1 + any(&seed, end - next);
        if (any(&seed, 2) && size > 1)
            size = 1;
        if (!make(number, next, any(&seed, WAYS), size == 1)) {
            grow(next, next + size, seed);
            _exit(0);
        }
        next += size;
        if (any(&seed, 3) == 0)
            waitpid(-1, NULL, 0);
    }
    if (any(&seed, 2)) /* else they are orphans, or zombies until then */
        while (wait(NULL) > 0)
            continue;
}

static void reap_all(void)
{
    while (wait(NULL) > 0 || errno == EINTR)
        continue;
}

static uint32_t make_trees(uint32_t next, uint32_t processes, uint32_t seed)
{
    uint32_t end = next + processes;

    for (unsigned n = 1; next < end; n++) {
        uint32_t size = 1 + any(&seed, MOST);
        if (size > end - next)
            size = end - next;
        if (!make(0, next, FORK, 0)) {
            grow(next, next + size, seed);
            _exit(0);
        }
        next += size;
        if (n % AT_ONCE == 0)
            reap_all();
    }
    reap_all();
    return next;
}

/* ---- groups that are killed at once ---- */

static void say_ready(void)
{
    if (write(ready[1], "", 1) != 1)
        _exit(1);
    for (;;)
        pause();
}

/* Each process makes the next two, as in a heap, and waits to be killed. */
static void grow_group(uint32_t first)
{
    uint32_t at = 0;

    for (uint32_t child = 1; child <= 2 * at + 2 && child < GROUP; child++)
        if (!make(first + at, first + child, FORK, 0)) {
            at = child;
            child = 2 * at;
        }
    say_ready();
}

static uint32_t make_groups(uint32_t next, uint32_t groups)
{
    char byte;

    for (; groups; groups--, next += GROUP) {
        pid_t top = make(0, next, FORK, 0);
        if (!top) {
            setpgid(0, 0);
            grow_group(next);
        }
        for (int i = 0; i < GROUP; i++)
            if (read(ready[0], &byte, 1) != 1)
                fail("read");
        kill(-top, SIGKILL);
        reap_all();
    }
    return next;
}

int main(int argc, char **argv)
{
    uint32_t seed, processes, groups, next;
    size_t size;
    int fd;

    if (argc != 5)
        return 2;
    seed = (uint32_t)strtoul(argv[1], NULL, 10);
    processes = (uint32_t)strtoul(argv[2], NULL, 10);
    groups = (uint32_t)strtoul(argv[3], NULL, 10);
    size = (1 + processes + groups * GROUP) * sizeof(struct truth);
    fd = open(argv[4], O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, (off_t)size) < 0)
        fail(argv[4]);
    truths = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (truths == MAP_FAILED || pipe2(ready, O_CLOEXEC) < 0)
        fail("mmap or pipe");
    root = getpid();
    truths[0].pid = (uint32_t)root;
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); /* orphans are its own to reap */
    if (getchar() != '\n')
        return 1;
    next = make_trees(1, processes, seed);
    make_groups(next, groups);
    take_name(0);
    return 0;
}
