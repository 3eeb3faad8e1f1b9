/* Opens and closes the probe: makes the ring, loads the programs, attaches them. */
#include "probe.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bpf.h"
#include "offsets.h"
#include "process.h"

#define BTF_PATH "/sys/kernel/btf/vmlinux"
#define BTF_AT_ONCE ((size_t)1 << 20)
#define BTF_MOST ((size_t)256 << 20)

#define LEAST_RING 4096 /* bytes of a peer's; the kernel holds its own to whole pages */
#define LOSSES_SIZE (TS_EVENTS * sizeof(uint64_t))

/* ---- the kernel's BTF ---- */

/* Reads a whole file, of which the size may be wrong. Returns memory to be freed, or NULL with
 * errno. */
static void *read_whole(const char *path, size_t *size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    uint8_t *data = NULL;
    size_t room = 0;
    ssize_t n = 1;

    *size = 0;
    if (fd < 0)
        return NULL;
    while (n > 0 && *size < BTF_MOST) {
        if (*size == room) {
            uint8_t *more = realloc(data, room += 8 * BTF_AT_ONCE);
            if (!more) {
                n = -1;
                break;
            }
            data = more;
        }
        do
            n = read(fd, data + *size, room - *size);
        while (n < 0 && errno == EINTR);
        *size += n > 0 ? (size_t)n : 0;
    }
    if (n < 0) {
        int error = errno;
        free(data);
        data = NULL;
        errno = error;
    }
    close(fd);
    return data;
}

/* Maps a whole file: Linux 6.16 and later can map the BTF, which saves a copy of some MiB.
 * Returns NULL if the file cannot be mapped. */
static void *map_whole(const char *path, size_t *size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat stat;
    void *data = MAP_FAILED;

    if (fd < 0)
        return NULL;
    if (fstat(fd, &stat) == 0 && stat.st_size > 0) {
        *size = (size_t)stat.st_size;
        data = mmap(NULL, *size, PROT_READ, MAP_PRIVATE, fd, 0);
    }
    close(fd);
    return data == MAP_FAILED ? NULL : data;
}

static int read_kernel(const char *controller, struct ts_probe_kernel *kernel)
{
    size_t size;
    void *mapped = map_whole(BTF_PATH, &size);
    void *btf = mapped ? mapped : read_whole(BTF_PATH, &size);
    int rc;

    if (!btf)
        return -errno;
    rc = ts_probe_read_kernel(btf, size, controller, kernel);
    if (mapped)
        munmap(mapped, size);
    else
        free(btf);
    return rc;
}

/* ---- memory ---- */

/* A child of fork must not read the ring for its parent: it does not get the memory. */
static int map(struct ts_mapping *mapping, int fd, size_t size, int protection, off_t from)
{
    void *start = mmap(NULL, size, protection, MAP_SHARED, fd, from);

    if (start == MAP_FAILED)
        return -errno;
    madvise(start, size, MADV_DONTFORK);
    *mapping = (struct ts_mapping){start, size};
    return 0;
}

static int open_ring(struct ts_probe *probe, uint32_t size)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const uint8_t *producer;
    int rc = probe->ring_fd = ts_bpf_ring(size);

    if (rc >= 0)
        rc = map(&probe->consumer, probe->ring_fd, page, PROT_READ | PROT_WRITE, 0);
    /* The kernel offers the data twice, one behind the other: once is enough here. */
    if (rc >= 0)
        rc = map(&probe->producer, probe->ring_fd, page + size, PROT_READ, (off_t)page);
    if (rc >= 0)
        rc = probe->losses_fd = ts_bpf_array(LOSSES_SIZE);
    if (rc >= 0)
        rc = map(&probe->counters, probe->losses_fd, page, PROT_READ, 0);
    if (rc < 0)
        return rc;
    producer = probe->producer.start;
    ts_ring_open(&probe->ring, probe->consumer.start, producer, producer + page, size);
    probe->losses = probe->counters.start;
    return 0;
}

/* ---- programs ---- */

