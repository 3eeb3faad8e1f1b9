/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The probe's BPF programs: tables of instructions, made whole for one kernel. Pure.
 *
 * A program is a table of lines, and a line is one BPF instruction. What differs between
 * kernels is named in the line (`fill`) and put in when the program is made: where a
 * member stands in its structure, which argument a tracepoint passes where. Lines that
 * only some kernels or hierarchies need say so (`when`).
 *
 * The programs are of the kind that the kernel gives typed pointers (BPF_TRACE_RAW_TP):
 * its verifier checks each load against its own description of its types, and a load
 * from memory that is gone gives 0. They write to their stack, the ring and the counters
 * of losses, and change nothing else. They have no loops.
 *
 * Registers: r1 to r5 are arguments of a call, which destroys them; r0 is its result; r6
 * to r9 stay; r10 is the end of the stack.
 *
 * This file may be used under either licence. The kernel asks that programs which call some
 * of its functions be under a licence compatible with the GPL. */
#include "programs.h"

#include <string.h>

#include "events.h"

_Static_assert(sizeof(struct ts_bpf) == 8, "as in struct bpf_insn");

/* What is put into a line when the program is made. */
enum fill {
    NOTHING,
    /* -- the offset: where a member stands in its structure */
    TASK_STATE,
    TASK_PID,
    TASK_TGID,
    TASK_RUNS,
    TASK_START_BOOTTIME,
    TASK_START_TIME,
    TASK_CPU_TIME,
    TASK_RUN_DELAY,
    TASK_GROUP_LEADER,
    TASK_CGROUPS,
    CSET_DFL_CGRP,
    CSET_SUBSYS,
    CSS_CGROUP,
    CGROUP_KN,
    CGROUP_ROOT,
    ROOT_HIERARCHY,
    KN_ID,
    /* -- the offset: where an argument stands */
    SWITCH_PREVIOUS,
    SWITCH_STATE,
    /* -- the value: */
    RING,      /* the ring's descriptor */
    LOSSES,    /* the descriptor of the counters */
    HIERARCHY, /* the hierarchy's number */
    CHANGE,    /* what happened to the cgroup */
    /* -- the offset: how far it is to the label `out` or `lost` */
    TO_OUT,
    TO_LOST,
};

enum when {
    ALWAYS,
    STATE_PASSED, /* the tracepoint passes the previous task's state */
    STATE_READ,   /* it does not */
    WITH_RUNS,    /* the kernel counts how often a task ran */
    VERSION_1,    /* the hierarchy's version */
    VERSION_2,
};

/* What another line jumps to this one for. */
enum label { NO_LABEL, OUT, LOST };

struct line {
    struct ts_bpf instruction;
    uint8_t fill;
    uint8_t when;
    uint8_t label;
};

/* ---- the instructions that are used ---- */

enum { R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10 };

/* Helpers, by their numbers in include/uapi/linux/bpf.h. */
enum {
    KTIME_GET_NS = 5,
    PROBE_READ_KERNEL_STR = 115,
    RINGBUF_OUTPUT = 130,
    RINGBUF_RESERVE = 131,
    RINGBUF_SUBMIT = 132,
};

#define NO_WAKEUP 1 /* BPF_RB_NO_WAKEUP: nobody waits for the ring */
#define DEAD 0x80   /* TASK_DEAD, include/linux/sched.h */

#define OP(code_, to, from, offset_, value_)                                                   \
    .instruction = {.code = (code_),                                                           \
                    .registers = REGISTERS(to, from),                                          \
                    .offset = (offset_),                                                       \
                    .value = (value_)}
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define REGISTERS(to, from) ((to) << 4 | (from))
#else
#define REGISTERS(to, from) ((from) << 4 | (to))
#endif

#define MOVE(to, from) OP(0xbf, to, from, 0, 0)
#define SET(to, value) OP(0xb7, to, 0, 0, value)
#define ADD(to, value) OP(0x07, to, 0, 0, value)
#define LOAD4(to, from, offset) OP(0x61, to, from, offset, 0)
#define LOAD8(to, from, offset) OP(0x79, to, from, offset, 0)
#define STORE4(to, offset, from) OP(0x63, to, from, offset, 0)
#define STORE8(to, offset, from) OP(0x7b, to, from, offset, 0)
#define STORE4_VALUE(to, offset, value) OP(0x62, to, 0, offset, value)
#define ATOMIC_ADD8(to, offset, from) OP(0xdb, to, from, offset, 0)
#define CALL(helper) OP(0x85, 0, 0, 0, helper)
#define JUMP OP(0x05, 0, 0, 0, 0)
#define IF_EQUAL(one, value) OP(0x15, one, 0, 0, value)
#define IF_OTHER(one, other, over) OP(0x5d, one, other, over, 0)
#define IF_NOT(one, value) OP(0x55, one, 0, 0, value)
#define IF_ANY_BIT(one, value, over) OP(0x45, one, 0, over, value)
#define EXIT OP(0x95, 0, 0, 0, 0)
/* The address of a map, or of a place in its only value: two instructions. */
#define LOAD_MAP(to) OP(0x18, to, 1, 0, 0)
#define LOAD_MAP_VALUE(to) OP(0x18, to, 2, 0, 0)
#define SECOND_HALF(value) OP(0, 0, 0, 0, value)

