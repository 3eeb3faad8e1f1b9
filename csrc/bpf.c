/* The three commands of bpf(2) that the probe needs: make a map, load a program, attach it.
 * The structures are written out here, since the headers of the build machine may be older
 * than the kernel that runs the program. Facts: include/uapi/linux/bpf.h. */
#include "bpf.h"

#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { MAP_CREATE = 0, PROG_LOAD = 5, RAW_TRACEPOINT_OPEN = 17 };
enum { MAP_TYPE_ARRAY = 2, MAP_TYPE_RINGBUF = 27 };
enum { PROG_TYPE_TRACING = 26, TRACE_RAW_TP = 23 };
enum { MMAPABLE = 1 << 10 };

#define NAME_SIZE 16

/* A signal that is pending ends the verification of a program with EAGAIN
 * (kernel/bpf/verifier.c:do_check). As often libbpf tries. */
#define MOST_TRIES 5

struct map_create {
    uint32_t type;
    uint32_t key_size;
    uint32_t value_size;
    uint32_t max_entries;
    uint32_t flags;
    uint32_t inner_map;
    uint32_t numa_node;
    char name[NAME_SIZE];
};

struct prog_load {
    uint32_t type;
    uint32_t n;
    uint64_t instructions;
    uint64_t licence;
    uint32_t log_level;
    uint32_t log_size;
    uint64_t log;
    uint32_t kernel_version;
    uint32_t flags;
    char name[NAME_SIZE];
    uint32_t ifindex;
    uint32_t attach_type;
    uint32_t btf_fd;
    uint32_t function_size;
    uint64_t functions;
    uint32_t n_functions;
    uint32_t line_size;
    uint64_t lines;
    uint32_t n_lines;
    uint32_t attach_to;
};

struct raw_tracepoint {
    uint64_t name; /* 0: the program's own */
    uint32_t program;
    uint32_t reserved;
};

static uint64_t address(const void *pointer)
{
    return (uint64_t)(uintptr_t)pointer;
}

static int call(int command, void *attributes, size_t size)
{
    long rc = syscall(SYS_bpf, command, attributes, size);

    return rc < 0 ? -errno : (int)rc;
}

static int make_map(uint32_t type, uint32_t key_size, uint32_t value_size, uint32_t max_entries,
                    uint32_t flags)
{
    struct map_create map = {.type = type,
                             .key_size = key_size,
                             .value_size = value_size,
                             .max_entries = max_entries,
                             .flags = flags,
                             .name = "taskstats"};

    return call(MAP_CREATE, &map, sizeof(map));
}

int ts_bpf_ring(uint32_t size)
{
    return make_map(MAP_TYPE_RINGBUF, 0, 0, size, 0);
}

int ts_bpf_array(uint32_t value_size)
{
    return make_map(MAP_TYPE_ARRAY, sizeof(uint32_t), value_size, 1, MMAPABLE);
}

int ts_bpf_program(const char *name, const struct ts_bpf *instructions, uint32_t n,
                   uint32_t tracepoint)
{
    struct prog_load program = {
        .type = PROG_TYPE_TRACING,
        .attach_type = TRACE_RAW_TP,
        .attach_to = tracepoint,
        .n = n,
        .instructions = address(instructions),
        .licence = address("Dual MIT/GPL"),
    };

    int rc = -EAGAIN;

    strncpy(program.name, name, NAME_SIZE - 1);
    for (int i = 0; rc == -EAGAIN && i < MOST_TRIES; i++)
        rc = call(PROG_LOAD, &program, sizeof(program));
    return rc;
}

int ts_bpf_attach(int program)
{
    struct raw_tracepoint point = {.program = (uint32_t)program};

    return call(RAW_TRACEPOINT_OPEN, &point, sizeof(point));
}