static int start_program(struct ts_probe *probe, enum ts_program program, int tracepoint,
                         const struct ts_program_context *context, struct ts_opened *opened)
{
    struct ts_bpf instructions[TS_MOST_INSTRUCTIONS];
    int n = ts_program_make(program, context, instructions);
    int rc;

    opened->step = TS_STEP_ATTACH;
    if (tracepoint < 0)
        return tracepoint;
    opened->step = TS_STEP_PROGRAM;
    rc = ts_bpf_program(ts_program_name(program), instructions, (uint32_t)n,
                        (uint32_t)tracepoint);
    if (rc < 0)
        return rc;
    probe->programs[program] = rc;
    opened->step = TS_STEP_ATTACH;
    rc = ts_bpf_attach(rc);
    if (rc < 0)
        return rc;
    probe->links[program] = rc;
    return 0;
}

static int open_kernel(struct ts_probe *probe, const struct ts_probe_wanted *wanted,
                       struct ts_opened *opened)
{
    struct ts_probe_kernel kernel = {0};
    struct ts_program_context context = {.layout = &kernel.layout,
                                         .hierarchy = wanted->hierarchy};
    int rc;

    opened->step = TS_STEP_BTF;
    rc = read_kernel(wanted->controller, &kernel);
    context.subsystem = kernel.subsystem;
    if (rc < 0)
        return rc;
    opened->step = TS_STEP_RING;
    rc = open_ring(probe, wanted->ring_size);
    context.ring = probe->ring_fd;
    context.losses = probe->losses_fd;
    for (int i = 0; rc == 0 && i < TS_PROGRAMS; i++)
        rc = start_program(probe, (enum ts_program)i, kernel.tracepoints[i], &context, opened);
    return rc;
}

static int open_peer(struct ts_probe *probe, const struct ts_peer_ring *peer)
{
    if (peer->size < LEAST_RING || peer->size & (peer->size - 1))
        return -EINVAL;
    ts_ring_open(&probe->ring, peer->consumer, peer->producer, peer->data, peer->size);
    probe->losses = peer->losses;
    probe->now = peer->now;
    return 0;
}

int ts_probe_open(const struct ts_probe_wanted *wanted, struct ts_probe **probe,
                  struct ts_opened *opened)
{
    struct ts_probe *made = ts_alloc(sizeof(*made));
    int rc = 0;

    if (!made)
        return -ENOMEM;
    memset(made, 0, sizeof(*made));
    made->owner = ts_process();
    made->ring_fd = made->losses_fd = -1;
    for (int i = 0; i < TS_PROGRAMS; i++)
        made->programs[i] = made->links[i] = -1;
    if (wanted->peer)
        rc = open_peer(made, wanted->peer);
    else
        rc = open_kernel(made, wanted, opened);
    if (rc < 0) {
        ts_probe_close(made);
        ts_free(made);
        return rc;
    }
    *probe = made;
    return 0;
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void unmap(struct ts_mapping *mapping)
{
    if (mapping->start)
        munmap(mapping->start, mapping->size);
    mapping->start = NULL;
}

int ts_probe_close(struct ts_probe *probe)
{
    for (int i = 0; i < TS_PROGRAMS; i++) {
        close_fd(&probe->links[i]);
        close_fd(&probe->programs[i]);
    }
    if (probe->owner == ts_process()) { /* a child does not have the memory */
        unmap(&probe->consumer);
        unmap(&probe->producer);
        unmap(&probe->counters);
    }
    probe->losses = NULL;
    close_fd(&probe->ring_fd);
    close_fd(&probe->losses_fd);
    return 0;
}

uint64_t ts_probe_lost(const struct ts_probe *probe, enum ts_event event)
{
    return probe->losses ? __atomic_load_n(&probe->losses[event], __ATOMIC_RELAXED) : 0;
}

uint32_t ts_probe_most_ends(const struct ts_probe *probe)
{
    return (uint32_t)(probe->ring.mask / (TS_RING_HEADER + sizeof(struct ts_end_event))) + 1;
}
