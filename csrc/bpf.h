/* The three calls of bpf(2) that the probe needs. */
#ifndef TASKSTATS_BPF_H
#define TASKSTATS_BPF_H

#include "programs.h"

/* Returns a descriptor, or -errno. `size` of a power of two, at least a page. */
int ts_bpf_ring(uint32_t size);
/* An array of one value, which can be mapped. */
int ts_bpf_array(uint32_t value_size);
/* A program for the tracepoint of this type in the kernel's BTF. */
int ts_bpf_program(const char *name, const struct ts_bpf *instructions, uint32_t n,
                   uint32_t tracepoint);
/* It runs there until the descriptor is closed. */
int ts_bpf_attach(int program);

#endif
