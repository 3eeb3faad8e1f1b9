/* The whole public surface of the shim: ask the kernel for task accounting,
 * hear every exit, decode a datagram. Builds without Python.
 *
 * A function that returns int returns >= 0, or a negative errno. None logs. What
 * was opened before a fork may only be closed in the child: -EOWNERDEAD. */
#ifndef TASKSTATS_SHIM_H
#define TASKSTATS_SHIM_H

#include <stddef.h>
#include <stdint.h>

/* What stands between the two markers is read by cffi as well: plain C, no
 * preprocessor, padding written out so that every ABI lays it out alike. */
/* cffi: begin */

struct ts_timespec {
    int64_t tv_sec;
    int64_t tv_nsec;
};

/* The kernel's accounting record in its newest layout, version 17. Bytes past
 * what the sending kernel filled are zero. Members: taskstats/fields.py. */
struct ts_stats {
    uint16_t version;
    uint16_t pad_version;
    uint32_t ac_exitcode;
    uint8_t ac_flag;
    int8_t ac_nice;
    uint8_t pad_nice[6];
    uint64_t cpu_count;
    uint64_t cpu_delay_total;
    uint64_t blkio_count;
    uint64_t blkio_delay_total;
    uint64_t swapin_count;
    uint64_t swapin_delay_total;
    uint64_t cpu_run_real_total;
    uint64_t cpu_run_virtual_total;
    char ac_comm[32];
    uint8_t ac_sched;
    uint8_t ac_pad[3];
    uint8_t pad_sched[4];
    uint32_t ac_uid;
    uint32_t ac_gid;
    uint32_t ac_pid;
    uint32_t ac_ppid;
    uint32_t ac_btime;
    uint32_t pad_btime;
    uint64_t ac_etime;
    uint64_t ac_utime;
    uint64_t ac_stime;
    uint64_t ac_minflt;
    uint64_t ac_majflt;
    uint64_t coremem;
    uint64_t virtmem;
    uint64_t hiwater_rss;
    uint64_t hiwater_vm;
    uint64_t read_char;
    uint64_t write_char;
    uint64_t read_syscalls;
    uint64_t write_syscalls;
    uint64_t read_bytes;
    uint64_t write_bytes;
    uint64_t cancelled_write_bytes;
    uint64_t nvcsw;
    uint64_t nivcsw;
    uint64_t ac_utimescaled;
    uint64_t ac_stimescaled;
    uint64_t cpu_scaled_run_real_total;
    uint64_t freepages_count;
    uint64_t freepages_delay_total;
    uint64_t thrashing_count;
    uint64_t thrashing_delay_total;
    uint64_t ac_btime64;
    uint64_t compact_count;
    uint64_t compact_delay_total;
    uint32_t ac_tgid;
    uint32_t pad_tgid;
    uint64_t ac_tgetime;
    uint64_t ac_exe_dev;
    uint64_t ac_exe_inode;
    uint64_t wpcopy_count;
    uint64_t wpcopy_delay_total;
    uint64_t irq_count;
    uint64_t irq_delay_total;
    uint64_t cpu_delay_max;
    uint64_t cpu_delay_min;
    uint64_t blkio_delay_max;
    uint64_t blkio_delay_min;
    uint64_t swapin_delay_max;
    uint64_t swapin_delay_min;
    uint64_t freepages_delay_max;
    uint64_t freepages_delay_min;
    uint64_t thrashing_delay_max;
    uint64_t thrashing_delay_min;
    uint64_t compact_delay_max;
    uint64_t compact_delay_min;
    uint64_t wpcopy_delay_max;
    uint64_t wpcopy_delay_min;
    uint64_t irq_delay_max;
    uint64_t irq_delay_min;
    struct ts_timespec cpu_delay_max_ts;
    struct ts_timespec blkio_delay_max_ts;
    struct ts_timespec swapin_delay_max_ts;
    struct ts_timespec freepages_delay_max_ts;
    struct ts_timespec thrashing_delay_max_ts;
    struct ts_timespec compact_delay_max_ts;
    struct ts_timespec wpcopy_delay_max_ts;
    struct ts_timespec irq_delay_max_ts;
};

enum ts_kind { TS_TASK = 1, TS_GROUP = 2 };

