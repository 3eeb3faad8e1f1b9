/* probe.c and bpf.c with a kernel that this program plays: what is asked of it, and what is
 * given back where it refuses, call by call.
 *
 * The C library's open, mmap, munmap and syscall are replaced by functions that count, and
 * fail when they are told to. */
#include "probe.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "made_btf.h"
#include "process.h"
#include "taskstats_shim.h"

#define RING_SIZE (1u << 20)
#define BTF_PATH "/sys/kernel/btf/vmlinux"

static struct {
    int is_on;    /* it plays the kernel */
    int calls;    /* so far */
    int fails_at; /* the number of the call that fails, from 1; 0: none */
    int error;
    int times; /* how often it fails */
    int no_btf_mapping;
    int maps, programs, attached;
    size_t mapped; /* bytes */
    uint8_t *btf;
    size_t btf_size;
    int ring, losses; /* descriptors */
} played;

static int has_failed(void)
{
    played.calls++;
    if (!played.fails_at || played.calls < played.fails_at ||
        played.calls >= played.fails_at + played.times)
        return 0;
    errno = played.error;
    return 1;
}

static size_t page(void)
{
    return (size_t)sysconf(_SC_PAGESIZE);
}

static int file_of(const void *bytes, size_t size)
{
    int fd = memfd_create("played", MFD_CLOEXEC);

    CHECK(fd >= 0 && ftruncate(fd, (off_t)size) == 0);
    CHECK(!bytes || write(fd, bytes, size) == (ssize_t)size);
    CHECK(lseek(fd, 0, SEEK_SET) == 0);
    return fd;
}

static int make_map(const union bpf_attr *attr)
{
    CHECK(strcmp(attr->map_name, "taskstats") == 0);
    played.maps++;
    if (attr->map_type == BPF_MAP_TYPE_RINGBUF) {
        CHECK(attr->max_entries == RING_SIZE && attr->key_size == 0 && attr->value_size == 0);
        return played.ring = file_of(NULL, 2 * page() + 2 * RING_SIZE);
    }
    CHECK(attr->map_type == BPF_MAP_TYPE_ARRAY && attr->map_flags == BPF_F_MMAPABLE);
    CHECK(attr->key_size == 4 && attr->max_entries == 1);
    CHECK(attr->value_size == TS_EVENTS * sizeof(uint64_t));
    return played.losses = file_of(NULL, page());
}

static int load_program(const union bpf_attr *attr)
{
    const struct bpf_insn *lines = (const void *)(uintptr_t)attr->insns;
    int rings = 0;

    CHECK(attr->prog_type == BPF_PROG_TYPE_TRACING);
    CHECK(attr->expected_attach_type == BPF_TRACE_RAW_TP && attr->attach_btf_id > 0);
    CHECK(strcmp((const char *)(uintptr_t)attr->license, "Dual MIT/GPL") == 0);
    CHECK(strncmp(attr->prog_name, "taskstats_", 10) == 0 && attr->insn_cnt > 10);
    CHECK(attr->log_level == 0 && attr->prog_flags == 0);
    for (uint32_t i = 0; i < attr->insn_cnt; i++)
        if (lines[i].code == 0x18) {
            CHECK(lines[i].imm == (lines[i].src_reg == 1 ? played.ring : played.losses));
            rings += lines[i].src_reg == 1;
        }
    CHECK(rings == 1 && lines[attr->insn_cnt - 1].code == 0x95);
    played.programs++;
    return file_of(NULL, 1);
}

static long play_bpf(int command, const union bpf_attr *attr, unsigned size)
{
    if (has_failed())
        return -1;
    CHECK(size <= sizeof(*attr));
    switch (command) {
    case BPF_MAP_CREATE:
        return make_map(attr);
    case BPF_PROG_LOAD:
        CHECK(size >= offsetof(union bpf_attr, attach_btf_id) + sizeof(attr->attach_btf_id));
        return load_program(attr);
    case BPF_RAW_TRACEPOINT_OPEN:
        CHECK(attr->raw_tracepoint.name == 0 &&
              fcntl((int)attr->raw_tracepoint.prog_fd, F_GETFD));
        played.attached++;
        return file_of(NULL, 1);
    default:
        CHECK(!"a command that the probe does not need");
        return -1;
    }
}

/* ---- the C library's ---- */

static void *real(const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);

    CHECK(found);
    return found;
}

