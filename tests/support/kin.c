/* Processes that follow orders, and that write down each process that they make. See kin.py.
 *
 * Usage: kin FOLDER NAME UID
 * reads orders from stdin, one a line, and answers each with a number on stdout. Each
 * process appends itself to FOLDER/truth before it does anything else, so that the truth
 * is known although it may be killed. `kin leaf NAME` is what an exec becomes: it exits. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
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

#define GROUP 12 /* processes of a group that is killed */
#define LINE 256

struct made {
    uint64_t by_ns; /* CLOCK_BOOTTIME: it has started before */
    uint32_t pid;   /* 0 in another PID namespace */
    uint32_t written;
    char name[16];
};

struct truth {
    _Atomic uint32_t n;
    uint32_t room;
    uint64_t unused[3];
    struct made all[];
};

static struct truth *truth;
static const char *folder;
static char name[16];
static int nested;             /* children live in another PID namespace */
static int hold[2] = {-1, -1}; /* a pipe: what is held reads from it until its end */

static void fail(const char *what)
{
    fprintf(stderr, "kin: %s: %s\n", what, strerror(errno));
    kill(0, SIGTERM);
    _exit(1);
}

static void write_down(void)
{
    uint32_t n = atomic_fetch_add(&truth->n, 1);
    struct made *one = &truth->all[n];
    struct timespec time;

    if (n >= truth->room)
        fail("no room for the truth");
    clock_gettime(CLOCK_BOOTTIME, &time);
    one->by_ns = (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
    one->pid = nested ? 0 : (uint32_t)getpid();
    memcpy(one->name, name, sizeof(name));
    one->written = 1;
}

static void take_name(const char *taken)
{
    memset(name, 0, sizeof(name));
    strncpy(name, taken, sizeof(name) - 1);
    prctl(PR_SET_NAME, name);
}

static uint32_t any(uint32_t *seed, uint32_t below)
{
    *seed = *seed * 1103515245 + 12345;
    return (*seed >> 16) % below;
}

static void nap(long us)
{
    struct timespec time = {.tv_nsec = us * 1000};

    nanosleep(&time, NULL);
}

/* A fork that writes down the child. With few pids, there may be none for a moment. */
static pid_t make_with(unsigned long flags)
{
    pid_t pid;

    while ((pid = (pid_t)(flags ? syscall(SYS_clone, flags, NULL, NULL, NULL, NULL)
                                : fork())) < 0) {
        if (errno != EAGAIN)
            fail("fork");
        nap(1000);
    }
    if (pid == 0)
        write_down();
    return pid;
}

static pid_t make(void)
{
    return make_with(0);
}

static void reap(void)
{
    while (wait(NULL) > 0 || errno == EINTR)
        continue;
}

/* ---- shapes; each is made by a process of the job, and returns how many it made ---- */

/* The child of vfork has this memory: it may only leave. */
static void make_leaf(void)
{
    pid_t pid;

    while ((pid = vfork()) < 0)
        nap(1000);
    if (pid == 0) {
        write_down();
        _exit(0);
    }
}

static int leaves(void)
{
    make_leaf();
    if (!make())
        _exit(3);
    return 2;
}

static int chain(void)
{
    for (int depth = 0; depth < 6; depth++)
        if (make()) {
            if (depth == 0)
                return 6;
            reap();
            _exit(0);
        }
    _exit(0);
}

/* Each exits as soon as it has made the next. */
static int orphan_chain(void)
{
    for (int depth = 0; depth < 6; depth++)
        if (make()) {
            if (depth == 0)
                return 6;
            _exit(0);
        }
    _exit(0);
}

static int double_fork(void)
{
    if (!make()) {
        if (!make())
            nap(300);
        _exit(0);
    }
    return 2;
}

static int daemonize(void)
{
    if (!make()) {
        setsid();
        if (make())
            _exit(0);
        for (int i = 0; i < 3; i++)
            if (!make())
                _exit(0);
        _exit(0);
    }
    return 5;
}

static int session(void)
{
    if (!make()) {
        setsid();
        for (int i = 0; i < 2; i++)
            if (!make())
                _exit(0);
        reap();
        _exit(0);
    }
    return 3;
}

/* The children of the child are its siblings. */
static int siblings(void)
{
    if (!make()) {
        if (!make()) {
            if (make_with(CLONE_PARENT | SIGCHLD) == 0 && make() == 0)
                nap(100);
            _exit(0);
        }
        reap();
        _exit(0);
    }
    return 4;
}

static int inner_subreaper(void)
{
    if (!make()) {
        prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
        for (int i = 0; i < 2; i++)
            double_fork();
        reap();
        _exit(0);
    }
    return 5;
}

/* Each process makes the next two, as in a heap; all are killed at once. */
static int killed_group(void)
{
    int ready[2];
    char byte;
    pid_t top;

    if (pipe(ready) < 0)
        fail("pipe");
    top = make();
    if (!top) {
        int at = 0;
        setpgid(0, 0);
        for (int child = 1; child <= 2 * at + 2 && child < GROUP; child++)
            if (!make()) {
                at = child;
                child = 2 * at;
            }
        if (write(ready[1], "", 1) != 1)
            _exit(1);
        for (;;)
            pause();
    }
    for (int i = 0; i < GROUP; i++)
        if (read(ready[0], &byte, 1) != 1)
            fail("read");
    kill(-top, SIGKILL);
    close(ready[0]);
    close(ready[1]);
    return GROUP;
}

static void *fork_in_thread(void *unused)
{
    (void)unused;
    if (!make())
        _exit(0);
    return NULL;
}

static void *sleep_in_thread(void *unused)
{
    (void)unused;
    for (;;)
        pause();
    return NULL;
}

static void *exec_in_thread(void *unused)
{
    (void)unused;
    execl("/proc/self/exe", "kin", "leaf", name, (char *)NULL);
    _exit(1);
}

static pthread_t start_thread(void *(*run)(void *))
{
    pthread_attr_t attributes;
    pthread_t thread;
    int rc;

    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 65536);
    while ((rc = pthread_create(&thread, &attributes, run, NULL)) == EAGAIN)
        nap(1000);
    if (rc) {
        errno = rc;
        fail("pthread_create");
    }
    return thread;
}