enum ts_flag {
    TS_LAST = 1,          /* the last thread of its group to exit (AGROUP) */
    TS_PAIRED = 2,        /* its datagram held a task and a group record */
    TS_LOST_BEFORE = 4,   /* lost_before is not zero */
    TS_DELAY_EXCEEDS = 8, /* a delay is longer than the time elapsed */
    TS_EXIT = 16,         /* sent by the kernel at exit, not asked for */
    TS_NO_TIMES = 32,     /* a group whose times this kernel did not sum */
    TS_NO_SUMS = 64,      /* a group of which the kernel summed nothing */
    TS_SETTLED = 128      /* the probe has seen the task's end: the last three members hold */
};

/* One record, 752 bytes: a header of ours, the kernel's struct, and what the probe adds.
 * The header is as long as what comes before the struct in a datagram, so that the one
 * is received where the other will stand. */
struct ts_record {
    uint32_t id;          /* pid of a task, tgid of a group */
    uint16_t version;     /* with size: which fields exist (see layout.c) */
    uint16_t size;        /* bytes of struct the kernel sent */
    uint8_t kind;         /* enum ts_kind */
    uint8_t flags;        /* enum ts_flag */
    uint16_t cpu;         /* the listener's CPU; 0xffff for anything else */
    uint32_t seq;         /* the kernel's number on that CPU, or the request's */
    uint32_t lost_before; /* records lost on this CPU since its previous one */
    uint32_t row;         /* paired: row of the other record in its array */
    uint64_t received_ns; /* CLOCK_REALTIME of the drain; 0 for queries */
    uint64_t pad_header;
    struct ts_stats stats;
    uint64_t final_cpu_ns; /* all of its time on a CPU */
    uint64_t start_ns;     /* CLOCK_BOOTTIME; with the pid it names the task for good. Without
                              TS_SETTLED 0, or known alone: after an exec by a thread */
    uint64_t cgroup_id;    /* in the probe's hierarchy; 0: not known */
};

/* A process was made. Times are of CLOCK_BOOTTIME. */
struct ts_birth {
    uint64_t start_ns;
    uint64_t maker_start_ns;
    uint64_t cgroup_id; /* where it begins; 0: not known */
    uint32_t pid;
    uint32_t maker_pid; /* the process that called fork */
};

enum ts_cgroup_change_kind { TS_CGROUP_MADE = 1, TS_CGROUP_RENAMED, TS_CGROUP_REMOVED };

/* A cgroup of the probe's hierarchy was made, renamed or removed. */
struct ts_cgroup_change {
    uint64_t id;
    uint32_t change; /* enum ts_cgroup_change_kind */
    uint32_t length; /* of the path; 0: it is too long to be told */
    char path[1024]; /* from the hierarchy's root, as in /proc/PID/cgroup */
};

/* Why a datagram was refused. */
enum ts_reason {
    TS_ACCEPTED,
    TS_FOREIGN,    /* not from the endpoint's port */
    TS_TRUNCATED,  /* longer than a receive slot (MSG_TRUNC) */
    TS_BYTE_ORDER, /* written by a machine of the other byte order */
    TS_LENGTH,     /* a message's length does not fit its datagram */
    TS_UNEXPECTED, /* not a message of this service */
    TS_ATTRIBUTE,  /* an attribute's length or presence is wrong */
    TS_VERSION,    /* struct version 0 to 3 */
    TS_ROOM,       /* more records than there is room for */
    TS_ANSWER,     /* the kernel's own error answer; see ts_decode */
    TS_REASONS
};

enum { TS_REFUSED = 0x10000 };

/* Where decoded records go: two arrays of `capacity` rows, either may be NULL. */
struct ts_sink {
    struct ts_record *tasks;
    struct ts_record *groups;
    uint32_t capacity;
    uint32_t n_tasks;
    uint32_t n_groups;
    uint32_t reason;      /* enum ts_reason of the last refusal */
    uint32_t room_births; /* what a listener with a probe reads besides; may be NULL */
    struct ts_birth *births;
    struct ts_cgroup_change *changes;
    uint32_t n_births;
    uint32_t room_changes;
    uint32_t n_changes;
    uint32_t reserved;
    uint64_t births_lost; /* births that the ring had no room for, so far */
    int64_t emptied_ns;   /* 0, or CLOCK_MONOTONIC when the drain began that left nothing: no
                             record that was queued before is still to come. With a buffer,
                             the newest such moment so far */
};