/* to = the member of what `from` points to */
#define READ4(to, from, member) {LOAD4(to, from, 0), .fill = (member)}
#define READ8(to, from, member) {LOAD8(to, from, 0), .fill = (member)}
#define READ8_WHEN(to, from, member, when_)                                                    \
    {LOAD8(to, from, 0), .fill = (member), .when = (when_)}

/* r10 + place = the member of what `from` points to */
#define COPY4(place, from, member)                                                             \
    READ4(R1, from, member),                                                                   \
    {                                                                                          \
        STORE4(R10, place, R1)                                                                 \
    }
#define COPY8(place, from, member)                                                             \
    READ8(R1, from, member),                                                                   \
    {                                                                                          \
        STORE8(R10, place, R1)                                                                 \
    }

/* r10 + place = the id of the task's cgroup in the chosen hierarchy */
#define COPY_CGROUP(place, task)                                                               \
    READ8(R1, task, TASK_CGROUPS), READ8_WHEN(R1, R1, CSET_DFL_CGRP, VERSION_2),               \
        READ8_WHEN(R1, R1, CSET_SUBSYS, VERSION_1), READ8_WHEN(R1, R1, CSS_CGROUP, VERSION_1), \
        READ8(R1, R1, CGROUP_KN), COPY8(place, R1, KN_ID)

/* bpf_ringbuf_output(ring, r10 - size, size, NO_WAKEUP); what found no room is counted */
#define OUTPUT(size, kind)                                                                     \
    {LOAD_MAP(R1), .fill = RING}, {SECOND_HALF(0)}, {MOVE(R2, R10)}, {ADD(R2, -(size))},       \
        {SET(R3, size)}, {SET(R4, NO_WAKEUP)}, {CALL(RINGBUF_OUTPUT)},                         \
        {IF_EQUAL(R0, 0), .fill = TO_OUT}, COUNT_LOSS(kind)

/* losses[kind] += 1, then the end of the program */
#define COUNT_LOSS(kind)                                                                       \
    {LOAD_MAP_VALUE(R1), .fill = LOSSES, .label = LOST}, {SECOND_HALF(8 * (kind))},            \
        {SET(R2, 1)}, {ATOMIC_ADD8(R1, 0, R2)}, {SET(R0, 0), .label = OUT},                    \
    {                                                                                          \
        EXIT                                                                                   \
    }

/* Where a member of an event stands, from the end of the stack. */
#define IN_END(member)                                                                         \
    ((int)offsetof(struct ts_end_event, member) - (int)sizeof(struct ts_end_event))
#define IN_BIRTH(member)                                                                       \
    ((int)offsetof(struct ts_birth_event, member) - (int)sizeof(struct ts_birth_event))

/* ---- the programs ---- */

/* sched_switch (preempt, previous, next, previous state): a CPU goes from one task to
 * another. Runs at every switch, so that a task that is not dead costs five lines.
 *
 * When a thread calls exec, it swaps pids with its leader, which is dead by then
 * (fs/exec.c:de_thread). The leader's last switch may come after that, but its record has
 * the pid of before. So the event gets the pid of before too. Of all tasks that do not lead
 * their group, only such a leader has the start time of its group's leader. */
