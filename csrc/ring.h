/* Reads a BPF ring buffer from memory, without a system call. Pure.
 *
 * Facts: kernel/bpf/ringbuf.c. A ring is a page with the consumer's position, a page with
 * the producer's position, and the data. Positions count bytes and never go back; modulo
 * the size of the data they are places in it. A record is a header of 8 bytes, whose first
 * 4 are the length of the content, and the content, rounded up to 8.
 *
 * The reader does not trust the memory. A ring with a position or length that is not
 * possible is damaged, and is not read any further. */
#ifndef TASKSTATS_RING_H
#define TASKSTATS_RING_H

#include <stddef.h>
#include <stdint.h>

#define TS_RING_HEADER 8u
/* The longest content that is read. A longer one means that the ring is damaged. */
#define TS_RING_MOST 2048u

struct ts_ring {
    uint64_t *consumer;
    const uint64_t *producer;
    const uint8_t *data;
    uint64_t mask;     /* size of the data, less 1 */
    uint64_t position; /* everything before it has been read */
    uint64_t end;      /* the producer's position, as last seen */
    int damaged;
    _Alignas(8) uint8_t content[TS_RING_MOST]; /* of the record that was read last */
};

/* `data_size` is a power of two of at least 4096. All three pointers are aligned to 8. */
void ts_ring_open(struct ts_ring *ring, void *consumer, const void *producer, const void *data,
                  uint64_t data_size);

/* Returns the content of the next record, and its size. Returns NULL if there is no record
 * now, or if the ring is damaged. The content stays until the next call. */
const void *ts_ring_next(struct ts_ring *ring, uint32_t *size);

/* Gives the space of all records that were read back to the producer. */
void ts_ring_release(struct ts_ring *ring);

#endif