/* What a process that plays the kernel has sent to one port. A full queue refuses
 * its datagrams and counts nothing, so it counts itself: `dropped` first, then
 * `offered`, once the datagram is sent. */
struct ts_sent {
    uint32_t port;    /* 0: this place is free */
    uint32_t offered; /* exit records, modulo 2^32 */
    uint32_t dropped; /* of those, what found no room */
};

/* Where the service is: the kernel, or a process that emulates it. */
struct ts_endpoint {
    int32_t protocol;     /* NETLINK_GENERIC, or NETLINK_USERSOCK */
    uint32_t port;        /* netlink port; 0 is the kernel */
    uint16_t family;      /* genetlink family id; 0: look it up */
    uint16_t synchronous; /* answers are queued when send returns */
    int32_t timeout_ms;   /* longest wait for one answer */
    const char *cpus;     /* the possible CPUs, as a list ("0-7"); NULL: registrations that a
                             new query socket's port inherited are left alone */
    const struct ts_sent *sent; /* a hash table by port % n_sent, the next place if that is
                                   taken, never full; NULL: the sockets count */
    uint32_t n_sent;
    uint32_t reserved;
};

enum ts_step {
    TS_STEP_SOCKET,
    TS_STEP_BUFFER,
    TS_STEP_CONNECT,
    TS_STEP_FAMILY,
    TS_STEP_CLEAN,
    TS_STEP_REGISTER,
    TS_STEP_EPOLL,
    TS_STEP_REQUEST,
    TS_STEP_FILTER,
    TS_STEP_BTF,
    TS_STEP_RING,
    TS_STEP_PROGRAM,
    TS_STEP_ATTACH,
    TS_STEP_THREAD
};

/* What an open got or, where it failed, at which step. */
struct ts_opened {
    uint32_t step;   /* enum ts_step of the failure */
    uint32_t port;   /* own netlink port of the (last) socket */
    uint32_t rcvbuf; /* bytes granted to each socket */
    uint32_t family;
    int32_t fileno; /* a listener's epoll descriptor, readable while records
                       wait or after a stop */
    int32_t wake;   /* its eventfd, readable after a stop alone */
};

struct ts_cgroup {
    uint64_t nr_sleeping;
    uint64_t nr_running;
    uint64_t nr_stopped;
    uint64_t nr_uninterruptible;
    uint64_t nr_io_wait;
};

/* An instruction of classic BPF, as in struct sock_filter. */
struct ts_instruction {
    uint16_t code;
    uint8_t jt;
    uint8_t jf;
    uint32_t k;
};

/* Where the kernel keeps what the probe reads: offsets in bytes, and which arguments of
 * the tracepoint sched_switch are the previous task and its state. -1: this kernel does
 * not have it. */
struct ts_probe_layout {
    int32_t task_pid;
    int32_t task_tgid;
    int32_t task_start_boottime;
    int32_t task_start_time;
    int32_t task_group_leader;
    int32_t task_cgroups;
    int32_t task_state;
    int32_t task_cpu_time;  /* se.sum_exec_runtime */
    int32_t task_runs;      /* sched_info.pcount */
    int32_t task_run_delay; /* sched_info.run_delay */
    int32_t css_set_dfl_cgrp;
    int32_t css_set_subsys;
    int32_t css_cgroup; /* in struct cgroup_subsys_state */
    int32_t cgroup_kn;
    int32_t cgroup_root;
    int32_t root_hierarchy_id;
    int32_t kernfs_node_id;
    int32_t switch_previous;
    int32_t switch_state;
};

/* A ring that a process which plays the kernel writes (csrc/ring.h has its form). */
struct ts_peer_ring {
    void *consumer;
    const void *producer;
    const void *data;
    uint64_t size; /* of the data, in bytes: a power of two, at least 4096 */
    const uint64_t *losses;
    const uint64_t *now; /* the clock of its events, ns; NULL: CLOCK_MONOTONIC */
};

