/* Memory for records: not cleared, and a listener's blocks are kept for the
 * next batch, so that in its steady state it asks nothing of the allocator. */
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>

#include "taskstats_shim.h"

/* Stands before what the caller sees, and keeps that aligned to a cache line. */
struct block {
    size_t size;
    struct block *next;
    char pad[64 - sizeof(size_t) - sizeof(struct block *)];
};

/* A batch of 1,024 records has 728 KiB. What is smaller malloc keeps well
 * itself; what is larger is a bulk query's, and goes back at once. */
#define KEEP_FROM ((size_t)256 << 10)
#define KEEP_TO ((size_t)4 << 20)
#define KEEP_BLOCKS 8

static pthread_mutex_t kept_lock = PTHREAD_MUTEX_INITIALIZER;
static struct block *kept; /* the newest first */

/* trylock: a child of fork may find the lock held by a thread it does not have. */
static struct block *take_kept(size_t size)
{
    struct block *found = NULL;

    if (pthread_mutex_trylock(&kept_lock))
        return NULL;
    for (struct block **at = &kept; *at; at = &(*at)->next)
        if ((*at)->size == size) {
            found = *at;
            *at = found->next;
            break;
        }
    pthread_mutex_unlock(&kept_lock);
    return found;
}

/* Keeps the block in place of the oldest, which is returned to be freed. */
static struct block *keep(struct block *block)
{
    struct block **at = &kept;
    struct block *oldest;

    if (pthread_mutex_trylock(&kept_lock))
        return block;
    block->next = kept;
    kept = block;
    for (unsigned n = 0; *at && n < KEEP_BLOCKS; n++)
        at = &(*at)->next;
    oldest = *at;
    *at = NULL;
    pthread_mutex_unlock(&kept_lock);
    return oldest;
}

static int is_kept(size_t size)
{
    return size >= KEEP_FROM && size <= KEEP_TO;
}

void *ts_alloc(size_t size)
{
    struct block *block = is_kept(size) ? take_kept(size) : NULL;

    if (!block) {
        block = size <= SIZE_MAX - sizeof(*block) ? malloc(sizeof(*block) + size) : NULL;
        if (!block)
            return NULL;
        block->size = size;
    }
    return block + 1;
}

void ts_free(void *memory)
{
    struct block *block = memory ? (struct block *)memory - 1 : NULL;

    if (block && is_kept(block->size))
        block = keep(block);
    free(block);
}