long syscall(long number, ...)
{
    long (*pass)(long, ...) = (long (*)(long, ...))real("syscall");
    long a[6];
    va_list arguments;

    va_start(arguments, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(arguments, long);
    va_end(arguments);
    if (number == SYS_bpf && played.is_on) {
        union bpf_attr attr = {0}; /* what is not passed is 0, as in the kernel */
        memcpy(&attr, (const void *)a[1], (size_t)a[2]);
        return play_bpf((int)a[0], &attr, (unsigned)a[2]);
    }
    return pass(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

int open(const char *path, int flags, ...)
{
    int (*pass)(const char *, int, ...) = (int (*)(const char *, int, ...))real("open");

    if (!played.is_on || strcmp(path, BTF_PATH) != 0)
        return pass(path, flags, 0600);
    CHECK(flags == (O_RDONLY | O_CLOEXEC));
    if (has_failed())
        return -1;
    return file_of(played.btf, played.btf_size);
}

void *mmap(void *at, size_t size, int protection, int flags, int fd, off_t from)
{
    void *(*pass)(void *, size_t, int, int, int, off_t) =
        (void *(*)(void *, size_t, int, int, int, off_t))real("mmap");
    void *mapped;

    if (!played.is_on)
        return pass(at, size, protection, flags, fd, from);
    if (flags == MAP_PRIVATE && played.no_btf_mapping) {
        errno = ENODEV;
        return MAP_FAILED;
    }
    if (has_failed())
        return MAP_FAILED;
    if (fd == played.ring) /* kernel/bpf/ringbuf.c:ringbuf_map_mmap_kern */
        CHECK(from == 0 ? size == page() : protection == PROT_READ);
    mapped = pass(at, size, protection, flags, fd, from);
    CHECK(mapped != MAP_FAILED);
    played.mapped += size;
    return mapped;
}

int munmap(void *at, size_t size)
{
    int (*pass)(void *, size_t) = (int (*)(void *, size_t))real("munmap");

    if (played.is_on) {
        CHECK(played.mapped >= size);
        played.mapped -= size;
    }
    return pass(at, size);
}

/* ---- opening and closing ---- */

static int descriptors(void)
{
    int n = 0;

    for (int fd = 0; fd < 256; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static int try_open(const struct ts_probe_wanted *wanted, struct ts_probe **probe,
                    struct ts_opened *opened)
{
    int rc;

    played.calls = played.maps = played.programs = played.attached = 0;
    played.ring = played.losses = -1;
    played.is_on = 1;
    rc = ts_probe_open(wanted, probe, opened);
    played.is_on = 0;
    return rc;
}

static void close_probe(struct ts_probe *probe)
{
    played.is_on = 1;
    CHECK(ts_probe_close(probe) == 0);
    CHECK(ts_probe_close(probe) == 0); /* twice does no harm */
    played.is_on = 0;
    ts_free(probe);
}

static const struct ts_probe_wanted wanted = {.ring_size = RING_SIZE};

/* What is opened is what was asked for, and all of it is given back. */
static int check_opened(void)
{
    int before = descriptors();
    struct ts_probe *probe = NULL;
    struct ts_opened opened;
    uint64_t *consumer;
    int calls;

    CHECK(try_open(&wanted, &probe, &opened) == 0);
    calls = played.calls;
    CHECK(played.maps == 2 && played.programs == TS_PROGRAMS && played.attached == TS_PROGRAMS);
    CHECK(descriptors() == before + 2 + 2 * TS_PROGRAMS);
    CHECK(played.mapped == 3 * page() + RING_SIZE);
    CHECK(ts_probe_lost(probe, TS_EVENT_END) == 0);
    CHECK(pwrite(played.losses, &(uint64_t){7}, 8, 8 * TS_EVENT_END) == 8);
    CHECK(ts_probe_lost(probe, TS_EVENT_END) == 7);
    consumer = probe->consumer.start;
    CHECK(probe->ring.consumer == consumer && *consumer == 0);
    CHECK((const uint8_t *)probe->ring.data == (uint8_t *)probe->producer.start + page());
    close_probe(probe);
    CHECK(descriptors() == before && played.mapped == 0);
    return calls;
}

static void check_refused(int calls)
{
    static const uint8_t steps[] = {TS_STEP_BTF, TS_STEP_RING, TS_STEP_PROGRAM, TS_STEP_ATTACH};
    int before = descriptors();
    unsigned reached = 0;

    for (int i = 1; i <= calls; i++) {
        struct ts_probe *probe = NULL;
        struct ts_opened opened = {.step = UINT32_MAX};
        int rc;

        played.fails_at = i;
        played.times = 2; /* a BTF that cannot be mapped is opened once more */
        played.error = EMFILE;
        rc = try_open(&wanted, &probe, &opened);
        CHECK(rc == -EMFILE && !probe);
        while (opened.step != steps[reached])
            CHECK(++reached < sizeof(steps));
        if (opened.step == TS_STEP_ATTACH)
            reached = 2; /* the next program is loaded */
        CHECK(descriptors() == before && played.mapped == 0);
    }
    played.fails_at = 0;
}

/* A signal ends the verification of a program: it is tried again, some times. */
static void check_interrupted(int calls)
{
    struct ts_probe *probe = NULL;
    struct ts_opened opened;

    played.error = EAGAIN;
    played.fails_at = calls - 1; /* the last program */
    played.times = 4;
    CHECK(try_open(&wanted, &probe, &opened) == 0 && played.calls == calls + 4);
    close_probe(probe);
    played.times = 5;
    CHECK(try_open(&wanted, &probe, &opened) == -EAGAIN && opened.step == TS_STEP_PROGRAM);
    played.fails_at = 0;
}

static void check_btf(int calls)
{
    int before = descriptors();
    size_t size = played.btf_size;
    struct ts_probe *probe = NULL;
    struct ts_opened opened;
    struct ts_probe_wanted other = wanted;

    played.no_btf_mapping = 1; /* before Linux 6.16 */
    CHECK(try_open(&wanted, &probe, &opened) == 0 && played.calls == calls);
    close_probe(probe);
    for (played.btf_size = 0; played.btf_size < size; played.btf_size += size / 7) {
        CHECK(try_open(&wanted, &probe, &opened) == -EBADMSG && opened.step == TS_STEP_BTF);
        played.no_btf_mapping = !played.no_btf_mapping;
    }
    played.btf_size = size;
    played.no_btf_mapping = 0;
    other.controller = "cpuacct";
    other.hierarchy = 3;
    CHECK(try_open(&other, &probe, &opened) == 0);
    close_probe(probe);
    other.controller = "memory";
    CHECK(try_open(&other, &probe, &opened) == -ENOENT && opened.step == TS_STEP_BTF);
    CHECK(descriptors() == before && played.mapped == 0);
}

/* A child of fork has the descriptors, and not the memory. */
static void check_child(void)
{
    struct ts_probe *probe = NULL;
    struct ts_opened opened;
    int before = descriptors();
    int status;
    pid_t child;

    CHECK(try_open(&wanted, &probe, &opened) == 0);
    child = fork();
    if (child == 0) {
        CHECK(ts_probe_close(probe) == 0 && descriptors() == before);
        ts_free(probe);
        free(played.btf);
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(__atomic_load_n(probe->ring.producer, __ATOMIC_RELAXED) == 0); /* it is still there */
    close_probe(probe);
}

static void check_peer(void)
{
    static _Alignas(8) uint8_t data[4096];
    static const uint64_t sizes[] = {0, 1, 8, 2048, 4095, 4097, 12288, UINT64_MAX};
    static uint64_t consumer, producer;
    struct ts_peer_ring peer = {.consumer = &consumer, .producer = &producer, .data = data};
    struct ts_probe_wanted of_peer = {.peer = &peer};
    struct ts_probe *probe = NULL;
    struct ts_opened opened;

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        peer.size = sizes[i];
        CHECK(ts_probe_open(&of_peer, &probe, &opened) == -EINVAL && !probe);
    }
    peer.size = sizeof(data);
    CHECK(ts_probe_open(&of_peer, &probe, &opened) == 0 && probe->ring.mask == 4095);
    CHECK(ts_probe_lost(probe, TS_EVENT_END) == 0); /* it counts none */
    close_probe(probe);
}

int main(void)
{
    static struct made_btf made;
    int calls;

    ts_process(); /* which maps a page */
    made_kernel(&made, &(struct made_kernel){0});
    played.btf = made_end(&made, &played.btf_size);
    calls = check_opened();
    check_refused(calls);
    check_interrupted(calls);
    check_btf(calls);
    check_child();
    check_peer();
    free(played.btf);
    printf("probe: each of %d calls refused: %lu checks\n", calls, checks);
    return 0;
}