/* What a probe is to see. */
struct ts_probe_wanted {
    const char *controller;          /* of a cgroup hierarchy of version 1; NULL: version 2 */
    int32_t hierarchy;               /* its number, as in /proc/self/cgroup; 0: version 2 */
    uint32_t ring_size;              /* bytes: a power of two, at least a page */
    const struct ts_peer_ring *peer; /* NULL: the kernel */
};

/* What a listener is to hear. */
struct ts_wanted {
    const uint16_t *cpus;
    uint32_t n_cpus;
    uint32_t rcvbuf;                     /* bytes for each CPU's queue */
    const struct ts_instruction *filter; /* run on each datagram; NULL: every exit */
    uint32_t n_filter;
    struct ts_probe *probe; /* stays the caller's, open as long as the listener; NULL: none */
    int64_t settle_ns;      /* with a probe: the longest that a row waits for its end */
    uint64_t buffer;        /* bytes for a thread to drain into, at least 1 MiB; 0: no thread */
    int64_t latency_ns;     /* that thread's, see ts_exits_drain */
    uint32_t all_cpus;      /* whether `cpus` are all on which a task can exit */
    uint32_t reserved;
};

struct ts_cpu_stats {
    uint32_t cpu;
    uint32_t rcvbuf; /* bytes granted */
    uint32_t queued; /* bytes of it in use now */
    uint32_t reserved;
    uint64_t received;            /* records taken off this CPU's socket */
    uint64_t lost;                /* records the kernel could not queue */
    uint64_t filtered;            /* exits that the filter kept out, on the kernel */
    uint64_t unexplained;         /* numbers missing beyond the lost; 0 with a filter */
    uint64_t wakeups;             /* drains that read this socket */
    uint64_t refused[TS_REASONS]; /* datagrams by enum ts_reason */
};

struct ts_probe_stats {
    uint64_t settled;   /* records with their end */
    uint64_t unsettled; /* records handed out without */
    uint64_t held;      /* records that wait for it */
    uint64_t ends_lost; /* events that the ring had no room for */
    uint64_t births_lost;
    uint64_t changes_lost;
    uint64_t damaged; /* the ring cannot be right, and is read no more */
};

enum { TS_SUMS = 56, TS_MOST_COMMANDS = 1024 };

/* What processes that have ended add up to. */
struct ts_totals {
    uint64_t processes;
    uint64_t threads;
    uint64_t unsettled; /* threads without a final CPU time */
    uint64_t exceeding; /* processes with a delay that is longer than they have lived */
    uint64_t cpu_ns;
    uint64_t longest_us;
    uint64_t sums[TS_SUMS]; /* fields in the order of the struct, final_cpu_ns the last */
    uint64_t statuses[256]; /* processes by exit status */
    uint64_t signals[128];  /* processes by the signal that ended them */
};

struct ts_command {
    char comm[32];
    uint64_t exe_dev;
    uint64_t exe_inode;
    struct ts_totals totals;
};

/* A process that has ended. */
struct ts_ended {
    uint64_t received_ns; /* CLOCK_REALTIME: when its last record was read */
    uint64_t start_ns;    /* CLOCK_BOOTTIME; 0: not known, and so in what follows */
    uint64_t maker_start_ns;
    uint64_t cpu_ns;
    uint64_t elapsed_us;
    uint64_t exe_dev;
    uint64_t exe_inode;
    uint32_t pid;
    uint32_t ppid; /* when it ended */
    uint32_t maker_pid;
    uint32_t status; /* as wait(2) gives it */
    char comm[32];
};

/* What the records of one process add up to. */
struct ts_sums {
    uint64_t values[TS_SUMS];
    uint64_t unsettled_cpu_ns; /* by the records of threads without a final CPU time */
    uint32_t threads;
    uint32_t unsettled; /* of the threads */
    uint32_t exceeding; /* whether a delay is longer than its thread has lived */
    uint32_t reserved;
};

/* What a job is. */
struct ts_job_wanted {
    uint32_t root;     /* the pid; 0: a job by cgroup */
    uint32_t outer;    /* of a job by cgroup: the one that it is within; TS_NO_JOB */
    uint64_t start_ns; /* the root started in this range of CLOCK_BOOTTIME */
    uint64_t start_end_ns;
    uint64_t remember; /* ended processes to remember, at most */
};

