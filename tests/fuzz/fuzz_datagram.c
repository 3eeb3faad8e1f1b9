/* Any datagram, read as messages and as records; and a request with such a value. The
 * captured ones are its seeds. */
#include <string.h>

#include "properties.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t most);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check_messages(data, size);
    check_request(data, size);
    check_datagram(data, size);
    return 0;
}

enum { ATTRIBUTES_AT = 20, AFTER_ID = 32, NEST = 4, PADDING = 6 };

/* Cuts lengths that do not fit, in nests too: else most of what is cut short or put
 * together is refused for its lengths, and nothing behind them is seen. */
static void mend(uint8_t *at, size_t left, int depth)
{
    while (left >= 4) {
        uint16_t length;
        uint16_t type;
        size_t step;

        memcpy(&length, at, sizeof(length));
        memcpy(&type, at + 2, sizeof(type));
        if (length < 4 || length > left) {
            length = (uint16_t)(left < 0xffff ? left : 0xffff);
            memcpy(at, &length, sizeof(length));
        }
        if (depth == 0 && (type & 0x3fff) >= NEST)
            mend(at + 4, length - 4u, 1);
        step = (length + 3u) / 4 * 4;
        if (step >= left)
            return;
        at += step;
        left -= step;
    }
}

/* Puts padding where User-Mode Linux has it, or more of it than there ever was. */
static size_t pad(uint8_t *data, size_t size)
{
    static const uint16_t padding[] = {4, PADDING};
    uint16_t nest;

    memcpy(&nest, data + ATTRIBUTES_AT, sizeof(nest));
    nest = (uint16_t)(nest + sizeof(padding));
    memcpy(data + ATTRIBUTES_AT, &nest, sizeof(nest));
    memmove(data + AFTER_ID + sizeof(padding), data + AFTER_ID, size - AFTER_ID);
    memcpy(data + AFTER_ID, padding, sizeof(padding));
    return size + sizeof(padding);
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed)
{
    uint32_t length;

    size = LLVMFuzzerMutate(data, size, most);
    if (seed % 2 || size < ATTRIBUTES_AT)
        return size;
    if (seed % 32 == 0 && size > AFTER_ID && size + 4 <= most)
        size = pad(data, size);
    length = (uint32_t)size;
    memcpy(data, &length, sizeof(length));
    mend(data + ATTRIBUTES_AT, size - ATTRIBUTES_AT, 0);
    return size;
}
