/* Memory for records: not cleared, and blocks of a size much used are kept, so
 * that a listener in its steady state asks nothing of the allocator. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "taskstats_shim.h"

/* Stands before what the caller sees, and keeps that aligned to a cache line. */
struct block {
    size_t size;
    struct block *next;
    char pad[64 - sizeof(size_t) - sizeof(struct block *)];
};

#define KEEP_FROM ((size_t)256 << 10) /* smaller ones malloc keeps well itself */
#define KEEP_BLOCKS 8

static pthread_mutex_t kept_lock = PTHREAD_MUTEX_INITIALIZER;
static struct block *kept;
static unsigned n_kept;

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
            n_kept--;
            break;
        }
    pthread_mutex_unlock(&kept_lock);
    return found;
}

static int keep(struct block *block)
{
    int kept_it = 0;

    if (pthread_mutex_trylock(&kept_lock))
        return 0;
    if (n_kept < KEEP_BLOCKS) {
        block->next = kept;
        kept = block;
        n_kept++;
        kept_it = 1;
    }
    pthread_mutex_unlock(&kept_lock);
    return kept_it;
}

void *ts_alloc(size_t size)
{
    struct block *block = size >= KEEP_FROM ? take_kept(size) : NULL;

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

    if (block && (block->size < KEEP_FROM || !keep(block)))
        free(block);
}