static int threads(void)
{
    if (!make()) {
        pthread_t first = start_thread(fork_in_thread), second = start_thread(fork_in_thread);
        pthread_join(first, NULL);
        pthread_join(second, NULL);
        reap();
        _exit(0);
    }
    return 3;
}

static int leader_first(void)
{
    if (!make()) {
        start_thread(fork_in_thread);
        syscall(SYS_exit, 0);
    }
    return 2;
}

static int killed_threads(void)
{
    if (!make()) {
        start_thread(sleep_in_thread);
        start_thread(sleep_in_thread);
        _exit(0);
    }
    return 1;
}

static int exec_by_thread(void)
{
    if (!make()) {
        start_thread(exec_in_thread);
        for (;;)
            pause();
    }
    return 1;
}

typedef int shape(void);

static shape *const shapes[] = {
    leaves,   chain,           orphan_chain, double_fork, daemonize,    session,
    siblings, inner_subreaper, killed_group, threads,     leader_first, killed_threads,
    exec_by_thread,
};

#define SHAPES (sizeof(shapes) / sizeof(shapes[0]))

/* ---- orders ---- */

static int made_wild(uint32_t processes, uint32_t seed)
{
    uint32_t made = 0;

    for (uint32_t turn = 1; made < processes; turn++) {
        made += (uint32_t)shapes[any(&seed, SHAPES)]();
        if (turn % 4 == 0)
            reap();
        else
            while (waitpid(-1, NULL, WNOHANG) > 0)
                continue;
    }
    reap();
    return (int)made;
}

static int made_children(uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        if (!make())
            _exit(0);
        if (i % 16 == 15)
            reap();
    }
    reap();
    return (int)n;
}

static int made_orphans(uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        double_fork();
        while (waitpid(-1, NULL, WNOHANG) > 0)
            continue;
    }
    reap();
    return (int)n;
}

/* Makes processes that wait for the order to go on. */
static int held(uint32_t n)
{
    char byte;

    if (pipe(hold) < 0)
        fail("pipe");
    for (uint32_t i = 0; i < n; i++)
        if (!make()) {
            close(hold[1]);
            (void)!read(hold[0], &byte, 1);
            daemonize();
            double_fork();
            leader_first();
            _exit(0);
        }
    close(hold[0]);
    return (int)n;
}

static int open_in_folder(const char *of, const char *suffix, int flags)
{
    char path[LINE];
    int fd;

    snprintf(path, sizeof(path), "%s/%s.%s", folder, of, suffix);
    fd = open(path, flags | O_CLOEXEC);
    if (fd < 0)
        fail(path);
    return fd;
}

