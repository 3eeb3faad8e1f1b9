/* Datagrams of this machine's byte order, written piece by piece. */
#ifndef WIRE_H
#define WIRE_H

#include <stddef.h>
#include <stdint.h>

enum { WIRE_FAMILY = 0x1f, WIRE_NEW = 2 };
enum { WIRE_PID = 1, WIRE_TGID, WIRE_STATS, WIRE_AGGR_PID, WIRE_AGGR_TGID, WIRE_NULL };

struct wire {
    size_t size;
    uint8_t bytes[1 << 17];
};

/* Each returns where it begins, for the `end` of it. */
size_t wire_message(struct wire *wire, uint16_t type, uint32_t seq, uint32_t port);
void wire_end_message(struct wire *wire, size_t at);
size_t wire_attribute(struct wire *wire, uint16_t type);
void wire_end_attribute(struct wire *wire, size_t at); /* and its padding */

void wire_put(struct wire *wire, const void *bytes, size_t size);
void wire_number(struct wire *wire, uint32_t number);

/* NLMSG_ERROR; an ACK if it is 0. */
void wire_answer(struct wire *wire, int32_t error);

/* A struct of this version: bytes that differ from their neighbours, none of them 0. */
void wire_struct(struct wire *wire, unsigned version, size_t size);

/* How an aggregate is written. */
struct aggregate_style {
    int padded;  /* TYPE_NULL before the struct, as on User-Mode Linux */
    int unknown; /* attributes of a later kernel, in it and before it */
    int nested;  /* NLA_F_NESTED */
};

/* AGGR_PID or AGGR_TGID (`type`) of this id. */
void wire_aggregate(struct wire *wire, uint16_t type, uint32_t id, unsigned version,
                    size_t size, struct aggregate_style style);

#endif