/* What a job has, but for the totals; `lost` and what follows are records. */
struct ts_job_counts {
    uint32_t n_commands; /* of the job alone: not those of jobs within it */
    uint32_t outer;      /* the job that it is within; TS_NO_JOB */
    uint64_t remembered;
    uint64_t forgotten;
    uint64_t living; /* processes */
    uint64_t lost;
    uint64_t undecided;
    uint64_t evicted;
    uint64_t births_lost; /* whether births were lost that may be its */
};

enum { TS_NO_JOB = 0xffffffff, TS_UNDECIDED = 0xfffffffe };

/* What a batch brings to the jobs. */
struct ts_feed {
    const struct ts_record *tasks;
    const struct ts_record *groups;
    const struct ts_birth *births;
    uint32_t n_tasks;
    uint32_t n_groups;
    uint32_t n_births;
    uint32_t emptied; /* whether all records that the kernel had queued are read */
    uint64_t births_lost;
    uint64_t boot_ns; /* CLOCK_REALTIME minus CLOCK_BOOTTIME, ns; see ts_jobs_check */
};

/* What a batch needs before it is fed. */
enum ts_need {
    TS_NEEDS_CLOCK = 1, /* boot_ns: the start of some process is known by its age alone */
    TS_UNLIKE = 2       /* a look: a record has another struct than the last that was accepted,
                           or is not one of an exit */
};

struct ts_jobs_counts {
    uint64_t attributed; /* records */
    uint64_t outside;
    uint64_t undecided;
    uint64_t evicted;
    uint64_t waiting;
    uint64_t lost;
    uint64_t waiting_since; /* CLOCK_REALTIME: when the oldest that waits was read */
    uint64_t processes;     /* known to live, or whose end was not heard */
    uint64_t bytes;         /* of memory */
};

/* A living process of a job. */
struct ts_member {
    uint64_t start_ns;
    uint64_t start_end_ns;
    uint64_t cpu_ns; /* of its threads that have ended */
    uint32_t pid;
    uint32_t job;
};

/* The clocks at one moment, and what may have happened before it. */
struct ts_moment {
    int64_t boot_ns;      /* CLOCK_BOOTTIME of the initial time namespace */
    int64_t real_ns;      /* CLOCK_REALTIME */
    int64_t monotonic_ns; /* CLOCK_MONOTONIC */
    uint32_t may_nest; /* whether there may have been a PID namespace below the initial one */
    uint32_t reserved;
};

/* A process that was found in /proc. */
struct ts_alive {
    uint64_t start_ns; /* CLOCK_BOOTTIME, rounded down to 10 ms */
    uint32_t pid;
    uint32_t ppid;      /* 0: it is in another PID namespace, or the kernel's */
    uint32_t is_nested; /* it lives in a PID namespace below the reader's */
    uint32_t reserved;
};

/* A living process and its ancestors, the nearest first. */
struct ts_lineage {
    struct ts_alive one;
    const struct ts_alive *ancestors;
    uint32_t n;
    uint32_t is_whole; /* whether these are all of its ancestors */
};

/* A row of a batch that is of a process with several threads. */
struct ts_several {
    struct ts_owner *process; /* of its last thread's row; NULL: none, or there was no memory */
    uint32_t row;
    uint32_t is_last;
};

struct ts_parentage_counts {
    uint64_t waiting;       /* records without a verdict, but for those in the caller's sums */
    uint64_t waiting_since; /* CLOCK_REALTIME: when the oldest of these was read; 0: none */
    uint64_t processes;     /* known: those that ended lately, and those seen alive */
    uint64_t remembered;    /* of these, those that ended */
    uint64_t bytes;         /* of memory for all this */
};

struct ts_buffer_stats {
    uint64_t bytes;     /* that the buffer may take */
    uint64_t used;      /* bytes that wait in it, rows and births */
    uint64_t most_used; /* so far */
    uint64_t waiting;   /* task records that wait in it */
    uint64_t full;      /* how often the thread had to wait for room, */
    uint64_t full_ns;   /* and how long in all */
};