/* Makes a process that reads orders of its own, from pipes; with this pid, or 0 for any. */
static int spawn(const char *taken, pid_t wanted, const char *pipes)
{
    struct clone_args arguments = {.exit_signal = SIGCHLD};
    pid_t pid;

    if (wanted) {
        arguments.set_tid = (uint64_t)(uintptr_t)&wanted;
        arguments.set_tid_size = 1;
    }
    pid = (pid_t)syscall(SYS_clone3, &arguments, sizeof(arguments));
    if (pid < 0)
        return -errno;
    if (pid)
        return pid;
    take_name(taken);
    write_down();
    signal(SIGCHLD, SIG_DFL);
    if (hold[1] >= 0)
        close(hold[1]);
    dup2(open_in_folder(pipes, "in", O_RDONLY), 0);
    dup2(open_in_folder(pipes, "out", O_WRONLY), 1);
    return 0;
}

/* The children to come live in the PID namespace of a process, or in a new one. */
static int enter(pid_t pid)
{
    char path[64];
    int fd, rc;

    nested = 1;
    if (!pid)
        return unshare(CLONE_NEWPID) < 0 ? -errno : 0;
    snprintf(path, sizeof(path), "/proc/%d/ns/pid_for_children", pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    rc = fd < 0 || setns(fd, CLONE_NEWPID) < 0 ? -errno : 0;
    close(fd);
    return rc;
}

/* Has a subreaper whose children, and adopted orphans, are reaped by the kernel. */
static int care(void)
{
    signal(SIGCHLD, SIG_IGN);
    return prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
}

/* Changes the real user alone, which a record names: it keeps its rights. */
static int become(uint32_t uid)
{
    return setresuid(uid, (uid_t)-1, (uid_t)-1) < 0 ? -errno : 0;
}

static int obey(char *line)
{
    char *words[4] = {"", "0", "0", "0"};
    uint32_t number;

    for (int i = 0; i < 4; i++) {
        char *word = strsep(&line, " \n");
        if (!word || !*word)
            break;
        words[i] = word;
    }
    number = (uint32_t)strtoul(words[1], NULL, 10);
    if (!strcmp(words[0], "spawn"))
        return spawn(words[1], atoi(words[2]), words[3]);
    if (!strcmp(words[0], "wild"))
        return made_wild(number, (uint32_t)strtoul(words[2], NULL, 10));
    if (!strcmp(words[0], "children"))
        return made_children(number);
    if (!strcmp(words[0], "orphans"))
        return made_orphans(number);
    if (!strcmp(words[0], "hold"))
        return held(number);
    if (!strcmp(words[0], "release"))
        return close(hold[1]);
    if (!strcmp(words[0], "reap"))
        return reap(), 0;
    if (!strcmp(words[0], "care"))
        return care();
    if (!strcmp(words[0], "user"))
        return become(number);
    if (!strcmp(words[0], "enter"))
        return enter((pid_t)number);
    if (!strcmp(words[0], "exit"))
        _exit(0);
    errno = EINVAL;
    fail(words[0]);
    return 0;
}

/* Reads a byte at a time: what is made must not have orders that others read. */
static int read_line(char *line)
{
    for (int n = 0; n < LINE - 1; n++) {
        if (read(0, &line[n], 1) != 1)
            return 0;
        if (line[n] == '\n') {
            line[n] = 0;
            return 1;
        }
    }
    return 0;
}

int main(int argc, char **argv)
{
    char path[LINE], line[LINE], answer[16];
    struct stat status;
    int fd;

    if (argc == 3 && !strcmp(argv[1], "leaf")) {
        take_name(argv[2]);
        return 0;
    }
    if (argc != 4)
        return 2;
    folder = argv[1];
    if (become((uint32_t)strtoul(argv[3], NULL, 10)) < 0)
        fail("setresuid");
    snprintf(path, sizeof(path), "%s/truth", folder);
    fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &status) < 0)
        fail(path);
    truth = mmap(NULL, (size_t)status.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (truth == MAP_FAILED)
        fail("mmap");
    take_name(argv[2]);
    write_down();
    while (read_line(line)) {
        int is_spawn = !strncmp(line, "spawn ", 6);
        int rc = obey(line);
        if (is_spawn && rc == 0)
            continue; /* this is the new process */
        snprintf(answer, sizeof(answer), "%d\n", rc);
        if (write(1, answer, strlen(answer)) < 0)
            return 1;
    }
    return 0;
}
