/* Datagrams of this machine's byte order, written piece by piece. */
#include "wire.h"

#include <string.h>

#include "check.h"

void wire_put(struct wire *wire, const void *bytes, size_t size)
{
    CHECK(size <= sizeof(wire->bytes) - wire->size);
    memcpy(wire->bytes + wire->size, bytes, size);
    wire->size += size;
}

static void put16(struct wire *wire, unsigned number)
{
    uint16_t value = (uint16_t)number;

    wire_put(wire, &value, sizeof(value));
}

void wire_number(struct wire *wire, uint32_t number)
{
    wire_put(wire, &number, sizeof(number));
}

size_t wire_message(struct wire *wire, uint16_t type, uint32_t seq, uint32_t port)
{
    static const uint8_t generic[] = {WIRE_NEW, 1, 0, 0};
    size_t at = wire->size;

    wire_number(wire, 0);
    put16(wire, type);
    put16(wire, 0);
    wire_number(wire, seq);
    wire_number(wire, port);
    if (type >= 0x10)
        wire_put(wire, generic, sizeof(generic));
    return at;
}

void wire_end_message(struct wire *wire, size_t at)
{
    uint32_t size = (uint32_t)(wire->size - at);

    memcpy(wire->bytes + at, &size, sizeof(size));
}

size_t wire_attribute(struct wire *wire, uint16_t type)
{
    size_t at = wire->size;

    put16(wire, 0);
    put16(wire, type);
    return at;
}

void wire_end_attribute(struct wire *wire, size_t at)
{
    uint16_t size = (uint16_t)(wire->size - at);

    memcpy(wire->bytes + at, &size, sizeof(size));
    while ((wire->size - at) % 4)
        wire_put(wire, "", 1);
}

void wire_answer(struct wire *wire, int32_t error)
{
    static const uint8_t request[16];
    size_t at = wire_message(wire, 2, 7, 0);

    wire_number(wire, (uint32_t)error);
    wire_put(wire, request, sizeof(request));
    wire_end_message(wire, at);
}

void wire_struct(struct wire *wire, unsigned version, size_t size)
{
    uint8_t *at = wire->bytes + wire->size;
    uint16_t number = (uint16_t)version;

    for (size_t i = 0; i < size; i++) {
        uint8_t byte = (uint8_t)(i * 89 % 255 + 1);
        wire_put(wire, &byte, 1);
    }
    memcpy(at, &number, size < sizeof(number) ? size : sizeof(number));
}

static void put_unknown(struct wire *wire)
{
    size_t at = wire_attribute(wire, 77);

    wire_put(wire, "later", 5);
    wire_end_attribute(wire, at);
}

void wire_aggregate(struct wire *wire, uint16_t type, uint32_t id, unsigned version,
                    size_t size, struct aggregate_style style)
{
    size_t nest;
    size_t at;

    if (style.unknown)
        put_unknown(wire);
    nest = wire_attribute(wire, (uint16_t)(type | (style.nested ? 0x8000 : 0)));
    at = wire_attribute(wire, type == WIRE_AGGR_PID ? WIRE_PID : WIRE_TGID);
    wire_number(wire, id);
    wire_end_attribute(wire, at);
    if (style.padded) {
        at = wire_attribute(wire, WIRE_NULL);
        wire_end_attribute(wire, at);
    }
    at = wire_attribute(wire, WIRE_STATS);
    wire_struct(wire, version, size);
    wire_end_attribute(wire, at);
    if (style.unknown)
        put_unknown(wire);
    wire_end_attribute(wire, nest);
}