static const struct line end_of_task[] = {
    {LOAD8(R2, R1, 0), .fill = SWITCH_STATE, .when = STATE_PASSED},
    {LOAD8(R6, R1, 0), .fill = SWITCH_PREVIOUS},
    {LOAD4(R2, R6, 0), .fill = TASK_STATE, .when = STATE_READ},
    {IF_ANY_BIT(R2, DEAD, 1)},
    {JUMP, .fill = TO_OUT},

    {STORE4_VALUE(R10, IN_END(event), TS_EVENT_END)},
    READ4(R7, R6, TASK_PID),
    READ4(R8, R6, TASK_TGID),
    READ8(R9, R6, TASK_START_TIME),
    READ8(R1, R6, TASK_GROUP_LEADER),
    READ8(R1, R1, TASK_START_TIME),
    {IF_OTHER(R1, R9, 1)},
    {MOVE(R7, R8)},
    {STORE4(R10, IN_END(pid), R7)},
    {STORE4(R10, IN_END(tgid), R8)},
    {STORE8(R10, IN_END(began_ns), R9)},
    {SET(R1, 0)},
    READ8_WHEN(R1, R6, TASK_RUNS, WITH_RUNS),
    {STORE4(R10, IN_END(runs), R1)},
    {SET(R1, 0)},
    READ8_WHEN(R1, R6, TASK_RUN_DELAY, WITH_RUNS),
    {STORE8(R10, IN_END(waited_ns), R1)},
    COPY8(IN_END(start_ns), R6, TASK_START_BOOTTIME),
    COPY8(IN_END(cpu_ns), R6, TASK_CPU_TIME),
    COPY_CGROUP(IN_END(cgroup_id), R6),
    {CALL(KTIME_GET_NS)},
    {STORE8(R10, IN_END(ended_ns), R0)},
    OUTPUT((int)sizeof(struct ts_end_event), TS_EVENT_END),
};

/* sched_process_fork (parent, child): a task was made and has not run yet. The parent is
 * the thread that called fork; the child of clone(CLONE_THREAD) is of no interest. */
static const struct line birth[] = {
    {LOAD8(R6, R1, 8)},
    READ4(R2, R6, TASK_PID),
    READ4(R3, R6, TASK_TGID),
    {IF_OTHER(R2, R3, 0), .fill = TO_OUT},

    {LOAD8(R7, R1, 0)},
    {STORE4_VALUE(R10, IN_BIRTH(event), TS_EVENT_BIRTH)},
    {STORE4(R10, IN_BIRTH(pid), R2)},
    COPY4(IN_BIRTH(maker_pid), R7, TASK_TGID),
    {STORE4_VALUE(R10, IN_BIRTH(reserved), 0)},
    COPY8(IN_BIRTH(start_ns), R6, TASK_START_BOOTTIME),
    READ8(R2, R7, TASK_GROUP_LEADER),
    COPY8(IN_BIRTH(maker_start_ns), R2, TASK_START_BOOTTIME),
    COPY_CGROUP(IN_BIRTH(cgroup_id), R6),
    OUTPUT((int)sizeof(struct ts_birth_event), TS_EVENT_BIRTH),
};

/* cgroup_mkdir, cgroup_rename, cgroup_rmdir (cgroup, path). A path is too long for the
 * stack: it is read right into the ring. */
static const struct line change_of_cgroup[] = {
    {LOAD8(R6, R1, 0)},
    {LOAD8(R7, R1, 8)},
    READ8(R2, R6, CGROUP_ROOT),
    READ4(R2, R2, ROOT_HIERARCHY),
    {IF_NOT(R2, 0), .fill = HIERARCHY},
    READ8(R8, R6, CGROUP_KN),
    READ8(R8, R8, KN_ID),

    {LOAD_MAP(R1), .fill = RING},
    {SECOND_HALF(0)},
    {SET(R2, (int)sizeof(struct ts_cgroup_event))},
    {SET(R3, 0)},
    {CALL(RINGBUF_RESERVE)},
    {IF_EQUAL(R0, 0), .fill = TO_LOST},
    {MOVE(R9, R0)},
    {STORE4_VALUE(R9, offsetof(struct ts_cgroup_event, event), TS_EVENT_CGROUP)},
    {STORE4_VALUE(R9, offsetof(struct ts_cgroup_event, change), 0), .fill = CHANGE},
    {STORE8(R9, offsetof(struct ts_cgroup_event, id), R8)},
    {MOVE(R1, R9)},
    {ADD(R1, offsetof(struct ts_cgroup_event, path))},
    {SET(R2, TS_PATH_SIZE)},
    {MOVE(R3, R7)},
    {CALL(PROBE_READ_KERNEL_STR)},
    {MOVE(R1, R9)},
    {SET(R2, NO_WAKEUP)},
    {CALL(RINGBUF_SUBMIT)},
    {JUMP, .fill = TO_OUT},
    COUNT_LOSS(TS_EVENT_CGROUP),
};

#define TABLE(lines) lines, sizeof(lines) / sizeof((lines)[0])

