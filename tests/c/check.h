/* A check that also counts under NDEBUG: one that fails is told, and ends the program. */
#ifndef CHECK_H
#define CHECK_H

#include <stdint.h>

#define CHECK(condition)                                                                       \
    ((condition) ? (void)checks++ : check_failed(__FILE__, __LINE__, #condition))

extern _Thread_local unsigned long checks; /* that have held in this thread */

_Noreturn void check_failed(const char *file, int line, const char *condition);

/* Memory of exactly this size, so that a byte past it is seen to be one too many. */
void *check_alloc(size_t size);
void *check_copy(const void *from, size_t size);

/* Numbers that look random and are the same in every run. */
uint32_t check_random(uint32_t *state);

#endif