struct ts_client;
struct ts_exits;
struct ts_probe;
struct ts_jobs;
struct ts_parentage;
struct ts_owner;

/* Memory for records, not cleared; also frees a closed client or listener. */
void *ts_alloc(size_t size);
void ts_free(void *memory);

/* Appends the records of one datagram, all of them or none. Returns how many,
 * or -EBADMSG with sink->reason; for TS_ANSWER the kernel's own -errno. */
int ts_decode(const void *datagram, size_t size, struct ts_sink *sink);

/* A query socket. Any number of threads may share it. */
int ts_client_open(const struct ts_endpoint *endpoint, uint32_t rcvbuf,
                   struct ts_client **client, struct ts_opened *opened);
/* Asks for n ids of one kind. The records found go to `rows` (room for n) in the
 * order of ids; returns how many. errors[i] becomes 0, the -errno of ids[i], or
 * -(TS_REFUSED + enum ts_reason) if its reply could not be decoded. For a single
 * id `errors` may be NULL: then that is returned. */
int ts_client_query(struct ts_client *client, uint32_t kind, const uint32_t *ids, uint32_t n,
                    struct ts_record *rows, int32_t *errors);
/* A query under way in another thread fails with -EBADF, or ends well. */
int ts_client_close(struct ts_client *client);

/* Counts a cgroup's tasks by state. -EBADF where the kernel says nothing,
 * -EMEDIUMTYPE for cgroup v2. */
int ts_cgroup(const struct ts_endpoint *endpoint, int fd, struct ts_cgroup *counts,
              struct ts_opened *opened);

/* Reads offsets from the kernel's BTF (/sys/kernel/btf/vmlinux). Returns -ENOENT if the BTF
 * lacks something that the programs need, -EBADMSG if the data is not BTF, -EOPNOTSUPP if
 * the kernel is one of 32 bits. */
int ts_probe_read_layout(const void *btf, size_t size, struct ts_probe_layout *layout);

/* BPF programs at each fork and at each task's last switch, which write into a ring.
 * From now on until it is closed; a child of fork that lives on keeps them attached. */
int ts_probe_open(const struct ts_probe_wanted *wanted, struct ts_probe **probe,
                  struct ts_opened *opened);
int ts_probe_close(struct ts_probe *probe);

/* A listener: one socket a CPU, and with a filter one more that counts. */
int ts_exits_open(const struct ts_endpoint *endpoint, const struct ts_wanted *wanted,
                  struct ts_exits **exits, struct ts_opened *opened);
/* Waits for exits until `deadline_ns` (CLOCK_MONOTONIC; < 0: for ever), lets
 * them gather for `latency_ns` but not past the deadline, appends what is
 * queued. Returns the rows added, 0 at the deadline, -EBUSY while another thread
 * drains, -ESHUTDOWN when stopped and empty, -EINTR after a signal, and also without
 * one: once a second at least, so that a signal that came between two waits is not
 * noticed late. Then call it again. With a deadline of 0 it does not wait: -EAGAIN if
 * there are records that may gather.
 *
 * With a probe, rows are held until their end was seen, and all that came after them:
 * the order stays. Births and changes of cgroups come as well, and 0 is returned also
 * when there is no more room for these. While rows are held, a deadline waits for them;
 * with one of 0, -EINPROGRESS says that there are some.
 *
 * With a buffer this takes what the thread has drained, and the thread lets records gather for
 * the latency given at the open. At the deadline it has the thread drain at once; also with a
 * deadline of 0 if `latency_ns` is 0, and else it returns 0 where nothing waits. An error comes
 * after all records that were read before it. */
int ts_exits_drain(struct ts_exits *exits, int64_t latency_ns, int64_t deadline_ns,
                   struct ts_sink *sink);
int ts_exits_stats(struct ts_exits *exits, struct ts_cpu_stats *cpus, uint64_t *wakeups);
/* After a close, the counts are those of that moment. -EOPNOTSUPP without a probe. */
int ts_exits_probe_stats(struct ts_exits *exits, struct ts_probe_stats *stats);
/* After a close, as of that moment. -EOPNOTSUPP without a buffer. */
int ts_exits_buffer_stats(struct ts_exits *exits, struct ts_buffer_stats *stats);
/* Deregisters; a drain that waits is woken. What is queued can still be drained. */
int ts_exits_stop(struct ts_exits *exits);
int ts_exits_close(struct ts_exits *exits);

