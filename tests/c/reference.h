/* What layout.c, netlink.c and decode.c make of their input, told again: slowly, member by
 * member, from tests/data/fields.tsv. */
#ifndef REFERENCE_H
#define REFERENCE_H

#include <stddef.h>
#include <stdint.h>

#include "taskstats_shim.h"

/* Bytes of the struct of a version, 4 to 17. */
size_t reference_size(unsigned version);
/* Whether a struct of this version and size has the layout of version 15. */
int reference_has_moved(unsigned version, size_t size);

/* Whether `row` has every member that was sent whole, where it belongs, and zeros
 * for the others. What is between members may be zero, or as it was sent. */
int reference_is_converted(const struct ts_stats *row, const uint8_t *sent, size_t size,
                           unsigned version);

/* Why the message here is to be refused, if there is one and it is. */
enum ts_reason reference_reason(const uint8_t *message, size_t left);

/* The family id in a reply of nlctrl; 0 if this message has none. */
uint16_t reference_family(const uint8_t *message, size_t size);

/* A record of a datagram. */
struct told {
    int kind;
    uint32_t id;
    uint32_t seq;
    int exit;
    int paired;
    unsigned version;
    size_t size;
    const uint8_t *stats;
};

/* Finds up to `room` records. Returns how many, or as ts_decode does. */
int reference_decode(const uint8_t *datagram, size_t size, struct told *told, int room);

/* Whether `row` is that record. */
int reference_is_row(const struct ts_record *row, const struct told *told);

#endif