static const struct {
    const char *tracepoint;
    const char *name;
    const struct line *lines;
    size_t n;
    uint32_t change;
} programs[TS_PROGRAMS] = {
    [TS_PROGRAM_END] = {"sched_switch", "taskstats_end", TABLE(end_of_task), 0},
    [TS_PROGRAM_BIRTH] = {"sched_process_fork", "taskstats_birth", TABLE(birth), 0},
    [TS_PROGRAM_CGROUP_MADE] = {"cgroup_mkdir", "taskstats_mkdir", TABLE(change_of_cgroup),
                                TS_CGROUP_MADE},
    [TS_PROGRAM_CGROUP_RENAMED] = {"cgroup_rename", "taskstats_name", TABLE(change_of_cgroup),
                                   TS_CGROUP_RENAMED},
    [TS_PROGRAM_CGROUP_REMOVED] = {"cgroup_rmdir", "taskstats_rmdir", TABLE(change_of_cgroup),
                                   TS_CGROUP_REMOVED},
};

const char *ts_program_tracepoint(enum ts_program program)
{
    return programs[program].tracepoint;
}

const char *ts_program_name(enum ts_program program)
{
    return programs[program].name;
}

/* ---- making one ---- */

static int is_wanted(const struct line *line, const struct ts_program_context *context)
{
    switch ((enum when)line->when) {
    case STATE_PASSED:
        return context->layout->switch_state >= 0;
    case STATE_READ:
        return context->layout->switch_state < 0;
    case WITH_RUNS:
        return context->layout->task_runs >= 0;
    case VERSION_1:
        return context->subsystem >= 0;
    case VERSION_2:
        return context->subsystem < 0;
    default:
        return 1;
    }
}

/* How far it is from a line to the first one with this label, in instructions. */
static int16_t distance(const struct line *from, const struct line *end, enum label label,
                        const struct ts_program_context *context)
{
    int16_t n = 0;

    for (const struct line *line = from + 1; line < end && line->label != label; line++)
        n = (int16_t)(n + is_wanted(line, context));
    return n;
}

static void fill_in(struct ts_bpf *to, const struct line *line, const struct line *end,
                    enum ts_program program, const struct ts_program_context *context)
{
    const struct ts_probe_layout *layout = context->layout;
    const int32_t offsets[] = {
        [TASK_STATE] = layout->task_state,
        [TASK_PID] = layout->task_pid,
        [TASK_TGID] = layout->task_tgid,
        [TASK_RUNS] = layout->task_runs,
        [TASK_START_BOOTTIME] = layout->task_start_boottime,
        [TASK_START_TIME] = layout->task_start_time,
        [TASK_CPU_TIME] = layout->task_cpu_time,
        [TASK_RUN_DELAY] = layout->task_run_delay,
        [TASK_GROUP_LEADER] = layout->task_group_leader,
        [TASK_CGROUPS] = layout->task_cgroups,
        [CSET_DFL_CGRP] = layout->css_set_dfl_cgrp,
        [CSET_SUBSYS] = layout->css_set_subsys + 8 * context->subsystem,
        [CSS_CGROUP] = layout->css_cgroup,
        [CGROUP_KN] = layout->cgroup_kn,
        [CGROUP_ROOT] = layout->cgroup_root,
        [ROOT_HIERARCHY] = layout->root_hierarchy_id,
        [KN_ID] = layout->kernfs_node_id,
    };

    switch ((enum fill)line->fill) {
    case NOTHING:
        break;
    case SWITCH_PREVIOUS:
        to->offset = (int16_t)(8 * layout->switch_previous);
        break;
    case SWITCH_STATE:
        to->offset = (int16_t)(8 * layout->switch_state);
        break;
    case RING:
        to->value = context->ring;
        break;
    case LOSSES:
        to->value = context->losses;
        break;
    case HIERARCHY:
        to->value = context->hierarchy;
        to->offset = distance(line, end, OUT, context);
        break;
    case CHANGE:
        to->value = (int32_t)programs[program].change;
        break;
    case TO_OUT:
        to->offset = distance(line, end, OUT, context);
        break;
    case TO_LOST:
        to->offset = distance(line, end, LOST, context);
        break;
    default:
        to->offset = (int16_t)offsets[line->fill];
    }
}

int ts_program_make(enum ts_program program, const struct ts_program_context *context,
                    struct ts_bpf *to)
{
    const struct line *line = programs[program].lines;
    const struct line *end = line + programs[program].n;
    int n = 0;

    for (; line < end && n < TS_MOST_INSTRUCTIONS; line++) {
        if (!is_wanted(line, context))
            continue;
        to[n] = line->instruction;
        fill_in(&to[n++], line, end, program, context);
    }
    return n;
}