/* Assigns each process to a job, by births, and sums what each job used. No system calls. One
 * thread at a time may use them. At most `capacity` processes are known at once. All births
 * since `since_ns` (CLOCK_BOOTTIME) are to come. */
int ts_jobs_new(uint32_t capacity, uint64_t since_ns, struct ts_jobs **jobs);
void ts_jobs_free(struct ts_jobs *jobs);
/* Returns the job's number. -EEXIST: that process is the root of a job. */
int ts_jobs_start(struct ts_jobs *jobs, const struct ts_job_wanted *wanted, uint32_t *job);
/* Adds a living process to the job, if it belongs to the outer job or to none. */
int ts_jobs_join(struct ts_jobs *jobs, uint32_t job, uint32_t pid, uint64_t start_ns,
                 uint64_t start_end_ns);
/* Processes that end later belong to the outer job, or to none. The number may be given
 * to another job from now on: read what it has before. */
int ts_jobs_close(struct ts_jobs *jobs, uint32_t job);
/* The cgroups of records that nobody has placed yet; returns how many. */
int ts_jobs_new_cgroups(struct ts_jobs *jobs, const struct ts_record *tasks, uint32_t n,
                        uint64_t *ids, uint32_t room);
/* Says which job ends in a cgroup belong to: TS_NO_JOB, TS_UNDECIDED. */
int ts_jobs_place_cgroup(struct ts_jobs *jobs, uint64_t id, uint32_t job);
void ts_jobs_forget_cgroups(struct ts_jobs *jobs);
/* Returns what a batch needs, by enum ts_need. */
int ts_jobs_check(const struct ts_jobs *jobs, const struct ts_record *tasks, uint32_t n);
/* Says that records of this kind are right. */
void ts_jobs_accept(struct ts_jobs *jobs, const struct ts_record *tasks, uint32_t n);
/* Takes a batch: its births, then its records. -ENOMEM: it has been taken, and jobs are marked
 * as ones that may lack something. */
int ts_jobs_feed(struct ts_jobs *jobs, const struct ts_feed *feed);
void ts_jobs_flush(struct ts_jobs *jobs);
/* Counts lost records that no record reported. */
void ts_jobs_lose(struct ts_jobs *jobs, uint64_t records);
/* Puts a job within another one, or within none: TS_NO_JOB. -EINVAL: it is around that one. */
int ts_jobs_put_within(struct ts_jobs *jobs, uint32_t job, uint32_t outer);
/* Counts what the caller has attributed: a process that never had a second thread, whose record
 * this is; or one of several threads. `job` may be TS_NO_JOB or TS_UNDECIDED. -ENOMEM: the
 * records were given up, and the job is marked. */
int ts_jobs_add_record(struct ts_jobs *jobs, uint32_t job, const struct ts_record *record);
int ts_jobs_add_process(struct ts_jobs *jobs, uint32_t job, const struct ts_sums *sums,
                        const struct ts_ended *ended);
/* Records that had to be given up: they may be of any job. */
void ts_jobs_give_up(struct ts_jobs *jobs, uint64_t records);
/* So many records may be of some jobs: each of these counts them once. */
void ts_jobs_doubt(struct ts_jobs *jobs, const uint32_t *numbers, uint32_t n, uint64_t records);
void ts_jobs_count(const struct ts_jobs *jobs, struct ts_jobs_counts *counts);
int ts_job_count(const struct ts_jobs *jobs, uint32_t job, struct ts_job_counts *counts);
/* The open jobs that are within a job, itself among them; returns how many there are. */
int ts_job_within(const struct ts_jobs *jobs, uint32_t outer, uint32_t *numbers, uint32_t room);
/* Copies what a job alone has: commands, remembered processes. Returns how many. */
int ts_job_commands(const struct ts_jobs *jobs, uint32_t job, struct ts_command *commands,
                    uint32_t room);
int ts_job_ended(const struct ts_jobs *jobs, uint32_t job, struct ts_ended *ended,
                 uint32_t room);
