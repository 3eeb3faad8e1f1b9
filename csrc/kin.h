/* Processes by pid and start, and what each belongs to. Pure.
 *
 * Several processes with one pid can be known at once: of those that are dead the records may
 * not have been read yet. */
#ifndef TASKSTATS_KIN_H
#define TASKSTATS_KIN_H

#include "tally.h"

/* What is kept of a process of several threads, until it can be added to its job. */
struct ts_threads {
    struct ts_sums sums;
    struct ts_ended ended; /* by the last thread's record */
    int has_leader;
    char leader[32]; /* the leader's name */
    int has_group;
    struct ts_record group; /* the kernel's sums, of the last thread's record */
    uint32_t by_cgroup;     /* the job by cgroup that it is of */
    int done;               /* it was added */
    uint64_t drain;         /* how many drains had left the queues empty at its last record */
};

struct ts_kin {
    uint64_t start_ns; /* it started in this range, both included: */
    uint64_t start_end_ns;
    uint64_t maker_start_ns;
    uint32_t maker_pid;
    uint32_t pid;
    uint32_t owner;        /* the job's number; TS_NO_JOB; TS_UNDECIDED: a birth was lost */
    uint32_t next;         /* in its bucket: of one pid the one that started last comes first */
    uint32_t older, newer; /* in its line */
    uint8_t used;
    uint8_t line;   /* enum ts_line */
    uint32_t epoch; /* when it was added: births were lost since if the latest is another */
    struct ts_threads *threads;
};

/* The dead stand in lines, those that came first at the front. */
enum ts_line {
    TS_LIVING,
    TS_REPLACED, /* its pid is another's; its end was not heard */
    TS_ENDED,    /* its last thread's record was heard; others may be on their way */
    TS_LINES
};

struct ts_kinship {
    struct ts_kin *all; /* 0 is nobody */
    uint32_t *buckets;
    uint32_t size; /* of both */
    uint32_t capacity;
    uint32_t free; /* the first free one; they are linked by `next` */
    uint32_t n;
    uint32_t n_several; /* with `threads` */
    uint32_t oldest[TS_LINES], newest[TS_LINES], n_in[TS_LINES];
};

int ts_kinship_open(struct ts_kinship *kin, uint32_t capacity);
void ts_kinship_close(struct ts_kinship *kin);

/* Returns the process with that pid that started then; 0 if it is not known. */
uint32_t ts_kinship_find(const struct ts_kinship *kin, uint32_t pid, uint64_t start_ns);
/* Returns the process that had that pid at a moment: the one that started last before. */
uint32_t ts_kinship_at(const struct ts_kinship *kin, uint32_t pid, uint64_t moment_ns);
/* Returns the first process with that pid, then the next; 0 after the last. */
uint32_t ts_kinship_first(const struct ts_kinship *kin, uint32_t pid);
uint32_t ts_kinship_next(const struct ts_kinship *kin, uint32_t one);
/* Adds a process. Those with its pid that started earlier are replaced. Returns 0 if there is
 * no room. */
uint32_t ts_kinship_add(struct ts_kinship *kin, uint32_t pid, uint64_t start_ns,
                        uint64_t start_end_ns);
/* Makes room for its threads; NULL if there is no memory. */
struct ts_threads *ts_kinship_several(struct ts_kinship *kin, uint32_t one);
/* Bytes of memory that all take. */
uint64_t ts_kinship_bytes(const struct ts_kinship *kin);
/* Puts it at the end of a line, unless it is in that line or in a later one. */
void ts_kinship_line_up(struct ts_kinship *kin, uint32_t one, enum ts_line line);
void ts_kinship_remove(struct ts_kinship *kin, uint32_t one);

#endif
