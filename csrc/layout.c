/* How the struct of any version is brought to the newest layout. Pure. */
#include "abi.h"

#include <string.h>

/* Every member: name, offset, bytes. The struct is held to this table, and
 * the table tells where a struct that was cut short has its last whole member. */
#define MEMBERS(X)                                                                             \
    X(version, 0, 2)                                                                           \
    X(ac_exitcode, 4, 4)                                                                       \
    X(ac_flag, 8, 1)                                                                           \
    X(ac_nice, 9, 1)                                                                           \
    X(cpu_count, 16, 8)                                                                        \
    X(cpu_delay_total, 24, 8)                                                                  \
    X(blkio_count, 32, 8)                                                                      \
    X(blkio_delay_total, 40, 8)                                                                \
    X(swapin_count, 48, 8)                                                                     \
    X(swapin_delay_total, 56, 8)                                                               \
    X(cpu_run_real_total, 64, 8)                                                               \
    X(cpu_run_virtual_total, 72, 8)                                                            \
    X(ac_comm, 80, 32)                                                                         \
    X(ac_sched, 112, 1)                                                                        \
    X(ac_pad, 113, 3)                                                                          \
    X(ac_uid, 120, 4)                                                                          \
    X(ac_gid, 124, 4)                                                                          \
    X(ac_pid, 128, 4)                                                                          \
    X(ac_ppid, 132, 4)                                                                         \
    X(ac_btime, 136, 4)                                                                        \
    X(ac_etime, 144, 8)                                                                        \
    X(ac_utime, 152, 8)                                                                        \
    X(ac_stime, 160, 8)                                                                        \
    X(ac_minflt, 168, 8)                                                                       \
    X(ac_majflt, 176, 8)                                                                       \
    X(coremem, 184, 8)                                                                         \
    X(virtmem, 192, 8)                                                                         \
    X(hiwater_rss, 200, 8)                                                                     \
    X(hiwater_vm, 208, 8)                                                                      \
    X(read_char, 216, 8)                                                                       \
    X(write_char, 224, 8)                                                                      \
    X(read_syscalls, 232, 8)                                                                   \
    X(write_syscalls, 240, 8)                                                                  \
    X(read_bytes, 248, 8)                                                                      \
    X(write_bytes, 256, 8)                                                                     \
    X(cancelled_write_bytes, 264, 8)                                                           \
    X(nvcsw, 272, 8)                                                                           \
    X(nivcsw, 280, 8)                                                                          \
    X(ac_utimescaled, 288, 8)                                                                  \
    X(ac_stimescaled, 296, 8)                                                                  \
    X(cpu_scaled_run_real_total, 304, 8)                                                       \
    X(freepages_count, 312, 8)                                                                 \
    X(freepages_delay_total, 320, 8)                                                           \
    X(thrashing_count, 328, 8)                                                                 \
    X(thrashing_delay_total, 336, 8)                                                           \
    X(ac_btime64, 344, 8)                                                                      \
    X(compact_count, 352, 8)                                                                   \
    X(compact_delay_total, 360, 8)                                                             \
    X(ac_tgid, 368, 4)                                                                         \
    X(ac_tgetime, 376, 8)                                                                      \
    X(ac_exe_dev, 384, 8)                                                                      \
    X(ac_exe_inode, 392, 8)                                                                    \
    X(wpcopy_count, 400, 8)                                                                    \
    X(wpcopy_delay_total, 408, 8)                                                              \
    X(irq_count, 416, 8)                                                                       \
    X(irq_delay_total, 424, 8)                                                                 \
    X(cpu_delay_max, 432, 8)                                                                   \
    X(cpu_delay_min, 440, 8)                                                                   \
    X(blkio_delay_max, 448, 8)                                                                 \
    X(blkio_delay_min, 456, 8)                                                                 \
    X(swapin_delay_max, 464, 8)                                                                \
    X(swapin_delay_min, 472, 8)                                                                \
    X(freepages_delay_max, 480, 8)                                                             \
    X(freepages_delay_min, 488, 8)                                                             \
    X(thrashing_delay_max, 496, 8)                                                             \
    X(thrashing_delay_min, 504, 8)                                                             \
    X(compact_delay_max, 512, 8)                                                               \
    X(compact_delay_min, 520, 8)                                                               \
    X(wpcopy_delay_max, 528, 8)                                                                \
    X(wpcopy_delay_min, 536, 8)                                                                \
    X(irq_delay_max, 544, 8)                                                                   \
    X(irq_delay_min, 552, 8)                                                                   \
    X(cpu_delay_max_ts, 560, 16)                                                               \
    X(blkio_delay_max_ts, 576, 16)                                                             \
    X(swapin_delay_max_ts, 592, 16)                                                            \
    X(freepages_delay_max_ts, 608, 16)                                                         \
    X(thrashing_delay_max_ts, 624, 16)                                                         \
    X(compact_delay_max_ts, 640, 16)                                                           \
    X(wpcopy_delay_max_ts, 656, 16)                                                            \
    X(irq_delay_max_ts, 672, 16)