void ts_totals_add_totals(struct ts_totals *totals, const struct ts_totals *other);
/* The job that a process is of, which started in this range: TS_NO_JOB; TS_UNDECIDED if a
 * birth was lost. */
uint32_t ts_jobs_of(struct ts_jobs *jobs, uint32_t pid, uint64_t start_ns,
                    uint64_t start_end_ns);
/* The living processes of all jobs; returns how many there are. */
int ts_jobs_members(const struct ts_jobs *jobs, struct ts_member *members, uint32_t room);

/* Assigns each process to a job without births, by its record and by who lives, and adds it to
 * the jobs given, which must be there as long. No system calls: the caller passes the clocks,
 * and looks processes up. At most `capacity` processes wait, and as many are remembered.
 *
 * Some calls want processes to be looked up. They return how many. While that is not 0, look
 * them up and call ts_parentage_found with those that live. */
int ts_parentage_new(struct ts_jobs *jobs, uint32_t capacity, struct ts_parentage **parentage);
void ts_parentage_free(struct ts_parentage *parentage);
/* Begins a job, with the subreaper that inherits its orphans, or NULL. `outer` becomes the job
 * that its root is of: TS_NO_JOB, TS_UNDECIDED. With -ENOMEM it has not begun. */
int ts_parentage_start(struct ts_parentage *parentage, uint32_t job,
                       const struct ts_lineage *root, const struct ts_alive *subreaper,
                       const struct ts_moment *now, uint32_t *outer);
/* Makes a living process one of the job's, unless it belongs to a job that is not among the
 * n `around`. Call it for a parent before its children. */
int ts_parentage_join(struct ts_parentage *parentage, uint32_t job, const struct ts_alive *one,
                      const uint32_t *around, uint32_t n, const struct ts_moment *now);
/* What belongs to the job belongs to the outer one, or to none, from now on, also with -ENOMEM.
 * Call it before ts_jobs_close. */
int ts_parentage_close(struct ts_parentage *parentage, uint32_t job, uint32_t outer);
/* Finds the job of a living process: TS_NO_JOB, TS_UNDECIDED; with -ENOMEM it may be
 * TS_UNDECIDED for that reason. */
int ts_parentage_of(struct ts_parentage *parentage, const struct ts_lineage *one,
                    const struct ts_moment *now, uint32_t *job);
/* Takes the rows of a batch. `several` has room for n: it gets the rows of processes with
 * several threads, which the caller adds up; returns how many. Where there is no memory,
 * records are given up, and the next call that settles or flushes returns -ENOMEM. */
int ts_parentage_feed(struct ts_parentage *parentage, const struct ts_record *tasks, uint32_t n,
                      const struct ts_moment *now, struct ts_several *several);
/* Takes what a process of several threads has used: once for each last row. If it is not
 * complete, a thread may be of another process: it may belong to any job. */
void ts_parentage_add(struct ts_parentage *parentage, struct ts_owner *process,
                      const struct ts_sums *sums, const struct ts_ended *ended,
                      int is_complete);
/* Says that records were lost before now. */
void ts_parentage_lose(struct ts_parentage *parentage, const struct ts_moment *now);
/* Assigns what can be assigned. All records that were queued before `emptied_ns`
 * (CLOCK_MONOTONIC) have been fed; < 0: no such moment is known. Returns how many processes are
 * wanted. -ENOMEM: some records were given up, and jobs are marked. */
int ts_parentage_settle(struct ts_parentage *parentage, int64_t emptied_ns,
                        const struct ts_moment *now);
/* Assigns all that waits; what needs more records is undecided. */
int ts_parentage_flush(struct ts_parentage *parentage, const struct ts_moment *now);
/* Copies the pids that are wanted. */
void ts_parentage_wanted(const struct ts_parentage *parentage, uint32_t *pids);
/* Takes who lives of those that were wanted. `before_ns` is CLOCK_REALTIME before the look. */
int ts_parentage_found(struct ts_parentage *parentage, const struct ts_alive *found, uint32_t n,
                       int64_t before_ns, const struct ts_moment *now);
void ts_parentage_count(const struct ts_parentage *parentage,
                        struct ts_parentage_counts *counts);

/* cffi: end */

#endif
