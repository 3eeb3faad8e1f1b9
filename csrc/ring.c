/* Reading a BPF ring buffer by memory alone. Pure. */
#include "ring.h"

#include <string.h>

/* Bits of a record's length (include/uapi/linux/bpf.h: BPF_RINGBUF_BUSY_BIT). */
#define BUSY (UINT32_C(1) << 31)    /* the record is being written */
#define DISCARD (UINT32_C(1) << 30) /* the producer gave the record up */

void ts_ring_open(struct ts_ring *ring, void *consumer, const void *producer, const void *data,
                  uint64_t data_size)
{
    ring->consumer = consumer;
    ring->producer = producer;
    ring->data = data;
    ring->mask = data_size - 1;
    ring->position = __atomic_load_n(ring->consumer, __ATOMIC_RELAXED);
    ring->end = ring->position;
    ring->damaged = (ring->position & 7) != 0;
}

/* Copies a record's content out of the ring. A process that writes the ring could otherwise
 * change the content between a check and its use. */
static const void *copy_content(struct ts_ring *ring, uint32_t size)
{
    uint64_t at = (ring->position + TS_RING_HEADER) & ring->mask;
    uint64_t before_end = ring->mask + 1 - at;
    uint64_t first = size < before_end ? size : before_end;

    memcpy(ring->content, ring->data + at, first);
    memcpy(ring->content + first, ring->data, size - first);
    return ring->content;
}

/* Reads the producer's position. Returns whether there is anything to read. */
static int look(struct ts_ring *ring)
{
    ring->end = __atomic_load_n(ring->producer, __ATOMIC_ACQUIRE);
    if (ring->end - ring->position > ring->mask + 1 || (ring->end & 7) != 0)
        ring->damaged = 1;
    return !ring->damaged && ring->end != ring->position;
}

const void *ts_ring_next(struct ts_ring *ring, uint32_t *size)
{
    while (!ring->damaged && (ring->position != ring->end || look(ring))) {
        const uint8_t *at = ring->data + (ring->position & ring->mask);
        uint32_t length = __atomic_load_n((const uint32_t *)at, __ATOMIC_ACQUIRE);
        const void *content = NULL;
        uint64_t step;

        if (length & BUSY)
            return NULL;
        *size = length & ~DISCARD;
        step = ((uint64_t)*size + TS_RING_HEADER + 7) & ~UINT64_C(7);
        if (*size > TS_RING_MOST || step > ring->end - ring->position) {
            ring->damaged = 1;
            return NULL;
        }
        if (!(length & DISCARD))
            content = copy_content(ring, *size);
        ring->position += step;
        if (content)
            return content;
    }
    return NULL;
}

void ts_ring_release(struct ts_ring *ring)
{
    __atomic_store_n(ring->consumer, ring->position, __ATOMIC_RELEASE);
}
