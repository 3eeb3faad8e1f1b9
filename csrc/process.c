/* Which process this is, without a system call, which each query would pay for: a
 * number, kept where the kernel forgets it in a child, also in one that was made
 * without the C library's fork. */
#include "process.h"

#include <stddef.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_WIPEONFORK
#define MADV_WIPEONFORK 18
#endif

static uint32_t *page; /* NULL before the first call; MAP_FAILED if there is none to be had */
static uint32_t last;  /* the highest number that this process or one before it has had */

/* Linux 4.14 and later have such pages. Emulators that take any advice, and follow
 * none, are told by one that there is not. */
static int is_wiped_on_fork(void *memory, size_t size)
{
    return madvise(memory, size, -1) != 0 && madvise(memory, size, MADV_WIPEONFORK) == 0;
}

static uint32_t *make_page(void)
{
    size_t size = (size_t)sysconf(_SC_PAGESIZE);
    void *made = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint32_t *other = NULL;

    if (made != MAP_FAILED && !is_wiped_on_fork(made, size)) {
        munmap(made, size);
        made = MAP_FAILED;
    }
    if (__atomic_compare_exchange_n(&page, &other, made, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
        return made;
    if (made != MAP_FAILED)
        munmap(made, size);
    return other; /* another thread's, which was faster */
}

uint32_t ts_process(void)
{
    uint32_t *kept = __atomic_load_n(&page, __ATOMIC_ACQUIRE);
    uint32_t number, next;

    if (!kept)
        kept = make_page();
    if (kept == MAP_FAILED)
        return (uint32_t)getpid();
    number = __atomic_load_n(kept, __ATOMIC_RELAXED);
    if (number)
        return number;
    next = __atomic_add_fetch(&last, 1, __ATOMIC_RELAXED);
    if (__atomic_compare_exchange_n(kept, &number, next, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        return next;
    return number;
}
