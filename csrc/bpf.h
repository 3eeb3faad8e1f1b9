/* The three calls of bpf(2) that the probe needs. */
#ifndef TASKSTATS_BPF_H
#define TASKSTATS_BPF_H

#include "programs.h"

/* Returns a descriptor, or -errno. `size` of a power of two, at least a page. */
int ts_bpf_ring(uint32_t size);
/* An array of one value, which can be mapped. */
int ts_bpf_array(uint32_t value_size);
int ts_bpf_program(const char *name, const struct ts_bpf *instructions, uint32_t n);
/* The program runs at the tracepoint until the descriptor is closed. */
int ts_bpf_attach(const char *tracepoint, int program);

#endif
