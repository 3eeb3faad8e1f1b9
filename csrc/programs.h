/* The probe's BPF programs: tables of instructions, made whole for one kernel. Pure. */
#ifndef TASKSTATS_PROGRAMS_H
#define TASKSTATS_PROGRAMS_H

#include "taskstats_shim.h"

/* An instruction of BPF, as in struct bpf_insn. */
struct ts_bpf {
    uint8_t code;
    uint8_t registers; /* destination and source, four bits each */
    int16_t offset;
    int32_t value;
};

/* In the order in which they are attached: a cgroup is seen before the processes in it. */
enum ts_program {
    TS_PROGRAM_CGROUP_MADE,
    TS_PROGRAM_CGROUP_RENAMED,
    TS_PROGRAM_CGROUP_REMOVED,
    TS_PROGRAM_END,
    TS_PROGRAM_BIRTH,
    TS_PROGRAMS
};

/* Instructions of the longest program, at most. */
#define TS_MOST_INSTRUCTIONS 64

/* What a program needs besides the kernel's layout. */
struct ts_program_context {
    const struct ts_probe_layout *layout;
    int ring;          /* descriptor of the ring's map */
    int losses;        /* of the map that counts what found no room */
    int subsystem;     /* the controller of a hierarchy of version 1; < 0: version 2 */
    int32_t hierarchy; /* the number of that hierarchy; 0: version 2 */
};

/* The tracepoint that runs it, and its name as `bpftool prog` shows it. */
const char *ts_program_tracepoint(enum ts_program program);
const char *ts_program_name(enum ts_program program);

/* Writes a program to `to` (room for TS_MOST_INSTRUCTIONS). Returns its length. */
int ts_program_make(enum ts_program program, const struct ts_program_context *context,
                    struct ts_bpf *to);

#endif
