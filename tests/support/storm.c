/* Makes real exits, as fast as the machine can. See storm.py.
 *
 * Usage: storm threads|processes|moments CPU EXITS RATE FAILING_EVERY
 * with -1 for any CPU, and 0 for no end, no pace, no failures. Moments are
 * processes, each with the moment of its exit for a name. Prints "ready",
 * begins at a line on stdin, ends at EXITS, SIGTERM or the end of stdin, and
 * prints how many exits it made. On a failure it prints what failed instead. */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BATCH 16   /* made at once where there is no pace */
#define STACK 4096 /* bytes: a thread makes one system call, and no signal reaches it */

static _Alignas(16) char stacks[BATCH][STACK];
static _Atomic uint32_t alive[BATCH];
static pid_t pids[BATCH];

static uint64_t failing_every;
static int named; /* by the moment of its exit */

static void fail(const char *what)
{
    printf("%s: %s\n", what, strerror(errno));
    exit(1);
}

static int64_t now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static int status_of(uint64_t number)
{
    return failing_every && number % failing_every == 0;
}

/* ---- threads ---- */

static int leave(void *status)
{
    return (int)syscall(SYS_exit, (long)(intptr_t)status); /* _exit would end all threads */
}

static void start_thread(unsigned i, int status)
{
    int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
                CLONE_SYSVSEM | CLONE_CHILD_CLEARTID;

    alive[i] = 1;
    if (clone(leave, stacks[i] + STACK, flags, (void *)(intptr_t)status, NULL, NULL,
              &alive[i]) < 0)
        fail("clone");
}

/* The kernel clears the word in exit_mm, which comes after taskstats_exit
 * (kernel/exit.c:do_exit): the record has been built and sent. */
static void await_thread(unsigned i)
{
    while (alive[i])
        syscall(SYS_futex, &alive[i], FUTEX_WAIT, 1, NULL, NULL, 0);
}

/* ---- processes ---- */

/* CLOCK_MONOTONIC in ns, hexadecimal: the 15 letters that a name may have. */
static void take_moment(void)
{
    char name[16];

    snprintf(name, sizeof(name), "%015llx", (unsigned long long)now());
    prctl(PR_SET_NAME, name);
}

static void start_process(unsigned i, int status)
{
    pids[i] = vfork();
    if (pids[i] == 0) {
        if (named)
            take_moment();
        _exit(status);
    }
    if (pids[i] < 0)
        fail("vfork");
}

static void await_process(unsigned i)
{
    int status;

    if (waitpid(pids[i], &status, 0) != pids[i])
        fail("waitpid");
    if (!WIFEXITED(status)) {
        errno = ECHILD;
        fail("a child did not exit by itself");
    }
}

/* ---- when ---- */

static struct pollfd words[2] = {{.fd = 0, .events = POLLIN}, {.events = POLLIN}};

static void open_words(void)
{
    sigset_t set;

    sigfillset(&set); /* a thread's stack has no room for a handler's frame */
    sigprocmask(SIG_SETMASK, &set, NULL);
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    words[1].fd = signalfd(-1, &set, SFD_CLOEXEC);
    if (words[1].fd < 0)
        fail("signalfd");
}

/* Whether there is a word: on stdin, or SIGTERM. Waits for one up to `time`. */
static int is_told(const struct timespec *time)
{
    int n = ppoll(words, 2, time, NULL);

    if (n < 0)
        fail("ppoll");
    return n;
}

static int may_begin(void)
{
    char c = 0;

    while (c != '\n')
        if (is_told(NULL) && (words[1].revents || read(0, &c, 1) != 1))
            return 0;
    return 1;
}

/* With a pace each exit has its time, counted from the start: one that the
 * machine held up comes late, and does not delay those after it. */
static uint64_t blow(int threads, uint64_t exits, double rate)
{
    unsigned batch = rate > 0 ? 1 : BATCH;
    int64_t start = now();
    uint64_t made = 0;

    while (!exits || made < exits) {
        int64_t due = rate > 0 ? start + (int64_t)((double)made * 1e9 / rate) - now() : 0;
        int64_t left = due > 0 ? due : 0;
        struct timespec time = {.tv_sec = left / 1000000000, .tv_nsec = left % 1000000000};
        unsigned n = exits && exits - made < batch ? (unsigned)(exits - made) : batch;

        if (is_told(&time))
            break;
        for (unsigned i = 0; i < n; i++)
            (threads ? start_thread : start_process)(i, status_of(made + i + 1));
        for (unsigned i = n; i-- > 0;) /* the last one first: it wakes us once for all */
            (threads ? await_thread : await_process)(i);
        made += n;
    }
    return made;
}

int main(int argc, char **argv)
{
    int cpu = argc == 6 ? atoi(argv[2]) : -1;
    cpu_set_t cpus;
    uint64_t made = 0;

    setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
    if (argc != 6)
        return 2;
    failing_every = strtoull(argv[5], NULL, 10);
    named = argv[1][0] == 'm';
    CPU_ZERO(&cpus);
    if (cpu >= 0) {
        CPU_SET((size_t)cpu, &cpus);
        if (sched_setaffinity(0, sizeof(cpus), &cpus) < 0)
            fail("sched_setaffinity");
    }
    prctl(PR_SET_TIMERSLACK, 1);
    open_words();
    printf("ready\n");
    if (may_begin())
        made = blow(argv[1][0] == 't', strtoull(argv[3], NULL, 10), atof(argv[4]));
    printf("%llu\n", (unsigned long long)made);
    return 0;
}
