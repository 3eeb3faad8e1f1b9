/* Reading a BPF ring buffer by memory alone: no system call. Pure.
 *
 * Facts: kernel/bpf/ringbuf.c. A page with the consumer's position, one with the
 * producer's, then the data. A record is a header of 8 bytes and its content, rounded up
 * to 8. What is in the memory is not believed: a ring that cannot be right is damaged. */
#ifndef TASKSTATS_RING_H
#define TASKSTATS_RING_H

#include <stddef.h>
#include <stdint.h>

#define TS_RING_HEADER 8u
/* The longest record that is read. */
#define TS_RING_MOST 2048u

struct ts_ring {
    uint64_t *consumer;
    const uint64_t *producer;
    const uint8_t *data;
    uint64_t mask;     /* bytes of data, a power of two, less 1 */
    uint64_t position; /* what has been read */
    uint64_t end;      /* what may be read, as last seen */
    int damaged;
    _Alignas(8) uint8_t whole[TS_RING_MOST]; /* a record that goes round the end */
};

/* `data_size` is a power of two of at least 4096. */
void ts_ring_open(struct ts_ring *ring, void *consumer, const void *producer, const void *data,
                  uint64_t data_size);

/* The next record, or NULL if there is none now, or the ring is damaged. It is good until
 * the next call. What was read before is given back to the producer by `release`. */
const void *ts_ring_next(struct ts_ring *ring, uint32_t *size);
void ts_ring_release(struct ts_ring *ring);

#endif
