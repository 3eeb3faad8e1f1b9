/* The three commands of bpf(2) that the probe needs. Each returns a descriptor or -errno;
 * all descriptors are closed on exec. */
#ifndef TASKSTATS_BPF_H
#define TASKSTATS_BPF_H

#include "programs.h"

/* Makes a ring buffer. The size is a power of two, and at least a page. */
int ts_bpf_ring(uint32_t size);
/* Makes an array of one value, which can be mapped. */
int ts_bpf_array(uint32_t value_size);
/* Loads a program for the tracepoint that has this type in the kernel's BTF. */
int ts_bpf_program(const char *name, const struct ts_bpf *instructions, uint32_t n,
                   uint32_t tracepoint);
/* Attaches a program to its tracepoint, until the descriptor is closed. */
int ts_bpf_attach(int program);

#endif
