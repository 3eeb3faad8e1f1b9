/* The processes that had, or have, a pid: those that ended lately, and those seen alive. Pure.
 */
#ifndef TASKSTATS_OWNERS_H
#define TASKSTATS_OWNERS_H

#include "doubts.h"
#include "taskstats_shim.h"

/* A range of time, both moments included: CLOCK_REALTIME, ns. */
struct ts_range {
    int64_t first;
    int64_t last;
};

enum { TS_NO_TICK = -1 };

struct ts_verdict {
    uint32_t job;                   /* TS_NO_JOB; TS_UNDECIDED */
    const struct ts_doubts *doubts; /* the jobs that it may belong to besides, within that */
};

/* What is added to a job once the verdict is known. */
struct ts_addition {
    struct ts_addition *next; /* a spare one */
    uint32_t records;
    int is_record; /* of a process that never had a second thread */
    union {
        struct ts_record record;
        struct {
            struct ts_sums sums;
            struct ts_ended ended;
        } process;
    } of;
};

struct ts_owner {
    struct ts_owner *next;     /* in its bucket, or of the free ones */
    struct ts_owner *newer;    /* in the line */
    struct ts_owner *departed; /* the next that departed */
    struct ts_owner *below; /* on the stack, or on the way, of those whose verdict is sought */
    struct ts_addition *addition;
    struct ts_range start; /* it started in this range */
    struct ts_range end;   /* it ended in this range, unless it lives */
    struct ts_verdict verdict;
    const struct ts_doubts *perhaps; /* jobs of processes seen alive of which it may be one */
    int64_t
        tick_ns; /* its start as /proc tells, CLOCK_BOOTTIME; TS_NO_TICK: never seen alive */
    int64_t seen_ns; /* CLOCK_REALTIME before it was first seen alive */
    int64_t gone_ns; /* CLOCK_MONOTONIC when it was first missed */
    uint32_t pid;
    uint32_t ppid;
    uint32_t uses;     /* who refers to it: it is freed when nobody does */
    uint32_t heirs;    /* open jobs whose orphans it may inherit */
    uint32_t asking;   /* the number of the look that has found it */
    uint8_t lives;     /* as last seen */
    uint8_t decided;   /* it has a verdict */
    uint8_t is_safe;   /* surely not the init of a PID namespace */
    uint8_t asked;     /* the living were looked at after its record was read */
    uint8_t shared;    /* it inherits orphans of jobs that were closed as well */
    uint8_t named;     /* it was there when a job began: a root, an ancestor, a subreaper */
    uint8_t is_unsure; /* seen alive: the record of its end may be forgotten */
    uint8_t on_stack;
    uint8_t is_listed; /* it is found by its pid */
};

struct ts_owners {
    struct ts_owner **buckets;
    struct ts_owner *free;
    struct ts_owner **chunks;
    struct ts_addition *spare;
    struct ts_owner *oldest, *newest; /* the line: those that ended, as they were read */
    uint32_t size;                    /* of the buckets: a power of 2 */
    uint32_t n_listed;
    uint32_t n_in_line;
    uint32_t n_chunks;
    uint32_t n; /* in use */
    uint32_t most;
    uint32_t n_spare;
    uint32_t n_additions; /* spare ones as well */
};

#ifndef TS_OWNERS_CHUNK
#define TS_OWNERS_CHUNK 64u /* processes that memory is taken for at once */
#endif

/* At most so many processes at once. */
int ts_owners_open(struct ts_owners *owners, uint32_t most);
void ts_owners_close(struct ts_owners *owners);

/* Returns a new process that is found by its pid, which is its only use; NULL if there is no
 * room. */
struct ts_owner *ts_owners_add(struct ts_owners *owners, uint32_t pid, uint32_t ppid);
/* Says that there is one user less. */
void ts_owners_drop(struct ts_owners *owners, struct ts_owner *one);
/* It is no longer found by its pid. */
void ts_owners_unlist(struct ts_owners *owners, struct ts_owner *one);
/* Returns the first process with that pid, then the next; NULL after the last. */
struct ts_owner *ts_owners_first(const struct ts_owners *owners, uint32_t pid);
struct ts_owner *ts_owners_next(const struct ts_owner *one);
/* Returns the process with that pid that lives, as last seen; NULL if there is none. */
struct ts_owner *ts_owners_living(const struct ts_owners *owners, uint32_t pid);
/* A process that was seen alive has ended: it is the last one with its pid that did. */
void ts_owners_end(struct ts_owners *owners, struct ts_owner *one);
/* Puts a process that has ended at the end of the line. */
void ts_owners_line_up(struct ts_owners *owners, struct ts_owner *one);
/* Forgets the one at the front of the line. */
void ts_owners_forget(struct ts_owners *owners);

/* Gives the process an addition to be filled; NULL if there is no memory. */
struct ts_addition *ts_owners_keep(struct ts_owners *owners, struct ts_owner *one);
void ts_owners_release(struct ts_owners *owners, struct ts_owner *one);

size_t ts_owners_bytes(const struct ts_owners *owners);

#endif
