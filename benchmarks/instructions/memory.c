/* memcpy and memset by words of 8 bytes. libc chooses its own by the CPU that it finds, so that
 * counts would differ between machines; and by vectors, so that a byte more might cost nothing.
 */
#include <stddef.h>
#include <stdint.h>

typedef uint64_t word __attribute__((may_alias, aligned(1)));

void *memcpy(void *to, const void *from, size_t size)
{
    size_t at = 0;

    for (; at + sizeof(word) <= size; at += sizeof(word))
        *(word *)((char *)to + at) = *(const word *)((const char *)from + at);
    for (; at < size; at++)
        ((char *)to)[at] = ((const char *)from)[at];
    return to;
}

void *memset(void *to, int byte, size_t size)
{
    word pattern = (uint8_t)byte * UINT64_C(0x0101010101010101);
    size_t at = 0;

    for (; at + sizeof(word) <= size; at += sizeof(word))
        *(word *)((char *)to + at) = pattern;
    for (; at < size; at++)
        ((char *)to)[at] = (char)byte;
    return to;
}