#define HOLD(member, offset, bytes)                                                            \
    _Static_assert(offsetof(struct ts_stats, member) == (offset), #member " has moved");       \
    _Static_assert(sizeof(((struct ts_stats *)0)->member) == (bytes), #member " has grown");
MEMBERS(HOLD)
_Static_assert(sizeof(struct ts_stats) == 688, "version 17 has 688 bytes");
_Static_assert(offsetof(struct ts_record, stats) == 40, "the header has 40 bytes");
_Static_assert(sizeof(struct ts_record) == 752, "a record has 752 bytes");

#define END(member, offset, bytes) (offset) + (bytes),
static const uint16_t member_end[] = {MEMBERS(END)};

/* Version 15 had each delay's max and min right after its total; version 16
 * moved them to the end. So the old layout is the new one's first 432 bytes in
 * eight pieces, each ending with a delay's total, with the extremes between. */
static const uint16_t piece_end[] = {32, 48, 64, 328, 344, 368, 416, 432};
#define EXTREMES_AT 432u /* where the newest layout has them, 16 bytes a delay */

static size_t whole_members(size_t size)
{
    size_t whole = 0;

    /* From here on a multiple of 8 cuts no member that may be cut off: no search needed. */
    if (size >= offsetof(struct ts_stats, ac_etime) && size % 8 == 0)
        return size;
    for (size_t i = 0; i < sizeof(member_end) / sizeof(member_end[0]); i++)
        if (member_end[i] <= size)
            whole = member_end[i];
    return whole;
}

/* How many bytes of extremes follow each piece; 0 for the newest layout.
 * Release candidates before version 15 had its layout under version 14, for a
 * while with the maxima alone: only the length tells. */
static size_t extremes_inside(size_t size, unsigned version)
{
    if (version == 15 || (version == 14 && size == 560))
        return 16;
    if (version == 14 && size == 496)
        return 8;
    return 0;
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* Bytes of the struct of each version from 4 on. What a kernel sends beyond
 * that is no member that its version names. */
static const uint16_t version_size[] = {272, 288, 312, 328, 328, 344, 352,
                                        368, 400, 416, 432, 560, 560, 688};

/* How many bytes of a struct its version accounts for. Another layout of version 17
 * was proposed, with 592 bytes: SOFTIRQ delays where mainline has the moments of the
 * longest delays (the members *_delay_max_ts). So moments count only if all came. */
static size_t known_size(size_t size, unsigned version)
{
    size_t i = version - TS_OLDEST_VERSION;
    size_t versions = sizeof(version_size) / sizeof(version_size[0]);
    size_t known = version_size[smaller(i, versions - 1)];

    if (size < known && known == sizeof(struct ts_stats))
        known = offsetof(struct ts_stats, cpu_delay_max_ts);
    return known;
}

int ts_layout_is_newest(size_t size, unsigned version)
{
    return version >= TS_OLDEST_VERSION && extremes_inside(size, version) == 0 &&
           size <= known_size(size, version) && whole_members(size) == size;
}

void ts_layout_convert(struct ts_stats *to, const void *from, size_t size, unsigned version)
{
    const uint8_t *next = from;
    uint8_t *out = (uint8_t *)to;
    size_t extremes = extremes_inside(size, version);

    if (extremes == 0) {
        size_t whole = whole_members(smaller(size, known_size(size, version)));
        memcpy(out, next, whole);
        memset(out + whole, 0, sizeof(*to) - whole);
        return;
    }

    memset(out, 0, sizeof(*to));
    size_t start = 0;
    for (size_t i = 0; i < sizeof(piece_end) / sizeof(piece_end[0]); i++) {
        size_t want = smaller(piece_end[i] - start, size);
        memcpy(out + start, next, whole_members(start + want) - start);
        next += want;
        size -= want;
        start = piece_end[i];

        want = smaller(extremes, size);
        memcpy(out + EXTREMES_AT + 16 * i, next, want & ~(size_t)7);
        next += want;
        size -= want;
    }
}
